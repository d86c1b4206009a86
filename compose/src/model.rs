//! A project: its services, networks, volumes and files, checked against each other.

mod checks;
mod hooks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::dotenv;
use crate::error::ComposeError;
use crate::interpolate::Variables;
use crate::load::{Files, read};
use crate::order;
use crate::paths::Base;
use crate::yaml::{Map, Node, Value};
pub use hooks::Hook;

/// A project.
#[derive(Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Where its first file is.
    pub directory: PathBuf,
    /// The services that are to be used, by name.
    pub services: BTreeMap<String, Service>,
    /// Those that belong to profiles nobody chose.
    pub disabled: BTreeMap<String, Service>,
    /// All networks that are defined, by their names in the files, and the default one.
    pub networks: BTreeMap<String, Network>,
    /// All volumes that are defined, by their names in the files.
    pub volumes: BTreeMap<String, Volume>,
    pub(crate) secrets: BTreeMap<String, FileSource>,
    pub(crate) configs: BTreeMap<String, FileSource>,
    root: Node,
}

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What its file says, in the long form.
    pub node: Node,
    /// What it waits for.
    pub dependencies: BTreeMap<String, Dependency>,
    /// How many containers it has.
    pub replicas: u32,
}

/// What a service waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// What has to be true of the other one.
    pub condition: Condition,
    /// Whether there is no way without it.
    pub required: bool,
    /// Whether it is started again when the other one is.
    pub restart: bool,
    /// Whether its containers are made again when the other's are, since they share something of them.
    pub shares: bool,
}

/// When a service that others wait for is far enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It runs.
    Started,
    /// Its health check succeeds.
    Healthy,
    /// It has ended with code 0.
    Completed,
}

/// A network.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its name outside of the project.
    pub name: String,
    /// Whether somebody else makes it.
    pub external: bool,
    /// What its file says.
    pub node: Node,
}

/// A volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its name outside of the project.
    pub name: String,
    /// Whether somebody else makes it.
    pub external: bool,
    /// What its file says.
    pub node: Node,
}

impl Network {
    /// The words of `lap network create`, without those that name the project.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut flag = |name: &str, value: Option<String>| {
            words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        };
        flag("--driver", self.node.get("driver").and_then(Node::text).filter(|driver| driver != "default"));
        for (key, name) in [("driver_opts", "--opt"), ("labels", "--label")] {
            for pair in pairs(self.node.get(key)) {
                flag(name, Some(pair));
            }
        }
        let ipam = self.node.get("ipam").and_then(|ipam| ipam.get("config")).map_or(&[][..], Node::items);
        for config in ipam {
            for (key, name) in [("subnet", "--subnet"), ("gateway", "--gateway"), ("ip_range", "--ip-range")]
            {
                flag(name, config.get(key).and_then(Node::text));
            }
            for pair in pairs(config.get("aux_addresses")) {
                flag("--aux-address", Some(pair));
            }
        }
        let is = |key: &str| self.node.get(key).and_then(Node::bool) == Some(true);
        for (key, name) in
            [("internal", "--internal"), ("attachable", "--attachable"), ("enable_ipv6", "--ipv6")]
        {
            words.extend(is(key).then(|| name.to_owned()));
        }
        words
    }
}

impl Volume {
    /// The words of `lap volume create`, without those that name the project.
    pub fn words(&self) -> Vec<String> {
        let driver = self.node.get("driver").and_then(Node::text);
        let mut words: Vec<String> =
            driver.into_iter().flat_map(|driver| ["--driver".to_owned(), driver]).collect();
        for (key, name) in [("driver_opts", "--opt"), ("labels", "--label")] {
            words.extend(pairs(self.node.get(key)).into_iter().flat_map(|pair| [name.to_owned(), pair]));
        }
        words
    }
}

/// Entries of a mapping as `NAME=VALUE`.
pub(crate) fn pairs(node: Option<&Node>) -> Vec<String> {
    let line = |(name, value): (&String, &Node)| format!("{name}={}", value.text().unwrap_or_default());
    node.and_then(Node::map).map(|map| map.iter().map(line).collect()).unwrap_or_default()
}

