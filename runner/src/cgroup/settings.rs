//! What is written to which file of a group, from the resources of an OCI runtime spec. Pure.
//!
//! Source: OCI runtime-spec `config-linux.md`, "Control groups"; the kernel's documentation of each controller
//! (`cgroup-v1/memory.rst`, `scheduler/sched-bwc.rst`, `cgroup-v2.rst` …).

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
};

use super::hierarchy::{Controller, Version};

/// The period of `cpu.max` when only a quota is given, in microseconds; the kernel's own.
const DEFAULT_PERIOD: u64 = 100_000;

/// One value to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The controller whose group it is for.
    pub controller: Controller,
    /// The names that the file has, in the order of preference: they depend on the kernel's configuration.
    pub files: &'static [&'static str],
    /// What is written.
    pub value: String,
    /// What it is called in messages.
    pub what: &'static str,
    /// Nobody asked for it: where the kernel has no such file, it is left out.
    pub optional: bool,
}

/// The controllers that `resources` need.
pub fn controllers(resources: &LinuxResources) -> Vec<Controller> {
    Controller::ALL.into_iter().filter(|&one| !of(resources, one, Version::Two).is_empty()).collect()
}

/// Everything to be written, in an order that the kernel accepts. `version` tells which version a controller
/// is of; controllers without one are left out.
pub fn all(resources: &LinuxResources, version: impl Fn(Controller) -> Option<Version>) -> Vec<Setting> {
    let of_controller = |one| version(one).map_or_else(Vec::new, |version| of(resources, one, version));
    Controller::ALL.into_iter().flat_map(of_controller).collect()
}

fn of(resources: &LinuxResources, controller: Controller, version: Version) -> Vec<Setting> {
    let mut settings = Settings { controller, version, list: Vec::new() };
    match controller {
        Controller::Cpu => resources.cpu().iter().for_each(|cpu| settings.cpu(cpu)),
        Controller::Cpuset => resources.cpu().iter().for_each(|cpu| settings.cpuset(cpu)),
        Controller::Memory => resources.memory().iter().for_each(|memory| settings.memory(memory)),
        Controller::Pids => resources.pids().iter().for_each(|pids| settings.pids(*pids)),
        Controller::Io => resources.block_io().iter().for_each(|io| settings.io(io)),
    }
    settings.list
}

struct Settings {
    controller: Controller,
    version: Version,
    list: Vec<Setting>,
}

