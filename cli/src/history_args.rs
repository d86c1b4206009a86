//! The command line of `lap history` and `lap why`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::image_args::HistoryArgs;

// `lap history IMAGE` shows an image, as Docker's command does; its subcommands show builds, as buildx's do.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct AnyHistoryArgs {
    #[command(subcommand)]
    pub(crate) builds: Option<BuildHistoryCommand>,

    #[command(flatten)]
    pub(crate) image: Option<HistoryArgs>,
}

// What one does with builds that are remembered.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum BuildHistoryCommand {
    /// List the builds that are remembered
    Ls(BuildLsArgs),
    /// Show what a build did and how long it took
    Inspect(BuildInspectArgs),
    /// Print the complete log of a build
    Logs(BuildLogsArgs),
    /// Forget builds
    Rm(BuildRmArgs),
    /// Keep builds until they are removed, also when there are many newer ones
    Pin(BuildNames),
    /// Keep builds no longer than others
    Unpin(BuildNames),
    /// Write builds as an archive that lap history import reads on another machine
    Export(BuildExportArgs),
    /// Read builds that lap history export wrote
    Import(BuildImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BuildNames {
    /// Ids of builds or their beginnings; ^1 is the build before the newest
    #[arg(required = true)]
    pub(crate) builds: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildExportArgs {
    /// Ids of builds or their beginnings; ^1 is the build before the newest [default: the newest build]
    pub(crate) builds: Vec<String>,

    /// Write all builds that do not run
    #[arg(long, conflicts_with = "builds")]
    pub(crate) all: bool,

    /// Write to this file instead of standard output, which is also -
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Does nothing: a record is complete when its build is over
    #[arg(long, hide = true)]
    pub(crate) finalize: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BuildImportArgs {
    /// The archive; - is standard input [default: -]
    pub(crate) archive: Option<PathBuf>,

    /// The archive, as buildx spells it
    #[arg(short, long, value_name = "FILE", conflicts_with = "archive")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildLsArgs {
    /// Only builds that fit: status=error, ref!=ID, name=NAME, pinned=true, startedAt>24h, completedAt<DATE, duration>30s
    #[arg(long = "filter", value_name = "CONDITION")]
    pub(crate) filters: Vec<String>,

    /// Print with a template such as '{{.ID}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,

    /// Print whole lines
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BuildInspectArgs {
    /// The build's id or its beginning; ^1 is the build before the newest [default: the newest build]
    pub(crate) build: Option<String>,

    /// Print with a template such as '{{.Status}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,

    /// Write a trace for Perfetto or Chrome's tracing page to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildLogsArgs {
    /// The build's id or its beginning; ^1 is the build before the newest [default: the newest build]
    pub(crate) build: Option<String>,

    /// The form of the log
    #[arg(long, value_enum, default_value_t = LogForm::Plain)]
    pub(crate) progress: LogForm,
}

/// The forms of a log that is printed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogForm {
    /// Lines as the build printed them.
    Plain,
    /// BuildKit's status messages, one JSON document a line.
    Rawjson,
}

#[derive(Debug, Args)]
pub(crate) struct BuildRmArgs {
    /// Ids of builds or their beginnings; ^1 is the build before the newest
    #[arg(required_unless_present = "all")]
    pub(crate) builds: Vec<String>,

    /// Forget all builds that do not run
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// A step: its number as in 2/5 or build 2/5, or a part of its text [default: all steps that ran]
    pub(crate) step: Option<String>,

    /// The build's id or its beginning; ^1 is the build before the newest [default: the newest build]
    #[arg(long, value_name = "ID")]
    pub(crate) build: Option<String>,

    /// Print as json
    #[arg(long, value_parser = ["json"])]
    pub(crate) format: Option<String>,
}