/// What a secret or config is.
#[derive(Debug, Clone)]
pub(crate) enum FileSource {
    /// A file of the host.
    File(PathBuf),
    /// What a variable had when the project was read; it is in no debug form.
    Value(Secret),
    /// The variable of this name, which is not set.
    Unset(String),
    /// It is not one of ours.
    External,
}

/// Text that is shown nowhere.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Service {
    pub(crate) fn new(name: &str, node: Node) -> Result<Self, ComposeError> {
        let mut service = Self { name: name.to_owned(), node, dependencies: BTreeMap::new(), replicas: 1 };
        service.dependencies = checks::dependencies(&service)?;
        service.replicas = checks::replicas(&service)?;
        Ok(service)
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.node.get(key).and_then(Node::text)
    }

    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        self.node.get(key).map_or(&[][..], Node::items).iter().filter_map(Node::text).collect()
    }

    pub(crate) fn entries(&self, key: &str) -> &[Node] {
        self.node.get(key).map_or(&[], Node::items)
    }

    /// The image that its containers are made of.
    pub fn image(&self, project: &str) -> String {
        self.text("image").unwrap_or_else(|| format!("{project}-{}", self.name))
    }

    /// Whether its file names the image.
    pub fn has_image_name(&self) -> bool {
        self.node.get("image").is_some()
    }

    /// Whether its image is built.
    pub fn is_built(&self) -> bool {
        self.node.get("build").is_some()
    }

    /// When its image is fetched or built: always, missing, never, build, or what `--pull` knows besides.
    pub fn pull_policy(&self) -> Option<String> {
        self.text("pull_policy")
    }

    /// The platform of its image, if that was said.
    pub fn platform(&self) -> Option<String> {
        self.text("platform")
    }

    /// Gives it another number of containers.
    ///
    /// # Errors
    /// More than one, although there can be only one.
    pub fn scale_to(&mut self, count: u32) -> Result<(), ComposeError> {
        self.replicas = count;
        checks::one_name(self, &self.node)
    }

    /// The only name that its container may have, if that was said.
    pub fn container_name(&self) -> Option<String> {
        self.text("container_name")
    }

    /// Whether `up` shows what it writes.
    pub fn is_attached(&self) -> bool {
        self.node.get("attach").and_then(Node::bool) != Some(false)
    }

    /// The profiles that it belongs to; without any, it belongs to all.
    pub fn profiles(&self) -> Vec<String> {
        self.texts("profiles")
    }

    /// The networks that it is in, by their names in the files: the one that leads out first.
    pub(crate) fn networks(&self) -> Vec<(String, Option<&Node>)> {
        if self.node.get("network_mode").is_some() {
            return Vec::new();
        }
        let Some(map) = self.node.get("networks").and_then(Node::map).filter(|map| !map.is_empty()) else {
            return vec![("default".to_owned(), None)];
        };
        let mut networks: Vec<_> = map.iter().map(|(name, node)| (name.clone(), Some(node))).collect();
        let priority = |node: Option<&Node>| node.and_then(|node| node.get("priority")).and_then(Node::int);
        networks.sort_by_key(|(_, node)| std::cmp::Reverse(priority(*node).unwrap_or(0)));
        networks
    }

    /// Volumes of the project that it shows, by their names in the files.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = (String, &Node)> {
        let is_volume = |mount: &&Node| mount.get("type").and_then(Node::text).as_deref() == Some("volume");
        let mounts = self.entries("volumes").iter().filter(is_volume);
        mounts.filter_map(|mount| Some((mount.get("source")?.text()?, mount)))
    }
}

impl Project {
    pub(crate) fn new(
        name: String,
        root: Node,
        base: &Base,
        (profiles, named): (&BTreeSet<String>, &[String]),
        variables: &dyn Variables,
        files: &dyn Files,
    ) -> Result<Self, ComposeError> {
        let section = |key: &str| root.get(key).and_then(Node::map).cloned().unwrap_or_default();
        let (mut services, mut disabled) = (BTreeMap::new(), BTreeMap::new());
        for (key, node) in section("services") {
            checks::service_name(&key, &node)?;
            let service = Service::new(&key, node)?;
            let chosen = service.profiles();
            let is_chosen = chosen.is_empty()
                || profiles.contains("*")
                || chosen.iter().any(|profile| profiles.contains(profile))
                || named.contains(&key);
            if is_chosen {
                services.insert(key, service)
            } else {
                disabled.insert(key, service)
            };
        }
        let mut project = Self {
            networks: checks::networks(&name, section("networks")),
            volumes: checks::volumes(&name, section("volumes")),
            secrets: checks::files(section("secrets"), variables)?,
            configs: checks::files(section("configs"), variables)?,
            name,
            directory: base.directory.clone(),
            services,
            disabled,
            root,
        };
        checks::references(&mut project)?;
        order::sorted(&project.services)?;
        for service in project.services.values_mut() {
            environment(service, variables, files)?;
        }
        Ok(project)
    }

