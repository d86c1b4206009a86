//! The composition root: what `lap` can do, as functions over one store.
//!
//! Only this crate knows all of frontend, solver, snapshotter, runner and registry, and passes values
//! between them. It prints nothing and reads no environment: requests come in ([`request`]), events go
//! out through a sink, reports ([`report`]) and typed errors ([`error`]) come back.

mod assemble;
mod attest;
mod blocking;
mod build;
pub mod buildkitd_file;
pub mod cache_mounts;
pub mod call;
pub mod caller;
mod cdi;
mod changes;
pub mod config_file;
pub mod containers;
pub mod context;
mod contexts;
mod definition;
mod devices;
pub mod doctor;
mod emulation;
pub mod error;
pub mod events_log;
pub mod explore;
mod export;
pub mod failed;
pub mod following;
pub mod frontends;
pub mod history;
pub mod images;
mod import;
mod layouts;
pub mod limits_here;
mod load;
mod lookups;
mod manifest;
pub mod network;
pub mod networks;
mod ops;
mod parallel;
mod platforms;
mod progress;
pub mod prune;
mod pull;
pub mod push;
pub mod received;
pub mod registries;
mod remote;
pub mod report;
pub mod request;
mod resolve;
pub mod retention;
mod run;
mod save;
mod secrets;
pub mod serve;
pub mod session;
mod shared_cache;
pub mod signing;
pub mod source_policy;
mod ssh;
mod step_rules;
mod system;
pub mod table;
mod targets;
mod unpack;
pub mod volumes;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base::time::Clock;
/// Graphs of operations as clients send them, and the operations that they become.
pub mod low_level {
    pub use frontend::low_level::*;
    pub use llb::{BindMount, CacheMount, ExecMount, ExecOp, MountKind, NetworkMode, SecurityMode, Sharing};
}

pub use self::definition::other_frontend;
pub use runner::HiddenInput;
pub use runner::isolation;
use runner::isolation::{Isolation, NoIsolation};
pub use runner::oci as oci_runtime;
use snapshotter::Store;
pub use snapshotter::apply::Limits as ArchiveLimits;
pub use snapshotter::{
    CacheUsage, ConvertTo, DriverKind, FilterError, Findings, PackingObstacle, Policy, RecordFilter,
    RecordKind, ScratchDir, SpaceLimits, StoredForm,
};
use solver::Flights;
pub use sys::erofs::{Backing as LayerBacking, Way as LayerWay};
pub use sys::signals::keep_ended_children;
pub use sys::socket::unread_by_peer;
pub use sys::userns::owns_system;

use crate::error::EngineError;
use crate::frontends::Frontends;
use crate::lookups::Lookups;
use crate::progress::Onlooker;
use crate::registries::{Credentials, RegistryFiles};

/// Whether a name matches one part of a pattern of Dockerfiles (Go's `filepath.Match`).
pub fn matches_name(pattern: &str, name: &str) -> bool {
    parser::glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(name))
}

/// The time on the machine's clock.
pub fn now() -> base::Timestamp {
    sys::clock::SystemClock.now()
}

/// The platforms whose programs run on this machine, its own first.
pub fn platforms_here() -> Vec<base::Platform> {
    emulation::platforms_here()
}

/// What an [`Engine`] needs to know of its surroundings.
#[derive(Debug)]
pub struct EngineOptions {
    /// The store's directory, absolute; made if missing.
    pub root: PathBuf,
    /// The directory for what ends with the machine at the latest, such as sockets; made when it is needed.
    pub runtime_directory: PathBuf,
    /// The isolation of containers that was obtained for this process, or why there is none. Without one,
    /// everything works that starts no container.
    pub isolation: Result<Isolation, Arc<NoIsolation>>,
    /// Where files about registries are looked for.
    pub registries: RegistryFiles,
    /// How a new store keeps layers; `None` is the best that works here, and whatever an existing store has.
    pub driver: Option<DriverKind>,
    /// In which form layers are kept that come as archives.
    pub layer_form: StoredForm,
    /// How packed layers are mounted; `None` is the best way that the kernel has.
    pub layer_way: Option<LayerWay>,
    /// Hears, once, that packed layers become directories because they cannot be mounted.
    pub on_unpacked: fn(&PackingObstacle),
    /// What is too much for a layer or an archive that is unpacked.
    pub archive_limits: ArchiveLimits,
    /// Variables that say how git reaches the network, as in `https_proxy`. Downloads and registries find
    /// them in the environment.
    pub proxies: Vec<(String, String)>,
}

