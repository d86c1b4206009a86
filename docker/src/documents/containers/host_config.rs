//! `HostConfig` of `lap inspect`: what a container was given of the machine, by Docker's names.

use engine::containers::{Container, ContainerSettings, MountPoint};
use engine::network::Publish;
use engine::request::{DeviceKind, DeviceRate, DeviceRule, Limits, ResourceLimit};
use serde_json::{Map, Value, json};

/// Processor time of one processor, in billionths.
const WHOLE_CPU: i64 = 1_000_000_000;

/// The whole of it.
pub(super) fn document(container: &Container, settings: &ContainerSettings) -> Value {
    let mut value = asked(container);
    let restart = settings.restart;
    value["Links"] = list(settings.links.clone());
    value["RestartPolicy"] = json!({ "Name": restart.name(), "MaximumRetryCount": restart.most() });
    let paths = |chosen: &Option<Vec<String>>, usual: &[&str]| match (container.document.privileged, chosen) {
        (true, _) => json!([]),
        (false, Some(chosen)) => json!(chosen),
        (false, None) => json!(usual),
    };
    value["MaskedPaths"] = paths(&settings.system_paths.masked, &MASKED);
    value["ReadonlyPaths"] = paths(&settings.system_paths.read_only, &READ_ONLY);
    if settings.init {
        value["Init"] = true.into();
    }
    let parts = [of_rights(settings), of_namespaces(container, settings), of_limits(&settings.limits)];
    if let Some(fields) = value.as_object_mut() {
        fields.extend(parts.into_iter().flatten());
    }
    value
}

/// What was asked for and is not about rights or limits.
fn asked(container: &Container) -> Value {
    let asked = &container.document;
    let bind = |point: &MountPoint| {
        let access = if point.writable { "" } else { ":ro" };
        let source = point.volume.clone().unwrap_or_else(|| point.source.display().to_string());
        format!("{source}:{}{access}", point.target)
    };
    let mut value = json!({
        "Binds": list(asked.mounts.iter().filter(|point| point.image.is_none()).map(bind).collect()),
        "LogConfig": { "Type": asked.log.driver.name(), "Config": asked.log.given },
        "NetworkMode": asked.network,
        "PortBindings": port_bindings(container),
        "AutoRemove": asked.remove,
        "VolumesFrom": list(asked.volumes_from.clone()),
        "Dns": asked.resolver.servers,
        "DnsSearch": asked.resolver.search,
        "DnsOptions": asked.resolver.options,
        "ExtraHosts": list(asked.hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        "PublishAllPorts": asked.publish_all,
        "Privileged": asked.privileged,
        "ReadonlyRootfs": asked.read_only,
        "Isolation": "",
        "Annotations": asked.annotations,
        "Runtime": "lap",
    });
    let images: Vec<Value> = asked.mounts.iter().filter_map(image_mount).collect();
    if !images.is_empty() {
        value["Mounts"] = images.into();
    }
    value
}

/// An image that a container shows, as `HostConfig.Mounts` has it. `Binds` has no words for it.
fn image_mount(point: &MountPoint) -> Option<Value> {
    let image = point.image.as_ref()?;
    let mut value = json!({ "Type": "image", "Source": image.name, "Target": point.target });
    if let Some(path) = &point.subpath {
        value["ImageOptions"] = json!({ "Subpath": path });
    }
    Some(value)
}

/// Paths of `/proc` and `/sys` that containers do not see (Docker's list).
pub(crate) const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];

