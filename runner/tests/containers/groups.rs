//! Control groups at a given place: made, entered, read, stopped, ended, left to another process, removed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemoryBuilder,
    LinuxPidsBuilder, LinuxResources, LinuxThrottleDeviceBuilder,
};
use runner::cgroup::hierarchy::{Controller, Hierarchies, Version};
use runner::cgroup::{CgroupError, ControlGroup, DeviceList, GroupDirectory, Location, abandoned};

use testkit::wait::until;

use crate::support::explain;

/// A place of its own for a test, removed with everything in it.
struct Place(String);

impl Place {
    /// `None` where no groups can be made.
    fn new() -> Option<Self> {
        let place = Self(format!("/lap-test-{}", sys::random::hex(8).unwrap()));
        match ControlGroup::create_at(&place.location("probe"), &LinuxResources::default()) {
            Ok(group) if group.directories().is_empty() => {
                eprintln!("skipped: no control groups can be made here");
                None
            }
            Ok(group) => {
                group.remove().unwrap();
                Some(place)
            }
            Err(error) => {
                eprintln!("skipped: {}", explain(&error));
                None
            }
        }
    }

    fn location(&self, name: &str) -> Location {
        Location::parse(&format!("{}/{name}", self.0)).unwrap()
    }

    fn group(&self, name: &str, resources: &LinuxResources) -> ControlGroup {
        ControlGroup::create_at(&self.location(name), resources).unwrap_or_else(|error| {
            panic!("{}", explain(&error));
        })
    }

