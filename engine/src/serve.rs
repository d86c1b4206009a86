//! `lap registry serve`: the images of the store as a registry, and what is pushed there as images of the store.
//!
//! The protocol is in [`registry::server`]; here is what its repositories and blobs are in the store. How names lead to
//! each other, and how long what is pushed is kept, is in `docs/design/0017-registry-server.md`.

pub mod error;
mod failure;
mod grace;
mod manifests;
mod names;
mod receiving;
mod records;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::CancelToken;
use registry::server::{Accounts, ServerOptions, TlsIdentity};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;

use self::error::ServerError;
use self::names::Names;
pub use self::records::RecordLimits;
use self::records::Records;
use self::store::Served;
use crate::Engine;
use crate::error::EngineError;

/// How long work of the store may go on when the server has ended.
const LAST_WORK: Duration = Duration::from_secs(5);
/// How often there is time for what a store needs now and then.
const HOUSEKEEPING: Duration = Duration::from_secs(600);
/// How many threads may wait for the disk at once.
const DISK_THREADS: usize = 32;

/// A registry to serve.
#[derive(Clone)]
pub struct ServeRequest {
    /// Where to listen; with port 0 the kernel chooses one.
    pub address: SocketAddr,
    /// The registry's name in the names of images: what is pushed to `app:1` becomes `NAME/app:1`. `None` is
    /// `localhost:PORT`, or the address if that is not this machine's loopback.
    pub name: Option<String>,
    /// Whether nothing may be pushed or deleted.
    pub read_only: bool,
    /// A file with user names and passwords, as `htpasswd -B` writes it. `None` lets everybody in.
    pub accounts: Option<PathBuf>,
    /// How many records of a shared build cache are kept.
    pub records: RecordLimits,
    /// The files with the certificate and its key. `None` is plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Is told of failures that clients can do nothing about, in one line each.
    pub report: Arc<dyn Fn(&str) + Send + Sync>,
}

/// A registry that takes connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Its URL.
    pub url: String,
    /// Its name in the names of images.
    pub name: String,
}

impl Engine {
    /// Serves the store until `cancel` is cancelled. `listening` is told once connections are taken; then, and every ten
    /// minutes, `housekeeping` may do what takes a while, as looking whether a collection is due.
    ///
    /// # Errors
    /// When the address is taken, or a file of the request cannot be used.
    pub fn serve(
        &self,
        request: &ServeRequest,
        listening: impl FnOnce(&Listening),
        mut housekeeping: impl FnMut(),
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let accounts = request.accounts.as_deref().map(Accounts::read).transpose();
        let tls = request.tls.as_ref().map(|(certificate, key)| TlsIdentity::read(certificate, key));
        let options = ServerOptions {
            read_only: request.read_only,
            accounts: accounts.map_err(ServerError::from)?,
            tls: tls.transpose().map_err(ServerError::from)?,
            ..ServerOptions::new(request.report.clone())
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(DISK_THREADS)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(|source| EngineError::Threads { source })?;
        let failed = |source| ServerError::Listen { address: request.address, source };
        let listener = runtime.block_on(TcpListener::bind(request.address)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let names = Names::new(request.name.as_deref(), address)?;
        let scheme = if request.tls.is_some() { "https" } else { "http" };
        let told = Listening { url: format!("{scheme}://{address}"), name: names.own().to_owned() };
        let (work, _guard) = cancel.child();
        let records = Arc::new(Records::new(self.store.clone(), self.clock.clone(), request.records));
        let served = Arc::new(Served::new(self.store.clone(), names, records.clone(), work.clone()));
        let tidy = || {
            if let Err(error) = records.tidy() {
                (request.report)(&format!("records of the build cache: {}", base::fault::chain(&error)));
            }
        };
        listening(&told);
        let serving = registry::server::serve(listener, served, options, stopped(cancel.clone()));
        let mut server = runtime.spawn(serving);
        loop {
            tidy();
            housekeeping();
            let ended = async { timeout(HOUSEKEEPING, &mut server).await };
            if runtime.block_on(ended).is_ok() {
                break;
            }
        }
        // Layers that nobody waits for any more.
        work.cancel();
        runtime.shutdown_timeout(LAST_WORK);
        tidy();
        Ok(())
    }
}

/// Is over when `cancel` is cancelled.
async fn stopped(cancel: CancelToken) {
    let stop = Arc::new(Notify::new());
    let notify = stop.clone();
    let _guard = cancel.on_cancel(move || notify.notify_one());
    stop.notified().await;
}
