//! The commands for files of containers as typed. Names, short forms and meanings are Docker's.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// What to copy: CONTAINER:PATH, a path of this machine, or - for a tar archive on standard input
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,

    /// Where to: CONTAINER:PATH, a path of this machine, or - for a tar archive on standard output
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: String,

    /// Keep owners; copies belong to root in a container, and to you outside, without it
    #[arg(short, long)]
    pub(crate) archive: bool,

    /// Copy what a link leads to, if SOURCE is one
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,

    /// Do not tell what was copied
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The container
    pub(crate) container: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The container
    pub(crate) container: String,

    /// Write to this file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// The container
    pub(crate) container: String,

    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) name: Option<String>,

    /// Who makes the image
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) author: Option<String>,

    /// Apply an instruction of Dockerfiles to the image; may be repeated
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub(crate) changes: Vec<String>,

    /// The comment in the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// Pause the container while the image is made
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) pause: bool,

    /// Let the container go on while the image is made; the same as --pause=false
    #[arg(long)]
    pub(crate) no_pause: bool,
}
