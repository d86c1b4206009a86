//! What callers ask for: plain values, whichever surface they come from.

mod annotations;
mod attestations;
mod build;
mod cache_azure;
mod cache_bucket;
mod cache_documents;
mod caches;
mod compression;
mod documents;
mod isolation;
mod mounts;
mod networks;
mod streams;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::image::Descriptor;
use base::{GitUrl, Platform, Reference, Timestamp};
pub use frontend::Entitlement;
pub use llb::NetworkMode;
pub use registry::reapi::ReapiOptions;
pub use registry::s3::{BucketOptions, KeyService, Keys as BucketKeys, Parts};
pub use runner::cgroup::Location;
pub use runner::etc_files::Resolver;
pub use runner::logs::{LogDriver, LogOptions, Selection};
pub use runner::network::address::MacAddress;
pub use runner::network::publish::{ContainerPort, Publish};
pub use runner::shim::restart::RestartPolicy;
pub use runner::signal::parse as signal_number;
pub use runner::{
    Attach, DetachKeys, DeviceAccess, DeviceKind, DeviceRate, DeviceRule, KeyMatcher, Limits, Peering,
    Resource, ResourceLimit, SystemPaths, TtySize,
};
pub use snapshotter::Compression;

pub use self::annotations::{AnnotationPlace, Annotations, WrongAnnotation};
pub use self::attestations::{
    Attestations, ProvenanceMode, ProvenanceOptions, ProvenanceVersion, Scanner, WrongAttestation,
};
pub use self::build::BuildRequest;
pub use self::caches::{CacheWords, WrongCache};
pub use self::compression::{WrongCompression, compression};
pub use self::documents::{
    AccountKey, ActionsPlace, ActionsProtocol, AzureDocumentPlace, BucketDocumentPlace, CacheMode,
    CallersPlace, ContainerOptions, DocumentForm, DocumentInput, DocumentOutput, DocumentPlace, LayoutPlace,
};
pub use self::isolation::{DeviceNode, HostAddress, IpcMode, Isolation, PidMode, SeccompChoice, Tmpfs};
pub use self::mounts::{FileRequest, MountRequest, MountSource, VolumeMount, VolumeSettings, VolumesFrom};
pub use self::networks::{NetworkCreation, NetworkUse};
pub use self::streams::DeclaredStreams;
pub use crate::caller::SshSources;
pub use crate::failed::FailureOutput;
pub use crate::frontends::SelectedFiles;
pub use crate::secrets::{SecretSource, Secrets};
pub use crate::step_rules::{StepRule, StepRules};
pub use crate::targets::TargetRequest;

/// The caches that a build shares with other builders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedCaches {
    /// Where results are looked for that are not in the store, one after the other.
    pub from: Vec<CacheSource>,
    /// Where results are written to as they come.
    pub to: Vec<CachePlace>,
    /// How long a step waits that another builder makes; `None` is not at all.
    pub wait: Option<Duration>,
    /// The file with the key that signs what is written.
    pub signer: Option<PathBuf>,
    /// The file that says whose results may be used.
    pub policy: Option<PathBuf>,
    /// `--cache-mounts`: the scopes in which cache mounts are shared too, usually branches. They are written to the first
    /// and looked for in all, one after the other. Empty shares none.
    pub mounts: Vec<String>,
    /// What is written of all steps at the end.
    pub documents: Vec<DocumentOutput>,
    /// `type=inline`: the steps that made an image are in its config.
    pub inline: bool,
}

/// A cache that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheSource {
    /// In which each result is a record of its own.
    Records(CachePlace),
    /// That is one document.
    Document(DocumentInput),
}

/// A cache that builders share, in which each result is a record of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// A directory.
    Directory(PathBuf),
    /// A repository of a registry.
    Repository(Reference),
    /// A bucket of S3.
    Bucket(Box<BucketPlace>),
    /// A cache of the Remote Execution API.
    Cluster(Box<ReapiOptions>),
}

/// A bucket of S3, or of what speaks its protocol, with what is a cache there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPlace {
    /// The bucket and how to get there.
    pub options: BucketOptions,
    /// The profile that has the keys and the region, if they are not given.
    pub profile: Option<ProfileFiles>,
    /// Services that lend keys, if there are no others.
    pub services: Vec<KeyService>,
    /// What the names of all objects begin with.
    pub prefix: String,
    /// What the names of blobs begin with after that.
    pub blobs_prefix: String,
    /// How many blobs are sent at once.
    pub upload_parallelism: NonZeroUsize,
    /// How old something may become that is used, until it is made young again.
    pub touch_refresh: Duration,
}

