//! `lap compose`: the services of a Compose file as containers that know each other by name.
//!
//! The crate `compose` reads the files and says what every service is in the words of `lap run` and `lap build`; what is done
//! with that is here. Which containers, networks and volumes belong to a project is told by Docker's labels, and by nothing else.

mod config;
mod files;

use std::process::ExitCode;

use compose::{ComposeError, Options, Project};

use super::StoreChoice;
use crate::compose_args::{ComposeArgs, ComposeCommand, ProjectArgs};
use crate::error::CliError;
use crate::terminal::complain;

/// Carries out a command.
pub(crate) fn dispatch(_store: &StoreChoice, args: ComposeArgs) -> Result<ExitCode, CliError> {
    let project = &args.project;
    match args.command {
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
    let loaded = compose::load(&options(args, services)?, &files::Disk)?;
    loaded.warnings.iter().for_each(|warning| complain(&format!("WARNING: {warning}")));
    Ok(loaded.project)
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
