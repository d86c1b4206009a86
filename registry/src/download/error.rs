//! Why a file could not be downloaded.

use std::time::Duration;

use base::fault::{Fault, Faulty};
use base::git_url::without_password;

use crate::error::{ConnectFailure, ErrorKind};

/// A download that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot download {url}: {problem}")]
pub struct DownloadError {
    /// The URL that was asked for, without a password.
    pub url: String,
    /// What went wrong; its causes follow.
    pub problem: Box<DownloadProblem>,
    /// The transport's own account.
    #[source]
    pub source: Option<reqwest::Error>,
}

/// What went wrong with a download.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadProblem {
    /// It is not an http or https URL with a host.
    #[error("it is not an http or https URL with a host")]
    Address,
    /// The value of the `Authorization` header cannot be sent.
    #[error("the authorization secret has characters that a header cannot have")]
    Authorization,
    /// No connection came about.
    #[error("{host}: {}", connect_text(.failure))]
    Connect {
        /// Host and port that were dialled.
        host: String,
        /// Why.
        failure: ConnectFailure,
        /// The transport's own account.
        cause: Option<reqwest::Error>,
    },
    /// The server refused.
    #[error("the server answered {status}{}{}", quoted(.explanation), advice(*.status, *.attempts, *.with_credentials))]
    Status {
        /// The HTTP status code.
        status: u16,
        /// How often it was tried.
        attempts: u32,
        /// Whether we said who we are.
        with_credentials: bool,
        /// What the server said, if that is plain text.
        explanation: String,
    },
    /// Nothing moved for too long.
    #[error("{host} sent nothing for {} s, after {received} bytes (tried {attempts} times)", .idle.as_secs_f32())]
    Stalled {
        /// Host and port.
        host: String,
        /// How long was waited.
        idle: Duration,
        /// Bytes that had come.
        received: u64,
        /// How often it was tried.
        attempts: u32,
    },
    /// The connection broke.
    #[error("the connection was lost after {received}{} bytes (tried {attempts} times)", of_size(.size))]
    Interrupted {
        /// Bytes that had come.
        received: u64,
        /// Bytes that should come, if the server said so.
        size: Option<u64>,
        /// How often it was tried.
        attempts: u32,
        /// The transport's own account.
        cause: Option<reqwest::Error>,
    },
    /// The file changed while it was downloaded.
    #[error(
        "the connection was lost after {received} bytes, and by then the server had another file (try again)"
    )]
    Changed {
        /// Bytes that had come of the first.
        received: u64,
    },
    /// A redirect that is not followed.
    #[error("the server redirects to \"{location}\", which is not followed: {reason}")]
    Redirect {
        /// Where to.
        location: String,
        /// Why not.
        reason: &'static str,
    },
    /// The TLS set-up of this machine is unusable.
    #[error("cannot prepare TLS (are CA certificates installed?)")]
    Tls {
        /// Why.
        cause: Option<reqwest::Error>,
    },
    /// Something that only a registry can answer: a defect of ours.
    #[error("unexpected trouble: {0}; this is a bug in lapstrake, please report it")]
    Unexpected(Box<ErrorKind>),
}

impl DownloadError {
    pub(super) fn new(url: &str, mut problem: DownloadProblem) -> Self {
        let source = match &mut problem {
            DownloadProblem::Connect { cause, .. }
            | DownloadProblem::Interrupted { cause, .. }
            | DownloadProblem::Tls { cause } => cause.take(),
            _ => None,
        };
        Self {
            url: without_password(url),
            problem: Box::new(problem),
            source: source.map(reqwest::Error::without_url),
        }
    }

    /// The HTTP status, if the server refused with one.
    pub fn status(&self) -> Option<u16> {
        match *self.problem {
            DownloadProblem::Status { status, .. } => Some(status),
            _ => None,
        }
    }
}

impl DownloadProblem {
    /// A body that ended too early.
    pub(super) fn broken(kind: ErrorKind, received: u64, size: Option<u64>, attempts: u32) -> Self {
        match kind {
            ErrorKind::Interrupted { source, .. } => {
                Self::Interrupted { received, size, attempts, cause: source }
            }
            ErrorKind::Stalled { host, idle, .. } => Self::Stalled { host, idle, received, attempts },
            other => other.into(),
        }
    }
}

impl From<ErrorKind> for DownloadProblem {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::TlsSetup { source } => Self::Tls { cause: Some(source) },
            ErrorKind::Connect { host, failure, source } => {
                Self::Connect { host, failure, cause: Some(source) }
            }
            ErrorKind::NoAnswer { attempts, source, .. } => {
                Self::Interrupted { received: 0, size: None, attempts, cause: Some(source) }
            }
            ErrorKind::Stalled { host, idle, received, attempts } => {
                Self::Stalled { host, idle, received, attempts }
            }
            ErrorKind::Interrupted { received, attempts, source, .. } => {
                Self::Interrupted { received, size: None, attempts, cause: source }
            }
            ErrorKind::BadRedirect { location, reason } => Self::Redirect { location, reason },
            other => Self::Unexpected(Box::new(other)),
        }
    }
}

fn connect_text(failure: &ConnectFailure) -> String {
    match failure {
        ConnectFailure::Refused => "connection refused (is a server listening there?)".to_owned(),
        ConnectFailure::NotTls => "it answers without TLS (is the URL an http:// one?)".to_owned(),
        other => other.to_string(),
    }
}

fn quoted(explanation: &str) -> String {
    if explanation.is_empty() { String::new() } else { format!(": \"{explanation}\"") }
}

/// What to do about a status.
fn advice(status: u16, attempts: u32, with_credentials: bool) -> String {
    match status {
        401 | 403 if with_credentials => " (the server does not accept the credentials)".to_owned(),
        401 | 403 => " (it may need a login)".to_owned(),
        404 | 410 => " (check the URL)".to_owned(),
        _ if attempts > 1 => format!(" (tried {attempts} times)"),
        _ => String::new(),
    }
}

fn of_size(size: &Option<u64>) -> String {
    size.map_or_else(String::new, |size| format!(" of {size}"))
}

impl Faulty for DownloadError {
    fn fault(&self) -> Fault {
        match *self.problem {
            DownloadProblem::Address | DownloadProblem::Authorization => Fault::Input,
            DownloadProblem::Status { status, .. } if (400..500).contains(&status) => Fault::Input,
            DownloadProblem::Unexpected(_) => Fault::Bug,
            _ => Fault::Environment,
        }
    }
}
