//! The flags of `lap build` that say how its steps are run.

use std::path::PathBuf;

use clap::Args;

use crate::units;

#[derive(Debug, Args)]
pub(crate) struct StepArgs {
    /// Add a line to /etc/hosts of every RUN
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub(crate) add_hosts: Vec<String>,

    /// Size of /dev/shm of every RUN, for example 256m
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) shm_size: Option<u64>,

    /// Limit what every RUN may use: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT")]
    pub(crate) ulimits: Vec<String>,

    /// Where devices for RUN --device are described [default: /etc/cdi, /var/run/cdi, /etc/buildkit/cdi]
    #[arg(long = "cdi-spec-dir", value_name = "DIR")]
    pub(crate) cdi_spec_dirs: Vec<PathBuf>,

    /// When a step fails, still do all that does not depend on it, and tell all failures at the end
    #[arg(long)]
    pub(crate) keep_going: bool,
}
