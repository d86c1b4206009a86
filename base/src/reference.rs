//! Image names: `[registry/]repository[:tag][@digest]`.
//!
//! Source: the distribution project's reference grammar, with Docker's short forms: a name without a
//! registry is on `docker.io`, one without a namespace there is under `library/`, and one with neither
//! tag nor digest means the tag `latest`.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry that short names mean.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The longest name of a repository, with its registry, in bytes.
const MAX_NAME: usize = 255;

/// Whether a name has a tag or a digest, and does not leave it open.
pub fn has_tag(name: &str) -> bool {
    // What follows a colon before the last slash is a port.
    name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

/// The name of a registry, of what people and clients have as its address: with a scheme, a path, or one of the hosts that Docker Hub
/// has. None if there is no host in it.
pub fn registry_of(address: &str) -> Option<String> {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let host = rest.unwrap_or(address).split('/').next().unwrap_or_default();
    if matches!(host, "index.docker.io" | "registry-1.docker.io" | "hub.docker.com") {
        return Some(DEFAULT_REGISTRY.to_owned());
    }
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    (!host.is_empty() && host.bytes().all(is_of_host)).then(|| host.to_owned())
}

/// A complete image name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host and optional port, for example `docker.io` or `127.0.0.1:5000`.
    pub registry: String,
    /// Path within the registry, for example `library/debian`.
    pub repository: String,
    /// The tag; `None` only when there is a digest.
    pub tag: Option<String>,
    /// The digest of a manifest or index.
    pub digest: Option<Digest>,
}

/// Why a text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference format: \"{text}\": {reason}")]
pub struct ReferenceError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Reference {
    /// The name as people write it: without `docker.io/`, `library/`, but with its tag.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_repository();
        self.push_suffix(&mut text);
        text
    }

    /// Registry and repository as people write them, without tag and digest.
    pub fn familiar_repository(&self) -> String {
        if self.registry == DEFAULT_REGISTRY {
            self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned()
        } else {
            format!("{}/{}", self.registry, self.repository)
        }
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub fn manifest_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same name, pinned to `digest`.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    fn push_suffix(&self, text: &mut String) {
        use fmt::Write as _;
        if let Some(tag) = &self.tag {
            let _ = write!(text, ":{tag}");
        }
        if let Some(digest) = &self.digest {
            let _ = write!(text, "@{digest}");
        }
    }
}

