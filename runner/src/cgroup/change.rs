//! Changing the limits of a group in which processes are: all of them, or none.

use std::fs;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

use super::error::CgroupError;
use super::{ControlGroup, read, settings};

/// What the limits were before they were changed.
#[derive(Debug)]
#[must_use = "limits that were changed may have to be put back"]
pub struct Changed {
    earlier: Vec<(PathBuf, String)>,
}

impl Changed {
    /// Puts everything back.
    pub fn undo(self) {
        // Some depend on each other, in one order or the other; two rounds set each in any.
        for _ in 0..2 {
            for (path, value) in self.earlier.iter().rev() {
                // The kernel has taken it before. A group that is gone has no limits.
                let _ = fs::write(path, value);
            }
        }
    }
}

impl ControlGroup {
    /// Changes limits as [`set`](Self::set) does, or nothing.
    ///
    /// # Errors
    /// The first limit that cannot be set. All are as they were then.
    pub fn change(&self, resources: &LinuxResources) -> Result<Changed, CgroupError> {
        let version = |controller| self.directory(controller).map(|directory| directory.version);
        let mut earlier = Vec::new();
        for setting in settings::all(resources, version) {
            if let Some(path) = self.file_of(&setting) {
                let value = read(&path)?.trim_end().to_owned();
                earlier.push((path, value));
            }
        }
        let changed = Changed { earlier };
        match self.set(resources) {
            Ok(()) => Ok(changed),
            Err(error) => {
                changed.undo();
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::Version;
    use super::super::{Controller, GroupDirectory};
    use super::*;
    use crate::request::Limits;
    use crate::spec::resources;

    #[test]
    fn a_refused_limit_leaves_the_others_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let path = |file: &str| directory.path().join(file);
        fs::write(path("cpu.shares"), "1024\n").unwrap();
        // Nothing can be written to a directory.
        fs::create_dir(path("pids.max")).unwrap();
        let controllers = Controller::ALL.iter().map(|one| one.name(Version::One).to_owned()).collect();
        let place = GroupDirectory { version: Version::One, path: directory.path().to_owned(), controllers };
        let group = ControlGroup::open(vec![place]);
        let shares = Limits { cpu_shares: Some(7), ..Limits::default() };
        let both = Limits { pids: Some(9), ..shares.clone() };
        assert!(group.change(&resources::of_limits(&both)).is_err());
        assert_eq!(fs::read_to_string(path("cpu.shares")).unwrap().trim(), "1024");
        let changed = group.change(&resources::of_limits(&shares)).unwrap();
        assert_eq!(fs::read_to_string(path("cpu.shares")).unwrap(), "7");
        changed.undo();
        assert_eq!(fs::read_to_string(path("cpu.shares")).unwrap().trim(), "1024");
    }
}
