//! `HostConfig` and its like in the words of `lap create`, so that a call means what the command does.

use bollard_stubs::models::{
    DeviceRequest, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum, HostConfigIsolationEnum, Mount,
    MountType, RestartPolicy, RestartPolicyNameEnum, ThrottleDevice,
};

use engine::request::SystemPaths;

use super::super::ApiError;
use super::super::version::ApiVersion;
use crate::documents::containers::{MASKED, READ_ONLY};

/// Billionths of a processor that are one.
const WHOLE_CPU: f64 = 1e9;

/// Since this version a container may be made with several networks.
const SEVERAL_NETWORKS: ApiVersion = ApiVersion::minor(44);

/// Flags and their values, each in one word, so that a value may begin with a hyphen.
#[derive(Debug, Default)]
pub(super) struct Words(pub(super) Vec<String>);

impl Words {
    pub(super) fn add(&mut self, flag: &str, value: impl std::fmt::Display) {
        self.0.push(format!("{flag}={value}"));
    }

    pub(super) fn switch(&mut self, flag: &str, is_on: Option<bool>) {
        if is_on == Some(true) {
            self.0.push(flag.to_owned());
        }
    }

    /// A text, unless it is empty.
    pub(super) fn text(&mut self, flag: &str, value: Option<&String>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.add(flag, value);
        }
    }

    /// A number, unless it is 0.
    fn number(&mut self, flag: &str, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value != 0) {
            self.add(flag, value);
        }
    }

    fn all(&mut self, flag: &str, values: Option<&Vec<String>>) {
        values.into_iter().flatten().for_each(|value| self.add(flag, value));
    }

    /// All of a `HostConfig` but for networks, security profiles and the console.
    pub(super) fn host_config(&mut self, host: &HostConfig) -> Result<(), ApiError> {
        refuse(host)?;
        self.limits(host);
        self.rights(host)?;
        self.namespaces(host);
        self.supervision(host)?;
        self.ports(host);
        self.mounts(host)?;
        Ok(())
    }

    fn limits(&mut self, host: &HostConfig) {
        for (flag, value) in [
            ("--memory", host.memory),
            ("--memory-swap", host.memory_swap),
            ("--memory-reservation", host.memory_reservation),
            ("--cpu-shares", host.cpu_shares),
            ("--cpu-period", host.cpu_period),
            ("--cpu-quota", host.cpu_quota),
            ("--cpu-rt-period", host.cpu_realtime_period),
            ("--cpu-rt-runtime", host.cpu_realtime_runtime),
            ("--pids-limit", host.pids_limit),
            ("--oom-score-adj", host.oom_score_adj),
            ("--shm-size", host.shm_size),
            ("--blkio-weight", host.blkio_weight.map(i64::from)),
        ] {
            self.number(flag, value);
        }
        // 0 is a wish, and -1 is none.
        if let Some(value) = host.memory_swappiness.filter(|value| *value != -1) {
            self.add("--memory-swappiness", value);
        }
        if let Some(nano) = host.nano_cpus.filter(|nano| *nano != 0) {
            self.add("--cpus", nano as f64 / WHOLE_CPU);
        }
        self.text("--cpuset-cpus", host.cpuset_cpus.as_ref());
        self.text("--cpuset-mems", host.cpuset_mems.as_ref());
        self.text("--cgroup-parent", host.cgroup_parent.as_ref());
        self.switch("--oom-kill-disable", host.oom_kill_disable);
        for weight in host.blkio_weight_device.iter().flatten() {
            let path = weight.path.as_deref().unwrap_or_default();
            self.add("--blkio-weight-device", format!("{path}:{}", weight.weight.unwrap_or(0)));
        }
        let rates: [(&str, &Option<Vec<ThrottleDevice>>); 4] = [
            ("--device-read-bps", &host.blkio_device_read_bps),
            ("--device-write-bps", &host.blkio_device_write_bps),
            ("--device-read-iops", &host.blkio_device_read_iops),
            ("--device-write-iops", &host.blkio_device_write_iops),
        ];
        for (flag, devices) in rates {
            for device in devices.iter().flatten() {
                let path = device.path.as_deref().unwrap_or_default();
                self.add(flag, format!("{path}:{}", device.rate.unwrap_or(0)));
            }
        }
        for limit in host.ulimits.iter().flatten() {
            let (soft, hard) = (limit.soft.unwrap_or(0), limit.hard.unwrap_or(0));
            self.add("--ulimit", format!("{}={soft}:{hard}", limit.name.as_deref().unwrap_or_default()));
        }
    }

    fn rights(&mut self, host: &HostConfig) -> Result<(), ApiError> {
        self.switch("--privileged", host.privileged);
        self.switch("--read-only", host.readonly_rootfs);
        self.all("--cap-add", host.cap_add.as_ref());
        self.all("--cap-drop", host.cap_drop.as_ref());
        self.all("--group-add", host.group_add.as_ref());
        self.all("--device-cgroup-rule", host.device_cgroup_rules.as_ref());
        for device in host.devices.iter().flatten() {
            let outside = device.path_on_host.as_deref().unwrap_or_default();
            let inside =
                device.path_in_container.as_deref().filter(|path| !path.is_empty()).unwrap_or(outside);
            let access =
                device.cgroup_permissions.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
            self.add("--device", format!("{outside}:{inside}:{access}"));
        }
        for request in host.device_requests.iter().flatten() {
            self.device_request(request)?;
        }
        Ok(())
    }

    /// Devices by their vendors' names, and graphics cards.
    fn device_request(&mut self, request: &DeviceRequest) -> Result<(), ApiError> {
        let ids = request.device_ids.as_deref().unwrap_or_default();
        match request.driver.as_deref().unwrap_or_default() {
            "cdi" => ids.iter().for_each(|name| self.add("--device", name)),
            "" | "nvidia" => {
                let mut capabilities = request.capabilities.iter().flatten().flatten();
                if !capabilities.any(|capability| matches!(capability.as_str(), "gpu" | "nvidia")) {
                    let message = "could not select device driver \"\" with capabilities: []";
                    return Err(ApiError::bad_request(message));
                }
                match (ids, request.count.unwrap_or(0)) {
                    ([], -1) => self.add("--gpus", "all"),
                    ([], count) => self.add("--gpus", count),
                    (ids, _) => self.add("--gpus", format!("device={}", ids.join(","))),
                }
            }
            other => {
                let message = format!("could not select device driver {other:?} with capabilities");
                return Err(ApiError::bad_request(message));
            }
        }
        Ok(())
    }

    fn namespaces(&mut self, host: &HostConfig) {
        self.text("--ipc", host.ipc_mode.as_ref());
        self.text("--pid", host.pid_mode.as_ref());
        self.text("--uts", host.uts_mode.as_ref());
        self.text("--userns", host.userns_mode.as_ref());
        match host.cgroupns_mode {
            Some(HostConfigCgroupnsModeEnum::HOST) => self.add("--cgroupns", "host"),
            Some(HostConfigCgroupnsModeEnum::PRIVATE) => self.add("--cgroupns", "private"),
            _ => {}
        }
        self.all("--dns", host.dns.as_ref());
        self.all("--dns-option", host.dns_options.as_ref());
        self.all("--dns-search", host.dns_search.as_ref());
        self.all("--add-host", host.extra_hosts.as_ref());
        self.pairs("--sysctl", host.sysctls.as_ref());
        self.pairs("--storage-opt", host.storage_opt.as_ref());
        self.pairs("--annotation", host.annotations.as_ref());
        self.text("--runtime", host.runtime.as_ref());
    }

    pub(super) fn pairs(&mut self, flag: &str, map: Option<&std::collections::HashMap<String, String>>) {
        for (name, value) in map.into_iter().flatten() {
            self.add(flag, format!("{name}={value}"));
        }
    }

    fn supervision(&mut self, host: &HostConfig) -> Result<(), ApiError> {
        let policy = host.restart_policy.as_ref().map(restart).transpose()?.flatten();
        if let Some(policy) = policy {
            if host.auto_remove == Some(true) {
                return Err(ApiError::bad_request("can't create 'AutoRemove' container with restart policy"));
            }
            self.add("--restart", policy);
        }
        self.switch("--rm", host.auto_remove);
        self.switch("--init", host.init);
        let log = host.log_config.clone().unwrap_or_default();
        self.text("--log-driver", log.typ.as_ref());
        self.pairs("--log-opt", log.config.as_ref());
        Ok(())
    }

    fn ports(&mut self, host: &HostConfig) {
        self.switch("--publish-all", host.publish_all_ports);
        self.all("--link", host.links.as_ref());
        for (port, bindings) in host.port_bindings.iter().flatten() {
            let bindings = bindings.as_deref().unwrap_or_default();
            if bindings.is_empty() {
                self.add("--publish", port);
            }
            for binding in bindings {
                let outside = binding.host_port.as_deref().filter(|port| *port != "0").unwrap_or_default();
                let address = match binding.host_ip.as_deref().unwrap_or_default() {
                    "" => String::new(),
                    address if address.contains(':') && !address.starts_with('[') => format!("[{address}]:"),
                    address => format!("{address}:"),
                };
                let before = if address.is_empty() && outside.is_empty() {
                    String::new()
                } else {
                    format!("{address}{outside}:")
                };
                self.add("--publish", format!("{before}{port}"));
            }
        }
    }

    fn mounts(&mut self, host: &HostConfig) -> Result<(), ApiError> {
        for bind in host.binds.iter().flatten() {
            // What begins with a dot would be a path of the daemon's own directory.
            if bind.starts_with('.') {
                return Err(ApiError::bad_request(format!(
                    "invalid volume specification: '{bind}': the source is neither an absolute path nor the name of a volume"
                )));
            }
            self.add("--volume", bind);
        }
        for mount in host.mounts.iter().flatten() {
            let fields = mount_fields(mount)?;
            self.add("--mount", fields.join(","));
        }
        for (path, options) in host.tmpfs.iter().flatten() {
            let colon = if options.is_empty() { "" } else { ":" };
            self.add("--tmpfs", format!("{path}{colon}{options}"));
        }
        self.all("--volumes-from", host.volumes_from.as_ref());
        self.text("--volume-driver", host.volume_driver.as_ref());
        Ok(())
    }

    /// The networks that a container is in: that of its mode, and those that have settings.
    pub(super) fn networks(
        &mut self,
        mode: &str,
        mut endpoints: Vec<(String, EndpointSettings)>,
        version: ApiVersion,
    ) -> Result<(), ApiError> {
        let mode = if mode.is_empty() { "default" } else { mode };
        endpoints.sort_by(|(one, _), (two, _)| one.cmp(two));
        if version < SEVERAL_NETWORKS && endpoints.len() > 1 {
            let names: Vec<&str> = endpoints.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!("Container cannot be connected to network endpoints: {}", names.join(", "));
            return Err(ApiError::bad_request(message));
        }
        if mode.starts_with("container:") || matches!(mode, "host" | "none") {
            if let Some((name, _)) = endpoints.iter().find(|(name, _)| name != mode) {
                let message = format!(
                    "conflicting options: cannot connect the container to the network {name}, as its network mode is {mode}"
                );
                return Err(ApiError::bad_request(message));
            }
            self.add("--network", mode);
            return Ok(());
        }
        let is_default = |name: &str| matches!(name, "default" | "bridge");
        let is_mode = |name: &str| name == mode || is_default(name) && is_default(mode);
        // The network of the mode first: it is the one that flags without a network are about.
        endpoints.sort_by_key(|(name, _)| !is_mode(name));
        // Those of other networks replace the default one.
        let named = endpoints.iter().any(|(name, _)| is_mode(name));
        if !named && (endpoints.is_empty() || !is_default(mode)) {
            self.add("--network", mode);
        }
        for (name, settings) in endpoints {
            let mut fields = endpoint_fields(&settings);
            if fields.is_empty() {
                self.add("--network", name);
            } else {
                fields.insert(0, field("name", &name));
                self.add("--network", fields.join(","));
            }
        }
        Ok(())
    }
}

