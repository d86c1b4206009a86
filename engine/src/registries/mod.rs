//! What this machine says of registries: how they are reached, who we are there, and whether that works.
//!
//! The files are those of other programs, read as they are when a registry is first asked ([`hosts`], [`credentials`]);
//! which there are, and which of them counts, is in `docs/registries.md`.

pub(crate) mod credentials;
mod doctor;
mod error;
mod helper;
pub(crate) mod hosts;
mod lists;
mod login;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use registry::{Credential, Credentials, FetchedToken, FoundRepository, Lookup, TokenRequest};

pub use self::error::{ListError, RegistriesError};
pub use self::helper::HelperError;
pub use self::hosts::HostsError;
pub use self::lists::{ManifestText, PlatformChange};
pub use self::login::{LoginError, SavedLogin};

/// Where files about registries are looked for. Its debug form does not show the environment, which may hold secrets.
#[derive(Clone, Default)]
pub struct RegistryFiles {
    /// Docker's `config.json`, or what stands in for it.
    pub login_file: Option<PathBuf>,
    /// Further files with credentials, in the order in which they are asked.
    pub auth_files: Vec<PathBuf>,
    /// Directories of configuration, the user's before the system's: `~/.config` and `/etc`.
    pub directories: Vec<PathBuf>,
    /// A file that stands in for `containers/registries.conf` in them.
    pub registries_conf: Option<PathBuf>,
    /// What is asked before the `daemon.json` files in them.
    pub settings: Settings,
    /// A `buildkitd.toml` that is asked before those in them.
    pub buildkit_file: Option<PathBuf>,
    /// Directories with credential helpers.
    pub programs: Vec<PathBuf>,
    /// The environment of credential helpers.
    pub environment: Vec<(OsString, OsString)>,
    /// How long a credential helper may take, if that is said.
    pub helper_patience: Option<Duration>,
}

/// The text of a `daemon.json` that may change while a daemon runs. Clones are the same.
#[derive(Clone, Default)]
pub struct Settings(Arc<Mutex<(u64, Option<String>)>>);

impl Settings {
    /// Says something else from now on. All files about registries are read again then.
    pub fn replace(&self, text: Option<String>) {
        let mut settings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *settings = (settings.0 + 1, text);
    }

    /// How often they have changed.
    fn generation(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// What they say.
    pub fn text(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

impl fmt::Debug for RegistryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryFiles")
            .field("login_file", &self.login_file)
            .field("auth_files", &self.auth_files)
            .field("directories", &self.directories)
            .field("registries_conf", &self.registries_conf)
            .field("buildkit_file", &self.buildkit_file)
            .field("programs", &self.programs)
            .finish_non_exhaustive()
    }
}
