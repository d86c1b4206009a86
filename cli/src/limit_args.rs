//! The flags that limit how much of the machine containers use. Names and meanings are Docker's.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use clap::Args;
use engine::request::{DeviceRate, Limits, Location};

use crate::error::CliError;
use crate::units;

/// The least memory that a process gets along with, as in Docker.
pub(crate) const LEAST_MEMORY: u64 = 6 << 20;

/// The period that `--cpus` is counted in, in microseconds.
pub(crate) const CPU_PERIOD: u64 = 100_000;

// The limits that a container of `lap run` and the steps of a build have.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// The most memory, for example 512m
    #[arg(short, long, value_name = "BYTES", value_parser = units::size)]
    pub(crate) memory: Option<u64>,

    /// The most memory and swap space together; -1 is no limit [default: twice the memory]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = units::size_or_unlimited)]
    pub(crate) memory_swap: Option<i64>,

    /// Weight of processor time against other containers; 1024 is usual
    #[arg(short, long, value_name = "WEIGHT")]
    pub(crate) cpu_shares: Option<u64>,

    /// Microseconds of processor time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,

    /// The period of --cpu-quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,

    /// Processors that may be used, as 0-2,7
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,

    /// Memory nodes that may be used, as 0-2,7
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,

    /// The control group that those of containers are made in, as /path, path or slice:prefix:name
    #[arg(long, value_name = "GROUP", value_parser = Location::parse)]
    pub(crate) cgroup_parent: Option<Location>,
}

// The limits that only `lap run` has.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct RunLimitArgs {
    #[command(flatten)]
    pub(crate) common: LimitArgs,

    /// How many processors, for example 1.5
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["cpu_quota", "cpu_period"])]
    pub(crate) cpus: Option<f64>,

    /// Microseconds of processor time for real-time processes in each of their periods
    #[arg(long = "cpu-rt-runtime", value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(crate) realtime_runtime: Option<i64>,

    /// The period of --cpu-rt-runtime, in microseconds
    #[arg(long = "cpu-rt-period", value_name = "MICROSECONDS")]
    pub(crate) realtime_period: Option<u64>,

    /// Memory that the kernel tries to leave to the container when memory is short
    #[arg(long, value_name = "BYTES", value_parser = units::size)]
    pub(crate) memory_reservation: Option<u64>,

    /// How gladly memory is swapped out, from 0 to 100; -1 is as the machine does
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = clap::value_parser!(i64).range(-1..=100))]
    pub(crate) memory_swappiness: Option<i64>,

    /// Let processes wait at the memory limit instead of killing them
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,

    /// Of older Dockers; kernels count this memory with the other, and it limits nothing
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) kernel_memory: Option<String>,

    /// The most processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,

    /// Weight of block devices against other containers, from 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u16).range(10..=1000))]
    pub(crate) blkio_weight: Option<u16>,

    /// Weight of a block device against other containers, as /dev/sda:100
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    pub(crate) blkio_weight_device: Vec<String>,

    /// How much may be read of a device a second, as /dev/sda:10mb
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub(crate) device_read_bps: Vec<String>,

    /// How much may be written to a device a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub(crate) device_write_bps: Vec<String>,

    /// How often a device may be read a second, as /dev/sda:1000
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_read_iops: Vec<String>,

    /// How often a device may be written to a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_write_iops: Vec<String>,
}

impl LimitArgs {
    /// Takes a limit as `--resource` of `docker buildx build` has it: `memory=2g`.
    pub(crate) fn set(&mut self, flag: &str, text: &str) -> Result<(), CliError> {
        let hint = "write memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus or cpuset-mems, = and a value";
        let invalid = |why: &str| CliError::usage(format!("invalid {flag} \"{text}\": {why}"), hint);
        let (name, value) = text.split_once('=').ok_or_else(|| invalid("it has no value"))?;
        let no_number = |_| invalid("that is no number");
        match name {
            "memory" => self.memory = Some(units::size(value).map_err(invalid)?),
            "memory-swap" => self.memory_swap = Some(units::size_or_unlimited(value).map_err(invalid)?),
            "cpu-shares" => self.cpu_shares = Some(value.parse().map_err(no_number)?),
            "cpu-period" => self.cpu_period = Some(value.parse().map_err(no_number)?),
            "cpu-quota" => self.cpu_quota = Some(value.parse().map_err(no_number)?),
            "cpuset-cpus" => self.cpuset_cpus = Some(value.to_owned()),
            "cpuset-mems" => self.cpuset_mems = Some(value.to_owned()),
            _ => return Err(invalid("there is no such resource")),
        }
        Ok(())
    }

    /// What the flags mean.
    pub(crate) fn limits(&self) -> Result<Limits, CliError> {
        if let Some(memory) = self.memory.filter(|memory| (1..LEAST_MEMORY).contains(memory)) {
            let message = format!("--memory of {memory} bytes is too little for any process");
            return Err(CliError::usage(message, "the least is 6m"));
        }
        if let Some(both) = self.memory_swap.filter(|&both| both > 0) {
            let Some(memory) = self.memory else {
                let message = "--memory-swap limits memory and swap together".to_owned();
                return Err(CliError::usage(message, "give --memory as well"));
            };
            if both.unsigned_abs() < memory {
                let message = "--memory-swap is less than --memory, which it includes".to_owned();
                return Err(CliError::usage(message, "give more, or -1 for no limit of swap space"));
            }
        }
        Ok(Limits {
            memory: self.memory,
            memory_swap: self.memory_swap,
            cpu_shares: self.cpu_shares,
            cpu_quota: self.cpu_quota,
            cpu_period: self.cpu_period,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            ..Limits::default()
        })
    }
}

