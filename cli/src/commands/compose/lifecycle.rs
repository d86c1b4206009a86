//! `lap compose start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `rm` and `wait`

use std::process::ExitCode;

use base::CancelToken;
use engine::containers::Status;

use super::super::{StoreChoice, containers};
use super::converge::{Converge, Recreate};
use super::down;
use super::hooks;
use super::scope::Scope;
use crate::compose_args::{KillServicesArgs, ProjectArgs, RmServicesArgs, ServicesArgs, StopServicesArgs};
use crate::error::CliError;
use crate::terminal::{ask, complain, print_line};

/// Starts containers that were made before, each after what it waits for.
pub(super) fn start(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &ServicesArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let members = scope.members(&args.services)?;
    let Some(project) = &scope.project else {
        for group in scope.in_order(members) {
            down::at_once(scope.acting, &group, "Started", |member| {
                scope.engine.start_container(&member.container.id)
            })?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(missing) =
        args.services.iter().find(|name| !members.iter().any(|member| member.service == **name))
    {
        let message = format!("service \"{missing}\" has no container to start");
        return Err(CliError::failed_with_hint(message, &format!("make it with lap compose up {missing}")));
    }
    let cancel = CancelToken::new();
    let converge = Converge {
        engine: &scope.engine,
        acting: scope.acting,
        project,
        cancel: &cancel,
        recreate: Recreate::Never,
        recreate_needed: Recreate::Never,
        named: &args.services,
        timeout: None,
        renew_volumes: false,
        start: true,
    };
    converge.start_only(&project.selected(&args.services, false)?, &members)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends containers, those first that nobody waits for.
pub(super) fn stop(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &StopServicesArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let mut members = scope.members(&args.services)?;
    members.retain(|member| member.is_live());
    let project = scope.project.as_ref();
    let levels = down::levels(project, members);
    down::stop(&scope.engine, scope.acting, project, &levels, args.timeout)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends containers and starts them again, and those of services that want to be when what they need is.
pub(super) fn restart(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &StopServicesArgs,
    no_deps: bool,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let mut services = args.services.clone();
    if let Some(project) = scope.project.as_ref().filter(|_| !services.is_empty() && !no_deps) {
        let follows = |service: &&compose::Service| {
            service.dependencies.iter().any(|(name, needed)| needed.restart && args.services.contains(name))
        };
        services.extend(project.services.values().filter(follows).map(|service| service.name.clone()));
    }
    for group in scope.in_order(scope.members(&services)?) {
        scope.acting.act(|| hooks::pre_stop(&scope.engine, scope.project.as_ref(), &group))?;
        down::at_once(scope.acting, &group, "Restarted", |member| {
            scope.engine.restart_container(&member.container.id, None, args.timeout)
        })?;
        if let Some(project) = scope.project.as_ref().filter(|_| !scope.acting.is_dry()) {
            group.iter().try_for_each(|member| hooks::post_start(&scope.engine, project, member))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends a signal to the containers that run.
pub(super) fn kill(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &KillServicesArgs,
) -> Result<ExitCode, CliError> {
    let signal = containers::signal(&args.signal)?;
    let scope = Scope::open(store, project, &args.services)?;
    let mut members = scope.members(&args.services)?;
    members.retain(|member| member.container.state.status == Status::Running);
    let what = if signal == 9 { "Killed" } else { "Signalled" };
    down::at_once(scope.acting, &members, what, |member| {
        scope.engine.kill_container(&member.container.id, signal)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Freezes the containers that run, or lets them go on.
pub(super) fn pause(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &ServicesArgs,
    freeze: bool,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let mut members = scope.members(&args.services)?;
    let status = if freeze { Status::Running } else { Status::Paused };
    members.retain(|member| member.container.state.status == status);
    let what = if freeze { "Paused" } else { "Unpaused" };
    down::at_once(scope.acting, &members, what, |member| match freeze {
        true => scope.engine.pause_container(&member.container.id),
        false => scope.engine.unpause_container(&member.container.id),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Removes containers that do not run, or with `--stop` all.
pub(super) fn remove(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &RmServicesArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let mut members = scope.members(&args.services)?;
    members.retain(|member| args.stop || !member.is_live());
    if members.is_empty() {
        complain("No stopped containers");
        return Ok(ExitCode::SUCCESS);
    }
    let names: Vec<&str> = members.iter().map(super::scope::Member::name).collect();
    if !args.force && !scope.acting.is_dry() && !ask(&format!("? Going to remove {} [yN] ", names.join(", ")))
    {
        return Ok(ExitCode::SUCCESS);
    }
    let project = scope.project.as_ref();
    let levels = down::levels(project, members);
    down::remove(&scope.engine, scope.acting, project, levels, None, args.volumes)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until containers have ended, prints their exit codes, and ends with the last of them.
pub(super) fn wait(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &ServicesArgs,
) -> Result<ExitCode, CliError> {
    let scope = Scope::open(store, project, &args.services)?;
    let mut code = 0;
    for member in scope.members(&args.services)? {
        code = scope.engine.wait_container(&member.container.id)?;
        print_line(&code.to_string());
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
