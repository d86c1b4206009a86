//! What a service is in the words of `lap run`, so that there is one place that knows what flags mean.

mod mounts;

use base::Digest;

use crate::error::ComposeError;
use crate::model::{Project, Service};
use crate::schema::{bytes, time};
use crate::yaml::{Node, Value};

/// Docker's labels, by which its containers, networks, volumes and images are known to belong to a project.
pub mod label {
    /// The project's name.
    pub const PROJECT: &str = "com.docker.compose.project";
    /// The service's name.
    pub const SERVICE: &str = "com.docker.compose.service";
    /// Which of the service's containers it is, from 1.
    pub const NUMBER: &str = "com.docker.compose.container-number";
    /// What changes when the container has to be made anew.
    pub const HASH: &str = "com.docker.compose.config-hash";
    /// Whether it was made by `run` rather than `up`.
    pub const ONE_OFF: &str = "com.docker.compose.oneoff";
    /// The network's name in the files.
    pub const NETWORK: &str = "com.docker.compose.network";
    /// The volume's name in the files.
    pub const VOLUME: &str = "com.docker.compose.volume";
    /// The project's directory.
    pub const DIRECTORY: &str = "com.docker.compose.project.working_dir";
    /// The id of the image that the container was made of.
    pub const IMAGE: &str = "com.docker.compose.image";
}

/// A file that a container is to have.
#[derive(Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Where, absolute.
    pub target: String,
    /// What is in it.
    pub content: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl std::fmt::Debug for FileSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:o} {}:{}", self.target, self.mode, self.uid, self.gid)
    }
}

/// A container of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// Flags of `lap run`.
    pub flags: Vec<String>,
    /// Its image.
    pub image: String,
    /// What follows the image.
    pub command: Vec<String>,
    /// Files that are in no directory of the host.
    pub files: Vec<FileSpec>,
    /// The health check's words, as an image has them: `CMD`, `CMD-SHELL` or `NONE` first.
    pub health_test: Option<Vec<String>>,
    /// What changes when the container has to be made anew.
    pub hash: String,
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one with this number, from 1.
    Replica(u32),
    /// One besides, for a single command; whether the service's ports lead to it.
    OneOff {
        /// `--service-ports`
        ports: bool,
    },
}

/// The name of the service's container with this number.
pub fn container_name(project: &Project, service: &Service, number: u32) -> String {
    service.container_name().unwrap_or_else(|| format!("{}-{}-{number}", project.name, service.name))
}

/// A container of a service.
///
/// # Errors
/// A part of it that there is not here.
pub fn container(project: &Project, service: &Service, role: Role) -> Result<ContainerSpec, ComposeError> {
    let mut flags = Flags { words: Vec::new(), service };
    flags.plain();
    flags.supervision();
    flags.limits();
    flags.network(project, role)?;
    flags.neighbours(project);
    let mut files = Vec::new();
    mounts::add(&mut flags, project, &mut files)?;
    let health_test = flags.health();
    let command = flags.command();
    let image = service.image(&project.name);
    let mut words = flags.words;
    let hash = {
        let contents: Vec<&str> = files.iter().map(|file: &FileSpec| file.content.as_str()).collect();
        let all = format!("{words:?} {image} {command:?} {files:?} {contents:?} {health_test:?}");
        let digest = Digest::of(all.as_bytes()).to_string();
        digest.rsplit(':').next().unwrap_or_default().to_owned()
    };
    let number = match role {
        Role::Replica(number) => number,
        Role::OneOff { .. } => 1,
    };
    let one_off = matches!(role, Role::OneOff { .. });
    for (name, value) in [
        (label::PROJECT, project.name.clone()),
        (label::SERVICE, service.name.clone()),
        (label::NUMBER, number.to_string()),
        (label::HASH, hash.clone()),
        (label::ONE_OFF, if one_off { "True" } else { "False" }.to_owned()),
        (label::DIRECTORY, project.directory.display().to_string()),
    ] {
        words.push(format!("--label={name}={value}"));
    }
    let name = container_name(project, service, number);
    Ok(ContainerSpec { name, flags: words, image, command, files, health_test, hash })
}

/// Keys whose value follows a flag.
const VALUES: [(&str, &str); 19] = [
    ("hostname", "--hostname"),
    ("domainname", "--domainname"),
    ("working_dir", "--workdir"),
    ("user", "--user"),
    ("platform", "--platform"),
    ("cgroup_parent", "--cgroup-parent"),
    ("cgroup", "--cgroupns"),
    ("userns_mode", "--userns"),
    ("uts", "--uts"),
    ("stop_signal", "--stop-signal"),
    ("oom_score_adj", "--oom-score-adj"),
    ("shm_size", "--shm-size"),
    ("memswap_limit", "--memory-swap"),
    ("mem_swappiness", "--memory-swappiness"),
    ("cpu_shares", "--cpu-shares"),
    ("cpu_quota", "--cpu-quota"),
    ("cpu_period", "--cpu-period"),
    ("cpu_rt_runtime", "--cpu-rt-runtime"),
    ("cpu_rt_period", "--cpu-rt-period"),
];

