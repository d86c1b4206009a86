//! The client of GitHub's Actions cache service, in both versions of its protocol.
//!
//! The service keeps entries under a key and a version, which is a text that tells kinds of entries apart. An entry is never changed.
//! Looked up are a key, then prefixes of keys, for which the newest entry counts; entries of the job's branch come before those of
//! the branches that it may read as well. Where the content is, a URL says that needs no token.
//!
//! Version 1 is a REST interface below `_apis/artifactcache/` in which content is sent in pieces; version 2 is Twirp over JSON, the service
//! `github.actions.results.api.v1.CacheService`, and content goes to a blob store in one request.
//!
//! Source: the generated service description and the documentation of `@actions/cache`.

mod v1;
mod v2;

use reqwest::header::{self, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{Client, InContext as _};
use crate::credentials::{Credential, Lookup};
use crate::documents::DocumentError;
use crate::error::{Context, ErrorKind, Result};
use crate::http_error;
use crate::transport::{Answer, Request};
use crate::upload::{BlobSource, Payload};

/// The longest answer of the service that is read, in bytes.
const ANSWER_LIMIT: u64 = 1 << 20;

/// The status of an entry that is there already.
const CONFLICT: u16 = 409;

/// A cache service, and who we are to it.
#[derive(Clone)]
pub struct ActionsCache {
    /// Which protocol it speaks.
    pub protocol: ActionsProtocol,
    /// Its URL, with a slash at the end or without.
    pub url: String,
    /// The token of the job.
    pub token: String,
    /// What tells our kind of entries apart from others with the same keys.
    pub version: String,
}

impl std::fmt::Debug for ActionsCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActionsCache")
            .field("protocol", &self.protocol)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The versions of the service's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionsProtocol {
    /// Of 2020: REST.
    V1,
    /// Of 2025: Twirp.
    V2,
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionsEntry {
    /// Its whole key.
    pub key: String,
    /// Where its content is; for some minutes, and without a token.
    pub url: String,
}

impl Client {
    /// Finds the entry with this key; failing that, the newest whose key begins with one of `prefixes`, which are tried in
    /// order.
    pub async fn find_actions_entry(
        &self,
        cache: &ActionsCache,
        key: &str,
        prefixes: &[&str],
    ) -> Result<Option<ActionsEntry>> {
        let context = context("find", cache, key);
        let service = Service { client: self, cache };
        let found = match cache.protocol {
            ActionsProtocol::V1 => v1::find(&service, key, prefixes).await,
            ActionsProtocol::V2 => v2::find(&service, key, prefixes).await,
        };
        found.within(&context)
    }

    /// Adds an entry of `size` bytes. `false` if there is one with this key, which another builder may be about to write.
    pub async fn add_actions_entry(
        &self,
        cache: &ActionsCache,
        key: &str,
        source: &BlobSource,
        size: u64,
    ) -> Result<bool> {
        let context = context("add", cache, key);
        let service = Service { client: self, cache };
        let added = match cache.protocol {
            ActionsProtocol::V1 => v1::add(&service, key, source, size).await,
            ActionsProtocol::V2 => v2::add(&service, key, source, size).await,
        };
        added.within(&context)
    }
}

fn context(action: &'static str, cache: &ActionsCache, key: &str) -> Context {
    let host = Url::parse(&cache.url).ok().map(|url| crate::hosts::host_of(&url));
    Context {
        action,
        registry: host.unwrap_or_else(|| cache.url.clone()),
        repository: "actions-cache".to_owned(),
        subject: format!("entry {key}"),
    }
}

/// Sends requests to a service.
struct Service<'a> {
    client: &'a Client,
    cache: &'a ActionsCache,
}

type Outcome<T> = std::result::Result<T, ErrorKind>;

impl Service<'_> {
    fn url(&self, path: &str) -> Outcome<Url> {
        let whole = format!("{}/{path}", self.cache.url.trim_end_matches('/'));
        let url = Url::parse(&whole).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| ErrorKind::BadAddress { registry: self.cache.url.clone() })
    }

    /// Sends a request with our token. The answer may be a refusal.
    async fn ask(&self, request: Request) -> Outcome<Answer> {
        let text = format!("Bearer {}", self.cache.token);
        let mut token = HeaderValue::from_str(&text)
            .map_err(|_| ErrorKind::BadAddress { registry: self.cache.url.clone() })?;
        token.set_sensitive(true);
        self.client.transport().exchange(&request, Some(&token)).await
    }

    /// The JSON of an answer that is a success.
    async fn read<T: DeserializeOwned>(&self, answer: Answer) -> Outcome<T> {
        let mut answer = self.success(answer).await?;
        let bytes = self.client.transport().body(&mut answer, ANSWER_LIMIT).await?;
        serde_json::from_slice(&bytes).map_err(|source| {
            let (media_type, digest) = ("application/json".to_owned(), base::Digest::of(&bytes));
            DocumentError::Json { media_type, digest, source }.into()
        })
    }

    /// The answer, if it is a success.
    async fn success(&self, answer: Answer) -> Outcome<Answer> {
        if answer.status().is_success() {
            return Ok(answer);
        }
        let attempts = answer.attempts;
        let ours = Lookup::found(Some(Credential::IdentityToken(self.cache.token.clone())));
        Err(http_error::refusal(self.client.transport(), answer, attempts, &ours).await)
    }
}

/// A request with a JSON document.
fn posted(url: Url, document: &impl Serialize) -> Request {
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    let size = bytes.len() as u64;
    let json = HeaderValue::from_static("application/json");
    let mut request = Request::new(Method::POST, url)
        .header(header::CONTENT_TYPE, json.clone())
        .header(header::ACCEPT, json);
    request.payload = Some(Payload { source: BlobSource::Bytes(bytes.into()), size, progress: None });
    request
}

/// A request with content.
fn content(
    method: Method,
    url: Url,
    source: BlobSource,
    size: u64,
    headers: &[(HeaderName, String)],
) -> Request {
    let octets = HeaderValue::from_static("application/octet-stream");
    let mut request = Request::new(method, url).header(header::CONTENT_TYPE, octets);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            request = request.header(name.clone(), value);
        }
    }
    request.payload = Some(Payload { source, size, progress: None });
    request
}
