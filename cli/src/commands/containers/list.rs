//! `lap ps`

use std::process::ExitCode;

use engine::containers::{Container, HealthStatus, Status};
use serde_json::{Value, json};

use super::super::{StoreChoice, now, open};
use super::ports;
use crate::container_args::PsArgs;
use crate::container_filter::ContainerFilters;
use crate::error::CliError;
use crate::terminal::{print, print_line};
use crate::{table, template, units};

/// Characters of a command that are shown.
const COMMAND_WIDTH: usize = 20;

/// Lists containers.
pub(super) fn list(store: &StoreChoice, args: &PsArgs) -> Result<ExitCode, CliError> {
    let mut containers = open(store)?.containers()?;
    let filters = ContainerFilters::parse(&args.filters, &containers)?;
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || filters.is_about_status();
    containers.retain(|container| (all || container.state.status.is_live()) && filters.fit(container));
    containers.truncate(last.unwrap_or(usize::MAX));
    if args.quiet {
        containers.iter().for_each(|container| print_line(id(container, args.no_trunc)));
    } else if let Some(format) = args.format.as_deref().filter(|format| *format != "table") {
        for container in &containers {
            print_line(&template::fill(format, &row(container, args.no_trunc))?);
        }
    } else {
        print(&table_of(&containers, args.no_trunc));
    }
    Ok(ExitCode::SUCCESS)
}

fn id(container: &Container, whole: bool) -> &str {
    if whole { &container.id } else { container.short_id() }
}

fn table_of(containers: &[Container], whole: bool) -> String {
    let columns = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    let cells = |container: &Container| {
        let row = row(container, whole);
        columns.iter().map(|name| row[*name].as_str().unwrap_or_default().to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = containers.iter().map(cells).collect();
    table::render(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"], &rows)
}

/// What a format can use, with Docker's names.
fn row(container: &Container, whole: bool) -> Value {
    let document = &container.document;
    let labels: Vec<String> = document.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mounts: Vec<String> = document.binds.iter().map(|bind| bind.source.display().to_string()).collect();
    json!({
        "Command": command(&document.command, whole),
        "CreatedAt": container.created_at.to_string(),
        "ID": id(container, whole),
        "Image": document.image,
        "Labels": labels.join(","),
        "LocalVolumes": "0",
        "Mounts": mounts.join(","),
        "Names": container.name,
        "Networks": document.network,
        "Ports": ports::column(container),
        "RunningFor": format!("{} ago", units::age(container.created_at, now())),
        "Size": "0B",
        "State": container.state.status.name(),
        "Status": status(container),
    })
}

/// The command in quotes, cut off where it is long.
fn command(words: &[String], whole: bool) -> String {
    let text = words.join(" ");
    if whole || text.chars().count() <= COMMAND_WIDTH {
        return format!("\"{text}\"");
    }
    let start: String = text.chars().take(COMMAND_WIDTH - 1).collect();
    format!("\"{start}…\"")
}

/// What a container does, in Docker's words.
pub(crate) fn status(container: &Container) -> String {
    let state = &container.state;
    let since = |time: Option<base::Timestamp>| units::age(time.unwrap_or(container.created_at), now());
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