impl fmt::Display for Reference {
    /// The complete name, registry included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut suffix = String::new();
        self.push_suffix(&mut suffix);
        write!(f, "{}/{}{suffix}", self.registry, self.repository)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |reason: &str| ReferenceError { text: text.to_owned(), reason: reason.to_owned() };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|e| error(&format!("{e}")))?)),
        };
        // A colon after the last slash starts a tag; one before it belongs to a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(error)?;
        }
        let (registry, repository) = split_registry(name);
        if repository.is_empty() {
            return Err(error("it has no repository name"));
        }
        if name.len() > MAX_NAME {
            return Err(error("the repository name is longer than 255 characters"));
        }
        if repository.split('/').any(|part| part.bytes().any(|b| b.is_ascii_uppercase())) {
            return Err(error("the repository name must be lower case"));
        }
        if !repository.split('/').all(is_path_component) {
            return Err(error(
                "each part of the repository name is letters and digits, joined by '.', '_', '__' or '-'",
            ));
        }
        if !is_host(&registry) {
            return Err(error("the registry is not a host name with an optional port"));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

/// The first component is a registry if it looks like a host: a dot, a colon, or `localhost`.
fn split_registry(name: &str) -> (String, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) || host.starts_with('[') => {
            (host, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if registry == DEFAULT_REGISTRY && !repository.is_empty() && !repository.contains('/') {
        return (registry.to_owned(), format!("library/{repository}"));
    }
    (registry.to_owned(), repository.to_owned())
}

/// Whether `name` is a repository's name within a registry: what [`Reference::repository`] may be.
pub fn is_repository(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('/').all(is_path_component)
}

/// Whether `tag` is a tag: what [`Reference::tag`] may be.
pub fn is_tag(tag: &str) -> bool {
    check_tag(tag).is_ok()
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let later = |b: u8| first(b) || b == b'.' || b == b'-';
    match tag.as_bytes() {
        [] => Err("the tag is empty"),
        bytes if bytes.len() > 128 => Err("the tag is longer than 128 characters"),
        [head, tail @ ..] if first(*head) && tail.iter().all(|b| later(*b)) => Ok(()),
        _ => Err("the tag has a character that is not a letter, digit, '_', '.' or '-'"),
    }
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(part: &str) -> bool {
    let bytes = part.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !bytes.first().is_some_and(plain) || !bytes.last().is_some_and(plain) {
        return false;
    }
    let mut runs = bytes.split(plain).filter(|run| !run.is_empty());
    let separator = |run: &[u8]| matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-');
    runs.all(separator)
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            return address.parse::<std::net::Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let label = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|e| format!("error: {}", e.reason), |r| r.to_string())
    }

    #[test]
    fn tags_are_told_from_ports() {
        for (name, expected) in [
            ("a", false),
            ("host:5000/a", false),
            ("a:1", true),
            ("host:5000/a:1", true),
            ("a@sha256:0", true),
        ] {
            assert_eq!(has_tag(name), expected, "{name}");
        }
    }

    #[test]
    fn registries_are_hosts_however_they_are_written() {
        for (address, expected) in [
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("registry-1.docker.io", Some("docker.io")),
            ("docker.io", Some("docker.io")),
            ("r.example:5000/team/app", Some("r.example:5000")),
            ("http://[::1]:5000", Some("[::1]:5000")),
            ("user@host", None),
            ("https://", None),
            ("", None),
        ] {
            assert_eq!(registry_of(address).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn short_names_are_completed() {
        assert_eq!(full("debian"), "docker.io/library/debian:latest");
        assert_eq!(full("debian:bookworm"), "docker.io/library/debian:bookworm");
        assert_eq!(full("me/app"), "docker.io/me/app:latest");
        assert_eq!(full("localhost/app"), "localhost/app:latest");
        assert_eq!(full("127.0.0.1:5000/a/b:c"), "127.0.0.1:5000/a/b:c");
        assert_eq!(full("[::1]:5000/a"), "[::1]:5000/a:latest");
        assert_eq!(full("index.docker.io/debian"), "docker.io/library/debian:latest");
    }

    #[test]
    fn digests_replace_the_default_tag() {
        let digest = Digest::of(b"x");
        assert_eq!(full(&format!("a@{digest}")), format!("docker.io/library/a@{digest}"));
        assert_eq!(full(&format!("a:t@{digest}")), format!("docker.io/library/a:t@{digest}"));
    }

    #[test]
    fn bad_names_say_why() {
        assert!(full("").contains("no repository"));
        assert!(full("Debian").contains("lower case"));
        assert!(full("a:").contains("tag is empty"));
        assert!(full("a:b c").contains("tag has a character"));
        assert!(full("a..b").contains("each part"));
        assert!(full("a@sha256:12").contains("64 lower-case"));
        assert!(full("ex ample.com/a").contains("error"));
    }

    #[test]
    fn repositories_and_tags_of_requests_are_checked_alone() {
        assert!(is_repository("a/b-c/d__e.f") && is_tag("_1.0-x"));
        for name in ["", "/a", "a//b", "a/..", "../a", "A", "a:b", "a/_b", &"a".repeat(256)] {
            assert!(!is_repository(name), "{name}");
        }
        for tag in ["", "-a", "a/b", "a:b", &"a".repeat(129)] {
            assert!(!is_tag(tag), "{tag}");
        }
    }

    #[test]
    fn familiar_form_is_short() {
        let familiar = |text: &str| text.parse::<Reference>().unwrap().familiar();
        assert_eq!(familiar("docker.io/library/debian"), "debian:latest");
        assert_eq!(familiar("docker.io/me/x:1"), "me/x:1");
        assert_eq!(familiar("quay.io/me/x:1"), "quay.io/me/x:1");
    }
}