    fn directories(&self) -> Vec<PathBuf> {
        let hierarchies = Hierarchies::discover().unwrap();
        let places = hierarchies.all().iter().map(|one| one.mount.join(self.0.trim_matches('/')));
        places.filter(|place| place.exists()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for directory in self.directories() {
            let removed = fs::remove_dir(&directory);
            assert!(removed.is_ok() || std::thread::panicking(), "{} {removed:?}", directory.display());
        }
    }
}

/// A shell script that runs in a group.
fn start(group: &ControlGroup, script: &str) -> Child {
    let enter = "for file; do echo 0 >\"$file\" || exit 99; done; echo in; ";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{enter}{script}"), "sh"]).args(group.entrances());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(line(&mut child), "in");
    child
}

/// The next line that it says.
fn line(child: &mut Child) -> String {
    use std::io::Read as _;
    let mut line = Vec::new();
    let mut byte = [0u8];
    while child.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

fn path_of(group: &ControlGroup, controller: Controller) -> Option<&Path> {
    let has = |one: &&GroupDirectory| one.controllers.iter().any(|name| name == controller.name(one.version));
    group.directories().iter().find(has).map(|directory| directory.path.as_path())
}

#[test]
fn a_group_is_in_every_hierarchy_and_another_process_can_take_it_over() {
    let Some(place) = Place::new() else { return };
    let group = place.group("a/b", &LinuxResources::default());
    let hierarchies = Hierarchies::discover().unwrap();
    let is_hybrid = hierarchies.all().iter().any(|one| one.version == Version::One);
    for hierarchy in hierarchies.all().iter().filter(|one| one.version == Version::One || !is_hybrid) {
        let path = hierarchy.mount.join(place.0.trim_matches('/')).join("a/b");
        assert!(group.directories().iter().any(|directory| directory.path == path), "{}", path.display());
        assert!(path.is_dir());
    }
    let mut child = start(&group, "read line; exit 3");
    let saved = serde_json::to_string(&group.leave()).unwrap();
    let group = ControlGroup::open(serde_json::from_str(&saved).unwrap());
    assert_eq!(group.processes().unwrap(), [child.id()]);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let directories = group.directories().to_vec();
    group.remove().unwrap();
    for directory in directories {
        assert!(!directory.path.exists(), "{}", directory.path.display());
        fs::remove_dir(directory.path.parent().unwrap()).unwrap();
    }
}

#[test]
fn a_stopped_group_stands_still_and_is_killed_with_all_inside_of_it() {
    let Some(place) = Place::new() else { return };
    let group = place.group("frozen", &LinuxResources::default());
    let mut child = start(&group, "while read line; do echo got $line; done");
    // Some of its processes are in a group inside of it.
    for directory in group.directories() {
        let inner = directory.path.join("inner");
        fs::create_dir(&inner).unwrap();
        // In version 1 a new set of processors is empty.
        for list in ["cpuset.cpus", "cpuset.mems"] {
            if inner.join(list).exists() && directory.version == Version::One {
                fs::write(inner.join(list), fs::read(directory.path.join(list)).unwrap()).unwrap();
            }
        }
    }
    let inner: Vec<_> = group
        .directories()
        .iter()
        .map(|one| GroupDirectory { path: one.path.join("inner"), ..one.clone() })
        .collect();
    let inner = ControlGroup::open(inner);
    let mut nested = start(&inner, "while :; do :; done");
    let mut both = [child.id(), nested.id()];
    both.sort_unstable();
    assert_eq!(group.processes().unwrap(), both);
    assert!(!group.is_frozen().unwrap());
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
    let used = || inner.statistics().unwrap().processor.map(|processor| processor.total);
    // The kernel says so just before the last one has left its processor.
    let is_still = || {
        let before = used();
        sys::clock::pause(std::time::Duration::from_millis(20));
        used() == before
    };
    until("no process runs", is_still);
    assert!((0..5).all(|_| is_still()), "a stopped process ran");
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap());
    use std::io::Write as _;
    child.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
    assert_eq!(line(&mut child), "got x");
    group.freeze().unwrap();
    group.kill_all().unwrap();
    assert!(group.processes().unwrap().is_empty());
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(nested.wait().unwrap().signal(), Some(9));
    group.remove().unwrap();
}

#[test]
fn a_group_that_is_gone_has_nobody_to_end() {
    let Some(place) = Place::new() else { return };
    let group = place.group("gone", &LinuxResources::default());
    let other = ControlGroup::open(group.directories().to_vec());
    other.kill_all().unwrap();
    // Who waited for the end of its processes removes it meanwhile.
    group.remove().unwrap();
    other.thaw().unwrap();
    other.kill_all().unwrap();
    assert!(other.processes().unwrap().is_empty());
    assert!(other.freeze().is_err(), "nothing stands still");
}

#[test]
fn a_fork_bomb_is_ended() {
    let Some(place) = Place::new() else { return };
    let mut resources = LinuxResources::default();
    resources.set_pids(Some(LinuxPidsBuilder::default().limit(60).build().unwrap()));
    let group = place.group("bomb", &resources);
    // Every process makes two others and stays. A shell that can't make one ends, and room for others is there again.
    let mut child = start(&group, "b() { b & b & exec sleep 1000; }; b 2>/dev/null");
    let most = || group.statistics().unwrap().processes.unwrap().current;
    until("the bomb has gone off", || most() >= 20);
    group.kill_all().unwrap();
    assert!(group.processes().unwrap().is_empty());
    child.wait().unwrap();
    group.remove().unwrap();
}

#[test]
fn limits_change_up_and_down_and_are_read_back() {
    let Some(place) = Place::new() else { return };
    let memory = |limit: i64, swap: i64| {
        let mut resources = LinuxResources::default();
        let memory = LinuxMemoryBuilder::default().limit(limit).swap(swap).build().unwrap();
        let cpu = LinuxCpuBuilder::default().quota(20_000).period(50_000u64).build().unwrap();
        resources.set_memory(Some(memory)).set_cpu(Some(cpu));
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(limit >> 20).build().unwrap()));
        resources
    };
    let group = place.group("limits", &memory(64 << 20, 128 << 20));
    let limits = |group: &ControlGroup| {
        let statistics = group.statistics().unwrap();
        (statistics.memory.unwrap().limit, statistics.processes.unwrap().limit)
    };
    assert_eq!(limits(&group), (Some(64 << 20), Some(64)));
    // Either of the two limits of memory may have to be changed first.
    for size in [256 << 20, 32 << 20] {
        group.set(&memory(size, size * 2)).unwrap();
        assert_eq!(limits(&group), (Some(size as u64), Some(size as u64 >> 20)));
    }
    let mut child = start(&group, "head -c 1000000 /dev/zero | sha256sum >/dev/null; echo; read line");
    line(&mut child);
    let statistics = group.statistics().unwrap();
    assert!(statistics.memory.as_ref().unwrap().usage > 0, "{statistics:?}");
    assert!(statistics.processor.as_ref().unwrap().total > 0, "{statistics:?}");
    // The kernel counts processes that have just ended for a moment.
    assert!(statistics.processes.unwrap().current >= 1);
    drop(child.stdin.take());
    child.wait().unwrap();
    let mut bad = LinuxResources::default();
    bad.set_cpu(Some(LinuxCpuBuilder::default().cpus("4000").build().unwrap()));
    let error = group.set(&bad).unwrap_err();
    assert!(explain(&error).contains("the processors to 4000"), "{}", explain(&error));
    group.remove().unwrap();
}

