//! The command line as typed. Names, short forms and meanings are Docker's.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use engine::isolation::Wanted;
use engine::request::ContextModes;

use crate::attest_args::AttestArgs;
use crate::cache_mount_args::CacheMountArgs;
use crate::compose_args::ComposeArgs;
use crate::container_args::{AnyInspectArgs, ContainerAction, ContainerArgs, PsArgs};
use crate::daemon_args::DaemonArgs;
use crate::debug_args::{DebugArgs, FailureArgs};
use crate::docker_args::{DockerBuildArgs, DockerRunArgs};
use crate::history_args::{AnyHistoryArgs, WhyArgs};
use crate::image_args::{
    ExploreArgs, ImageArgs, ImagesArgs, ImportArgs, LoadArgs, PullArgs, PushArgs, RmiArgs, SaveArgs, TagArgs,
};
use crate::isolation_args::IsolationArgs;
use crate::key_args::KeyArgs;
use crate::layer_args::{LayerFormArg, LayerMountArg};
use crate::limit_args::{LimitArgs, RunLimitArgs};
use crate::live_args::EventsArgs;
use crate::manifest_args::{ManifestArgs, SearchArgs};
use crate::network_args::NetworkArgs;
use crate::network_commands::NetworkCommandArgs;
use crate::prune_args::{BuilderPruneArgs, DuArgs, StoreArgs, SystemArgs};
use crate::reference_args::{CompletionArgs, ManArgs};
use crate::registry_args::{DoctorArgs, LoginArgs, LogoutArgs, RegistryArgs};
use crate::render::Mode;
use crate::step_args::StepArgs;
use crate::supervision_args::SupervisionArgs;
use crate::units;
use crate::volume_args::VolumeArgs;

/// Build Dockerfiles, keep images and run them. No daemon needed.
#[derive(Debug, Parser)]
#[command(name = "lap", version, args_override_self = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Directory of the store [default: /var/lib/lapstrake as root, else $XDG_DATA_HOME/lapstrake]
    #[arg(long, global = true, env = "LAPSTRAKE_ROOT", hide_env_values = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// How a new store keeps layers [default: overlay where it can be mounted]
    #[arg(
        long,
        global = true,
        env = "LAPSTRAKE_STORAGE_DRIVER",
        hide_env_values = true,
        value_name = "DRIVER"
    )]
    pub(crate) storage_driver: Option<StorageDriver>,

    /// How layers are kept that are pulled, loaded or copied [default: auto]
    #[arg(
        long,
        global = true,
        env = "LAPSTRAKE_LAYER_FORM",
        hide_env_values = true,
        hide_short_help = true,
        value_name = "FORM"
    )]
    pub(crate) layer_form: Option<LayerFormArg>,

    /// How layers of one file are mounted [default: as the kernel can]
    #[arg(
        long,
        global = true,
        env = "LAPSTRAKE_LAYER_MOUNT",
        hide_env_values = true,
        hide_short_help = true,
        value_name = "WAY"
    )]
    pub(crate) layer_mount: Option<LayerMountArg>,

    /// Refuse layers and archives that unpack to more [default: 1TiB]
    #[arg(
        long,
        global = true,
        env = "LAPSTRAKE_MAX_LAYER_SIZE",
        hide_env_values = true,
        hide_short_help = true,
        value_name = "BYTES",
        value_parser = units::size
    )]
    pub(crate) max_layer_size: Option<u64>,

    /// Refuse layers and archives with more entries [default: 10000000]
    #[arg(
        long,
        global = true,
        env = "LAPSTRAKE_MAX_LAYER_ENTRIES",
        hide_env_values = true,
        hide_short_help = true,
        value_name = "COUNT"
    )]
    pub(crate) max_layer_entries: Option<u64>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// `--storage-driver`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StorageDriver {
    /// Layers hold changes, and the kernel's overlayfs merges them.
    Overlay,
    /// Every layer is a full copy. Works everywhere.
    Native,
}

/// `--context-modes`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ContextModesArg {
    /// As they are on the disk.
    Keep,
    /// 0755 for directories and what its owner may execute, else 0644.
    Git,
}