impl Settings {
    /// Adds a setting of the file in version 1 or the one in version 2.
    fn add(&mut self, what: &'static str, files: [&'static [&'static str]; 2], value: impl ToString) {
        let files = match self.version {
            Version::One => files[0],
            Version::Two => files[1],
        };
        let value = value.to_string();
        self.list.push(Setting { controller: self.controller, files, value, what, optional: false });
    }

    fn cpu(&mut self, cpu: &LinuxCpu) {
        let shares = cpu.shares().filter(|&shares| shares > 0);
        let quota = cpu.quota().filter(|&quota| quota != 0);
        let period = cpu.period().filter(|&period| period > 0);
        match self.version {
            Version::One => {
                if let Some(shares) = shares {
                    self.add("the processor shares", [&["cpu.shares"], &[]], shares);
                }
                // A quota is checked against the period, so that comes first.
                if let Some(period) = period {
                    self.add("the processor period", [&["cpu.cfs_period_us"], &[]], period);
                }
                if let Some(quota) = quota {
                    self.add("the processor quota", [&["cpu.cfs_quota_us"], &[]], quota);
                }
            }
            Version::Two => {
                if let Some(shares) = shares {
                    self.add("the processor shares", [&[], &["cpu.weight"]], weight_of_shares(shares));
                }
                if quota.is_some() || period.is_some() {
                    let value =
                        format!("{} {}", limit(quota.unwrap_or(-1)), period.unwrap_or(DEFAULT_PERIOD));
                    self.add("the processor quota", [&[], &["cpu.max"]], value);
                }
            }
        }
    }

    fn cpuset(&mut self, cpu: &LinuxCpu) {
        for cpus in cpu.cpus().iter().filter(|cpus| !cpus.is_empty()) {
            self.add("the processors", [&["cpuset.cpus"]; 2], cpus);
        }
        for mems in cpu.mems().iter().filter(|mems| !mems.is_empty()) {
            self.add("the memory nodes", [&["cpuset.mems"]; 2], mems);
        }
    }

    fn memory(&mut self, memory: &LinuxMemory) {
        let most = memory.limit().filter(|&most| most != 0);
        if let Some(most) = most {
            let value = match self.version {
                Version::One => most.to_string(),
                Version::Two => limit(most),
            };
            self.add("the memory limit", [&["memory.limit_in_bytes"], &["memory.max"]], value);
        }
        if let Some(reserved) = memory.reservation().filter(|&reserved| reserved != 0) {
            let files: [&[&str]; 2] = [&["memory.soft_limit_in_bytes"], &["memory.low"]];
            self.add("the memory reservation", files, reserved);
        }
        if let Some(both) = memory.swap().filter(|&both| both != 0) {
            let value = match self.version {
                Version::One => both.to_string(),
                // There the limit is of swap space alone.
                Version::Two if both < 0 => limit(both),
                Version::Two => both.saturating_sub(most.unwrap_or(0).max(0)).max(0).to_string(),
            };
            let files: [&[&str]; 2] = [&["memory.memsw.limit_in_bytes"], &["memory.swap.max"]];
            self.add("the limit of memory and swap", files, value);
            // Twice the memory is what is set when nobody asks; not every kernel counts swap space.
            let usual = most.is_some_and(|most| both == most.saturating_mul(2));
            self.list.last_mut().into_iter().for_each(|last| last.optional = usual);
        }
        if let Some(swappiness) = memory.swappiness() {
            self.add("the swappiness", [&["memory.swappiness"]; 2], swappiness);
        }
        if memory.disable_oom_killer() == Some(true) {
            self.add("the switch for killing when memory runs out", [&["memory.oom_control"]; 2], 1);
        }
    }

    fn pids(&mut self, pids: LinuxPids) {
        if pids.limit() != 0 {
            self.add("the limit of processes", [&["pids.max"]; 2], limit(pids.limit()));
        }
    }

    fn io(&mut self, io: &LinuxBlockIo) {
        if let Some(weight) = io.weight().filter(|&weight| weight > 0) {
            let files: [&[&str]; 2] =
                [&["blkio.weight", "blkio.bfq.weight"], &["io.weight", "io.bfq.weight"]];
            let value = match self.version {
                Version::One => u64::from(weight),
                Version::Two => weight_of_io(weight),
            };
            self.add("the weight of block devices", files, value);
        }
        let throttles: [(_, &[&str], &str, &'static str); 4] = [
            (
                io.throttle_read_bps_device(),
                &["blkio.throttle.read_bps_device"],
                "rbps",
                "a device's reading rate",
            ),
            (
                io.throttle_write_bps_device(),
                &["blkio.throttle.write_bps_device"],
                "wbps",
                "a device's writing rate",
            ),
            (
                io.throttle_read_iops_device(),
                &["blkio.throttle.read_iops_device"],
                "riops",
                "a device's reads",
            ),
            (
                io.throttle_write_iops_device(),
                &["blkio.throttle.write_iops_device"],
                "wiops",
                "a device's writes",
            ),
        ];
        for (devices, first, second, what) in throttles {
            for device in devices.iter().flatten() {
                self.throttle(what, device, first, second);
            }
        }
    }

    fn throttle(
        &mut self,
        what: &'static str,
        device: &LinuxThrottleDevice,
        first: &'static [&'static str],
        second: &str,
    ) {
        let number = format!("{}:{}", device.major(), device.minor());
        let value = match self.version {
            Version::One => format!("{number} {}", device.rate()),
            Version::Two => format!("{number} {second}={}", device.rate()),
        };
        self.add(what, [first, &["io.max"]], value);
    }
}

/// A limit in the words of version 2, where `max` is none at all.
fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Shares of version 1 (2 to 262144, usually 1024) as a weight of version 2 (1 to 10000, usually 100): the
/// range onto the range, as the runtime-spec's implementations agreed to.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// A weight of block devices of version 1 (10 to 1000) as one of version 2 (1 to 10000).
fn weight_of_io(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{
        LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder,
        LinuxThrottleDeviceBuilder,
    };

    use super::*;

    /// `file=value` of everything that is written.
    fn written(resources: &LinuxResources, version: Version) -> Vec<String> {
        let settings = all(resources, |_| Some(version));
        settings.into_iter().map(|setting| format!("{}={}", setting.files[0], setting.value)).collect()
    }

    #[test]
    fn nothing_asked_is_nothing_written() {
        assert!(controllers(&LinuxResources::default()).is_empty());
        let mut zeros = LinuxResources::default();
        zeros.set_memory(Some(LinuxMemoryBuilder::default().limit(0).swap(0).build().unwrap()));
        zeros.set_cpu(Some(LinuxCpuBuilder::default().shares(0u64).quota(0).build().unwrap()));
        assert!(controllers(&zeros).is_empty());
    }

    #[test]
    fn memory_counts_swap_in_version_1_and_not_in_version_2() {
        let memory = LinuxMemoryBuilder::default().limit(100).swap(250).reservation(50).build().unwrap();
        let mut resources = LinuxResources::default();
        resources.set_memory(Some(memory));
        assert_eq!(controllers(&resources), [Controller::Memory]);
        assert_eq!(
            written(&resources, Version::One),
            ["memory.limit_in_bytes=100", "memory.soft_limit_in_bytes=50", "memory.memsw.limit_in_bytes=250"]
        );
        assert_eq!(
            written(&resources, Version::Two),
            ["memory.max=100", "memory.low=50", "memory.swap.max=150"]
        );
        resources.set_memory(Some(LinuxMemoryBuilder::default().limit(-1).swap(-1).build().unwrap()));
        assert_eq!(written(&resources, Version::Two), ["memory.max=max", "memory.swap.max=max"]);
    }

    #[test]
    fn twice_the_memory_may_stay_unset() {
        let optional = |swap| {
            let memory = LinuxMemoryBuilder::default().limit(100).swap(swap).build().unwrap();
            let mut resources = LinuxResources::default();
            resources.set_memory(Some(memory));
            all(&resources, |_| Some(Version::One)).last().unwrap().optional
        };
        assert!(optional(200) && !optional(250));
    }

    #[test]
    fn processors_are_limited_by_share_quota_and_set() {
        let cpu = LinuxCpuBuilder::default().shares(1024u64).quota(50_000).cpus("0-1").build().unwrap();
        let mut resources = LinuxResources::default();
        resources.set_cpu(Some(cpu));
        assert_eq!(controllers(&resources), [Controller::Cpu, Controller::Cpuset]);
        assert_eq!(
            written(&resources, Version::One),
            ["cpu.shares=1024", "cpu.cfs_quota_us=50000", "cpuset.cpus=0-1"]
        );
        assert_eq!(
            written(&resources, Version::Two),
            ["cpu.weight=39", "cpu.max=50000 100000", "cpuset.cpus=0-1"]
        );
    }

    #[test]
    fn processes_and_devices_are_limited() {
        let device =
            |rate: u64| LinuxThrottleDeviceBuilder::default().major(8).minor(0).rate(rate).build().unwrap();
        let io = LinuxBlockIoBuilder::default()
            .weight(500u16)
            .throttle_read_bps_device([device(1000)])
            .throttle_write_iops_device([device(7)])
            .build()
            .unwrap();
        let mut resources = LinuxResources::default();
        resources
            .set_block_io(Some(io))
            .set_pids(Some(LinuxPidsBuilder::default().limit(-1).build().unwrap()));
        assert_eq!(
            written(&resources, Version::One),
            [
                "pids.max=max",
                "blkio.weight=500",
                "blkio.throttle.read_bps_device=8:0 1000",
                "blkio.throttle.write_iops_device=8:0 7"
            ]
        );
        assert_eq!(
            written(&resources, Version::Two),
            ["pids.max=max", "io.weight=4950", "io.max=8:0 rbps=1000", "io.max=8:0 wiops=7"]
        );
    }

    #[test]
    fn weights_keep_the_ends_of_their_ranges() {
        assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 39, 10_000]);
        assert_eq!([10, 1000].map(weight_of_io), [1, 10_000]);
        assert_eq!((weight_of_shares(0), weight_of_io(5000)), (1, 10_000));
    }
}
