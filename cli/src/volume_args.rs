//! `lap volume` as typed. Names, short forms and meanings are Docker's.

use clap::{Args, Subcommand};

use crate::prune_args::PruneArgs;

#[derive(Debug, Args)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    pub(crate) command: VolumeCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum VolumeCommand {
    /// Make a volume
    Create(VolumeCreateArgs),
    /// List volumes
    #[command(alias = "list")]
    Ls(VolumeLsArgs),
    /// Show volumes in full
    Inspect(VolumeInspectArgs),
    /// Remove volumes, with all that is in them
    #[command(alias = "remove")]
    Rm(VolumeRmArgs),
    /// Remove all anonymous volumes that no container has
    Prune(VolumePruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct VolumeCreateArgs {
    /// Its name; a random one without
    pub(crate) name: Option<String>,

    /// What makes it; the only driver is local
    #[arg(short, long, default_value = engine::volumes::DRIVER, value_name = "DRIVER")]
    pub(crate) driver: String,

    /// A label, as NAME or NAME=VALUE
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,

    /// What to mount in place of a directory of the store: type=…, device=… and o=…, as for mount(8)
    #[arg(short, long = "opt", value_name = "NAME=VALUE")]
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeLsArgs {
    /// Only volumes that fit: dangling, driver, label or name
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,

    /// Print with a template such as '{{.Name}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,

    /// Print only names
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeInspectArgs {
    /// The volumes
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,

    /// Print with a template such as '{{.Mountpoint}}', or as json
    #[arg(short, long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeRmArgs {
    /// The volumes
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,

    /// Do not fail where there is no such volume
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolumePruneArgs {
    /// Remove all that no container has, not only anonymous ones
    #[arg(short, long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) common: PruneArgs,
}