/// `NAME=VALUE` as a line of values between commas has it.
fn field(name: &str, value: &str) -> String {
    let field = format!("{name}={value}");
    match field.contains([',', '"', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

fn endpoint_fields(settings: &EndpointSettings) -> Vec<String> {
    let mut fields = Vec::new();
    let mut add = |name: &str, value: Option<&String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            fields.push(field(name, value));
        }
    };
    settings.aliases.iter().flatten().for_each(|alias| add("alias", Some(alias)));
    if let Some(ipam) = &settings.ipam_config {
        add("ip", ipam.ipv4_address.as_ref());
        add("ip6", ipam.ipv6_address.as_ref());
        ipam.link_local_ips.iter().flatten().for_each(|address| add("link-local-ip", Some(address)));
    }
    add("mac-address", settings.mac_address.as_ref());
    for (name, value) in settings.driver_opts.iter().flatten() {
        add("driver-opt", Some(&format!("{name}={value}")));
    }
    if let Some(priority) = settings.gw_priority.filter(|priority| *priority != 0) {
        add("gw-priority", Some(&priority.to_string()));
    }
    fields
}

/// A mount as `--mount` has it.
fn mount_fields(mount: &Mount) -> Result<Vec<String>, ApiError> {
    let kind = match mount.typ {
        Some(MountType::BIND) => "bind",
        Some(MountType::VOLUME) => "volume",
        Some(MountType::IMAGE) => "image",
        Some(MountType::TMPFS) => "tmpfs",
        Some(MountType::NPIPE) => "npipe",
        Some(MountType::CLUSTER) => "cluster",
        None => return Err(ApiError::bad_request("mount type unknown: \"\"")),
    };
    let mut fields = vec![field("type", kind)];
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            fields.push(field(name, value));
        }
    };
    let source = mount.source.as_deref().unwrap_or_default();
    if kind == "bind" && !source.starts_with('/') {
        let message = format!(
            "invalid mount config for type \"bind\": invalid mount path: '{source}' mount path must be absolute"
        );
        return Err(ApiError::bad_request(message));
    }
    add("source", source);
    add("target", mount.target.as_deref().unwrap_or_default());
    let is_true = |value: Option<bool>| if value == Some(true) { "true" } else { "" };
    add("readonly", is_true(mount.read_only));
    if let Some(bind) = &mount.bind_options {
        add("bind-propagation", &bind.propagation.map(|mode| mode.to_string()).unwrap_or_default());
        add("bind-nonrecursive", is_true(bind.non_recursive));
        add("bind-create-src", is_true(bind.create_mountpoint));
    }
    if let Some(volume) = &mount.volume_options {
        add("volume-nocopy", is_true(volume.no_copy));
        add("volume-subpath", volume.subpath.as_deref().unwrap_or_default());
        for (name, value) in volume.labels.iter().flatten() {
            add("volume-label", &format!("{name}={value}"));
        }
        if let Some(driver) = &volume.driver_config {
            add("volume-driver", driver.name.as_deref().unwrap_or_default());
            for (name, value) in driver.options.iter().flatten() {
                add("volume-opt", &format!("{name}={value}"));
            }
        }
    }
    if let Some(image) = &mount.image_options {
        add("image-subpath", image.subpath.as_deref().unwrap_or_default());
    }
    if let Some(memory) = &mount.tmpfs_options {
        add(
            "tmpfs-size",
            &memory.size_bytes.filter(|size| *size != 0).map(|size| size.to_string()).unwrap_or_default(),
        );
        let mode = memory.mode.filter(|mode| *mode != 0).map(|mode| format!("{mode:o}"));
        add("tmpfs-mode", &mode.unwrap_or_default());
    }
    Ok(fields)
}

