//! The command line of `lap manifest` and `lap search`.

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct ManifestArgs {
    #[command(subcommand)]
    pub(crate) command: ManifestCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ManifestCommand {
    /// Show a manifest or index: of a list that was made here, else of its registry
    Inspect(ManifestInspectArgs),
    /// Make a list of images that are in registries, one for each platform
    Create(ManifestCreateArgs),
    /// Change what a list says of an image's platform
    Annotate(ManifestAnnotateArgs),
    /// Push a list as an index
    Push(ManifestPushArgs),
    /// Remove lists
    Rm(ManifestRmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ManifestInspectArgs {
    /// A list, if the image follows; else the image
    #[arg(required = true, num_args = 1..=2, value_name = "[LIST] NAME")]
    pub(crate) names: Vec<String>,

    /// Tell the name and the descriptor as well
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// What is insecure is said in the configuration of registries; the flag is for scripts
    #[arg(long)]
    insecure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestCreateArgs {
    /// The list
    pub(crate) list: String,

    /// Its images
    #[arg(required = true)]
    pub(crate) images: Vec<String>,

    /// Add to a list that exists
    #[arg(short, long)]
    pub(crate) amend: bool,

    /// What is insecure is said in the configuration of registries; the flag is for scripts
    #[arg(long)]
    insecure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestAnnotateArgs {
    /// The list
    pub(crate) list: String,
    /// The image in it
    pub(crate) image: String,

    /// Architecture
    #[arg(long)]
    pub(crate) arch: Option<String>,

    /// Operating system
    #[arg(long)]
    pub(crate) os: Option<String>,

    /// Variant of the architecture
    #[arg(long)]
    pub(crate) variant: Option<String>,

    /// Version of the operating system
    #[arg(long)]
    pub(crate) os_version: Option<String>,

    /// What the operating system has to have
    #[arg(long, value_delimiter = ',')]
    pub(crate) os_features: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestPushArgs {
    /// The list
    pub(crate) list: String,

    /// Remove the list here after that
    #[arg(short, long)]
    pub(crate) purge: bool,

    /// What is insecure is said in the configuration of registries; the flag is for scripts
    #[arg(long)]
    insecure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestRmArgs {
    /// The lists
    #[arg(required = true)]
    pub(crate) lists: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// What to look for, on Docker Hub or as REGISTRY/WORD
    pub(crate) term: String,

    /// At most so many
    #[arg(long, default_value_t = 25, value_name = "COUNT")]
    pub(crate) limit: usize,

    /// Only those that fit: stars=COUNT or is-official=true; may be repeated
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,

    /// Print with a template such as '{{.Name}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,

    /// Print whole descriptions
    #[arg(long)]
    pub(crate) no_trunc: bool,
}
