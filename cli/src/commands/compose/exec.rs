//! `lap compose exec` and `run`

use std::io::IsTerminal as _;
use std::process::ExitCode;

use compose::flags::{self, Role};
use engine::containers::{ExecRequest, Status};
use engine::request::DetachKeys;

use super::super::{StoreChoice, containers, open, run};
use super::acting::Acting;
use super::converge::{Converge, Recreate, request};
use super::scope::{Member, Scope};
use super::{images, resources};
use crate::compose_args::{ExecServiceArgs, ProjectArgs, RunServiceArgs};
use crate::error::{CliError, FAILED};
use crate::signals;
use crate::terminal::print_line;

/// The container of a service with this number, which has to run.
pub(super) fn member(scope: &Scope, service: &str, index: Option<u32>) -> Result<Member, CliError> {
    let mut members = scope.members(&[service.to_owned()])?;
    let has_processes = |status| matches!(status, Status::Running | Status::Paused);
    members.retain(|member| {
        has_processes(member.container.state.status) && index.is_none_or(|index| member.number == index)
    });
    let which = index.map(|index| format!(" container #{index}")).unwrap_or_default();
    members
        .into_iter()
        .next()
        .ok_or_else(|| CliError::failed(format!("service \"{service}\" is not running{which}")))
}

/// Runs a command in a container of a service.
pub(super) fn exec(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: ExecServiceArgs,
) -> Result<ExitCode, CliError> {
    let mut words = args.service_and_command.into_iter();
    let service = words.next().unwrap_or_default();
    let scope = Scope::open(store, project, std::slice::from_ref(&service))?;
    let member = member(&scope, &service, args.index)?;
    let words: Vec<String> = words.collect();
    if scope.acting.is_dry() {
        scope.acting.tell(&format!(" Container {}  Would run: {}", member.name(), words.join(" ")));
        return Ok(ExitCode::SUCCESS);
    }
    let typed = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let request = ExecRequest {
        container: member.container.id.clone(),
        command: words,
        env: run::variables(&[], &args.env)?,
        workdir: args.workdir,
        user: args.user,
        privileged: args.privileged,
        tty: typed && !args.no_tty && !args.detach,
        interactive: !args.detach,
        detach: args.detach,
        detach_keys: DetachKeys::default(),
    };
    let ended = scope.engine.exec(&request).map_err(|error| {
        let code = error.exit_code().filter(|code| matches!(code, 126 | 127));
        CliError::engine(&error).with_code(code.unwrap_or(FAILED))
    })?;
    Ok(ended.map_or(ExitCode::SUCCESS, containers::exit_code))
}

/// Runs a single command in a container of its own, made as those of a service are.
pub(super) fn run_once(
    store: &StoreChoice,
    chosen: &ProjectArgs,
    args: RunServiceArgs,
) -> Result<ExitCode, CliError> {
    let mut words = args.service_and_command.into_iter();
    let service = words.next().unwrap_or_default();
    let named = std::slice::from_ref(&service);
    let project = super::load(chosen, named)?;
    let engine = open(store)?;
    let selected = project.selected(named, !args.no_deps)?;
    let (cancel, acting) = (base::CancelToken::new(), Acting::of(chosen));
    let (pull, progress) = (args.pull.as_deref(), chosen.progress);
    let wanted = images::Wanted { build: args.build, no_build: false, pull, progress };
    images::provide(&engine, acting, &project, &selected, &wanted, &cancel)?;
    resources::make(&engine, acting, &project, &selected)?;
    let needed: Vec<_> = selected.iter().copied().filter(|other| other.name != service).collect();
    let converge = Converge {
        engine: &engine,
        acting,
        project: &project,
        cancel: &cancel,
        recreate: Recreate::Never,
        recreate_needed: Recreate::Never,
        named: &[],
        timeout: None,
        renew_volumes: false,
        start: true,
    };
    converge.all(&needed, &mut |_| {})?;
    let Some(own) = selected.iter().copied().find(|other| other.name == service) else {
        return Err(compose::ComposeError::NoSuchService(service).into());
    };
    converge.wait_for_needed(own, &selected)?;
    let mut spec = flags::container(&project, own, Role::OneOff { ports: args.service_ports })?;
    let random = engine::containers::random_name()?;
    spec.name = args.name.unwrap_or_else(|| format!("{}-{service}-run-{random}", project.name));
    let mut more: Vec<String> = Vec::new();
    let mut add =
        |flag: &str, values: &[String]| more.extend(values.iter().map(|value| format!("{flag}={value}")));
    add("--env", &args.env);
    add("--volume", &args.volumes);
    add("--publish", &args.publish);
    add("--label", &args.labels);
    add("--cap-add", &args.cap_add);
    add("--cap-drop", &args.cap_drop);
    add("--workdir", args.workdir.as_slice());
    add("--user", args.user.as_slice());
    add("--entrypoint", args.entrypoint.as_slice());
    spec.flags.extend(more);
    let given: Vec<String> = words.collect();
    if !given.is_empty() || args.entrypoint.is_some() {
        spec.command = given;
    }
    if acting.is_dry() {
        ["Created", "Started"]
            .iter()
            .for_each(|what| acting.tell(&format!(" Container {}  {what}", spec.name)));
        return Ok(ExitCode::SUCCESS);
    }
    let mut request = request(&engine, &spec)?;
    let typed = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    request.supervision.detach = args.detach;
    // It is over when it is over.
    request.supervision.restart = engine::request::RestartPolicy::No;
    request.remove = args.rm;
    request.interactive = !args.detach;
    request.tty = typed && !args.no_tty && !args.detach;
    signals::release();
    let ran = engine.run(&request).map_err(|error| run::error(&error))?;
    match ran.foreground {
        Some(ended) => Ok(containers::exit_code(ended)),
        None => {
            print_line(&spec.name);
            Ok(ExitCode::SUCCESS)
        }
    }
}
