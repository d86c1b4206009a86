//! The command line of the commands for images: `lap image …`, `images`, `pull`, `load`, `save`, `import`, `tag`, `rmi`, `history`,
//! `explore`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::BuildArgs;
use crate::docker_args::ContentTrustArg;
use crate::prune_args::ImagePruneArgs;

#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Only images of this repository, or this name:tag
    pub(crate) repository: Option<String>,

    /// Show all images; all are shown anyway, the flag is for scripts
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Print only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,

    /// Show platforms and layers, and which of them images share
    #[arg(long, conflicts_with_all = ["quiet", "format", "digests"])]
    pub(crate) tree: bool,

    /// Only images that fit: dangling=true, label=NAME[=VALUE], until=24h, before=IMAGE, since=IMAGE or
    /// reference=PATTERN
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,

    /// Print with a template such as '{{.Repository}}:{{.Tag}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The image
    pub(crate) image: String,

    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    pub(crate) platform: Option<String>,

    /// Pull all tags of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,

    /// Print only the image's name
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    content_trust: ContentTrustArg,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The image, by the name that it is pushed under
    pub(crate) image: String,

    /// Push all tags of the repository that the store has
    #[arg(short, long)]
    pub(crate) all_tags: bool,

    /// Push only the image of this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,

    /// Print only the image's name
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    content_trust: ContentTrustArg,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// A tar archive or an OCI layout directory [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Load only these platforms of each image
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,

    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The images
    #[arg(required = true)]
    pub(crate) images: Vec<String>,

    /// The archive to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Save only these platforms of each image
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,

    /// Form of the archive; docker-archive is an OCI layout as well
    #[arg(long, value_enum, default_value = "docker-archive")]
    pub(crate) format: ArchiveFormat,
}

/// `--format` of `lap save`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// What Docker and Podman load; also an OCI layout.
    DockerArchive,
    /// Only an OCI layout.
    OciArchive,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The archive, which may be compressed, or - for standard input
    #[arg(value_name = "FILE | URL | -")]
    pub(crate) source: String,

    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) name: Option<String>,

    /// Apply an instruction of Dockerfiles to the image; may be repeated
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub(crate) changes: Vec<String>,

    /// The comment in the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    pub(crate) platform: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// The image
    pub(crate) source: String,
    /// Its new name
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// The images
    #[arg(required = true)]
    pub(crate) images: Vec<String>,

    /// Remove an image by id even if it has several names, and the last name of one that is in use
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Remove only the image of this platform, of one that has several
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,

    /// Keep parents without a name; there are none, the flag is for scripts
    #[arg(long)]
    no_prune: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The image of this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,

    /// The image
    pub(crate) image: String,

    /// Print whole lines
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// Print only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print sizes and dates for people
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) human: bool,

    /// Print with a template such as '{{.CreatedBy}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExploreArgs {
    /// The image
    pub(crate) image: String,

    /// Print everything as JSON instead of opening a browser
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Show an image in full
    Inspect(InspectArgs),
    /// List images
    #[command(alias = "list")]
    Ls(ImagesArgs),
    /// Show how an image was made
    History(HistoryArgs),
    /// Download an image from a registry
    Pull(PullArgs),
    /// Upload an image to a registry
    Push(PushArgs),
    /// Load images from a tar archive, an OCI layout, or standard input
    Load(LoadArgs),
    /// Save images to a tar archive
    Save(SaveArgs),
    /// Make an image of a root filesystem in a tar archive
    Import(ImportArgs),
    /// Show what every layer of an image adds, overwrites and deletes, and what is wasted
    Explore(ExploreArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images
    #[command(alias = "remove")]
    Rm(RmiArgs),
    /// Remove images that nobody needs
    Prune(ImagePruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The images
    #[arg(required = true)]
    pub(crate) images: Vec<String>,

    /// Print with a template such as '{{.Id}}', or as json
    #[arg(short, long)]
    pub(crate) format: Option<String>,

    /// Ask the registry, and fetch no layers
    #[arg(long)]
    pub(crate) remote: bool,

    /// With --remote, the platform of the image
    #[arg(long, value_name = "OS/ARCH", requires = "remote")]
    pub(crate) platform: Option<String>,
}
