//! Why a request to a registry failed, with what was asked of whom.
//!
//! An [`Error`] names the registry, the repository and the thing (a manifest or a blob) and carries an
//! [`ErrorKind`], one variant for each situation. What a registry itself said is kept as
//! [`RegistryMessage`]s. Archives have their own error, [`crate::ArchiveError`].

use std::fmt;
use std::time::Duration;

use base::fault::{Fault, Faulty};
use base::{Digest, Reference};

use crate::documents::DocumentError;
use crate::endpoint::RouteError;
use crate::http_error::{ErrorCode, RegistryMessage};

/// The result of a request to a registry.
pub type Result<T> = std::result::Result<T, Error>;

/// A request to a registry that failed.
#[derive(Debug)]
pub struct Error {
    context: Box<Context>,
    kind: Box<ErrorKind>,
}

/// What was being done when something failed.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// A verb, as in "cannot read".
    pub(crate) action: &'static str,
    /// The registry as the user named it.
    pub(crate) registry: String,
    /// The repository on that registry.
    pub(crate) repository: String,
    /// The thing within the repository, for example `blob sha256:…`.
    pub(crate) subject: String,
}

impl Context {
    /// The context of an action on the manifest that `reference` names.
    pub(crate) fn manifest(action: &'static str, reference: &Reference) -> Self {
        Self::new(action, reference, format!("manifest {}", reference.manifest_name()))
    }

    /// The context of an action on a blob.
    pub(crate) fn blob(action: &'static str, reference: &Reference, digest: &Digest) -> Self {
        Self::new(action, reference, format!("blob {digest}"))
    }

    /// The context of an action on an object of a bucket.
    pub(crate) fn object(action: &'static str, bucket: &str, host: &str, key: &str) -> Self {
        let (registry, repository) = (host.to_owned(), bucket.to_owned());
        Self { action, registry, repository, subject: format!("object {key}") }
    }

    /// The context of listing something of a repository.
    pub(crate) fn list(what: &str, reference: &Reference) -> Self {
        Self::new("list", reference, what.to_owned())
    }

    /// The context of an action on a whole registry.
    pub(crate) fn registry(action: &'static str, registry: &str) -> Self {
        let (repository, subject) = (String::new(), String::new());
        Self { action, registry: registry.to_owned(), repository, subject }
    }

    fn new(action: &'static str, reference: &Reference, subject: String) -> Self {
        let (registry, repository) = (reference.registry.clone(), reference.repository.clone());
        Self { action, registry, repository, subject }
    }

    /// The error of this context and a situation.
    pub(crate) fn error(&self, kind: impl Into<ErrorKind>) -> Error {
        Error { context: Box::new(self.clone()), kind: Box::new(kind.into()) }
    }
}

impl Error {
    /// The registry that was asked, as the user named it.
    pub fn registry(&self) -> &str {
        &self.context.registry
    }

    /// The repository on that registry.
    pub fn repository(&self) -> &str {
        &self.context.repository
    }

    /// What was asked for, for example `manifest latest` or `blob sha256:…`.
    pub fn subject(&self) -> &str {
        &self.context.subject
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether the registry says that the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.kind, ErrorKind::NotFound { .. })
    }

    /// Whether what came is not what it should be, so that nothing of it is worth keeping.
    pub fn is_wrong_content(&self) -> bool {
        matches!(*self.kind, ErrorKind::DigestMismatch { .. } | ErrorKind::SizeMismatch { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Context { action, registry, repository, subject } = &*self.context;
        if subject.is_empty() {
            return write!(f, "cannot {action} {registry}: {}", self.kind);
        }
        write!(f, "cannot {action} {subject} of {registry}/{repository}: {}", self.kind)
    }
}

impl std::error::Error for Error {
    /// The cause below the kind, whose text is already part of this error's.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.kind)
    }
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        self.kind.fault()
    }
}

