//! The command line of `lap cache-mount`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct CacheMountArgs {
    #[command(subcommand)]
    pub(crate) command: CacheMountCommand,
}

// What one does with the directories of `RUN --mount=type=cache`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum CacheMountCommand {
    /// List cache mounts
    #[command(alias = "list")]
    Ls(CacheMountLsArgs),
    /// Show cache mounts in full, as JSON
    Inspect(CacheMountNames),
    /// Remove cache mounts that no step uses
    Rm(CacheMountRmArgs),
    /// Write what is in a cache mount as a tar archive
    Export(CacheMountExportArgs),
    /// Make a cache mount of a tar archive
    Import(CacheMountImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CacheMountLsArgs {
    /// Print with a template such as '{{.ID}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,

    /// Print only names
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CacheMountNames {
    /// Ids of cache mounts, as in --mount=type=cache,id=…, or beginnings of their names
    #[arg(required = true)]
    pub(crate) mounts: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CacheMountRmArgs {
    /// Ids of cache mounts, as in --mount=type=cache,id=…, or beginnings of their names
    #[arg(required_unless_present = "all")]
    pub(crate) mounts: Vec<String>,

    /// Remove all that no step uses
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CacheMountExportArgs {
    /// The id of the cache mount, as in --mount=type=cache,id=…, or the beginning of its name
    pub(crate) mount: String,

    /// The archive to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CacheMountImportArgs {
    /// The archive, plain or compressed
    pub(crate) archive: PathBuf,

    /// The id of the cache mount, as in --mount=type=cache,id=…
    #[arg(long)]
    pub(crate) id: String,

    /// Owner of the directory itself
    #[arg(long, default_value_t = 0)]
    pub(crate) uid: u32,

    /// Group of the directory itself
    #[arg(long, default_value_t = 0)]
    pub(crate) gid: u32,

    /// Permission bits of the directory itself, octal
    #[arg(long, default_value = "0755", value_parser = octal)]
    pub(crate) mode: u32,
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "permission bits are octal, for example 0755".to_owned())
}
