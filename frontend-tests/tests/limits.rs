//! Limits on what containers and steps may use, from the command line to the effect.

mod common;

use common::{build, build_fails, env};
use testkit::privilege::can_limit;

#[test]
fn a_container_that_takes_too_much_memory_is_killed_and_we_say_so() {
    if !can_limit(&["memory"]) {
        return;
    }
    let env = env();
    let hungry = ["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"];
    let run = |limits: &[&str]| env.lap(["run", "--rm"]).args(limits).args(hungry);
    run(&["-m", "32m"]).fails(137).stderr_has(&["reached the memory limit"]);
    run(&["-m", "1g"]).ok();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=256M count=1\n");
    build_fails(&env, &context, &["--memory", "32m"]).stderr_has(&[
        "exit code: 137",
        "--memory",
        "Dockerfile:2",
    ]);
    build(&env, &context, &[]);
}

/// The kernel ends all who share the memory of the process that it chooses, and a new process shares ours until its program
/// is executed: what a program is given counts in the group before that.
#[test]
fn memory_that_does_not_suffice_for_a_program_to_begin_ends_the_container_alone() {
    if !can_limit(&["memory"]) {
        return;
    }
    let env = env();
    let value = "x".repeat(60_000);
    let variables: Vec<String> = (0..104).map(|number| format!("V{number}={value}")).collect();
    let file = env.work().join("variables");
    std::fs::write(&file, variables.join("\n")).unwrap();
    let run = |memory: &str| {
        let limits = ["-m", memory, "--ulimit", "stack=-1", "--env-file"];
        env.lap(["run", "--rm"]).args(limits).arg(&file).args(["busybox", "true"])
    };
    run("6m").fails(137).stderr_has(&["reached the memory limit"]);
    run("64m").ok();
    let context = env.context();
    let variables: Vec<String> = variables.iter().map(|variable| format!("ENV {variable}\n")).collect();
    context.dockerfile(&format!("FROM busybox\n{}RUN true\n", variables.concat()));
    let limits = |memory| ["--memory", memory, "--ulimit", "stack=-1"];
    build_fails(&env, &context, &limits("6m")).stderr_has(&["exit code: 137", "--memory"]);
    build(&env, &context, &limits("64m"));
}

#[test]
fn flags_reach_the_kernel() {
    if !can_limit(&["cpu", "cpuset", "pids"]) {
        return;
    }
    let env = env();
    let status = ["busybox", "sh", "-c", "grep Cpus_allowed_list /proc/self/status"];
    let flags = ["--cpus=0.5", "--cpuset-cpus=0", "--cpu-shares=512", "--pids-limit=50"];
    let output = env.lap(["run", "--rm"]).args(flags).args(status).ok();
    output.stdout_has(&["Cpus_allowed_list:\t0\n"]);
    let bomb = "n=0; while [ $n -lt 60 ]; do sleep 1000 & n=$((n+1)); done";
    env.lap(["run", "--rm", "--pids-limit=20", "busybox", "sh", "-c", bomb]).run().stderr_has(&["fork"]);
}

/// Flags, and what they become: file and value in version 1, and in version 2.
const WRITTEN: [(&str, [(&str, &str); 2]); 8] = [
    ("--memory=64m", [("memory/memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")]),
    (
        "--memory-reservation=32m",
        [("memory/memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432")],
    ),
    ("--cpu-shares=512", [("cpu/cpu.shares", "512"), ("cpu.weight", "20")]),
    ("--cpu-quota=20000", [("cpu/cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000")]),
    ("--cpu-period=50000", [("cpu/cpu.cfs_period_us", "50000"), ("cpu.max", "20000 50000")]),
    ("--cpuset-cpus=0", [("cpuset/cpuset.cpus", "0"), ("cpuset.cpus", "0")]),
    ("--cpuset-mems=0", [("cpuset/cpuset.mems", "0"), ("cpuset.mems", "0")]),
    ("--pids-limit=50", [("pids/pids.max", "50"), ("pids.max", "50")]),
];

