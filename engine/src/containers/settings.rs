//! What a container may do and use: the part of its settings that only who runs it needs otherwise.

use std::path::PathBuf;

use runner::cgroup::Location;
use runner::request::{
    DeviceRule, ExtraMount, GroupPlace, Limits, MountKind, RunRequest, SeccompProfile, SystemPaths,
};
use runner::shim::Config;
pub use runner::shim::health::HealthCheck;

use super::Container;
use crate::Engine;
use crate::error::EngineError;
use crate::request::{ResourceLimit, RestartPolicy};

/// The settings of a container, as they are now.
#[derive(Debug, Clone)]
pub struct ContainerSettings {
    /// Where its files lie.
    pub directory: PathBuf,
    /// Read-only layers, the topmost first, where it has an overlay.
    pub lower: Vec<PathBuf>,
    /// Where its changes go, and the directory that the kernel works in beside it, where it has an overlay.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Paths of the kernel that it does not see or cannot write to.
    pub system_paths: SystemPaths,
    /// Whether a first process of ours collects its others.
    pub init: bool,
    /// Capabilities that it has besides the usual ones.
    pub cap_add: Vec<String>,
    /// Usual capabilities that it does not have.
    pub cap_drop: Vec<String>,
    /// `--security-opt`, in Docker's words.
    pub security: Vec<&'static str>,
    /// Devices of the host: there, in the container, and what may be done (`rwm`).
    pub devices: Vec<(PathBuf, String, String)>,
    /// What it may do with other devices.
    pub device_rules: Vec<DeviceRule>,
    /// Limits of each of its processes.
    pub rlimits: Vec<ResourceLimit>,
    /// Limits of all of them together.
    pub limits: Limits,
    /// The control group that its own is in; empty for the usual place.
    pub cgroup_parent: PathBuf,
    /// Settings of its kernel namespaces.
    pub sysctls: Vec<(String, String)>,
    /// Directories in memory: where, and the options of the mount.
    pub tmpfs: Vec<(String, String)>,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// `--oom-score-adj`
    pub oom_score_adjustment: i32,
    /// Whether it has the host's name.
    pub share_uts: bool,
    /// Whether it sees the host's control groups.
    pub share_cgroups: bool,
    /// Supplementary groups of its process.
    pub groups: Vec<u32>,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// What its health is told by.
    pub health: Option<HealthCheck>,
    /// Containers that it knows by further names in the default network, as `/OTHER:/OWN/NAME`.
    pub links: Vec<String>,
    /// Lines and columns of its terminal.
    pub console: (u16, u16),
}

/// How large a container is, in bytes of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerSize {
    /// What it has written.
    pub changes: u64,
    /// That and its image.
    pub whole: u64,
}

impl Engine {
    /// How large a container is. Every file that it has written is looked at.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn container_size(&self, container: &Container) -> Result<ContainerSize, EngineError> {
        let image = match self.inspect(&container.image_id.to_string()) {
            Ok(image) => image.summary.size,
            Err(EngineError::NoSuchImage(_)) => 0,
            Err(error) => return Err(error),
        };
        let (changes, whole) = self.store.container_content(&container.id)?;
        Ok(ContainerSize { changes, whole: whole.unwrap_or(changes.saturating_add(image)) })
    }

    /// How a container is run: as its directory has it, or as its supervisor knows, of one that goes with its command.
    ///
    /// # Errors
    /// It has gone, or its supervisor does not answer.
    pub(super) fn settings_of(&self, id: &str) -> Result<Config, EngineError> {
        let directory = self.store.container_path(id);
        if Config::is_written(&directory)? {
            return Ok(Config::read(&directory)?);
        }
        match self.supervisor(id)? {
            Some(mut client) => Ok(client.settings()?),
            None => Err(EngineError::NoSuchContainer(id.to_owned())),
        }
    }

    /// What a container may do and use.
    ///
    /// # Errors
    /// Its settings cannot be read, for example because it was removed meanwhile.
    pub fn container_settings(&self, container: &Container) -> Result<ContainerSettings, EngineError> {
        let directory = self.store.container_path(&container.id);
        let config = self.settings_of(&container.id)?;
        let RunRequest { root, limits, group, .. } = &config.request;
        let (lower, upper) = match root {
            base::Mount::Overlay { lower, upper, .. } => {
                (lower.clone(), upper.as_ref().map(|upper| (upper.upper.clone(), upper.work.clone())))
            }
            base::Mount::Bind { source, .. } => (vec![source.clone()], None),
        };
        Ok(ContainerSettings {
            lower,
            upper,
            links: super::memberships::legacy_links(&config.request.network, &container.name),
            security: security(&config.request),
            cgroup_parent: match group {
                GroupPlace::Inside(Location::Absolute(path) | Location::Relative(path)) => path.clone(),
                GroupPlace::WhereLimited | GroupPlace::Everywhere => PathBuf::new(),
            },
            tmpfs: tmpfs(&config.request),
            devices: devices(&config.request),
            oom_score_adjustment: config.request.oom_score_adjustment.unwrap_or_default(),
            limits: limits.clone(),
            console: config.terminal.map_or((0, 0), |size| (size.rows, size.columns)),
            restart: config.restart,
            health: config.health,
            system_paths: config.request.system_paths,
            init: config.request.args.first().is_some_and(|program| program == crate::run::INIT),
            cap_add: config.request.cap_add,
            cap_drop: config.request.cap_drop,
            device_rules: config.request.device_rules,
            rlimits: config.request.rlimits,
            sysctls: config.request.sysctls,
            shm_size: config.request.shm_size,
            share_uts: config.request.share_uts,
            share_cgroups: config.request.share_cgroups,
            groups: config.request.user.additional_gids,
            directory,
        })
    }
}

fn security(request: &RunRequest) -> Vec<&'static str> {
    let options = [
        (request.no_new_privileges, "no-new-privileges"),
        (request.system_paths == SystemPaths::open(), "systempaths=unconfined"),
        (request.seccomp == SeccompProfile::Unconfined, "seccomp=unconfined"),
        (matches!(request.seccomp, SeccompProfile::File(_)), "seccomp=profile"),
    ];
    options.into_iter().filter(|(set, _)| *set).map(|(_, option)| option).collect()
}

fn tmpfs(request: &RunRequest) -> Vec<(String, String)> {
    let one = |mount: &ExtraMount| match &mount.kind {
        MountKind::Tmpfs { size, mode, options } => {
            let size = size.map(|size| format!("size={size}"));
            let all: Vec<String> =
                options.iter().cloned().chain(size).chain([format!("mode={mode:o}")]).collect();
            Some((mount.destination.clone(), all.join(",")))
        }
        _ => None,
    };
    request.mounts.iter().filter_map(one).collect()
}

fn devices(request: &RunRequest) -> Vec<(PathBuf, String, String)> {
    let one = |mount: &ExtraMount| match &mount.kind {
        MountKind::Device { source, access, .. } => {
            let letters = [(access.read, 'r'), (access.write, 'w'), (access.make, 'm')];
            let allowed = letters.into_iter().filter(|(allowed, _)| *allowed).map(|(_, letter)| letter);
            Some((source.clone(), mount.destination.clone(), allowed.collect()))
        }
        _ => None,
    };
    request.mounts.iter().filter_map(one).collect()
}
