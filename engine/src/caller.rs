//! What a caller has and does not give beforehand: it is asked when something is needed.
//!
//! `lap build` gives secrets and agents with its request. A client of the daemon keeps them, and answers questions about them
//! while its build runs.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use base::Digest;

use crate::error::EngineError;
use crate::request::SshSource;

/// Why a caller did not answer.
pub type AskError = Box<dyn Error + Send + Sync>;

/// Somebody who is asked. Calls may wait for an answer; what is answered is kept nowhere.
pub trait Caller: Send + Sync {
    /// The value of a secret; `None` when there is none of this id.
    ///
    /// # Errors
    /// It does not answer.
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, AskError>;

    /// Whether there is an ssh agent of this id.
    ///
    /// # Errors
    /// It does not answer.
    fn has_agent(&self, id: &str) -> Result<bool, AskError>;

    /// A connection to an ssh agent.
    ///
    /// # Errors
    /// It cannot be had.
    fn agent(&self, id: &str) -> Result<UnixStream, AskError>;
}

/// Blobs that a caller keeps in stores of its own, as caches of builds. Calls wait for an answer, and what is read may be anything.
pub trait CallersBlobs: Send + Sync {
    /// How large a blob is; `None` if there is none of this digest.
    ///
    /// # Errors
    /// It does not answer.
    fn size(&self, store: &str, digest: &Digest) -> Result<Option<u64>, AskError>;

    /// The bytes of a blob.
    ///
    /// # Errors
    /// It cannot be had.
    fn open(&self, store: &str, digest: &Digest) -> Result<Box<dyn Read + Send>, AskError>;

    /// Adds a blob.
    ///
    /// # Errors
    /// The caller does not take it.
    fn put(&self, store: &str, digest: &Digest, size: u64, content: &mut dyn Read) -> Result<(), AskError>;
}

/// Where `RUN --mount=type=ssh` leads, by id.
#[derive(Clone, Default)]
pub struct SshSources {
    given: BTreeMap<String, SshSource>,
    caller: Option<Arc<dyn Caller>>,
}

impl fmt::Debug for SshSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshSources")
            .field("given", &self.given)
            .field("asks", &self.caller.is_some())
            .finish()
    }
}

impl FromIterator<(String, SshSource)> for SshSources {
    fn from_iter<T: IntoIterator<Item = (String, SshSource)>>(all: T) -> Self {
        Self { given: all.into_iter().collect(), caller: None }
    }
}

/// A way to an ssh agent.
#[derive(Clone)]
pub(crate) enum AgentWay {
    /// It was given.
    Given(SshSource),
    /// The caller has it, under this id.
    Asked(Arc<dyn Caller>, String),
}

impl SshSources {
    /// Those of somebody who is asked for them.
    pub fn asking(caller: Arc<dyn Caller>) -> Self {
        Self { given: BTreeMap::new(), caller: Some(caller) }
    }

    /// The way to the agent of this id; `None` if the caller has none.
    pub(crate) fn get(&self, id: &str) -> Result<Option<AgentWay>, EngineError> {
        if let Some(source) = self.given.get(id) {
            return Ok(Some(AgentWay::Given(source.clone())));
        }
        let Some(caller) = &self.caller else { return Ok(None) };
        let there =
            caller.has_agent(id).map_err(|source| not_answered(format!("the ssh agent {id}"), source))?;
        Ok(there.then(|| AgentWay::Asked(Arc::clone(caller), id.to_owned())))
    }
}

/// A question without an answer.
pub(crate) fn not_answered(what: String, source: AskError) -> EngineError {
    EngineError::NotAnswered { what, source }
}
