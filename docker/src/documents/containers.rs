//! Containers, as `inspect` shows them and lists do.

mod host_config;
pub mod ports;
pub mod stats;
pub mod summary;

pub(crate) use host_config::{MASKED, READ_ONLY};

use std::net::IpAddr;

use base::Timestamp;
use engine::Engine;
use engine::containers::{
    Container, ContainerSettings, HealthCheck, HealthStatus, Membership, MountPoint, Status,
};
use engine::error::EngineError;
use engine::network::{Endpoint, InetEndpoint};
use engine::request::LogDriver;
use serde_json::{Value, json};

use super::NEVER;
use crate::units;

/// Characters of a command that are shown.
const COMMAND_WIDTH: usize = 20;

/// A container in Docker's shape. With `size`, also how large it is.
///
/// # Errors
/// The store cannot say how it is run.
pub fn document(engine: &Engine, container: &Container, size: bool) -> Result<Value, EngineError> {
    let asked = &container.document;
    let settings = engine.container_settings(container)?;
    let (path, args) =
        asked.command.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    let file = |name: &str| settings.directory.join(name).display().to_string();
    let mut value = json!({
        "Id": container.id,
        "Created": container.created_at.to_string(),
        "Path": path,
        "Args": args,
        "State": state(container),
        "Image": container.image_id.to_string(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log_path(container),
        "Name": format!("/{}", container.name),
        "RestartCount": container.state.restart_count,
        "Driver": driver(&settings),
        "Platform": asked.platform.split('/').next().unwrap_or_default(),
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config::document(container, &settings),
        "GraphDriver": { "Name": driver(&settings), "Data": layers(&settings) },
        "Mounts": mounts(container),
        "Config": config(container, &settings),
        "NetworkSettings": network(engine, container)?,
    });
    if size {
        let sizes = engine.container_size(container)?;
        value["SizeRw"] = sizes.changes.into();
        value["SizeRootFs"] = sizes.whole.into();
    }
    Ok(value)
}

fn driver(settings: &ContainerSettings) -> &'static str {
    if settings.upper.is_some() { "overlay2" } else { "vfs" }
}

/// Where the files of a container lie, by Docker's names for directories of an overlay.
fn layers(settings: &ContainerSettings) -> Value {
    let Some((upper, work)) = &settings.upper else { return Value::Null };
    let lower: Vec<String> = settings.lower.iter().map(|path| path.display().to_string()).collect();
    json!({ "LowerDir": lower.join(":"), "UpperDir": upper.display().to_string(), "WorkDir": work.display().to_string() })
}

/// What a container has from its image, as it was changed.
fn config(container: &Container, settings: &ContainerSettings) -> Value {
    let asked = &container.document;
    let exposed: serde_json::Map<String, Value> =
        asked.exposed.iter().map(|port| (port.to_string(), json!({}))).collect();
    let volumes: serde_json::Map<String, Value> = asked
        .mounts
        .iter()
        .filter(|point| point.volume.is_some())
        .map(|point| (point.target.clone(), json!({})))
        .collect();
    let usual = [asked.open_stdin && asked.attached, asked.attached, asked.attached];
    let [stdin, stdout, stderr] = asked.streams.map_or(usual, |said| said.attached);
    let once = asked.streams.map_or(asked.open_stdin && !asked.tty, |said| said.once);
    let mut value = json!({
        "Hostname": asked.hostname,
        "Domainname": asked.domainname,
        "User": asked.user,
        "AttachStdin": stdin,
        "AttachStdout": stdout,
        "AttachStderr": stderr,
        "Tty": asked.tty,
        "OpenStdin": asked.open_stdin,
        "StdinOnce": once,
        "Env": asked.env,
        "Cmd": asked.command.get(asked.entrypoint.as_ref().map_or(0, Vec::len)..).unwrap_or_default(),
        "Image": asked.image,
        "Volumes": if volumes.is_empty() { Value::Null } else { volumes.into() },
        "WorkingDir": asked.working_dir,
        "Entrypoint": asked.entrypoint,
        "OnBuild": null,
        "Labels": asked.labels,
        "StopSignal": asked.stop_signal,
    });
    if !exposed.is_empty() {
        value["ExposedPorts"] = exposed.into();
    }
    if let Some(seconds) = asked.stop_timeout {
        value["StopTimeout"] = seconds.into();
    }
    if let Some(check) = &settings.health {
        value["Healthcheck"] = healthcheck(check);
    }
    value
}

/// How health is told, with times in nanoseconds.
fn healthcheck(check: &HealthCheck) -> Value {
    let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let test: Vec<&str> = std::iter::once("CMD").chain(check.command.iter().map(String::as_str)).collect();
    json!({
        "Test": test,
        "Interval": nanoseconds(check.interval),
        "Timeout": nanoseconds(check.timeout),
        "StartPeriod": nanoseconds(check.start_period),
        "StartInterval": nanoseconds(check.start_interval),
        "Retries": check.retries,
    })
}

/// What a container has of its networks. What it does not have is empty, as in Docker.
fn network(engine: &Engine, container: &Container) -> Result<Value, EngineError> {
    let endpoint = container.state.network.clone().unwrap_or_default();
    let mut settings = endpoint_document(&endpoint);
    settings["Ports"] = ports::document(container);
    let mut networks = serde_json::Map::new();
    for membership in engine.memberships(container)? {
        let mut shown = endpoint_document(&membership.endpoint);
        let asked = asked_document(&membership);
        if let (Some(all), Value::Object(asked)) = (shown.as_object_mut(), asked) {
            all.extend(asked);
        }
        networks.insert(membership.name, shown);
    }
    settings["Networks"] = networks.into();
    Ok(settings)
}

