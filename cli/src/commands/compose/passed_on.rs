//! `lap compose cp`, `attach`, `stats`, `events`, `push`, `scale` and `version`: what other commands do, for services.

use std::process::ExitCode;
use std::sync::Arc;

use base::event::NullSink;
use compose::flags::label;
use engine::push::PushRequest;

use super::super::{StoreChoice, containers, events, open, parsed, platform};
use super::acting::Acting;
use super::scope::Scope;
use super::up;
use crate::compose_args::{
    AttachServiceArgs, ComposeVersionArgs, CpServiceArgs, ProjectArgs, PushServicesArgs, ScaleArgs,
    ServiceEventsArgs, StatsOfServicesArgs, UpArgs,
};
use crate::container_args::ContainerAction;
use crate::container_args::files::CpArgs;
use crate::error::{CliError, FAILED};
use crate::live_args::EventsArgs;
use crate::signals;
use crate::terminal::print_line;

/// Copies files into containers of a service or out of one.
pub(super) fn copy(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &CpServiceArgs,
) -> Result<ExitCode, CliError> {
    let service = |place: &str| place.split_once(':').map(|(service, _)| service.to_owned());
    // What begins like a path is one of this machine.
    let named = |place: &str| service(place).filter(|name| !name.starts_with(['.', '/']) && !name.is_empty());
    let (from, to) = (named(&args.copy.source), named(&args.copy.destination));
    let name = match (from, to) {
        (Some(_), Some(_)) => {
            return Err(CliError::failed("copying between services is not supported".to_owned()));
        }
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => {
            let message = "unknown copy direction".to_owned();
            return Err(CliError::failed_with_hint(message, "write a path in a container as SERVICE:PATH"));
        }
    };
    let scope = Scope::open(store, project, std::slice::from_ref(&name))?;
    let mut members = scope.members(std::slice::from_ref(&name))?;
    members.retain(|member| args.index.is_none_or(|index| member.number == index));
    let is_into = named(&args.copy.destination).is_some();
    members.truncate(if is_into && (args.all || args.index.is_none()) { usize::MAX } else { 1 });
    if members.is_empty() {
        return Err(no_container(&name, args.index));
    }
    for member in members {
        let place = |place: &str| match service(place) {
            Some(of) if of == name => format!("{}{}", member.container.id, &place[of.len()..]),
            _ => place.to_owned(),
        };
        let copy = CpArgs {
            source: place(&args.copy.source),
            destination: place(&args.copy.destination),
            archive: args.copy.archive,
            follow_link: args.copy.follow_link,
            quiet: args.copy.quiet,
        };
        let what = format!(" {} -> {}", args.copy.source, args.copy.destination);
        if scope.acting.is_dry() {
            scope.acting.tell(&format!(" Container {}  Would copy{what}", member.name()));
            continue;
        }
        containers::act(store, ContainerAction::Cp(copy))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Connects to a container of a service.
pub(super) fn attach(
    store: &StoreChoice,
    project: &ProjectArgs,
    mut args: AttachServiceArgs,
) -> Result<ExitCode, CliError> {
    let service = args.attach.container.clone();
    let scope = Scope::open(store, project, std::slice::from_ref(&service))?;
    args.attach.container = super::exec::member(&scope, &service, args.index)?.container.id;
    containers::act(store, ContainerAction::Attach(args.attach))
}

/// Shows what the containers of services use.
pub(super) fn stats(
    store: &StoreChoice,
    project: &ProjectArgs,
    mut args: StatsOfServicesArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.stats.containers)?;
    let mut members = scope.members(&args.stats.containers)?;
    members.retain(|member| args.stats.all || member.is_live());
    if members.is_empty() {
        let message = format!("project \"{}\" has no container that runs", scope.name);
        return Err(CliError::failed_with_hint(message, "lap compose up starts them"));
    }
    args.stats.containers = members.into_iter().map(|member| member.container.id).collect();
    containers::act(store, ContainerAction::Stats(args.stats))
}

/// Shows what happens to the containers of services.
pub(super) fn follow_events(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &ServiceEventsArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    scope.members(&args.services)?;
    let shown = EventsArgs {
        since: args.since.clone(),
        until: args.until.clone(),
        filters: vec!["type=container".to_owned(), format!("label={}={}", label::PROJECT, scope.name)],
        format: args.json.then(|| "json".to_owned()),
    };
    events::show_if(store, &shown, |event| {
        let service = event.attributes.get(label::SERVICE);
        args.services.is_empty() || service.is_some_and(|service| args.services.contains(service))
    })
}

/// Uploads the images that services build and that have names.
pub(super) fn push(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &PushServicesArgs,
) -> Result<ExitCode, CliError> {
    let (cancel, acting) = (signals::cancel_token(), Acting::of(project));
    let project = super::load(project, &args.services)?;
    let engine = open(store)?;
    let mut code = 0;
    for service in project.selected(&args.services, args.include_deps)? {
        if !service.is_built() || !service.has_image_name() {
            continue;
        }
        let image = service.image(&project.name);
        let tell = |what: &str| {
            if !args.quiet {
                acting.tell(&format!(" {} {what} {image}", service.name));
            }
        };
        tell("Pushing");
        let platform = platform(service.platform().as_deref())?;
        let request = PushRequest { name: image.clone(), all_tags: false, platform };
        match acting.act(|| engine.push(&request, Arc::new(NullSink), &cancel).map(drop)) {
            Ok(()) => tell("Pushed"),
            Err(error) => {
                CliError::engine(&error).about(&format!("service \"{}\"", service.name)).report();
                code = FAILED;
            }
        }
    }
    Ok(ExitCode::from(if args.ignore_push_failures { 0 } else { code }))
}

/// Gives services another number of containers.
pub(super) fn scale(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &ScaleArgs,
) -> Result<ExitCode, CliError> {
    let mut words = vec!["--detach".to_owned(), "--no-recreate".to_owned()];
    words.extend(args.no_deps.then(|| "--no-deps".to_owned()));
    words.extend(args.numbers.iter().map(|number| format!("--scale={number}")));
    let services = args.numbers.iter().map(|number| number.split('=').next().unwrap_or(number).to_owned());
    words.extend(services);
    up::up(store, project, &parsed::<UpArgs>("scale", &words)?)
}

/// Shows the version.
pub(super) fn version(args: &ComposeVersionArgs) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    match (args.short, args.format.as_str()) {
        (true, _) => print_line(version),
        (_, "json") => print_line(&serde_json::json!({ "version": version }).to_string()),
        _ => print_line(&format!("lap compose version {version}")),
    }
    ExitCode::SUCCESS
}

fn no_container(service: &str, index: Option<u32>) -> CliError {
    let which = index.map(|index| format!(" with index {index}")).unwrap_or_default();
    CliError::failed(format!("no container found for service \"{service}\"{which}"))
}
