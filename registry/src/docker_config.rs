//! Credentials from Docker's `config.json`: the `auths` section.
//!
//! Credential stores and helpers (`credsStore`, `credHelpers`) are programs. This crate starts no
//! processes, so it only reports which one is configured for a registry.
//!
//! Source: Docker CLI documentation, "Credential stores" and the `config.json` reference.

use std::collections::BTreeMap;

use base::fault::{Fault, Faulty};
use base::reference::DEFAULT_REGISTRY;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::credentials::{Credential, Credentials};

/// The key under which Docker keeps the credential of `docker.io`.
const DOCKER_HUB_KEY: &str = "index.docker.io";

/// The credentials that a `config.json` holds.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    credentials: BTreeMap<String, Credential>,
    store: Option<String>,
    helpers: BTreeMap<String, String>,
}

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// It is not the JSON that Docker writes.
    #[error("{path} is not a Docker configuration")]
    Json {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An `auth` value is not base64 of `user:password`.
    #[error("{path}: the entry \"auths\" of {registry} is not base64 of user:password (log in to it again)")]
    Auth {
        /// The file.
        path: String,
        /// The key of the entry.
        registry: String,
    },
}

impl Faulty for DockerConfigError {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

#[derive(Deserialize)]
struct WireConfig {
    #[serde(default)]
    auths: BTreeMap<String, WireAuth>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct WireAuth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl DockerConfig {
    /// Reads the text of a `config.json`; `path` is only named in errors.
    pub fn parse(text: &[u8], path: &str) -> Result<Self, DockerConfigError> {
        let json = |source| DockerConfigError::Json { path: path.to_owned(), source };
        let wire: WireConfig = serde_json::from_slice(text).map_err(json)?;
        let mut credentials = BTreeMap::new();
        for (key, auth) in wire.auths {
            let bad = || DockerConfigError::Auth { path: path.to_owned(), registry: key.clone() };
            if let Some(credential) = auth.credential().ok_or_else(bad)? {
                credentials.insert(host_of_key(&key).to_owned(), credential);
            }
        }
        let helpers = wire.helpers.into_iter().map(|(key, helper)| (host_of_key(&key).to_owned(), helper));
        Ok(Self {
            credentials,
            store: wire.store.filter(|store| !store.is_empty()),
            helpers: helpers.collect(),
        })
    }

    /// The name of the helper program that is configured for `registry`, which this crate cannot ask.
    pub fn helper(&self, registry: &str) -> Option<&str> {
        let store = self.store.as_deref();
        self.helpers.get(config_host(registry)).map(String::as_str).or(store)
    }
}

impl Credentials for DockerConfig {
    fn lookup(&self, registry: &str) -> Option<Credential> {
        self.credentials.get(config_host(registry)).cloned()
    }
}

impl WireAuth {
    /// The credential, `Some(None)` when the entry is empty (as credential stores leave it), `None`
    /// when it is malformed.
    fn credential(self) -> Option<Option<Credential>> {
        if !self.identity_token.is_empty() {
            return Some(Some(Credential::IdentityToken(self.identity_token)));
        }
        let (user, password) = if self.auth.is_empty() {
            (self.username, self.password)
        } else {
            let text = String::from_utf8(STANDARD.decode(self.auth.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        };
        Some((!user.is_empty()).then_some(Credential::Password { user, password }))
    }
}

/// The host of a key, which may be a URL such as `https://index.docker.io/v1/`.
fn host_of_key(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

fn config_host(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { DOCKER_HUB_KEY } else { registry }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn entries_are_found_by_registry() {
        let text = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2U6Y3JldA=="},
            "quay.io":{"identitytoken":"t"},"other:5000":{"username":"u","password":"p"},"stored.example":{}},
            "credHelpers":{"gcr.io":"gcloud"},"HttpHeaders":{}}"#;
        let config = DockerConfig::parse(text, "config.json").unwrap();
        assert_eq!(config.lookup("docker.io"), password("me", "se:cret"));
        assert_eq!(config.lookup("quay.io"), Some(Credential::IdentityToken("t".to_owned())));
        assert_eq!(config.lookup("other:5000"), password("u", "p"));
        assert_eq!(config.lookup("stored.example"), None);
        assert_eq!((config.helper("gcr.io"), config.helper("quay.io")), (Some("gcloud"), None));
    }

    #[test]
    fn bad_files_are_named() {
        let error = DockerConfig::parse(b"{", "/c.json").unwrap_err().to_string();
        assert_eq!(error, "/c.json is not a Docker configuration");
        let error =
            DockerConfig::parse(br#"{"auths":{"a.b":{"auth":"%"}}}"#, "/c.json").unwrap_err().to_string();
        assert!(error.contains("/c.json") && error.contains("a.b") && error.contains("base64"), "{error}");
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let shown =
            format!("{:?}", [password("me", "hidden"), Some(Credential::IdentityToken("hidden".into()))]);
        assert!(shown.contains("me") && !shown.contains("hidden"), "{shown}");
    }
}