/// Paths of `/proc` that containers cannot write to (Docker's list).
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `null` for nothing, as Go writes a list that was never made.
fn list<T: Into<Value>>(items: Vec<T>) -> Value {
    if items.is_empty() { Value::Null } else { Value::Array(items.into_iter().map(Into::into).collect()) }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn of_rights(settings: &ContainerSettings) -> Map<String, Value> {
    let device = |(host, inside, access): &(std::path::PathBuf, String, String)| json!({ "PathOnHost": host.display().to_string(), "PathInContainer": inside, "CgroupPermissions": access });
    let limit = |limit: &ResourceLimit| {
        // What is unlimited is -1, as in Docker.
        let number = |value: u64| i64::try_from(value).unwrap_or(-1);
        json!({ "Name": format!("{:?}", limit.resource).to_lowercase(), "Soft": number(limit.soft), "Hard": number(limit.hard) })
    };
    fields(json!({
        "CapAdd": list(settings.cap_add.clone()),
        "CapDrop": list(settings.cap_drop.clone()),
        "SecurityOpt": list(settings.security.clone()),
        "GroupAdd": list(settings.groups.iter().map(u32::to_string).collect()),
        "Devices": settings.devices.iter().map(device).collect::<Vec<_>>(),
        "DeviceCgroupRules": list(settings.device_rules.iter().map(rule).collect()),
        "DeviceRequests": null,
        "Ulimits": settings.rlimits.iter().map(limit).collect::<Vec<_>>(),
        "OomScoreAdj": settings.oom_score_adjustment,
    }))
}

/// A rule as `--device-cgroup-rule` takes it.
fn rule(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        None => 'a',
        Some(DeviceKind::Block) => 'b',
        Some(DeviceKind::Character) => 'c',
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = [(rule.access.read, 'r'), (rule.access.write, 'w'), (rule.access.make, 'm')];
    let access: String =
        letters.into_iter().filter(|(allowed, _)| *allowed).map(|(_, letter)| letter).collect();
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

fn of_namespaces(container: &Container, settings: &ContainerSettings) -> Map<String, Value> {
    let asked = &container.document;
    let mut value = json!({
        "PidMode": asked.pid_mode,
        "IpcMode": asked.ipc_mode,
        "UTSMode": if settings.share_uts { "host" } else { "" },
        "CgroupnsMode": if settings.share_cgroups { "host" } else { "private" },
        "UsernsMode": "",
        "Cgroup": "",
        "CgroupParent": settings.cgroup_parent.display().to_string(),
        "ShmSize": settings.shm_size,
        "ConsoleSize": [settings.console.0, settings.console.1],
    });
    let map = |pairs: &[(String, String)]| {
        Value::Object(pairs.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect())
    };
    if !settings.sysctls.is_empty() {
        value["Sysctls"] = map(&settings.sysctls);
    }
    if !settings.tmpfs.is_empty() {
        value["Tmpfs"] = map(&settings.tmpfs);
    }
    fields(value)
}

fn of_limits(limits: &Limits) -> Map<String, Value> {
    // A quota of the usual period is what --cpus makes; any other is as it was given.
    let period = limits.cpu_period.unwrap_or(0);
    let nano = match (limits.cpu_quota, limits.cpu_period) {
        (Some(quota), Some(period @ 100_000)) if quota > 0 => quota.saturating_mul(WHOLE_CPU / period as i64),
        _ => 0,
    };
    let (quota, period) = if nano > 0 { (0, 0) } else { (limits.cpu_quota.unwrap_or(0), period) };
    let rates = |rates: &[DeviceRate], name: &str| {
        let rate = |rate: &DeviceRate| json!({ "Path": device_path(rate), name: rate.rate });
        Value::Array(rates.iter().map(rate).collect())
    };
    fields(json!({
        "Memory": limits.memory.unwrap_or(0),
        // Without another word, as much again may be swapped.
        "MemorySwap": limits.memory_swap.or(limits.memory.map(|memory| i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX))).unwrap_or(0),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.disable_oom_killer,
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "NanoCpus": nano,
        "CpuQuota": quota,
        "CpuPeriod": period,
        "CpuRealtimeRuntime": limits.realtime_runtime.unwrap_or(0),
        "CpuRealtimePeriod": limits.realtime_period.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or_default(),
        "CpuCount": 0,
        "CpuPercent": 0,
        "PidsLimit": limits.pids,
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": rates(&limits.device_weights, "Weight"),
        "BlkioDeviceReadBps": rates(&limits.read_bps, "Rate"),
        "BlkioDeviceWriteBps": rates(&limits.write_bps, "Rate"),
        "BlkioDeviceReadIOps": rates(&limits.read_iops, "Rate"),
        "BlkioDeviceWriteIOps": rates(&limits.write_iops, "Rate"),
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }))
}

/// A device by its numbers: the path that it was named by is not kept.
fn device_path(rate: &DeviceRate) -> String {
    format!("/dev/block/{}:{}", rate.major, rate.minor)
}

/// The ports that were asked for, by those of the container.
fn port_bindings(container: &Container) -> Value {
    let mut bindings = serde_json::Map::new();
    for Publish { host, ports, container } in &container.document.publish {
        let ports = ports.as_ref().map_or(String::new(), |ports| match ports.start() == ports.end() {
            true => ports.start().to_string(),
            false => format!("{}-{}", ports.start(), ports.end()),
        });
        let address = host.map_or(String::new(), |host| host.to_string());
        let all = bindings.entry(container.to_string()).or_insert_with(|| json!([]));
        if let Some(all) = all.as_array_mut() {
            all.push(json!({ "HostIp": address, "HostPort": ports }));
        }
    }
    bindings.into()
}
