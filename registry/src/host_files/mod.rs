//! The files in which other programs say how registries are reached, read as they are: Docker's `daemon.json`, the
//! `registries.conf` of Podman and Skopeo, containerd's `hosts.toml`, BuildKit's `buildkitd.toml`, and directories of
//! certificates.
//!
//! Nothing is read here: text comes in, and rules come out. What a file has besides registries is not looked at, but what is
//! misspelt where it says something of a registry is an error: a mirror or a certificate that silently does not count is
//! worse than none.

pub mod buildkitd_toml;
pub mod certificates;
pub mod daemon_json;
pub mod hosts_toml;
pub mod registries_conf;

use std::path::{Path, PathBuf};

use base::fault::{Fault, Faulty};
use base::reference::DEFAULT_REGISTRY;
use reqwest::Url;
use serde::de::DeserializeOwned;

use crate::endpoint::{Capabilities, EndpointSpec, Headers, Tls};
use crate::hosts;

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}, line {line}: {problem}", path.display())]
pub struct HostFileError {
    /// The file.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl Faulty for HostFileError {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// With; on this machine's own loopback without, unless there are certificates for it.
    Usual,
    /// With.
    Https,
    /// Without.
    Http,
    /// With, accepting any certificate; without, if nobody answers that way.
    Either,
}

/// An endpoint as a file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRule {
    /// Host, and port if it is not the scheme's.
    pub host: String,
    /// With or without TLS.
    pub scheme: Scheme,
    /// The path of its API, `/v2` as a rule.
    pub path: String,
    /// What it calls the repository, if not as the registry does.
    pub repository: Option<String>,
    /// What it may be asked for.
    pub capabilities: Capabilities,
    /// Accept any certificate.
    pub skip_verify: bool,
    /// Files with certificates that are trusted.
    pub roots: Vec<PathBuf>,
    /// Files with our certificate, and its key if that is another file.
    pub identities: Vec<(PathBuf, Option<PathBuf>)>,
    /// Headers of every request.
    pub headers: Headers,
    /// Whether it is told for which registry it stands in.
    pub names_registry: bool,
}

impl EndpointRule {
    /// An endpoint that is reached as every registry is.
    pub fn new(host: &str, scheme: Scheme) -> Self {
        Self {
            host: host.to_owned(),
            scheme,
            path: "/v2".to_owned(),
            repository: None,
            capabilities: Capabilities::ALL,
            skip_verify: scheme == Scheme::Either,
            roots: Vec::new(),
            identities: Vec::new(),
            headers: Headers::default(),
            names_registry: false,
        }
    }
}

impl EndpointRule {
    /// The endpoints of this rule for `registry`, which its file `source` says, with the content of its certificates.
    ///
    /// # Errors
    /// When its host makes no URL.
    pub fn specs(self, registry: &str, tls: Tls, source: &str) -> Result<Vec<EndpointSpec>, BadHost> {
        let scheme = match self.scheme {
            Scheme::Usual if hosts::is_loopback(&self.host) && tls == Tls::default() => Scheme::Http,
            Scheme::Usual => Scheme::Https,
            scheme => scheme,
        };
        let schemes: &[&str] = match scheme {
            Scheme::Http => &["http"],
            Scheme::Either => &["https", "http"],
            Scheme::Https | Scheme::Usual => &["https"],
        };
        let host = if self.host == DEFAULT_REGISTRY { hosts::DOCKER_HUB } else { &self.host };
        let spec = |scheme: &&str| {
            let bad = || BadHost { host: self.host.clone(), source_file: source.to_owned() };
            let base = Url::parse(&format!("{scheme}://{host}{}", self.path)).map_err(|_| bad())?;
            Ok(EndpointSpec {
                base,
                repository: self.repository.clone(),
                capabilities: self.capabilities,
                tls: if *scheme == "https" { tls.clone() } else { Tls::default() },
                headers: self.headers.clone(),
                names_registry: self.names_registry && self.host != registry,
                has_next: false,
                has_other: false,
                source: source.to_owned(),
            })
        };
        schemes.iter().map(spec).collect()
    }
}

/// A host that makes no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_file} names the host \"{host}\", which makes no URL")]
pub struct BadHost {
    /// The host.
    pub host: String,
    /// Where it is named.
    pub source_file: String,
}

/// What a file says of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// It must not be used.
    Blocked,
    /// Where it is, best first.
    Endpoints(Vec<EndpointRule>),
}

/// Reads a TOML file.
fn toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, HostFileError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        wrong(path, text, start, error.message())
    })
}

/// The error for what is at `start` of a text.
fn wrong(path: &Path, text: &str, start: usize, problem: &str) -> HostFileError {
    let before = &text.as_bytes()[..start.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
    HostFileError { path: path.to_owned(), line, problem }
}

/// Splits `[scheme://]host[:port][/path]`; `None` when it is not that.
fn split_url(text: &str) -> Option<(Option<Scheme>, &str, &str)> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("https", rest)) => (Some(Scheme::Https), rest),
        Some(("http", rest)) => (Some(Scheme::Http), rest),
        Some(_) => return None,
        None => (None, text),
    };
    let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let is_host = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    is_host.then_some((scheme, host, path.trim_end_matches('/')))
}

/// A list that may be written as its only item.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text that is like a file of each kind, and never one.
    fn noise(seed: u64) -> String {
        let pieces = [
            "[",
            "]",
            "{",
            "}",
            "\"",
            "=",
            "\n",
            "registry",
            "host",
            "mirrors",
            "\"https://a\"",
            "ca",
            "true",
            ",",
            "[[registry]]\n",
            "prefix = \"",
            "location",
            "[host.\"",
            "é",
            "\u{0}",
            "#",
            ":",
            "1",
            "server",
        ];
        let mut state = seed;
        let mut text = String::new();
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        text
    }

    #[test]
    fn whatever_the_text_is_there_are_rules_or_an_error_with_a_line_of_it() {
        let path = Path::new("/f");
        for seed in 0..3000 {
            let text = noise(seed);
            let errors = [
                daemon_json::DaemonJson::parse(path, &text).err(),
                registries_conf::RegistriesConf::parse(path, &text).err(),
                hosts_toml::parse(path, &text, "r.example").err(),
                buildkitd_toml::BuildkitdToml::parse(path, &text).err(),
            ];
            for error in errors.into_iter().flatten() {
                assert!((1..=text.lines().count() + 1).contains(&error.line), "{error}: {text:?}");
                assert!(!error.problem.contains('\n'), "{error}");
            }
        }
    }

    #[test]
    fn urls_are_split() {
        assert_eq!(split_url("https://a:1/x/"), Some((Some(Scheme::Https), "a:1", "/x")));
        assert_eq!(split_url("a"), Some((None, "a", "")));
        assert_eq!(split_url("[::1]:5000/v2"), Some((None, "[::1]:5000", "/v2")));
        for bad in ["ftp://a", "", "https://", "user@host", "a b"] {
            assert_eq!(split_url(bad), None, "{bad}");
        }
    }
}
