//! Making groups: which directories, in which order, with which controllers handed down.

use std::fs;
use std::io;
use std::path::Path;

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;
use sys::fs::PathContext as _;
use sys::path_error::PathError;

use super::abandoned::{self, PREFIX};
use super::devices::{self, Rule};
use super::error::CgroupError;
use super::hierarchy::{Controller, Hierarchies, Hierarchy, Version, hand_down, words};
use super::location::Location;
use super::{ControlGroup, GroupDirectory, read, settings, tree};
use crate::request::Limits;
use crate::spec::resources;

/// How often a name is tried; each one fails only if somebody takes the new group for an abandoned one.
const NAMES: usize = 16;

/// Whether a container's devices are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceList {
    /// They are, or the container does not start.
    Needed,
    /// They are where that costs little and is allowed. That is version 1; entering a group of version 2
    /// takes milliseconds.
    Cheap,
}

/// The part of a group that is to be made in one hierarchy.
#[derive(Debug, Clone)]
struct Part<'a> {
    hierarchy: &'a Hierarchy,
    /// The controllers that something is asked of.
    needed: Vec<Controller>,
    /// In version 2, hand all controllers down, so that everything is counted.
    all_controllers: bool,
}

impl Part<'_> {
    /// Lets the groups inside of `parent` have the controllers.
    fn hand_down(&self, parent: &Path) -> Result<(), CgroupError> {
        if self.hierarchy.version == Version::One {
            return Ok(());
        }
        let named = |one: &Controller| one.name(Version::Two);
        let mut names: Vec<String> = match self.all_controllers {
            true => words(&parent.join("cgroup.controllers"))?,
            false => Vec::new(),
        };
        let needed = self.needed.iter().filter(|one| !one.is_built_into_version_2());
        names.extend(needed.clone().map(named).map(str::to_owned));
        for name in names {
            let handed_down = hand_down(parent, &name);
            if needed.clone().map(named).any(|needed| needed == name) {
                handed_down?;
            }
        }
        Ok(())
    }
}

impl ControlGroup {
    /// Makes a group with the limits of `resources`, for one container of this process; `None` when nothing
    /// is limited.
    pub fn create(resources: &LinuxResources, list: DeviceList) -> Result<Option<Self>, CgroupError> {
        let rules = devices::rules(resources)?;
        let lists = !devices::allow_everything(&rules);
        let needed = settings::controllers(resources);
        if needed.is_empty() && !lists {
            return Ok(None);
        }
        let hierarchies = Hierarchies::discover()?;
        let mut parts = needed_parts(&hierarchies, &needed)?;
        match (lists, list) {
            (false, _) => {}
            (true, DeviceList::Needed) => {
                add(&mut parts, hierarchies.of(Controller::Devices)?, Some(Controller::Devices));
            }
            (true, DeviceList::Cheap) => {
                let cheap = hierarchies.of(Controller::Devices).ok();
                if let Some(hierarchy) = cheap.filter(|one| one.version == Version::One) {
                    add(&mut parts, hierarchy, None);
                }
            }
        }
        let mut group = Self::make_named(&parts, None)?;
        group.set(resources)?;
        group.apply(&rules, list == DeviceList::Needed)?;
        Ok((!group.directories.is_empty()).then_some(group))
    }

    /// Makes a group with a name of our own in every hierarchy, inside of `parent` or beside us, with the
    /// limits of `resources` and a device list. Which hierarchies are left out says
    /// [`create_at`](Self::create_at).
    pub fn create_everywhere(
        parent: Option<&Location>,
        resources: &LinuxResources,
    ) -> Result<Self, CgroupError> {
        let rules = devices::rules(resources)?;
        let hierarchies = Hierarchies::discover()?;
        let parts = all_parts(&hierarchies, resources)?;
        let mut group = Self::make_named(&parts, parent)?;
        group.set(resources)?;
        group.apply(&rules, false)?;
        Ok(group)
    }

    /// Makes a group for several containers, beside us or inside of `parent`, with limits that hold for all of
    /// them together. Theirs are made [inside of it](crate::GroupPlace::Inside).
    pub fn create_around(limits: &Limits, parent: Option<&Location>) -> Result<Self, CgroupError> {
        let mut resources = resources::of_limits(limits);
        // Which devices there are is the business of each of them.
        resources.set_devices(Some(resources::every_device()));
        Self::create_everywhere(parent, &resources)
    }

    /// Makes the group of a given place, in every hierarchy, with the limits of `resources` and a device
    /// list. Hierarchies in which we may not make groups are left out if nothing is asked of them, and so is
    /// version 2 beside version 1: entering it takes milliseconds, and it has no controllers there.
    ///
    /// # Errors
    /// Also when there is such a group with processes in it.
    pub fn create_at(location: &Location, resources: &LinuxResources) -> Result<Self, CgroupError> {
        let rules = devices::rules(resources)?;
        let hierarchies = Hierarchies::discover()?;
        let mut group = Self::begin();
        group.make_all(&all_parts(&hierarchies, resources)?, location)?;
        group.set(resources)?;
        group.apply(&rules, false)?;
        Ok(group)
    }

