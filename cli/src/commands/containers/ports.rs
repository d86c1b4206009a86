//! Ports of containers: `lap port`, and how they are shown elsewhere. The forms are Docker's.

use std::net::SocketAddr;
use std::process::ExitCode;

use docker::documents::containers::ports::by_port;
use engine::containers::Container;
use engine::network::ContainerPort;

use super::super::{StoreChoice, open};
use crate::container_args::PortArgs;
use crate::error::CliError;
use crate::terminal::print_line;

/// Shows where the host offers the ports of a container, or one of them.
pub(super) fn show(store: &StoreChoice, args: &PortArgs) -> Result<ExitCode, CliError> {
    let wanted = args.port.as_deref().map(wanted).transpose()?;
    let all = by_port(&open(store)?.container(&args.container)?);
    let Some(port) = wanted else {
        for (port, hosts) in &all {
            hosts.iter().for_each(|host| print_line(&format!("{port} -> {host}")));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let hosts = all.get(&port).filter(|hosts| !hosts.is_empty());
    let hosts = hosts.ok_or_else(|| {
        CliError::failed(format!("no public port '{port}' published for {}", args.container))
    })?;
    hosts.iter().for_each(|host| print_line(&host.to_string()));
    Ok(ExitCode::SUCCESS)
}

fn wanted(text: &str) -> Result<ContainerPort, CliError> {
    text.parse().map_err(|_| {
        CliError::usage(format!("invalid port \"{text}\""), "write a port of the container, as 80 or 53/udp")
    })
}

/// Where the host offers a port of a container, as `80/tcp`.
pub(in crate::commands) fn offered(container: &Container, port: &str) -> Vec<String> {
    let mut all = by_port(container).into_iter();
    let found = all.find(|(known, _)| known.to_string() == port);
    found.map(|(_, hosts)| hosts.iter().map(SocketAddr::to_string).collect()).unwrap_or_default()
}
