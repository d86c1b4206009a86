//! The API of BuildKit over the engine.
//!
//! A daemon keeps nothing: the store is where everything is, and any number of `lap` commands use it at the same time. What is here
//! translates: calls into requests of the engine, its events into status messages, and the client's session into files, secrets
//! and outputs.

mod attributes;
mod builds;
mod capabilities;
mod clients;
mod content;
mod content_messages;
mod control;
mod debug;
mod errors;
mod exec;
mod follow;
mod gateway;
mod health;
mod history;
mod linked;
mod listen;
mod outputs;
mod pipes;
mod policies;
mod proto;
mod questions;
mod record;
mod reflection;
mod rpc;
mod serve;
mod session;
mod session_build;
mod status;
mod traces;
mod uploads;
mod workers;

use std::error::Error;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::CancelToken;
use engine::Engine;
use engine::error::EngineError;
use engine::history::HistoryLimits;
use engine::request::Entitlement;
use engine::retention::Retention;
use tokio::sync::watch;
use tonic::Status;

use crate::builds::Builds;
pub use crate::builds::here::Frontends;
use crate::clients::Access;
pub use crate::clients::{AllowedClient, ClientError};
pub use crate::listen::{Address, AddressError, Socket, Tls};
use crate::serve::Routes;

/// How long clients may take to go when all builds have ended. Some connect and then say nothing.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a daemon serves.
pub struct Options {
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Where it listens for those who only watch.
    pub read_only_addresses: Vec<Address>,
    /// What words mean to which calls of Docker's API lead; without it that is not served.
    pub docker: Option<docker::Commands>,
    /// Where it shows numbers, as `HOST:PORT`.
    pub debug_address: Option<String>,
    /// The group that may use its sockets besides their owner.
    pub group: Option<u32>,
    /// Sockets that somebody has opened for us.
    pub sockets: Vec<Socket>,
    /// How clients on tcp know us, and we them.
    pub tls: Option<Tls>,
    /// Which clients on tcp may do what, by the names in their certificates; everybody with a certificate without any.
    pub clients: Vec<AllowedClient>,
    /// What clients may ask for that gives steps more rights than usual.
    pub allowed: Vec<Entitlement>,
    /// What of the cache is kept.
    pub retention: Retention,
    /// How many builds are remembered, and for how long, if the store is not to decide.
    pub history: Option<HistoryLimits>,
    /// How many processes of one build's steps run at once; `None` for what suits the machine.
    pub jobs: Option<NonZeroUsize>,
    /// Labels of the worker besides those that say what it is.
    pub labels: Vec<(String, String)>,
}

/// Why a daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It cannot listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate or key cannot be read.
    #[error("cannot read {}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There are no threads for it.
    #[error("cannot start the daemon's threads")]
    Threads(#[source] io::Error),
}

/// Serves until `stop` is cancelled; then builds are stopped, and their clients told so. `ready` is called as soon as clients can
/// connect.
///
/// # Errors
/// It cannot listen.
pub fn serve(
    engine: Engine,
    options: &Options,
    stop: &CancelToken,
    ready: impl FnOnce(),
) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from).min(4))
        .thread_name("daemon")
        .enable_all()
        .build()
        .map_err(DaemonError::Threads)?;
    let (stopper, stopped) = watch::channel(false);
    let _guard = stop.on_cancel(move || {
        stopper.send_replace(true);
    });
    let tls = options.tls.as_ref().map(Tls::acceptor).transpose()?;
    let engine = Arc::new(engine);
    let builds = Arc::new(Builds::new(Arc::clone(&engine), options, runtime.handle().clone()));
    let docker = options.docker.clone();
    let docker = docker.map(|commands| docker::router(Arc::new(docker::Api::new(engine, commands))));
    let routes = Routes {
        buildkit: listen::buildkit(&builds),
        docker,
        access: Access::All,
        builds: Arc::clone(&builds),
    };
    let clients: Arc<[AllowedClient]> = options.clients.clone().into();
    runtime.block_on(async {
        let mut servers = tokio::task::JoinSet::new();
        let mut listeners = Vec::new();
        for address in &options.addresses {
            let failed = |source| DaemonError::Listen { address: address.to_string(), source };
            listeners.push((address.listen(options.group).map_err(failed)?, false));
        }
        for address in &options.read_only_addresses {
            let failed = |source| DaemonError::Listen { address: address.to_string(), source };
            listeners.push((address.listen(options.group).map_err(failed)?, true));
        }
        for socket in &options.sockets {
            let failed = |source| DaemonError::Listen { address: "fd://".to_owned(), source };
            listeners.push((socket.listen().map_err(failed)?, false));
        }
        if let Some(address) = &options.debug_address {
            let failed = |source| DaemonError::Listen { address: address.clone(), source };
            let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
            tokio::spawn(debug::serve(listener, Arc::clone(&builds)));
        }
        for (listener, read_only) in listeners {
            let tls = tls.clone().filter(|_| listener.is_tcp());
            let (builds, mut stopped) = (Arc::clone(&builds), stopped.clone());
            let access = if read_only { Access::Reading } else { Access::All };
            let routes = Routes { access, ..routes.clone() };
            let clients = Arc::clone(&clients);
            servers.spawn(async move {
                let drained = async move {
                    // The other end lives as long as the daemon.
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                    builds.drain().await;
                };
                serve::serve(listener, routes, tls.map(|tls| (tls, clients)), drained).await;
            });
        }
        ready();
        let mut stopped = stopped.clone();
        let over = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
            builds.drain().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            () = async { while servers.join_next().await.is_some() {} } => {}
            () = over => {}
        }
        Ok(())
    })
}

/// Does something that may take its time on a thread that may wait.
async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| failed(&error)),
        Err(_) => Err(Status::internal("the work was stopped")),
    }
}

/// Something that failed in the engine, in all its words.
fn failed(error: &dyn Error) -> Status {
    Status::unknown(base::fault::chain(error))
}
