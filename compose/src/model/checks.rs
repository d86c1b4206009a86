//! What is read from single parts of a project, and whether the parts fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{Condition, Dependency, FileSource, Network, Project, Secret, Service, Volume};
use crate::error::ComposeError;
use crate::interpolate::Variables;
use crate::yaml::{Map, Node, Place, Value};

fn invalid(node: &Node, path: String, why: impl Into<String>) -> ComposeError {
    ComposeError::Invalid { place: node.place.clone(), path, why: why.into() }
}

/// Refuses what no container or label could be called by.
pub(super) fn service_name(name: &str, node: &Node) -> Result<(), ComposeError> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match !name.is_empty() && name.bytes().all(is_part) {
        true => Ok(()),
        false => {
            let why = "names of services have letters, digits, dots, hyphens and underscores only";
            Err(invalid(node, format!("services.{name}"), why))
        }
    }
}

/// What a service waits for: what it says, and what it shares something with.
pub(super) fn dependencies(service: &Service) -> Result<BTreeMap<String, Dependency>, ComposeError> {
    let mut all = BTreeMap::new();
    let mut started = |name: &str| {
        let usual = Dependency { condition: Condition::Started, required: true, restart: true, shares: true };
        all.insert(name.to_owned(), usual);
    };
    for link in service.texts("links") {
        started(link.split(':').next().unwrap_or_default());
    }
    for from in service.texts("volumes_from").iter().filter(|from| !from.starts_with("container:")) {
        started(from.split(':').next().unwrap_or_default());
    }
    for key in ["network_mode", "ipc", "pid"] {
        if let Some(name) = service.text(key).as_deref().and_then(|mode| mode.strip_prefix("service:")) {
            started(name);
        }
    }
    for (name, node) in service.node.get("depends_on").and_then(Node::map).into_iter().flatten() {
        let path = || format!("services.{}.depends_on.{name}", service.name);
        let condition = match node.get("condition").and_then(Node::text).as_deref() {
            Some("service_started") => Condition::Started,
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::Completed,
            Some(other) => {
                let why = format!(
                    "unknown condition \"{other}\": use service_started, service_healthy or service_completed_successfully"
                );
                return Err(invalid(node, path(), why));
            }
            None => return Err(invalid(node, path(), "it has no condition")),
        };
        let is = |key: &str, usual| node.get(key).and_then(Node::bool).unwrap_or(usual);
        let dependency = Dependency {
            condition,
            required: is("required", true),
            restart: is("restart", false),
            shares: false,
        };
        // What is shared stays so, whatever else is waited for.
        let shares = all.get(name).is_some_and(|shared: &Dependency| shared.shares);
        let restart = dependency.restart || shares;
        all.insert(name.clone(), Dependency { restart, shares, ..dependency });
    }
    Ok(all)
}

/// How many containers a service has.
pub(super) fn replicas(service: &Service) -> Result<u32, ComposeError> {
    let scale = service.node.get("scale");
    let deploy = service.node.get("deploy").and_then(|deploy| deploy.get("replicas"));
    let path = || format!("services.{}", service.name);
    if let (Some(scale), Some(deploy)) = (scale, deploy)
        && scale.int() != deploy.int()
    {
        return Err(invalid(scale, path(), "can't set distinct values on 'scale' and 'deploy.replicas'"));
    }
    let Some(node) = scale.or(deploy) else { return Ok(1) };
    let count = node.int().and_then(|count| u32::try_from(count).ok());
    let count = count.ok_or_else(|| invalid(node, path(), "the number of containers is from 0"))?;
    one_name(&Service { replicas: count, ..service.clone() }, node)?;
    Ok(count)
}

/// Refuses several containers with one name.
pub(super) fn one_name(service: &Service, node: &Node) -> Result<(), ComposeError> {
    if service.replicas > 1 && service.container_name().is_some() {
        let why = "a service with container_name cannot have more than one container";
        return Err(invalid(node, format!("services.{}", service.name), why));
    }
    Ok(())
}

fn is_external(node: &Node) -> bool {
    node.get("external").and_then(Node::bool) == Some(true)
}

/// The name outside of the project.
fn full_name(project: &str, key: &str, node: &Node) -> String {
    let given = node.get("name").and_then(Node::text);
    given.unwrap_or_else(|| if is_external(node) { key.to_owned() } else { format!("{project}_{key}") })
}

