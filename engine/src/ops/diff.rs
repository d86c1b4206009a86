//! The diff operation: what has changed from one filesystem to another.

use base::{CancelToken, KeyHasher};

use super::{BuildOps, Filesystem};
use crate::error::EngineError;

impl BuildOps<'_> {
    /// A filesystem that makes the upper input of the lower one when it is laid over it. An input without a result is
    /// empty.
    pub(super) fn diff(
        &self,
        inputs: &[Option<Filesystem>],
        cancel: &CancelToken,
    ) -> Result<Filesystem, EngineError> {
        let input = |slot: usize| inputs.get(slot).copied().flatten();
        let contents = [input(0), input(1)].map(|input| input.map(|input| input.content));
        let content =
            KeyHasher::new("lapstrake/diff-content/v1").add(&contents[0]).add(&contents[1]).finish();
        let [lower, upper] = [input(0), input(1)].map(|input| input.map(|input| input.snapshot));
        let (store, time) = (&self.engine.store, self.engine.clock.now());
        let snapshot = store.difference(self.lease, lower, upper, (&content, time), cancel)?;
        Ok(Filesystem { snapshot, content })
    }
}
