//! The client of the distribution protocol: its options, and the sending of authorised requests.
//!
//! What it can do is spread over the files by direction: [`crate::pull`], [`crate::blob`] and
//! [`crate::upload`].

use std::sync::Arc;
use std::time::Duration;

use base::image::Descriptor;
use base::{Digest, Reference};
use reqwest::{Certificate, StatusCode, Url};

use crate::auth::{Authorizer, Scope};
use crate::challenge;
use crate::credentials::{Credentials, NoCredentials};
use crate::error::{ErrorKind, Result};
use crate::hosts::{self, PlainHttp};
use crate::http_error;
use crate::retry::RetryPolicy;
use crate::transport::{Answer, Clients, Request, Transport};

/// How often a request is sent again with another token: one may expire while it waits to be sent.
const LOGINS: usize = 3;

/// The header in which a registry names the digest of what it sends.
pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";

/// How a client behaves.
#[derive(Clone)]
pub struct ClientOptions {
    /// What we call ourselves.
    pub user_agent: String,
    /// Who we are.
    pub credentials: Arc<dyn Credentials>,
    /// Registries (`host` or `host:port`, as users name them) that are spoken to in plain HTTP.
    pub insecure: Vec<String>,
    /// Whether loopback addresses are spoken to in plain HTTP.
    pub loopback_is_plain: bool,
    /// Certificates in PEM form whose signatures are trusted besides the system's.
    pub extra_roots: Vec<Vec<u8>>,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest time in which nothing moves on a connection.
    pub idle_timeout: Duration,
    /// How patient the client is.
    pub retry: RetryPolicy,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("lapstrake/", env!("CARGO_PKG_VERSION")).to_owned(),
            credentials: Arc::new(NoCredentials),
            insecure: Vec::new(),
            loopback_is_plain: true,
            extra_roots: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
        }
    }
}

/// A client of OCI registries. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    transport: Transport,
    authorizer: Authorizer,
}

/// A manifest or index as a registry sent it, with its digest checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// What it is: a manifest or an index.
    pub media_type: String,
    /// The length of `bytes`.
    pub size: u64,
    /// The document.
    pub bytes: Vec<u8>,
}

impl Resolved {
    /// The descriptor of the document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.size)
    }
}

impl Client {
    /// A client. Nothing is opened or read before its first request. Extra roots that are not PEM are
    /// left out, and the connections that need them then fail by name.
    pub fn new(options: ClientOptions) -> Self {
        let bundle = |pem: &Vec<u8>| Certificate::from_pem_bundle(pem).unwrap_or_default();
        let transport = Transport {
            user_agent: options.user_agent,
            extra_roots: options.extra_roots.iter().flat_map(bundle).collect(),
            plain: PlainHttp { loopback: options.loopback_is_plain, hosts: options.insecure },
            connect_timeout: options.connect_timeout,
            idle_timeout: options.idle_timeout,
            retry: options.retry,
            clients: Clients::default(),
        };
        Self(Arc::new(Shared { transport, authorizer: Authorizer::new(options.credentials) }))
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.0.transport
    }

    /// The URL of something in the repository of `reference`.
    pub(crate) fn url(&self, reference: &Reference, tail: &str) -> std::result::Result<Url, ErrorKind> {
        let base = hosts::api_base(&reference.registry, &self.transport().plain)?;
        Ok(hosts::repository_url(&base, reference, tail))
    }

    /// Sends a request with what the registry wants for `scope`, logging in when it asks for that, and gives
    /// the answer if it is a success.
    pub(crate) async fn send(
        &self,
        reference: &Reference,
        scope: &Scope,
        request: &Request,
    ) -> std::result::Result<Answer, ErrorKind> {
        let Shared { transport, authorizer } = &*self.0;
        let registry = reference.registry.as_str();
        let own = hosts::api_base(registry, &transport.plain)?;
        // An upload's location may be on another host, which is not given our secrets.
        let trusted = |url: &Url| hosts::same_origin(url, &own);
        let mut authorization = None;
        if trusted(&request.url) {
            authorization = authorizer.known(transport, registry, scope).await?;
        }
        let mut answer = transport.exchange(request, authorization.as_ref()).await?;
        for _ in 0..LOGINS {
            if answer.status() != StatusCode::UNAUTHORIZED || !trusted(answer.url()) {
                break;
            }
            let challenge =
                challenge::from_headers(answer.headers()).ok_or_else(|| bad_challenge(&answer))?;
            let refused = authorization.as_ref();
            let fresh = authorizer.answer(transport, registry, scope, challenge, refused).await?;
            if fresh.is_none() {
                break;
            }
            authorization = fresh;
            answer = transport.exchange(request, authorization.as_ref()).await?;
        }
        if answer.status().is_success() {
            return Ok(answer);
        }
        let attempts = answer.attempts;
        let unauthorized = answer.status() == StatusCode::UNAUTHORIZED;
        let with_credentials = unauthorized && authorizer.has_credentials(registry);
        Err(http_error::refusal(transport, answer, attempts, with_credentials).await)
    }
}

fn bad_challenge(answer: &Answer) -> ErrorKind {
    let header = answer.header("www-authenticate").unwrap_or_else(|| "no WWW-Authenticate header".to_owned());
    ErrorKind::BadChallenge { header: http_error::printable(&header, 200) }
}

/// Turns the kind of an error into the error, with what was being done.
pub(crate) trait InContext<T> {
    /// Adds `context` to an error.
    fn within(self, context: &crate::error::Context) -> Result<T>;
}

impl<T, E: Into<ErrorKind>> InContext<T> for std::result::Result<T, E> {
    fn within(self, context: &crate::error::Context) -> Result<T> {
        self.map_err(|kind| context.error(kind))
    }
}
