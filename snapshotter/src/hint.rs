//! Small files that are named by their content and may go at any time: what explanations are made of.

use std::io::Write as _;

use base::Key;
use sys::path_error::PathError;

use crate::error::StoreError;
use crate::last_use::{USE_GRAIN, last_use};
use crate::store::Store;

/// How long a hint is kept that nobody uses, in milliseconds.
const KEPT_FOR: i64 = 8 * 24 * 3_600_000;

/// What a hint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HintKind {
    /// The steps of a build graph.
    Graph,
    /// The files behind a content key.
    Listing,
}

impl HintKind {
    /// The name of its directory.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Graph => "graphs-v1",
            Self::Listing => "listings-v1",
        }
    }

    pub(crate) const ALL: [Self; 2] = [Self::Graph, Self::Listing];
}

impl Store {
    /// Whether there is a hint for `key`. Its use is noted.
    pub fn has_hint(&self, kind: HintKind, key: &Key) -> Result<bool, StoreError> {
        self.note_use(&self.layout().hint(kind, key))
    }

    /// The hint for `key`, if there is one.
    pub fn hint(&self, kind: HintKind, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        match sys::fs::read(&self.layout().hint(kind, key)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps a hint for `key`. Any number may do so at once: they all write the same.
    pub fn put_hint(&self, kind: HintKind, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        let directory = self.layout().hints(kind);
        // Gone with whatever else is not used any more if its writer dies.
        let aside = directory.join(format!(".{}", crate::store::new_name()?));
        let file = match sys::fs::create_new(&aside, 0o600) {
            Err(error) if error.is_not_found() => {
                sys::fs::create_dir_all(&directory, 0o700)?;
                sys::fs::create_new(&aside, 0o600)?
            }
            file => file?,
        };
        let path = self.layout().hint(kind, key);
        let written = (&file).write_all(bytes).map_err(|source| PathError::new("write", &aside, source));
        let kept = written.and_then(|()| sys::fs::rename(&aside, &path));
        if kept.is_err() {
            // The first failure is the one to report.
            let _ = sys::fs::remove_file(&aside);
        }
        Ok(kept?)
    }

    /// Moves hints that nobody used for long to the trash, and what dead writers left.
    pub(crate) fn sweep_hints(&self) -> Result<(), StoreError> {
        // Without builds there is nothing to explain.
        let kept_for = if self.builds()?.is_empty() { -USE_GRAIN } else { KEPT_FOR };
        let oldest = self.now_millis() - kept_for;
        for kind in HintKind::ALL {
            let directory = self.layout().hints(kind);
            let names = match sys::fs::list(&directory) {
                Err(error) if error.is_not_found() => continue,
                names => names?,
            };
            for name in names {
                let path = directory.join(name);
                if last_use(&path)?.is_some_and(|(last_used, _)| last_used.as_millisecond() < oldest) {
                    self.discard(&path)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
