//! Control groups: what limits how much a container uses, counts it, stops it and ends it (`cgroups(7)`).
//!
//! A group of `lap run` or a step is made only for the controllers that something is asked of, so a
//! container without limits costs next to nothing; it is made inside the group that we are in ourselves, or
//! beside it where version 2 allows no other place: limits set on us hold for our containers too. A group
//! at a given [`Location`] is in all hierarchies, because whoever gave it looks there. The container's
//! process puts itself into the group as its first step, and the group goes when the [`ControlGroup`] does,
//! unless it is [left](ControlGroup::leave) to a later process.
//!
//! Version 1, version 2 and both at once (hybrid) differ in names and numbers only: [`hierarchy`] finds out
//! which controller is where, [`settings`] says what to write, [`statistics`] what to read.

pub mod abandoned;
mod change;
mod devices;
mod error;
mod freezer;
mod gauge;
pub mod hierarchy;
mod location;
mod making;
pub mod settings;
mod shortage;
pub mod statistics;
mod stop;
mod tree;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use sys::fs::PathContext as _;
use sys::path_error::PathError;

pub use self::change::Changed;
pub use self::error::CgroupError;
pub use self::gauge::{Figures, Gauge};
use self::hierarchy::{Controller, Version};
pub use self::location::Location;
pub use self::making::DeviceList;
use self::settings::Setting;
pub use self::shortage::{Notice, Shortage};

/// The part of a group that is in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDirectory {
    /// The version of the hierarchy.
    pub version: Version,
    /// Where it is.
    pub path: PathBuf,
    /// The kernel's names of the controllers that it has.
    pub controllers: Vec<String>,
}

impl GroupDirectory {
    fn has(&self, controller: Controller) -> bool {
        let built_in = self.version == Version::Two && controller.is_built_into_version_2();
        built_in || self.controllers.iter().any(|one| one == controller.name(self.version))
    }
}

/// A control group of a container, in one hierarchy or more. Dropping it removes it if this process made it
/// and did not leave it to another one.
#[derive(Debug)]
pub struct ControlGroup {
    directories: Vec<GroupDirectory>,
    /// Where it was made, if we did.
    location: Option<Location>,
    restricts_devices: bool,
    /// Whether it is to go with this value.
    is_ours: bool,
    /// Locks that say that somebody cares for the group.
    held: Vec<abandoned::Hold>,
}

impl ControlGroup {
    /// The group that an earlier process has [left](Self::leave).
    pub fn open(directories: Vec<GroupDirectory>) -> Self {
        Self { directories, location: None, restricts_devices: false, is_ours: false, held: Vec::new() }
    }

    /// A group without directories, which goes with this value.
    fn begin() -> Self {
        let (directories, held) = (Vec::new(), Vec::new());
        Self { directories, location: None, restricts_devices: false, is_ours: true, held }
    }

    /// The place that it was made at by this process, for groups inside of it.
    pub fn location(&self) -> Option<&Location> {
        self.location.as_ref()
    }

    /// Its directories, for a later [`open`](Self::open).
    pub fn directories(&self) -> &[GroupDirectory] {
        &self.directories
    }

    /// Gives the group up without removing it, and says where it is.
    pub fn leave(mut self) -> Vec<GroupDirectory> {
        std::mem::take(&mut self.directories)
    }

    /// Whether the devices that can be opened and made in it are listed. Where they are not, a container's
    /// own filesystems must not have any (`nodev`).
    pub fn restricts_devices(&self) -> bool {
        self.restricts_devices
    }

    /// Whether it has the memory controller: its memory is limited then, or that of a group around it may be.
    pub fn counts_memory(&self) -> bool {
        self.directory(Controller::Memory).is_some()
    }

    /// The part with a controller.
    fn directory(&self, controller: Controller) -> Option<&GroupDirectory> {
        self.directories.iter().find(|directory| directory.has(controller))
    }

    /// A part by which all processes of the group are found: that of version 2, where ending is one write,
    /// else the one that can stop them, else any.
    fn any_directory(&self, what: &'static str) -> Result<&GroupDirectory, CgroupError> {
        let second = self.directories.iter().find(|directory| directory.version == Version::Two);
        let found = second.or_else(|| self.directory(Controller::Freezer)).or(self.directories.first());
        found.ok_or(CgroupError::Ungrouped { what })
    }

