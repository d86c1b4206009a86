//! The command line of `lap debug`, and what `lap build` does when a step fails.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use engine::isolation::Wanted;

// `lap debug [BUILD]` starts a shell; its subcommands do the rest.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DebugArgs {
    #[command(subcommand)]
    pub(crate) action: Option<DebugCommand>,

    /// The build's id or its beginning [default: the newest build of which a failed step is kept]
    pub(crate) build: Option<String>,

    /// A command with arguments instead of the step's shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,

    /// Give a secret again that the step had: id=NAME,src=FILE or id=NAME,env=VARIABLE
    #[arg(long = "secret", value_name = "SECRET")]
    pub(crate) secrets: Vec<String>,

    /// Give an ssh agent or keys again: default, or NAME=SOCKET, or NAME=KEYFILE,…
    #[arg(long = "ssh", value_name = "NAME[=PATH]")]
    pub(crate) ssh: Vec<String>,

    /// How strongly the process is isolated: auto, oci, rootless or chroot
    #[arg(long, value_name = "MODE", default_value = "auto", env = "LAPSTRAKE_ISOLATION", hide_env = true)]
    pub(crate) isolation: Wanted,
}

// What one does with a failed step besides starting a shell in it.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum DebugCommand {
    /// Copy a file or directory out of a failed step
    Cp(DebugCpArgs),
    /// List what the failed step had added (A), changed (C) and deleted (D)
    Diff(DebugDiffArgs),
    /// Pack a failed step as an image for another machine: an OCI archive
    Export(DebugExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DebugCpArgs {
    /// What to copy: a path in the newest build of which a failed step is kept, or in that of this id
    #[arg(value_name = "[BUILD:]PATH")]
    pub(crate) source: String,

    /// Where to: into a directory that is there, else to this name
    #[arg(value_name = "DEST")]
    pub(crate) destination: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DebugDiffArgs {
    /// The build's id or its beginning [default: the newest build of which a failed step is kept]
    pub(crate) build: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DebugExportArgs {
    /// The build's id or its beginning [default: the newest build of which a failed step is kept]
    pub(crate) build: Option<String>,

    /// The archive, for lap load, docker load or skopeo [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

// What `lap build` does when a step fails.
#[derive(Debug, Args)]
pub(crate) struct FailureArgs {
    /// When the command of a RUN fails, open a shell where it did; needs a terminal
    #[arg(long, value_enum, value_name = "ACTION", help_heading = "When a step fails")]
    pub(crate) on_error: Option<OnError>,

    /// Copy files of the RUN that fails: PATH=DEST, or DEST for all that it made or changed
    ///
    /// PATH may have wildcards; what is missing is warned of. The build has failed all the same.
    #[arg(long, value_name = "[PATH=]DEST", help_heading = "When a step fails")]
    pub(crate) output_on_failure: Vec<String>,
}

/// `--on-error`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnError {
    /// Open a shell in the step that failed.
    Shell,
}
