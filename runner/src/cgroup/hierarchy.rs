//! Which controller is in which hierarchy, and where in it groups can be made.
//!
//! Source: `cgroups(7)`, the kernel's `admin-guide/cgroup-v2.rst` and `cgroup-v1/cgroups.rst`,
//! `proc_pid_mountinfo(5)`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};
use sys::fs::PathContext as _;
use sys::path_error::PathError;

use super::error::CgroupError;

/// The version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// One hierarchy for each controller, or a few.
    One,
    /// One hierarchy for all.
    Two,
}

impl Version {
    /// The file of a group by which the writer of a `0` enters it. In version 1 a process with one thread
    /// enters by `tasks`, which needs no lock on all threads of the machine, unlike `cgroup.procs`: that is
    /// some ten microseconds against some ten milliseconds.
    pub(super) fn entrance(self) -> &'static str {
        match self {
            Self::One => "tasks",
            Self::Two => "cgroup.procs",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::One { "1" } else { "2" })
    }
}

/// What limits, counts or stops something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Processor time.
    Cpu,
    /// The count of processor time.
    CpuAccounting,
    /// Which processors and memory nodes.
    Cpuset,
    /// Memory and swap space.
    Memory,
    /// The number of processes and threads.
    Pids,
    /// Reading and writing of block devices.
    Io,
    /// Large pages of memory.
    HugePages,
    /// Remote direct memory access.
    Rdma,
    /// The class of network packets.
    NetworkClass,
    /// The priority of network packets.
    NetworkPriority,
    /// Which devices can be opened and made.
    Devices,
    /// Stopping all processes for a while.
    Freezer,
}

impl Controller {
    /// Those that limit how much of the machine is used.
    pub const LIMITERS: [Self; 5] = [Self::Cpu, Self::Cpuset, Self::Memory, Self::Pids, Self::Io];

    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Cpu,
        Self::CpuAccounting,
        Self::Cpuset,
        Self::Memory,
        Self::Pids,
        Self::Io,
        Self::HugePages,
        Self::Rdma,
        Self::NetworkClass,
        Self::NetworkPriority,
        Self::Devices,
        Self::Freezer,
    ];

    /// The kernel's name for it. What version 2 does without a controller of that name keeps its old one.
    pub fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Cpu, _) => "cpu",
            (Self::CpuAccounting, _) => "cpuacct",
            (Self::Cpuset, _) => "cpuset",
            (Self::Memory, _) => "memory",
            (Self::Pids, _) => "pids",
            (Self::Io, Version::One) => "blkio",
            (Self::Io, Version::Two) => "io",
            (Self::HugePages, _) => "hugetlb",
            (Self::Rdma, _) => "rdma",
            (Self::NetworkClass, _) => "net_cls",
            (Self::NetworkPriority, _) => "net_prio",
            (Self::Devices, _) => "devices",
            (Self::Freezer, _) => "freezer",
        }
    }

    /// Whether every group of version 2 has it, without its being handed down.
    pub(super) fn is_built_into_version_2(self) -> bool {
        matches!(self, Self::Devices | Self::Freezer | Self::CpuAccounting)
    }

    /// What it limits, for messages.
    pub(super) fn limits(self) -> &'static str {
        match self {
            Self::Cpu | Self::CpuAccounting => "processor time",
            Self::Cpuset => "which processors are used",
            Self::Memory => "memory",
            Self::Pids => "the number of processes",
            Self::Io => "block devices",
            Self::HugePages => "large pages of memory",
            Self::Rdma => "remote direct memory access",
            Self::NetworkClass => "the class of network packets",
            Self::NetworkPriority => "the priority of network packets",
            Self::Devices => "which devices are used",
            Self::Freezer => "when processes run",
        }
    }
}

/// One hierarchy, as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its version.
    pub version: Version,
    /// In version 1, its controllers, or a name as `name=systemd`. Those of version 2 differ from group to
    /// group.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory of the group that we are in.
    pub own: PathBuf,
}

impl Hierarchy {
    /// Where groups are made that are to be under the limits that we are under. In version 2 a group with
    /// processes has no limited groups in it, unless it is the root of all. So they are made beside the
    /// group that we are in, which is under the same limits but for those of that group itself.
    pub(super) fn parent_of_groups(&self) -> &Path {
        match (self.version, self.own.parent()) {
            (Version::Two, Some(around)) if self.own != self.mount && around.starts_with(&self.mount) => {
                around
            }
            _ => &self.own,
        }
    }

    /// Whether groups made inside of `directory` can have a controller.
    fn offers(&self, controller: Controller, directory: &Path) -> Result<bool, PathError> {
        let name = controller.name(self.version);
        match self.version {
            Version::One => Ok(self.controllers.iter().any(|one| one == name)),
            Version::Two if controller.is_built_into_version_2() => Ok(true),
            Version::Two => Ok(words(&directory.join("cgroup.controllers"))?.iter().any(|one| one == name)),
        }
    }
}

/// Where groups of a controller are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The version of the hierarchy.
    pub version: Version,
    /// The directory that new groups are made in.
    pub directory: PathBuf,
}