#[test]
fn every_limit_is_read_back_by_the_container() {
    if !can_limit(&["memory", "cpu", "cpuset", "pids"]) {
        return;
    }
    let version = usize::from(std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
    let env = env();
    let script: String = WRITTEN.iter().map(|(_, files)| format!("cat {}; ", files[version].0)).collect();
    // Hierarchies with two controllers have a directory with both names.
    let script = format!("cd /sys/fs/cgroup; {script}");
    let script = if std::path::Path::new("/sys/fs/cgroup/cpu,cpuacct").exists() && version == 0 {
        script.replace("cpu/", "cpu,cpuacct/")
    } else {
        script
    };
    let flags = WRITTEN.iter().map(|(flag, _)| *flag);
    let read = env.lap(["run", "--rm"]).args(flags).args(["busybox", "sh", "-c", &script]).ok().stdout_text();
    let expected: String = WRITTEN.iter().map(|(_, files)| format!("{}\n", files[version].1)).collect();
    assert_eq!(read, expected);
}

#[test]
fn rates_of_a_device_are_set_and_weights_are_set_or_refused_by_name() {
    if !can_limit(&["blkio"]) {
        return;
    }
    use std::os::unix::fs::FileTypeExt as _;
    let devices = std::fs::read_dir("/dev").unwrap().flatten();
    let mut disks = devices.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device()));
    let Some(disk) = disks.find(|entry| entry.file_name().to_string_lossy().starts_with(['v', 's', 'n']))
    else {
        eprintln!("skipped: no disk in /dev");
        return;
    };
    let env = env();
    let rate = |flag: &str, value: &str| format!("{flag}={}:{value}", disk.path().display());
    let flags = [
        rate("--device-read-bps", "1mb"),
        rate("--device-write-bps", "2mb"),
        rate("--device-read-iops", "30"),
        rate("--device-write-iops", "40"),
    ];
    let files = ["read_bps", "write_bps", "read_iops", "write_iops"];
    let script: String = files.iter().map(|file| format!("cat blkio.throttle.{file}_device; ")).collect();
    let script = format!("cd /sys/fs/cgroup/blkio; {script}");
    let read =
        env.lap(["run", "--rm"]).args(&flags).args(["busybox", "sh", "-c", &script]).ok().stdout_text();
    let rates: Vec<&str> = read.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(rates, ["1048576", "2097152", "30", "40"]);
    // Not every kernel weighs devices.
    let said = env.lap(["run", "--rm", "--blkio-weight", "300", "busybox", "true"]).run().stderr_text();
    assert!(said.is_empty() || said.contains("the weight of block devices cannot be set"), "{said}");
}

#[test]
fn rarer_flags_of_memory_reach_the_kernel_and_old_ones_are_told_of() {
    if !can_limit(&["memory"]) {
        return;
    }
    let env = env();
    let has = |flags: &[&str], file: &str| {
        let cat = ["-m", "64m", "busybox", "cat", file];
        env.lap(["run", "--rm"]).args(flags).args(cat).run()
    };
    if std::path::Path::new("/sys/fs/cgroup/memory/memory.swappiness").exists() {
        has(&["--memory-swappiness", "7"], "/sys/fs/cgroup/memory/memory.swappiness").stdout_has(&["7\n"]);
        let control = has(&["--oom-kill-disable"], "/sys/fs/cgroup/memory/memory.oom_control");
        control.stdout_has(&["oom_kill_disable 1"]);
    } else {
        let missing = has(&["--memory-swappiness", "7"], "/dev/null");
        missing.stderr_has(&["memory.swappiness", "the swappiness cannot be set"]);
    }
    let old = env.lap(["run", "--rm", "--kernel-memory", "50m", "busybox", "true"]).ok();
    old.stderr_has(&["--kernel-memory", "limits nothing"]);
}

#[test]
fn limits_that_make_no_sense_are_refused_by_name() {
    let env = env();
    let cases: [(&[&str], i32, &[&str]); 7] = [
        (&["-m", "1m"], 125, &["--memory", "6m"]),
        (&["-m", "much"], 2, &["--memory", "much"]),
        (&["--memory-swap", "1g"], 125, &["--memory-swap", "--memory"]),
        (&["--cpus", "0"], 125, &["--cpus"]),
        (&["--cpus", "1", "--cpu-quota", "5000"], 2, &["--cpus", "--cpu-quota"]),
        (&["--blkio-weight", "5"], 2, &["--blkio-weight"]),
        (&["--device-read-bps", "/dev/null:1mb"], 125, &["/dev/null", "block device"]),
    ];
    for (flags, code, said) in cases {
        env.lap(["run", "--rm"]).args(flags).args(["busybox", "true"]).fails(code).stderr_has(said);
    }
    if can_limit(&["cpuset"]) {
        let refused = env.lap(["run", "--rm", "--cpuset-cpus", "4000", "busybox", "true"]).fails(125);
        refused.stderr_has(&["the processors", "4000"]);
    }
}

#[test]
fn devices_are_those_that_are_given() {
    if !can_limit(&["devices"]) {
        return;
    }
    let env = env();
    let says = |flags: &[&str], script: &str| {
        let log = ["--cap-add", "SYSLOG", "busybox", "sh", "-c", script];
        env.lap(["run", "--rm"]).args(flags).args(log).ok().stdout_text()
    };
    let of = |name: &str| {
        format!("(: <{name}) 2>/dev/null && echo reads; (: >{name}) 2>/dev/null && echo writes; :")
    };
    let made = format!("mknod /made c 1 11; {}", of("/made"));
    // A container makes what it likes, and uses what is harmless.
    assert_eq!(says(&[], "mknod /null c 1 3 && echo x >/null && echo yes"), "yes\n");
    assert_eq!(says(&[], &made), "");
    assert_eq!(says(&["--device-cgroup-rule", "c 1:11 w"], &made), "writes\n");
    assert_eq!(says(&["--device", "/dev/kmsg:/dev/given:r"], &of("/dev/given")), "reads\n");
    assert_eq!(says(&["--device", "/dev/kmsg"], &of("/dev/kmsg")), "reads\nwrites\n");
    assert_eq!(says(&["--privileged"], &made), "reads\nwrites\n");
    // Steps of a build, as well.
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN mknod /null c 1 3 && echo x >/null && ! dd if=/dev/mem count=1 && rm /null\n",
    );
    build(&env, &context, &[]);
    for (flag, bad) in [("--device-cgroup-rule", "c 1:11"), ("--device", "/dev/null:/dev/x:q")] {
        env.lap(["run", "--rm", flag, bad, "busybox", "true"]).fails(125).stderr_has(&[bad]);
    }
}

