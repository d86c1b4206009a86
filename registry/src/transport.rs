//! One HTTP exchange: connecting, time limits, redirects, and trying again.
//!
//! Nothing here knows tokens or images. Two HTTP clients are made when first needed: one for loopback,
//! which knows no proxies and no certificates, and one for everything else, with the system's
//! certificates and proxies. Redirects are followed here rather than by the HTTP library, so that an
//! `Authorization` header never reaches another origin.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, StatusCode, Url};
use tokio::time::{sleep, timeout};

use crate::endpoint::{Endpoint, Tls};
use crate::error::{ConnectFailure, ErrorKind};
use crate::hosts::{self, PlainHttp};
use crate::retry::{self, Attempts, RetryPolicy};
use crate::upload::{Payload, Sending};

/// The most redirects that are followed for one request.
const MAX_REDIRECTS: usize = 5;

/// Sends requests.
pub(crate) struct Transport {
    pub(crate) user_agent: String,
    pub(crate) extra_roots: Vec<Certificate>,
    pub(crate) plain: PlainHttp,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) clients: Clients,
}

/// The HTTP clients, made on first use.
#[derive(Default)]
pub(crate) struct Clients {
    loopback: OnceLock<reqwest::Client>,
    remote: OnceLock<reqwest::Client>,
}

/// A request, in a form that can be sent more than once.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Option<Payload>,
    /// The part of the payload that is sent; without it, all.
    pub(crate) part: Option<Range<u64>>,
    /// Whether it may be sent again as it is after a failure.
    pub(crate) repeatable: bool,
}

impl Request {
    /// A request without body.
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), payload: None, part: None, repeatable: true }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// An answer whose body has not been read.
pub(crate) struct Answer {
    response: reqwest::Response,
    /// How often the request was sent until this came.
    pub(crate) attempts: u32,
    /// The place that it was sent to, if that is a registry's.
    pub(crate) endpoint: Option<Arc<Endpoint>>,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The text of a header, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers().get(name)?.to_str().ok().map(str::to_owned)
    }

    /// The media type without its parameters.
    pub(crate) fn content_type(&self) -> Option<String> {
        let value = self.header(header::CONTENT_TYPE.as_str())?;
        value.split(';').next().map(|kind| kind.trim().to_ascii_lowercase())
    }

    /// The announced length of the body.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// Whether the body is a web page.
    pub(crate) fn is_html(&self) -> bool {
        self.content_type().is_some_and(|kind| matches!(kind.as_str(), "text/html" | "application/xhtml+xml"))
    }

    /// The URL that answered, after redirects.
    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    /// Host and port that answered.
    pub(crate) fn host(&self) -> String {
        hosts::host_of(self.url())
    }
}

