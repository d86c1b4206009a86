//! Limits of `lap run`, read back from outside while the container runs, and what happens to who goes beyond them.

mod common;

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use common::containers::Containers;
use common::env;
use nix::sys::signal::Signal;
use testkit::privilege::can_limit;
use testkit::wait::until;

/// A place for control groups, removed in all hierarchies.
struct Parent(String);

impl Parent {
    fn new(purpose: &str) -> Self {
        Self(format!("lap-{purpose}-{}", std::process::id()))
    }

    /// The directories of the groups in it, in all hierarchies.
    fn groups(&self) -> Vec<PathBuf> {
        let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|one| one.path());
        let places = roots.chain([PathBuf::from("/sys/fs/cgroup")]).map(|root| root.join(&self.0));
        let inside = places.flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
        inside.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }

    /// What a file of the one group in it says, whichever hierarchy has it. Names of version 1 and 2 are tried.
    fn read(&self, files: [&str; 2]) -> Option<String> {
        let found = self.groups().into_iter().flat_map(|group| files.map(|file| group.join(file)));
        found.filter_map(|file| fs::read_to_string(file).ok()).next().map(|text| text.trim().to_owned())
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(&self.0));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.0));
    }
}

#[test]
fn every_limit_is_read_back_from_outside_and_goes_with_the_container() {
    if !can_limit(&["memory", "cpu", "cpuset", "pids"]) {
        return;
    }
    let env = env();
    let parent = Parent::new("outside");
    let flags = [
        "--memory=64m",
        "--memory-swap=96m",
        "--memory-reservation=32m",
        "--cpu-shares=512",
        "--cpus=0.5",
        "--cpuset-cpus=0",
        "--cpuset-mems=0",
        "--pids-limit=50",
        "--cgroup-parent",
    ];
    let mut running = env
        .lap(["run", "--rm", "--network", "none"])
        .args(flags)
        .args([&format!("/{}", parent.0), "busybox", "sh", "-c", "echo ready; exec sleep 1000"])
        .spawn();
    running.wait_for("ready");
    let expected = [
        (["memory.limit_in_bytes", "memory.max"], ["67108864", "67108864"]),
        (["memory.soft_limit_in_bytes", "memory.low"], ["33554432", "33554432"]),
        (["cpu.shares", "cpu.weight"], ["512", "20"]),
        (["cpu.cfs_quota_us", "cpu.max"], ["50000", "50000 100000"]),
        (["cpuset.cpus", "cpuset.cpus"], ["0", "0"]),
        (["cpuset.mems", "cpuset.mems"], ["0", "0"]),
        (["pids.max", "pids.max"], ["50", "50"]),
    ];
    for (files, values) in expected {
        let value = parent.read(files).unwrap_or_else(|| panic!("no {files:?} in {:?}", parent.groups()));
        assert!(values.contains(&value.as_str()), "{files:?}: {value}");
    }
    // Not every kernel counts swap space.
    if let Some(swap) = parent.read(["memory.memsw.limit_in_bytes", "memory.swap.max"]) {
        assert!(["100663296", "33554432"].contains(&swap.as_str()), "{swap}");
    }
    running.signal(Signal::SIGKILL);
    running.finish();
    // Whoever makes the next one sweeps what a killed command has left, once its processes are gone.
    let is_busy = |group: &PathBuf| {
        fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty())
    };
    until("its groups have no process", || !parent.groups().iter().any(is_busy));
    let inside = ["--cgroup-parent", &format!("/{}", parent.0), "busybox", "true"];
    env.lap(["run", "--rm", "--network", "none"]).args(inside).ok();
    assert!(parent.groups().is_empty(), "{:?}", parent.groups());
}

#[test]
fn no_limit_can_be_said_too() {
    if !can_limit(&["memory", "pids"]) {
        return;
    }
    let env = env();
    let parent = Parent::new("none");
    let group = format!("/{}", parent.0);
    let flags = [
        "--pids-limit=-1",
        "-m=64m",
        "--memory-swap=-1",
        "--memory-swappiness=-1",
        "--cgroup-parent",
        &group,
    ];
    let mut running = env
        .lap(["run", "--rm", "--network", "none"])
        .args(flags)
        .args(["busybox", "sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"])
        .spawn();
    running.wait_for("ready");
    assert_eq!(parent.read(["pids.max"; 2]).as_deref(), Some("max"));
    if let Some(swap) = parent.read(["memory.memsw.limit_in_bytes", "memory.swap.max"]) {
        assert!(swap == "max" || swap.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60), "{swap}");
    }
    running.signal(Signal::SIGTERM);
    assert_eq!(running.finish().code(), Some(0));
    assert!(parent.groups().is_empty(), "{:?}", parent.groups());
}

