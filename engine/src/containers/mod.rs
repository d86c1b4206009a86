//! Containers: found, listed and looked at, stopped, started and removed.
//!
//! The store has a row for each; what is known of it lies in files of its directory, which whoever supervises
//! it writes ([`runner::shim`]). So any process can tell how all containers are without asking anybody, and
//! speaks to a supervisor only to have something done.

mod boot;
mod document;
mod exec;
pub mod files;
mod lifecycle;
pub mod log_drivers;
mod logs;
mod memberships;
mod names;
mod remove;
mod settings;
mod shim;
mod start;
mod stats;
mod streams;
mod top;
mod update;
pub mod usage;
mod waiting;

use base::{Digest, Timestamp};
pub use runner::logs::Record;
pub use runner::shim::health::HealthStatus;
use runner::shim::{Config, Request};
pub use runner::shim::{State, Status};
use snapshotter::{ContainerRecord, StoreError};

use crate::Engine;
use crate::error::EngineError;
pub use base::event::Stream;
pub use boot::BootStart;
pub use document::{ContainerDocument, MountPoint, MountedImage};
pub use exec::ExecRequest;
pub use lifecycle::Exit;
pub use logs::{Logs, LogsRequest};
pub use memberships::Membership;
pub use names::{random_id, random_name};
pub use settings::{ContainerSettings, ContainerSize, HealthCheck};
pub use shim::{COMMAND as SHIM_COMMAND, run_shim};
pub use start::ContainerRun;
pub(crate) use start::Prepared;
pub use stats::{Measured, Meter, Reading};
pub use streams::{Connected, Said, Told};
pub use top::{ProcessInfo, ProcessTable};
pub use update::{Update, UpdateRefusal};

/// Everything about a container.
#[derive(Debug, Clone)]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of its image.
    pub image_id: Digest,
    /// When it was made.
    pub created_at: Timestamp,
    /// How it was asked for.
    pub document: ContainerDocument,
    /// What it does.
    pub state: State,
    /// The file of its log.
    pub log_path: std::path::PathBuf,
}

impl Container {
    /// The first 12 digits, the short form that people read.
    pub fn short_id(&self) -> &str {
        &self.id[..self.id.len().min(12)]
    }

    /// Whether it was made from this image, or shows it.
    fn uses(&self, image: &Digest) -> bool {
        let mut shown = self.document.mounts.iter().filter_map(|point| point.image.as_ref());
        self.image_id == *image || shown.any(|shown| shown.id == *image)
    }
}

impl Engine {
    /// Every container, the newest first. One that is removed meanwhile is left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn containers(&self) -> Result<Vec<Container>, EngineError> {
        let mut containers = Vec::new();
        for record in self.store.containers()? {
            match self.describe(record) {
                Ok(container) if self.is_left_over(&container)? => {}
                Ok(container) => containers.push(container),
                Err(EngineError::File(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(containers)
    }

    /// Removes a container that nobody finishes, starts or removes any more, because whoever was to do that was killed:
    /// one that is not complete, one that was to start at once and to go at its end, and one that was to go and has ended.
    fn is_left_over(&self, container: &Container) -> Result<bool, EngineError> {
        let document = &container.document;
        let is_over = match container.state.status {
            Status::Created => {
                let is_complete = Config::is_written(&self.store.container_path(&container.id))?;
                document.starts_at_once && document.remove || !is_complete
            }
            status => document.remove && !status.is_live(),
        };
        Ok(is_over && self.is_given_up(container)?)
    }

    /// Removes a container that nobody holds.
    fn is_given_up(&self, container: &Container) -> Result<bool, EngineError> {
        match self.store.lock_container(&container.id) {
            // Whoever holds it is about to do it.
            Ok(None) => Ok(false),
            Ok(Some(dir)) => match self.store.container(&container.id)? {
                Some(record) => {
                    let volumes = container.document.remove;
                    Ok(remove::destroy(&self.store, &record, dir, volumes).map(|()| true)?)
                }
                None => Ok(true),
            },
            Err(StoreError::NoSuchContainer { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Everything about one container.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`].
    pub fn container(&self, name: &str) -> Result<Container, EngineError> {
        let record = self.find_container(name)?;
        self.describe(record).map_err(|error| match error {
            // It was removed meanwhile.
            EngineError::File(error) if error.is_not_found() => EngineError::NoSuchContainer(name.to_owned()),
            error => error,
        })
    }

    fn describe(&self, record: ContainerRecord) -> Result<Container, EngineError> {
        let directory = self.store.container_path(&record.id);
        Ok(Container {
            document: ContainerDocument::read(&directory)?,
            state: State::read(&directory)?,
            log_path: runner::logs::current(&directory),
            id: record.id,
            name: record.name,
            image_id: record.image,
            created_at: record.created_at,
        })
    }

    /// The container with this id, this name, or whose id begins so; looked for in this order, as in Docker.
    pub(crate) fn find_container(&self, text: &str) -> Result<ContainerRecord, EngineError> {
        let found = match self.store.container(text)? {
            None => self.store.container_named(text.strip_prefix('/').unwrap_or(text))?,
            found => found,
        };
        if let Some(record) = found {
            return Ok(record);
        }
        let mut fits = self.store.containers()?;
        fits.retain(|record| !text.is_empty() && record.id.starts_with(text));
        match fits.len() {
            0 => Err(EngineError::NoSuchContainer(text.to_owned())),
            1 => Ok(fits.swap_remove(0)),
            _ => Err(EngineError::Ambiguous(text.to_owned())),
        }
    }

    /// A container that was made from `image` or shows it, a running one if there is one.
    pub(crate) fn user_of(&self, image: &Digest) -> Result<Option<Container>, EngineError> {
        let mut users = self.containers()?;
        users.retain(|container| container.uses(image));
        let running = users.iter().position(|container| container.state.status.is_live());
        Ok(users.into_iter().nth(running.unwrap_or(0)))
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// There is no such container, the name is none, or another container has it.
    pub fn rename_container(&self, name: &str, new: &str) -> Result<(), EngineError> {
        let record = self.find_container(name)?;
        names::check(new)?;
        self.store.rename_container(&record.id, new).map_err(|error| match error {
            StoreError::ContainerNameTaken { name, id } => EngineError::ContainerNameTaken { name, id },
            other => other.into(),
        })?;
        self.tell_of_container(&record.id, "rename", [("oldName", &format!("/{}", record.name))]);
        // Who supervises it calls it by its new name from now on. One that has just ended need not.
        if let Ok(Some(mut client)) = self.supervisor(&record.id) {
            let _ = client.ask(&Request::Renamed { name: new.to_owned() });
        }
        Ok(())
    }
}

/// Whether a container in this status has processes.
pub(crate) fn has_processes(status: Status) -> bool {
    matches!(status, Status::Running | Status::Paused)
}

impl EngineError {
    /// Whether it says that there is no such container, or none any more.
    pub fn is_missing_container(&self) -> bool {
        matches!(self, Self::NoSuchContainer(_) | Self::Store(StoreError::NoSuchContainer { .. }))
    }
}
