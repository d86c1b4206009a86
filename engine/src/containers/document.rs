//! What is kept of a container beside what running it needs: how it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base::Digest;
use runner::etc_files::Resolver;
use runner::logs::LogOptions;
use runner::network::publish::{ContainerPort, Publish};
use serde::{Deserialize, Serialize};
use sys::fs::Durability;

use crate::error::EngineError;
use crate::request::{DeclaredStreams, HostAddress};

/// A container as it was asked for. A file in its directory, written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerDocument {
    /// The image as it was named.
    pub image: String,
    /// What its process executes, its arguments following.
    pub command: Vec<String>,
    /// The part of it that the image or `--entrypoint` gives.
    pub entrypoint: Option<Vec<String>>,
    /// The whole environment.
    pub env: Vec<String>,
    /// As given, or as the image says.
    pub user: String,
    /// As given, or as the image says.
    pub working_dir: String,
    /// Its host name.
    pub hostname: String,
    /// Its domain name.
    pub domainname: String,
    /// Those of the image, and those given.
    pub labels: BTreeMap<String, String>,
    /// What other programs noted when it was made.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input can be written to.
    pub open_stdin: bool,
    /// Its network: `bridge`, `host`, `none`, or `container:` and an id.
    pub network: String,
    /// Whose process ids it sees: its own, `host`, or `container:` and an id.
    #[serde(default)]
    pub pid_mode: String,
    /// Whose shared memory it sees: `private`, `shareable`, `none`, `host`, or `container:` and an id.
    #[serde(default)]
    pub ipc_mode: String,
    /// Further names and addresses in its hosts file.
    #[serde(default)]
    pub hosts: Vec<(String, HostAddress)>,
    /// How it looks names up, where not as the host.
    #[serde(default)]
    pub resolver: Resolver,
    /// The ports that were to be offered by the host (`-p`).
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// The ports that it is said to listen on: those of the image, of `--expose`, and those to be offered.
    #[serde(default)]
    pub exposed: BTreeSet<ContainerPort>,
    /// Whether what it listens on was to be offered on any port (`-P`).
    #[serde(default)]
    pub publish_all: bool,
    /// The containers whose volumes it shows, as they were named (`--volumes-from`).
    #[serde(default)]
    pub volumes_from: Vec<String>,
    /// Whether whoever made it was connected with its output.
    #[serde(default)]
    pub attached: bool,
    /// What was said of its streams, where that was said.
    #[serde(default)]
    pub streams: Option<DeclaredStreams>,
    /// Volumes, images, and directories and files of the host.
    #[serde(alias = "binds")]
    pub mounts: Vec<MountPoint>,
    /// Whether it goes when it has ended.
    pub remove: bool,
    /// Whether whoever made it starts it at once. It is held until then.
    #[serde(default)]
    pub starts_at_once: bool,
    /// Whether it has every right.
    pub privileged: bool,
    /// Whether the image's files cannot be written to.
    pub read_only: bool,
    /// How its log is kept.
    pub log: LogOptions,
    /// The signal that asks it to end, as it was named.
    pub stop_signal: String,
    /// How long it then has, in seconds.
    pub stop_timeout: Option<i64>,
    /// `os/architecture` of its image.
    pub platform: String,
}

/// Something that a container shows beside the files of its image: a volume, another image, or something of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The name of the volume; `None` for something else.
    #[serde(default)]
    pub volume: Option<String>,
    /// The image; `None` for something else.
    #[serde(default)]
    pub image: Option<MountedImage>,
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it appears.
    pub target: String,
    /// Whether it can be written to.
    pub writable: bool,
    /// What becomes of mounts below it, by Docker's name; empty for volumes.
    pub propagation: String,
    /// The part of a volume or an image that appears.
    #[serde(default)]
    pub subpath: Option<String>,
}

/// An image that a container shows beside its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedImage {
    /// As it was named.
    pub name: String,
    /// Its id.
    pub id: Digest,
}

impl ContainerDocument {
    pub(crate) fn read(directory: &Path) -> Result<Self, EngineError> {
        let path = path(directory);
        serde_json::from_slice(&sys::fs::read(&path)?)
            .map_err(|source| EngineError::ContainerFile { path, source })
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), EngineError> {
        let path = path(directory);
        let bytes = serde_json::to_vec(self)
            .map_err(|source| EngineError::ContainerFile { path: path.clone(), source })?;
        Ok(sys::fs::write_atomic(&path, &bytes, 0o600, Durability::Cached)?)
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("container.json")
}
