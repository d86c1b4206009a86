//! The device list of a group: which device files can be opened, and made.
//!
//! The rules of an OCI spec are taken in their order, the last one about a device and a kind of access
//! decides, and what no rule names is refused. At the end stand the devices that every container has, as in
//! Docker. Version 1 takes the rules as they are, version 2 as a [program](program) that the kernel runs
//! for each access.
//!
//! Source: OCI runtime-spec `config-linux.md` ("Allowed Device list", "Default Devices"); the kernel's
//! `cgroup-v1/devices.rst` and `cgroup-v2.rst` ("Device controller").

mod program;

use std::fmt;
use std::fs;
use std::io;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};
use sys::fs::PathContext as _;

use super::GroupDirectory;
use super::error::{CgroupError, is_permission};
use super::hierarchy::Version;

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Character,
}

/// Kinds of access, as bits of the kernel's `linux/bpf.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access(u8);

impl Access {
    const MAKE: Self = Self(1);
    const READ: Self = Self(2);
    const WRITE: Self = Self(4);
    const ALL: Self = Self(7);

    /// Reads some of the letters `r`, `w` and `m`.
    fn parse(text: &str) -> Option<Self> {
        text.chars().try_fold(Self(0), |set, letter| match letter {
            'r' => Some(Self(set.0 | Self::READ.0)),
            'w' => Some(Self(set.0 | Self::WRITE.0)),
            'm' => Some(Self(set.0 | Self::MAKE.0)),
            _ => None,
        })
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MAKE, "m")];
        letters.into_iter().filter(|(one, _)| self.has(*one)).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    allow: bool,
    /// `None` is both.
    kind: Option<Kind>,
    /// `None` is every one.
    major: Option<u32>,
    /// `None` is every one.
    minor: Option<u32>,
    access: Access,
    /// One of those that every container has: where the group around it forbids that, so be it.
    is_default: bool,
}

/// What every container may do, as in Docker: make any device file, and use these. Of kind `c`: null, zero,
/// full, random, urandom, tty, console, ptmx and the terminals of `/dev/pts` (the kernel's `devices.txt`).
/// Not `/dev/net/tun`, which runc no longer allows either.
const DEFAULTS: [Rule; 11] = [
    default_rule(Kind::Character, None, None, Access::MAKE),
    default_rule(Kind::Block, None, None, Access::MAKE),
    default_rule(Kind::Character, Some(1), Some(3), Access::ALL),
    default_rule(Kind::Character, Some(1), Some(5), Access::ALL),
    default_rule(Kind::Character, Some(1), Some(7), Access::ALL),
    default_rule(Kind::Character, Some(1), Some(8), Access::ALL),
    default_rule(Kind::Character, Some(1), Some(9), Access::ALL),
    default_rule(Kind::Character, Some(5), Some(0), Access::ALL),
    default_rule(Kind::Character, Some(5), Some(1), Access::ALL),
    default_rule(Kind::Character, Some(5), Some(2), Access::ALL),
    default_rule(Kind::Character, Some(136), None, Access::ALL),
];

const fn default_rule(kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> Rule {
    Rule { allow: true, kind: Some(kind), major, minor, access, is_default: true }
}

impl Rule {
    fn of(rule: &LinuxDeviceCgroup) -> Result<Option<Self>, CgroupError> {
        let invalid = |problem| CgroupError::DeviceRule { rule: rule.to_string(), problem };
        let number = |number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number).map(Some).map_err(|_| invalid("a number is out of range")),
        };
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(Kind::Block),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Character),
            // No list of devices is asked about these.
            LinuxDeviceType::P => return Ok(None),
        };
        let access = match rule.access().as_deref() {
            None | Some("") => Access::ALL,
            Some(text) => Access::parse(text).ok_or_else(|| invalid("access is some of r, w and m"))?,
        };
        let (major, minor) = (number(rule.major())?, number(rule.minor())?);
        Ok(Some(Self { allow: rule.allow(), kind, major, minor, access, is_default: false }))
    }

    /// Whether it is about every device and every access.
    fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == Access::ALL
    }

    /// The rule in the words of version 1, which has no one word for both kinds unless everything is meant.
    fn lines(&self) -> Vec<String> {
        if self.is_total() {
            return vec!["a".to_owned()];
        }
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let line = |kind| format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access);
        match self.kind {
            Some(Kind::Block) => vec![line('b')],
            Some(Kind::Character) => vec![line('c')],
            None => vec![line('b'), line('c')],
        }
    }
}

/// The rules of `resources` and the default ones. Before them everything is refused.
pub(super) fn rules(resources: &LinuxResources) -> Result<Vec<Rule>, CgroupError> {
    let asked = resources.devices().iter().flatten().filter_map(|rule| Rule::of(rule).transpose());
    asked.chain(DEFAULTS.into_iter().map(Ok)).collect()
}

/// Whether there is nothing that the rules refuse.
pub(super) fn allow_everything(rules: &[Rule]) -> bool {
    let decides = rules.iter().rev().find(|rule| !rule.allow || rule.is_total());
    decides.is_some_and(|rule| rule.allow)
}

