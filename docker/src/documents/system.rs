//! The machine and the program.

use base::Platform;
use engine::CacheUsage;
use engine::containers::{Container, Status};
use engine::isolation::{Gap, Mode};
use engine::report::{ImageUsage, Info, UsageDetails};
use serde_json::{Value, json};

/// The drivers of logs.
const LOG_DRIVERS: [&str; 7] = ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"];

/// How many containers are in a status that fits.
fn count(containers: &[Container], fits: impl Fn(Status) -> bool) -> usize {
    containers.iter().filter(|container| fits(container.state.status)).count()
}

/// The machine and the store, in the shape of Docker's `info` and with what only we have.
pub fn info(info: &Info, containers: &[Container]) -> Value {
    let proxy = |wanted: &str| {
        let mut known = info.proxies.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        known.next().map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let has = |name: &str| info.limits.contains(&name);
    let mut value = json!({
        "ID": machine_id(),
        "Containers": containers.len(),
        "ContainersRunning": count(containers, |status| status == Status::Running),
        "ContainersPaused": count(containers, |status| status == Status::Paused),
        "ContainersStopped": count(containers, |status| !status.is_live()),
        "Images": info.images,
        "Driver": info.driver,
        "DriverStatus": [["Store", info.root]],
        "Plugins": {
            "Volume": [engine::volumes::DRIVER],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": null,
            "Log": LOG_DRIVERS,
        },
        "MemoryLimit": has("memory"),
        "SwapLimit": has("memory"),
        "CpuCfsPeriod": has("cpu"),
        "CpuCfsQuota": has("cpu"),
        "CPUShares": has("cpu"),
        "CPUSet": has("cpuset"),
        "PidsLimit": has("pids"),
        "IPv4Forwarding": true,
        "Debug": false,
        "NFd": open_files(),
        "OomKillDisable": cgroup_version(info) == "1",
        "NGoroutines": 0,
        "SystemTime": engine::now().to_string(),
    });
    let more = json!({
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version(info),
        "NEventsListener": 0,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "OSVersion": "",
        "OSType": info.platform.os,
        "Architecture": machine(&info.platform),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "IndexConfigs": {
                "docker.io": { "Mirrors": [], "Name": "docker.io", "Official": true, "Secure": true },
            },
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "Mirrors": null,
        },
        "NCPU": info.cpus,
        "MemTotal": info.memory,
        "GenericResources": null,
        "DockerRootDir": info.root,
        "HttpProxy": proxy("http_proxy"),
        "HttpsProxy": proxy("https_proxy"),
        "NoProxy": proxy("no_proxy"),
        "Name": info.hostname,
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Runtimes": { "lapstrake": { "path": "lap" } },
        "DefaultRuntime": "lapstrake",
        "Swarm": swarm(),
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "lap",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "SecurityOptions": security(info),
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
        "Warnings": warnings(info),
        "RuntimeDir": info.runtime_directory,
        "IsolationOfContainers": isolation(info),
        "Rootless": is_rootless(info),
        "UserIds": info.user_ids,
        "Limits": info.limits,
    });
    if let (Some(all), Value::Object(more)) = (value.as_object_mut(), more) {
        all.extend(more);
    }
    value
}

/// What is told of the swarm that there is not.
pub fn swarm() -> Value {
    json!({
        "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
        "RemoteManagers": null,
    })
}

/// What names this machine, or nothing where that is not known.
fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// An architecture as `uname` has it, which is how `info` says it.
fn machine(platform: &Platform) -> &str {
    match platform.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

/// What limits come from: `1` also where version 2 is mounted beside it and has none, since clients know only the two.
fn cgroup_version(info: &Info) -> &'static str {
    info.cgroup_version.split(' ').next().unwrap_or_default()
}

fn is_rootless(info: &Info) -> bool {
    matches!(&info.isolation, Ok(isolation) if isolation.mode == Mode::Rootless)
}

fn security(info: &Info) -> Vec<&'static str> {
    let mut options = vec!["name=seccomp,profile=builtin"];
    if is_rootless(info) {
        options.push("name=rootless");
    }
    if cgroup_version(info) == "2" {
        options.push("name=cgroupns");
    }
    options
}

/// What cannot be limited here.
fn warnings(info: &Info) -> Vec<String> {
    let wanted =
        [("memory", "memory limit"), ("cpu", "cpu shares"), ("cpuset", "cpuset"), ("pids", "pids limit")];
    let missing = wanted.iter().filter(|(name, _)| !info.limits.contains(name));
    missing.map(|(_, what)| format!("WARNING: No {what} support")).collect()
}

/// `Mode` is empty where there can be no containers.
fn isolation(info: &Info) -> Value {
    match &info.isolation {
        Ok(isolation) => {
            let gap = |gap: &Gap| json!({"What": gap.what(), "Why": gap.why(), "Remedy": gap.remedy()});
            let missing: Vec<Value> = isolation.gaps.iter().map(gap).collect();
            json!({"Mode": isolation.mode.to_string(), "Missing": missing, "Error": ""})
        }
        Err(why) => json!({"Mode": "", "Missing": [], "Error": why}),
    }
}

/// The program's version, in the shape of Docker's `version`. The versions of the API are those that are served.
pub fn version(info: &Info, newest: &str, oldest: &str) -> Value {
    let platform = Platform::host();
    let details = json!({
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "Arch": platform.architecture,
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": info.kernel,
        "Os": platform.os,
    });
    json!({
        "Platform": { "Name": "Lapstrake" },
        "Components": [{ "Name": "Engine", "Version": env!("CARGO_PKG_VERSION"), "Details": details }],
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": platform.os,
        "Arch": platform.architecture,
        "KernelVersion": info.kernel,
        "BuildTime": "",
    })
}

/// Images with the space that they take.
pub fn images(usage: &UsageDetails, containers: &[Container]) -> Value {
    let of_one = |image: &ImageUsage| {
        let mut value = super::images::summary(&image.summary);
        let users = containers.iter().filter(|container| container.image_id == image.summary.id).count();
        value["Size"] = image.bytes.into();
        value["SharedSize"] = (image.bytes - image.unique_bytes).into();
        value["Containers"] = users.into();
        value
    };
    usage.images.iter().map(of_one).collect()
}

/// A part of the build cache.
pub fn cache(record: &CacheUsage) -> Value {
    json!({
        "ID": record.id,
        "Parents": record.parents,
        "Type": record.kind.to_string(),
        "Description": record.description,
        "InUse": record.in_use,
        "Shared": record.shared,
        "Size": record.bytes,
        "CreatedAt": record.created_at.to_string(),
        "LastUsedAt": record.last_used.to_string(),
        "UsageCount": record.uses.unwrap_or(0),
    })
}
