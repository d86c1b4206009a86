//! Changing what a container may use, and when it is started again.

use base::fault::chain;
use runner::cgroup::ControlGroup;
use runner::shim::{Config, Request};
pub use runner::shim::{Update, UpdateRefusal};

use crate::Engine;
use crate::error::EngineError;
use crate::request::Limits;

impl Engine {
    /// Changes limits of a container and when it is started again: all that is asked for, or nothing. It holds at once if the
    /// container runs, and whenever it is started.
    ///
    /// # Errors
    /// There is no such container, the limits do not fit each other, or this machine cannot set them.
    pub fn update_container(&self, name: &str, update: &Update) -> Result<(), EngineError> {
        let container = self.container(name)?;
        self.update(&container.id, update).map_err(|error| match error {
            EngineError::NoSuchContainer(_) => error,
            error => EngineError::Update { id: container.id, why: chain(&error) },
        })
    }

    fn update(&self, id: &str, update: &Update) -> Result<(), EngineError> {
        let Some(dir) = self.claim(id)? else {
            let mut client = self.supervisor(id)?.ok_or_else(|| EngineError::NotRunning(id.to_owned()))?;
            return Ok(client.ask(&Request::Update(Box::new(update.clone()))).map(drop)?);
        };
        let (config, told) = Config::read(dir.path())?.updated(update)?;
        if told != Limits::default() {
            try_limits(&config.request.limits)?;
        }
        config.write(dir.path())?;
        self.tell_of_container(id, "update", []);
        Ok(())
    }
}

/// Asks the kernel whether it takes these limits, so that a container which does not run is not given some that keep it
/// from being started.
fn try_limits(limits: &Limits) -> Result<(), EngineError> {
    // It goes at once.
    Ok(ControlGroup::create_around(limits, None).map(drop).map_err(runner::RunError::from)?)
}