/// The hierarchies of this machine, as this process sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchies {
    /// Version 1 in the kernel's order, then version 2.
    list: Vec<Hierarchy>,
}

impl Hierarchies {
    /// Looks at this machine.
    pub fn discover() -> Result<Self, CgroupError> {
        let read = |path: &str| fs::read_to_string(path).at("read", Path::new(path));
        Ok(Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
    }

    /// Reads what `/proc/self/mountinfo` and `/proc/self/cgroup` say.
    pub fn parse(mounts: &str, groups: &str) -> Self {
        let mounts: Vec<_> = mounts.lines().filter_map(MountLine::parse).collect();
        let mut list: Vec<_> =
            groups.lines().filter_map(GroupLine::parse).filter_map(|group| group.find(&mounts)).collect();
        list.sort_by_key(|hierarchy| hierarchy.version == Version::Two);
        Self { list }
    }

    /// All of them, those of version 1 first.
    pub fn all(&self) -> &[Hierarchy] {
        &self.list
    }

    /// The hierarchy that has a controller for groups made beside us.
    pub(super) fn of(&self, controller: Controller) -> Result<&Hierarchy, CgroupError> {
        for hierarchy in &self.list {
            if hierarchy.offers(controller, hierarchy.parent_of_groups())? {
                return Ok(hierarchy);
            }
        }
        Err(CgroupError::NoController { controller, available: self.available() })
    }

    /// Where groups of `controller` are made that are to be under the limits that we are under.
    pub fn place(&self, controller: Controller) -> Result<Place, CgroupError> {
        let hierarchy = self.of(controller)?;
        Ok(Place { version: hierarchy.version, directory: hierarchy.parent_of_groups().to_owned() })
    }

    /// The version of the hierarchies, for people.
    pub fn version(&self) -> &'static str {
        let has = |version| self.list.iter().any(|hierarchy| hierarchy.version == version);
        match (has(Version::One), has(Version::Two)) {
            (false, true) => "2",
            (true, false) => "1",
            (true, true) => "1 (hybrid)",
            (false, false) => "none",
        }
    }

    /// Which of [`Controller::LIMITERS`] this process may make groups of, to limit containers.
    pub fn usable(&self) -> Vec<Controller> {
        let may_write = |place: Place| rustix::fs::access(&place.directory, Access::WRITE_OK).is_ok();
        let is_usable = |controller: &Controller| self.place(*controller).is_ok_and(may_write);
        Controller::LIMITERS.into_iter().filter(is_usable).collect()
    }

    /// Which of [`Controller::LIMITERS`] this process may not make groups of.
    pub fn missing(&self) -> Vec<Controller> {
        let usable = self.usable();
        Controller::LIMITERS.into_iter().filter(|controller| !usable.contains(controller)).collect()
    }

    /// Whether the kernel counts swap space, so that a limit of memory can hold for both together.
    pub fn counts_swap(&self) -> bool {
        let Ok(hierarchy) = self.of(Controller::Memory) else { return false };
        let file = match hierarchy.version {
            Version::One => "memory.memsw.limit_in_bytes",
            // The group of all has no limits.
            Version::Two if hierarchy.own == hierarchy.mount => return true,
            Version::Two => "memory.swap.max",
        };
        hierarchy.own.join(file).exists()
    }

    /// The names of all controllers that there are.
    pub(super) fn available(&self) -> Vec<&'static str> {
        let offers = |controller: Controller| {
            let offer = |one: &Hierarchy| one.offers(controller, one.parent_of_groups()).unwrap_or(false);
            self.list.iter().any(offer)
        };
        let there = Controller::ALL.into_iter().filter(|&controller| offers(controller));
        there.map(|controller| controller.name(Version::Two)).collect()
    }
}

/// Lets the groups inside of a group of version 2 have a controller.
pub(super) fn hand_down(directory: &Path, controller: &str) -> Result<(), PathError> {
    let handed_down = directory.join("cgroup.subtree_control");
    if words(&handed_down)?.iter().any(|one| one == controller) {
        return Ok(());
    }
    fs::write(&handed_down, format!("+{controller}")).at("write", &handed_down)
}

/// The words of a file.
pub(super) fn words(path: &Path) -> Result<Vec<String>, PathError> {
    let text = fs::read_to_string(path).at("read", path)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// A line of `/proc/self/cgroup`.
struct GroupLine<'a> {
    /// Empty for version 2.
    controllers: Vec<&'a str>,
    path: &'a str,
}

impl<'a> GroupLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        Some(Self { controllers: controllers.split(',').filter(|one| !one.is_empty()).collect(), path })
    }

    /// The hierarchy that the line is about, if it is mounted.
    fn find(&self, mounts: &[MountLine<'_>]) -> Option<Hierarchy> {
        let (version, kind) = match self.controllers.first() {
            Some(_) => (Version::One, "cgroup"),
            None => (Version::Two, "cgroup2"),
        };
        let is_it = |mount: &&MountLine<'_>| {
            let named = |one: &&str| mount.options.split(',').any(|option| option == *one);
            mount.kind == kind && self.controllers.iter().all(named)
        };
        let mount = mounts.iter().find(is_it)?;
        Some(Hierarchy {
            version,
            controllers: self.controllers.iter().map(|one| (*one).to_owned()).collect(),
            mount: mount.point.clone(),
            own: mount.group(self.path),
        })
    }
}