/// Keys whose texts follow a flag each.
const LISTS: [(&str, &str); 12] = [
    ("label_file", "--label-file"),
    ("cap_add", "--cap-add"),
    ("cap_drop", "--cap-drop"),
    ("security_opt", "--security-opt"),
    ("device_cgroup_rules", "--device-cgroup-rule"),
    ("group_add", "--group-add"),
    ("tmpfs", "--tmpfs"),
    ("dns", "--dns"),
    ("dns_search", "--dns-search"),
    ("dns_opt", "--dns-option"),
    ("extra_hosts", "--add-host"),
    ("expose", "--expose"),
];

/// Keys that are a flag if they are true.
const SWITCHES: [(&str, &str); 6] = [
    ("init", "--init"),
    ("privileged", "--privileged"),
    ("read_only", "--read-only"),
    ("stdin_open", "--interactive"),
    ("tty", "--tty"),
    ("oom_kill_disable", "--oom-kill-disable"),
];

struct Flags<'a> {
    words: Vec<String>,
    service: &'a Service,
}

impl Flags<'_> {
    fn add(&mut self, flag: &str, value: impl Into<String>) {
        // In one word, so that a value may begin with a hyphen.
        self.words.push(format!("{flag}={}", value.into()));
    }

    /// What a flag means just as the key does.
    fn plain(&mut self) {
        for (key, flag) in VALUES {
            if let Some(value) = self.service.text(key) {
                let is_time = key.starts_with("cpu_rt") || key == "cpu_period";
                let micros = self
                    .service
                    .node
                    .get(key)
                    .and_then(time)
                    .filter(|_| is_time && value.parse::<i64>().is_err());
                self.add(flag, micros.map_or(value, |time| time.as_micros().to_string()));
            }
        }
        for (key, flag) in LISTS {
            for value in self.service.texts(key) {
                self.add(flag, value);
            }
        }
        for (key, flag) in SWITCHES {
            if self.service.node.get(key).and_then(Node::bool) == Some(true) {
                self.words.push(flag.to_owned());
            }
        }
        for (key, flag) in [("labels", "--label"), ("sysctls", "--sysctl")] {
            for pair in crate::model::pairs(self.service.node.get(key)) {
                self.add(flag, pair);
            }
        }
        for (name, value) in self.service.node.get("environment").and_then(Node::map).into_iter().flatten() {
            // Without a value anywhere it is not set.
            if let Some(value) = value.text() {
                self.add("--env", format!("{name}={value}"));
            }
        }
        for device in self.service.entries("devices") {
            match device.text() {
                Some(text) => self.add("--device", text),
                None => {
                    let field = |key: &str, usual: &str| {
                        device.get(key).and_then(Node::text).unwrap_or_else(|| usual.to_owned())
                    };
                    let source = field("source", "");
                    self.add(
                        "--device",
                        format!("{source}:{}:{}", field("target", &source), field("permissions", "rwm")),
                    );
                }
            }
        }
        for (name, limit) in self.service.node.get("ulimits").and_then(Node::map).into_iter().flatten() {
            self.add("--ulimit", ulimit(name, limit));
        }
    }

    fn supervision(&mut self) {
        let deploy = self.service.node.get("deploy").and_then(|deploy| deploy.get("restart_policy"));
        let of_deploy = deploy.map(|policy| {
            let most = policy.get("max_attempts").and_then(Node::int).map(|most| format!(":{most}"));
            match policy.get("condition").and_then(Node::text).as_deref() {
                Some("none") => "no".to_owned(),
                Some("on-failure") => format!("on-failure{}", most.unwrap_or_default()),
                _ => "always".to_owned(),
            }
        });
        if let Some(policy) = self.service.text("restart").or(of_deploy) {
            self.add("--restart", if policy == "false" { "no".to_owned() } else { policy });
        }
        if let Some(period) = self.service.node.get("stop_grace_period").and_then(time) {
            let seconds = period.as_secs() + u64::from(period.subsec_nanos() > 0);
            self.add("--stop-timeout", seconds.to_string());
        }
        self.cards();
        if let Some(logging) = self.service.node.get("logging") {
            if let Some(driver) = logging.get("driver").and_then(Node::text) {
                self.add("--log-driver", driver);
            }
            for option in crate::model::pairs(logging.get("options")) {
                self.add("--log-opt", option);
            }
        }
    }

    /// Graphics cards, all of them in one flag.
    fn cards(&mut self) {
        let mut fields = Vec::new();
        for card in self.service.entries("gpus") {
            let ids = card.get("device_ids").map_or(&[][..], Node::items).iter().filter_map(Node::text);
            let before = fields.len();
            fields.extend(ids.map(|id| format!("device={id}")));
            if fields.len() == before {
                let count = card.get("count").and_then(Node::text);
                fields.push(format!("count={}", count.unwrap_or_else(|| "all".to_owned())));
            }
        }
        if !fields.is_empty() {
            self.add("--gpus", fields.join(","));
        }
    }

    fn limits(&mut self) {
        let node = &self.service.node;
        let resources = |kind: &str| node.get("deploy").and_then(|deploy| deploy.get("resources")?.get(kind));
        let of =
            |kind: &str, key: &str| resources(kind).and_then(|limits| limits.get(key)).and_then(Node::text);
        let limits = [
            ("--cpus", of("limits", "cpus").or_else(|| self.service.text("cpus"))),
            ("--memory", of("limits", "memory").or_else(|| self.service.text("mem_limit"))),
            ("--pids-limit", of("limits", "pids").or_else(|| self.service.text("pids_limit"))),
            (
                "--memory-reservation",
                of("reservations", "memory").or_else(|| self.service.text("mem_reservation")),
            ),
            ("--cpuset-cpus", self.service.text("cpuset")),
        ];
        for (flag, value) in limits {
            if let Some(value) = value.filter(|value| value != "0") {
                self.add(flag, value);
            }
        }
        let Some(blocks) = node.get("blkio_config") else { return };
        if let Some(weight) = blocks.get("weight").and_then(Node::text) {
            self.add("--blkio-weight", weight);
        }
        for (key, flag) in [
            ("weight_device", "--blkio-weight-device"),
            ("device_read_bps", "--device-read-bps"),
            ("device_read_iops", "--device-read-iops"),
            ("device_write_bps", "--device-write-bps"),
            ("device_write_iops", "--device-write-iops"),
        ] {
            for entry in blocks.get(key).map_or(&[][..], Node::items) {
                let field = |name: &str| entry.get(name).and_then(Node::text).unwrap_or_default();
                let value = if key == "weight_device" { field("weight") } else { field("rate") };
                self.add(flag, format!("{}:{value}", field("path")));
            }
        }
    }

    fn network(&mut self, project: &Project, role: Role) -> Result<(), ComposeError> {
        if let Some(mode) = self.service.text("network_mode") {
            let mode = match mode.strip_prefix("service:") {
                Some(other) => format!("container:{}", first_container(project, other)),
                None => mode,
            };
            self.add("--network", mode);
        }
        for (name, node) in self.service.networks() {
            let full = project.networks.get(&name).map_or(name.clone(), |network| network.name.clone());
            let mut fields = vec![format!("name={full}")];
            if matches!(role, Role::Replica(_)) {
                fields.push(format!("alias={}", self.service.name));
            }
            let texts = |key: &str| node.and_then(|node| node.get(key)).map_or(&[][..], Node::items);
            fields
                .extend(texts("aliases").iter().filter_map(Node::text).map(|alias| format!("alias={alias}")));
            for (key, field) in [
                ("ipv4_address", "ip"),
                ("ipv6_address", "ip6"),
                ("mac_address", "mac-address"),
                ("gw_priority", "gw-priority"),
            ] {
                let value = node.and_then(|node| node.get(key)).and_then(Node::text);
                fields.extend(value.map(|value| format!("{field}={value}")));
            }
            let addresses = texts("link_local_ips").iter().filter_map(Node::text);
            fields.extend(addresses.map(|address| format!("link-local-ip={address}")));
            let mut options = crate::model::pairs(node.and_then(|node| node.get("driver_opts")));
            let card = node.and_then(|node| node.get("interface_name")).and_then(Node::text);
            options.extend(card.map(|card| format!("com.docker.network.endpoint.ifname={card}")));
            fields.extend(options.iter().map(|option| quoted(&format!("driver-opt={option}"))));
            self.add("--network", fields.join(","));
        }
        if let Some(address) = self.service.text("mac_address") {
            self.add("--mac-address", address);
        }
        if matches!(role, Role::Replica(_) | Role::OneOff { ports: true }) {
            for port in self.service.entries("ports") {
                self.add("--publish", published(port, &self.service.name)?);
            }
        }
        Ok(())
    }

    /// What refers to other containers.
    fn neighbours(&mut self, project: &Project) {
        for (key, flag) in [("ipc", "--ipc"), ("pid", "--pid")] {
            if let Some(mode) = self.service.text(key) {
                let mode = match mode.strip_prefix("service:") {
                    Some(other) => format!("container:{}", first_container(project, other)),
                    None => mode,
                };
                self.add(flag, mode);
            }
        }
        for link in self.service.texts("links") {
            let (other, alias) = link.split_once(':').unwrap_or((&link, &link));
            self.add("--link", format!("{}:{alias}", first_container(project, other)));
        }
        for link in self.service.texts("external_links") {
            self.add("--link", link);
        }
        for from in self.service.texts("volumes_from") {
            let value = match from.strip_prefix("container:") {
                Some(container) => container.to_owned(),
                None => {
                    let (other, mode) =
                        from.split_once(':').map_or((from.as_str(), ""), |(other, mode)| (other, mode));
                    let colon = if mode.is_empty() { "" } else { ":" };
                    format!("{}{colon}{mode}", first_container(project, other))
                }
            };
            self.add("--volumes-from", value);
        }
    }

    /// The words of the health check; what else belongs to it becomes flags.
    fn health(&mut self) -> Option<Vec<String>> {
        let health = self.service.node.get("healthcheck")?;
        let test: Vec<String> =
            health.get("test").map_or(&[][..], Node::items).iter().filter_map(Node::text).collect();
        let is_off = health.get("disable").and_then(Node::bool) == Some(true);
        if is_off || test.first().is_some_and(|first| first == "NONE") {
            self.words.push("--no-healthcheck".to_owned());
            return None;
        }
        for (key, flag) in [
            ("interval", "--health-interval"),
            ("timeout", "--health-timeout"),
            ("start_period", "--health-start-period"),
            ("start_interval", "--health-start-interval"),
        ] {
            if let Some(time) = health.get(key).and_then(time) {
                self.add(flag, format!("{}ms", time.as_millis()));
            }
        }
        if let Some(retries) = health.get("retries").and_then(Node::text) {
            self.add("--health-retries", retries);
        }
        (!test.is_empty()).then_some(test)
    }

    /// The entry point as a flag; what of it no flag can say, and the command.
    fn command(&mut self) -> Vec<String> {
        let mut command = self.service.texts("command");
        if let Some(Value::List(_)) =
            self.service.node.map().and_then(|map| map.get("entrypoint")).map(|node| &node.value)
        {
            let mut entrypoint = self.service.texts("entrypoint");
            let program = if entrypoint.is_empty() { String::new() } else { entrypoint.remove(0) };
            self.add("--entrypoint", program);
            command.splice(0..0, entrypoint);
        }
        command
    }
}