#[test]
fn who_fills_memory_in_any_way_is_killed_and_that_is_kept() {
    if !can_limit(&["memory"]) {
        return;
    }
    let env = Containers::new();
    // Files in memory count, as everything else does that nobody can take back.
    let limits = ["--network", "none", "-m", "32m", "--memory-swap", "32m"];
    let run = env
        .lap(["run", "--name", "shm", "--shm-size", "1g"])
        .args(limits)
        .args(["busybox", "dd", "if=/dev/zero", "of=/dev/shm/bomb", "bs=1M", "count=500"])
        .fails(137);
    run.stderr_has(&["reached the memory limit"]);
    assert_eq!(env.inspect("shm", ".State.OOMKilled"), "true");
    assert_eq!(env.inspect("shm", ".State.ExitCode"), "137");
    // In a container that nobody watches.
    let hungry = ["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=900M", "count=1"];
    env.detached(&[&["--name", "hungry"], &limits[..], &hungry[..]].concat());
    env.lap(["wait", "hungry"]).ok().stdout_has(&["137"]);
    assert_eq!(env.inspect("hungry", ".State.OOMKilled"), "true");
    // Who stays below the limit is not said to have been killed for it.
    env.lap(["run", "--name", "fine"]).args(limits).args(["busybox", "sh", "-c", "exit 3"]).fails(3);
    assert_eq!(env.inspect("fine", ".State.OOMKilled"), "false");
}

#[test]
fn real_time_is_given_where_the_kernel_has_it() {
    if !can_limit(&["cpu"]) {
        return;
    }
    let env = env();
    let read = "cat /sys/fs/cgroup/cpu*/cpu.rt_period_us /sys/fs/cgroup/cpu*/cpu.rt_runtime_us";
    let flags = ["--cpu-rt-runtime", "10000", "--cpu-rt-period", "500000", "busybox", "sh", "-c", read];
    let given = env.lap(["run", "--rm", "--network", "none"]).args(flags).run();
    let kernel_has_it = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().any(|one| {
        let own = fs::read_to_string(one.path().join("cpu.rt_runtime_us"));
        own.is_ok_and(|own| own.trim() != "0")
    });
    match given.code() {
        Some(0) if kernel_has_it => assert_eq!(given.stdout_text(), "500000\n10000\n"),
        // No such file, or the group that we are in has no real time to give.
        code => {
            assert_eq!(code, Some(125), "{given}");
            given.stderr_has(&["the realtime"]);
        }
    }
}

/// A disk of this machine.
fn disk() -> Option<PathBuf> {
    let devices = fs::read_dir("/dev").unwrap().flatten();
    let mut disks = devices.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device()));
    disks
        .find(|entry| entry.file_name().to_string_lossy().starts_with(['v', 's', 'n']))
        .map(|disk| disk.path())
}

#[test]
fn a_device_is_weighed_or_the_missing_file_is_named() {
    if !can_limit(&["blkio"]) {
        return;
    }
    let Some(disk) = disk() else { return testkit::privilege::skip("no disk in /dev") };
    let env = env();
    let weight = |weight: &str| {
        let flag = format!("--blkio-weight-device={}:{weight}", disk.display());
        let read = "cat /sys/fs/cgroup/blkio/blkio*weight_device";
        env.lap(["run", "--rm", "--network", "none", &flag, "busybox", "sh", "-c", read]).run()
    };
    let said = weight("200");
    match said.code() {
        Some(0) => drop(said.stdout_has(&[" 200\n"])),
        code => {
            assert_eq!(code, Some(125), "{said}");
            said.stderr_has(&["the weight of a block device"]);
        }
    }
    for bad in ["5", "1001", "much", ""] {
        assert_eq!(weight(bad).code(), Some(125), "{bad}");
    }
    let no_disk =
        env.lap(["run", "--rm", "--blkio-weight-device", "/dev/null:100", "busybox", "true"]).fails(125);
    no_disk.stderr_has(&["/dev/null", "block device"]);
}