    /// The services of these names with all that they need, in an order in which each comes after what it waits for; all
    /// without names.
    ///
    /// # Errors
    /// A name that no service has.
    pub fn selected(&self, names: &[String], with_needed: bool) -> Result<Vec<&Service>, ComposeError> {
        if let Some(unknown) = names.iter().find(|name| !self.services.contains_key(*name)) {
            return Err(ComposeError::NoSuchService(unknown.clone()));
        }
        let mut wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut open: Vec<&str> = wanted.iter().copied().collect();
        while let Some(service) = open.pop().filter(|_| with_needed).and_then(|name| self.services.get(name))
        {
            let new = service.dependencies.keys().map(String::as_str).filter(|name| wanted.insert(name));
            open.extend(new.collect::<Vec<_>>());
        }
        let all = order::sorted(&self.services)?;
        Ok(all
            .into_iter()
            .filter(|service| names.is_empty() || wanted.contains(service.name.as_str()))
            .collect())
    }

    /// The networks that services are in, with their names in the files.
    pub fn used_networks<'a>(&'a self, services: &[&Service]) -> Vec<(&'a String, &'a Network)> {
        let used: BTreeSet<String> =
            services.iter().flat_map(|service| service.networks()).map(|(name, _)| name).collect();
        self.networks.iter().filter(|(name, _)| used.contains(*name)).collect()
    }

    /// The volumes that services show, with their names in the files.
    pub fn used_volumes<'a>(&'a self, services: &[&Service]) -> Vec<(&'a String, &'a Volume)> {
        let used: BTreeSet<String> =
            services.iter().flat_map(|service| service.volumes()).map(|(name, _)| name).collect();
        self.volumes.iter().filter(|(name, _)| used.contains(*name)).collect()
    }

    /// The project as one file, in the long form, with everything that it took from elsewhere.
    pub fn document(&self) -> Node {
        let place = &self.root.place;
        let all: Vec<&Service> = self.services.values().collect();
        let mut root = Map::new();
        root.insert("name".to_owned(), Node::text_at(place, self.name.clone()));
        let services = self.services.iter().map(|(name, service)| (name.clone(), shown_service(service)));
        root.insert("services".to_owned(), Node::at(place, Value::Map(services.collect())));
        let mut section = |key: &str, entries: Map| {
            if !entries.is_empty() {
                root.insert(key.to_owned(), Node::at(place, Value::Map(entries)));
            }
        };
        let named = |node: &Node, name: &str| {
            let mut node =
                if node.map().is_some() { node.clone() } else { Node::at(place, Value::Map(Map::new())) };
            if let Some(map) = node.map_mut() {
                map.insert("name".to_owned(), Node::text_at(place, name));
            }
            node
        };
        let networks = self.used_networks(&all).into_iter();
        section(
            "networks",
            networks.map(|(key, used)| (key.clone(), named(&used.node, &used.name))).collect(),
        );
        let volumes = self.used_volumes(&all).into_iter();
        section("volumes", volumes.map(|(key, used)| (key.clone(), named(&used.node, &used.name))).collect());
        for key in ["secrets", "configs"] {
            let of_build =
                |service: &&Service| service.node.get("build").and_then(|build| build.get(key)).cloned();
            let builds: Vec<Node> = all.iter().filter_map(of_build).collect();
            let uses = all.iter().flat_map(|service| service.entries(key));
            let uses = uses.chain(builds.iter().flat_map(Node::items));
            let used: BTreeSet<String> = uses.filter_map(|entry| entry.get("source")?.text()).collect();
            let defined = self.root.get(key).and_then(Node::map).cloned().unwrap_or_default();
            let defined = defined.into_iter().filter(|(name, _)| used.contains(name));
            let full = |(name, node): (String, Node)| {
                let given = node.get("name").and_then(Node::text);
                let shown = named(&node, &given.unwrap_or_else(|| format!("{}_{name}", self.name)));
                (name, shown)
            };
            section(key, defined.map(full).collect());
        }
        for (key, node) in self.root.map().into_iter().flatten().filter(|(key, _)| key.starts_with("x-")) {
            root.insert(key.clone(), node.clone());
        }
        Node::at(place, Value::Map(root))
    }

    /// What files say that does nothing, although it would elsewhere.
    pub(crate) fn without_effect(&self) -> Vec<String> {
        let mut told = Vec::new();
        for service in self.services.values() {
            for (key, sources) in [("secrets", &self.secrets), ("configs", &self.configs)] {
                for entry in service.entries(key) {
                    let source = entry.get("source").and_then(Node::text).and_then(|name| sources.get(&name));
                    let is_set = ["uid", "gid", "mode"].into_iter().any(|key| entry.get(key).is_some());
                    if is_set && matches!(source, Some(FileSource::File(_))) {
                        let (place, name) = (&entry.place, &service.name);
                        told.push(format!("{place}: services.{name}.{key}: uid, gid and mode have no effect on a file of the host"));
                    }
                }
            }
        }
        told
    }

    /// All profiles that services belong to.
    pub fn profiles(&self) -> BTreeSet<String> {
        self.services.values().chain(self.disabled.values()).flat_map(Service::profiles).collect()
    }
}

