//! One file for each group of commands; each is thin over the engine.

mod boot;
mod build;
mod cache_mounts;
mod compose;
mod containers;
pub(crate) mod daemon;
mod debug;
mod df;
mod du;
mod events;
mod explore;
mod history;
mod images;
mod import;
mod key;
mod login;
mod manifest;
mod networks;
pub(crate) mod oci_runtime;
mod prune;
pub(crate) mod reference;
mod registry;
mod run;
mod store;
mod system;
mod transfer;
mod volumes;
mod why;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use base::{Platform, Reference, Timestamp};
use engine::error::EngineError;
use engine::isolation::{Isolation, Mode, NoIsolation, Wanted};
use engine::registries::RegistryFiles;
use engine::request::{NetworkMode, PullPolicy};
use engine::{ArchiveLimits, DriverKind, Engine, EngineOptions, LayerWay, PackingObstacle, StoredForm};

use crate::args::{BuilderArgs, BuilderCommand, Cli, Command, StorageDriver};
use crate::container_args::{ContainerAction, ContainerArgs, ContainerCommand};
use crate::error::{CliError, FAILED, RUN_FAILED};
use crate::image_args::{ImageArgs, ImageCommand};
use crate::layer_args::LayerMountArg;
use crate::places;
use crate::prune_args::{StoreArgs, StoreCommand, SystemCommand};
use crate::terminal::complain;

/// The store that the command line names.
#[derive(Clone)]
struct StoreChoice {
    root: Option<PathBuf>,
    driver: Option<StorageDriver>,
    layer_form: StoredForm,
    layer_way: Option<LayerWay>,
    archive_limits: ArchiveLimits,
    isolation: Result<Isolation, Arc<NoIsolation>>,
}

impl StoreChoice {
    fn of(cli: &Cli, isolation: Result<Isolation, Arc<NoIsolation>>) -> Self {
        let default = ArchiveLimits::default();
        let archive_limits = ArchiveLimits {
            max_entries: cli.max_layer_entries.unwrap_or(default.max_entries),
            max_bytes: cli.max_layer_size.unwrap_or(default.max_bytes),
        };
        let layer_form = cli.layer_form.map(StoredForm::from).unwrap_or_default();
        let layer_way = cli.layer_mount.and_then(LayerMountArg::way);
        let (root, driver) = (cli.root.clone(), cli.storage_driver);
        Self { root, driver, layer_form, layer_way, archive_limits, isolation }
    }
}

/// The isolation that a command asks for; most have no container and take what there is.
fn wanted(command: &Command) -> Wanted {
    match command {
        Command::Build(args)
        | Command::Image(ImageArgs { command: ImageCommand::Build(args) })
        | Command::Builder(BuilderArgs { command: BuilderCommand::Build(args) }) => args.isolation,
        Command::OnContainers(ContainerAction::Run(args) | ContainerAction::Create(args))
        | Command::Container(ContainerArgs {
            command: ContainerCommand::Action(ContainerAction::Run(args) | ContainerAction::Create(args)),
        }) => args.isolation.mode,
        Command::Debug(args) => args.isolation,
        _ => Wanted::Auto,
    }
}

/// Obtains the isolation of this process. That nothing works stops only those commands that start a container.
fn isolation(cli: &Cli) -> Result<Result<Isolation, Arc<NoIsolation>>, CliError> {
    let command = &cli.command;
    let wanted = wanted(command);
    // A command that needs the store says itself that there is no place for it.
    let share = root(cli.root.as_deref()).ok().map(|root| places::users(&root));
    match engine::isolation::obtain(wanted, &places::programs(), share.as_deref()) {
        Err(error) if wanted != Wanted::Auto => {
            let builds = matches!(command, Command::Build(_) | Command::Image(_) | Command::Builder(_));
            let code = if builds { FAILED } else { RUN_FAILED };
            Err(CliError::engine(&EngineError::Isolation(Arc::new(error))).with_code(code))
        }
        obtained => Ok(obtained.map_err(Arc::new)),
    }
}

