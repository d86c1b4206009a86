//! Making groups: which directories, in which order, with which controllers handed down.

use std::fs;
use std::io;
use std::path::Path;

use oci_spec::runtime::LinuxResources;
use sys::fs::PathContext as _;
use sys::path_error::PathError;

use super::abandoned::{self, PREFIX};
use super::devices::{self, Rule};
use super::error::CgroupError;
use super::hierarchy::{Controller, Hierarchies, Hierarchy, Version, hand_down, words};
use super::location::Location;
use super::{ControlGroup, GroupDirectory, read, settings, tree};

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

impl<'a> Part<'a> {
    fn new(hierarchy: &'a Hierarchy) -> Self {
        Self { hierarchy, needed: Vec::new(), all_controllers: false }
    }

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
        let mut parts = Vec::new();
        for &controller in &needed {
            add(&mut parts, hierarchies.of(controller)?, controller);
        }
        let with_list = match list {
            _ if !lists => None,
            DeviceList::Needed => Some(hierarchies.of(Controller::Devices)?),
            DeviceList::Cheap => {
                hierarchies.of(Controller::Devices).ok().filter(|one| one.version == Version::One)
            }
        };
        let mut group = match with_list {
            None => Self::make_named(&parts, None)?,
            Some(hierarchy) => {
                let mut all = parts.clone();
                add(&mut all, hierarchy, Controller::Devices);
                match Self::make_named(&all, None) {
                    Err(error) if list == DeviceList::Cheap && error.is_permission() => {
                        Self::make_named(&parts, None)?
                    }
                    made => made?,
                }
            }
        };
        group.set(resources)?;
        group.apply(&rules, list == DeviceList::Needed)?;
        Ok((!group.directories.is_empty()).then_some(group))
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
        let mut parts: Vec<Part<'_>> = Vec::new();
        for controller in settings::controllers(resources) {
            add(&mut parts, hierarchies.of(controller)?, controller);
        }
        let is_hybrid = hierarchies.all().iter().any(|one| one.version == Version::One);
        for hierarchy in hierarchies.all() {
            let is_there = parts.iter().any(|part| part.hierarchy == hierarchy);
            if !is_there && (hierarchy.version == Version::One || !is_hybrid) {
                parts.push(Part::new(hierarchy));
            }
        }
        let mut group = Self::begin();
        for part in &mut parts {
            part.all_controllers = true;
            match group.make(part, location) {
                Err(error) if part.needed.is_empty() && error.is_permission() => {}
                result => result?,
            }
        }
        group.set(resources)?;
        group.apply(&rules, false)?;
        Ok(group)
    }

    /// Makes parts with a name of our own, below `parent` or beside us.
    fn make_named(parts: &[Part<'_>], parent: Option<&Location>) -> Result<Self, CgroupError> {
        for part in parts {
            abandoned::sweep(part.hierarchy.parent_of_groups());
        }
        let mut last = None;
        if parts.is_empty() {
            return Ok(Self::begin());
        }
        for _ in 0..NAMES {
            let name = format!("{PREFIX}{}-{}", std::process::id(), sys::random::hex(4)?);
            let location = match parent {
                Some(parent) => parent.join(&name),
                None => Location::Relative(name.into()),
            };
            // From here on, what was made is removed if the rest fails.
            let mut group = Self::begin();
            match parts.iter().try_for_each(|part| group.make(part, &location)).and_then(|()| group.hold()) {
                Err(CgroupError::File(error)) if error.is_not_found() => last = Some(error),
                Err(error) => return Err(error),
                Ok(true) => return Ok(group),
                Ok(false) => {}
            }
        }
        let none_free =
            || PathError::new("create a control group for", "lapstrake", io::ErrorKind::WouldBlock);
        Err(last.unwrap_or_else(none_free).into())
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

/// Notes that something is asked of a controller.
fn add<'a>(parts: &mut Vec<Part<'a>>, hierarchy: &'a Hierarchy, controller: Controller) {
    match parts.iter_mut().find(|part| part.hierarchy == hierarchy) {
        Some(part) => part.needed.push(controller),
        None => parts.push(Part { needed: vec![controller], ..Part::new(hierarchy) }),
    }
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
