//! What is done about containers when the machine has been started. There is no daemon that would do it by itself.

use runner::shim::Config;

use super::Container;
use crate::Engine;
use crate::error::EngineError;

/// A container that was to be started.
#[derive(Debug)]
pub struct BootStart {
    /// Its name.
    pub name: String,
    /// Whether it runs now.
    pub result: Result<(), EngineError>,
}

impl Engine {
    /// Starts the containers whose restart policies ask for it, as Docker's daemon does when it is started: those that
    /// are always to run, and those that are to run unless somebody has stopped them. Those that run already, and
    /// those that never ran, are left as they are. Containers are started in the order in which they were made.
    ///
    /// # Errors
    /// The containers cannot be listed. That one cannot be started does not keep the others from it.
    pub fn start_containers_of_boot(&self) -> Result<Vec<BootStart>, EngineError> {
        let mut wanted = self.containers()?;
        wanted.retain(|container| self.is_wanted(container));
        wanted.reverse();
        let start = |Container { id, name, .. }| BootStart { name, result: self.start_container(&id) };
        Ok(wanted.into_iter().map(start).collect())
    }

    /// One whose settings cannot be read cannot be started either.
    fn is_wanted(&self, container: &Container) -> bool {
        let state = &container.state;
        let ran_before = !state.status.is_live() && state.started_at.is_some();
        let policy = || Config::read(&self.store.container_path(&container.id)).map(|config| config.restart);
        ran_before && policy().is_ok_and(|policy| policy.applies_at_boot(state.stopped))
    }
}
