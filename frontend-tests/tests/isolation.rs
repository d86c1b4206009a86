//! `lap run`: what a container has of its own and what of the host, seen from inside.

mod common;

use common::{env, says};

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
    // Neither module is on where tests run, so their options have no effect, as in Docker.
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let modules = ["--security-opt", "apparmor=unconfined", "--security-opt", "label=type:some_t"];
        assert_eq!(status(&modules), "NoNewPrivs:\t0\nSeccomp:\t2\n");
    }
    let refused = env.lap(["run", "--rm", "--security-opt", "magic=on", "busybox", "true"]);
    refused.fails(125).stderr_has(&["magic=on", "no-new-privileges"]);
}

#[test]
fn a_seccomp_profile_in_docker_s_format_decides_which_calls_work() {
    let env = env();
    let profile = |name: &str, text: &str| {
        let path = env.work().join(name);
        std::fs::write(&path, text).unwrap();
        format!("seccomp={}", path.display())
    };
    // Everything but making directories, which fails as if the disk were full, and changing modes to 0700.
    let some = profile(
        "some.json",
        r#"{ "defaultAction": "SCMP_ACT_ALLOW",
             "archMap": [ { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] },
                          { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"] } ],
             "syscalls": [
               { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
                 "includes": { "caps": ["CAP_CHOWN"] }, "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
               { "names": ["chmod"], "action": "SCMP_ACT_ERRNO",
                 "args": [ { "index": 1, "value": 511, "valueTwo": 448, "op": "SCMP_CMP_MASKED_EQ" } ] },
               { "names": ["fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO",
                 "args": [ { "index": 2, "value": 511, "valueTwo": 448, "op": "SCMP_CMP_MASKED_EQ" } ] } ] }"#,
    );
    let script = "mkdir /d 2>&1; touch /f; chmod 700 /f 2>&1; chmod 755 /f && stat -c %a /f; grep Seccomp: /proc/self/status";
    let said = says(&env, &["--security-opt", &some], script);
    assert!(said.contains("/d': No space left on device"), "{said}");
    assert!(said.contains("/f: Operation not permitted\n755\nSeccomp:\t2\n"), "{said}");
    // The rule holds for containers without this capability only. A profile holds for privileged ones as well.
    for flags in [["--cap-drop", "CHOWN"], ["--cap-add", "SYS_ADMIN"]] {
        let said = says(&env, &[&["--security-opt", &some], &flags[..]].concat(), "mkdir /d && echo made");
        assert_eq!(said, "made\n");
    }
    let said = says(&env, &["--privileged", "--security-opt", &some], "chmod 700 /etc 2>&1 || true");
    assert!(said.contains("Operation not permitted"), "{said}");

    let run = |option: &str| env.lap(["run", "--rm", "--security-opt", option, "busybox", "true"]);
    let bad = profile("bad.json", r#"{ "defaultAction": "SCMP_ACT_DANCE" }"#);
    run(&bad).fails(125).stderr_has(&["bad.json", "SCMP_ACT_DANCE"]);
    run("seccomp=/no/such/profile.json").fails(125).stderr_has(&["/no/such/profile.json"]);
    let killing = profile("kill.json", r#"{ "defaultAction": "SCMP_ACT_KILL_PROCESS" }"#);
    run(&killing).fails(159);
}

#[test]
fn paths_of_the_kernel_are_open_where_asked() {
    let env = env();
    let script = "cat /proc/timer_list | head -c 5 | wc -c; ls /sys/firmware | wc -l; touch /proc/sys/kernel/hostname && echo open";
    let (closed, open) = (
        says(&env, &[], &format!("{script}; true")),
        says(&env, &["--security-opt", "systempaths=unconfined"], script),
    );
    assert!(closed.starts_with("0\n0\n") && !closed.contains("open"), "{closed}");
    assert!(open.starts_with("5\n") && open.contains("open"), "{open}");
}

#[test]
fn the_host_s_view_of_control_groups_is_shared_on_request() {
    let env = env();
    let ours = std::fs::read_link("/proc/self/ns/cgroup").unwrap();
    let inside = |flags: &[&str]| says(&env, flags, "readlink /proc/self/ns/cgroup").trim().to_owned();
    assert_eq!(inside(&["--cgroupns", "host"]), ours.to_string_lossy());
    assert_ne!(inside(&["--cgroupns", "private"]), ours.to_string_lossy());
    env.lap(["run", "--rm", "--cgroupns", "mine", "busybox", "true"])
        .fails(2)
        .stderr_has(&["mine", "private"]);
}

#[test]
fn process_ids_of_the_host_are_shared_on_request() {
    let env = env();
    let ours = format!("test -d /proc/{} && echo seen; readlink /proc/self/ns/pid", std::process::id());
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(says(&env, &["--pid", "host"], &ours), format!("seen\n{}\n", namespace.display()));
    assert!(!says(&env, &["--pid", "private"], &format!("{ours}; true")).contains("seen"));
    for mode in ["theirs", "container:"] {
        env.lap(["run", "--rm", "--pid", mode, "busybox", "true"]).fails(125).stderr_has(&["--pid", mode]);
    }
}

#[test]
fn the_kernel_is_told_how_gladly_to_kill_a_container() {
    let env = env();
    assert_eq!(says(&env, &["--oom-score-adj", "345"], "cat /proc/self/oom_score_adj"), "345\n");
    env.lap(["run", "--rm", "--oom-score-adj", "1001", "busybox", "true"]).fails(2).stderr_has(&["1001"]);
}

#[test]
fn a_privileged_container_has_the_devices_of_the_host() {
    let env = env();
    let script = "ls -l /dev | grep -E '^[bc]' | wc -l; stat -c '%t:%T %a' /dev/kmsg; chmod 600 /dev/kmsg";
    let host = std::fs::metadata("/dev/kmsg").unwrap();
    let said = says(&env, &["--privileged"], script);
    let (count, kmsg) = said.split_once('\n').unwrap();
    let usual: u32 = says(&env, &[], "ls -l /dev | grep -E '^[bc]' | wc -l").trim().parse().unwrap();
    assert!(count.parse::<u32>().unwrap() > usual, "{said}");
    assert!(kmsg.starts_with("1:b "), "{said}");
    // The container's files are its own.
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata("/dev/kmsg").unwrap());
    assert_eq!(mode, std::os::unix::fs::MetadataExt::mode(&host));
}

#[test]
fn a_read_only_image_has_writable_directories_in_memory_only_where_asked() {
    let env = env();
    let script = "touch /x 2>&1; touch /scratch/y && stat -f -c %T /scratch && stat -c %a /scratch; df -k /scratch | tail -n1";
    let said = says(&env, &["--read-only", "--tmpfs", "/scratch:size=1m,mode=700"], script);
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("tmpfs\n700\n") && said.contains(" 1024 "), "{said}");
    env.lap(["run", "--rm", "--tmpfs", "relative", "busybox", "true"]).fails(125).stderr_has(&["relative"]);
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
fn a_user_has_the_groups_that_the_image_gives() {
    let env = env();
    let layer = testkit::LayerTar::new()
        .file("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\napp:x:1000:100::/home/app:/bin/sh\n")
        .file("etc/group", 0o644, "root:x:0:\nusers:x:100:\nwheel:x:10:root,app\nvideo:x:44:app\n")
        .finish();
    let image = testkit::images::busybox_as("groups").layer(testkit::oci::Layer::tar(layer));
    env.load(&image.configure(|config| config.config.user = "app".to_owned()));
    let groups = |flags: &[&str]| {
        env.lap(["run", "--rm"]).args(flags).args(["groups", "sh", "-c", "id -u; id -G"]).ok().stdout_text()
    };
    assert_eq!(groups(&[]), "1000\n100 10 44\n");
    assert_eq!(groups(&["--group-add", "video", "-u", "app:wheel"]), "1000\n10 44\n");
    assert_eq!(groups(&["-u", "root"]), "0\n0 10\n");
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
    env.lap(["run", "--rm", "--env-file", path, "busybox", "true"])
        .fails(125)
        .stderr_has(&[path, "bad name"]);
}
