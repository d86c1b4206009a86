//! `lap debug`: a shell or a command where a step failed, and more about it.

mod cp;
mod diff;
mod export;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use engine::Engine;
use engine::failed::{DebugRequest, FailedStep};
use engine::request::BuildRequest;

use super::containers::exit_code;
use super::{StoreChoice, environment, open, run};
use crate::build_flags;
use crate::debug_args::{DebugArgs, DebugCommand};
use crate::error::CliError;
use crate::signals;
use crate::terminal::complain;

/// Starts a process where a step failed and gives its exit code, or does what a subcommand says.
pub(crate) fn dispatch(store: &StoreChoice, args: DebugArgs) -> Result<ExitCode, CliError> {
    match &args.action {
        Some(DebugCommand::Cp(args)) => cp::copy(store, args),
        Some(DebugCommand::Diff(args)) => diff::show(store, args),
        Some(DebugCommand::Export(args)) => export::write(store, args),
        None => start(store, args),
    }
}

fn start(store: &StoreChoice, args: DebugArgs) -> Result<ExitCode, CliError> {
    let request = DebugRequest {
        build: args.build,
        command: args.command,
        secrets: build_flags::secrets(&args.secrets, &environment)?,
        ssh: build_flags::ssh(&args.ssh, &environment)?,
        tty: is_terminal(),
    };
    let engine = open(store)?;
    let step = engine.failed_step(request.build.as_deref())?;
    if request.tty && request.command.is_empty() {
        introduce(&step, &request);
    }
    let ended = engine.debug(&request).map_err(|error| run::error(&error))?;
    Ok(exit_code(ended))
}

/// Whether somebody types and reads.
fn is_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Tells where the shell is.
fn introduce(step: &FailedStep, request: &DebugRequest) {
    complain(&format!("{} failed: {}. This is how it left everything.", step.step, step.status));
    let missing = |id: &&String| request.secrets.ids().all(|given| given != id.as_str());
    for id in step.secrets.iter().filter(missing) {
        complain(&format!("The secret {id} is not here unless it is given again: --secret id={id},…"));
    }
}

/// `lap build --on-error shell`: opens a shell in the step of `build` that has failed, if somebody is there to use
/// it. What goes wrong is told; the build has failed in any case.
pub(crate) fn after_build(engine: &Engine, build: &str, request: &BuildRequest) {
    if !is_terminal() {
        complain(&format!(
            "--on-error shell needs a terminal; lap debug {build} opens a shell later, and lap debug {build} -- COMMAND needs none"
        ));
        return;
    }
    signals::release();
    let debug = DebugRequest {
        build: Some(build.to_owned()),
        command: Vec::new(),
        secrets: request.secrets.clone(),
        ssh: request.ssh.clone(),
        tty: true,
    };
    let opened = engine.failed_step(debug.build.as_deref()).and_then(|step| {
        introduce(&step, &debug);
        engine.debug(&debug)
    });
    if let Err(error) = opened {
        CliError::engine(&error).report();
    }
}