/// A profile in files with access keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileFiles {
    /// Its name.
    pub name: String,
    /// Whether the user has named it, so that it has to be there.
    pub is_asked: bool,
    /// The file with keys, in which sections are called like profiles.
    pub credentials: Option<PathBuf>,
    /// The file with other settings, in which sections are called `profile NAME`.
    pub config: Option<PathBuf>,
}

/// What `--build-context` gives a name to.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// Files.
    Files(ContextSource),
    /// Another image.
    Image(Reference),
    /// An image of the store, by the descriptor of its manifest or index: what another build has made.
    Stored(Descriptor),
    /// An image of an OCI layout.
    Layout {
        /// The layout's directory.
        directory: PathBuf,
        /// A tag or digest in it; the only image, or `latest`, without one.
        image: Option<String>,
    },
}

/// Where `RUN --mount=type=ssh` leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshSource {
    /// The socket of an agent.
    Agent(PathBuf),
    /// Files with private keys.
    Keys(Vec<PathBuf>),
}

/// What network a container gets. The default has no ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// `--network`
    pub mode: ContainerNetwork,
    /// `-p`
    pub publish: Vec<Publish>,
    /// `-P`: publish what is exposed, on any port.
    pub publish_exposed: bool,
    /// `--expose`, besides the image's EXPOSE.
    pub expose: Vec<ContainerPort>,
    /// `--ip`
    pub address: Option<Ipv4Addr>,
    /// `--ip6`
    pub address6: Option<Ipv6Addr>,
    /// `--mac-address`
    pub mac: Option<MacAddress>,
    /// `--link`: containers with the names by which this one knows them; an empty one is their own.
    pub links: Vec<(String, String)>,
}

/// `--network` of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ContainerNetwork {
    /// Nobody said: [`Bridge`](Self::Bridge) where that is possible, else [`Host`](Self::Host), which is told
    /// ([`crate::Engine::settle_network`]).
    #[default]
    Default,
    /// An address of its own behind the host's; for an ordinary user something like it.
    Bridge,
    /// The host's.
    Host,
    /// Nothing but a loopback interface.
    None,
    /// That of the container with this name or id.
    Container(String),
    /// One or several networks, of which the default one is called `bridge`.
    Named(Vec<NetworkUse>),
}

