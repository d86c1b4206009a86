//! The places where a registry's content can be had: the registry itself, and mirrors of it.
//!
//! A caller that knows the host configuration of this machine says through [`Hosts`] which endpoints a registry has, in
//! which order they are asked, and with which certificates and headers. Without it, each registry is its own only endpoint.

use std::fmt;
use std::sync::OnceLock;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Identity, Url};

use crate::error::ErrorKind;
use crate::hosts;

/// Knows the endpoints of registries.
pub trait Hosts: Send + Sync {
    /// The endpoints of a registry for one of its repositories, those that are asked first in front; empty when nothing
    /// is said about it, so that it is reached as usual.
    ///
    /// # Errors
    /// When the configuration is unusable, or forbids this registry; the text says which file says so.
    fn endpoints(&self, registry: &str, repository: &str) -> Result<Vec<EndpointSpec>, RouteError>;
}

/// Why a registry must not, or cannot, be asked.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RouteError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// What an endpoint is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// What tags stand for.
    pub resolve: bool,
    /// Content by its digest.
    pub pull: bool,
    /// Taking content.
    pub push: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self { resolve: true, pull: true, push: true };
    /// Reading, as of a mirror.
    pub const READ: Self = Self { resolve: true, pull: true, push: false };
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// The URL below which repositories are, as `https://host:5000/v2`.
    pub base: Url,
    /// What this endpoint calls the repository, if not as the registry does.
    pub repository: Option<String>,
    /// What it may be asked for.
    pub capabilities: Capabilities,
    /// How connections to it are secured.
    pub tls: Tls,
    /// Headers of every request to it.
    pub headers: Headers,
    /// Whether it is told for which registry it stands in, as `?ns=docker.io`.
    pub names_registry: bool,
    /// Whether another endpoint is asked if nobody answers at this one.
    pub has_next: bool,
    /// Whether that, or a later one, is another host, which is asked as well if this one does not give what is wanted.
    pub has_other: bool,
    /// Where this is said: a file, or a rule of ours.
    pub source: String,
}

/// Headers with their values, which may be secret: its debug form shows the names.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl EndpointSpec {
    /// Tells each of several endpoints what comes after it.
    pub fn chain(specs: &mut [Self]) {
        let hosts: Vec<String> = specs.iter().map(|spec| hosts::host_of(&spec.base)).collect();
        for (position, spec) in specs.iter_mut().enumerate() {
            let later = &hosts[position + 1..];
            spec.has_next = !later.is_empty();
            spec.has_other = later.iter().any(|host| *host != hosts[position]);
        }
    }

    /// Under which name credentials for it are looked for: the registry's, unless it is a mirror of that.
    pub fn account<'a>(&'a self, registry: &'a str) -> std::borrow::Cow<'a, str> {
        let host = hosts::host_of(&self.base);
        if hosts::is_host_of(&host, registry) { registry.into() } else { host.into() }
    }
}

/// How connections are secured. Its debug form does not show the key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Accept any certificate.
    pub skip_verify: bool,
    /// Certificates in PEM form whose signatures are trusted besides the system's, with the files they came from.
    pub roots: Vec<(String, Vec<u8>)>,
    /// Our certificate and its key in PEM form, with the file.
    pub identity: Option<(String, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots: Vec<&String> = self.roots.iter().map(|(file, _)| file).collect();
        let identity = self.identity.as_ref().map(|(file, _)| file);
        f.debug_struct("Tls")
            .field("skip_verify", &self.skip_verify)
            .field("roots", &roots)
            .field("identity", &identity)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Makes a client that is set up like this.
    pub(crate) fn apply(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, ErrorKind> {
        let bad = |file: &String, what| ErrorKind::BadCertificate { file: file.clone(), what };
        let mut builder = builder.danger_accept_invalid_certs(self.skip_verify);
        for (file, pem) in &self.roots {
            let roots = Certificate::from_pem_bundle(pem).unwrap_or_default();
            if roots.is_empty() {
                return Err(bad(file, "certificates"));
            }
            builder = builder.tls_certs_merge(roots);
        }
        if let Some((file, pem)) = &self.identity {
            let identity = Identity::from_pem(pem).map_err(|_| bad(file, "a certificate with its key"))?;
            builder = builder.identity(identity);
        }
        Ok(builder)
    }
}

/// An endpoint with its HTTP client, which is made on first use.
pub(crate) struct Endpoint {
    pub(crate) spec: EndpointSpec,
    pub(crate) client: OnceLock<reqwest::Client>,
}

impl Endpoint {
    pub(crate) fn new(spec: EndpointSpec) -> Self {
        Self { spec, client: OnceLock::new() }
    }

    /// The registry as its own only endpoint.
    pub(crate) fn of_registry(base: Url) -> EndpointSpec {
        EndpointSpec {
            base,
            repository: None,
            capabilities: Capabilities::ALL,
            tls: Tls::default(),
            headers: Headers::default(),
            names_registry: false,
            has_next: false,
            has_other: false,
            source: "as every registry".to_owned(),
        }
    }

    /// Whether a URL is at this endpoint, so that its certificates, headers and secrets may go there.
    pub(crate) fn is_at(&self, url: &Url) -> bool {
        hosts::same_origin(url, &self.spec.base)
    }

    /// Whether its certificates are for a request to `url` as well: it is there, or at a token server whose certificate is
    /// checked.
    pub(crate) fn secures(&self, url: &Url) -> bool {
        let trusts = !self.spec.tls.skip_verify && self.spec.tls.identity.is_none();
        self.is_at(url) || (trusts && self.spec.headers.0.is_empty() && url.scheme() == "https")
    }

    /// The URL of something in a repository.
    pub(crate) fn url(
        &self,
        registry: &str,
        repository: &str,
        tail: &str,
        query: &[(String, String)],
    ) -> Url {
        let mut url = self.spec.base.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{repository}/{tail}"));
        for (name, value) in query {
            url.query_pairs_mut().append_pair(name, value);
        }
        if self.spec.names_registry {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        url
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let header = |(name, value): &(String, String)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        };
        self.spec.headers.0.iter().filter_map(header).collect()
    }
}
