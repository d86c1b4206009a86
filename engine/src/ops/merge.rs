//! The merge operation: filesystems laid over each other.

use base::{CancelToken, KeyHasher};

use super::{BuildOps, Filesystem};
use crate::error::EngineError;

impl BuildOps<'_> {
    /// Lays the inputs over each other, the first lowest. An input without a result is empty.
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
        merged.ok_or(EngineError::Cancelled)
    }

    fn lay_over(
        &self,
        base: Filesystem,
        upper: Filesystem,
        cancel: &CancelToken,
    ) -> Result<Filesystem, EngineError> {
        let content =
            KeyHasher::new("lapstrake/merge-content/v1").add(&base.content).add(&upper.content).finish();
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