#[test]
fn what_passes_the_page_cache_by_is_counted_for_each_block_device() {
    let Some(place) = Place::new() else { return };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = directory.path().join("file");
    let device = fs::metadata(directory.path()).unwrap().dev();
    let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
    if numbers.0 == 0 {
        eprintln!("skipped: {} is not on a block device", directory.path().display());
        return;
    }
    // Some kernels count for version 1 from the first limit of a device on.
    let limit = LinuxThrottleDeviceBuilder::default().major(i64::from(numbers.0)).minor(i64::from(numbers.1));
    let limit = limit.rate(1u64 << 40).build().unwrap();
    let mut resources = LinuxResources::default();
    let limits = LinuxBlockIoBuilder::default().throttle_write_bps_device(vec![limit]).build().unwrap();
    resources.set_block_io(Some(limits));
    let group = place.group("traffic", &resources);
    let traffic = || {
        let devices = group.statistics().unwrap().block_devices.unwrap_or_default();
        devices.get(&numbers).copied().unwrap_or_default()
    };
    let before = traffic();
    let write = format!("dd if=/dev/zero of={0} bs=1M count=4 oflag=direct", file.display());
    let read = format!("dd if={0} of=/dev/null bs=1M count=2 iflag=direct", file.display());
    let mut child = start(&group, &format!("{write} && {read} && echo done; read line"));
    assert_eq!(line(&mut child), "done", "direct writing and reading works here");
    let after = traffic();
    drop(child.stdin.take());
    child.wait().unwrap();
    let written = after.written_bytes - before.written_bytes;
    let read = after.read_bytes - before.read_bytes;
    // Beside it, the file system writes for itself, but not megabytes.
    assert!((4 << 20..5 << 20).contains(&written), "{written} bytes written");
    assert!((2 << 20..3 << 20).contains(&read), "{read} bytes read");
    assert!(after.writes > before.writes && after.reads > before.reads, "{after:?}");
    group.remove().unwrap();
}

#[test]
fn a_group_that_others_use_is_refused() {
    let Some(place) = Place::new() else { return };
    let group = place.group("used", &LinuxResources::default());
    let mut child = start(&group, "read line");
    let error = ControlGroup::create_at(&place.location("used"), &LinuxResources::default()).unwrap_err();
    assert!(matches!(error, CgroupError::InUse { processes: 1, .. }), "{error:?}");
    drop(child.stdin.take());
    child.wait().unwrap();
    // One that nobody uses is taken over.
    place.group("used", &LinuxResources::default()).remove().unwrap();
    assert!(group.directories().iter().all(|directory| !directory.path.exists()));
}

#[test]
fn a_group_uses_the_devices_of_its_list() {
    let Some(place) = Place::new() else { return };
    if !Path::new("/dev/kmsg").exists() {
        eprintln!("skipped: there is no /dev/kmsg");
        return;
    }
    let opens = |group: &ControlGroup, path: &str| {
        let mut child = start(group, &format!("exec 3<{path} && echo yes"));
        let said = line(&mut child) == "yes";
        child.wait().unwrap();
        said
    };
    let standard = place.group("standard", &LinuxResources::default());
    assert!(standard.restricts_devices());
    assert!(opens(&standard, "/dev/null") && opens(&standard, "/dev/urandom"));
    assert!(!opens(&standard, "/dev/kmsg"));
    standard.remove().unwrap();
    let rule = |allow, typ, numbers: (i64, i64), access: &str| {
        let builder = LinuxDeviceCgroupBuilder::default().allow(allow).typ(typ).access(access);
        builder.major(numbers.0).minor(numbers.1).build().unwrap()
    };
    let with = |rules: Vec<_>| {
        let mut resources = LinuxResources::default();
        resources.set_devices(Some(rules));
        resources
    };
    let (all, log) = ((-1, -1), (1, 11));
    let listed =
        with(vec![rule(false, LinuxDeviceType::A, all, "rwm"), rule(true, LinuxDeviceType::C, log, "r")]);
    let listed = place.group("listed", &listed);
    assert!(opens(&listed, "/dev/kmsg"));
    listed.remove().unwrap();
    let free = place.group("free", &with(vec![rule(true, LinuxDeviceType::A, all, "rwm")]));
    assert!(opens(&free, "/dev/kmsg") && !free.restricts_devices());
    free.remove().unwrap();
}

#[test]
fn an_abandoned_group_is_found_and_goes_with_the_next_one() {
    let Some(_place) = Place::new() else { return };
    let directory = Hierarchies::discover().unwrap().place(Controller::Pids).unwrap().directory;
    let name = format!("lapstrake-1-{}", sys::random::hex(8).unwrap());
    let left = directory.join(&name);
    fs::create_dir(&left).unwrap();
    // Another test's container may have removed it by now, which is what is wanted as well, or be about to.
    let inner = fs::create_dir(left.join("inner"));
    assert!(inner.is_ok() || !left.exists(), "{inner:?}");
    until("it is found", || abandoned::abandoned().unwrap().contains(&left) || !left.exists());
    let mut resources = LinuxResources::default();
    resources.set_pids(Some(LinuxPidsBuilder::default().limit(10).build().unwrap()));
    let group = ControlGroup::create(&resources, DeviceList::Cheap).unwrap().unwrap();
    let own = path_of(&group, Controller::Pids).unwrap().to_owned();
    until("it is removed", || !left.exists());
    // What somebody cares for stays.
    assert!(!abandoned::abandoned().unwrap().contains(&own));
    abandoned::remove_abandoned().unwrap();
    assert!(own.exists());
    group.remove().unwrap();
    assert!(!own.exists());
}