/// A restart policy as `--restart` has it; nothing for none.
pub(super) fn restart(policy: &RestartPolicy) -> Result<Option<String>, ApiError> {
    let most = policy.maximum_retry_count.unwrap_or(0);
    let name = match policy.name {
        None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO) => "no",
        Some(RestartPolicyNameEnum::ALWAYS) => "always",
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => "unless-stopped",
        Some(RestartPolicyNameEnum::ON_FAILURE) => "on-failure",
    };
    match (name, most) {
        (_, ..0) => {
            Err(ApiError::bad_request("invalid restart policy: maximum retry count cannot be negative"))
        }
        ("no", 0) => Ok(None),
        ("on-failure", 1..) => Ok(Some(format!("on-failure:{most}"))),
        (name, 0) => Ok(Some(name.to_owned())),
        (name, _) => {
            let message = format!(
                "invalid restart policy: maximum retry count cannot be used with restart policy '{name}'"
            );
            Err(ApiError::bad_request(message))
        }
    }
}

/// Paths of the kernel that a container does not see or cannot write to, where a client chooses them.
pub(super) fn system_paths(host: &HostConfig) -> Result<SystemPaths, ApiError> {
    let chosen = |name: &str, paths: &Option<Vec<String>>, usual: &[&str]| {
        let Some(paths) = paths.as_ref().filter(|paths| !paths.iter().eq(usual)) else { return Ok(None) };
        let is_plain = |path: &&String| {
            path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
        };
        match paths.iter().find(|path| !is_plain(path)) {
            Some(bad) => {
                Err(ApiError::bad_request(format!("HostConfig.{name}: {bad:?} is no absolute path")))
            }
            None => Ok(Some(paths.clone())),
        }
    };
    Ok(SystemPaths {
        masked: chosen("MaskedPaths", &host.masked_paths, &MASKED)?,
        read_only: chosen("ReadonlyPaths", &host.readonly_paths, &READ_ONLY)?,
    })
}

