//! `lap run` and `lap create`

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use base::CancelToken;
use engine::Engine;
use engine::containers::Exit;
use engine::error::EngineError;
use engine::limits_here::Unlimited;
use engine::request::{Isolation, Limits, PullPolicy, RunRequest, Supervision};

use super::containers::exit_code;
use super::{StoreChoice, open, parsed, platform, pull_policy, with_environment};
use crate::args::RunArgs;
use crate::docker_config::DockerConfig;
use crate::error::{CliError, RUN_FAILED};
use crate::mount_args::{self, Mounted};
use crate::network_args;
use crate::render::{self, Mode};
use crate::terminal::{complain, print_line};

/// Runs a container, and returns its exit code unless it runs on detached.
pub(crate) fn run(store: &StoreChoice, args: RunArgs) -> Result<ExitCode, CliError> {
    if args.limits.kernel_memory.is_some() {
        complain("--kernel-memory limits nothing: the kernel counts its memory with that of --memory");
    }
    if args.limits.oom_kill_disable && args.limits.common.memory.is_none() {
        complain(
            "--oom-kill-disable without --memory: processes could take all memory of the machine and then wait",
        );
    }
    let id_file = args.supervision.cidfile.clone();
    let quiet = args.docker.quiet;
    let mut request = request(args).map_err(|error| error.with_code(RUN_FAILED))?;
    refuse_terminal(&request)?;
    check_id_file(id_file.as_deref())?;
    let engine = open(store).map_err(|error| error.with_code(RUN_FAILED))?;
    network_args::settle(&engine, &mut request.network).map_err(|error| error.with_code(RUN_FAILED))?;
    warn_of_limits(&engine, &request.limits);
    let ran = with_image(&engine, &request, quiet, |request| engine.run(request))
        .map_err(|error| self::error(&error))?;
    write_id(id_file.as_deref(), &ran.id)?;
    let shows_nothing = request.supervision.attach.is_some_and(|[_, stdout, stderr]| !stdout && !stderr);
    match ran.foreground {
        // Nothing else could tell it.
        Some(Exit::Detached) if shows_nothing => {
            print_line(&ran.id);
            Ok(ExitCode::SUCCESS)
        }
        Some(ended) => Ok(exit_code(ended)),
        None => {
            print_line(&ran.id);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Makes a container without starting it.
pub(crate) fn create(store: &StoreChoice, args: RunArgs) -> Result<ExitCode, CliError> {
    let id_file = args.supervision.cidfile.clone();
    let quiet = args.docker.quiet;
    let mut request = request(args)?;
    check_id_file(id_file.as_deref())?;
    let engine = open(store)?;
    network_args::settle(&engine, &mut request.network)?;
    warn_of_limits(&engine, &request.limits);
    let id = with_image(&engine, &request, quiet, |request| engine.create_container(request))?;
    write_id(id_file.as_deref(), &id)?;
    print_line(&id);
    Ok(ExitCode::SUCCESS)
}

/// Makes a container. Only if its image, or one that it is to show, is not here, that is told, and it is fetched where
/// people see it.
fn with_image<T>(
    engine: &Engine,
    request: &RunRequest,
    quiet: bool,
    make: impl Fn(&RunRequest) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    if request.pull != PullPolicy::Missing {
        return make(request);
    }
    let here = RunRequest { pull: PullPolicy::Never, ..request.clone() };
    let mut fetched = BTreeSet::new();
    loop {
        let missing = match make(&here) {
            Err(EngineError::NoSuchImage(missing)) => missing,
            Err(EngineError::NoPlatform { .. }) => request.image.clone(),
            made => return made,
        };
        if !fetched.insert(missing.clone()) {
            return make(request);
        }
        if !quiet {
            complain(&format!("Unable to find image '{missing}' locally"));
        }
        let renderer = render::renderer(if quiet { Mode::Quiet } else { Mode::Auto });
        // The platform is that of the container, not of what it shows.
        let platform = request.platform.as_ref().filter(|_| missing == request.image);
        let pulled = engine.pull(&missing, platform, renderer.clone(), &CancelToken::new());
        renderer.finish();
        pulled?;
    }
}

/// Says what cannot be limited here. A container does not fail because that cannot be found out.
pub(super) fn warn_of_limits(engine: &Engine, limits: &Limits) {
    for unlimited in engine.unlimited(limits).unwrap_or_default() {
        complain(&match unlimited {
            Unlimited::Controllers(names) => format!(
                "WARNING: {} cannot be limited here: containers may use all there is (see lap system doctor)",
                names.join(", ")
            ),
            // Docker's words.
            Unlimited::Swap => {
                "WARNING: Your kernel does not support swap limit capabilities or the cgroup is not \
                                mounted. Memory limited without swap."
                    .to_owned()
            }
        });
    }
}

/// An error of a container that does not start, with Docker's exit code.
pub(super) fn error(error: &EngineError) -> CliError {
    CliError::engine(error).with_code(error.exit_code().unwrap_or(RUN_FAILED))
}

/// Keys and window sizes are those of a terminal.
fn refuse_terminal(request: &RunRequest) -> Result<(), CliError> {
    let foreground = !request.supervision.detach;
    if foreground && request.tty && request.interactive { need_terminal(RUN_FAILED) } else { Ok(()) }
}

/// Fails with `code` when nobody could type.
pub(super) fn need_terminal(code: u8) -> Result<(), CliError> {
    use std::io::IsTerminal as _;
    match std::io::stdin().is_terminal() {
        true => Ok(()),
        false => Err(CliError::failed("the input device is not a TTY".to_owned()).with_code(code)),
    }
}

/// Variables as `NAME=value`, those of files first.
pub(super) fn variables(files: &[std::path::PathBuf], given: &[String]) -> Result<Vec<String>, CliError> {
    let mut env = Vec::new();
    for file in files {
        env.extend(env_file(file)?);
    }
    env.extend(given.iter().filter_map(|entry| with_environment(entry)));
    Ok(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// Adds the proxies of Docker's `config.json`, but for variables that are set already.
fn add_proxies(env: &mut Vec<String>) -> Result<(), CliError> {
    let is_set = |name: &str| env.iter().any(|entry| entry.split('=').next() == Some(name));
    let proxies = DockerConfig::read()?.proxies();
    let missing: Vec<_> = proxies.into_iter().filter(|(name, _)| !is_set(name)).collect();
    env.extend(missing.into_iter().map(|(name, value)| format!("{name}={value}")));
    Ok(())
}

/// An id is never written over another one.
fn check_id_file(path: Option<&Path>) -> Result<(), CliError> {
    match path {
        Some(path) if path.exists() => {
            let message = format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            );
            Err(CliError::failed(message).with_code(RUN_FAILED))
        }
        _ => Ok(()),
    }
}

fn write_id(path: Option<&Path>, id: &str) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, id)
        .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))
}

