//! Limits as the resources of an OCI runtime spec.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemory,
    LinuxPids, LinuxPidsBuilder, LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
    LinuxWeightDevice, LinuxWeightDeviceBuilder,
};

use crate::request::{DeviceAccess, DeviceKind, DeviceRate, DeviceRule, Limits, MountKind, RunRequest};

/// The resources that a request means. Devices that every container has are not in their list.
pub(crate) fn of(request: &RunRequest) -> LinuxResources {
    let mut resources = of_limits(&request.limits);
    resources.set_devices(Some(devices(request)));
    resources
}

/// The resources that limits mean.
pub(crate) fn of_limits(limits: &Limits) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources
        .set_memory(Some(memory(limits)))
        .set_cpu(Some(cpu(limits)))
        .set_pids(limits.pids.and_then(pids))
        .set_block_io(Some(block_io(limits)));
    resources
}

fn devices(request: &RunRequest) -> Vec<LinuxDeviceCgroup> {
    if request.privileged {
        return every_device();
    }
    let mut rules = Vec::new();
    for mount in &request.mounts {
        if let MountKind::Device { nodes, access, .. } = &mount.kind {
            rules.extend(nodes.iter().map(|node| DeviceRule {
                kind: Some(node.device.kind),
                major: Some(node.device.major),
                minor: Some(node.device.minor),
                access: *access,
            }));
        }
    }
    rules.iter().chain(&request.device_rules).filter_map(device).collect()
}

/// The rule that allows everything.
pub(crate) fn every_device() -> Vec<LinuxDeviceCgroup> {
    let all = DeviceRule { kind: None, major: None, minor: None, access: DeviceAccess::ALL };
    device(&all).into_iter().collect()
}

fn device(rule: &DeviceRule) -> Option<LinuxDeviceCgroup> {
    let kind = match rule.kind {
        None => LinuxDeviceType::A,
        Some(DeviceKind::Block) => LinuxDeviceType::B,
        Some(DeviceKind::Character) => LinuxDeviceType::C,
    };
    let DeviceAccess { read, write, make } = rule.access;
    let letters = [(read, 'r'), (write, 'w'), (make, 'm')];
    let access: String = letters.into_iter().filter_map(|(has, letter)| has.then_some(letter)).collect();
    // Access to nothing would be read as access to everything.
    if access.is_empty() {
        return None;
    }
    let number = |number: Option<u32>| number.map_or(-1, i64::from);
    let builder = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(access);
    builder.major(number(rule.major)).minor(number(rule.minor)).build().ok()
}

fn memory(limits: &Limits) -> LinuxMemory {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let most = limits.memory.map(bytes);
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(most)
        .set_swap(limits.memory_swap.or(most.map(|most| most.saturating_mul(2))))
        .set_reservation(limits.memory_reservation.map(bytes))
        .set_swappiness(limits.memory_swappiness)
        .set_disable_oom_killer(limits.disable_oom_killer.then_some(true));
    memory
}

fn cpu(limits: &Limits) -> LinuxCpu {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_shares)
        .set_quota(limits.cpu_quota)
        .set_period(limits.cpu_period)
        .set_realtime_runtime(limits.realtime_runtime)
        .set_realtime_period(limits.realtime_period)
        .set_cpus(limits.cpuset_cpus.clone())
        .set_mems(limits.cpuset_mems.clone());
    cpu
}

/// Never `None`: the builder only refuses when a field is missing. So do the others.
fn pids(most: i64) -> Option<LinuxPids> {
    LinuxPidsBuilder::default().limit(most).build().ok()
}

fn block_io(limits: &Limits) -> LinuxBlockIo {
    let rates = |rates: &[DeviceRate]| Some(rates.iter().filter_map(rate).collect());
    let mut io = LinuxBlockIo::default();
    io.set_weight(limits.blkio_weight)
        .set_weight_device(Some(limits.device_weights.iter().filter_map(weight).collect()))
        .set_throttle_read_bps_device(rates(&limits.read_bps))
        .set_throttle_write_bps_device(rates(&limits.write_bps))
        .set_throttle_read_iops_device(rates(&limits.read_iops))
        .set_throttle_write_iops_device(rates(&limits.write_iops));
    io
}

fn weight(weight: &DeviceRate) -> Option<LinuxWeightDevice> {
    let (major, minor) = (i64::from(weight.major), i64::from(weight.minor));
    let weight = u16::try_from(weight.rate).unwrap_or(u16::MAX);
    LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(weight).build().ok()
}

fn rate(rate: &DeviceRate) -> Option<LinuxThrottleDevice> {
    let (major, minor) = (i64::from(rate.major), i64::from(rate.minor));
    LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate.rate).build().ok()
}
