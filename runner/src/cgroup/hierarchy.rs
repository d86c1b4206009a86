//! Which controller is in which hierarchy, and where in it groups can be made.
//!
//! Source: `cgroups(7)`, the kernel's `admin-guide/cgroup-v2.rst` and `cgroup-v1/cgroups.rst`,
//! `proc_pid_mountinfo(5)`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sys::fs::PathContext as _;

use super::CgroupError;

/// The version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What limits a kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Processor time.
    Cpu,
    /// Which processors and memory nodes.
    Cpuset,
    /// Memory and swap space.
    Memory,
    /// The number of processes and threads.
    Pids,
    /// Reading and writing of block devices.
    Io,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cpuset, Self::Memory, Self::Pids, Self::Io];

    /// The kernel's name for it.
    pub fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Cpu, _) => "cpu",
            (Self::Cpuset, _) => "cpuset",
            (Self::Memory, _) => "memory",
            (Self::Pids, _) => "pids",
            (Self::Io, Version::One) => "blkio",
            (Self::Io, Version::Two) => "io",
        }
    }

    /// What it limits, for messages.
    pub(super) fn limits(self) -> &'static str {
        match self {
            Self::Cpu => "processor time",
            Self::Cpuset => "which processors are used",
            Self::Memory => "memory",
            Self::Pids => "the number of processes",
            Self::Io => "block devices",
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
    /// Controllers of version 1, each with the group that we are in.
    first: BTreeMap<Controller, PathBuf>,
    /// Of version 2, the mount point and the group that we are in.
    second: Option<(PathBuf, PathBuf)>,
}

impl Hierarchies {
    /// Looks at this machine.
    pub fn discover() -> Result<Self, CgroupError> {
        let read = |path: &str| fs::read_to_string(path).at("read", Path::new(path));
        Ok(Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
    }

    /// Reads what `/proc/self/mountinfo` and `/proc/self/cgroup` say.
    pub fn parse(mounts: &str, groups: &str) -> Self {
        let mut found = Self::default();
        for mount in mounts.lines().filter_map(MountLine::parse) {
            match mount.kind {
                "cgroup2" if found.second.is_none() => {
                    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
                    found.second = own.map(|own| (mount.point.clone(), mount.group(own)));
                }
                "cgroup" => {
                    for controller in Controller::ALL {
                        let name = controller.name(Version::One);
                        if mount.options.split(',').any(|option| option == name)
                            && let Some(own) = own_group(groups, name)
                        {
                            found.first.entry(controller).or_insert_with(|| mount.group(own));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Where groups of `controller` are made; in version 2 that hands the controller down to them.
    pub fn place(&self, controller: Controller) -> Result<Place, CgroupError> {
        if let Some(directory) = self.first.get(&controller) {
            return Ok(Place { version: Version::One, directory: directory.clone() });
        }
        let missing = || CgroupError::NoController { controller, available: self.available() };
        let (mount, own) = self.second.as_ref().ok_or_else(missing)?;
        let directory = parent_of_groups(mount, own);
        let name = controller.name(Version::Two);
        if !lists(&directory.join("cgroup.controllers"), name)? {
            return Err(missing());
        }
        let handed_down = directory.join("cgroup.subtree_control");
        if !lists(&handed_down, name)? {
            fs::write(&handed_down, format!("+{name}")).at("write", &handed_down)?;
        }
        Ok(Place { version: Version::Two, directory })
    }

    /// The names of all controllers that there are.
    fn available(&self) -> Vec<&'static str> {
        let second = |controller: Controller| {
            let Some((mount, own)) = &self.second else { return false };
            let file = parent_of_groups(mount, own).join("cgroup.controllers");
            lists(&file, controller.name(Version::Two)).unwrap_or(false)
        };
        let has = |controller: &Controller| self.first.contains_key(controller) || second(*controller);
        Controller::ALL.into_iter().filter(has).map(|controller| controller.name(Version::Two)).collect()
    }
}

/// In version 2 a group with processes has no limited groups in it, unless it is the root of all. So ours are
/// made beside the group that we are in, which is under the same limits but for those of that group itself.
fn parent_of_groups(mount: &Path, own: &Path) -> PathBuf {
    match own.parent() {
        Some(around) if own != mount && around.starts_with(mount) => around.to_owned(),
        _ => own.to_owned(),
    }
}

/// Whether a file has a word.
fn lists(path: &Path, word: &str) -> Result<bool, CgroupError> {
    let text = fs::read_to_string(path).at("read", path)?;
    Ok(text.split_whitespace().any(|listed| listed == word))
}

/// The path of our group in the hierarchy of version 1 that has a controller.
fn own_group<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|one| one == controller).then_some(path)
    })
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
        self.point.join(below.unwrap_or(path).trim_matches('/'))
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
        let first = |controller| found.first.get(&controller).map(|path| path.to_str().unwrap());
        assert_eq!(first(Controller::Memory), Some("/sys/fs/cgroup/memory/work/7"));
        assert_eq!(first(Controller::Cpu), Some("/sys/fs/cgroup/cpu,cpuacct/"));
        assert_eq!(first(Controller::Io), Some("/sys/fs/cgroup/blkio/"));
        assert_eq!(first(Controller::Pids), None);
        let unified = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(found.second, Some((unified.to_owned(), unified.join("init"))));
    }

    #[test]
    fn a_part_of_a_hierarchy_may_be_mounted() {
        let mounts = "31 25 0:27 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let place = |groups| Hierarchies::parse(mounts, groups).second.unwrap().1;
        assert_eq!(place("0::/docker/abc\n"), Path::new("/sys/fs/cgroup/"));
        assert_eq!(place("0::/docker/abc/init\n"), Path::new("/sys/fs/cgroup/init"));
        assert_eq!(place("0::/docker/abcdef\n"), Path::new("/sys/fs/cgroup/docker/abcdef"));
    }

    #[test]
    fn groups_of_version_2_are_made_beside_ours() {
        let mount = Path::new("/sys/fs/cgroup");
        assert_eq!(parent_of_groups(mount, mount), mount);
        assert_eq!(parent_of_groups(mount, &mount.join("user/session-1")), mount.join("user"));
        assert_eq!(parent_of_groups(mount, &mount.join("init")), mount);
    }

    #[test]
    fn version_2_hands_controllers_down_and_names_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("cgroup.controllers", "cpu memory\n");
        write("cgroup.subtree_control", "cpu\n");
        let mounts = format!("1 1 0:1 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let found = Hierarchies::parse(&mounts, "0::/own\n");
        let place = Place { version: Version::Two, directory: root.path().to_owned() };
        assert_eq!(found.place(Controller::Memory).unwrap(), place);
        assert_eq!(fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap(), "+memory");
        let error = found.place(Controller::Io).unwrap_err().to_string();
        assert!(error.contains("block devices") && error.contains("it has cpu, memory"), "{error}");
        let nothing = Hierarchies::parse("", "").place(Controller::Pids).unwrap_err().to_string();
        assert!(nothing.contains("no control group controller \"pids\""), "{nothing}");
    }
}
