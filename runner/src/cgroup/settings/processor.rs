//! Processor time, and which processors.

use oci_spec::runtime::LinuxCpu;

use super::{Settings, limit};
use crate::cgroup::hierarchy::Version;

/// The period of `cpu.max` when only a quota is given, in microseconds; the kernel's own.
const DEFAULT_PERIOD: u64 = 100_000;

impl Settings {
    pub(super) fn cpu(&mut self, cpu: &LinuxCpu) {
        let shares = cpu.shares().filter(|&shares| shares > 0);
        match self.version {
            Version::One => {
                if let Some(shares) = shares {
                    self.add("the processor shares", [&["cpu.shares"], &[]], shares);
                }
                self.bandwidth(cpu);
            }
            Version::Two => {
                if let Some(shares) = shares {
                    self.add("the processor shares", [&[], &["cpu.weight"]], weight_of_shares(shares));
                }
                self.bandwidth(cpu);
            }
        }
        self.realtime(cpu);
        if let Some(burst) = cpu.burst() {
            self.add("the processor burst", [&["cpu.cfs_burst_us"], &["cpu.max.burst"]], burst);
        }
        if let Some(idle) = cpu.idle() {
            self.add("the idle class", [&["cpu.idle"]; 2], idle);
        }
    }

    /// How much time in how long a period. A quota is checked against the period, so that comes first.
    fn bandwidth(&mut self, cpu: &LinuxCpu) {
        let quota = cpu.quota().filter(|&quota| quota != 0);
        let period = cpu.period().filter(|&period| period > 0);
        match self.version {
            Version::One => {
                if let Some(period) = period {
                    self.add("the processor period", [&["cpu.cfs_period_us"], &[]], period);
                }
                if let Some(quota) = quota {
                    self.add("the processor quota", [&["cpu.cfs_quota_us"], &[]], quota);
                }
            }
            Version::Two => {
                if quota.is_some() || period.is_some() {
                    let (quota, period) = (quota.unwrap_or(-1), period.unwrap_or(DEFAULT_PERIOD));
                    let value = format!("{} {period}", limit(quota));
                    self.add("the processor quota", [&[], &["cpu.max"]], value);
                }
            }
        }
    }

    fn realtime(&mut self, cpu: &LinuxCpu) {
        if let Some(period) = cpu.realtime_period().filter(|&period| period > 0) {
            self.add("the realtime period", [&["cpu.rt_period_us"], &[]], period);
        }
        if let Some(runtime) = cpu.realtime_runtime().filter(|&runtime| runtime != 0) {
            self.add("the realtime quota", [&["cpu.rt_runtime_us"], &[]], runtime);
        }
    }

    pub(super) fn cpuset(&mut self, cpu: &LinuxCpu) {
        for cpus in cpu.cpus().iter().filter(|cpus| !cpus.is_empty()) {
            self.add("the processors", [&["cpuset.cpus"]; 2], cpus);
        }
        for mems in cpu.mems().iter().filter(|mems| !mems.is_empty()) {
            self.add("the memory nodes", [&["cpuset.mems"]; 2], mems);
        }
    }
}

/// Shares of version 1 (2 to 262144, usually 1024) as a weight of version 2 (1 to 10000, usually 100): the
/// range onto the range, as the runtime-spec's implementations agreed to.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxCpuBuilder, LinuxResources};

    use super::super::tests::written;
    use super::super::{Controller, controllers};
    use super::*;

    #[test]
    fn processors_are_limited_by_share_quota_and_set() {
        let cpu = LinuxCpuBuilder::default().shares(1024u64).quota(50_000).cpus("0-1").build().unwrap();
        let mut resources = LinuxResources::default();
        resources.set_cpu(Some(cpu));
        assert_eq!(controllers(&resources), [Controller::Cpu, Controller::Cpuset]);
        let first = ["cpu.shares=1024", "cpu.cfs_quota_us=50000", "cpuset.cpus=0-1"];
        assert_eq!(written(&resources, Version::One), first);
        let second = ["cpu.weight=39", "cpu.max=50000 100000", "cpuset.cpus=0-1"];
        assert_eq!(written(&resources, Version::Two), second);
    }

    #[test]
    fn rarer_settings_have_their_files() {
        let cpu = LinuxCpuBuilder::default().period(5000u64).burst(7u64).idle(1).realtime_runtime(9);
        let mut resources = LinuxResources::default();
        resources.set_cpu(Some(cpu.build().unwrap()));
        let first = ["cpu.cfs_period_us=5000", "cpu.rt_runtime_us=9", "cpu.cfs_burst_us=7", "cpu.idle=1"];
        assert_eq!(written(&resources, Version::One), first);
        // Version 2 has no file for the second, which is how it is missed by name.
        let second = ["cpu.max=max 5000", "cpu.rt_runtime_us=9", "cpu.max.burst=7", "cpu.idle=1"];
        assert_eq!(written(&resources, Version::Two), second);
    }

    #[test]
    fn weights_keep_the_ends_of_their_ranges() {
        assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 39, 10_000]);
        assert_eq!(weight_of_shares(0), 1);
    }
}
