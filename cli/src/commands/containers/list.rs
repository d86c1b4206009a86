//! `lap ps`

use std::process::ExitCode;

use docker::documents::containers::{command, ports, status};
use docker::filters::containers::ContainerFilters;
use engine::Engine;
use engine::containers::{Container, MountPoint};
use serde_json::{Value, json};

use super::super::{StoreChoice, now, open};
use crate::container_args::PsArgs;
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::terminal::print_line;
use crate::units;

/// The usual table.
const USUAL: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
/// The same with `--size`.
const WITH_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

/// Lists containers.
pub(super) fn list(store: &StoreChoice, args: &PsArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let mut containers = engine.containers()?;
    let filters = ContainerFilters::parse(&args.filters, &containers)?;
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || filters.is_about_status();
    containers.retain(|container| (all || container.state.status.is_live()) && filters.fit(container));
    containers.truncate(last.unwrap_or(usize::MAX));
    if args.quiet {
        containers.iter().for_each(|container| print_line(id(container, args.no_trunc)));
    } else {
        show(&engine, &containers, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn id(container: &Container, whole: bool) -> &str {
    if whole { &container.id } else { container.short_id() }
}

fn show(engine: &Engine, containers: &[Container], args: &PsArgs) -> Result<(), CliError> {
    let mut rows = Vec::new();
    // Sizes are looked for where somebody will see them.
    let sized = args.size || args.format.as_ref().is_some_and(|format| format.contains(".Size"));
    for container in containers {
        let mut row = row(container, args.no_trunc);
        if sized {
            let size = engine.container_size(container)?;
            let (changes, whole) = (units::bytes(size.changes), units::bytes(size.whole));
            row["Size"] = format!("{changes} (virtual {whole})").into();
        }
        rows.push(row);
    }
    let columns = Columns {
        template: if args.size { WITH_SIZE } else { USUAL },
        titles: &[("ID", "CONTAINER ID"), ("RunningFor", "CREATED")],
    };
    listing::show(&rows, args.format.as_deref(), &columns)
}

/// What a format can use, with Docker's names.
pub(in crate::commands) fn row(container: &Container, whole: bool) -> Value {
    let document = &container.document;
    let labels: Vec<String> = document.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let source = |point: &MountPoint| match (&point.volume, &point.image) {
        (Some(name), _) => name.clone(),
        (None, Some(image)) => image.name.clone(),
        (None, None) => point.source.display().to_string(),
    };
    let mounts: Vec<String> = document.mounts.iter().map(source).collect();
    let volumes = document.mounts.iter().filter(|point| point.volume.is_some()).count();
    json!({
        "Command": command(&document.command, whole),
        "CreatedAt": units::go_time(container.created_at),
        "ID": id(container, whole),
        "Image": document.image,
        "Label": document.labels,
        "Labels": labels.join(","),
        "LocalVolumes": volumes.to_string(),
        "Mounts": mounts.join(","),
        "Names": container.name,
        "Networks": document.network,
        "Platform": document.platform,
        "Ports": ports::column(container),
        "RunningFor": format!("{} ago", units::age(container.created_at, now())),
        "Size": "0B",
        "State": container.state.status.name(),
        "Status": status(container),
    })
}
