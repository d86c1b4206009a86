//! Removing containers.

use runner::shim::{State, Status};
use snapshotter::{ContainerRecord, HeldDir, Store, StoreError};

use super::Container;
use crate::Engine;
use crate::error::EngineError;
use crate::events_log::{ContainerTeller, EventLog};

/// Removes a container that nobody else uses, which `dir` shows, and tells of it.
pub(super) fn destroy(
    store: &Store,
    record: &ContainerRecord,
    dir: HeldDir,
    volumes: bool,
) -> Result<(), StoreError> {
    let teller = ContainerTeller::new(store.root(), &record.id, &record.name, dir.path());
    let volumes = store.remove_container(record, dir, volumes)?;
    teller.add("destroy", []);
    volumes.iter().for_each(|volume| EventLog::of(store.root()).add_volume("destroy", volume));
    Ok(())
}

impl Engine {
    /// Removes a container with all that it wrote, and with `volumes` the anonymous volumes that only it shows. One that runs
    /// is killed before if `force`.
    ///
    /// # Errors
    /// There is no such container, or it runs and is not to be killed.
    pub fn remove_container(&self, name: &str, force: bool, volumes: bool) -> Result<(), EngineError> {
        let record = self.find_container(name)?;
        if force {
            self.stop_container(&record.id, Some(9), Some(0))?;
        }
        let abandoned =
            State::read(&self.store.container_path(&record.id)).is_ok_and(|state| state.abandoned);
        match self.claim(&record.id) {
            Ok(Some(dir)) => {
                destroy(&self.store, &record, dir, volumes)?;
                if abandoned {
                    self.sweep_up();
                }
                Ok(())
            }
            Ok(None) => {
                let status = self.container(&record.id).map_or(Status::Running, |found| found.state.status);
                Err(EngineError::ContainerInUse { id: record.id, status: status.name() })
            }
            // It was to go at its end.
            Err(EngineError::NoSuchContainer(_)) if force => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes what supervisors that were killed have left on the machine. What cannot be removed now is left to the next
    /// container, which tells of it.
    fn sweep_up(&self) {
        let _ = runner::network::leftovers::sweep(&self.runtime_directory);
        let _ = runner::cgroup::abandoned::remove_abandoned();
    }

    /// Removes the containers that do not run and that `wanted` chooses. Answers their ids, and how many bytes
    /// of disk that freed.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn prune_containers(
        &self,
        wanted: impl Fn(&Container) -> bool,
    ) -> Result<(Vec<String>, u64), EngineError> {
        let before = self.store.usage()?.containers.bytes;
        let mut removed = Vec::new();
        for container in self.containers()? {
            if container.state.status.is_live() || !wanted(&container) {
                continue;
            }
            match self.remove_container(&container.id, false, false) {
                Ok(()) => removed.push(container.id),
                // Somebody has just started or removed it.
                Err(EngineError::ContainerInUse { .. } | EngineError::NoSuchContainer(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let after = self.store.usage()?.containers.bytes;
        let freed = before.saturating_sub(after);
        self.event_log().add_prune("container", freed);
        Ok((removed, freed))
    }
}