/// What the processes of all steps get besides what the Dockerfile says. Not part of any key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepSettings {
    /// `--network bridge`: steps that do not say have the network that `lap run` gives, instead of the host's.
    pub bridge: bool,
    /// `--add-host`: names with addresses for `/etc/hosts`.
    pub hosts: Vec<(String, HostAddress)>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`
    pub rlimits: Vec<ResourceLimit>,
    /// How much of the machine the processes of one step together may use.
    pub limits: Limits,
    /// How much all steps together may use.
    pub total: Limits,
    /// The control group that those of the steps are made in.
    pub cgroup_parent: Option<Location>,
    /// How much of their output is shown.
    pub log: LogLimits,
    /// How long they may take, and how often they are tried again.
    pub rules: StepRules,
    /// Directories with descriptions of devices (CDI); empty means the standard ones.
    pub device_directories: Vec<PathBuf>,
}

/// How much of a step's output is shown; `None` is all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of one step.
    pub size: Option<u64>,
    /// Bytes of one step for each second that it runs.
    pub speed: Option<u64>,
}

/// Where the files of a build come from.
#[derive(Debug, Clone)]
pub enum ContextSource {
    /// A directory, read in place.
    Directory(PathBuf),
    /// A part of a directory, read in place.
    Selected(Box<SelectedFiles>),
    /// A tar archive, plain or compressed.
    Archive(PathBuf),
    /// A commit of a git repository.
    Git(GitUrl),
    /// A file of the web: an archive with the context, or a Dockerfile that needs none.
    Url(String),
    /// Nothing: the Dockerfile came alone.
    Empty,
}

/// Where the Dockerfile comes from.
#[derive(Debug, Clone)]
pub enum DockerfileSource {
    /// `Dockerfile` in the context, else `dockerfile`.
    Default,
    /// A file of the host.
    File(PathBuf),
    /// A path inside the context, for contexts that are not directories of the host.
    InContext(String),
    /// A path inside a directory that a client has sent, which no link leaves.
    Sent {
        /// The directory.
        directory: PathBuf,
        /// The path.
        path: String,
    },
    /// A file of the web.
    Url(String),
    /// Its text, for example from standard input.
    Text(Vec<u8>),
}

impl DockerfileSource {
    /// What progress calls it: the last part of its path.
    pub(crate) fn shown_name(&self) -> &str {
        let last = match self {
            Self::File(path) => path.file_name().and_then(|name| name.to_str()),
            Self::InContext(path) | Self::Sent { path, .. } | Self::Url(path) => {
                path.rsplit('/').next().filter(|name| !name.is_empty())
            }
            Self::Default | Self::Text(_) => None,
        };
        last.unwrap_or("Dockerfile")
    }
}

/// Where a result goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// The store, under the request's tags.
    Store(LayerOptions),
    /// The store, and from there the registries of its names.
    Registry(PushOutput),
    /// An OCI image layout in a tar.
    Oci(Destination, LayerOptions),
    /// An OCI image layout as files below a directory.
    OciLayout(PathBuf, LayerOptions),
    /// A tar that `docker load` reads.
    Docker(Destination, LayerOptions),
    /// The root filesystem in a tar.
    Tar(Destination, FileOptions),
    /// The root filesystem as files below a directory.
    Local(PathBuf, FileOptions),
    /// Nowhere: what was built stays in the cache.
    CacheOnly,
}

impl Output {
    /// How its image is written; `None` if it is none.
    pub fn image_options_mut(&mut self) -> Option<&mut LayerOptions> {
        match self {
            Self::Store(options)
            | Self::Registry(PushOutput { layers: options, .. })
            | Self::Oci(_, options)
            | Self::OciLayout(_, options)
            | Self::Docker(_, options) => Some(options),
            Self::Tar(..) | Self::Local(..) | Self::CacheOnly => None,
        }
    }
}

/// How the files of a result are laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// What the names of files begin with that tell of the result (`attestation-prefix`).
    pub prefix: String,
    /// Whether each platform has a directory of its own (`platform-split`); if there are several, unless something is said.
    pub split: Option<bool>,
    /// Whether what else is in the directory is removed (`mode=delete`).
    pub is_exact: bool,
}

/// An image that is pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushOutput {
    /// Whether the registry's certificate does not matter, nor whether it has one.
    pub insecure: bool,
    /// How its layers are written; with gzip, if nothing is said.
    pub layers: LayerOptions,
    /// Repositories that get it by its digest alone. With none, it is pushed under the request's tags.
    pub by_digest: Vec<Reference>,
}

/// How the layers of an image are written for an output, and what is noted on its documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerOptions {
    /// How layers are compressed that are not yet. Without it, archives have gzip, and the store compresses
    /// nothing before somebody needs it.
    pub compression: Option<Compression>,
    /// Compress layers of base images anew if they are compressed in another way.
    pub force: bool,
    /// Leave files of layers the times that they have, although the request has an epoch.
    pub keep_times: bool,
    /// Call documents and layers by the names of Docker's schema 2 rather than by those of OCI.
    pub docker_types: bool,
    /// Whether what is told of the image is in artifacts that name it as their subject, so that registries list them (`oci-artifact`).
    pub artifacts: bool,
    /// What is noted on the image's documents, which then have OCI's names.
    pub annotations: Annotations,
}

/// Where an archive is written.
#[derive(Clone)]
pub enum Destination {
    /// A file, created or replaced only when the whole archive is there.
    File(PathBuf),
    /// A stream, for example standard output.
    Stream(Arc<Mutex<dyn Write + Send>>),
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stream(_) => f.write_str("a stream"),
        }
    }
}

/// A container to run.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The image by name, digest or id.
    pub image: String,
    /// Replaces the image's CMD; empty keeps it.
    pub command: Vec<String>,
    /// Replaces the image's ENTRYPOINT; nothing clears it.
    pub entrypoint: Option<Vec<String>>,
    /// `-e`: `NAME=value`; these win over the image's. A name alone takes the image's away.
    pub env: Vec<String>,
    /// `-w`
    pub workdir: Option<String>,
    /// `-u`
    pub user: Option<String>,
    /// `-v` and `--mount`
    pub mounts: Vec<MountRequest>,
    /// `--volumes-from`
    pub volumes_from: Vec<VolumesFrom>,
    /// Files of its own, such as secrets.
    pub files: Vec<FileRequest>,
    /// What network it gets.
    pub network: NetworkSettings,
    /// `--name`; a random one without it.
    pub name: Option<String>,
    /// `--hostname`; the container's short id without it.
    pub hostname: Option<String>,
    /// `--rm`: delete the container's changes when it ends.
    pub remove: bool,
    /// `-i`: give it our standard input.
    pub interactive: bool,
    /// `-t`: give it a terminal.
    pub tty: bool,
    /// What is done about it while it runs.
    pub supervision: Supervision,
    /// What it has of its own, and what of the host.
    pub isolation: Isolation,
    /// How much of the machine the container may use.
    pub limits: Limits,
    /// The control group that the container's is made in.
    pub cgroup_parent: Option<Location>,
    /// `--platform`
    pub platform: Option<Platform>,
    /// `--pull`
    pub pull: PullPolicy,
}

/// What is done about a container while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervision {
    /// `--detach`: it runs on when we have ended.
    pub detach: bool,
    /// `--attach`: whether our input, output and errors are connected; `None` is all that there are. Without the
    /// last two the container is left at the end of our input.
    pub attach: Option<[bool; 3]>,
    /// `--detach-keys`
    pub detach_keys: DetachKeys,
    /// `--sig-proxy`: it gets the signals that we get, and ends with us.
    pub forward_signals: bool,
    /// `--log-driver` and `--log-opt`; `None` is to keep a log unless somebody reads the output and the
    /// container is removed at its end.
    pub log: Option<LogOptions>,
    /// `--restart`
    pub restart: RestartPolicy,
    /// `--health-…`
    pub health: HealthChoice,
    /// `--init`: its first process is ours, and collects those that nobody else waits for.
    pub init: bool,
    /// `--stop-signal`; the image's without it.
    pub stop_signal: Option<String>,
    /// `--stop-timeout` in seconds.
    pub stop_timeout: Option<i64>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--annotation`: what other programs note.
    pub annotations: BTreeMap<String, String>,
    /// What is said of the streams by whoever makes a container and is not connected with them yet.
    pub streams: Option<DeclaredStreams>,
}