/// Runs the command that was typed.
pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode, CliError> {
    if let Command::Version(args) = &cli.command {
        return system::version(args);
    }
    match &cli.command {
        Command::Completion(args) => return Ok(reference::completion(args)),
        Command::Man(args) => return reference::man(args),
        _ => {}
    }
    if let Command::OciRuntime { arguments } = cli.command {
        return Ok(oci_runtime::run(arguments));
    }
    let isolation = isolation(&cli)?;
    let store = &StoreChoice::of(&cli, isolation);
    match cli.command {
        Command::Build(args) | Command::Image(ImageArgs { command: ImageCommand::Build(args) }) => {
            build::build(store, *args)
        }
        Command::OnContainers(action) => containers::act(store, action),
        Command::Ps(args) => containers::dispatch(store, ContainerCommand::Ls(args)),
        Command::Inspect(args) => containers::inspect_any(store, &args),
        Command::Container(container) => containers::dispatch(store, container.command),
        Command::Image(image) => image_command(store, image.command),
        Command::Images(args) => image_command(store, ImageCommand::Ls(args)),
        Command::Pull(args) => image_command(store, ImageCommand::Pull(args)),
        Command::Push(args) => image_command(store, ImageCommand::Push(args)),
        Command::Manifest(args) => manifest::dispatch(store, args.command),
        Command::Search(args) => manifest::search(store, &args),
        Command::Login(args) => login::login(store, &args),
        Command::Logout(args) => login::logout(store, &args),
        Command::Doctor(args) => system::doctor_of(store, &args),
        Command::Load(args) => image_command(store, ImageCommand::Load(args)),
        Command::Save(args) => image_command(store, ImageCommand::Save(args)),
        Command::Import(args) => image_command(store, ImageCommand::Import(args)),
        Command::Tag(args) => image_command(store, ImageCommand::Tag(args)),
        Command::Rmi(args) => image_command(store, ImageCommand::Rm(args)),
        Command::History(args) => history::dispatch(store, &args),
        Command::Explore(args) => image_command(store, ImageCommand::Explore(args)),
        Command::Why(args) => why::why(store, &args),
        Command::Compose(args) => compose::dispatch(store, args),
        Command::Volume(volumes) => volumes::dispatch(store, &volumes.command),
        Command::Network(networks) => networks::dispatch(store, &networks.command),
        Command::Daemon(args) => daemon::run(store, &args),
        Command::CacheMount(mounts) => cache_mounts::dispatch(store, &mounts.command),
        Command::Debug(args) => debug::dispatch(store, args),
        Command::OciRuntime { arguments } => Ok(oci_runtime::run(arguments)),
        Command::Version(args) => system::version(&args),
        Command::Completion(args) => Ok(reference::completion(&args)),
        Command::Man(args) => reference::man(&args),
        Command::Info(args) => system::info(store, &args),
        Command::Events(args) => events::show(store, &args),
        Command::Builder(builder) => match builder.command {
            BuilderCommand::Build(args) => build::build(store, *args),
            BuilderCommand::Prune(args) => prune::builder(store, &args),
            BuilderCommand::Du(args) => du::show(store, &args),
        },
        Command::Key(key) => key::dispatch(key.command),
        Command::Registry(registry) => registry::dispatch(store, registry.command),
        Command::Store(StoreArgs { command: StoreCommand::Check(args) }) => store::check(store, &args),
        Command::Store(StoreArgs { command: StoreCommand::Convert(args) }) => store::convert(store, &args),
        Command::Store(StoreArgs { command: StoreCommand::Gc(args) }) => store::collect(store, &args),
        Command::System(system) => match system.command {
            SystemCommand::Doctor(args) => system::doctor(store, args.fix),
            SystemCommand::Df(args) => df::show(store, &args),
            SystemCommand::Prune(args) => prune::system(store, &args),
            SystemCommand::Info(args) => system::info(store, &args),
            SystemCommand::Events(args) => events::show(store, &args),
            SystemCommand::StartContainers(args) => boot::start_containers(store, &args),
        },
    }
}

fn image_command(store: &StoreChoice, command: ImageCommand) -> Result<ExitCode, CliError> {
    match command {
        ImageCommand::Build(args) => build::build(store, *args),
        ImageCommand::Inspect(args) => images::inspect(store, &args),
        ImageCommand::Ls(args) => images::list(store, &args),
        ImageCommand::History(args) => images::history(store, &args),
        ImageCommand::Pull(args) => transfer::pull(store, &args),
        ImageCommand::Push(args) => transfer::push(store, &args),
        ImageCommand::Load(args) => transfer::load(store, &args),
        ImageCommand::Save(args) => transfer::save(store, &args),
        ImageCommand::Import(args) => import::import(store, args),
        ImageCommand::Explore(args) => explore::explore(store, &args),
        ImageCommand::Tag(args) => images::tag(store, &args),
        ImageCommand::Rm(args) => images::remove(store, &args),
        ImageCommand::Prune(args) => prune::images(store, &args),
    }
}

/// Where the store is that the command line or the environment names.
fn root(named: Option<&Path>) -> Result<PathBuf, CliError> {
    let root = match named {
        Some(root) => root.to_owned(),
        None => places::store_root()?,
    };
    std::path::absolute(&root)
        .map_err(|error| CliError::failed(format!("cannot make {} absolute: {error}", root.display())))
}

/// Opens the store that the command line or the environment names.
fn open(store: &StoreChoice) -> Result<Engine, CliError> {
    open_with(store, places::registry_files())
}

