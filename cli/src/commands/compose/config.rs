//! `lap compose config`

use std::collections::BTreeSet;
use std::process::ExitCode;

use compose::flags::{self, Role};
use compose::{Project, canonical};

use crate::compose_args::{ConfigArgs, ProjectArgs};
use crate::error::CliError;
use crate::terminal::print;

/// Shows the project, or a list of what is in it.
pub(super) fn show(project: &ProjectArgs, args: &ConfigArgs) -> Result<ExitCode, CliError> {
    let mut project = super::load(project, &args.services)?;
    let chosen: BTreeSet<String> =
        project.selected(&args.services, true)?.into_iter().map(|service| service.name.clone()).collect();
    if !args.services.is_empty() {
        project.services.retain(|name, _| chosen.contains(name));
    }
    let text = text(&project, args)?;
    match &args.output {
        _ if args.quiet => {}
        None => print(&text),
        Some(path) => std::fs::write(path, text)
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(project: &Project, args: &ConfigArgs) -> Result<String, CliError> {
    let lines = |names: Vec<String>| names.iter().map(|name| format!("{name}\n")).collect();
    let services: Vec<_> = project.services.values().collect();
    if args.list_services {
        return Ok(lines(project.services.keys().cloned().collect()));
    }
    if args.volumes {
        return Ok(lines(project.volumes.keys().cloned().collect()));
    }
    if args.networks {
        let used = project.used_networks(&services);
        return Ok(lines(used.into_iter().map(|(name, _)| name.clone()).collect()));
    }
    if args.images {
        return Ok(lines(services.iter().map(|service| service.image(&project.name)).collect()));
    }
    if args.profiles {
        return Ok(lines(project.profiles().into_iter().collect()));
    }
    if let Some(wanted) = &args.hash {
        let mut text = String::new();
        let names: Vec<String> = wanted.split(',').filter(|name| *name != "*").map(str::to_owned).collect();
        for service in project.selected(&names, false)? {
            let hash = flags::container(project, service, Role::Replica(1))?.hash;
            text.push_str(&format!("{} {hash}\n", service.name));
        }
        return Ok(text);
    }
    let document = canonical::escaped(project.document());
    Ok(match args.format.as_str() {
        "json" => format!("{:#}\n", canonical::json(&document)),
        _ => canonical::yaml(&document),
    })
}
