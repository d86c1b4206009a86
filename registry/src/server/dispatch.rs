//! From a request to whoever answers it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base::Digest;

use super::Report;
use super::accounts::Accounts;
use super::claims::Claims;
use super::query::Query;
use super::refusal::Refusal;
use super::route::{Route, Target};
use super::store::{Repository, ServeError, ServedStore};
use super::uploads::Uploads;
use crate::http_error::ErrorCode;

/// The header by which Docker recognises a registry, and its value.
const API_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("docker-distribution-api-version"), HeaderValue::from_static("registry/2.0"));

/// A registry that serves.
pub(super) struct Registry {
    pub(super) store: Arc<dyn ServedStore>,
    pub(super) uploads: Uploads,
    pub(super) claimed: Claims,
    /// How long a client may send nothing in the middle of a body.
    pub(super) patience: Duration,
    read_only: bool,
    accounts: Option<Accounts>,
    report: Report,
}

/// A request without its body, taken apart.
pub(super) struct Asked {
    pub(super) parts: Parts,
    pub(super) query: Query,
}

/// Everything goes through one handler: the paths of this protocol are read from their end.
pub(super) fn router(registry: Arc<Registry>) -> Router {
    Router::new().fallback(answer).with_state(registry)
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    let mut response = match registry.handle(request).await {
        Ok(response) => response,
        Err(refusal) => {
            if let Some(incident) = refusal.incident() {
                registry.report(&format!("{what}: {incident}"));
            }
            refusal.into_response()
        }
    };
    response.headers_mut().insert(API_VERSION.0, API_VERSION.1);
    response
}

impl Registry {
    pub(super) fn new(
        store: Arc<dyn ServedStore>,
        read_only: bool,
        accounts: Option<Accounts>,
        patience: Duration,
        upload_patience: Duration,
        report: Report,
    ) -> Self {
        let uploads = Uploads::new(upload_patience);
        Self { store, uploads, claimed: Claims::default(), patience, read_only, accounts, report }
    }

    /// Tells the owner of a failure.
    pub(super) fn report(&self, incident: &str) {
        (self.report)(incident);
    }

    /// Forgets uploads that nobody continues.
    pub(super) fn sweep(&self) {
        self.uploads.sweep();
    }

    async fn handle(&self, request: Request) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        if let Some(accounts) = &self.accounts {
            accounts.admit(&parts.headers).await?;
        }
        let route = Route::parse(parts.uri.path())?;
        let asks = matches!(parts.method, Method::GET | Method::HEAD)
            || matches!(route, Route::In(_, Target::ManyManifests));
        if !asks && self.read_only {
            return Err(Refusal::unsupported("this registry is read-only"));
        }
        let query = Query::parse(parts.uri.query());
        let asked = Asked { parts, query };
        let (name, target) = match route {
            Route::Base => return only_reads(&asked).map(|()| StatusCode::OK.into_response()),
            Route::Catalog => return self.catalog(&asked).await,
            Route::In(name, target) => (name, target),
        };
        let repository = Repository { name, origin: asked.query.get("ns").map(str::to_owned) };
        match target {
            Target::Tags => self.tags(&asked, repository).await,
            Target::Manifest(reference) => self.manifest(&asked, repository, &reference, body).await,
            Target::Blob(digest) => self.blob(&asked, digest_of(&digest)?).await,
            Target::Uploads => self.begin_upload(&asked, repository, body).await,
            Target::Upload(id) => self.upload(&asked, repository, &id, body).await,
            Target::ManyManifests => self.many_manifests(&asked, repository, body).await,
            Target::Claims => self.claims(&asked, repository, body).await,
            Target::Referrers(digest) => self.referrers(&asked, repository, digest_of(&digest)?).await,
        }
    }

    /// Has the store do something, on a thread that may block.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ServedStore) -> Result<T, ServeError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let store = self.store.clone();
        blocking(move || work(store.as_ref())).await
    }
}

/// Runs work of the store on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServeError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => {
            Err(Refusal::failure(StatusCode::INTERNAL_SERVER_ERROR, "the store did not answer", &error))
        }
    }
}

/// Refuses what does not only read.
pub(super) fn only_reads(asked: &Asked) -> Result<(), Refusal> {
    match asked.parts.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(wrong_method(asked)),
    }
}

pub(super) fn wrong_method(asked: &Asked) -> Refusal {
    Refusal::unsupported(format!("{} is not done here", asked.parts.method))
}

/// A digest that came in a request.
pub(super) fn digest_of(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|error: base::digest::DigestError| Refusal::bad(ErrorCode::DigestInvalid, error.to_string()))
}