/// What was asked for about a container's part of a network. What was not is null, as Go writes what was never made.
fn asked_document(membership: &Membership) -> Value {
    let Membership { id, endpoint, links, .. } = membership;
    let asked = &endpoint.asked;
    let some = |list: Vec<String>| if list.is_empty() { Value::Null } else { list.into() };
    let mut addresses = serde_json::Map::new();
    let given = [
        ("IPv4Address", asked.address.map(|address| address.to_string())),
        ("IPv6Address", asked.address6.map(|address| address.to_string())),
    ];
    addresses
        .extend(given.into_iter().filter_map(|(name, address)| Some((name.to_owned(), address?.into()))));
    let link_local: Vec<String> = asked.card.link_local.iter().map(IpAddr::to_string).collect();
    if !link_local.is_empty() {
        addresses.insert("LinkLocalIPs".to_owned(), link_local.into());
    }
    // The first two names are the container's own: that which it was given, and its id.
    let names = endpoint.network.iter().flat_map(|network| network.names.iter().skip(2).cloned());
    json!({
        "IPAMConfig": if addresses.is_empty() { Value::Null } else { addresses.into() },
        "Links": some(links.clone()),
        "Aliases": some(names.collect()),
        "DriverOpts": if asked.card.given.is_empty() { Value::Null } else { json!(asked.card.given) },
        "NetworkID": id,
    })
}

/// What a container has of one network.
fn endpoint_document(endpoint: &Endpoint) -> Value {
    let address = |inet: &Option<InetEndpoint>| inet.map_or(String::new(), |inet| inet.address.to_string());
    let length = |inet: &Option<InetEndpoint>| inet.and_then(|inet| inet.length).unwrap_or(0);
    let gateway = |inet: &Option<InetEndpoint>| {
        inet.and_then(|inet| inet.gateway).map_or(String::new(), |gateway| gateway.to_string())
    };
    let Endpoint { inet, inet6, mac, network, .. } = endpoint;
    let names = network.as_ref().map(|network| network.names.clone()).unwrap_or_default();
    let id = network.as_ref().map_or("", |network| network.id.as_str());
    json!({
        "NetworkID": id,
        "DNSNames": names,
        "IPAddress": address(inet),
        "IPPrefixLen": length(inet),
        "Gateway": gateway(inet),
        "GlobalIPv6Address": address(inet6),
        "GlobalIPv6PrefixLen": length(inet6),
        "IPv6Gateway": gateway(inet6),
        "MacAddress": mac.map_or(String::new(), |mac| mac.to_string()),
    })
}

fn state(container: &Container) -> Value {
    let state = &container.state;
    let time = |time: Option<Timestamp>| time.map_or(NEVER.to_owned(), |time| time.to_string());
    let mut value = json!({
        "Status": state.status.name(),
        "Running": state.status.is_live(),
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.out_of_memory,
        "Dead": false,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": time(state.started_at),
        "FinishedAt": time(state.finished_at),
    });
    if let Some(health) = &state.health {
        value["Health"] = json!({
            "Status": health.status.name(),
            "FailingStreak": health.failing_streak,
            "Log": health.log,
        });
    }
    value
}

/// The file of the log, where Docker's tools could read it.
fn log_path(container: &Container) -> String {
    match container.document.log.driver {
        LogDriver::JsonFile => container.log_path.display().to_string(),
        _ => String::new(),
    }
}

/// Docker's name for what a mount shows.
fn kind(point: &MountPoint) -> &'static str {
    match (&point.volume, &point.image) {
        (Some(_), _) => "volume",
        (None, Some(_)) => "image",
        (None, None) => "bind",
    }
}

fn mounts(container: &Container) -> Vec<Value> {
    let mount = |point: &MountPoint| {
        let mut value = json!({
            "Type": kind(point),
            "Source": point.source.display().to_string(),
            "Destination": point.target,
            "Mode": if point.writable || point.image.is_some() { "" } else { "ro" },
            "RW": point.writable,
            "Propagation": point.propagation,
        });
        if let Some(name) = &point.volume {
            value["Name"] = name.as_str().into();
            value["Driver"] = engine::volumes::DRIVER.into();
        }
        if let Some(image) = &point.image {
            value["Name"] = image.name.as_str().into();
        }
        value
    };
    container.document.mounts.iter().map(mount).collect()
}

/// The command in quotes, cut off where it is long.
pub fn command(words: &[String], whole: bool) -> String {
    let text = words.join(" ");
    if whole || text.chars().count() <= COMMAND_WIDTH {
        return format!("\"{text}\"");
    }
    let start: String = text.chars().take(COMMAND_WIDTH - 1).collect();
    format!("\"{start}…\"")
}

/// What a container does, in Docker's words.
pub fn status(container: &Container) -> String {
    let state = &container.state;
    let since =
        |time: Option<base::Timestamp>| units::age(time.unwrap_or(container.created_at), engine::now());
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}{}", since(state.started_at), health(container)),
        Status::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
    }
}

fn health(container: &Container) -> &'static str {
    match container.state.health.as_ref().map(|health| health.status) {
        None => "",
        Some(HealthStatus::Starting) => " (health: starting)",
        Some(HealthStatus::Healthy) => " (healthy)",
        Some(HealthStatus::Unhealthy) => " (unhealthy)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_cut_off() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(command(&words("sleep 10"), false), "\"sleep 10\"");
        assert_eq!(command(&words("sh -c while true; do x; done"), false), "\"sh -c while true; d…\"");
        assert_eq!(command(&words("sh -c while true; do x; done"), true), "\"sh -c while true; do x; done\"");
    }
}
