//! Capabilities: their names, Docker's default set, and the arithmetic of `--cap-add` and `--cap-drop`.
//!
//! Source: `capabilities(7)` for names and numbers. Pure.

use std::fmt;

/// Names without `CAP_`, indexed by number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities; bit `n` is capability number `n`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CapabilitySet(u64);

/// A name that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability \"{0}\"; see capabilities(7) for the names, or use ALL")]
pub struct UnknownCapability(pub String);

/// Looks at the names of `--cap-add` and `--cap-drop`, which a container may have long before it starts.
///
/// # Errors
/// One of them is no capability.
pub fn check(add: &[String], drop: &[String]) -> Result<(), UnknownCapability> {
    CapabilitySet::adjusted(add, drop).map(|_| ())
}

impl CapabilitySet {
    pub(crate) const EMPTY: Self = Self(0);
    pub(crate) const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// What a container has unless asked otherwise: enough to install software and drop rights, nothing
    /// that reaches outside.
    pub(crate) fn docker_default() -> Self {
        let names = [
            "AUDIT_WRITE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "MKNOD",
            "NET_BIND_SERVICE",
            "NET_RAW",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        names.into_iter().filter_map(number).map(Self::of).fold(Self::EMPTY, Self::union)
    }

    /// The default set changed by names to add and to drop. As in Docker, `ALL` in one list is applied
    /// first, and the names of the other list are exceptions to it.
    pub(crate) fn adjusted(add: &[String], drop: &[String]) -> Result<Self, UnknownCapability> {
        let (added, dropped) = (Self::parse_all(add)?, Self::parse_all(drop)?);
        Ok(match (added, dropped) {
            (Named { everything: true, .. }, dropped) => Self(Self::ALL.0 & !dropped.set.0),
            (added, Named { everything: true, .. }) => added.set,
            (added, dropped) => Self((Self::docker_default().0 | added.set.0) & !dropped.set.0),
        })
    }

    fn parse_all(names: &[String]) -> Result<Named, UnknownCapability> {
        let mut result = Named { everything: false, set: Self::EMPTY };
        for name in names {
            let upper = name.to_ascii_uppercase();
            let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
            match (short, number(short)) {
                ("ALL", _) => result.everything = true,
                (_, Some(number)) => result.set = result.set.union(Self::of(number)),
                (_, None) => return Err(UnknownCapability(name.clone())),
            }
        }
        Ok(result)
    }

    /// The set of the one capability with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        number(name.strip_prefix("CAP_").unwrap_or(name)).map(Self::of)
    }

    fn of(number: usize) -> Self {
        Self(1 << number)
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of this set that are also in `other`.
    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// A set of these bits.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The names of the members without `CAP_`, in the order of their numbers.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .into_iter()
            .enumerate()
            .filter(move |(number, _)| self.contains(Self::of(*number)))
            .map(|(_, name)| name)
    }
}

struct Named {
    everything: bool,
    set: CapabilitySet,
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapabilitySet({:016x})", self.0)
    }
}

fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(add: &[&str], drop: &[&str]) -> Result<CapabilitySet, UnknownCapability> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        CapabilitySet::adjusted(&owned(add), &owned(drop))
    }

    #[test]
    fn the_default_is_docker_s() {
        assert_eq!(CapabilitySet::docker_default().bits(), 0x0000_0000_a804_25fb);
        assert_eq!(adjusted(&[], &[]).unwrap(), CapabilitySet::docker_default());
    }

    #[test]
    fn names_are_added_and_dropped_in_any_spelling() {
        let set = adjusted(&["cap_sys_admin", "NET_ADMIN"], &["Mknod"]).unwrap();
        assert!(set.contains(CapabilitySet::named("CAP_SYS_ADMIN").unwrap()));
        assert!(set.contains(CapabilitySet::named("NET_ADMIN").unwrap()));
        assert!(!set.contains(CapabilitySet::named("MKNOD").unwrap()));
    }

    #[test]
    fn all_is_the_base_for_the_other_list() {
        assert_eq!(adjusted(&["ALL"], &[]).unwrap(), CapabilitySet::ALL);
        assert_eq!(adjusted(&[], &["ALL"]).unwrap(), CapabilitySet::EMPTY);
        assert_eq!(adjusted(&["CHOWN"], &["ALL"]).unwrap().names().collect::<Vec<_>>(), ["CHOWN"]);
        assert_eq!(adjusted(&["ALL"], &["BPF"]).unwrap().bits(), CapabilitySet::ALL.bits() & !(1 << 39));
    }

    #[test]
    fn unknown_names_are_refused_as_written() {
        assert_eq!(adjusted(&["SYS_EVERYTHING"], &[]), Err(UnknownCapability("SYS_EVERYTHING".to_owned())));
    }
}
