//! Git repositories as Dockerfiles and command lines name them.
//!
//! ```text
//! git@host:path   ssh://[user@]host[:port]/path   git://host/path   http(s)://host/path.git
//! ```
//!
//! each followed by a fragment `#ref:subdir`, a query `?branch=…&subdir=…`, or both, as long as they agree.
//! An `http(s)` URL whose path does not end in `.git` is a file to download. Where a build context is
//! meant, `github.com/user/repository` is short for the repository there.
//!
//! Everything here ends up in arguments of a program that takes options and in names that it gives a
//! meaning, so a remote, ref or directory that git could take for something else is refused.
//!
//! Source: Docker's manual, "Build context", sections "Git repositories" and "URL queries"; the Dockerfile
//! reference, "Adding files from a Git repository"; `git-check-ref-format(1)`.

mod parts;
#[cfg(test)]
mod tests;

use crate::fault::{Fault, Faulty};

/// A git repository, what of it is wanted, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitUrl {
    /// Where the repository is, as git takes it. May hold a password; see [`GitUrl::shown`].
    pub remote: String,
    /// A branch, tag, commit or full ref name; `None` is the remote's default branch.
    pub reference: Option<String>,
    /// A directory in the repository, relative and clean; `None` is all of it.
    pub subdir: Option<String>,
    /// The commit id that `reference` has to mean, or at least seven digits of its start.
    pub checksum: Option<String>,
    /// Whether `.git` is kept; `None` leaves it to whoever asks.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched, recursively.
    pub submodules: bool,
    /// The modification times that the files get.
    pub times: FileTimes,
    /// Whether the commit in `checksum` is fetched by its id rather than through `reference`.
    pub fetch_by_commit: bool,
}

/// The modification times of files from a repository, which git does not record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileTimes {
    /// When they were checked out.
    #[default]
    Checkout,
    /// When their commit was made.
    Commit,
}

/// Why a text that names a git repository cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid git URL \"{url}\": {problem}")]
pub struct GitUrlError {
    /// The text, without a password.
    pub url: String,
    /// What is wrong with it.
    pub problem: GitUrlProblem,
}

/// What is wrong with a git URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitUrlProblem {
    /// There is no host, or it is not a host's name.
    #[error("\"{0}\" is not a host")]
    Host(String),
    /// There is nothing after the host.
    #[error("it names no repository on the host")]
    NoPath,
    /// There are blanks or control characters.
    #[error("it has a blank or a control character")]
    Character,
    /// A `%` is not followed by two hexadecimal digits of UTF-8 text.
    #[error("\"{0}\" is not percent-encoded text")]
    Encoding(String),
    /// The query has a name that is not known.
    #[error(
        "\"{0}\" is not a parameter; there are ref, tag, branch, subdir, checksum (or commit), keep-git-dir, \
         submodules, mtime and fetch-by-commit"
    )]
    Parameter(String),
    /// A parameter has no value.
    #[error("the parameter {0} has no value")]
    NoValue(String),
    /// A parameter's value is not one that it can have.
    #[error("{name}={value} is not possible; it is {expected}")]
    Value {
        /// The parameter.
        name: String,
        /// Its value.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// Two places say different things.
    #[error("it asks for {what} \"{first}\" and for \"{second}\"")]
    Conflict {
        /// What they are about.
        what: &'static str,
        /// One value.
        first: String,
        /// The other.
        second: String,
    },
    /// A ref is not a name that git allows.
    #[error("\"{0}\" cannot be a branch, tag or commit")]
    Reference(String),
    /// The directory leads out of the repository.
    #[error("the directory \"{0}\" is outside the repository")]
    Outside(String),
    /// Only a complete commit id can be fetched.
    #[error("fetch-by-commit needs a complete commit id in checksum")]
    NoCommit,
}

impl Faulty for GitUrlError {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

impl GitUrl {
    /// Reads the name of a repository; `None` when `text` names something else, as a file or a download.
    ///
    /// # Errors
    /// When it clearly names a repository, but in a way that cannot be used.
    pub fn parse(text: &str) -> Result<Option<Self>, GitUrlError> {
        let Some(split) = parts::split(text) else { return Ok(None) };
        let url = || parts::without_password(text);
        parts::read(&split).map(Some).map_err(|problem| GitUrlError { url: url(), problem })
    }

    /// Like [`parse`](Self::parse), for a build context: `github.com/user/repository` is a repository too.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_context(text: &str) -> Result<Option<Self>, GitUrlError> {
        match text.starts_with("github.com/") {
            true => Self::parse(&parts::with_git_suffix(&format!("https://{text}"))),
            false => Self::parse(text),
        }
    }

    /// A repository with nothing else said about it.
    pub fn of_remote(remote: impl Into<String>) -> Self {
        Self {
            remote: remote.into(),
            reference: None,
            subdir: None,
            checksum: None,
            keep_git_dir: None,
            submodules: true,
            times: FileTimes::default(),
            fetch_by_commit: false,
        }
    }

    /// The remote without a password, for people.
    pub fn shown(&self) -> String {
        parts::without_password(&self.remote)
    }

    /// The host and port of the remote, without a user.
    pub fn host(&self) -> &str {
        parts::host(&self.remote)
    }
}

/// Whether `text` is the complete id of a git object: 40 digits (SHA-1) or 64 (SHA-256).
pub fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` is an `http` or `https` URL, of whatever.
pub fn is_http(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

/// A URL without the password in it, for people. Anything else comes back as it is.
pub fn without_password(url: &str) -> String {
    parts::without_password(url)
}

/// Undoes percent encoding; what is not encoded rightly stays as it is.
pub fn percent_decoded(text: &str) -> Vec<u8> {
    parts::decoded(text)
}
