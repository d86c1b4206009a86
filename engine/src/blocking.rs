//! The one bridge between the blocking engine and the asynchronous network.

use std::future::Future;
use std::sync::Arc;

use base::CancelToken;
use registry::{Client, ClientOptions};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::Engine;
use crate::error::EngineError;
use crate::registries::credentials::StoredCredentials;
use crate::registries::hosts::HostFiles;

/// The registry client and the threads it runs on.
pub(crate) struct Network {
    runtime: Runtime,
    pub(crate) client: Client,
}

impl Engine {
    /// The network, made on first use: most commands never need it.
    pub(crate) fn network(&self) -> Result<&Network, EngineError> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()
            .map_err(|source| EngineError::Threads { source })?;
        let options = ClientOptions {
            credentials: Arc::new(StoredCredentials::read(&self.registries)?),
            hosts: Some(Arc::new(HostFiles::new(&self.registries))),
            ..ClientOptions::default()
        };
        let network = Network { runtime, client: Client::new(options) };
        // Another thread may have been faster; its network is as good.
        Ok(self.network.get_or_init(|| network))
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
