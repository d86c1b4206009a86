//! `lap daemon`, and the same by the names of the daemons whose place it takes: `buildkitd` and `dockerd`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser as _;
use daemon::{Address, Options, Socket, Tls};
use engine::buildkitd_file::BuildkitdFile;
use engine::registries::Settings;
use engine::request::{BuildRequest, ContextSource, DockerfileSource};
use listenfd::ListenFd;
use nix::unistd::Group;
use sd_notify::NotifyState;
use serde_json::json;

use super::{StoreChoice, open_with};
use crate::args::{Cli, Command, StorageDriver};
use crate::daemon_args::{BuildkitdCli, DaemonArgs};
use crate::error::CliError;
use crate::pairs::pairs;
use crate::terminal::complain;
use crate::{build_flags, config_file, dockerd_args, places, signals};

/// A program of this name is the daemon alone, with BuildKit's flags, and serves only BuildKit's API.
const BUILDKITD: &str = "buildkitd";

/// A program of this name is the daemon alone, with Docker's flags and file.
const DOCKERD: &str = "dockerd";

/// What stands for sockets that systemd has opened for us.
const INHERITED: &str = "fd://";

/// The command line, if we are called by the name of one of the daemons whose place we take.
pub(crate) fn by_name() -> Option<Result<Cli, CliError>> {
    let name = own_name()?;
    if name == BUILDKITD {
        let BuildkitdCli { root, daemon } = BuildkitdCli::parse();
        let root = root.or_else(|| file(&daemon).ok()?.root);
        return Some(Ok(as_typed(root, None, daemon)));
    }
    (name == DOCKERD).then(as_dockerd)
}

fn as_typed(root: Option<PathBuf>, storage_driver: Option<StorageDriver>, daemon: DaemonArgs) -> Cli {
    let command = Command::Daemon(Box::new(daemon));
    Cli {
        root,
        storage_driver,
        layer_form: None,
        layer_mount: None,
        max_layer_size: None,
        max_layer_entries: None,
        command,
    }
}

/// What dockerd's flags and file mean.
fn as_dockerd() -> Result<Cli, CliError> {
    let arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let dockerd = dockerd_args::read(&arguments)?;
    let words = dockerd.words()?;
    let driver = dockerd.driver()?;
    let parsed = BuildkitdCli::try_parse_from(std::iter::once(BUILDKITD.to_owned()).chain(words));
    let BuildkitdCli { daemon, .. } = parsed.map_err(|error| CliError::failed(error.to_string()))?;
    Ok(as_typed(dockerd.data_root, driver, daemon))
}

