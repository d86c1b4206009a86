//! Removing containers.

use std::time::{Duration, Instant};

use runner::shim::{State, Status};
use snapshotter::{ContainerRecord, HeldDir, Store, StoreError};

use super::Container;
use crate::Engine;
use crate::error::EngineError;
use crate::events_log::{ContainerTeller, EventLog};

/// How long a supervisor may be silent before or after its life.
const SILENCE: Duration = Duration::from_secs(10);

/// The kernel tells nobody when a lock's last holder is gone without giving it to who waits, and who waits for a supervisor
/// that comes to life would wait for the whole of it.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells of either of the two things that are waited for"
)]
pub(super) fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

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
        let claimed = if force { self.claim_by_force(&record.id) } else { self.claim(&record.id) };
        match claimed {
            Ok(Some(dir)) => {
                // As it is ours, nobody has kept this up to date.
                let abandoned = State::read(dir.path()).is_ok_and(|state| state.status.is_live());
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

    /// Kills a container and claims it. A supervisor that was killed answers nobody any more, and holds the container until
    /// the kernel has taken it apart; one that is about to start does not answer yet.
    fn claim_by_force(&self, id: &str) -> Result<Option<HeldDir>, EngineError> {
        let deadline = Instant::now() + SILENCE;
        loop {
            self.stop_container(id, Some(9), Some(0))?;
            match self.claim(id)? {
                None if Instant::now() < deadline => pause(),
                claimed => return Ok(claimed),
            }
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