impl Transport {
    /// Sends `request`, again after failures that may pass, and gives the last answer whatever its
    /// status is.
    pub(crate) async fn exchange(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, ErrorKind> {
        self.exchange_with(None, request, authorization).await
    }

    /// The same with a registry's endpoint, whose certificates and headers are for requests to it alone. One that
    /// others stand behind is tried once.
    pub(crate) async fn exchange_with(
        &self,
        endpoint: Option<&Arc<Endpoint>>,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, ErrorKind> {
        let mut attempts = Attempts::new(&self.retry);
        loop {
            let outcome = self.follow(endpoint, request, authorization, attempts.made()).await;
            let spec = endpoint.map(|endpoint| &endpoint.spec);
            let asked = match &outcome {
                Err(kind) if kind.is_silence() && spec.is_some_and(|spec| spec.has_next) => return outcome,
                Ok(answer) if retry::is_transient_status(answer.status()) => {
                    retry::retry_after(answer.headers())
                }
                Err(kind) if retry::is_transient(kind) => None,
                _ => return outcome,
            };
            if !request.repeatable || spec.is_some_and(|spec| spec.has_other) {
                return outcome;
            }
            match attempts.next(asked) {
                Some(wait) => sleep(wait).await,
                None => return outcome,
            }
        }
    }

    /// Reads a whole body of at most `limit` bytes.
    pub(crate) async fn body(&self, answer: &mut Answer, limit: u64) -> Result<Vec<u8>, ErrorKind> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(answer, body.len() as u64).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(ErrorKind::TooLarge { limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next piece of a body, of which `received` bytes have come; `None` at its end.
    pub(crate) async fn chunk(&self, answer: &mut Answer, received: u64) -> Result<Option<Bytes>, ErrorKind> {
        let (host, attempts, idle) = (answer.host(), answer.attempts, self.idle_timeout);
        let expected = answer.content_length().unwrap_or_default();
        match timeout(idle, answer.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(source)) => {
                Err(ErrorKind::Interrupted { received, expected, attempts, source: Some(source) })
            }
            Err(_) => Err(ErrorKind::Stalled { host, idle, received, attempts }),
        }
    }

    /// Sends a request and follows its redirects.
    async fn follow(
        &self,
        endpoint: Option<&Arc<Endpoint>>,
        request: &Request,
        authorization: Option<&HeaderValue>,
        attempts: u32,
    ) -> Result<Answer, ErrorKind> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let secret = authorization.filter(|_| hosts::same_origin(&url, &request.url));
            let own = endpoint.filter(|endpoint| endpoint.secures(&url));
            let response = self.once(own, request, url.clone(), secret, attempts).await?;
            match self.redirect(request, &response)? {
                Some(next) => url = next,
                None => return Ok(Answer { response, attempts, endpoint: endpoint.cloned() }),
            }
        }
        Err(ErrorKind::BadRedirect {
            location: url.to_string(),
            reason: "there are too many redirects in a row",
        })
    }

    /// Where a response redirects to; `None` when it is not a redirect.
    fn redirect(&self, request: &Request, response: &reqwest::Response) -> Result<Option<Url>, ErrorKind> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.unwrap_or_default();
        let bad = |reason| ErrorKind::BadRedirect { location: location.to_owned(), reason };
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(bad("only reading follows redirects"));
        }
        let from = response.url();
        let next = from.join(location).ok().filter(|_| !location.is_empty());
        let next = next.ok_or_else(|| bad("it is not a URL"))?;
        match next.scheme() {
            "https" => Ok(Some(next)),
            "http" if from.scheme() == "http" || self.plain.allows(&hosts::host_of(&next)) => Ok(Some(next)),
            "http" => Err(bad("it leaves HTTPS for plain HTTP")),
            _ => Err(bad("its scheme is neither http nor https")),
        }
    }

    /// Sends a request once and waits for the head of the answer.
    async fn once(
        &self,
        endpoint: Option<&Arc<Endpoint>>,
        request: &Request,
        url: Url,
        authorization: Option<&HeaderValue>,
        attempts: u32,
    ) -> Result<reqwest::Response, ErrorKind> {
        let host = hosts::host_of(&url);
        let client = self.client(endpoint, &url)?;
        let mut builder = client.request(request.method.clone(), url).headers(request.headers.clone());
        if let Some(endpoint) = endpoint {
            builder = builder.headers(endpoint.headers());
        }
        if let Some(secret) = authorization {
            builder = builder.header(header::AUTHORIZATION, secret);
        }
        let mut sending = Sending::default();
        if let Some(payload) = &request.payload {
            let part = request.part.clone().unwrap_or_else(|| payload.whole());
            let body = payload.open(&part, &mut sending).map_err(|source| ErrorKind::Source { source })?;
            builder = builder.header(header::CONTENT_LENGTH, part.end - part.start).body(body);
        }
        let mut exchange = std::pin::pin!(builder.send());
        loop {
            let idle = self.idle_timeout;
            match timeout(idle, &mut exchange).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(source)) => return Err(self.failure(host, source, &sending, attempts)),
                // A long upload is not a stall as long as its bytes go out.
                Err(_) if sending.advanced() => {}
                Err(_) => return Err(ErrorKind::Stalled { host, idle, received: 0, attempts }),
            }
        }
    }

    fn failure(&self, host: String, source: reqwest::Error, sending: &Sending, attempts: u32) -> ErrorKind {
        if let Some(source) = sending.take_error() {
            return ErrorKind::Source { source };
        }
        if source.is_connect() {
            return ErrorKind::Connect { host, failure: connect_failure(&source), source };
        }
        ErrorKind::NoAnswer { host, attempts, source }
    }

    /// The HTTP client for a URL: an endpoint's own, if it has certificates of its own.
    fn client(&self, endpoint: Option<&Arc<Endpoint>>, url: &Url) -> Result<reqwest::Client, ErrorKind> {
        let local = hosts::is_loopback(&hosts::host_of(url));
        let own = endpoint.filter(|endpoint| endpoint.spec.tls != Tls::default());
        let slot = match own {
            Some(endpoint) => &endpoint.client,
            None if local && url.scheme() == "http" => &self.clients.loopback,
            None => &self.clients.remote,
        };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let builder = self.builder();
        let builder = match own {
            Some(endpoint) => endpoint.spec.tls.apply(builder.tls_certs_merge(self.extra_roots.clone()))?,
            None if local && url.scheme() == "http" => builder.no_proxy().tls_certs_only([]),
            None => builder.tls_certs_merge(self.extra_roots.clone()),
        };
        let client = builder.build().map_err(|source| ErrorKind::TlsSetup { source })?;
        Ok(slot.get_or_init(|| client).clone())
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        // It fails when a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .connect_timeout(self.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
    }
}

/// Finds out from the chain of causes why no connection came about.
fn connect_failure(error: &reqwest::Error) -> ConnectFailure {
    if error.is_timeout() {
        return ConnectFailure::TimedOut;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        let io = current.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return ConnectFailure::Refused;
        }
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return tls_failure(tls);
        }
        // The resolver's error has a type of its own that is not public; its text starts like this.
        if current.to_string().starts_with("dns error") {
            return ConnectFailure::Name;
        }
        cause = cause_of(current);
    }
    ConnectFailure::Failed
}

/// The next error of a chain. An I/O error that wraps another passes for it: its own source is already
/// the one after.
fn cause_of<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn tls_failure(error: &rustls::Error) -> ConnectFailure {
    match error {
        rustls::Error::InvalidMessage(_) => ConnectFailure::NotTls,
        rustls::Error::InvalidCertificate(reason) => ConnectFailure::Certificate(reason.to_string()),
        other => ConnectFailure::Certificate(other.to_string()),
    }
}

/// A place to put the error that ended a body, for the side that started it.
pub(crate) type ErrorSlot = Arc<Mutex<Option<std::io::Error>>>;

/// Takes the error out of its place.
pub(crate) fn take_error(slot: &ErrorSlot) -> Option<std::io::Error> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}
