//! What is written of a failed step beside its files: `failed.json` in the directory of its build. No value of a
//! secret is part of it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base::{Key, Platform};
use llb::{ExecOp, MountKind, Vertex};
use runner::{Limits, ResourceLimit};
use serde::{Deserialize, Serialize};
use sys::fs::Durability;

use crate::error::EngineError;
use crate::ops::Filesystem;
use crate::request::{HostAddress, StepSettings};

/// The form of the document. One of another form is not read.
const VERSION: u32 = 1;

/// The document in a build's directory.
const FILE: &str = "failed.json";

/// A step whose process failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FailedDocument {
    version: u32,
    /// Its name, as progress showed it.
    pub(super) step: String,
    /// How the process ended, as in `exit code: 7`.
    pub(super) status: String,
    /// What its files are for.
    pub(super) platform: Platform,
    /// What it did. Its inputs are those of the kept parts: 0 the root filesystem as it was left, 1 and on what
    /// the mounts showed, by their places.
    pub(super) op: ExecOp,
    /// The content keys of these inputs, where a mount needs one: caches that begin differently are different.
    contents: Vec<Option<String>>,
    settings: SettingsDocument,
}

/// Of the settings of steps, what the process could notice.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SettingsDocument {
    bridge: bool,
    /// Names with their addresses; `None` is the machine itself.
    hosts: Vec<(String, Option<IpAddr>)>,
    shm_size: Option<u64>,
    rlimits: Vec<ResourceLimit>,
    limits: Limits,
    device_directories: Vec<PathBuf>,
}

impl FailedDocument {
    /// What is written of a step. `shown` is what its mounts showed, by their places.
    pub(crate) fn new(
        vertex: &Vertex,
        op: &ExecOp,
        shown: &[Option<Filesystem>],
        settings: &StepSettings,
        status: String,
    ) -> Self {
        let contents = shown.iter().map(|input| input.map(|input| input.content.hex()));
        Self {
            version: VERSION,
            step: vertex.metadata.name.clone(),
            status,
            platform: vertex.platform.clone(),
            op: over_parts(op),
            contents: std::iter::once(None).chain(contents).collect(),
            settings: SettingsDocument::of(settings),
        }
    }

    /// Writes it into the directory of a build.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), EngineError> {
        // Nothing in it is a map whose keys are not texts, which is all that could fail.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Ok(sys::fs::write_atomic(&directory.join(FILE), &bytes, 0o600, Durability::Cached)?)
    }

    /// Reads it; `None` where there is none, or one of another form.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, EngineError> {
        match sys::fs::read(&directory.join(FILE)) {
            Ok(bytes) => {
                let document = serde_json::from_slice(&bytes).ok();
                Ok(document.filter(|document: &Self| document.version == VERSION))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The content key of an input.
    pub(super) fn content(&self, part: usize) -> Option<Key> {
        self.contents.get(part)?.as_deref().and_then(Key::from_hex)
    }

    /// The settings as steps take them.
    pub(super) fn settings(&self) -> StepSettings {
        let address = |address: &Option<IpAddr>| address.map_or(HostAddress::Gateway, HostAddress::Given);
        let settings = &self.settings;
        StepSettings {
            bridge: settings.bridge,
            hosts: settings.hosts.iter().map(|(name, of)| (name.clone(), address(of))).collect(),
            shm_size: settings.shm_size,
            rlimits: settings.rlimits.clone(),
            limits: settings.limits.clone(),
            device_directories: settings.device_directories.clone(),
            ..StepSettings::default()
        }
    }
}

impl SettingsDocument {
    fn of(settings: &StepSettings) -> Self {
        let address = |address: HostAddress| match address {
            HostAddress::Given(address) => Some(address),
            HostAddress::Gateway => None,
        };
        Self {
            bridge: settings.bridge,
            hosts: settings.hosts.iter().map(|(name, of)| (name.clone(), address(*of))).collect(),
            shm_size: settings.shm_size,
            rlimits: settings.rlimits.clone(),
            limits: settings.limits.clone(),
            device_directories: settings.device_directories.clone(),
        }
    }
}

/// The same operation over the kept parts. What may be missing when somebody looks at it is no longer required.
fn over_parts(op: &ExecOp) -> ExecOp {
    let mut op = ExecOp { has_root: true, proxy_env: Vec::new(), ..op.clone() };
    for (slot, mount) in (1..).zip(&mut op.mounts) {
        match &mut mount.kind {
            MountKind::Bind(bind) => bind.input = bind.input.map(|_| slot),
            MountKind::Cache(cache) => cache.input = cache.input.map(|_| slot),
            MountKind::Secret(secret) => secret.required = false,
            MountKind::Ssh(ssh) => ssh.required = false,
            MountKind::Tmpfs(_) => {}
        }
    }
    op.devices.iter_mut().for_each(|device| device.required = false);
    op
}
