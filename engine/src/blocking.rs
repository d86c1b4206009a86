//! The one bridge between the blocking engine and the asynchronous network.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use base::CancelToken;
use registry::{Client, ClientOptions};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::Engine;
use crate::error::EngineError;
use crate::registries::credentials::StoredCredentials;
use crate::registries::hosts::HostFiles;

/// The threads of the network, made when they are first needed.
pub(crate) type Threads = Arc<OnceLock<Arc<Runtime>>>;

/// The registry client and the threads it runs on.
pub(crate) struct Network {
    runtime: Arc<Runtime>,
    pub(crate) client: Client,
}

impl Engine {
    /// The network, made on first use: most commands never need it.
    pub(crate) fn network(&self) -> Result<&Network, EngineError> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        let runtime = self.runtime()?;
        let options = ClientOptions {
            credentials: match &self.credentials {
                Some(credentials) => Arc::clone(credentials),
                None => Arc::new(StoredCredentials::read(&self.registries)?),
            },
            hosts: Some(Arc::new(HostFiles::new(&self.registries, self.trusts_registries))),
            ..ClientOptions::default()
        };
        let network = Network { runtime, client: Client::new(options) };
        // Another thread may have been faster; its network is as good.
        Ok(self.network.get_or_init(|| network))
    }

    fn runtime(&self) -> Result<Arc<Runtime>, EngineError> {
        if let Some(runtime) = self.threads.get() {
            return Ok(Arc::clone(runtime));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()
            .map_err(|source| EngineError::Threads { source })?;
        Ok(Arc::clone(self.threads.get_or_init(|| Arc::new(runtime))))
    }
}

impl Network {
    /// Waits for `work`; ends early with [`EngineError::Cancelled`] once `cancel` is cancelled.
    pub(crate) fn wait<T, E: Into<EngineError>>(
        &self,
        cancel: &CancelToken,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, EngineError> {
        let stop = Arc::new(Notify::new());
        let notify = stop.clone();
        let _guard = cancel.on_cancel(move || notify.notify_one());
        self.runtime.block_on(async {
            tokio::select! {
                result = work => result.map_err(Into::into),
                () = stop.notified() => Err(EngineError::Cancelled),
            }
        })
    }
}
