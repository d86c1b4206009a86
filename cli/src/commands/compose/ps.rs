//! `lap compose ps`, `ls`, `images`, `top` and `port`

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use base::Reference;
use compose::flags::label;
use engine::containers::HealthStatus;
use serde_json::{Value, json};

use super::super::{StoreChoice, containers, open};
use super::scope::{Member, Scope};
use crate::compose_args::{
    ListArgs, PortOfServiceArgs, ProjectArgs, ServiceImagesArgs, ServicePsArgs, ServicesArgs,
};
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::terminal::{print, print_line};
use crate::units;

/// Lists the containers of a project.
pub(super) fn show(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &ServicePsArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let mut members = scope.members(&args.services)?;
    let status = |member: &Member| member.container.state.status.name();
    let mut wanted = args.statuses.clone();
    for filter in &args.filters {
        match filter.split_once('=') {
            Some(("status", value)) => wanted.push(value.to_owned()),
            _ => {
                return Err(CliError::usage(
                    format!("invalid filter '{filter}'"),
                    "the filter is status=STATUS",
                ));
            }
        }
    }
    members.retain(|member| match wanted.is_empty() {
        true => args.all || member.is_live(),
        false => wanted.iter().any(|wanted| wanted == status(member)),
    });
    if args.list_services {
        let services: BTreeSet<&str> = members.iter().map(|member| member.service.as_str()).collect();
        services.into_iter().for_each(print_line);
    } else if args.quiet {
        members.iter().for_each(|member| print_line(&member.container.id));
    } else {
        let rows: Vec<Value> = members.iter().map(|member| row(member, &scope.name, args.no_trunc)).collect();
        let columns = Columns {
            template: "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}",
            titles: &[("RunningFor", "CREATED")],
        };
        let format =
            args.format.as_deref().map(|format| if format == "json" { "{{json .}}" } else { format });
        listing::show(&rows, format, &columns)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a format can use: all of `lap ps`, and what Compose adds.
fn row(member: &Member, project: &str, whole: bool) -> Value {
    let mut row = containers::row(&member.container, whole);
    let state = &member.container.state;
    let health = match state.health.as_ref().map(|health| health.status) {
        None => "",
        Some(HealthStatus::Starting) => "starting",
        Some(HealthStatus::Healthy) => "healthy",
        Some(HealthStatus::Unhealthy) => "unhealthy",
    };
    row["Name"] = member.name().into();
    row["Service"] = member.service.clone().into();
    row["Project"] = project.into();
    row["Health"] = health.into();
    row["ExitCode"] = state.exit_code.into();
    row
}

/// Lists the images that containers were made of.
pub(super) fn images(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &ServiceImagesArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let mut rows = Vec::new();
    for member in scope.members(&args.services)? {
        let id = member.container.image_id;
        let image = scope.engine.inspect(&id.to_string())?.summary;
        let name = member.container.document.image.parse::<Reference>().ok();
        let repository = name.as_ref().map(Reference::familiar_repository);
        rows.push(json!({
            "Container": member.name(),
            "Repository": repository.unwrap_or_else(|| "<none>".to_owned()),
            "Tag": name.and_then(|name| name.tag).unwrap_or_else(|| "<none>".to_owned()),
            "ID": id.short(),
            "Size": units::bytes(image.size),
        }));
    }
    if args.quiet {
        let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["ID"].as_str()).collect();
        ids.into_iter().for_each(print_line);
        return Ok(ExitCode::SUCCESS);
    }
    let columns = Columns {
        template: "{{.Container}}\t{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Size}}",
        titles: &[("ID", "IMAGE ID")],
    };
    let format = args.format.as_deref().map(|format| if format == "json" { "{{json .}}" } else { format });
    listing::show(&rows, format, &columns)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the processes of each container that has some.
pub(super) fn top(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &ServicesArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    for member in scope.members(&args.services)?.iter().filter(|member| member.is_live()) {
        let text = containers::processes(&scope.engine, &member.container.id, &[])?;
        print(&format!("{}\n{text}\n", member.name()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists the projects that have containers.
pub(super) fn list(store: &StoreChoice, args: &ListArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let mut projects: BTreeMap<String, (BTreeMap<&'static str, usize>, String)> = BTreeMap::new();
    for container in engine.containers()? {
        let labels = &container.document.labels;
        let is_one_off = labels.get(label::ONE_OFF).is_some_and(|is| is == "True");
        let Some(project) = labels.get(label::PROJECT).filter(|_| !is_one_off) else { continue };
        let (statuses, directory) = projects.entry(project.clone()).or_default();
        if let Some(named) = labels.get(label::DIRECTORY) {
            directory.clone_from(named);
        }
        *statuses.entry(container.state.status.name()).or_default() += 1;
    }
    projects.retain(|_, (statuses, _)| args.all || statuses.contains_key("running"));
    if args.quiet {
        projects.keys().for_each(|name| print_line(name));
        return Ok(ExitCode::SUCCESS);
    }
    let row = |(name, (statuses, directory)): (&String, &(BTreeMap<&str, usize>, String))| {
        let statuses: Vec<String> =
            statuses.iter().map(|(status, count)| format!("{status}({count})")).collect();
        json!({ "Name": name, "Status": statuses.join(", "), "ConfigDir": directory })
    };
    let rows: Vec<Value> = projects.iter().map(row).collect();
    if args.format.as_deref() == Some("json") {
        print_line(&Value::from(rows).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let titles = &[("ConfigDir", "DIRECTORY")];
    let columns = Columns { template: "{{.Name}}\t{{.Status}}\t{{.ConfigDir}}", titles };
    listing::show(&rows, args.format.as_deref(), &columns)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints where a port of a service's container is offered.
pub(super) fn port(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &PortOfServiceArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, std::slice::from_ref(&args.service))?;
    let member = super::exec::member(&scope, &args.service, args.index)?;
    let wanted = format!("{}/{}", args.port, args.protocol);
    let offered = containers::offered(&member.container, &wanted);
    if offered.is_empty() {
        let message = format!("no port {wanted} for container {}", member.name());
        return Err(CliError::failed(message));
    }
    offered.iter().for_each(|address| print_line(address));
    Ok(ExitCode::SUCCESS)
}
