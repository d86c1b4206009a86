//! Control groups: what limits how much a container uses (`cgroups(7)`).
//!
//! A group is made only for the controllers that something is asked of, so a container without limits costs
//! nothing. It is made inside the group that we are in ourselves, or beside it where version 2 allows no
//! other place: limits set on us hold for our containers too. The container's process puts itself into it as
//! its first step, and the group goes when the [`ControlGroup`] does.
//!
//! Version 1, version 2 and both at once (hybrid) differ in names and numbers only: [`hierarchy`] finds out
//! which controller is where, [`settings`] says what to write.

pub mod hierarchy;
pub mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base::{Fault, Faulty};
use oci_spec::runtime::LinuxResources;
use sys::fs::PathContext as _;
use sys::path_error::PathError;

use self::hierarchy::{Controller, Hierarchies, Version};
use self::settings::Setting;

/// What the names of our groups begin with.
const PREFIX: &str = "lapstrake-";

/// Why a container cannot be limited.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel has no such controller, or it is not mounted.
    #[error(
        "this machine cannot limit {}: it has no control group controller \"{}\"{}",
        controller.limits(), controller.name(Version::Two), found(available)
    )]
    NoController {
        /// What is missing.
        controller: Controller,
        /// What is there.
        available: Vec<&'static str>,
    },
    /// The controller has no such limit in this version or configuration of the kernel.
    #[error("the kernel's {} control groups have no \"{file}\", so {what} cannot be set", controller.name(*version))]
    NoSetting {
        /// The controller.
        controller: Controller,
        /// Which version of it.
        version: Version,
        /// The file that is missing.
        file: &'static str,
        /// What it would have set.
        what: &'static str,
    },
    /// The kernel does not take a value.
    #[error("cannot set {what} to {value}")]
    Refused {
        /// What was to be set.
        what: &'static str,
        /// To what.
        value: String,
        /// Why not.
        #[source]
        source: PathError,
    },
    /// The group cannot be made or read.
    #[error("cannot use control groups{}", permission_hint(_0))]
    File(#[from] PathError),
}

fn found(available: &[&'static str]) -> String {
    if available.is_empty() { String::new() } else { format!(" (it has {})", available.join(", ")) }
}

fn permission_hint(error: &PathError) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            " (run as root, or in a group that is delegated to this user)"
        }
        _ => "",
    }
}

impl Faulty for CgroupError {
    fn fault(&self) -> Fault {
        match self {
            Self::NoController { .. } | Self::NoSetting { .. } => Fault::Environment,
            // The kernel knows which numbers make sense; they are the user's.
            Self::Refused { .. } => Fault::Input,
            Self::File(error) => error.fault(),
        }
    }
}

/// A control group of a container, in every hierarchy where something is limited. Dropping it removes it.
#[derive(Debug)]
pub struct ControlGroup {
    directories: BTreeMap<Controller, (Version, PathBuf)>,
}

impl ControlGroup {
    /// Makes a group with the limits of `resources`; `None` when they limit nothing.
    pub fn create(resources: &LinuxResources) -> Result<Option<Self>, CgroupError> {
        let needed = settings::controllers(resources);
        if needed.is_empty() {
            return Ok(None);
        }
        Self::create_in(&Hierarchies::discover()?, &needed, resources).map(Some)
    }

    fn create_in(
        hierarchies: &Hierarchies,
        needed: &[Controller],
        resources: &LinuxResources,
    ) -> Result<Self, CgroupError> {
        let name = format!("{PREFIX}{}-{}", std::process::id(), sys::random::hex(4)?);
        // From here on, what was made is removed if the rest fails.
        let mut group = Self { directories: BTreeMap::new() };
        for &controller in needed {
            let place = hierarchies.place(controller)?;
            let directory = place.directory.join(&name);
            if !sys::fs::exists(&directory)? {
                sys::fs::create_dir(&directory, 0o755)?;
            }
            group.directories.insert(controller, (place.version, directory));
        }
        for setting in
            settings::all(resources, |controller| group.directories.get(&controller).map(|(v, _)| *v))
        {
            group.set(&setting)?;
        }
        group.fill_cpuset()?;
        Ok(group)
    }

    fn set(&self, setting: &Setting) -> Result<(), CgroupError> {
        let Some((version, directory)) = self.directories.get(&setting.controller) else { return Ok(()) };
        let present = setting.files.iter().map(|file| directory.join(file)).find(|path| path.exists());
        let Some(path) = present else {
            return match setting.optional {
                true => Ok(()),
                false => Err(CgroupError::NoSetting {
                    controller: setting.controller,
                    version: *version,
                    file: setting.files[0],
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

    /// In version 1 nothing can be in a cpuset until both of its lists are set, and a new one has none
    /// (`cpuset(7)`): what is not limited is as in the group around it.
    fn fill_cpuset(&self) -> Result<(), CgroupError> {
        let Some((Version::One, directory)) = self.directories.get(&Controller::Cpuset) else {
            return Ok(());
        };
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let path = directory.join(file);
            if read(&path)?.trim().is_empty() {
                let around = read(&directory.with_file_name(file))?;
                fs::write(&path, around.trim()).at("write", &path)?;
            }
        }
        Ok(())
    }

    /// The files that a process writes `0` to, to put itself into the group.
    pub fn entrances(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let mut entrances: Vec<PathBuf> = self
            .directories
            .values()
            .map(|(version, directory)| directory.join(version.entrance()))
            .collect();
        entrances.dedup();
        entrances.into_iter()
    }

    /// How often the kernel has killed a process of the group for lack of memory. Zero where nothing counts
    /// that, which is where memory is not limited.
    pub fn memory_kills(&self) -> Result<u64, CgroupError> {
        let Some((version, directory)) = self.directories.get(&Controller::Memory) else { return Ok(0) };
        let file = match version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = read(&directory.join(file))?;
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        Ok(kills.unwrap_or(0))
    }

    /// Removes the group, in which nothing may run any more, from every hierarchy. The error is that of the
    /// first where it could not be.
    pub fn remove(mut self) -> Result<(), CgroupError> {
        let directories = std::mem::take(&mut self.directories);
        let removed = directories.values().map(|(_, directory)| remove_group(directory));
        Ok(removed.fold(Ok(()), Result::and)?)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for (_, directory) in self.directories.values() {
            // Nobody is left to tell; an empty group without processes takes a few kilobytes of the kernel.
            let _ = remove_group(directory);
        }
    }
}

/// Removes a group and those that the container made in it. Their files go with them.
fn remove_group(directory: &Path) -> Result<(), PathError> {
    let names = match sys::fs::list(directory) {
        Err(error) if error.is_not_found() => return Ok(()),
        names => names?,
    };
    for name in names {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            remove_group(&path)?;
        }
    }
    sys::fs::remove_dir(directory).map(drop)
}

fn read(path: &Path) -> Result<String, PathError> {
    fs::read_to_string(path).at("read", path)
}
