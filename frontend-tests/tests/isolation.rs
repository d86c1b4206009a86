//! `lap run`: what a container has of its own and what of the host, seen from inside.

mod common;

use common::env;
use testkit::TestEnv;

/// The standard output of a shell script in a container with some flags.
fn says(env: &TestEnv, flags: &[&str], script: &str) -> String {
    env.lap(["run", "--rm"]).args(flags).args(["busybox", "sh", "-c", script]).ok().stdout_text()
}

#[test]
fn capabilities_are_added_and_dropped() {
    let env = env();
    let bounding = |flags: &[&str]| {
        let line = says(&env, flags, "grep CapBnd /proc/self/status");
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    let (default, net_admin) = (bounding(&[]), 1 << 12);
    assert_eq!(default & net_admin, 0);
    assert_eq!(bounding(&["--cap-add", "NET_ADMIN"]), default | net_admin);
    assert_eq!(bounding(&["--cap-drop", "ALL", "--cap-add", "CAP_CHOWN"]), 1);
    assert_eq!(bounding(&["--cap-drop", "all"]), 0);
    let everything = bounding(&["--privileged"]);
    assert!(everything.count_ones() > default.count_ones());
    env.lap(["run", "--rm", "--cap-add", "FLY", "busybox", "true"]).fails(125).stderr_has(&["FLY"]);
}

#[test]
fn security_options_change_what_a_process_may_become() {
    let env = env();
    let status = |flags: &[&str]| says(&env, flags, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status");
    assert_eq!(status(&[]), "NoNewPrivs:\t0\nSeccomp:\t2\n");
    let both = ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"];
    assert_eq!(status(&both), "NoNewPrivs:\t1\nSeccomp:\t0\n");
    let refused = env.lap(["run", "--rm", "--security-opt", "magic=on", "busybox", "true"]);
    refused.fails(2).stderr_has(&["magic=on", "no-new-privileges"]);
}

#[test]
fn a_read_only_image_has_writable_directories_in_memory_only_where_asked() {
    let env = env();
    let script = "touch /x 2>&1; touch /scratch/y && stat -f -c %T /scratch && stat -c %a /scratch; df -k /scratch | tail -n1";
    let said = says(&env, &["--read-only", "--tmpfs", "/scratch:size=1m,mode=700"], script);
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("tmpfs\n700\n") && said.contains(" 1024 "), "{said}");
    env.lap(["run", "--rm", "--tmpfs", "relative", "busybox", "true"]).fails(2).stderr_has(&["relative"]);
}

#[test]
fn names_and_resolvers_are_those_given() {
    let env = env();
    let flags = ["--add-host", "db:10.1.2.3", "--dns", "9.9.9.9", "--dns-search", "example.test"];
    let said = says(&env, &flags, "grep db /etc/hosts; cat /etc/resolv.conf");
    assert!(said.contains("10.1.2.3\tdb\n"), "{said}");
    assert!(said.contains("nameserver 9.9.9.9\n") && said.contains("search example.test\n"), "{said}");
    assert_eq!(said.matches("nameserver").count(), 1, "{said}");
    let names = says(
        &env,
        &["--hostname", "web", "--domainname", "test"],
        "hostname; cat /proc/sys/kernel/domainname",
    );
    assert_eq!(names, "web\ntest\n");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(says(&env, &["--uts", "host"], "hostname"), host);
}

#[test]
fn kernel_settings_are_set_where_they_are_the_containers_own() {
    let env = env();
    let flags = ["--network", "none", "--sysctl", "net.core.somaxconn=77", "--sysctl", "kernel.msgmax=4444"];
    let script = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax";
    assert_eq!(says(&env, &flags, script), "77\n4444\n");
    assert_ne!(std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), "4444\n");
    let refused = |flags: &[&str], said: &[&str]| {
        env.lap(["run", "--rm"]).args(flags).args(["busybox", "true"]).fails(125).stderr_has(said);
    };
    refused(&["--sysctl", "kernel.panic=1"], &["kernel.panic", "cannot be set for one container"]);
    refused(
        &["--sysctl", "net.core.somaxconn=1", "--network", "host"],
        &["net.core.somaxconn", "--network none"],
    );
    refused(&["--ipc", "host", "--sysctl", "kernel.msgmax=1"], &["kernel.msgmax", "--ipc host"]);
    refused(&["--sysctl", "net/../kernel/panic=1"], &["cannot be set"]);
    refused(&["--network", "none", "--sysctl", "net.core.somaxconn=many"], &["somaxconn", "many"]);
}

#[test]
fn groups_limits_devices_and_shared_memory_are_those_given() {
    let env = env();
    assert_eq!(says(&env, &["--group-add", "4242", "-u", "1000:1000"], "id -G"), "1000 4242\n");
    assert_eq!(says(&env, &["--ulimit", "nofile=77:88"], "ulimit -n; ulimit -Hn"), "77\n88\n");
    assert!(says(&env, &["--shm-size", "2m"], "df -k /dev/shm | tail -n1").contains(" 2048 "));
    let script = "test -c /dev/nothing && echo x > /dev/nothing && echo ok";
    assert_eq!(says(&env, &["--device", "/dev/null:/dev/nothing"], script), "ok\n");
    let missing = env.lap(["run", "--rm", "--device", "/dev/no-such", "busybox", "true"]);
    missing.fails(125).stderr_has(&["/dev/no-such"]);
}

#[test]
fn variables_come_from_files() {
    let env = env();
    let file = env.work().join("variables");
    std::fs::write(&file, "# comment\nA=1 2\n\nB=file\nNOT_SET_ANYWHERE\n").unwrap();
    let path = file.to_str().unwrap();
    let said = says(&env, &["--env-file", path, "-e", "B=flag"], "echo \"$A,$B,${NOT_SET_ANYWHERE-unset}\"");
    assert_eq!(said, "1 2,flag,unset\n");
    std::fs::write(&file, "bad name=1\n").unwrap();
    env.lap(["run", "--rm", "--env-file", path, "busybox", "true"]).fails(2).stderr_has(&[path, "bad name"]);
}
