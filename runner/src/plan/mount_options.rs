//! The options of a mount in a spec, sorted by who reads them.
//!
//! Source: OCI runtime-spec 1.2 `config.md`, "Linux mount options". Options that are no attribute of a mount are
//! the filesystem's; it refuses those that it does not know.

use std::ffi::CString;

use sys::mount::{MountAttributes, Propagation};

use super::c_string;
use crate::error::RequestError;

/// What the options of one mount say.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Something that is there already is shown.
    pub(super) bind: bool,
    /// With the mounts below it.
    pub(super) recursive: bool,
    /// Owners are shown as the container's user namespace, or the mount's own maps, have them.
    pub(super) mapped: bool,
    /// A tmpfs begins with what it hides.
    pub(super) filled: bool,
    /// Its devices are meant to be used.
    pub(super) devices: bool,
    /// Attributes of the mount.
    pub(super) attributes: MountAttributes,
    /// Attributes to be set on all mounts below it too.
    pub(super) recursive_set: MountAttributes,
    /// Attributes to be cleared on it and all mounts below it.
    pub(super) recursive_clear: MountAttributes,
    /// What becomes of mounts below it, and whether that is meant for mounts below it too.
    pub(super) propagation: Option<(Propagation, bool)>,
    /// Options of the filesystem.
    pub(super) filesystem: Vec<(CString, Option<CString>)>,
}

/// Names of attributes, each with the name of its opposite. Each has a form for mounts below, with an `r` in
/// front.
const ATTRIBUTES: [(&str, &str, MountAttributes); 8] = [
    ("ro", "rw", MountAttributes::READ_ONLY),
    ("nosuid", "suid", MountAttributes::NO_SETUID),
    ("nodev", "dev", MountAttributes::NO_DEVICES),
    ("noexec", "exec", MountAttributes::NO_EXECUTE),
    ("noatime", "atime", MountAttributes::NO_ACCESS_TIME),
    ("nodiratime", "diratime", MountAttributes::NO_DIRECTORY_ACCESS_TIME),
    ("strictatime", "nostrictatime", MountAttributes::STRICT_ACCESS_TIME),
    ("nosymfollow", "symfollow", MountAttributes::NO_SYMLINKS),
];

/// What a mount is without being told, and what no mount of today is.
const WITHOUT_MEANING: [&str; 13] = [
    "defaults",
    "relatime",
    "norelatime",
    "rrelatime",
    "rnorelatime",
    "silent",
    "loud",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "async",
    "lazytime",
];

impl Options {
    /// Reads a list of options. Later ones win.
    pub(super) fn parse(options: &[String]) -> Result<Self, RequestError> {
        let mut parsed = Self::default();
        for option in options {
            let known = WITHOUT_MEANING.contains(&option.as_str())
                || parsed.read_kind(option)
                || parsed.read_attribute(option)
                || parsed.read_propagation(option);
            if !known {
                parsed.push_filesystem_option(option)?;
            }
        }
        Ok(parsed)
    }

    fn read_kind(&mut self, option: &str) -> bool {
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "idmap" | "ridmap" => self.mapped = true,
            "tmpcopyup" => self.filled = true,
            "notmpcopyup" => self.filled = false,
            "dev" => self.devices = true,
            _ => return false,
        }
        option != "dev"
    }

    fn read_attribute(&mut self, option: &str) -> bool {
        let named = |name: &str| {
            ATTRIBUTES.iter().find_map(|(set, clear, attribute)| {
                (name == *set)
                    .then_some((*attribute, true))
                    .or((name == *clear).then_some((*attribute, false)))
            })
        };
        if let Some((attribute, set)) = named(option) {
            self.attributes = self.attributes.without(attribute);
            if set {
                self.attributes = self.attributes.with(attribute);
            }
            return true;
        }
        match option.strip_prefix('r').and_then(named) {
            Some((attribute, true)) => self.recursive_set = self.recursive_set.with(attribute),
            Some((attribute, false)) => self.recursive_clear = self.recursive_clear.with(attribute),
            None => return false,
        }
        true
    }

    fn read_propagation(&mut self, option: &str) -> bool {
        let (name, recursive) = match option.strip_prefix('r') {
            Some(name) => (name, true),
            None => (option, false),
        };
        let Some(kind) = propagation(name) else { return false };
        self.propagation = Some((kind, recursive));
        true
    }

    fn push_filesystem_option(&mut self, option: &str) -> Result<(), RequestError> {
        let what = "mount option";
        self.filesystem.push(match option.split_once('=') {
            Some((name, value)) => (c_string(what, name)?, Some(c_string(what, value)?)),
            None => (c_string(what, option)?, None),
        });
        Ok(())
    }

    /// Whether mounts that are made on the host later are to appear.
    pub(super) fn receives(&self) -> bool {
        self.propagation.is_some_and(|(kind, _)| matches!(kind, Propagation::Slave | Propagation::Shared))
    }
}

/// A kind of propagation by name, without the `r` that means mounts below too.
pub(super) fn propagation(name: &str) -> Option<Propagation> {
    match name {
        "private" => Some(Propagation::Private),
        "slave" => Some(Propagation::Slave),
        "shared" => Some(Propagation::Shared),
        "unbindable" => Some(Propagation::Unbindable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Options {
        Options::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn options_are_sorted_by_who_reads_them() {
        let options = parse("rbind,nosuid,ro,rw,rro,rdev,rslave,relatime,size=64k,foo");
        assert!(options.bind && options.recursive && options.receives());
        assert_eq!(options.attributes, MountAttributes::NO_SETUID, "the last of ro and rw wins");
        assert_eq!(options.recursive_set, MountAttributes::READ_ONLY);
        assert_eq!(options.recursive_clear, MountAttributes::NO_DEVICES);
        assert_eq!(options.propagation, Some((Propagation::Slave, true)));
        let wanted = [(c"size".to_owned(), Some(c"64k".to_owned())), (c"foo".to_owned(), None)];
        assert_eq!(options.filesystem, wanted);
        assert!(!parse("private").receives());
    }
}