impl RunLimitArgs {
    /// What the flags mean.
    pub(crate) fn limits(&self) -> Result<Limits, CliError> {
        let common = self.common.limits()?;
        let number = |text: &str| {
            text.parse()
                .map_err(|_| CliError::usage(format!("\"{text}\" is not a number"), "for example 1000"))
        };
        Ok(Limits {
            memory_reservation: self.memory_reservation,
            memory_swappiness: self.memory_swappiness.and_then(|number| u64::try_from(number).ok()),
            disable_oom_killer: self.oom_kill_disable,
            cpu_quota: self.cpus.map(quota).transpose()?.or(common.cpu_quota),
            cpu_period: self.cpus.map(|_| CPU_PERIOD).or(common.cpu_period),
            realtime_runtime: self.realtime_runtime,
            realtime_period: self.realtime_period,
            pids: self.pids_limit,
            blkio_weight: self.blkio_weight,
            device_weights: rates(&self.blkio_weight_device, weight)?,
            read_bps: rates(&self.device_read_bps, bytes)?,
            write_bps: rates(&self.device_write_bps, bytes)?,
            read_iops: rates(&self.device_read_iops, number)?,
            write_iops: rates(&self.device_write_iops, number)?,
            ..common
        })
    }
}

fn bytes(text: &str) -> Result<u64, CliError> {
    units::size(text).map_err(|hint| CliError::usage(format!("\"{text}\" is not a size"), hint))
}

fn weight(text: &str) -> Result<u64, CliError> {
    let number = text.parse().ok().filter(|weight| (10..=1000).contains(weight));
    number.ok_or_else(|| CliError::usage(format!("\"{text}\" is no weight"), "give 10 to 1000"))
}

/// The share of the period that is so many processors.
pub(crate) fn quota(cpus: f64) -> Result<i64, CliError> {
    // The kernel takes no less than a millisecond (`scheduler/sched-bwc.rst`).
    if !(0.01..=1e6).contains(&cpus) {
        let message = format!("--cpus of {cpus} is no number of processors");
        return Err(CliError::usage(message, "give at least 0.01"));
    }
    Ok((cpus * CPU_PERIOD as f64) as i64)
}

fn rates(
    texts: &[String],
    number: impl Fn(&str) -> Result<u64, CliError>,
) -> Result<Vec<DeviceRate>, CliError> {
    texts.iter().map(|text| rate(text, &number)).collect()
}

/// `device:rate`
fn rate(text: &str, number: impl Fn(&str) -> Result<u64, CliError>) -> Result<DeviceRate, CliError> {
    let hint = "write the path of a block device and a rate, for example /dev/sda:10mb";
    let (path, rate) = text
        .rsplit_once(':')
        .ok_or_else(|| CliError::usage(format!("invalid device rate \"{text}\""), hint))?;
    let metadata = Path::new(path)
        .metadata()
        .map_err(|error| CliError::usage(format!("cannot use the device {path}: {error}"), hint))?;
    if !metadata.file_type().is_block_device() {
        return Err(CliError::usage(format!("{path} is not a block device"), hint));
    }
    let number_of_device = metadata.rdev();
    Ok(DeviceRate {
        major: u32::try_from(nix::sys::stat::major(number_of_device)).unwrap_or(u32::MAX),
        minor: u32::try_from(nix::sys::stat::minor(number_of_device)).unwrap_or(u32::MAX),
        rate: number(rate)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags as clap reads them.
    #[derive(Debug, clap::Parser)]
    struct Flags {
        #[command(flatten)]
        limits: LimitArgs,
    }

    /// `None` when the flags are refused, by clap or after it.
    fn limits(flags: &[&str]) -> Option<Limits> {
        use clap::Parser as _;
        Flags::try_parse_from([&["lap"], flags].concat()).ok()?.limits.limits().ok()
    }

    #[test]
    fn memory_is_checked_as_docker_does() {
        let memory = |memory: &str| limits(&["--memory", memory]);
        let both = |memory: &str, swap: &str| limits(&["--memory", memory, "--memory-swap", swap]);
        assert_eq!(memory("64m").unwrap().memory, Some(64 << 20));
        assert_eq!(both("64m", "-1").unwrap().memory_swap, Some(-1));
        assert_eq!(both("64m", "128m").unwrap().memory_swap, Some(128 << 20));
        for bad in [memory("5m"), memory("much"), both("64m", "63m"), both("64m", "x")] {
            assert_eq!(bad, None);
        }
        assert_eq!(limits(&["--memory-swap", "1g"]), None);
    }

    #[test]
    fn resources_are_the_same_limits() {
        let mut args = LimitArgs::default();
        for text in ["memory=64m", "memory-swap=-1", "cpu-quota=-1", "cpu-period=5000", "cpuset-cpus=0-1"] {
            args.set("--resource", text).unwrap();
        }
        let limits = args.limits().unwrap();
        assert_eq!(
            (limits.memory, limits.memory_swap, limits.cpu_quota),
            (Some(64 << 20), Some(-1), Some(-1))
        );
        assert_eq!((limits.cpu_period, limits.cpuset_cpus.as_deref()), (Some(5000), Some("0-1")));
        for bad in ["memory", "memory=much", "cpu-shares=x", "pids=7", "=1", ""] {
            assert!(args.set("--resource", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn processors_become_a_quota() {
        let cpus = |cpus| RunLimitArgs { cpus: Some(cpus), ..RunLimitArgs::default() }.limits();
        let limits = cpus(1.5).unwrap();
        assert_eq!((limits.cpu_quota, limits.cpu_period), (Some(150_000), Some(100_000)));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_of_block_devices() {
        for bad in ["/dev/null:1mb", "/no/such:1mb", "/dev/sda", "/tmp:1"] {
            assert!(rate(bad, bytes).is_err(), "{bad}");
        }
    }
}
