//! The client of the distribution protocol: its options, and the sending of authorised requests.
//!
//! What it can do is spread over the files by direction: [`crate::pull`], [`crate::blob`] and
//! [`crate::upload`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::image::Descriptor;
use base::{Digest, Reference};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Method, StatusCode};

use crate::auth::{Asker, Authorizer, Rights, Scope};
use crate::challenge;
use crate::credentials::{Credentials, Lookup, NoCredentials};
use crate::endpoint::{Endpoint, EndpointSpec, Hosts};
use crate::error::{ErrorKind, Result};
use crate::hosts::{self, PlainHttp};
use crate::http_error;
use crate::retry::RetryPolicy;
use crate::transport::{Answer, Clients, Request, Transport};
use crate::upload::Payload;

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
    /// Which endpoints registries have.
    pub hosts: Option<Arc<dyn Hosts>>,
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
            hosts: None,
        }
    }
}

/// A client of OCI registries. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    transport: Transport,
    authorizer: Authorizer,
    hosts: Option<Arc<dyn Hosts>>,
    /// Every endpoint that was used, each once, so that its connections are used again.
    endpoints: Mutex<Vec<Arc<Endpoint>>>,
    /// The origins of endpoints that did not answer; if there are others, they are not asked again.
    silent: Mutex<Vec<String>>,
}

/// A request for something in a repository.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The path below the repository.
    pub(crate) tail: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Option<Payload>,
    /// Whether it asks what a tag stands for.
    pub(crate) by_tag: bool,
    /// Whether it may be sent again as it is after a failure.
    pub(crate) repeatable: bool,
}

impl Call {
    /// A request without body.
    pub(crate) fn new(method: Method, tail: String) -> Self {
        let (query, headers) = (Vec::new(), HeaderMap::new());
        Self { method, tail, query, headers, payload: None, by_tag: false, repeatable: true }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The request to one endpoint.
    fn to(&self, endpoint: &Endpoint, reference: &Reference) -> Request {
        let repository = endpoint.spec.repository.as_ref().unwrap_or(&reference.repository);
        let url = endpoint.url(&reference.registry, repository, &self.tail, &self.query);
        let mut request = Request::new(self.method.clone(), url);
        request.headers.clone_from(&self.headers);
        request.payload.clone_from(&self.payload);
        request.repeatable = self.repeatable;
        request
    }
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
        Self(Arc::new(Shared {
            transport,
            authorizer: Authorizer::new(options.credentials),
            hosts: options.hosts,
            endpoints: Mutex::default(),
            silent: Mutex::default(),
        }))
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.0.transport
    }

    /// The endpoints of a registry for one of its repositories, in the order in which they are asked.
    pub(crate) fn endpoints(
        &self,
        registry: &str,
        repository: &str,
    ) -> std::result::Result<Vec<Arc<Endpoint>>, ErrorKind> {
        let specs = match &self.0.hosts {
            Some(hosts) => hosts
                .endpoints(registry, repository)
                .map_err(|source| ErrorKind::Route { registry: registry.to_owned(), source })?,
            None => Vec::new(),
        };
        let specs = match specs.as_slice() {
            [] => vec![Endpoint::of_registry(hosts::api_base(registry, &self.transport().plain)?)],
            _ => specs,
        };
        let mut known = lock(&self.0.endpoints);
        let shared = |spec: EndpointSpec| match known.iter().find(|known| known.spec == spec) {
            Some(known) => Arc::clone(known),
            None => {
                let endpoint = Arc::new(Endpoint::new(spec));
                known.push(Arc::clone(&endpoint));
                endpoint
            }
        };
        Ok(specs.into_iter().map(shared).collect())
    }

    /// Sends a request to the endpoints of the registry, one after the other until one gives what is asked for.
    pub(crate) async fn send(
        &self,
        reference: &Reference,
        rights: &Rights,
        call: &Call,
    ) -> std::result::Result<Answer, ErrorKind> {
        let able = |endpoint: &Arc<Endpoint>| match rights {
            Rights::Pull if call.by_tag => endpoint.spec.capabilities.resolve,
            Rights::Pull => endpoint.spec.capabilities.pull,
            Rights::Push | Rights::PushFrom(_) | Rights::Delete => endpoint.spec.capabilities.push,
        };
        let mut endpoints = self.endpoints(&reference.registry, &reference.repository)?;
        endpoints.retain(able);
        if *rights != Rights::Pull
            && let Some(first) = endpoints.first().map(|first| hosts::host_of(&first.spec.base))
        {
            // What is pushed has to come together at one place.
            endpoints.retain(|endpoint| hosts::host_of(&endpoint.spec.base) == first);
        }
        let mut failed = None;
        // Hosts that answered. Without TLS they would say nothing else.
        let mut answered: Vec<String> = Vec::new();
        for endpoint in &endpoints {
            let (spec, host) = (&endpoint.spec, hosts::host_of(&endpoint.spec.base));
            let origin = spec.base.origin().ascii_serialization();
            if answered.contains(&host) || (spec.has_next && lock(&self.0.silent).contains(&origin)) {
                continue;
            }
            match self.send_to(endpoint, reference, rights, &call.to(endpoint, reference)).await {
                Err(kind) if spec.has_next && kind.is_silence() => {
                    lock(&self.0.silent).push(origin);
                    failed = Some(kind);
                }
                Err(kind) if spec.has_other && kind.lets_others_try() => {
                    answered.push(host);
                    failed = Some(kind);
                }
                outcome => return outcome,
            }
        }
        let none = || ErrorKind::NoEndpoint { registry: reference.registry.clone() };
        Err(failed.unwrap_or_else(none))
    }

    /// Sends a request to an endpoint with what that wants for `rights`, and gives the answer if it is a success. Tokens
    /// that expire on the way are replaced.
    pub(crate) async fn send_to(
        &self,
        endpoint: &Arc<Endpoint>,
        reference: &Reference,
        rights: &Rights,
        request: &Request,
    ) -> std::result::Result<Answer, ErrorKind> {
        let Shared { transport, authorizer, .. } = &*self.0;
        let repository = endpoint.spec.repository.as_ref().unwrap_or(&reference.repository);
        let scope = Scope::new(repository, rights);
        let account = endpoint.spec.account(&reference.registry);
        let asker = Asker { transport, endpoint, registry: &account, repository, scope: &scope };
        // An upload's location may be on another host, which is not given our secrets.
        let mut authorization = None;
        if endpoint.is_at(&request.url) {
            authorization = authorizer.known(&asker).await?;
        }
        let mut answer = transport.exchange_with(Some(endpoint), request, authorization.as_ref()).await?;
        for _ in 0..LOGINS {
            if answer.status() != StatusCode::UNAUTHORIZED || !endpoint.is_at(answer.url()) {
                break;
            }
            let challenge =
                challenge::from_headers(answer.headers()).ok_or_else(|| bad_challenge(&answer))?;
            let fresh = authorizer.answer(&asker, challenge, authorization.as_ref()).await?;
            if fresh.is_none() {
                break;
            }
            authorization = fresh;
            answer = transport.exchange_with(Some(endpoint), request, authorization.as_ref()).await?;
        }
        if answer.status().is_success() {
            return Ok(answer);
        }
        let attempts = answer.attempts;
        let unauthorized = answer.status() == StatusCode::UNAUTHORIZED;
        let lookup = if unauthorized { authorizer.lookup(&asker).await } else { Lookup::default() };
        Err(http_error::refusal(transport, answer, attempts, &lookup).await)
    }
}

pub(crate) fn bad_challenge(answer: &Answer) -> ErrorKind {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