/// The same, with files about registries.
fn open_with(store: &StoreChoice, registries: RegistryFiles) -> Result<Engine, CliError> {
    let root = root(store.root.as_deref())?;
    let driver = store.driver.map(|driver| match driver {
        StorageDriver::Overlay => DriverKind::Overlay,
        StorageDriver::Native => DriverKind::Native,
    });
    // Without mounts nothing can be merged.
    let without_mounts = matches!(&store.isolation, Ok(found) if found.mode == Mode::Chroot);
    let driver = driver.or(without_mounts.then_some(DriverKind::Native));
    let runtime_directory = places::runtime_directory(&root);
    let engine = Engine::open(EngineOptions {
        root,
        runtime_directory,
        isolation: store.isolation.clone(),
        registries,
        driver,
        layer_form: store.layer_form,
        layer_way: store.layer_way,
        on_unpacked: tell_of_unpacking,
        archive_limits: store.archive_limits,
        proxies: proxies(),
    })?;
    if let Some(obstacle) = engine.packing_obstacle()? {
        tell_of_unpacking(obstacle);
    }
    Ok(engine.with_frontends(Arc::new(::daemon::Frontends)))
}

/// Says why layers become directories that were to be, or to stay, packed.
fn tell_of_unpacking(obstacle: &PackingObstacle) {
    let causes = std::iter::successors(std::error::Error::source(obstacle), |cause| cause.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    complain(&format!("WARNING: layers are unpacked: {obstacle}{causes}"));
}

/// The proxy variables of the environment, in both spellings that programs look for.
fn proxies() -> Vec<(String, String)> {
    let names = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];
    let spellings = names.iter().flat_map(|name| [(*name).to_owned(), name.to_uppercase()]);
    spellings.filter_map(|name| environment(&name).map(|value| (name, value))).collect()
}

#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The whole environment, for programs that are the user's.
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
pub(crate) fn whole_environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

#[expect(clippy::disallowed_methods, reason = "the command line is where the clock is read")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The flags and arguments that words mean to a command, when nobody has typed them.
fn parsed<A: clap::Args>(name: &'static str, words: &[String]) -> Result<A, CliError> {
    let command = A::augment_args(clap::Command::new(name).no_binary_name(true).args_override_self(true));
    let wrong = |error: clap::Error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        CliError::failed(line.strip_prefix("error: ").unwrap_or(line).to_owned())
    };
    let matches = command.try_get_matches_from(words).map_err(wrong)?;
    A::from_arg_matches(&matches).map_err(wrong)
}

/// An image name.
pub(crate) fn reference(text: &str) -> Result<Reference, CliError> {
    text.parse().map_err(|error: base::reference::ReferenceError| {
        CliError::usage(error.to_string(), "a name looks like registry/path/name:tag")
    })
}

fn platform(text: Option<&str>) -> Result<Option<Platform>, CliError> {
    let parse = |text: &str| {
        text.parse::<Platform>()
            .map_err(|error| CliError::usage(error.to_string(), "for example linux/amd64"))
    };
    text.map(parse).transpose()
}

/// The time that `SOURCE_DATE_EPOCH` says.
fn source_date_epoch(text: &str) -> Result<Timestamp, CliError> {
    let seconds = text.parse::<i64>().ok().and_then(base::time::from_epoch_seconds);
    seconds.ok_or_else(|| {
        let message = format!("SOURCE_DATE_EPOCH \"{text}\" is not a number of seconds since 1970");
        CliError::usage(message, "for example SOURCE_DATE_EPOCH=$(git log -1 --pretty=%ct), or \"context\" for a git or web context")
    })
}

/// `--platform`; what is empty is left out, and none twice.
fn platforms(flags: &[String]) -> Result<Vec<Platform>, CliError> {
    let mut platforms = Vec::new();
    for flag in flags.iter().filter(|flag| !flag.is_empty()) {
        if let Some(platform) = platform(Some(flag))?.filter(|platform| !platforms.contains(platform)) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
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
        "default" | "bridge" => Ok(NetworkMode::Default),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other => {
            let message = format!("there is no network \"{other}\" for builds");
            Err(CliError::usage(message, "use --network default, bridge, host or none"))
        }
    }
}

/// The word for when a registry is asked, or whether, as older scripts have it.
fn pull_policy(text: &str) -> Result<PullPolicy, CliError> {
    match text {
        "always" | "true" => Ok(PullPolicy::Always),
        "newer" => Ok(PullPolicy::Newer),
        "missing" | "false" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        other => {
            let message = format!("unknown pull policy \"{other}\"");
            Err(CliError::usage(message, "use always, newer, missing or never"))
        }
    }
}
