//! `lap compose`: the services of a Compose file as containers that know each other by name.
//!
//! The crate `compose` reads the files and says what every service is in the words of `lap run` and `lap build`; what is done
//! with that is here. Which containers, networks and volumes belong to a project is told by Docker's labels, and by nothing else.

mod acting;
mod config;
mod converge;
mod down;
mod exec;
mod files;
mod hooks;
mod images;
mod lifecycle;
mod logs;
mod passed_on;
mod ps;
mod resources;
mod scope;
mod shown;
mod up;

use std::process::ExitCode;

use compose::{ComposeError, Options, Project};

use super::StoreChoice;
use crate::compose_args::{ComposeArgs, ComposeCommand, ProjectArgs};
use crate::error::CliError;
use crate::terminal::complain;

/// Carries out a command.
pub(crate) fn dispatch(store: &StoreChoice, args: ComposeArgs) -> Result<ExitCode, CliError> {
    let project = &args.project;
    match args.command {
        ComposeCommand::Up(args) => up::up(store, project, &args),
        ComposeCommand::Down(args) => down::down(store, project, &args),
        ComposeCommand::Ps(args) => ps::show(store, project, &args),
        ComposeCommand::Logs(args) => logs::show(store, project, &args),
        ComposeCommand::Build(args) => images::build(store, project, &args),
        ComposeCommand::Pull(args) => images::pull(store, project, &args),
        ComposeCommand::Exec(args) => exec::exec(store, project, args),
        ComposeCommand::Run(args) => exec::run_once(store, project, args),
        ComposeCommand::Create(args) => up::create(store, project, &args),
        ComposeCommand::Start(args) => lifecycle::start(store, project, &args),
        ComposeCommand::Stop(args) => lifecycle::stop(store, project, &args),
        ComposeCommand::Restart(args) => lifecycle::restart(store, project, &args.stop, args.no_deps),
        ComposeCommand::Kill(args) => lifecycle::kill(store, project, &args),
        ComposeCommand::Pause(args) => lifecycle::pause(store, project, &args, true),
        ComposeCommand::Unpause(args) => lifecycle::pause(store, project, &args, false),
        ComposeCommand::Rm(args) => lifecycle::remove(store, project, &args),
        ComposeCommand::Wait(args) => lifecycle::wait(store, project, &args),
        ComposeCommand::Port(args) => ps::port(store, project, &args),
        ComposeCommand::Images(args) => ps::images(store, project, &args),
        ComposeCommand::Top(args) => ps::top(store, project, &args),
        ComposeCommand::Cp(args) => passed_on::copy(store, project, &args),
        ComposeCommand::Attach(args) => passed_on::attach(store, project, args),
        ComposeCommand::Stats(args) => passed_on::stats(store, project, args),
        ComposeCommand::Events(args) => passed_on::follow_events(store, project, &args),
        ComposeCommand::Push(args) => passed_on::push(store, project, &args),
        ComposeCommand::Scale(args) => passed_on::scale(store, project, &args),
        ComposeCommand::Version(args) => Ok(passed_on::version(&args)),
        ComposeCommand::Ls(args) => ps::list(store, &args),
        ComposeCommand::Config(args) => config::show(project, &args),
    }
}

impl From<ComposeError> for CliError {
    fn from(error: ComposeError) -> Self {
        Self::failed(error.to_string())
    }
}

/// Reads the project. `services` are those that the command line names.
fn load(args: &ProjectArgs, services: &[String]) -> Result<Project, CliError> {
    Ok(read(args, services)??)
}

/// The same; what is wrong with the files is told by itself.
fn read(args: &ProjectArgs, services: &[String]) -> Result<Result<Project, ComposeError>, CliError> {
    Ok(match compose::load(&options(args, services)?, &files::Disk) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| complain(&format!("WARNING: {warning}")));
            Ok(loaded.project)
        }
        Err(error) => Err(error),
    })
}

fn options(args: &ProjectArgs, services: &[String]) -> Result<Options, CliError> {
    let working_directory = std::path::absolute(".")
        .map_err(|error| CliError::failed(format!("cannot find out the working directory: {error}")))?;
    let text = |word: std::ffi::OsString| word.into_string().ok();
    let environment = super::whole_environment().into_iter();
    Ok(Options {
        files: args.files.clone(),
        name: args.name.clone(),
        profiles: args.profiles.clone(),
        env_files: args.env_files.clone(),
        directory: args.directory.clone(),
        environment: environment.filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect(),
        services: services.to_vec(),
        working_directory,
    })
}
