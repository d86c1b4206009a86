//! Waiting until a container is as somebody wants it.

use std::time::Duration;

use base::CancelToken;
use runner::logs::Watch;
use runner::shim::State;

use crate::Engine;
use crate::error::EngineError;

/// How long is waited at most for a change: a supervisor that is killed changes no file, and we may be told to stop.
const PATIENCE: Duration = Duration::from_millis(200);

impl Engine {
    /// Waits until what a container does is enough to tell something of it, by looking whenever it changes. `None` if we
    /// are to stop waiting.
    ///
    /// # Errors
    /// There is no such container, or its state cannot be read.
    pub fn wait_for_state<T>(
        &self,
        name: &str,
        cancel: &CancelToken,
        mut judge: impl FnMut(&State) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        let record = self.find_container(name)?;
        let directory = self.store.container_path(&record.id);
        // Before the first look, so that no change is missed.
        let watch = Watch::new(&directory)?;
        while !cancel.is_cancelled() {
            if let Some(told) = judge(&State::read(&directory)?) {
                return Ok(Some(told));
            }
            let waited = watch.wait(PATIENCE);
            waited.map_err(|error| sys::path_error::PathError::new("watch", &directory, error))?;
            if self.store.container(&record.id)?.is_none() {
                return Err(EngineError::NoSuchContainer(name.to_owned()));
            }
        }
        Ok(None)
    }
}
