//! Who we are: logins in files and in the helpers that they name.
//!
//! A helper that fails does not fail the request: most of what is pulled needs no login. Why it failed is told when the
//! registry insists on one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use registry::{Credentials, DockerConfig, Lookup};

use super::RegistryFiles;
use super::helper::Helper;
use crate::error::EngineError;

/// Larger files hold no logins.
const LARGEST_FILE: u64 = 4 << 20;

/// The logins of this user.
pub(crate) struct StoredCredentials {
    files: RegistryFiles,
    /// Each file with its content, in the order in which they are asked.
    configs: Vec<(PathBuf, DockerConfig)>,
    /// What helpers said of registries.
    asked: Mutex<HashMap<(String, String), Lookup>>,
}

impl StoredCredentials {
    /// Reads the files; those that are missing hold nothing.
    pub(crate) fn read(files: &RegistryFiles) -> Result<Self, EngineError> {
        let mut configs = Vec::new();
        for path in files.login_file.iter().chain(&files.auth_files) {
            configs.push((path.clone(), config_at(path)?));
        }
        Ok(Self { files: files.clone(), configs, asked: Mutex::default() })
    }

    /// What the helper called `name` has for `registry`; it is asked once.
    fn ask(&self, name: &str, registry: &str) -> Lookup {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = asked.entry((name.to_owned(), registry.to_owned())).or_insert_with(|| {
            let helper = Helper::new(&self.files, name);
            match helper.and_then(|helper| Ok((helper.name().to_owned(), helper.get(registry)?))) {
                Ok((program, credential)) => {
                    Lookup { credential, source: Some(program), ..Lookup::default() }
                }
                Err(error) => Lookup { problem: Some(error.to_string()), ..Lookup::default() },
            }
        });
        answer.clone()
    }
}

impl Credentials for StoredCredentials {
    fn lookup(&self, registry: &str, repository: &str) -> Lookup {
        let mut problem = None;
        for (path, config) in &self.configs {
            if let Some(helper) = config.helper(registry) {
                let answer = self.ask(helper, registry);
                if answer.credential.is_some() {
                    return answer;
                }
                problem = problem.or(answer.problem);
            }
            let found = config.lookup(registry, repository);
            if found.credential.is_some() {
                return Lookup { source: Some(path.display().to_string()), ..found };
            }
        }
        Lookup { problem, ..Lookup::default() }
    }
}

/// The content of a file with logins.
pub(super) fn config_at(path: &Path) -> Result<DockerConfig, EngineError> {
    match text_at(path)? {
        Some(text) => Ok(DockerConfig::parse(&text, &path.display().to_string())?),
        None => Ok(DockerConfig::default()),
    }
}

/// The text of a file with logins; `None` when there is no such file, or nothing in it.
pub(super) fn text_at(path: &Path) -> Result<Option<Vec<u8>>, EngineError> {
    if !sys::fs::exists(path)? {
        return Ok(None);
    }
    let text = sys::fs::read_limited(path, LARGEST_FILE)?.unwrap_or_default();
    Ok(Some(text).filter(|text| !text.trim_ascii().is_empty()))
}
