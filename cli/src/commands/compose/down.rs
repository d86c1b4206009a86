//! `lap compose down`, and ending containers in their order.

use std::collections::BTreeMap;
use std::process::ExitCode;

use compose::Project;
use engine::Engine;
use engine::error::EngineError;

use super::super::StoreChoice;
use super::acting::Acting;
use super::hooks;
use super::resources;
use super::scope::{Member, Scope, members, orphans};
use crate::compose_args::{DownArgs, ProjectArgs};
use crate::error::{CliError, FAILED};
use crate::terminal::complain;

/// Ends and removes containers, then networks, and on demand volumes and images.
pub(super) fn down(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &DownArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let mut wanted = scope.members(&args.services)?;
    if args.services.is_empty() {
        let all = members(&scope.engine, &scope.name)?;
        if let (Some(project), true) = (&scope.project, args.remove_orphans) {
            wanted.extend(orphans(project, &all));
        }
        wanted.extend(all.into_iter().filter(|member| member.one_off));
    }
    let images: Vec<String> = wanted.iter().map(|member| member.container.document.image.clone()).collect();
    let is_empty = wanted.is_empty();
    remove(
        &scope.engine,
        scope.acting,
        scope.project.as_ref(),
        levels(scope.project.as_ref(), wanted),
        args.timeout,
        args.volumes,
    )?;
    if args.services.is_empty() {
        resources::remove_networks(&scope.engine, scope.acting, &scope.name)?;
        if args.volumes {
            resources::remove_volumes(&scope.engine, scope.acting, &scope.name)?;
        }
    }
    if let Some(kind) = &args.rmi {
        remove_images(&scope, kind, images);
    }
    if is_empty && scope.project.is_none() {
        complain(&format!("WARNING: No resource found to remove for project \"{}\".", scope.name));
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the images of services: all, or those that have only the name that they were given here.
fn remove_images(scope: &Scope, kind: &str, used: Vec<String>) {
    let services = scope.project.iter().flat_map(|project| project.services.values());
    let mut images: Vec<String> = services
        .filter(|service| kind == "all" || !service.has_image_name())
        .map(|service| service.image(&scope.name))
        .collect();
    if kind == "all" {
        images.extend(used);
    }
    images.sort();
    images.dedup();
    for image in images {
        let removed = match scope.acting.is_dry() {
            true => scope.engine.inspect(&image).map(drop),
            false => scope.engine.remove_image(&image, false).map(drop),
        };
        match removed {
            Ok(()) => scope.acting.tell(&format!(" Image {image}  Removed")),
            Err(EngineError::NoSuchImage(_)) => {}
            Err(error) => complain(&format!("WARNING: image {image} stays: {error}")),
        }
    }
}

/// Containers in groups, the first of which nobody waits for.
pub(super) fn levels(project: Option<&Project>, members: Vec<Member>) -> Vec<Vec<Member>> {
    let mut depth: BTreeMap<&str, usize> = BTreeMap::new();
    let order = project.and_then(|project| project.selected(&[], true).ok()).unwrap_or_default();
    for service in order.iter().rev() {
        let own = depth.get(service.name.as_str()).copied().unwrap_or(0);
        for needed in service.dependencies.keys() {
            let other = depth.entry(needed).or_default();
            *other = (*other).max(own + 1);
        }
    }
    let mut groups: BTreeMap<usize, Vec<Member>> = BTreeMap::new();
    for member in members {
        groups.entry(depth.get(member.service.as_str()).copied().unwrap_or(0)).or_default().push(member);
    }
    groups.into_values().collect()
}

/// Does something with all containers of a group at once, and tells of each that it is `what`; goes on after a failure, and fails at the end.
pub(super) fn at_once(
    acting: Acting,
    group: &[Member],
    what: &str,
    act: impl Fn(&Member) -> Result<(), EngineError> + Sync,
) -> Result<(), CliError> {
    let act = |member: &Member| match acting.act(|| act(member)) {
        Ok(()) => {
            acting.tell(&format!(" Container {}  {what}", member.name()));
            true
        }
        Err(error) => {
            CliError::engine(&error).about(&format!("container {}", member.name())).report();
            false
        }
    };
    let mut all_well = true;
    std::thread::scope(|scope| {
        let start = |member| {
            let thread = std::thread::Builder::new().name("compose".to_owned());
            (member, thread.spawn_scoped(scope, move || act(member)))
        };
        let threads: Vec<_> = group.iter().map(start).collect();
        for (member, thread) in threads {
            all_well &= match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // Without a thread it is done here.
                Err(_) => act(member),
            };
        }
    });
    match all_well {
        true => Ok(()),
        false => Err(CliError::failed("not all containers could be dealt with".to_owned()).with_code(FAILED)),
    }
}

/// Ends containers, group by group.
pub(super) fn stop(
    engine: &Engine,
    acting: Acting,
    project: Option<&Project>,
    groups: &[Vec<Member>],
    timeout: Option<i64>,
) -> Result<(), CliError> {
    groups.iter().try_for_each(|group| {
        acting.act(|| hooks::pre_stop(engine, project, group))?;
        at_once(acting, group, "Stopped", |member| engine.stop_container(&member.container.id, None, timeout))
    })
}

/// Ends and removes containers, group by group.
pub(super) fn remove(
    engine: &Engine,
    acting: Acting,
    project: Option<&Project>,
    groups: Vec<Vec<Member>>,
    timeout: Option<i64>,
    volumes: bool,
) -> Result<(), CliError> {
    groups.iter().try_for_each(|group| {
        acting.act(|| hooks::pre_stop(engine, project, group))?;
        at_once(acting, group, "Removed", |member| {
            let id = &member.container.id;
            let removed = engine
                .stop_container(id, None, timeout)
                .and_then(|()| engine.remove_container(id, true, volumes));
            match removed {
                // Somebody else was quicker.
                Ok(()) | Err(EngineError::NoSuchContainer(_)) => Ok(()),
                Err(error) => Err(error),
            }
        })
    })
}