/// A place for control groups, removed with the groups of the same name in all hierarchies.
struct Parent(String);

impl Parent {
    fn new() -> Self {
        Self(format!("lap-test-{}", std::process::id()))
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(&self.0));
        }
        let _ = std::fs::remove_dir(std::path::Path::new("/sys/fs/cgroup").join(&self.0));
    }
}

#[test]
fn groups_are_made_in_the_one_that_is_given() {
    if !can_limit(&["pids", "memory"]) {
        return;
    }
    let env = env();
    let parent = Parent::new();
    let path = format!("/{}", parent.0);
    let flags = ["--cgroup-parent", &path, "--cgroupns", "host", "busybox", "cat", "/proc/self/cgroup"];
    let groups = env.lap(["run", "--rm"]).args(flags).ok().stdout_text();
    let inside = groups.lines().filter(|line| line.contains(&format!(":{path}/lapstrake-")));
    assert!(inside.clone().any(|line| line.contains("pids") || line.starts_with("0::")), "{groups}");
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\n");
    build(&env, &context, &["--cgroup-parent", &path]);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let left = std::fs::read_dir(hierarchy.path().join(&parent.0)).into_iter().flatten().flatten();
        let left: Vec<_> = left.filter(|entry| entry.path().is_dir()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    env.lap(["run", "--rm", "--cgroup-parent", "/a/../b", "busybox", "true"])
        .fails(2)
        .stderr_has(&["/a/../b"]);
}

#[test]
fn steps_are_limited_one_by_one_and_all_together() {
    if !can_limit(&["memory", "cpuset"]) {
        return;
    }
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=256M count=1\n");
    for flag in ["--resource", "--total-resource"] {
        build_fails(&env, &context, &[flag, "memory=32m"])
            .stderr_has(&["exit code: 137", "--total-resource"]);
    }
    // All steps are inside of the one group, whatever each of them may have.
    context.dockerfile("FROM busybox\nRUN grep -qx 'Cpus_allowed_list:\t0' /proc/self/status\n");
    build(&env, &context, &["--total-resource", "cpuset-cpus=0", "--resource", "memory=64m"]);
    build(&env, &context, &["--resource", "cpuset-cpus=0", "--no-cache"]);
    for bad in ["memory", "pids=5", "memory=1m"] {
        env.lap(["build", "--total-resource", bad]).arg(context.path()).fails(2).stderr_has(&["memory"]);
    }
}

/// Where the controller `pids` of version 1 is mounted alone.
fn mount_of_pids() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_it = |line: &&str| line.contains(" - cgroup ") && line.ends_with(",pids");
    mounts.lines().find(is_it)?.split(' ').nth(4).map(str::to_owned)
}

#[test]
fn a_missing_controller_is_told_once_and_refused_when_it_is_asked_for() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let Some(pids) = mount_of_pids() else {
        return testkit::privilege::skip("the controller pids is not mounted as one of version 1");
    };
    let dir = tempfile::tempdir().unwrap();
    let lap = dir.path().join("lap");
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/unshare --mount /bin/sh -c '/bin/umount {pids} && exec \"{}\" \"$@\"' lap \"$@\"\n",
        testkit::binary::lap().display()
    );
    testkit::command::program_file(&lap, script.as_bytes());
    let env = testkit::TestEnv::with_binary(&lap);
    env.load(&testkit::images::busybox());
    let run =
        |flags: &[&str]| env.lap(["run", "--rm", "--network", "none"]).args(flags).args(["busybox", "true"]);
    let first = run(&[]).ok().stderr_text();
    assert!(
        first.starts_with("WARNING: pids cannot be limited here") && first.lines().count() == 1,
        "{first}"
    );
    assert_eq!(run(&[]).ok().stderr_text(), "", "it is told once");
    run(&["--pids-limit", "10"]).fails(125).stderr_has(&["the number of processes", "pids"]);
    // Where nothing is missing, nothing is told.
    let whole = env.lap(["info"]).run();
    assert!(!whole.stdout_text().contains("Limits: cpu, cpuset, memory, pids"), "{whole}");
    let usual = common::env();
    if can_limit(&["cpu", "cpuset", "memory", "pids", "io"]) {
        assert_eq!(usual.lap(["run", "--rm", "busybox", "true"]).ok().stderr_text(), "");
    }
}
