//! One file for each group of commands; each is thin over the engine.

mod build;
mod images;
mod run;
mod system;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;

use base::Platform;
use engine::request::NetworkMode;
use engine::{Engine, EngineOptions};

use crate::args::{Cli, Command, ImageCommand, SystemCommand};
use crate::error::CliError;

/// Runs the command that was typed.
pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode, CliError> {
    let root = cli.root;
    match cli.command {
        Command::Build(args)
        | Command::Image(crate::args::ImageArgs { command: ImageCommand::Build(args) }) => {
            build::build(root, args)
        }
        Command::Run(args) => run::run(root, args),
        Command::Image(image) => image_command(root, image.command),
        Command::Images(args) => image_command(root, ImageCommand::Ls(args)),
        Command::Pull(args) => image_command(root, ImageCommand::Pull(args)),
        Command::Load(args) => image_command(root, ImageCommand::Load(args)),
        Command::Save(args) => image_command(root, ImageCommand::Save(args)),
        Command::Tag(args) => image_command(root, ImageCommand::Tag(args)),
        Command::Rmi(args) => image_command(root, ImageCommand::Rm(args)),
        Command::History(args) => image_command(root, ImageCommand::History(args)),
        Command::Version(args) => system::version(&args),
        Command::Info(args) => system::info(root, &args),
        Command::System(system) => match system.command {
            SystemCommand::Df(args) => system::df(root, &args),
            SystemCommand::Info(args) => system::info(root, &args),
        },
    }
}

fn image_command(root: Option<PathBuf>, command: ImageCommand) -> Result<ExitCode, CliError> {
    match command {
        ImageCommand::Build(args) => build::build(root, args),
        ImageCommand::Inspect(args) => images::inspect(root, &args),
        ImageCommand::Ls(args) => images::list(root, &args),
        ImageCommand::History(args) => images::history(root, &args),
        ImageCommand::Pull(args) => transfer::pull(root, &args),
        ImageCommand::Load(args) => transfer::load(root, &args),
        ImageCommand::Save(args) => transfer::save(root, &args),
        ImageCommand::Tag(args) => images::tag(root, &args),
        ImageCommand::Rm(args) => images::remove(root, &args),
    }
}

/// Opens the store that the command line or the environment names.
fn open(root: Option<PathBuf>) -> Result<Engine, CliError> {
    let root = match root {
        Some(root) => root,
        None => default_root()?,
    };
    let root = std::path::absolute(&root)
        .map_err(|error| CliError::failed(format!("cannot make {} absolute: {error}", root.display())))?;
    let docker_config = environment("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".docker")));
    Ok(Engine::open(EngineOptions { root, docker_config })?)
}

fn default_root() -> Result<PathBuf, CliError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/lapstrake"));
    }
    let data = environment("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let hint = "set HOME, or name a directory with --root or LAPSTRAKE_ROOT";
    let data = data.ok_or_else(|| CliError::usage("there is no place for the store".to_owned(), hint))?;
    Ok(data.join("lapstrake"))
}

#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "the command line is where the clock is read")]
fn now() -> base::Timestamp {
    base::Timestamp::now()
}

fn platform(text: Option<&str>) -> Result<Option<Platform>, CliError> {
    let parse = |text: &str| {
        text.parse::<Platform>()
            .map_err(|error| CliError::usage(error.to_string(), "for example linux/amd64"))
    };
    text.map(parse).transpose()
}

/// `NAME=value` as it is; `NAME` with the value that the environment has, if any.
fn with_environment(entry: &str) -> Option<(String, String)> {
    match entry.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => environment(entry).map(|value| (entry.to_owned(), value)),
    }
}

/// `--network`
fn network_mode(text: &str) -> Result<NetworkMode, CliError> {
    match text {
        "default" => Ok(NetworkMode::Default),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other => {
            let message = format!("network \"{other}\" is not supported yet");
            Err(CliError::usage(message, "use --network host or --network none"))
        }
    }
}