/// The request that the words of `lap run` mean.
pub(super) fn from_words(words: &[String]) -> Result<RunRequest, CliError> {
    request(parsed::<RunArgs>("run", words)?)
}

fn request(args: RunArgs) -> Result<RunRequest, CliError> {
    let mut words = args.image_and_command.into_iter();
    let mut env = variables(&args.env_files, &args.env)?;
    add_proxies(&mut env)?;
    args.docker.check()?;
    args.volume_driver.as_deref().map_or(Ok(()), mount_args::driver).map_err(CliError::failed)?;
    let mut isolation = args.isolation.isolation()?;
    isolation.described_devices.extend(args.docker.cards()?);
    let mut mounts =
        args.volumes.iter().map(|text| mount_args::volume(text)).collect::<Result<Vec<_>, _>>()?;
    let mut tmpfs = std::mem::take(&mut isolation.tmpfs);
    for text in &args.mounts {
        match mount_args::mount(text)? {
            Mounted::Shown(mount) => mounts.push(mount),
            Mounted::Memory(memory) => tmpfs.push(memory),
        }
    }
    let volumes_from =
        args.volumes_from.iter().map(|text| mount_args::volumes_from(text)).collect::<Result<_, _>>()?;
    Ok(RunRequest {
        image: words.next().unwrap_or_default(),
        command: words.collect(),
        entrypoint: args
            .entrypoint
            .map(|program| if program.is_empty() { Vec::new() } else { vec![program] }),
        workdir: args.workdir,
        user: args.user,
        mounts,
        volumes_from,
        files: Vec::new(),
        network: args.network.settings()?,
        name: args.name,
        hostname: args.hostname,
        remove: args.rm,
        interactive: args.interactive,
        tty: args.tty,
        supervision: Supervision {
            annotations: args.docker.annotations(),
            ..args.supervision.supervision(args.rm, &env)?
        },
        env,
        isolation: Isolation { tmpfs, ..isolation },
        limits: args.limits.limits()?,
        cgroup_parent: args.limits.common.cgroup_parent.clone(),
        platform: platform(args.platform.as_deref())?,
        pull: pull_policy(&args.pull)?,
    })
}

/// Lines of `NAME=VALUE`, or of `NAME` for a variable of our own environment; `#` begins a comment.
fn env_file(path: &Path) -> Result<Vec<(String, String)>, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = "give the path of a text file with NAME=VALUE lines";
        CliError::usage(format!("cannot read the environment file {}: {error}", path.display()), hint)
    })?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut variables = Vec::new();
    for line in lines {
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            let message = format!("the environment file {} has a bad variable: {line}", path.display());
            return Err(CliError::usage(message, "write NAME=VALUE, with no blanks in the name"));
        }
        variables.extend(with_environment(line));
    }
    Ok(variables)
}
