//! The configuration file: what `lap` does when its command line does not say.
//!
//! ```toml
//! [build]
//!   contextModes = "git"
//!   jobs = 4                  # RUNs at work at once
//!
//! [worker.oci]                # as in buildkitd.toml
//!   maxUsedSpace = "60%"
//! ```
//!
//! Anything else in the file is an error: what is misspelt must not silently be no setting.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use base::{Fault, Faulty};
use serde::Deserialize;

use crate::request::ContextModes;
use crate::retention::{Retention, Worker};

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigFile {
    /// What of the cache is kept.
    pub retention: Retention,
    /// Which modes files of a context have.
    pub context_modes: Option<ContextModes>,
    /// How many processes of steps run at once.
    pub jobs: Option<NonZeroUsize>,
}

/// Why a configuration file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}, line {line}: {problem}", path.display())]
pub struct ConfigFileError {
    /// The file.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl ConfigFileError {
    /// What is wrong with the text of the file at `path`.
    pub(crate) fn of(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        Self { path: path.to_owned(), line, problem: one_line(error.message()) }
    }
}

impl Faulty for ConfigFileError {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    build: Build,
    #[serde(default)]
    worker: Worker,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Build {
    context_modes: Option<ContextModes>,
    jobs: Option<NonZeroUsize>,
}

impl ConfigFile {
    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigFileError`] says in which line what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigFileError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigFileError::of(path, text, &error))?;
        let Build { context_modes, jobs } = file.build;
        Ok(Self { retention: file.worker.retention(path), context_modes, jobs })
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ConfigFile, ConfigFileError> {
        ConfigFile::parse(Path::new("/f.toml"), text)
    }

    #[test]
    fn jobs_are_at_least_one() {
        let jobs = |text| parsed(text).map(|file| file.jobs.map(NonZeroUsize::get));
        assert_eq!(jobs("").unwrap(), None);
        assert_eq!(jobs("[build]\njobs = 3\n").unwrap(), Some(3));
        assert_eq!(jobs("[build]\njobs = 0\n").unwrap_err().line, 2);
    }

    #[test]
    fn modes_of_contexts_are_read_and_others_named() {
        assert_eq!(parsed("").unwrap().context_modes, None);
        let git = parsed("[build]\ncontextModes = \"git\"\n").unwrap();
        assert_eq!(git.context_modes, Some(ContextModes::Git));
        let wrong = parsed("[build]\ncontextModes = \"plain\"\n").unwrap_err().to_string();
        assert!(wrong.contains("line 2") && wrong.contains("`keep`") && wrong.contains("`git`"), "{wrong}");
        let misspelt = parsed("[build]\ncontextMode = \"git\"\n").unwrap_err().to_string();
        assert!(misspelt.contains("unknown field `contextMode`"), "{misspelt}");
    }
}