pub(super) fn networks(project: &str, map: Map) -> BTreeMap<String, Network> {
    let place = Place { file: "project".into(), line: 0 };
    let default = ("default".to_owned(), Node::at(&place, Value::Null));
    let network = |(key, node): (String, Node)| {
        let network = Network { name: full_name(project, &key, &node), external: is_external(&node), node };
        (key, network)
    };
    std::iter::once(default).chain(map).map(network).collect()
}

pub(super) fn volumes(project: &str, map: Map) -> BTreeMap<String, Volume> {
    let volume = |(key, node): (String, Node)| {
        let volume = Volume { name: full_name(project, &key, &node), external: is_external(&node), node };
        (key, volume)
    };
    map.into_iter().map(volume).collect()
}

pub(super) fn files(
    map: Map,
    variables: &dyn Variables,
) -> Result<BTreeMap<String, FileSource>, ComposeError> {
    let mut files = BTreeMap::new();
    for (key, node) in map {
        let field = |name: &str| node.get(name).and_then(Node::text);
        let source = match (field("file"), field("environment"), field("content")) {
            _ if is_external(&node) => FileSource::External,
            (Some(file), None, None) => FileSource::File(PathBuf::from(file)),
            (None, Some(name), None) => {
                variables.get(&name).map_or(FileSource::Unset(name), |value| FileSource::Value(Secret(value)))
            }
            (None, None, Some(content)) => FileSource::Value(Secret(content)),
            _ => {
                let why = "one of file, environment and content has to say where it comes from";
                return Err(invalid(&node, key, why));
            }
        };
        files.insert(key, source);
    }
    Ok(files)
}

/// Whether all that services refer to is there. A service that is not needed and not there is waited for no more.
pub(super) fn references(project: &mut Project) -> Result<(), ComposeError> {
    for service in project.services.values() {
        refers(project, service)?;
    }
    let known: BTreeSet<String> = project.services.keys().cloned().collect();
    let mut services = std::mem::take(&mut project.services);
    for (name, service) in &mut services {
        let place = service.node.get("depends_on").unwrap_or(&service.node).place.clone();
        for (other, dependency) in &service.dependencies {
            let disabled = project.disabled.get(other);
            if known.contains(other) || !dependency.required && disabled.is_some() {
                continue;
            }
            return Err(match disabled {
                Some(disabled) => ComposeError::Disabled {
                    name: other.clone(),
                    by: name.clone(),
                    profiles: disabled.profiles(),
                },
                None if !dependency.required => continue,
                None => {
                    ComposeError::UndefinedDependency { place, service: name.clone(), name: other.clone() }
                }
            });
        }
        service.dependencies.retain(|other, _| known.contains(other));
    }
    project.services = services;
    Ok(())
}

fn refers(project: &Project, service: &Service) -> Result<(), ComposeError> {
    let undefined = |node: &Node, kind, name: &str| ComposeError::Undefined {
        place: node.place.clone(),
        service: service.name.clone(),
        kind,
        name: name.to_owned(),
    };
    let path = || format!("services.{}", service.name);
    if service.node.get("image").is_none() && !service.is_built() {
        let why = "has neither an image nor a build context specified";
        return Err(invalid(&service.node, path(), why));
    }
    if let (Some(mode), Some(_)) = (service.node.get("network_mode"), service.node.get("networks")) {
        return Err(invalid(mode, path(), "declares mutually exclusive `network_mode` and `networks`"));
    }
    for (name, node) in service.networks() {
        if !project.networks.contains_key(&name) {
            return Err(undefined(node.unwrap_or(&service.node), "network", &name));
        }
    }
    for (name, mount) in service.volumes() {
        if !project.volumes.contains_key(&name) {
            return Err(undefined(mount, "volume", &name));
        }
    }
    let build = service.node.get("build").cloned();
    let of_build = build.as_ref().and_then(|build| build.get("secrets")).map_or(&[][..], Node::items);
    let secrets = service.entries("secrets").iter().chain(of_build).map(|entry| ("secret", entry));
    let configs = service.entries("configs").iter().map(|entry| ("config", entry));
    for (kind, entry) in secrets.chain(configs) {
        let name = entry.get("source").and_then(Node::text).unwrap_or_default();
        let defined = if kind == "secret" { &project.secrets } else { &project.configs };
        match defined.get(&name) {
            None => return Err(undefined(entry, kind, &name)),
            Some(FileSource::External) => {
                return Err(invalid(entry, path(), format!("unsupported external {kind} {name}")));
            }
            Some(FileSource::Unset(variable)) => {
                let why =
                    format!("environment variable \"{variable}\" required by {kind} \"{name}\" is not set");
                return Err(invalid(entry, path(), why));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