/// Serves until a signal.
pub(super) fn run(store: &StoreChoice, args: &DaemonArgs) -> Result<ExitCode, CliError> {
    if args.validate {
        complain("configuration OK");
        return Ok(ExitCode::SUCCESS);
    }
    let (stop, hangups) = signals::daemon_token();
    let file = file(args)?;
    for name in &file.unknown {
        complain(&format!("WARNING: {}: unknown setting {name}", shown(args.config.as_deref())));
    }
    let (mut addresses, sockets) = addresses(args, &file)?;
    let tls = tls(args, &file)?;
    let needs_no_certificate = tls.as_ref().is_none_or(|tls| tls.clients.is_none());
    let read_only_addresses =
        args.read_only_addresses.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
    if let Some(address) =
        addresses.iter().chain(&read_only_addresses).find(|address| matches!(address, Address::Tcp(_)))
        && needs_no_certificate
        && !args.insecure_tcp
    {
        let hint = "say --tlscacert, --tlscert and --tlskey, listen on a unix socket, or say --insecure-tcp if only those reach the port who may build here";
        return Err(CliError::usage(format!("anybody who reaches {address} could build as this user"), hint));
    }
    let group = match &args.group {
        Some(name) => Some(group(name)?),
        None => file.group,
    };
    let wanted = if args.allow.is_empty() { &file.entitlements } else { &args.allow };
    let allowed = build_flags::entitlements(wanted)?.into_iter().collect();
    let retention = match args.config {
        Some(_) => file.retention,
        None => config_file::read()?.retention,
    };
    let retention = retention.switched(args.collect);
    let labels = file.labels.into_iter().chain(pairs(&args.labels)).collect();
    let mut registries = places::registry_files();
    registries.buildkit_file.clone_from(&args.config);
    let reloaded = Reloaded { flags: Arc::default(), registries: registries.settings.clone() };
    reloaded.replace(args);
    let pidfile = args.pidfile.as_deref().map(Pidfile::write).transpose()?;
    let engine = open_with(store, registries)?;
    // Under BuildKit's name it is that and nothing more.
    let docker = (own_name().as_deref() != Some(BUILDKITD)).then(|| commands(Arc::clone(&reloaded.flags)));
    if addresses.is_empty() && sockets.is_empty() {
        let directory = engine.info()?.runtime_directory;
        addresses.push(Address::Unix(directory.join("buildkit.sock")));
        addresses.extend(docker.iter().map(|_| Address::Unix(directory.join("docker.sock"))));
    }
    let watched = read_only_addresses.iter().map(|address| format!("{address} (read-only)"));
    let names = addresses.iter().map(ToString::to_string).chain(watched);
    let inherited = (!sockets.is_empty()).then(|| INHERITED.to_owned());
    let listening = names.chain(inherited).collect::<Vec<_>>().join(", ");
    let (jobs, history) = (args.jobs.or(file.jobs), file.history);
    let debug_address = args.debug_address.clone().or(file.debug_address);
    let hint = "the name is that in the client's certificate";
    let clients = args.clients.iter().map(|text| text.parse()).collect::<Result<_, daemon::ClientError>>();
    let clients = clients.map_err(|error| CliError::usage(error.to_string(), hint))?;
    let options = Options {
        clients,
        addresses,
        read_only_addresses,
        docker,
        debug_address,
        group,
        sockets,
        tls,
        allowed,
        retention,
        history,
        jobs,
        labels,
    };
    // It goes with the process.
    let rereads = std::thread::Builder::new().name("settings".to_owned());
    rereads
        .spawn(move || hangups.iter().for_each(|()| reloaded.reload()))
        .map_err(|error| CliError::failed(format!("cannot start a thread: {error}")))?;
    let served = daemon::serve(engine, &options, &stop, || {
        complain(&format!("listening on {listening}"));
        // Nobody may be waiting for it.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    });
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    drop(pidfile);
    served.map_err(|error| {
        let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
        CliError::failed(format!("{error}{why}"))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What we are called.
fn own_name() -> Option<String> {
    let path = PathBuf::from(std::env::args_os().next()?);
    Some(path.file_name()?.to_str()?.to_owned())
}

/// What may change while a daemon serves.
struct Reloaded {
    /// Flags for containers that do not say it themselves.
    flags: Arc<Mutex<Vec<String>>>,
    registries: Settings,
}

impl Reloaded {
    /// Takes what a command line says of it.
    fn replace(&self, args: &DaemonArgs) {
        self.flags.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&args.container_flags);
        let is_said = !args.registry_mirrors.is_empty() || !args.insecure_registries.is_empty();
        let said = is_said.then(|| {
            json!({ "registry-mirrors": args.registry_mirrors, "insecure-registries": args.insecure_registries })
        });
        self.registries.replace(said.map(|said| said.to_string()));
    }

    /// Reads the settings again. Where they make no sense they stay as they are. Files about registries are read anew in any case; what is
    /// on the command line of `lap daemon` itself cannot have changed.
    fn reload(&self) {
        if own_name().as_deref() != Some(DOCKERD) {
            self.registries.replace(self.registries.text());
            return complain("files about registries will be read again");
        }
        match as_dockerd().map(|cli| cli.command) {
            Ok(Command::Daemon(args)) => {
                self.replace(&args);
                complain(
                    "settings were read again: what containers get that do not say it themselves, and registries",
                );
            }
            Ok(_) => {}
            Err(error) => complain(&format!("settings stay as they are: {}", error.message())),
        }
    }
}

/// What our commands mean, for those who ask by Docker's API. Containers get `flags` where they do not say it themselves.
fn commands(flags: Arc<Mutex<Vec<String>>>) -> docker::Commands {
    let create = move |words: &[String]| {
        let words = with_defaults(words, &flags.lock().unwrap_or_else(PoisonError::into_inner));
        super::run::from_words(&words).map_err(|error| error.message().to_owned())
    };
    docker::Commands { create: Arc::new(create), build: Arc::new(build_request) }
}

/// Words with those flags in front that they do not have themselves.
fn with_defaults(words: &[String], flags: &[String]) -> Vec<String> {
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let own: BTreeSet<String> =
        words.iter().take_while(|word| word.starts_with('-')).map(|word| name(word)).collect();
    // A driver of logs that was chosen does not get the options of another.
    let has_log = own.contains("--log-driver");
    let is_wanted = |flag: &&String| {
        let name = name(flag);
        let is_of_other_driver = has_log && name == "--log-opt";
        !own.contains(&name) && !is_of_other_driver
    };
    let mut all: Vec<String> = flags.iter().filter(is_wanted).cloned().collect();
    // Somebody may ask for the log of any container, also of one that goes at its end.
    if !has_log && !all.iter().any(|flag| name(flag) == "--log-driver") {
        all.push("--log-driver=json-file".to_owned());
    }
    all.extend_from_slice(words);
    all
}

/// What the words of `lap build` mean, for those who send their context by Docker's API.
fn build_request(
    words: &[String],
    context: ContextSource,
    dockerfile: DockerfileSource,
) -> Result<BuildRequest, String> {
    super::build::request_of(words, context, dockerfile).map_err(|error| error.message().to_owned())
}

fn address(text: &str) -> Result<Address, CliError> {
    let hint = "for example unix:///run/lapstrake/buildkit.sock";
    text.parse().map_err(|error: daemon::AddressError| CliError::usage(error.to_string(), hint))
}

/// A file with our process id, for as long as this lives.
struct Pidfile<'a>(&'a Path);

impl<'a> Pidfile<'a> {
    fn write(path: &'a Path) -> Result<Self, CliError> {
        std::fs::write(path, std::process::id().to_string())
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Pidfile<'_> {
    fn drop(&mut self) {
        // Somebody may have removed it.
        let _ = std::fs::remove_file(self.0);
    }
}

fn shown(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

/// What the file says that the command line names.
fn file(args: &DaemonArgs) -> Result<BuildkitdFile, CliError> {
    let Some(path) = &args.config else { return Ok(BuildkitdFile::default()) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::failed(format!("cannot read {}: {error}", path.display())))?;
    BuildkitdFile::parse(path, &text).map_err(|error| CliError::failed(error.to_string()))
}

/// Where to listen, and the sockets that are open already.
fn addresses(args: &DaemonArgs, file: &BuildkitdFile) -> Result<(Vec<Address>, Vec<Socket>), CliError> {
    let wanted = if args.addresses.is_empty() { &file.addresses } else { &args.addresses };
    let (inherited, others): (Vec<_>, Vec<_>) = wanted.iter().partition(|text| text.starts_with(INHERITED));
    let addresses = others.into_iter().map(|text| address(text)).collect::<Result<_, _>>()?;
    if inherited.is_empty() {
        return Ok((addresses, Vec::new()));
    }
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for number in 0..given.len() {
        let unix = given.take_unix_listener(number).ok().flatten().map(Socket::Unix);
        let socket = match unix {
            Some(socket) => Some(socket),
            None => given.take_tcp_listener(number).ok().flatten().map(Socket::Tcp),
        };
        sockets.extend(socket);
    }
    if sockets.is_empty() {
        let hint = "fd:// is for sockets of systemd: start the daemon by a socket unit";
        return Err(CliError::usage("nobody has opened a socket for the daemon".to_owned(), hint));
    }
    if sockets.iter().any(|socket| matches!(socket, Socket::Tcp(_)))
        && !args.insecure_tcp
        && args.tls_ca.is_none()
    {
        let hint = "say --tlscacert, --tlscert and --tlskey, or --insecure-tcp";
        return Err(CliError::usage(
            "anybody who reaches the port of fd:// could build as this user".to_owned(),
            hint,
        ));
    }
    Ok((addresses, sockets))
}

fn tls(args: &DaemonArgs, file: &BuildkitdFile) -> Result<Option<Tls>, CliError> {
    let of_args = (args.tls_cert.clone(), args.tls_key.clone(), args.tls_ca.clone());
    let (certificate, key, clients) = match of_args {
        (None, None, None) => (file.tls.cert.clone(), file.tls.key.clone(), file.tls.ca.clone()),
        given => given,
    };
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(Tls { certificate, key, clients })),
        (None, None) if clients.is_none() => Ok(None),
        _ => {
            let hint = "give the certificate and its key, and the authority of clients' certificates";
            Err(CliError::usage("the daemon has half of a certificate".to_owned(), hint))
        }
    }
}

/// A group of this machine.
fn group(name: &str) -> Result<u32, CliError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = Group::from_name(name).ok().flatten();
    let hint = "give a group of this machine, or its number";
    found
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| CliError::usage(format!("there is no group {name}"), hint))
}
