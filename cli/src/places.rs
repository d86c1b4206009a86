//! Where `lap` keeps things: the store, which stays, and the runtime directory, which the machine's next start
//! empties.
//!
//! | | whoever owns the system | everybody else |
//! |---|---|---|
//! | store | `/var/lib/lapstrake` | `$XDG_DATA_HOME/lapstrake`, or `~/.local/share/lapstrake` |
//! | runtime directory | `/run/lapstrake` | `$XDG_RUNTIME_DIR/lapstrake`, or `run` in the store |
//!
//! `--root` and `LAPSTRAKE_ROOT` name another store, `LAPSTRAKE_RUN` another runtime directory. An ordinary user
//! is not told by the user id: in a user namespace of our own it is 0 (see [`engine::owns_system`]).

use std::path::{Path, PathBuf};

use engine::registries::{RegistryFiles, Settings};

use crate::commands::{environment, whole_environment};
use crate::error::CliError;

/// Names the runtime directory.
const RUN: &str = "LAPSTRAKE_RUN";

/// The store's directory when nobody names one.
pub(crate) fn store_root() -> Result<PathBuf, CliError> {
    if engine::owns_system() {
        return Ok(PathBuf::from("/var/lib/lapstrake"));
    }
    let data = environment("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let hint = "set HOME, or name a directory with --root or LAPSTRAKE_ROOT";
    let data = data.ok_or_else(|| CliError::usage("there is no place for the store".to_owned(), hint))?;
    Ok(data.join("lapstrake"))
}

/// The directory for sockets, process ids and whatever else ends with the machine. `store` is the store's
/// directory, which is ours alone, unlike `/tmp`.
pub(crate) fn runtime_directory(store: &Path) -> PathBuf {
    if let Some(named) = environment(RUN) {
        return PathBuf::from(named);
    }
    if engine::owns_system() {
        return PathBuf::from("/run/lapstrake");
    }
    match environment("XDG_RUNTIME_DIR") {
        Some(directory) => PathBuf::from(directory).join("lapstrake"),
        None => store.join("run"),
    }
}

/// Where the processes are written down that share a user namespace ([`engine::isolation::obtain`]).
pub(crate) fn users(store: &Path) -> PathBuf {
    runtime_directory(store).join("users")
}

/// Directories in which programs of the host are looked for.
pub(crate) fn programs() -> Vec<PathBuf> {
    let path = environment("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/sbin", "/run/wrappers/bin"];
    let directories = path.split(':').filter(|directory| directory.starts_with('/')).chain(usual);
    directories.map(PathBuf::from).collect()
}

/// The file of Docker's client.
pub(crate) fn docker_config() -> Option<PathBuf> {
    let below_home = || environment("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let directory = environment("DOCKER_CONFIG").map(PathBuf::from).or_else(below_home);
    directory.map(|directory| directory.join("config.json"))
}

/// Where files about registries are looked for: those of Docker, Podman, containerd and BuildKit, the user's and the
/// system's.
pub(crate) fn registry_files() -> RegistryFiles {
    let path = |name: &str| environment(name).map(PathBuf::from);
    let home = path("HOME");
    let below_home = |place: &str| home.as_ref().map(|home| home.join(place));
    let config = path("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = docker_config();
    let podman = [
        path("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")),
        config.as_ref().map(|directory| directory.join("containers/auth.json")),
    ];
    let (login_file, mut auth_files) = match path("REGISTRY_AUTH_FILE") {
        Some(named) => (Some(named), docker.into_iter().collect()),
        None => (docker, Vec::new()),
    };
    auth_files.extend(podman.into_iter().flatten());
    RegistryFiles {
        login_file,
        auth_files,
        directories: config.into_iter().chain([PathBuf::from("/etc")]).collect(),
        registries_conf: path("CONTAINERS_REGISTRIES_CONF"),
        settings: Settings::default(),
        buildkit_file: None,
        programs: programs(),
        environment: whole_environment(),
        helper_patience: environment("LAPSTRAKE_CREDENTIAL_HELPER_TIMEOUT")
            .and_then(|text| base::time::parse_duration(&text)),
    }
}
