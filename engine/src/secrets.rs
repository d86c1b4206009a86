//! Secrets of the caller: looked up when a step needs one, kept nowhere.
//!
//! A value goes to the process that asked for it, or to a server that asked who we are, and to nothing
//! else: no key, layer, log, event or error ever holds one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::caller::{Caller, not_answered};
use crate::error::EngineError;

/// No secret is larger, in bytes; the limit is BuildKit's.
const LARGEST: u64 = 500 * 1024;

/// The secrets of one build, by id.
#[derive(Clone, Default)]
pub struct Secrets {
    given: BTreeMap<String, SecretSource>,
    /// Who is asked for the others.
    caller: Option<Arc<dyn Caller>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("given", &self.given).field("asks", &self.caller.is_some()).finish()
    }
}

/// Where a secret is.
#[derive(Clone)]
pub enum SecretSource {
    /// In a file, read when it is needed.
    File(PathBuf),
    /// In memory, for example from a variable of the caller's environment.
    Value(Vec<u8>),
}

impl fmt::Debug for SecretSource {
    /// Never shows a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(…)"),
        }
    }
}

impl Secrets {
    /// Those of somebody who is asked for them.
    pub fn asking(caller: Arc<dyn Caller>) -> Self {
        Self { given: BTreeMap::new(), caller: Some(caller) }
    }

    /// Adds a secret; the later of two with one id counts.
    pub fn insert(&mut self, id: impl Into<String>, source: SecretSource) {
        self.given.insert(id.into(), source);
    }

    /// The ids of all secrets that were given, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.given.keys().map(String::as_str)
    }

    /// Whether there may be others, which somebody is asked for.
    pub(crate) fn asks(&self) -> bool {
        self.caller.is_some()
    }

    /// The value of a secret; `None` when the caller gave none of this id.
    ///
    /// # Errors
    /// The file cannot be read, the caller does not answer, or the secret is larger than 500 KiB.
    pub fn get(&self, id: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let too_large = || EngineError::SecretTooLarge { id: id.to_owned(), limit: LARGEST };
        match self.given.get(id) {
            None => match &self.caller {
                None => Ok(None),
                Some(caller) => {
                    let asked = caller.secret(id);
                    let value = asked.map_err(|source| not_answered(format!("the secret {id}"), source))?;
                    let is_large = value.as_ref().is_some_and(|value| value.len() as u64 > LARGEST);
                    if is_large { Err(too_large()) } else { Ok(value) }
                }
            },
            Some(SecretSource::Value(value)) if value.len() as u64 > LARGEST => Err(too_large()),
            Some(SecretSource::Value(value)) => Ok(Some(value.clone())),
            Some(SecretSource::File(path)) => {
                let value = sys::fs::read_limited(path, LARGEST)?;
                value.map(Some).ok_or_else(too_large)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_shown() {
        let mut secrets = Secrets::default();
        secrets.insert("a", SecretSource::Value(b"hunter2".to_vec()));
        assert!(!format!("{secrets:?}").contains("hunter2"));
        assert_eq!(secrets.get("a").unwrap().unwrap(), b"hunter2");
        assert_eq!(secrets.get("b").unwrap(), None);
    }

    #[test]
    fn a_huge_secret_is_refused() {
        let mut secrets = Secrets::default();
        secrets.insert("a", SecretSource::Value(vec![0; LARGEST as usize + 1]));
        assert!(matches!(secrets.get("a"), Err(EngineError::SecretTooLarge { .. })));
    }
}
