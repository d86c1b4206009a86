//! Logging in to a registry, and out.

use std::path::{Path, PathBuf};

use base::{CancelToken, Fault, Faulty};
use registry::{Credential, DockerConfig};
use sys::fs::Durability;

use super::credentials::{config_at, text_at};
use super::helper::{Helper, HelperError};
use crate::Engine;
use crate::error::EngineError;

/// Where a login went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SavedLogin {
    /// Into a file, readable for its owner only, in plain text.
    File(PathBuf),
    /// Into a credential helper.
    Helper(String),
}

/// Why a login is not kept.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no place for it.
    #[error("there is no place for logins")]
    NoPlace,
    /// The helper does not keep it.
    #[error(transparent)]
    Helper(#[from] HelperError),
}

impl Faulty for LoginError {
    fn fault(&self) -> Fault {
        match self {
            Self::NoPlace => Fault::Input,
            Self::Helper(error) => error.fault(),
        }
    }
}

impl Engine {
    /// Keeps a credential for `registry`, after the registry took it. Where a token server gives an identity token, that is
    /// kept instead of the password.
    ///
    /// # Errors
    /// When the registry refuses, or the credential cannot be kept; the files are then as before.
    pub fn login(
        &self,
        registry: &str,
        credential: &Credential,
        cancel: &CancelToken,
    ) -> Result<SavedLogin, EngineError> {
        let credential = self.try_login(registry, credential, cancel)?;
        let path = self.login_file()?;
        if let Some(helper) = config_at(path)?.helper(registry) {
            let helper = Helper::new(&self.registries, helper).map_err(LoginError::from)?;
            helper.store(registry, &credential).map_err(LoginError::from)?;
            return Ok(SavedLogin::Helper(helper.name().to_owned()));
        }
        write_login(path, registry, Some(&credential))?;
        Ok(SavedLogin::File(path.to_owned()))
    }

    /// Asks `registry` whether it takes a credential, and answers what is to be kept: an identity token where a token server
    /// gives one, else what was given.
    ///
    /// # Errors
    /// When the registry refuses, or cannot be reached.
    pub fn try_login(
        &self,
        registry: &str,
        credential: &Credential,
        cancel: &CancelToken,
    ) -> Result<Credential, EngineError> {
        let network = self.network()?;
        Ok(network.wait(cancel, network.client.login(registry, credential))?.credential)
    }

    /// Forgets the login to `registry`. `false` when there was none.
    ///
    /// # Errors
    /// When the file cannot be written, or the helper fails.
    pub fn logout(&self, registry: &str) -> Result<bool, EngineError> {
        let path = self.login_file()?;
        let config = config_at(path)?;
        let mut was_there = config.has_entry(registry);
        if let Some(helper) = config.helper(registry) {
            let helper = Helper::new(&self.registries, helper).map_err(LoginError::from)?;
            was_there |= helper.get(registry).map_err(LoginError::from)?.is_some();
            if was_there {
                helper.erase(registry).map_err(LoginError::from)?;
            }
        }
        if config.has_entry(registry) {
            write_login(path, registry, None)?;
        }
        Ok(was_there)
    }

    fn login_file(&self) -> Result<&Path, EngineError> {
        let file = self.registries.login_file.as_deref();
        file.ok_or_else(|| LoginError::NoPlace.into())
    }
}

/// Writes the file anew, all at once, with a login more or less.
fn write_login(path: &Path, registry: &str, credential: Option<&Credential>) -> Result<(), EngineError> {
    // A link to the real file stays one.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let text = text_at(path)?.unwrap_or_default();
    let name = path.display().to_string();
    let new = DockerConfig::with_login(&text, &name, registry, credential)?;
    if let Some(directory) = path.parent() {
        sys::fs::create_dir_all(directory, 0o700)?;
    }
    Ok(sys::fs::write_atomic(path, &new, 0o600, Durability::Synced)?)
}