impl Default for Supervision {
    /// In the foreground, with signals passed on.
    fn default() -> Self {
        Self {
            detach: false,
            attach: None,
            detach_keys: DetachKeys::default(),
            forward_signals: true,
            log: None,
            restart: RestartPolicy::No,
            health: HealthChoice::default(),
            init: false,
            stop_signal: None,
            stop_timeout: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            streams: None,
        }
    }
}

/// How the image's health check is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthChoice {
    /// `--no-healthcheck`
    pub disabled: bool,
    /// The check as an image has it: `CMD` and words, or `CMD-SHELL` and a line, as `--health-cmd` gives it.
    pub test: Option<Vec<String>>,
    /// `--health-interval`
    pub interval: Option<Duration>,
    /// `--health-timeout`
    pub timeout: Option<Duration>,
    /// `--health-start-period`
    pub start_period: Option<Duration>,
    /// `--health-start-interval`
    pub start_interval: Option<Duration>,
    /// `--health-retries`
    pub retries: Option<u32>,
}

/// Which permission bits files of a build context have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextModes {
    /// Those that they have on the disk.
    #[default]
    Keep,
    /// Those that git knows: a file is 0755 if its owner may execute it, else 0644, and a directory 0755. So two checkouts
    /// under different umasks are the same.
    Git,
}

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Always. What it has now is used, or nothing.
    Always,
    /// Always, but what the store has will do where the registry cannot be asked.
    Newer,
    /// When the store does not have it.
    #[default]
    Missing,
    /// Never.
    Never,
}

/// What `lap save` writes.
#[derive(Debug, Clone)]
pub struct SaveRequest {
    /// Names or ids; a repository without a tag means all of its tags.
    pub images: Vec<String>,
    /// Where to.
    pub destination: Destination,
    /// `--format`
    pub format: SaveFormat,
    /// `--platform`: only these; empty is all that the store has.
    pub platforms: Vec<Platform>,
}

/// The forms of an archive with images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveFormat {
    /// An OCI image layout with Docker's list beside it, which all tools read.
    #[default]
    Docker,
    /// An OCI image layout.
    Oci,
}

/// Where `lap load` reads.
pub enum LoadSource {
    /// A tar, or the directory of an OCI layout.
    Path(PathBuf),
    /// A tar that comes as a stream.
    Stream(Box<dyn std::io::Read>),
}

/// What `lap import` makes an image of.
pub struct ImportRequest {
    /// The archive.
    pub source: ImportSource,
    /// The image's name, if it gets one.
    pub name: Option<Reference>,
    /// `--change`: instructions of a Dockerfile that need no files.
    pub changes: Vec<String>,
    /// `--message`: the comment in the history; it says where the image came from otherwise.
    pub message: Option<String>,
    /// `--platform`; the host's without it.
    pub platform: Option<Platform>,
    /// `SOURCE_DATE_EPOCH`: when the image was made.
    pub epoch: Option<Timestamp>,
}

/// Where `lap import` reads: a tar, plain or compressed with gzip, bzip2, xz or zstd.
pub enum ImportSource {
    /// A file.
    File(PathBuf),
    /// A stream, for example standard input.
    Stream(Box<dyn std::io::Read>),
    /// A file of the web.
    Url(String),
}
