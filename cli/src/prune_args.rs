//! The flags of the commands that show and free space, and look after the store. Those that Docker or buildx
//! have as well have their names, short forms and meanings.

use clap::{Args, Subcommand};

use crate::args::FormatArgs;
use crate::live_args::EventsArgs;
use crate::units;

#[derive(Debug, Args)]
pub(crate) struct SystemArgs {
    #[command(subcommand)]
    pub(crate) command: SystemCommand,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Remove what networks have left behind and nobody uses
    #[arg(long, visible_alias = "remove")]
    pub(crate) fix: bool,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum SystemCommand {
    /// Look for what does not work here, or could be better, and say what to do about it
    Doctor(DoctorArgs),
    /// Show how much space is used
    Df(DfArgs),
    /// Remove what nobody needs: containers that do not run, networks, images, build cache
    Prune(SystemPruneArgs),
    /// Show what happens to containers, images, volumes and networks, as it happens
    Events(EventsArgs),
    /// Show the machine and the store
    Info(FormatArgs),
    /// Start the containers that are to run whenever the machine does
    ///
    /// Those with the restart policy always, and those with unless-stopped that nobody has stopped. For the start of
    /// the machine: there is no daemon that would do it.
    StartContainers(StartContainersArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StartContainersArgs {
    /// Start nothing; print a unit for systemd that starts them with the machine
    #[arg(long)]
    pub(crate) systemd_unit: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// Show every image and part of the build cache
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Print with a template such as '{{.Type}}', or as json
    #[arg(long, conflicts_with = "verbose")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DuArgs {
    /// Only records that fit, for example type=exec.cachemount
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,

    /// Show all that is known of every record
    #[arg(long)]
    pub(crate) verbose: bool,

    /// Print with a template such as '{{.ID}}', or as json
    #[arg(long, conflicts_with = "verbose")]
    pub(crate) format: Option<String>,
}

// What all of them take.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Only what fits, for example until=24h
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BuilderPruneArgs {
    /// Remove also what images need, so that their steps run again
    #[arg(short, long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) common: PruneArgs,

    /// Always keep this much, for example 10GB
    #[arg(long, value_name = "BYTES", value_parser = units::size, alias = "keep-storage")]
    pub(crate) reserved_space: Option<u64>,

    /// Keep no more than this
    #[arg(long, value_name = "BYTES", value_parser = units::size)]
    pub(crate) max_used_space: Option<u64>,

    /// Remove until so much of the disk is free
    #[arg(long, value_name = "BYTES", value_parser = units::size)]
    pub(crate) min_free_space: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ImagePruneArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) common: PruneArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SystemPruneArgs {
    /// Remove all images that no container uses, not only those without a name, and all build cache
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Remove anonymous volumes that no container shows, too
    #[arg(long)]
    pub(crate) volumes: bool,

    #[command(flatten)]
    pub(crate) common: PruneArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum StoreCommand {
    /// Look for damage; the exit status is 1 if there is some
    Check(CheckArgs),
    /// Keep layers in another form: packed, as one file each that is mounted, or as directories
    ///
    /// Images, digests and the build cache stay as they are. What uses a layer goes on; a directory that a running container or
    /// a build uses is left, and said to be, as is a layer that cannot be packed. The exit status is 1 then.
    Convert(ConvertArgs),
    /// Remove what the rules of the configuration let go
    Gc(GcArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// The form
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) to: ConvertForm,
    /// Only the layers of these images; without any, all layers of the store
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `--to`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ConvertForm {
    /// Directories.
    Dir,
    /// One file each that is mounted.
    Packed,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Not within a minute of the last time
    #[arg(long)]
    pub(crate) if_due: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Forget what is damaged, so that it is built or pulled again; the exit status is then 0
    #[arg(long)]
    pub(crate) repair: bool,
}
