//! Making containers and running them, in the foreground or detached.

use runner::Attach;
use runner::shim::restart::RestartPolicy;
use runner::shim::{Attached, Config};
use snapshotter::{ContainerRecord, HeldDir, Lease, NewContainer, SnapshotId, StoreError};

use super::document::ContainerDocument;
use super::lifecycle::Exit;
use super::log_drivers;
use super::remove::destroy;
use crate::Engine;
use crate::error::EngineError;
use crate::events_log::ContainerTeller;
use crate::networks;
use crate::request::{LogDriver, RunRequest};
use crate::run::{ShownImage, ShownVolumes};

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
    dir: HeldDir,
    config: Config,
    teller: ContainerTeller,
}

impl Engine {
    /// Runs a container: in the foreground, on our own standard streams, until it ends or we leave it, or
    /// detached. Call it on the main thread.
    ///
    /// # Errors
    /// When the container could not be started; [`EngineError::exit_code`] then knows Docker's code.
    pub fn run(&self, request: &RunRequest) -> Result<ContainerRun, EngineError> {
        let created = self.create(request, true)?;
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
        let id = sys::random::hex(32)?;
        let dir = self.store.create_container_dir(&id)?;
        let Prepared { image, target, parent, mut config, document, volumes, images, lease } =
            self.prepare_run(request, &id, starts_at_once)?;
        document.write(dir.path())?;
        let name = request.name.clone().map_or_else(|| self.free_name(), Ok)?;
        networks::name_container(&mut config.request.network, &name);
        config.log.source =
            log_drivers::source(&config.log, &document, self.clock.now(), (&id, &name, &image))?;
        if config.log.driver == LogDriver::JsonFile && !config.log.tag.is_empty() {
            config.log.attributes.insert("tag".to_owned(), config.log.source.tag.clone());
        }
        let joined = networks::ids_of(&config.request.network);
        let shown: Vec<_> = images.iter().map(|image| (image.target, image.snapshot)).collect();
        let new = NewContainer {
            id: &id,
            name: &name,
            image: &image,
            target: &target,
            parent,
            volumes: &volumes.names,
            images: &shown,
            networks: &joined,
        };
        let unfinished = self.store.begin_container(&new, &dir).map_err(|error| refused(error, request))?;
        // What it stands on and shows is the container's now.
        drop((lease, images));
        volumes.finish();
        config.request.root = unfinished.mount()?;
        config.request.layer_way = self.store.layer_way();
        // Who is to go on without us, or after us, reads what to do.
        if needs_shim(request) || !request.remove {
            config.write(dir.path())?;
        }
        let record = unfinished.keep();
        let teller = ContainerTeller::of(self.store.root(), &id, &name, Some(&document));
        teller.add("create", []);
        if !request.remove {
            self.store.sync()?;
        }
        Ok(Created { record, dir, config, teller })
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
        let Created { record, dir, config, teller } = created;
        let remove = config.remove;
        let mut ran = runner::run_foreground(dir.path(), config, log_drivers::surroundings(teller));
        if remove {
            destroy(&self.store, &record, dir, true)?;
        } else {
            // Who is told of the end may take the container at once.
            if let Ok((_, waiters)) = &mut ran {
                waiters.hide();
            }
            drop(dir);
        }
        // Those who wait for the end or the removal are told when they are dropped.
        let (ended, _waiters) = ran?;
        Ok(ended.into())
    }

    /// Runs a container with a shim as its parent.
    fn run_by_shim(&self, created: Created, request: &RunRequest) -> Result<Option<Exit>, EngineError> {
        let Created { record, dir, .. } = created;
        let mut client = self.start_shim(&record.id, &record.name, dir)?;
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

/// Why a container was not recorded, in the words of its request.
fn refused(error: StoreError, request: &RunRequest) -> EngineError {
    match error {
        StoreError::ContainerNameTaken { name, id } => EngineError::ContainerNameTaken { name, id },
        StoreError::NoSuchBlob { .. } | StoreError::NoSuchSnapshot { .. } => {
            EngineError::NoSuchImage(request.image.clone())
        }
        other => other.into(),
    }
}

/// What a container is made of.
pub(crate) struct Prepared<'a> {
    /// The id of its image.
    pub(crate) image: base::Digest,
    /// What the image was found by.
    pub(crate) target: base::Digest,
    /// The image's layers.
    pub(crate) parent: Option<SnapshotId>,
    /// What to run, on the image's layers rather than on top of them.
    pub(crate) config: Config,
    pub(crate) document: ContainerDocument,
    /// The volumes that it shows, held until it has its row.
    pub(crate) volumes: ShownVolumes<'a>,
    /// The images that it shows, protected until it has its row.
    pub(crate) images: Vec<ShownImage>,
    /// What protects the layers until the container does.
    pub(crate) lease: Option<Lease>,
}
