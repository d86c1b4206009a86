//! The merge operation: filesystems laid over each other.

use base::{CancelToken, KeyHasher};

use super::{BuildOps, Filesystem};
use crate::error::EngineError;

/// What the content keys of merged filesystems are made of.
const DOMAIN: &str = "lapstrake/merge-content/v1";

impl BuildOps<'_> {
    /// Lays the inputs over each other, the first lowest. An input without a result is empty, and
    /// so is a merge of nothing.
    pub(super) fn merge(
        &self,
        inputs: &[Option<Filesystem>],
        cancel: &CancelToken,
    ) -> Result<Filesystem, EngineError> {
        let mut merged: Option<Filesystem> = None;
        for upper in inputs.iter().flatten() {
            merged = Some(match merged {
                None => *upper,
                Some(base) => self.lay_over(base, *upper, cancel)?,
            });
        }
        match merged {
            Some(merged) => Ok(merged),
            None => self.new_filesystem(KeyHasher::new(DOMAIN).finish(), |_| Ok(())),
        }
    }

    fn lay_over(
        &self,
        base: Filesystem,
        upper: Filesystem,
        cancel: &CancelToken,
    ) -> Result<Filesystem, EngineError> {
        let content = KeyHasher::new(DOMAIN).add(&base.content).add(&upper.content).finish();
        let snapshot = self.engine.store.merge(
            self.lease,
            Some(base.snapshot),
            upper.snapshot,
            Some(&content),
            cancel,
        )?;
        Ok(Filesystem { snapshot, content })
    }
}