/// A service as it is shown: without what was taken into it.
fn shown_service(service: &Service) -> Node {
    let mut node = service.node.clone();
    let place = node.place.clone();
    if let Some(map) = node.map_mut() {
        map.remove("env_file");
        map.retain(|key, node| node.value != Value::Null || key == "command" || key == "entrypoint");
        let networks = service.networks();
        if matches!(networks.as_slice(), [(name, None)] if name == "default") {
            let default = Node::map_at(&place, [("default", Node::at(&place, Value::Null))]);
            map.insert("networks".to_owned(), default);
        }
    }
    node
}

/// Takes variables of files into a service, and gives those without a value the one that they have outside.
fn environment(
    service: &mut Service,
    variables: &dyn Variables,
    files: &dyn Files,
) -> Result<(), ComposeError> {
    let place = service.node.place.clone();
    let mut environment = Map::new();
    for entry in service.entries("env_file") {
        let Some(path) = entry.get("path").and_then(Node::text).map(PathBuf::from) else { continue };
        let is_raw = entry.get("format").and_then(Node::text).as_deref() == Some("raw");
        match read(files, &path)? {
            Some(text) if is_raw => {
                let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
                let pairs = lines.filter_map(|line| line.split_once('='));
                environment
                    .extend(pairs.map(|(name, value)| (name.to_owned(), Node::text_at(&place, value))));
            }
            Some(text) => {
                let read = dotenv::parse(&path.to_string_lossy().into(), &text, variables)?;
                environment
                    .extend(read.into_iter().map(|(name, value)| (name, Node::text_at(&place, value))));
            }
            None if entry.get("required").and_then(Node::bool) == Some(false) => {}
            None => return Err(ComposeError::MissingEnvFile { path, place: entry.place.clone() }),
        }
    }
    let given = service.node.get("environment").and_then(Node::map).cloned().unwrap_or_default();
    environment.extend(given);
    resolve(&mut environment, variables);
    let Some(map) = service.node.map_mut() else { return Ok(()) };
    if !environment.is_empty() {
        map.insert("environment".to_owned(), Node::at(&place, Value::Map(environment)));
    }
    let build = map.get_mut("build").and_then(Node::map_mut);
    if let Some(args) = build.and_then(|build| build.get_mut("args")).and_then(Node::map_mut) {
        resolve(args, variables);
    }
    Ok(())
}

/// Gives what has no value that of the environment; what has none there, either, stays without.
fn resolve(map: &mut Map, variables: &dyn Variables) {
    for (name, node) in map.iter_mut() {
        match node.text() {
            None => {
                if let Some(value) = variables.get(name) {
                    node.value = Value::Text(value);
                }
            }
            Some(text) => node.value = Value::Text(text),
        }
    }
}