/// Puts a new group under the rules.
pub(super) fn apply(directory: &GroupDirectory, rules: &[Rule]) -> Result<(), CgroupError> {
    match directory.version {
        Version::One => apply_first(directory, rules),
        Version::Two => {
            let refused = |source| CgroupError::DeviceProgram { directory: directory.path.clone(), source };
            let group = sys::fs::open(&directory.path)?;
            sys::bpf::attach_device_program(&group, &program::of(rules)).map_err(refused)
        }
    }
}

fn apply_first(directory: &GroupDirectory, rules: &[Rule]) -> Result<(), CgroupError> {
    let write = |allow: bool, line: &str| {
        let path = directory.path.join(if allow { "devices.allow" } else { "devices.deny" });
        fs::write(&path, line).at("write", &path)
    };
    write(false, "a")?;
    for rule in rules {
        for line in rule.lines() {
            match write(rule.allow, &line) {
                Ok(()) => {}
                // The group around this one does not have the device either.
                Err(error) if rule.is_default && is_permission(&error.source) => {}
                Err(source) if source.source.kind() == io::ErrorKind::PermissionDenied => {
                    let what = "the list of devices";
                    return Err(CgroupError::Refused { what, value: line, source });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    use super::*;
    use crate::cgroup::hierarchy::Hierarchies;

    fn asked(rules: &[(bool, &str, i64, i64, &str)]) -> LinuxResources {
        let rule = |&(allow, kind, major, minor, access): &(bool, &str, i64, i64, &str)| {
            let kind = match kind {
                "a" => LinuxDeviceType::A,
                "b" => LinuxDeviceType::B,
                "p" => LinuxDeviceType::P,
                _ => LinuxDeviceType::C,
            };
            let builder = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
            builder.major(major).minor(minor).build().unwrap()
        };
        let mut resources = LinuxResources::default();
        resources.set_devices(Some(rules.iter().map(rule).collect()));
        resources
    }

    fn lines(resources: &LinuxResources) -> Vec<String> {
        let rules = rules(resources).unwrap();
        let asked = rules.iter().filter(|rule| !rule.is_default);
        asked.flat_map(|rule| rule.lines().into_iter().map(|l| format!("{} {l}", rule.allow))).collect()
    }

    #[test]
    fn rules_keep_their_order_and_the_default_ones_follow() {
        let resources = asked(&[
            (false, "a", -1, -1, "rwm"),
            (true, "c", 10, 229, "rw"),
            (true, "b", 8, -1, "r"),
            (true, "p", 1, 1, "rwm"),
            (false, "a", 8, 3, "w"),
        ]);
        let expected = ["false a", "true c 10:229 rw", "true b 8:* r", "false b 8:3 w", "false c 8:3 w"];
        assert_eq!(lines(&resources), expected);
        let rules = rules(&LinuxResources::default()).unwrap();
        let first = |number: usize| rules[number].lines().concat();
        assert_eq!((rules.len(), first(0), first(2)), (11, "c *:* m".into(), "c 1:3 rwm".into()));
    }

    #[test]
    fn a_list_that_refuses_nothing_is_none() {
        let everything = |rules: &[_]| allow_everything(&super::rules(&asked(rules)).unwrap());
        assert!(!everything(&[]));
        assert!(everything(&[(true, "a", -1, -1, "rwm")]));
        assert!(everything(&[(false, "a", -1, -1, "rwm"), (true, "a", -1, -1, "rwm")]));
        assert!(!everything(&[(true, "a", -1, -1, "rwm"), (false, "b", 8, 0, "w")]));
        assert!(!everything(&[(true, "a", -1, -1, "rw")]));
    }

    /// On machines with both versions the lists are those of version 1; here the program is what decides.
    #[test]
    fn the_program_decides_what_processes_of_a_group_open() {
        let hierarchies = Hierarchies::discover().unwrap();
        let Some(second) = hierarchies.all().iter().find(|one| one.version == Version::Two) else {
            eprintln!("skipped: control groups of version 2 are not mounted");
            return;
        };
        let path = second.mount.join(format!("lap-test-{}", sys::random::hex(8).unwrap()));
        if let Err(error) = fs::create_dir(&path) {
            eprintln!("skipped: no control group can be made at {}: {error}", path.display());
            return;
        }
        let directory = GroupDirectory { version: Version::Two, path: path.clone(), controllers: Vec::new() };
        let rules = rules(&asked(&[(true, "c", 1, 11, "w")])).unwrap();
        let applied = apply(&directory, &rules);
        let script =
            "echo 0 >$0/cgroup.procs; ok() { if (eval \"$1\") 2>/dev/null; then echo yes; else echo no; fi; }
            ok 'exec </dev/null'; ok 'exec </dev/kmsg'; ok 'exec >/dev/kmsg'; ok 'exec </dev/full'";
        let said = std::process::Command::new("/bin/sh").args(["-c", script]).arg(&path).output().unwrap();
        crate::cgroup::tree::remove(&path).unwrap();
        applied.unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "yes\nno\nyes\nyes\n", "{said:?}");
    }

    #[test]
    fn rules_that_mean_nothing_are_refused_by_name() {
        for bad in [(true, "c", 1, 3, "rx"), (true, "c", -2, 3, "r"), (true, "b", 1 << 33, 3, "r")] {
            let error = rules(&asked(&[bad])).unwrap_err().to_string();
            assert!(error.contains(&format!("{}:3", bad.2)), "{error}");
        }
    }
}
