//! User names and passwords: HTTP basic authentication from a file that `htpasswd -B` writes.
//!
//! The file is read again when it has changed, so that an account can be added or taken away without a restart. To check
//! a password takes a tenth of a second on purpose, so those that were right are remembered until then, as digests that
//! begin with a number of this process.
//!
//! Source: RFC 7617; Apache's `htpasswd` for the file, bcrypt being the only kind of hash.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use base::{Digest, Fault, Faulty};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::Semaphore;

use super::refusal::Refusal;
use crate::http_error::ErrorCode;

/// How a client is asked for a password.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"lap registry\", charset=\"UTF-8\"");
/// How many passwords are checked at once. Each takes a processor.
const CHECKS: usize = 2;
/// How many right passwords are remembered.
const REMEMBERED: usize = 1024;
/// What a password is compared with whose user does not exist, so that this takes as long.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuK6nNn1RZ0LNRSoH4Nmsq0ZzqUL3UNqS";

/// Why the file of accounts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// It cannot be read.
    #[error("cannot read the password file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is not `user:hash`, or its hash is not bcrypt.
    #[error("{} line {line}: a line is user:hash, with a bcrypt hash as `htpasswd -B` writes it", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// There is no random number to be had.
    #[error("cannot make the secret that passwords are remembered with")]
    Random(#[source] sys::fs::PathError),
}

impl Faulty for AccountsError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read { source, .. } => base::fault::of_io(source),
            Self::Line { .. } => Fault::Input,
            Self::Random(_) => Fault::Environment,
        }
    }
}

/// Who may use the registry.
pub struct Accounts {
    path: PathBuf,
    /// Known to this process alone.
    salt: String,
    known: Mutex<Known>,
    checks: Semaphore,
}

/// What was read, and what followed from it.
struct Known {
    /// The file that it is from, by what changes with it.
    version: Option<(SystemTime, u64)>,
    hashes: Arc<HashMap<String, String>>,
    right: HashSet<Digest>,
}

impl Accounts {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, AccountsError> {
        let salt = sys::random::hex(16).map_err(AccountsError::Random)?;
        let version = version(path);
        let known = Known { version, hashes: Arc::new(load(path)?), right: HashSet::new() };
        Ok(Self { path: path.to_owned(), salt, known: Mutex::new(known), checks: Semaphore::new(CHECKS) })
    }

    /// Lets a request pass that says who it is from, and proves it.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return Err(refused("authentication required"));
        };
        let (user, password) =
            basic(given).ok_or_else(|| refused("only basic authentication is done here"))?;
        let seen = Digest::of(format!("{} {user}:{password}", self.salt).as_bytes());
        let hash = {
            let known = self.current();
            if known.right.contains(&seen) {
                return Ok(());
            }
            known.hashes.get(&user).cloned()
        };
        let Ok(_turn) = self.checks.acquire().await else { return Err(refused("the server is stopping")) };
        let expected = hash.clone().unwrap_or_else(|| NOBODY.to_owned());
        let check = tokio::task::spawn_blocking(move || bcrypt::verify(password, &expected).unwrap_or(false));
        let is_right = check.await.unwrap_or(false) && hash.is_some();
        if !is_right {
            return Err(refused("the user name or the password is wrong"));
        }
        let mut known = self.current();
        // Meanwhile the account may have changed.
        if known.hashes.get(&user) == hash.as_ref() {
            if known.right.len() >= REMEMBERED {
                known.right.clear();
            }
            known.right.insert(seen);
        }
        Ok(())
    }

    /// What is in the file now. While it is being written, and cannot be read, what was in it before.
    fn current(&self) -> std::sync::MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version(&self.path);
        if version != known.version
            && let Ok(hashes) = load(&self.path)
        {
            *known = Known { version, hashes: Arc::new(hashes), right: HashSet::new() };
        }
        known
    }
}

fn version(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn load(path: &Path) -> Result<HashMap<String, String>, AccountsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| AccountsError::Read { path: path.to_owned(), source })?;
    let mut hashes = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once(':').filter(|(user, hash)| !user.is_empty() && is_bcrypt(hash));
        let (user, hash) =
            pair.ok_or_else(|| AccountsError::Line { path: path.to_owned(), line: index + 1 })?;
        hashes.insert(user.to_owned(), hash.to_owned());
    }
    Ok(hashes)
}

/// Whether text looks like `$2y$10$` and 53 more characters.
fn is_bcrypt(hash: &str) -> bool {
    let rest = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().find_map(|prefix| hash.strip_prefix(prefix));
    rest.is_some_and(|rest| rest.len() == 56 && rest.as_bytes()[2] == b'$')
}

/// User name and password of an `Authorization` header.
fn basic(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

fn refused(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message)
        .with_header(header::WWW_AUTHENTICATE, CHALLENGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    fn login(user: &str, password: &str) -> HeaderMap {
        headers(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    fn line(user: &str, password: &str) -> String {
        format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())
    }

    #[tokio::test]
    async fn who_proves_it_may_pass() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        std::fs::write(&path, format!("# people\n\n{}{}", line("ann", "sec:ret"), line("bob", "x"))).unwrap();
        let accounts = Accounts::read(&path).unwrap();
        for _ in 0..2 {
            assert!(accounts.admit(&login("ann", "sec:ret")).await.is_ok());
        }
        for bad in
            [login("ann", "x"), login("eve", "x"), headers("Bearer x"), headers("Basic %"), HeaderMap::new()]
        {
            assert!(accounts.admit(&bad).await.is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_changed_file_counts_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        std::fs::write(&path, line("ann", "one")).unwrap();
        let accounts = Accounts::read(&path).unwrap();
        assert!(accounts.admit(&login("ann", "one")).await.is_ok());
        std::fs::write(&path, format!("{}{}", line("ann", "two"), line("bob", "x"))).unwrap();
        assert!(accounts.admit(&login("ann", "one")).await.is_err());
        assert!(accounts.admit(&login("ann", "two")).await.is_ok());
        // Half a file is no reason to lock everybody out.
        std::fs::write(&path, "ann").unwrap();
        assert!(accounts.admit(&login("bob", "x")).await.is_ok());
    }

    #[test]
    fn other_hashes_are_refused_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        for bad in ["ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "ann", ":$2y$", "ann:$apr1$x$y"] {
            std::fs::write(&path, format!("{}{bad}\n", line("bob", "x"))).unwrap();
            let error = Accounts::read(&path).map(drop).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{error}");
        }
        assert!(Accounts::read(&dir.path().join("none")).is_err());
    }

    #[test]
    fn nobody_has_a_hash_that_can_be_compared_with() {
        assert!(is_bcrypt(NOBODY));
        assert!(bcrypt::verify("x", NOBODY).is_ok());
    }
}
