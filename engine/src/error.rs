//! Why the engine could not do what was asked. Typed; drawn by whoever called.

mod advice;
mod build;
mod fault;
mod missing;

use std::path::PathBuf;
use std::sync::Arc;

use base::Digest;
use base::cancel::Cancelled;
use registry::ArchiveError;
use runner::isolation::NoIsolation;
use runner::{Expired, RunError};
use snapshotter::StoreError;
use snapshotter::apply::ApplyError;

pub use self::build::{BuildError, DockerfileProblem, StepError, StepFailure};
pub use crate::containers::files::FilesError;
pub use crate::history::BuildArchiveError;
pub use crate::images::Conflict;
use crate::networks::NetworkRefusal;
pub use crate::registries::{HelperError, HostsError, ListError, LoginError, RegistriesError};
pub use crate::remote::git::GitError;
pub use crate::remote::host_program::ProgramError;
pub use crate::serve::error::ServerError;
pub use crate::shared_cache::{BucketKeysError, CacheDocumentError, ChunkError};
pub use crate::signing::error::{KeyError, PolicyError};
use crate::volumes::VolumeError;
pub use runner::shim::ShimError;

/// Docker's words, which scripts look for.
const NO_SUCH_CONTAINER: &str = "No such container";

/// What can go wrong in the engine, whatever was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry failed or refused.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A Remote Execution API cache failed or refused.
    #[error(transparent)]
    Reapi(#[from] registry::reapi::error::ReapiError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The policy of a shared cache cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Logins, lists of images, or names to push make no sense.
    #[error(transparent)]
    Registries(#[from] RegistriesError),
    /// An archive cannot be read or written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The builds of an archive cannot be read.
    #[error(transparent)]
    BuildArchive(#[from] BuildArchiveError),
    /// A source policy is none, or denies a source.
    #[error(transparent)]
    SourcePolicy(#[from] crate::source_policy::SourcePolicyError),
    /// A process cannot be waited for.
    #[error("cannot wait for the process")]
    Wait(#[source] std::io::Error),
    /// A step removes what there is not.
    #[error("cannot remove \"{0}\": there is no such file")]
    NothingToRemove(String),
    /// A step asks for a limit that there is not.
    #[error("the step's limit {text} makes no sense")]
    StepLimit {
        /// The limit, as it would be written on a command line.
        text: String,
        /// What is wrong with it.
        source: runner::resource_limit::ResourceLimitError,
    },
    /// A directory could not be read or written.
    #[error(transparent)]
    Tree(#[from] snapshotter::tree::TreeError),
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] snapshotter::copy::CopyError),
    /// What a copy takes could not be found out.
    #[error(transparent)]
    Select(#[from] snapshotter::select::SelectError),
    /// A file could not be written into a layer.
    #[error(transparent)]
    Write(#[from] snapshotter::writer::WriteError),
    /// A layer could not be written as a tar.
    #[error(transparent)]
    Diff(#[from] snapshotter::diff::DiffError),
    /// `--chmod` is not a mode.
    #[error(transparent)]
    Mode(#[from] snapshotter::mode_change::ModeError),
    /// An archive of the context could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] ApplyError),
    /// A file of the web could not be downloaded.
    #[error(transparent)]
    Download(#[from] registry::DownloadError),
    /// A git repository could not be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A result of a shared cache cannot be had although it was promised. The build goes on without it.
    #[error("a result in a shared cache is not whole: {what}: {why}")]
    SharedResultLost {
        /// What of it.
        what: String,
        /// Why it cannot be had.
        why: String,
    },
    /// A cache mount could not be shared with other builders.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A cache document cannot be used or written.
    #[error(transparent)]
    CacheDocument(#[from] CacheDocumentError),
    /// There are no keys for a bucket of S3.
    #[error(transparent)]
    BucketKeys(#[from] BucketKeysError),
    /// A downloaded file is not the one that was demanded.
    #[error("the content of {url} has digest {actual}, but the checksum demands {expected}")]
    Checksum {
        /// Its URL, without a password.
        url: String,
        /// What was demanded.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A secret as a file would be written to the disk.
    #[error("the secret {0} cannot be a file with chroot isolation, where it would be on the disk")]
    SecretNeedsMount(String),
    /// No container can be started in this process.
    #[error(transparent)]
    Isolation(Arc<NoIsolation>),
    /// There is no such container.
    #[error("{words}: {0}", words = NO_SUCH_CONTAINER)]
    NoSuchContainer(String),
    /// The container does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// A container was not changed.
    #[error("cannot update container {id}: {why}")]
    Update {
        /// Its id.
        id: String,
        /// Why not.
        why: String,
    },
    /// What a container is to be changed to contradicts itself, or what it is.
    #[error(transparent)]
    UpdateRefusal(#[from] runner::shim::UpdateRefusal),
    /// The host's `ps` could not show the processes of a container.
    #[error("ps: {0}")]
    Ps(String),
    /// Two flags of which only one can be.
    #[error("conflicting options: {0}")]
    ConflictingOptions(&'static str),
    /// A container that keeps its shared memory to itself.
    #[error(
        "can't join IPC of container {0}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
    )]
    NotShareable(String),
    /// A name that no container may have.
    #[error("invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    ContainerName(String),
    /// Another container has the name.
    #[error("conflict: the container name \"/{name}\" is already in use by container \"{id}\"")]
    ContainerNameTaken {
        /// The name.
        name: String,
        /// The id of the container that has it.
        id: String,
    },
    /// A container that is not to be removed as it is.
    #[error(
        "cannot remove container \"{id}\": container is {status}: stop the container before removing or force remove"
    )]
    ContainerInUse {
        /// Its id.
        id: String,
        /// What it does.
        status: &'static str,
    },
    /// A container keeps no log.
    #[error("configured logging driver of container {0} does not support reading")]
    NoLog(String),
    /// A file of a container is not what it should be.
    #[error("{} is damaged", path.display())]
    ContainerFile {
        /// The file.
        path: PathBuf,
        /// In what way.
        #[source]
        source: serde_json::Error,
    },
    /// A signal that does not exist.
    #[error(transparent)]
    Signal(#[from] runner::signal::BadSignal),
    /// The supervisor of a container could not do what it was asked for.
    #[error(transparent)]
    Shim(#[from] runner::shim::ShimError),
    /// A container could not be started.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file of the host failed.
    #[error(transparent)]
    File(#[from] sys::path_error::PathError),
    /// A program of the host could not do its work.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A server took longer than the user wants to wait.
    #[error("{name} {}", expired_fetch(*expired))]
    FetchTimedOut {
        /// What was fetched, as progress calls it.
        name: String,
        /// Which limit it reached.
        expired: Expired,
    },
    /// The network's threads could not be started.
    #[error("cannot start the network threads")]
    Threads {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A registry cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A network cannot be made, removed or joined.
    #[error(transparent)]
    Network(#[from] NetworkRefusal),
    /// A volume cannot be made or shown.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Files of a container cannot be copied.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// There is no such image in the store.
    #[error("no such image: {0}")]
    NoSuchImage(String),
    /// The context has no Dockerfile.
    #[error("failed to read dockerfile: {name} is not in the build context")]
    NoDockerfile {
        /// The name that was looked for.
        name: String,
    },
    /// A result has no file of this path.
    #[error("{0}: no such file or directory")]
    NotInResult(String),
    /// A client sent a file in a way that it cannot have.
    #[error("the client sent {path:?}, which is refused: {why}")]
    Sent {
        /// The path as it came.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The context does not say when it was last changed.
    #[error(
        "SOURCE_DATE_EPOCH=context needs a context from a git repository, or a URL with a Last-Modified header"
    )]
    NoContextTime,
    /// A secret for a server cannot be part of a header.
    #[error("the secret {id} is not a single line of text")]
    SecretNotText {
        /// Its id.
        id: String,
    },
    /// A Dockerfile, or another text, is larger than any should be.
    #[error("{file} is larger than {limit} bytes")]
    TooLarge {
        /// What it is called.
        file: String,
        /// How large it may be.
        limit: u64,
    },
    /// A short id fits several images.
    #[error("\"{0}\" fits several images")]
    Ambiguous(String),
    /// There is no cache mount of this id or name.
    #[error("no such cache mount: {0}")]
    NoSuchCacheMount(String),
    /// Several cache mounts have names that begin so.
    #[error("\"{0}\" fits several cache mounts")]
    AmbiguousCacheMount(String),
    /// A step uses a cache mount.
    #[error("a step is using the cache mount {0}")]
    CacheMountInUse(String),
    /// A cache mount of this id is there already.
    #[error("there is a cache mount {0} already")]
    CacheMountExists(String),
    /// No build is remembered.
    #[error("no build is remembered")]
    NoBuilds,
    /// No build that is remembered has an id that begins so.
    #[error("no build \"{0}\" is remembered")]
    NoSuchBuild(String),
    /// Several builds have ids that begin so.
    #[error("\"{0}\" fits several builds")]
    AmbiguousBuild(String),
    /// A build cannot be removed while it runs.
    #[error("the build {0} is running")]
    BuildRuns(String),
    /// Nothing is kept of a failed step of any build.
    #[error("no failed step is kept")]
    NoFailedSteps,
    /// No step of the build failed, or what it left is no longer kept.
    #[error("no failed step of the build {0} is kept")]
    NoFailedStep(String),
    /// The root filesystem of a failed step has no shell.
    #[error("there is no {shell} where the step of the build {build} failed")]
    NoShell {
        /// The build.
        build: String,
        /// The shell.
        shell: String,
    },
    /// A name is not an image name.
    #[error(transparent)]
    Reference(#[from] base::reference::ReferenceError),
    /// An image is not removed.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A document of an image is not valid JSON of its kind.
    #[error("the {what} {digest} is invalid")]
    Document {
        /// `image config`, `manifest` or `index`.
        what: &'static str,
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An image's parts do not fit each other.
    #[error("image {image} is inconsistent: {reason}")]
    Inconsistent {
        /// Which image.
        image: String,
        /// In what way.
        reason: String,
    },
    /// Another build has asked a registry for us, and this is what it was told.
    #[error(transparent)]
    Lookup(Arc<EngineError>),
    /// A registry has a blob and does not say how large it is.
    #[error("the registry does not say how large the blob {0} is")]
    BlobWithoutSize(Digest),
    /// The image that looks for packages failed.
    #[error("the scanner {image} failed")]
    Scanner {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<StepError>,
    },
    /// The image that looks for packages is none, or leaves what is none.
    #[error("cannot use the scanner {image}: {why}")]
    ScannerResult {
        /// The image.
        image: String,
        /// What is wrong.
        why: String,
    },
    /// A Dockerfile is written for a frontend that is an image.
    #[error("{file} asks for the frontend {image}, which is an image and runs in builds alone")]
    OtherFrontend {
        /// The Dockerfile.
        file: String,
        /// The image.
        image: String,
    },
    /// A pattern of files that are wanted is none.
    #[error("cannot choose files: {0}")]
    WantedPattern(String),
    /// A secret is larger than any should be.
    #[error("the secret \"{id}\" is larger than {limit} bytes")]
    SecretTooLarge {
        /// Its id.
        id: String,
        /// How large a secret may be.
        limit: u64,
    },
    /// The caller was asked for something, and did not answer.
    #[error("cannot ask the client for {what}")]
    NotAnswered {
        /// What was asked for.
        what: String,
        /// Why not.
        #[source]
        source: crate::caller::AskError,
    },
    /// A step needs a secret that the caller did not give.
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    /// A step needs an ssh agent that the caller did not give.
    #[error("ssh agent \"{0}\" not found")]
    NoSshAgent(String),
    /// A step needs a device that this machine does not describe.
    #[error("device \"{0}\" not found")]
    NoDevice(String),
    /// A device can only be used with a program that the host runs.
    #[error("device \"{0}\" needs a hook on the host, which builds do not run")]
    DeviceHook(String),
    /// The description of devices is wrong.
    #[error("cannot read the device description {}: {reason}", path.display())]
    DeviceDescription {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key of `--ssh` cannot be used.
    #[error("cannot use the ssh key {}: {reason}", path.display())]
    SshKey {
        /// The file.
        path: PathBuf,
        /// What ssh-add says.
        reason: String,
    },
    /// A step names files that the caller did not give.
    #[error("there is no build context \"{0}\"")]
    NoContext(String),
    /// A step is for another kind of machine, and nothing here can run it.
    #[error("cannot run programs for {platform} on {host}: no emulator is registered")]
    NoEmulator {
        /// What the step is for.
        platform: String,
        /// What this machine is.
        host: String,
    },
    /// An OCI layout does not have an image that was asked for.
    #[error("the OCI layout {} has no image \"{wanted}\"", directory.display())]
    NotInLayout {
        /// The layout.
        directory: PathBuf,
        /// A tag or digest.
        wanted: String,
        /// The tags that it has.
        known: String,
    },
    /// An image has nothing for a platform that was asked for.
    #[error("the image has nothing for platform {wanted}; it has {}", known.join(", "))]
    NoPlatform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Files of two platforms in one place. The words are BuildKit's.
    #[error("cannot overwrite {path} from {other} with {platform} when split option is disabled")]
    Overwrites {
        /// The file.
        path: String,
        /// Whose it is.
        other: String,
        /// Who has one, too.
        platform: String,
    },
    /// An exact copy in a place where much else is lost.
    #[error("{} is not made an exact copy: {what} would be removed", .directory.display())]
    WouldRemove {
        /// The directory.
        directory: PathBuf,
        /// What is in it.
        what: &'static str,
    },
    /// The beginning of a file's name that leads elsewhere.
    #[error("invalid attestation-prefix {0:?}: it is the beginning of a file's name")]
    AttestationPrefix(String),
    /// Notes on an index that there is not. The words are BuildKit's.
    #[error("index annotations not supported for single platform export")]
    NoIndexToAnnotate,
    /// Notes on documents of a platform that was not built. The words are BuildKit's.
    #[error("invalid annotation: no platform {0} found in source")]
    NoPlatformToAnnotate(String),
    /// Something that only one platform has room for.
    #[error("an image for several platforms cannot be written as {0}")]
    SeveralPlatforms(&'static str),
    /// `--change` gives something that is not a change of an image's config.
    #[error("cannot apply the change \"{change}\": {why}")]
    Change {
        /// The change as it was given.
        change: String,
        /// What is wrong with it.
        why: String,
    },
    /// An archive to be imported is empty.
    #[error("cannot import {archive}: it is empty")]
    EmptyImport {
        /// What it is called.
        archive: String,
    },
    /// An archive to be imported cannot be read, or is not a root filesystem.
    #[error("cannot import {archive}")]
    Import {
        /// What it is called.
        archive: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// A stream could not be decompressed.
    #[error(transparent)]
    Compress(#[from] snapshotter::compress::CompressError),
    /// Docker's archives know fewer compressions than OCI's.
    #[error("a docker archive cannot have layers compressed with {0}")]
    DockerCompression(&'static str),
    /// An emulator is registered, but cannot be reached from inside a container.
    #[error("programs for {platform} are run by {interpreter}, which containers do not see")]
    EmulatorOutside {
        /// What the step is for.
        platform: String,
        /// The emulator's path on this machine.
        interpreter: String,
    },
    /// The image has neither entry point nor command, and none was given.
    #[error("no command specified: image {0} has neither ENTRYPOINT nor CMD")]
    NoCommand(String),
    /// A capability that does not exist.
    #[error(transparent)]
    Capability(#[from] runner::capabilities::UnknownCapability),
    /// A user or group of an image cannot be found.
    #[error(transparent)]
    User(#[from] runner::passwd::UserError),
    /// The source of a bind mount is missing.
    #[error("the host path {} of a volume does not exist", .0.display())]
    NoVolumeSource(PathBuf),
    /// A bind mount is to stay connected with a mount of the host that is connected with none.
    #[error(
        "path {} is mounted on {} but it is not {wanted}; mount it so, or leave {name} out", path.display(),
        mount_point.display()
    )]
    NotConnected {
        /// The source.
        path: PathBuf,
        /// Where the mount is that it is on.
        mount_point: PathBuf,
        /// What it would have to be.
        wanted: &'static str,
        /// The option's name.
        name: &'static str,
    },
    /// A device that a container is to have is missing, or is none.
    #[error("{} is neither a device of this machine nor a directory with devices", .0.display())]
    NoHostDevice(PathBuf),
    /// A system call profile is of no use.
    #[error("cannot use the seccomp profile {}", path.display())]
    SeccompProfile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: runner::SeccompError,
    },
    /// A file that is far larger than any system call profile.
    #[error("the seccomp profile {} is larger than any profile is", .0.display())]
    LargeSeccompProfile(PathBuf),
    /// Something that a security module would have to do.
    #[error("containers cannot have the {module} option \"{option}\" yet")]
    SecurityModule {
        /// The module.
        module: &'static str,
        /// What it was to do.
        option: String,
    },
    /// An output could not be written.
    #[error("cannot write {what}")]
    Output {
        /// The file or stream.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The work was cancelled.
    #[error("interrupted")]
    Cancelled,
}

fn expired_fetch(expired: Expired) -> String {
    match expired {
        Expired::Total(limit) => format!("did not end within {limit:?} and was given up"),
        Expired::Idle(limit) => format!("received nothing for {limit:?} and was given up"),
    }
}

impl From<Cancelled> for EngineError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}
