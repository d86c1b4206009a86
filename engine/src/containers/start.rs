//! Making containers and running them, in the foreground or detached.

use runner::Attach;
use runner::shim::restart::RestartPolicy;
use runner::shim::{Attached, Config};
use snapshotter::{ContainerDir, ContainerRecord, StoreError};

use super::document::ContainerDocument;
use super::lifecycle::Exit;
use crate::Engine;
use crate::error::EngineError;
use crate::request::RunRequest;

/// How often another name is tried for a container that was given none.
const NAME_ATTEMPTS: u32 = 100;

/// What became of a container that was to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRun {
    /// Its id.
    pub id: String,
    /// `None` when it runs on detached.
    pub foreground: Option<Exit>,
}

/// A container that was made, and that nobody else uses yet.
struct Created {
    record: ContainerRecord,
    dir: ContainerDir,
    config: Config,
}

impl Engine {
    /// Runs a container: in the foreground, on our own standard streams, until it ends or we leave it, or
    /// detached. Call it on the main thread.
    ///
    /// # Errors
    /// When the container could not be started; [`EngineError::exit_code`] then knows Docker's code.
    pub fn run(&self, request: &RunRequest) -> Result<ContainerRun, EngineError> {
        let created = self.create(request, !needs_shim(request))?;
        let id = created.record.id.clone();
        let foreground = match needs_shim(request) {
            true => self.run_by_shim(created, request)?,
            false => Some(self.run_here(created)?),
        };
        Ok(ContainerRun { id, foreground })
    }

    /// Makes a container without starting it, and answers its id.
    ///
    /// # Errors
    /// There is no such image, or the request does not fit it.
    pub fn create_container(&self, request: &RunRequest) -> Result<String, EngineError> {
        let created = self.create(request, false)?;
        created.config.write(created.dir.path())?;
        Ok(created.record.id)
    }

    fn create(&self, request: &RunRequest, starts_at_once: bool) -> Result<Created, EngineError> {
        request.name.as_deref().map_or(Ok(()), super::names::check)?;
        let lease = self.store.lease("run")?;
        let id = sys::random::hex(32)?;
        let dir = self.store.create_container_dir(&id)?;
        let prepared = self.prepare_run(&lease, request, &id, starts_at_once)?;
        prepared.document.write(dir.path())?;
        // Who is to go on without us, or after us, reads what to do.
        if needs_shim(request) || !request.remove {
            prepared.config.write(dir.path())?;
        }
        let record = self.keep_named(&id, request.name.as_deref(), &prepared.image, prepared.snapshot)?;
        if !request.remove {
            self.store.sync()?;
        }
        Ok(Created { record, dir, config: prepared.config })
    }

    /// Records a container under its name, or under one that is free.
    fn keep_named(
        &self,
        id: &str,
        name: Option<&str>,
        image: &base::Digest,
        snapshot: snapshotter::ActiveSnapshot,
    ) -> Result<ContainerRecord, EngineError> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.free_name()?,
        };
        self.store.keep_container(id, &name, image, snapshot).map_err(|error| match error {
            StoreError::ContainerNameTaken { name, id } => EngineError::ContainerNameTaken { name, id },
            other => other.into(),
        })
    }

    fn free_name(&self) -> Result<String, EngineError> {
        for attempt in 0..NAME_ATTEMPTS {
            let name = super::names::generate(attempt)?;
            if self.store.container_named(&name)?.is_none() {
                return Ok(name);
            }
        }
        Ok(sys::random::hex(16)?)
    }

    /// Runs a container as part of this process.
    fn run_here(&self, created: Created) -> Result<Exit, EngineError> {
        let Created { record, dir, config } = created;
        let remove = config.remove;
        let ran = runner::run_foreground(dir.path(), config);
        if remove {
            self.store.remove_container(&record, dir)?;
        }
        // Those who wait for the removal are told by the supervisor's end.
        let (ended, _supervisor) = ran?;
        Ok(ended.into())
    }

    /// Runs a container with a shim as its parent.
    fn run_by_shim(&self, created: Created, request: &RunRequest) -> Result<Option<Exit>, EngineError> {
        let Created { record, dir, config: _ } = created;
        // The shim takes it over.
        drop(dir);
        let mut client = self.start_shim(&record.id)?;
        let supervision = &request.supervision;
        let ran = if supervision.detach {
            client.ask(&runner::shim::Request::Start).map(|_| None)
        } else {
            let how = Attach {
                stdin: request.interactive && supervision.attach.is_none_or(|[stdin, ..]| stdin),
                outputs: supervision.attach.map_or([true; 2], |[_, stdout, stderr]| [stdout, stderr]),
                terminal: request.tty,
                keys: supervision.detach_keys.clone(),
                forward_signals: supervision.forward_signals,
                owner: supervision.forward_signals,
                start: true,
            };
            runner::attach(&mut client, &how).map(Some)
        };
        let is_over = match &ran {
            Ok(Some(Attached::Interrupted)) => supervision.forward_signals,
            Ok(None | Some(Attached::Detached)) => false,
            Ok(Some(Attached::Ended(_))) | Err(_) => true,
        };
        if is_over {
            client.wait_until_gone();
        }
        Ok(ran?.map(Exit::from))
    }
}

/// Whether a container has to be the child of a shim: it goes on without us, or may do so later.
fn needs_shim(request: &RunRequest) -> bool {
    let supervision = &request.supervision;
    supervision.detach
        || supervision.restart != RestartPolicy::No
        || supervision.attach.is_some()
        || !supervision.forward_signals
        || (request.tty && request.interactive && runner::is_typed())
}

/// What a container is made of.
pub(crate) struct Prepared {
    pub(crate) image: base::Digest,
    pub(crate) snapshot: snapshotter::ActiveSnapshot,
    pub(crate) config: Config,
    pub(crate) document: ContainerDocument,
}