    /// Changes limits; those that `resources` does not name stay as they are, and so does the device list.
    ///
    /// # Errors
    /// The first limit that cannot be set. Those before it are set then.
    pub fn set(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let version = |controller| self.directory(controller).map(|directory| directory.version);
        if let Some(controller) =
            settings::controllers(resources).into_iter().find(|&one| version(one).is_none())
        {
            return Err(CgroupError::NoController { controller, available: self.available() });
        }
        // Some limits are checked against each other, and which of two has to be set first depends on their
        // old values. So what is refused is tried once more after the others.
        let mut refused = Vec::new();
        for setting in settings::all(resources, version) {
            match self.write(&setting) {
                Err(CgroupError::Refused { .. }) => refused.push(setting),
                result => result?,
            }
        }
        refused.iter().try_for_each(|setting| self.write(setting))?;
        self.set_unified(resources)
    }

    /// Writes the settings that a spec gives as files of version 2.
    fn set_unified(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        for (file, value) in settings::unified(resources)? {
            let what = "a setting of version 2";
            let second = self.directories.iter().find(|directory| directory.version == Version::Two);
            let second = second.ok_or(CgroupError::OtherVersion { what, version: Version::One })?;
            let path = second.path.join(file);
            fs::write(&path, value).at("write", &path).map_err(|source| {
                let value = format!("{file}={value}");
                CgroupError::Refused { what, value, source }
            })?;
        }
        Ok(())
    }

    /// The file that a setting is written to; `None` if there is no such file.
    fn file_of(&self, setting: &Setting) -> Option<PathBuf> {
        let directory = self.directory(setting.controller)?;
        let mut files = setting.files.iter().map(|file| directory.path.join(file.as_ref()));
        files.find(|path| path.exists())
    }

    fn write(&self, setting: &Setting) -> Result<(), CgroupError> {
        let Some(directory) = self.directory(setting.controller) else { return Ok(()) };
        let Some(path) = self.file_of(setting) else {
            return match setting.optional {
                true => Ok(()),
                false => Err(CgroupError::NoSetting {
                    controller: setting.controller,
                    version: directory.version,
                    file: setting.files.first().map_or_else(String::new, Cow::to_string),
                    what: setting.what,
                }),
            };
        };
        fs::write(&path, &setting.value).at("write", &path).map_err(|source| CgroupError::Refused {
            what: setting.what,
            value: setting.value.clone(),
            source,
        })
    }

    /// The names of the controllers that the group has.
    fn available(&self) -> Vec<&'static str> {
        let there = Controller::ALL.into_iter().filter(|&one| self.directory(one).is_some());
        there.map(|controller| controller.name(Version::Two)).collect()
    }

    /// The files that a process writes `0` to, to put itself into the group.
    pub fn entrances(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.directories.iter().map(|directory| directory.path.join(directory.version.entrance()))
    }

    /// The processes in it and in the groups that were made inside of it, by the numbers that they have for
    /// us. Those that we cannot see are left out.
    pub fn processes(&self) -> Result<Vec<u32>, CgroupError> {
        Ok(tree::processes(&self.any_directory("listed")?.path)?)
    }

    /// How often the kernel has killed a process of the group for lack of memory. Zero where nothing counts
    /// that, which is where memory is not limited.
    pub fn memory_kills(&self) -> Result<u64, CgroupError> {
        let Some(directory) = self.directory(Controller::Memory) else { return Ok(0) };
        let file = match directory.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = read(&directory.path.join(file))?;
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        Ok(kills.unwrap_or(0))
    }

    /// Removes the group, in which nothing may run any more, from every hierarchy, and those that were made
    /// inside of it. The error is that of the first where it could not be.
    pub fn remove(mut self) -> Result<(), CgroupError> {
        self.remove_directories()
    }

    fn remove_directories(&mut self) -> Result<(), CgroupError> {
        let directories = std::mem::take(&mut self.directories);
        let removed = directories.iter().map(|directory| tree::remove(&directory.path));
        Ok(removed.fold(Ok(()), Result::and)?)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        if self.is_ours {
            // Nobody is left to tell; an empty group takes a few kilobytes of the kernel, and the next
            // container's maker removes it.
            let _ = self.remove_directories();
        }
    }
}

fn read(path: &Path) -> Result<String, PathError> {
    fs::read_to_string(path).at("read", path)
}
