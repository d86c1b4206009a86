//! `lap inspect`, and `lap container inspect`: the documents that Docker shows.

use std::process::ExitCode;

use base::Timestamp;
use engine::containers::{Bind, Container, Status};
use engine::error::EngineError;
use engine::network::{Endpoint, InetEndpoint, Publish};
use serde_json::{Value, json};

use super::super::images::inspect_json;
use super::super::{StoreChoice, open};
use super::ports;
use crate::container_args::{AnyInspectArgs, ContainerInspectArgs};
use crate::error::{CliError, FAILED};
use crate::template;
use crate::terminal::print_line;

/// The time of what has not happened, as Go has it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Shows containers in full.
pub(super) fn containers(store: &StoreChoice, args: &ContainerInspectArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    show(&args.containers, args.format.as_deref(), |name| Ok(document(&engine.container(name)?)))
}

/// Shows whatever has a name: containers, else images.
pub(crate) fn any(store: &StoreChoice, args: &AnyInspectArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let kind = args.kind.as_deref();
    show(&args.names, args.format.as_deref(), |name| {
        if kind != Some("image") {
            match engine.container(name) {
                Ok(container) => return Ok(document(&container)),
                Err(EngineError::NoSuchContainer(_)) if kind.is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
        match engine.inspect(name) {
            Err(EngineError::NoSuchImage(name)) if kind.is_none() => {
                Err(CliError::failed(format!("No such object: {name}")))
            }
            found => inspect_json(&found?),
        }
    })
}

/// Prints what is found of all names, and fails if something is not.
fn show(
    names: &[String],
    format: Option<&str>,
    find: impl Fn(&str) -> Result<Value, CliError>,
) -> Result<ExitCode, CliError> {
    let mut found = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match find(name) {
            Ok(value) => found.push(value),
            Err(error) => {
                error.report();
                code = ExitCode::from(FAILED);
            }
        }
    }
    match format {
        Some(format) if format != "json" => {
            for value in &found {
                print_line(&template::fill(format, value)?);
            }
        }
        Some(_) => print_line(&Value::from(found).to_string()),
        None => print_line(&format!("{:#}", Value::from(found))),
    }
    Ok(code)
}

/// A container in Docker's shape.
fn document(container: &Container) -> Value {
    let asked = &container.document;
    let (path, args) =
        asked.command.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    let exposed: serde_json::Map<String, Value> =
        asked.exposed.iter().map(|port| (port.to_string(), json!({}))).collect();
    json!({
        "Id": container.id,
        "Created": container.created_at.to_string(),
        "Path": path,
        "Args": args,
        "State": state(container),
        "Image": container.image_id.to_string(),
        "LogPath": container.log_path.display().to_string(),
        "Name": format!("/{}", container.name),
        "RestartCount": container.state.restart_count,
        "Driver": "overlay2",
        "Platform": asked.platform.split('/').next().unwrap_or_default(),
        "Mounts": mounts(container),
        "HostConfig": host_config(container),
        "Config": {
            "Hostname": asked.hostname,
            "Domainname": asked.domainname,
            "User": asked.user,
            "Tty": asked.tty,
            "OpenStdin": asked.open_stdin,
            "Env": asked.env,
            "Cmd": asked.command.get(asked.entrypoint.as_ref().map_or(0, Vec::len)..).unwrap_or_default(),
            "Image": asked.image,
            "WorkingDir": asked.working_dir,
            "Entrypoint": asked.entrypoint,
            "Labels": asked.labels,
            "ExposedPorts": exposed,
            "StopSignal": asked.stop_signal,
            "StopTimeout": asked.stop_timeout,
        },
        "NetworkSettings": network(container),
    })
}

/// What a container has of its network. What it does not have is empty, as in Docker.
fn network(container: &Container) -> Value {
    let endpoint = container.state.network.clone().unwrap_or_default();
    let address = |inet: &Option<InetEndpoint>| inet.map_or(String::new(), |inet| inet.address.to_string());
    let length = |inet: &Option<InetEndpoint>| inet.and_then(|inet| inet.length).unwrap_or(0);
    let gateway = |inet: &Option<InetEndpoint>| {
        inet.and_then(|inet| inet.gateway).map_or(String::new(), |gateway| gateway.to_string())
    };
    let Endpoint { inet, inet6, mac, .. } = &endpoint;
    let own = json!({
        "IPAddress": address(inet),
        "IPPrefixLen": length(inet),
        "Gateway": gateway(inet),
        "GlobalIPv6Address": address(inet6),
        "GlobalIPv6PrefixLen": length(inet6),
        "IPv6Gateway": gateway(inet6),
        "MacAddress": mac.map_or(String::new(), |mac| mac.to_string()),
    });
    let mut settings = own.clone();
    settings["Ports"] = ports::document(container);
    settings["Networks"] = match container.document.network.starts_with("container:") {
        true => json!({}),
        false => json!({ &container.document.network: own }),
    };
    settings
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

fn mounts(container: &Container) -> Vec<Value> {
    let mount = |bind: &Bind| {
        json!({
            "Type": "bind",
            "Source": bind.source.display().to_string(),
            "Destination": bind.target,
            "Mode": if bind.writable { "" } else { "ro" },
            "RW": bind.writable,
            "Propagation": bind.propagation,
        })
    };
    container.document.binds.iter().map(mount).collect()
}

fn host_config(container: &Container) -> Value {
    let asked = &container.document;
    let bind = |bind: &Bind| {
        let access = if bind.writable { "" } else { ":ro" };
        format!("{}:{}{access}", bind.source.display(), bind.target)
    };
    let mut log = serde_json::Map::new();
    if let Some(size) = asked.log.max_size {
        log.insert("max-size".to_owned(), size.to_string().into());
        log.insert("max-file".to_owned(), asked.log.max_files.to_string().into());
    }
    json!({
        "Binds": asked.binds.iter().map(bind).collect::<Vec<_>>(),
        "LogConfig": { "Type": asked.log.driver.name(), "Config": log },
        "NetworkMode": asked.network,
        "PortBindings": port_bindings(container),
        "PidMode": asked.pid_mode,
        "IpcMode": asked.ipc_mode,
        "ExtraHosts": asked.hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect::<Vec<_>>(),
        "Dns": asked.resolver.servers,
        "DnsSearch": asked.resolver.search,
        "DnsOptions": asked.resolver.options,
        "RestartPolicy": { "Name": asked.restart.name(), "MaximumRetryCount": asked.restart.most() },
        "AutoRemove": asked.remove,
        "Privileged": asked.privileged,
        "ReadonlyRootfs": asked.read_only,
    })
}
