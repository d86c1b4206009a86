//! A registry: the OCI distribution protocol in front of a store that somebody else keeps.
//!
//! A request goes through these, in this order:
//!
//! | step | where |
//! |---|---|
//! | connection, TLS, time limits | `connection` |
//! | user name and password | `accounts` |
//! | path → what is asked for | `route` |
//! | the answer | `blobs`, `upload_requests` and `uploads`, `manifests`, `listing` |
//! | what is wrong → status and error document | `refusal` |
//!
//! The store is reached through [`ServedStore`] alone, whose calls block and therefore run on threads of their own.
//! Bodies pass in pieces in both directions, so that memory does not grow with what is transferred.
//!
//! A further protocol under `/v2/<name>/` gets a module here and a variant of `route::Target`; parts of a path that
//! begin with `_` are no part of a repository's name and are free for it.
//!
//! Source: OCI distribution-spec v1.1.

mod accounts;
mod blobs;
mod claims;
mod connection;
mod dispatch;
mod listing;
mod manifest_check;
mod manifests;
mod many;
mod page;
mod query;
mod ranges;
mod refusal;
mod route;
mod stall;
mod store;
mod tls;
mod upload_requests;
mod uploads;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

pub use accounts::{Accounts, AccountsError};
pub use manifest_check::media_type_of;
pub use store::{
    BlobRemoval, ManifestName, PushedManifest, Referral, Repository, ServeError, ServedBlob, ServedManifest,
    ServedStore, Upload,
};
pub use tls::{TlsError, TlsIdentity};

use dispatch::Registry;

/// What a server is told of failures that its clients can do nothing about, in one line each.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

/// How to serve.
pub struct ServerOptions {
    /// Whether nothing may be pushed or deleted.
    pub read_only: bool,
    /// Who may use it; `None` is everybody.
    pub accounts: Option<Accounts>,
    /// The certificate; without one it is plain HTTP.
    pub tls: Option<TlsIdentity>,
    /// How long a client may send or take nothing in the middle of a request or an answer, and how long a connection may
    /// stay without a request.
    pub patience: Duration,
    /// How long an upload is kept that nobody continues.
    pub upload_patience: Duration,
    /// Where failures of the store go.
    pub report: Report,
}

impl ServerOptions {
    /// Open to everybody, read-write, plain HTTP, with the usual patience.
    pub fn new(report: Report) -> Self {
        Self {
            read_only: false,
            accounts: None,
            tls: None,
            patience: Duration::from_secs(60),
            upload_patience: Duration::from_secs(3600),
            report,
        }
    }
}

/// Serves until `stop` is over and the requests that run then have ended, or ten seconds have passed.
pub async fn serve(
    listener: TcpListener,
    store: Arc<dyn ServedStore>,
    options: ServerOptions,
    stop: impl Future<Output = ()>,
) {
    let ServerOptions { read_only, accounts, tls, patience, upload_patience, report } = options;
    let registry = Arc::new(Registry::new(store, read_only, accounts, patience, upload_patience, report));
    connection::accept(listener, tls, registry, patience, stop).await;
}