/// A line of `mountinfo`.
struct MountLine<'a> {
    /// Which directory of the filesystem is mounted.
    root: String,
    point: PathBuf,
    kind: &'a str,
    /// Of the filesystem, where version 1 names its controllers.
    options: &'a str,
}

impl<'a> MountLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (unescaped(mount.next()?), PathBuf::from(unescaped(mount.next()?)));
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next()?;
        Some(Self { root, point, kind, options: filesystem.nth(1)? })
    }

    /// Where a group of this hierarchy is to be found. Both paths count from the root of our namespace; only
    /// a part of the hierarchy may be mounted.
    fn group(&self, path: &str) -> PathBuf {
        let root = self.root.trim_end_matches('/');
        let below = path.strip_prefix(root).filter(|below| below.is_empty() || below.starts_with('/'));
        match below.unwrap_or(path).trim_matches('/') {
            "" => self.point.clone(),
            below => self.point.join(below),
        }
    }
}

/// Octal escapes stand for blanks and the like.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
31 25 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 25 0:28 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory
33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct
34 25 0:30 / /sys/fs/cgroup/blkio rw shared:13 - cgroup cgroup rw,blkio
35 25 0:31 / /sys/fs/cgroup/systemd rw shared:13 - cgroup cgroup rw,xattr,name=systemd
";
    const HYBRID_GROUPS: &str = "\
9:name=systemd:/
4:memory:/work/7
3:cpu,cpuacct:/
2:blkio:/
0::/init
";

    #[test]
    fn a_hybrid_machine_has_the_controllers_of_version_1() {
        let found = Hierarchies::parse(HYBRID_MOUNTS, HYBRID_GROUPS);
        let own = |name: &str| {
            let hierarchy = found.all().iter().find(|one| one.controllers.iter().any(|c| c == name));
            hierarchy.map(|hierarchy| hierarchy.own.to_str().unwrap())
        };
        assert_eq!(own("memory"), Some("/sys/fs/cgroup/memory/work/7"));
        assert_eq!(own("cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(own("blkio"), Some("/sys/fs/cgroup/blkio"));
        assert_eq!(own("name=systemd"), Some("/sys/fs/cgroup/systemd"));
        assert_eq!(own("pids"), None);
        let second = found.all().last().unwrap();
        assert_eq!(
            (second.version, second.own.to_str().unwrap()),
            (Version::Two, "/sys/fs/cgroup/unified/init")
        );
        assert_eq!(found.all().len(), 5);
    }

    #[test]
    fn a_part_of_a_hierarchy_may_be_mounted() {
        let mounts = "31 25 0:27 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let own = |groups| Hierarchies::parse(mounts, groups).all()[0].own.clone();
        assert_eq!(own("0::/docker/abc\n"), Path::new("/sys/fs/cgroup"));
        assert_eq!(own("0::/docker/abc/init\n"), Path::new("/sys/fs/cgroup/init"));
        assert_eq!(own("0::/docker/abcdef\n"), Path::new("/sys/fs/cgroup/docker/abcdef"));
    }

    #[test]
    fn groups_of_version_2_are_made_beside_ours() {
        let hierarchy = |version, own: &str| Hierarchy {
            version,
            controllers: Vec::new(),
            mount: "/sys/fs/cgroup".into(),
            own: own.into(),
        };
        let parent = |version, own| hierarchy(version, own).parent_of_groups().to_str().unwrap().to_owned();
        assert_eq!(parent(Version::Two, "/sys/fs/cgroup"), "/sys/fs/cgroup");
        assert_eq!(parent(Version::Two, "/sys/fs/cgroup/user/session-1"), "/sys/fs/cgroup/user");
        assert_eq!(parent(Version::Two, "/sys/fs/cgroup/init"), "/sys/fs/cgroup");
        assert_eq!(parent(Version::One, "/sys/fs/cgroup/init"), "/sys/fs/cgroup/init");
    }

    #[test]
    fn version_2_names_what_is_missing_and_hands_down_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("cgroup.controllers", "cpu memory\n");
        write("cgroup.subtree_control", "cpu\n");
        let mounts = format!("1 1 0:1 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let found = Hierarchies::parse(&mounts, "0::/own\n");
        let place = Place { version: Version::Two, directory: root.path().to_owned() };
        assert_eq!(found.place(Controller::Memory).unwrap(), place);
        assert_eq!(found.place(Controller::Devices).unwrap(), place);
        hand_down(root.path(), "memory").unwrap();
        assert_eq!(fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap(), "+memory");
        let error = found.place(Controller::Io).unwrap_err().to_string();
        assert!(error.contains("block devices") && error.contains("it has cpu, cpuacct, memory"), "{error}");
        let nothing = Hierarchies::parse("", "").place(Controller::Pids).unwrap_err().to_string();
        assert!(nothing.contains("no control group controller \"pids\""), "{nothing}");
    }
}