/// A field as a line of values between commas has it.
fn quoted(field: &str) -> String {
    match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

fn first_container(project: &Project, service: &str) -> String {
    match project.services.get(service) {
        Some(service) => container_name(project, service, 1),
        None => format!("{}-{service}-1", project.name),
    }
}

pub(crate) fn ulimit(name: &str, limit: &Node) -> String {
    match limit.text() {
        Some(both) => format!("{name}={both}"),
        None => {
            let field = |key: &str| limit.get(key).and_then(Node::text);
            let soft = field("soft").or_else(|| field("hard")).unwrap_or_default();
            let hard = field("hard").unwrap_or_else(|| soft.clone());
            format!("{name}={soft}:{hard}")
        }
    }
}

/// `[ADDRESS:][PORT]:PORT/PROTOCOL`
fn published(port: &Node, service: &str) -> Result<String, ComposeError> {
    let field = |key: &str| port.get(key).and_then(Node::text);
    let Some(target) = field("target") else {
        let path = format!("services.{service}.ports");
        return Err(ComposeError::Invalid {
            place: port.place.clone(),
            path,
            why: "a port has no target".to_owned(),
        });
    };
    let address = field("host_ip").map(|address| match address.contains(':') {
        true => format!("[{address}]:"),
        false => format!("{address}:"),
    });
    let published = field("published").filter(|published| published != "0");
    let before = match (address, published) {
        (None, None) => String::new(),
        (address, published) => {
            format!("{}{}:", address.unwrap_or_default(), published.unwrap_or_default())
        }
    };
    Ok(format!("{before}{target}/{}", field("protocol").unwrap_or_else(|| "tcp".to_owned())))
}

/// A size in bytes as flags have it.
pub(crate) fn size(node: Option<&Node>) -> Option<String> {
    node.and_then(bytes).map(|bytes| bytes.to_string())
}