/// Everything that one does with images, over one store. Any number of engines, in any number of
/// processes, may use a store at once.
pub struct Engine {
    store: Store,
    runtime_directory: PathBuf,
    isolation: Result<Isolation, Arc<NoIsolation>>,
    clock: Arc<dyn Clock>,
    registries: RegistryFiles,
    proxies: Vec<(String, String)>,
    network: OnceLock<blocking::Network>,
    /// The threads of the network, for all engines of this store.
    threads: blocking::Threads,
    /// Who we are to registries, where that is not in files.
    credentials: Option<Arc<dyn Credentials>>,
    /// Whether registries are taken for who they say they are, with any certificate or without TLS.
    trusts_registries: bool,
    /// The steps that builds of this engine run now.
    flights: Arc<Flights<Onlooker>>,
    /// What they ask registries now.
    lookups: Arc<Lookups>,
    /// Who runs frontends that are images, for builds that ask for them.
    frontends: Option<Arc<dyn Frontends>>,
}

impl Engine {
    /// Gives memory that is not used any more back to the machine: for programs that wait long after much work.
    pub fn release_memory(&self) {
        self.store.rest();
        sys::memory::release();
    }

    /// Opens the store. Cheap: the network client is made when it is first needed. Raises this process's limit
    /// of open files, since a build needs many.
    ///
    /// # Errors
    /// When the store cannot be opened or made, with the path and the reason.
    pub fn open(options: EngineOptions) -> Result<Self, EngineError> {
        Self::open_with_clock(options, Arc::new(sys::clock::SystemClock))
    }

    /// The same with another clock than the machine's, which may be as wrong as clocks can be.
    ///
    /// # Errors
    /// As for [`Engine::open`].
    pub fn open_with_clock(options: EngineOptions, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        sys::open_files::raise_limit();
        let store = Store::open(
            &options.root,
            snapshotter::Options {
                driver: options.driver,
                layer_form: options.layer_form,
                layer_way: options.layer_way,
                on_unpacked: options.on_unpacked,
                clock: clock.clone(),
                archive_limits: options.archive_limits,
                // A root directory alone does not keep a container from using a device in it.
                devices: !matches!(&options.isolation, Ok(found) if found.mode == isolation::Mode::Chroot),
            },
        )?;
        let EngineOptions { runtime_directory, isolation, registries, proxies, .. } = options;
        let isolation = isolation.map(|found| found.for_files_in(store.root()));
        Ok(Self {
            store,
            runtime_directory,
            isolation,
            clock,
            registries,
            proxies,
            network: OnceLock::new(),
            threads: blocking::Threads::default(),
            credentials: None,
            trusts_registries: false,
            flights: Arc::default(),
            lookups: Arc::default(),
            frontends: None,
        })
    }

    /// The same engine for somebody who has credentials of its own: those in files are not used, and what registries
    /// answer to these is known to nobody else.
    #[must_use]
    pub fn with_credentials(&self, credentials: Arc<dyn Credentials>) -> Self {
        Self { credentials: Some(credentials), ..self.with_own_network() }
    }

    /// The same engine for a registry that is named as insecure: any certificate is good, and plain HTTP too.
    pub(crate) fn trusting_registries(&self) -> Self {
        Self { trusts_registries: true, ..self.with_own_network() }
    }

    pub(crate) fn with_own_network(&self) -> Self {
        Self {
            store: self.store.clone(),
            runtime_directory: self.runtime_directory.clone(),
            isolation: self.isolation.clone(),
            clock: Arc::clone(&self.clock),
            registries: self.registries.clone(),
            proxies: self.proxies.clone(),
            network: OnceLock::new(),
            threads: Arc::clone(&self.threads),
            credentials: self.credentials.clone(),
            trusts_registries: self.trusts_registries,
            flights: Arc::clone(&self.flights),
            lookups: Arc::clone(&self.lookups),
            frontends: self.frontends.clone(),
        }
    }

    /// Why layers are not packed, if that was asked for.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn packing_obstacle(&self) -> Result<Option<&PackingObstacle>, EngineError> {
        Ok(self.store.packing_obstacle()?)
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// The isolation of containers.
    ///
    /// # Errors
    /// There is none, and why.
    pub fn isolation(&self) -> Result<&Isolation, EngineError> {
        self.isolation.as_ref().map_err(|error| EngineError::Isolation(Arc::clone(error)))
    }

    /// The isolation in one line, also where there is none.
    fn isolation_line(&self) -> String {
        match &self.isolation {
            Ok(isolation) => isolation.to_string(),
            Err(error) => format!("no isolation: {error}"),
        }
    }

    /// The runtime directory, which is made if it is missing, for this user alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn runtime_directory(&self) -> Result<&Path, EngineError> {
        sys::fs::create_dir_all(&self.runtime_directory, 0o700)?;
        Ok(&self.runtime_directory)
    }
}