/// Why no connection came about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// Nothing listens on the port.
    #[error("connection refused (is a registry listening there?)")]
    Refused,
    /// The name has no address.
    #[error("the host name does not resolve (check the spelling and the DNS settings)")]
    Name,
    /// The server does not speak TLS.
    #[error("it answers without TLS (if it is meant to serve plain HTTP, list it as an insecure registry)")]
    NotTls,
    /// The server's certificate was not accepted.
    #[error("its TLS certificate is not accepted: {0} (install its authority's certificate)")]
    Certificate(String),
    /// The handshake took too long.
    #[error("no connection in time (is the host up, and does a firewall drop packets?)")]
    TimedOut,
    /// Anything else; the cause follows.
    #[error("no connection")]
    Failed,
}

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The registry's name does not make a URL.
    #[error("\"{registry}\" is not the address of a registry")]
    BadAddress {
        /// The name.
        registry: String,
    },
    /// The configuration of this machine forbids the registry or is unusable.
    #[error("the configuration of registry {registry} does not let it be asked: {source}")]
    Route {
        /// The registry.
        registry: String,
        /// Why.
        source: RouteError,
    },
    /// The configuration has only endpoints that may not be asked for this.
    #[error(
        "the configuration of registry {registry} has no endpoint for this (see `capabilities` in its hosts.toml)"
    )]
    NoEndpoint {
        /// The registry.
        registry: String,
    },
    /// A file with certificates has none.
    #[error("{file} does not hold {what} in PEM form")]
    BadCertificate {
        /// The file.
        file: String,
        /// What it should hold.
        what: &'static str,
    },
    /// The TLS set-up of this machine is unusable.
    #[error("cannot prepare TLS (are CA certificates installed?)")]
    TlsSetup {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No connection came about.
    #[error("{host}: {failure}")]
    Connect {
        /// Host and port that were dialled.
        host: String,
        /// Why.
        failure: ConnectFailure,
        /// The transport's own account.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke before an answer came.
    #[error("{host} closed the connection before it answered (tried {attempts} times)")]
    NoAnswer {
        /// Host and port.
        host: String,
        /// How often it was tried.
        attempts: u32,
        /// The transport's own account.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing moved for too long.
    #[error("{host} sent nothing for {} s, after {received} bytes (tried {attempts} times)", .idle.as_secs_f32())]
    Stalled {
        /// Host and port.
        host: String,
        /// How long was waited.
        idle: Duration,
        /// Bytes of the body that had come.
        received: u64,
        /// How often it was tried.
        attempts: u32,
    },
    /// The connection kept breaking in the middle of a body.
    #[error("the connection was lost after {received} of {expected} bytes (tried {attempts} times)")]
    Interrupted {
        /// Bytes that had come.
        received: u64,
        /// Bytes that should come.
        expected: u64,
        /// How often it was tried.
        attempts: u32,
        /// The transport's own account.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// 404: no such repository, tag or blob.
    #[error(
        "not found{} (check the name and the tag; a private repository also needs a login)",
        Told(.messages)
    )]
    NotFound {
        /// What the registry said.
        messages: Vec<RegistryMessage>,
    },
    /// 401 after everything we had.
    #[error(
        "{}{} ({}){}",
        if *.with_credentials { "the credentials were refused" } else { "a login is required" },
        Told(.messages),
        if *.with_credentials { "log in again" } else { "log in to this registry, or check the name: some registries say this of names that do not exist" },
        Because(.problem)
    )]
    Unauthorized {
        /// Whether credentials were sent.
        with_credentials: bool,
        /// What the registry said.
        messages: Vec<RegistryMessage>,
        /// Why credentials that are configured could not be had.
        problem: Option<String>,
    },
    /// 403.
    #[error("access denied{} (the account may lack the right to do this)", Told(.messages))]
    Denied {
        /// What the registry said.
        messages: Vec<RegistryMessage>,
    },
    /// 429, and waiting did not help or would take too long.
    #[error("too many requests{} (tried {attempts} times{})", Told(.messages), WaitFor(.retry_after))]
    RateLimited {
        /// How often it was tried.
        attempts: u32,
        /// How long the registry asked us to wait.
        retry_after: Option<Duration>,
        /// What the registry said.
        messages: Vec<RegistryMessage>,
    },
    /// Any other status that is not success.
    #[error("the registry answered {status}{} (tried {attempts} times)", Told(.messages))]
    Status {
        /// The HTTP status code.
        status: u16,
        /// How often it was tried.
        attempts: u32,
        /// What the registry said.
        messages: Vec<RegistryMessage>,
    },
    /// A store of objects refused.
    #[error("the object store answered {status}{}", StorageTold(.code, .message))]
    Storage {
        /// The HTTP status code.
        status: u16,
        /// Its word for what is wrong; empty if it gave none.
        code: String,
        /// The same as a sentence.
        message: String,
    },
    /// A service that lends access keys answered with something else.
    #[error("the answer has no access key")]
    KeyAnswer {
        /// In what way.
        #[source]
        source: serde_json::Error,
    },
    /// An access key has characters that no header can have.
    #[error("the access key for the object store has characters that no key has")]
    BadKeys,
    /// The answer is a web page.
    #[error(
        "{host} answered with {content_type} instead of a registry's answer: \"{start}\" (a proxy, a login page, or not a registry)"
    )]
    NotARegistry {
        /// Host and port.
        host: String,
        /// The content type that came.
        content_type: String,
        /// The first characters of the body.
        start: String,
    },
    /// The content does not hash to the digest that was asked for.
    #[error(
        "the content has digest {actual} instead of {expected}: the registry or something on the way damaged it"
    )]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The registry's `Docker-Content-Digest` header does not belong to the body.
    #[error("the registry announces digest {announced}, but the content has digest {actual}")]
    AnnouncedDigest {
        /// The header's value.
        announced: String,
        /// The digest of the body.
        actual: Digest,
    },
    /// The content has another length than its descriptor says.
    #[error("the registry has {actual} bytes where the descriptor says {expected}")]
    SizeMismatch {
        /// The length in the descriptor.
        expected: u64,
        /// The length that came or was announced; at least this much.
        actual: u64,
    },
    /// A document is too big to be read into memory.
    #[error("the document is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A document is not what it should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A listing is not what it should be.
    #[error("the answer to the {what} is not understood")]
    BadListing {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A part of a blob was asked for, and another came.
    #[error("the registry sent another range (\"{range}\") than the one from byte {offset}")]
    BadRange {
        /// The first byte that was asked for.
        offset: u64,
        /// The `Content-Range` that came.
        range: String,
    },
    /// The `WWW-Authenticate` header makes no sense.
    #[error("the registry asks for a login in a way that is not understood: \"{header}\"")]
    BadChallenge {
        /// The header's value.
        header: String,
    },
    /// Credentials would travel readable.
    #[error("the token server {realm} does not use HTTPS; credentials are not sent there")]
    InsecureRealm {
        /// The token server's URL.
        realm: String,
    },
    /// The token server refused.
    #[error(
        "the token server {realm} answered {status}{}{}{}",
        Told(.messages),
        if *.status == 401 { " (log in to this registry again)" } else { "" },
        Because(.problem)
    )]
    TokenRefused {
        /// The token server's URL.
        realm: String,
        /// The HTTP status code.
        status: u16,
        /// What it said.
        messages: Vec<RegistryMessage>,
        /// Why credentials that are configured could not be had.
        problem: Option<String>,
    },
    /// The token server's answer has no token.
    #[error("the token server {realm} sent an answer without a token")]
    BadToken {
        /// The token server's URL.
        realm: String,
    },
    /// A redirect that is not followed.
    #[error("the registry redirects to \"{location}\", which is not followed: {reason}")]
    BadRedirect {
        /// Where to.
        location: String,
        /// Why not.
        reason: &'static str,
    },
    /// An upload was not started as the protocol says.
    #[error("the registry accepted the upload but did not say where to send it")]
    NoUploadLocation,
    /// The blob to push cannot be read.
    #[error("cannot read the blob to push")]
    Source {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ErrorKind {
    /// The wait that the registry asked for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether a registry refused a manifest because of a blob that it does not know.
    pub(crate) fn misses_blob(&self) -> bool {
        let (Self::Status { messages, .. } | Self::NotFound { messages }) = self else { return false };
        let codes = [ErrorCode::BlobUnknown, ErrorCode::ManifestBlobUnknown];
        messages.iter().any(|message| codes.contains(&message.code))
    }

    /// The same with the number of tries that were made in all.
    pub(crate) fn after(mut self, made: u32) -> Self {
        match &mut self {
            Self::NoAnswer { attempts, .. }
            | Self::Stalled { attempts, .. }
            | Self::Interrupted { attempts, .. }
            | Self::RateLimited { attempts, .. }
            | Self::Status { attempts, .. } => *attempts = made,
            _ => {}
        }
        self
    }

    /// Whether another endpoint may have what this one did not give.
    pub(crate) fn lets_others_try(&self) -> bool {
        !matches!(self, Self::Source { .. } | Self::BadCertificate { .. })
    }

    /// Whether nobody answered at all.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Stalled { received: 0, .. } | Self::NoAnswer { .. })
    }

    fn fault(&self) -> Fault {
        match self {
            Self::BadAddress { .. }
            | Self::NotFound { .. }
            | Self::Unauthorized { .. }
            | Self::Denied { .. }
            | Self::Route { .. }
            | Self::NoEndpoint { .. }
            | Self::BadCertificate { .. }
            | Self::TokenRefused { status: 401 | 403, .. }
            | Self::Storage { status: 403 | 404, .. }
            | Self::BadKeys
            | Self::Document(_) => Fault::Input,
            Self::Source { source } => base::fault::of_io(source),
            _ => Fault::Environment,
        }
    }
}

/// What the registry said, as the tail of a sentence.
struct Told<'a>(&'a [RegistryMessage]);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, message) in self.0.iter().enumerate() {
            write!(f, "{} {message}", if position == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

struct StorageTold<'a>(&'a str, &'a str);

impl fmt::Display for StorageTold<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self("", "") => Ok(()),
            Self(code, "") => write!(f, ": {code}"),
            Self(code, message) => write!(f, ": {code} ({message})"),
        }
    }
}

/// What else went wrong, as the tail of a sentence.
struct Because<'a>(&'a Option<String>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |problem| write!(f, "; {problem}"))
    }
}

struct WaitFor<'a>(&'a Option<Duration>);

impl fmt::Display for WaitFor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |wait| write!(f, "; it asks to wait {} s", wait.as_secs()))
    }
}