impl From<ContextModesArg> for ContextModes {
    fn from(modes: ContextModesArg) -> Self {
        match modes {
            ContextModesArg::Keep => Self::Keep,
            ContextModesArg::Git => Self::Git,
        }
    }
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    #[command(flatten)]
    OnContainers(ContainerAction),
    /// List containers
    Ps(PsArgs),
    /// Show containers or images in full
    Inspect(AnyInspectArgs),
    /// Manage containers
    Container(ContainerArgs),
    /// List images
    Images(ImagesArgs),
    /// Download an image from a registry
    Pull(PullArgs),
    /// Upload an image to a registry
    Push(PushArgs),
    /// Look at manifests in registries, and make indexes of several images
    Manifest(ManifestArgs),
    /// Find images in a registry
    Search(SearchArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Forget a login
    Logout(LogoutArgs),
    /// Load images from a tar archive, an OCI layout, or standard input
    Load(LoadArgs),
    /// Save images to a tar archive
    Save(SaveArgs),
    /// Make an image of a root filesystem in a tar archive
    Import(ImportArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Show how an image was made, or the builds that are remembered
    History(AnyHistoryArgs),
    /// Show what every layer of an image adds, overwrites and deletes, and what is wasted
    Explore(ExploreArgs),
    /// Tell why the steps of a build ran
    Why(WhyArgs),
    /// Look at a step that failed, as it left everything
    Debug(DebugArgs),
    /// Manage images
    Image(ImageArgs),
    /// Run the services that a Compose file describes
    Compose(ComposeArgs),
    /// Manage volumes: directories that outlive containers
    Volume(VolumeArgs),
    /// Manage networks that containers find each other in
    Network(NetworkCommandArgs),
    /// Manage the directories of RUN --mount=type=cache
    #[command(name = "cache-mount")]
    CacheMount(CacheMountArgs),
    /// Build images, and manage the build cache
    #[command(alias = "buildx")]
    Builder(BuilderArgs),
    /// Serve the API of BuildKit, for buildx and others
    Daemon(Box<DaemonArgs>),
    /// Manage the store
    System(SystemArgs),
    /// Find out what does not work: on this machine, or with a registry
    Doctor(DoctorArgs),
    /// Look after the files of the store
    Store(StoreArgs),
    /// Be a registry
    Registry(RegistryArgs),
    /// Manage the keys that sign what builders share
    Key(KeyArgs),
    /// Create, start and delete containers for containerd, Podman or Docker: an OCI runtime
    #[command(name = "oci-runtime", disable_help_flag = true)]
    OciRuntime {
        /// See lap oci-runtime --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Show what happens to containers, images, volumes and networks, as it happens
    Events(EventsArgs),
    /// Show the version
    Version(FormatArgs),
    /// Show the machine and the store
    Info(FormatArgs),
    /// Print what a shell reads to complete commands and flags
    Completion(CompletionArgs),
    /// Write a manual page for every command
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Print with a template such as '{{.Name}}', or as json
    #[arg(short, long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) docker: DockerBuildArgs,

    /// Directory with the files to build from, a git repository, the URL of an archive or Dockerfile, or -
    /// for an archive or Dockerfile on standard input
    #[arg(value_name = "PATH | URL | -")]
    pub(crate) context: String,

    /// Name of the image, as name:tag, or STAGE=name:tag with several targets; may be repeated
    #[arg(short, long = "tag", value_name = "[STAGE=]NAME")]
    pub(crate) tags: Vec<String>,

    /// The Dockerfile, its URL, or - for standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<String>,

    /// Build this stage, not the last; several are built at once
    #[arg(long = "target", value_name = "STAGE", value_delimiter = ',')]
    pub(crate) targets: Vec<String>,

    /// Set an ARG; without a value it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,

    /// Add a label to the image
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,

    #[command(flatten)]
    pub(crate) attest: AttestArgs,

    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Do not remember the build: it is not in the history, nothing explains why its steps ran, and what a failed step
    /// left is not kept
    #[arg(long, conflicts_with_all = ["on_error", "output_on_failure"])]
    pub(crate) no_record: bool,

    /// Find results that other builders have made: type=records,ref=REPOSITORY, src=DIRECTORY or s3=BUCKET,
    /// type=reapi,endpoint=grpc://HOST:PORT, type=registry|local|gha|s3|azblob, or a name in a registry; may be repeated
    #[arg(long, value_name = "PLACE")]
    pub(crate) cache_from: Vec<String>,

    /// Tell other builders of results: type=records,ref=REPOSITORY, dest=DIRECTORY or s3=BUCKET,
    /// type=reapi,endpoint=grpc://HOST:PORT, or type=registry|local|gha|s3|azblob|inline; may be repeated
    #[arg(long, value_name = "PLACE")]
    pub(crate) cache_to: Vec<String>,

    /// Wait for a step that another builder with the same --cache-from and --cache-to makes, at most so long
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10m",
        value_parser = units::time
    )]
    pub(crate) cache_wait: Option<Duration>,

    /// Sign the results that other builders are told of with this key, which lap key generate makes
    #[arg(long, value_name = "FILE", env = "LAPSTRAKE_CACHE_KEY", hide_env_values = true)]
    pub(crate) cache_key: Option<PathBuf>,

    /// Use only those results of other builders that this file allows, by who signed them
    #[arg(long, value_name = "FILE", env = "LAPSTRAKE_CACHE_POLICY", hide_env_values = true)]
    pub(crate) cache_policy: Option<PathBuf>,

    /// Share cache mounts as well, in the first scope; the others are where they are looked for if it has none
    ///
    /// What RUN --mount=type=cache leaves is written to the places of --cache-to when the build has succeeded, in chunks
    /// of which only new ones are sent. A builder without a cache mount begins with what those of --cache-from have. A
    /// scope is usually a branch, as in --cache-mounts=my-branch,main.
    #[arg(
        long,
        value_name = "SCOPE,...",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "main",
        value_delimiter = ','
    )]
    pub(crate) cache_mounts: Vec<String>,

    /// When to ask registries for base images: always (also --pull alone), newer, missing or never
    ///
    /// With newer, what is here will do where they cannot be asked.
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_value = "missing",
        default_missing_value = "always"
    )]
    pub(crate) pull: String,

    /// How to show progress
    #[arg(long, value_enum, default_value_t, env = "BUILDKIT_PROGRESS", hide_env = true)]
    pub(crate) progress: Mode,

    /// Where the result goes: [target=STAGE,]type=oci|docker|tar|local,dest=PATH; or a directory; or - for a tar; or
    /// type=image,name=NAME,push=true
    ///
    /// type=registry is type=image,push=true: the image is in the store and in the registries of its names. With
    /// push-by-digest=true it gets no tag there. oci-mediatypes=false writes Docker's kinds of documents.
    /// Layers of oci, docker and image are written as compression=uncompressed|gzip|zstd says, at
    /// compression-level=N; those of base images only with force-compression=true. With SOURCE_DATE_EPOCH,
    /// files are given no later time unless rewrite-timestamp=false.
    #[arg(short, long = "output", value_name = "OUTPUT")]
    pub(crate) outputs: Vec<String>,

    /// Note something on the image: NAME=VALUE, with index, manifest, manifest-descriptor or index-descriptor, a platform in
    /// brackets, and a colon in front for other documents than the manifest; may be repeated
    #[arg(long = "annotation", value_name = "[PLACE[[PLATFORM]]:]NAME=VALUE")]
    pub(crate) annotations: Vec<String>,

    /// Push the image; the same as --output type=registry
    #[arg(long)]
    pub(crate) push: bool,

    /// Keep the image in the store, where it is without this flag, too, unless it goes elsewhere
    #[arg(long)]
    pub(crate) load: bool,

    /// Write the image's id to a file; with several targets, a line with the id for each
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Write what was made to a file, as JSON; with several targets, by their names
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// Network of RUN: default (the host's), bridge (an address of its own), host or none
    #[arg(long, default_value = "default", value_name = "MODE")]
    pub(crate) network: String,

    /// Platforms to build for; several give an index
    #[arg(
        long = "platform",
        value_name = "OS/ARCH",
        value_delimiter = ',',
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    pub(crate) platforms: Vec<String>,

    /// Run every step of these stages again
    #[arg(long = "no-cache-filter", value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,

    /// Permission bits of files of the context: as they are, or as git knows them, so that checkouts under different umasks
    /// give the same image [default: keep]
    #[arg(long, value_enum, value_name = "MODES")]
    pub(crate) context_modes: Option<ContextModesArg>,

    /// Give a name to more content: NAME=PATH, NAME=docker-image://IMAGE or NAME=oci-layout://PATH[:TAG]
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) build_contexts: Vec<String>,

    /// A secret for RUN --mount=type=secret: id=NAME,src=FILE or id=NAME,env=VARIABLE
    #[arg(long = "secret", value_name = "SECRET")]
    pub(crate) secrets: Vec<String>,

    /// An ssh agent or keys for RUN --mount=type=ssh: default, or NAME=SOCKET, or NAME=KEYFILE,…
    #[arg(long = "ssh", value_name = "NAME[=PATH]")]
    pub(crate) ssh: Vec<String>,

    /// Let steps do more: network.host, security.insecure or device
    #[arg(long = "allow", value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,

    #[command(flatten)]
    pub(crate) steps: StepArgs,

    /// How strongly containers are isolated: auto, oci, rootless or chroot
    ///
    /// auto is the strongest that works here; any other is that one or none. lap info says which one it is, and
    /// lap system doctor how to get more.
    #[arg(long, value_name = "MODE", default_value = "auto", env = "LAPSTRAKE_ISOLATION", hide_env = true)]
    pub(crate) isolation: Wanted,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    /// Limit what every RUN may use, as memory=2g or cpu-quota=50000
    #[arg(long = "resource", value_name = "NAME=VALUE", help_heading = "Limits")]
    pub(crate) resources: Vec<String>,

    /// Limit what all RUN of the build may use together, as memory=4g
    #[arg(long = "total-resource", value_name = "NAME=VALUE", help_heading = "Limits")]
    pub(crate) total_resources: Vec<String>,

    #[command(flatten)]
    pub(crate) failure: FailureArgs,

    /// Print only the image's id
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// What to do: build, check (look for mistakes), outline (list what the target takes), or targets
    ///
    /// All but build run no step and print their answer on standard output, with `,format=json` as JSON.
    /// The exit status of check is 1 if something was found, unless `,ignorestatus` is added.
    #[arg(long, value_name = "METHOD[,OPTIONS]")]
    pub(crate) call: Option<String>,

    /// Look for mistakes in the Dockerfile without building it; the same as --call=check
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct RunArgs {
    /// The image, then a command with arguments that replaces the image's CMD
    // One list, so that flags after the image belong to the command.
    #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE [COMMAND]")]
    pub(crate) image_and_command: Vec<String>,

    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,

    /// Pass standard input to the container
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Give the container a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// Set an environment variable; without a value it is taken from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// User, as name|uid[:group|gid]
    #[arg(short, long)]
    pub(crate) user: Option<String>,

    /// Show a volume or a path of the host: [VOLUME:|/HOST/PATH:]/PATH[:ro]
    ///
    /// Without a source it is a volume of the container's own. One that is empty begins with what the image has at this
    /// path, unless :nocopy is added.
    #[arg(short, long = "volume", value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,

    /// The same by names, also for images: type=volume|bind|tmpfs|image,source=…,target=PATH[,readonly]
    #[arg(long = "mount", value_name = "MOUNT")]
    pub(crate) mounts: Vec<String>,

    /// Show the volumes and paths of the host that another container shows, at the same places: CONTAINER[:ro]
    #[arg(long, value_name = "CONTAINER")]
    pub(crate) volumes_from: Vec<String>,

    /// What makes volumes that are not there yet; the only driver is local
    #[arg(long, value_name = "DRIVER")]
    pub(crate) volume_driver: Option<String>,

    /// Replaces the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,

    /// Name of the container
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Host name in the container
    #[arg(short = 'h', long)]
    pub(crate) hostname: Option<String>,

    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    pub(crate) platform: Option<String>,

    /// When to ask the registry for the image: always, newer, missing or never
    #[arg(long, default_value = "missing", value_name = "WHEN")]
    pub(crate) pull: String,

    /// Set environment variables from a file of NAME=VALUE lines
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) isolation: IsolationArgs,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) limits: RunLimitArgs,

    #[command(flatten)]
    pub(crate) supervision: SupervisionArgs,

    #[command(flatten)]
    pub(crate) docker: DockerRunArgs,

    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct BuilderArgs {
    #[command(subcommand)]
    pub(crate) command: BuilderCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum BuilderCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Remove build cache
    Prune(BuilderPruneArgs),
    /// Show how much space the build cache takes, record by record
    Du(DuArgs),
}
