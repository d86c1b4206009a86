//! The commands for containers as they live, as typed. Names, short forms and meanings are Docker's.

use clap::Args;
use engine::containers::Update;
use engine::request::{Limits, RestartPolicy};

use crate::error::CliError;
use crate::limit_args::{LEAST_MEMORY, quota};
use crate::units;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The container, then options for ps [default: -ef]
    // One list, so that what begins with a dash after the container is an option of ps.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, num_args = 1.., value_name = "CONTAINER [PS OPTIONS]")]
    pub(crate) container_and_options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The containers [default: those that run]
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,

    /// Show all containers, not only those that run
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Show the figures once, and end
    #[arg(long)]
    pub(crate) no_stream: bool,

    /// Print whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// Print with a template such as '{{.Name}}: {{.CPUPerc}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Also what has happened from then on: an age such as 10m, or a date such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,

    /// Only up to then; what is in the past shows what has happened, and ends
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,

    /// Only what fits: type, event, container, image, volume, network, label or scope
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,

    /// Print with a template such as '{{.Type}} {{.Action}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,

    #[command(flatten)]
    pub(crate) changes: UpdateFlags,
}

// What is to be changed.
#[derive(Debug, Default, Args)]
pub(crate) struct UpdateFlags {
    /// The most memory, for example 512m
    #[arg(short, long, value_name = "BYTES", value_parser = units::size)]
    memory: Option<u64>,

    /// The most memory and swap space together; -1 is no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = units::size_or_unlimited)]
    memory_swap: Option<i64>,

    /// Memory that the kernel tries to leave to the container when memory is short
    #[arg(long, value_name = "BYTES", value_parser = units::size)]
    memory_reservation: Option<u64>,

    /// Of older Dockers; kernels count this memory with the other, and it limits nothing
    #[arg(long, value_name = "BYTES", hide = true)]
    kernel_memory: Option<String>,

    /// How many processors, for example 1.5
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["cpu_quota", "cpu_period"])]
    cpus: Option<f64>,

    /// Weight of processor time against other containers; 1024 is usual
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,

    /// Microseconds of processor time in each period; -1 is no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,

    /// The period of --cpu-quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,

    /// Microseconds of processor time for real-time processes in each of their periods
    #[arg(long = "cpu-rt-runtime", value_name = "MICROSECONDS", allow_hyphen_values = true)]
    realtime_runtime: Option<i64>,

    /// The period of --cpu-rt-runtime, in microseconds
    #[arg(long = "cpu-rt-period", value_name = "MICROSECONDS")]
    realtime_period: Option<u64>,

    /// Processors that may be used, as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Memory nodes that may be used, as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// The most processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,

    /// Weight of block devices against other containers, from 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u16).range(10..=1000))]
    blkio_weight: Option<u16>,

    /// When to start the container again: no, on-failure[:count], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
}

impl UpdateFlags {
    /// What the flags mean.
    pub(crate) fn update(&self) -> Result<Update, CliError> {
        if let Some(memory) = self.memory.filter(|memory| (1..LEAST_MEMORY).contains(memory)) {
            let message = format!("--memory of {memory} bytes: minimum memory limit allowed is 6MB");
            return Err(CliError::usage(message, "the least is 6m"));
        }
        let quota = self.cpus.map(quota).transpose()?;
        let limits = Limits {
            memory: self.memory,
            memory_swap: self.memory_swap,
            memory_reservation: self.memory_reservation,
            cpu_shares: self.cpu_shares,
            cpu_quota: quota.or(self.cpu_quota),
            cpu_period: quota.map(|_| crate::limit_args::CPU_PERIOD).or(self.cpu_period),
            realtime_runtime: self.realtime_runtime,
            realtime_period: self.realtime_period,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit,
            blkio_weight: self.blkio_weight,
            ..Limits::default()
        };
        let update = Update { limits, restart: self.restart };
        if update == Update::default() && self.kernel_memory.is_none() {
            let message = "you must provide one or more flags when using this command.".to_owned();
            return Err(CliError::failed_with_hint(message, "lap update --help lists them"));
        }
        Ok(update)
    }
}