/// What there is on Windows only.
fn refuse(host: &HostConfig) -> Result<(), ApiError> {
    let is_other = !matches!(
        host.isolation,
        None | Some(HostConfigIsolationEnum::EMPTY | HostConfigIsolationEnum::DEFAULT)
    );
    let windows = [
        ("Isolation", is_other),
        ("CpuCount", host.cpu_count.unwrap_or(0) != 0),
        ("CpuPercent", host.cpu_percent.unwrap_or(0) != 0),
        ("IOMaximumIOps", host.io_maximum_iops.unwrap_or(0) != 0),
        ("IOMaximumBandwidth", host.io_maximum_bandwidth.unwrap_or(0) != 0),
    ];
    match windows.into_iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(ApiError::bad_request(format!(
            "invalid option: HostConfig.{name} is for containers of Windows"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn words(host: Value) -> Result<Vec<String>, String> {
        let host: HostConfig = serde_json::from_value(host).unwrap();
        let mut words = Words::default();
        words.host_config(&host).map_err(|error| error.message)?;
        Ok(words.0)
    }

    #[test]
    fn a_host_config_becomes_flags() {
        for (host, expected) in [
            (json!({ "Memory": 0, "NanoCpus": 1_500_000_000_i64 }), "--cpus=1.5"),
            (
                json!({ "PortBindings": { "80/tcp": [{ "HostIp": "::1", "HostPort": "8080" }] } }),
                "--publish=[::1]:8080:80/tcp",
            ),
            (json!({ "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "" }] } }), "--publish=80/tcp"),
            (
                json!({ "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "0" }] } }),
                "--publish=127.0.0.1::80/tcp",
            ),
            (
                json!({ "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 } }),
                "--restart=on-failure:3",
            ),
            (
                json!({ "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 }, "AutoRemove": true }),
                "--rm",
            ),
            (
                json!({ "Mounts": [{ "Type": "tmpfs", "Target": "/a,b", "TmpfsOptions": { "SizeBytes": 9, "Mode": 448 } }] }),
                "--mount=type=tmpfs,\"target=/a,b\",tmpfs-size=9,tmpfs-mode=700",
            ),
            (json!({ "Ulimits": [{ "Name": "nofile", "Soft": -1, "Hard": 5 }] }), "--ulimit=nofile=-1:5"),
        ] {
            assert_eq!(words(host.clone()).unwrap().join(" "), expected, "{host}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for host in [
            json!({ "RestartPolicy": { "Name": "always", "MaximumRetryCount": 3 } }),
            json!({ "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": -3 } }),
            json!({ "RestartPolicy": { "Name": "always" }, "AutoRemove": true }),
            json!({ "Binds": ["./x:/x"] }),
            json!({ "Binds": ["../../etc:/x"] }),
            json!({ "Mounts": [{ "Type": "bind", "Source": "etc", "Target": "/x" }] }),
            json!({ "Mounts": [{ "Target": "/x" }] }),
            json!({ "CpuPercent": 7 }),
            json!({ "DeviceRequests": [{ "Driver": "magic" }] }),
        ] {
            assert!(words(host.clone()).is_err(), "{host}");
        }
    }

    #[test]
    fn paths_of_the_kernel_are_chosen() {
        let chosen =
            |host: Value| system_paths(&serde_json::from_value(host).unwrap()).map_err(|error| error.message);
        assert_eq!(chosen(json!({})).unwrap(), SystemPaths::default());
        assert_eq!(
            chosen(json!({ "MaskedPaths": MASKED, "ReadonlyPaths": null })).unwrap(),
            SystemPaths::default()
        );
        assert_eq!(chosen(json!({ "MaskedPaths": [], "ReadonlyPaths": [] })).unwrap(), SystemPaths::open());
        let one = chosen(json!({ "MaskedPaths": ["/proc/kcore"] })).unwrap();
        assert_eq!((one.masked, one.read_only), (Some(vec!["/proc/kcore".to_owned()]), None));
        for bad in ["proc", "/proc/../etc", "", "/a\0b"] {
            assert!(
                chosen(json!({ "ReadonlyPaths": [bad] })).unwrap_err().contains("ReadonlyPaths"),
                "{bad:?}"
            );
        }
    }

    fn networks(mode: &str, endpoints: Value, version: u32) -> Result<String, String> {
        let endpoints: std::collections::HashMap<String, EndpointSettings> =
            serde_json::from_value(endpoints).unwrap();
        let mut words = Words::default();
        let result = words.networks(mode, endpoints.into_iter().collect(), ApiVersion::minor(version));
        result.map(|()| words.0.join(" ")).map_err(|error| error.message)
    }

    #[test]
    fn networks_are_that_of_the_mode_and_those_with_settings() {
        assert_eq!(networks("", json!({}), 51).unwrap(), "--network=default");
        assert_eq!(networks("default", json!({ "default": {} }), 51).unwrap(), "--network=default");
        assert_eq!(networks("bridge", json!({ "web": {} }), 51).unwrap(), "--network=web");
        assert_eq!(networks("host", json!({ "host": {} }), 51).unwrap(), "--network=host");
        let both =
            json!({ "a": { "Aliases": ["x"] }, "web": { "IPAMConfig": { "IPv4Address": "10.0.0.9" } } });
        assert_eq!(
            networks("web", both.clone(), 51).unwrap(),
            "--network=name=web,ip=10.0.0.9 --network=name=a,alias=x"
        );
        assert!(networks("web", both, 43).unwrap_err().contains("a, web"));
        assert!(networks("container:x", json!({ "web": {} }), 51).is_err());
        assert_eq!(networks("container:x", json!({}), 51).unwrap(), "--network=container:x");
    }
}
