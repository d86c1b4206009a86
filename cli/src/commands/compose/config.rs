//! `lap compose config`

use std::collections::BTreeSet;
use std::process::ExitCode;

use compose::flags::{self, Role};
use compose::yaml::Node;
use compose::{Project, canonical};

use crate::compose_args::{ConfigArgs, ProjectArgs};
use crate::error::CliError;
use crate::terminal::{complain, print};

/// Shows the project, or a list of what is in it.
pub(super) fn show(project: &ProjectArgs, args: &ConfigArgs) -> Result<ExitCode, CliError> {
    if args.no_interpolate {
        return write(args, &raw(project, args)?);
    }
    let mut project = super::load(project, &args.services)?;
    let chosen: BTreeSet<String> =
        project.selected(&args.services, true)?.into_iter().map(|service| service.name.clone()).collect();
    if !args.services.is_empty() {
        project.services.retain(|name, _| chosen.contains(name));
    }
    write(args, &text(&project, args)?)
}

/// Shows a text, or writes it to a file.
fn write(args: &ConfigArgs, text: &str) -> Result<ExitCode, CliError> {
    match &args.output {
        _ if args.quiet => {}
        None => print(text),
        Some(path) => std::fs::write(path, text)
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the files say together, with variables as they are written.
fn raw(project: &ProjectArgs, args: &ConfigArgs) -> Result<String, CliError> {
    let options = super::options(project, &args.services)?;
    let (mut root, warnings) = compose::load_raw(&options, &super::files::Disk)?;
    warnings.iter().for_each(|warning| complain(&format!("WARNING: {warning}")));
    let names = |root: &Node, section: &str| -> Vec<String> {
        root.get(section).and_then(Node::map).map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    let known = names(&root, "services");
    if let Some(unknown) = args.services.iter().find(|name| !known.contains(name)) {
        return Err(compose::ComposeError::NoSuchService(unknown.clone()).into());
    }
    let services = root.map_mut().and_then(|map| map.get_mut("services")).and_then(Node::map_mut);
    if let (Some(services), false) = (services, args.services.is_empty()) {
        services.retain(|name, _| args.services.contains(name));
    }
    let lists = [(args.list_services, "services"), (args.volumes, "volumes"), (args.networks, "networks")];
    if let Some((_, section)) = lists.into_iter().find(|(wanted, _)| *wanted) {
        return Ok(names(&root, section).iter().map(|name| format!("{name}\n")).collect());
    }
    Ok(shown(&root, args))
}

/// A tree as it was asked for.
fn shown(root: &Node, args: &ConfigArgs) -> String {
    match args.format.as_str() {
        "json" => format!("{:#}\n", canonical::json(root)),
        _ => canonical::yaml(root),
    }
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
    Ok(shown(&canonical::escaped(project.document()), args))
}