    /// Makes parts with a name of our own, inside of `parent` or beside us.
    fn make_named(parts: &[Part<'_>], parent: Option<&Location>) -> Result<Self, CgroupError> {
        for part in parts {
            match parent.map(|parent| parent.within(part.hierarchy)) {
                Some((base, below)) => abandoned::sweep(&base.join(below)),
                None => abandoned::sweep(part.hierarchy.parent_of_groups()),
            }
        }
        let mut last = None;
        for _ in 0..NAMES {
            let name = format!("{PREFIX}{}-{}", std::process::id(), sys::random::hex(4)?);
            let location = match parent {
                Some(parent) => parent.join(&name),
                None => Location::Relative(name.into()),
            };
            // From here on, what was made is removed if the rest fails.
            let mut group = Self::begin();
            match group.make_all(parts, &location).and_then(|()| group.hold()) {
                Err(CgroupError::File(error)) if is_gone(&error) => last = Some(error),
                Err(error) => return Err(error),
                Ok(true) => return Ok(group),
                Ok(false) => {}
            }
        }
        let none_free =
            || PathError::new("create a control group for", "lapstrake", io::ErrorKind::WouldBlock);
        Err(last.unwrap_or_else(none_free).into())
    }

    /// Makes parts; those that nothing is asked of only where we may.
    fn make_all(&mut self, parts: &[Part<'_>], location: &Location) -> Result<(), CgroupError> {
        for part in parts {
            match self.make(part, location) {
                Err(error) if part.needed.is_empty() && error.is_permission() => {}
                made => made?,
            }
        }
        self.location = Some(location.clone());
        Ok(())
    }

    /// Makes the directory of a part, and those above it that are missing.
    fn make(&mut self, part: &Part<'_>, location: &Location) -> Result<(), CgroupError> {
        let (base, below) = location.within(part.hierarchy);
        let whole = base.join(below);
        let mut directory = base.to_owned();
        let mut is_new = false;
        let is_cpuset = part.hierarchy.controllers.iter().any(|one| one == "cpuset");
        for name in below {
            part.hand_down(&directory)?;
            directory.push(name);
            is_new = make_directory(&directory)?;
            if is_new && directory == whole {
                self.add(part.hierarchy, &directory)?;
            }
            if is_cpuset {
                fill_cpuset(&directory)?;
            }
        }
        if !is_new {
            let processes = tree::processes(&directory)?.len();
            if processes > 0 {
                return Err(CgroupError::InUse { directory, processes });
            }
            self.add(part.hierarchy, &directory)?;
        }
        Ok(())
    }

    fn add(&mut self, hierarchy: &Hierarchy, directory: &Path) -> Result<(), PathError> {
        let mut added = GroupDirectory {
            version: hierarchy.version,
            path: directory.to_owned(),
            controllers: hierarchy.controllers.clone(),
        };
        let controllers = directory.join("cgroup.controllers");
        self.directories.push(added.clone());
        if hierarchy.version == Version::Two {
            added.controllers = words(&controllers)?;
            self.directories.pop();
            self.directories.push(added);
        }
        Ok(())
    }

    /// Says to others that the group is not abandoned. `false` when one of them has already taken it for
    /// that.
    fn hold(&mut self) -> Result<bool, CgroupError> {
        for directory in self.directories.iter().skip(self.held.len()) {
            match abandoned::hold(&directory.path)? {
                Some(held) => self.held.push(held),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Puts the device list into force, if there is a part for it.
    fn apply(&mut self, rules: &[Rule], is_needed: bool) -> Result<(), CgroupError> {
        let Some(directory) = self.directory(Controller::Devices) else { return Ok(()) };
        if devices::allow_everything(rules) {
            return Ok(());
        }
        match devices::apply(directory, rules) {
            Ok(()) => self.restricts_devices = true,
            // Who may not list devices may not make any either.
            Err(error) if !is_needed && error.is_permission() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The hierarchies of the controllers that something is asked of.
fn needed_parts<'a>(
    hierarchies: &'a Hierarchies,
    needed: &[Controller],
) -> Result<Vec<Part<'a>>, CgroupError> {
    let mut parts = Vec::new();
    for &controller in needed {
        add(&mut parts, hierarchies.of(controller)?, Some(controller));
    }
    Ok(parts)
}

/// All hierarchies, but for version 2 beside version 1 if nothing is asked of it.
fn all_parts<'a>(
    hierarchies: &'a Hierarchies,
    resources: &LinuxResources,
) -> Result<Vec<Part<'a>>, CgroupError> {
    let mut parts = needed_parts(hierarchies, &settings::controllers(resources))?;
    let is_hybrid = hierarchies.all().iter().any(|one| one.version == Version::One);
    for hierarchy in hierarchies.all() {
        if hierarchy.version == Version::One || !is_hybrid {
            add(&mut parts, hierarchy, None);
        }
    }
    parts.iter_mut().for_each(|part| part.all_controllers = true);
    Ok(parts)
}

/// Adds a hierarchy, and perhaps that something is asked of one of its controllers.
fn add<'a>(parts: &mut Vec<Part<'a>>, hierarchy: &'a Hierarchy, controller: Option<Controller>) {
    match parts.iter_mut().find(|part| part.hierarchy == hierarchy) {
        Some(part) => part.needed.extend(controller),
        None => {
            parts.push(Part { hierarchy, needed: controller.into_iter().collect(), all_controllers: false })
        }
    }
}

/// Whether an error says that a group was removed meanwhile: its files are not found, or, when they were open
/// already, belong to nothing (kernfs says `ENODEV`).
fn is_gone(error: &PathError) -> bool {
    error.is_not_found() || error.source.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// Makes a directory; `false` when it is there.
fn make_directory(path: &Path) -> Result<bool, PathError> {
    match sys::fs::create_dir(path, 0o755) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// In version 1 nothing can be in a cpuset until both of its lists are set, and a new one has none
/// (`cpuset(7)`): what is not limited is as in the group around it.
fn fill_cpuset(directory: &Path) -> Result<(), PathError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = directory.join(file);
        if read(&path)?.trim().is_empty() {
            let around = directory.parent().map_or_else(|| path.clone(), |around| around.join(file));
            fs::write(&path, read(&around)?.trim()).at("write", &path)?;
        }
    }
    Ok(())
}
