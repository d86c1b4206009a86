//! `lap compose` as typed. Names, short forms and meanings are those of Docker Compose.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct ComposeArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,

    #[command(subcommand)]
    pub(crate) command: ComposeCommand,
}

/// Which project is meant.
#[derive(Debug, Args)]
pub(crate) struct ProjectArgs {
    /// A Compose file, or - for standard input; later ones change what earlier ones say [default: compose.yaml here
    /// or above, and compose.override.yaml]
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// The project's name [default: as the files say, or that of their directory]
    #[arg(short = 'p', long = "project-name", value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Use the services of this profile, too; * is all
    #[arg(long = "profile", value_name = "NAME")]
    pub(crate) profiles: Vec<String>,

    /// A file with variables for the Compose files [default: .env of the project's directory]
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,

    /// The directory that paths are relative to [default: that of the first file]
    #[arg(long = "project-directory", value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ComposeCommand {
    /// Show the project as one file, with everything filled in
    #[command(alias = "convert")]
    Config(ConfigArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// yaml or json
    #[arg(long, default_value = "yaml", value_parser = ["yaml", "json"])]
    pub(crate) format: String,

    /// Print nothing: only look for mistakes
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print the names of the services
    #[arg(long = "services", conflicts_with_all = ["volumes", "images", "profiles", "networks"])]
    pub(crate) list_services: bool,

    /// Print the names of the volumes
    #[arg(long, conflicts_with_all = ["images", "profiles", "networks"])]
    pub(crate) volumes: bool,

    /// Print the names of the networks
    #[arg(long, conflicts_with_all = ["images", "profiles"])]
    pub(crate) networks: bool,

    /// Print the names of the images
    #[arg(long, conflicts_with = "profiles")]
    pub(crate) images: bool,

    /// Print the names of the profiles
    #[arg(long)]
    pub(crate) profiles: bool,

    /// Print by what a service's containers are known to be up to date; * is all services
    #[arg(long, value_name = "SERVICE")]
    pub(crate) hash: Option<String>,

    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
