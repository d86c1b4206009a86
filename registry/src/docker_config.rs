//! Credentials in files: Docker's `config.json`, and Podman's `auth.json`, which has the same form.
//!
//! Credential stores and helpers (`credsStore`, `credHelpers`) are programs. This crate starts no processes, so it only says
//! which one is configured for a registry. `HttpHeaders` are for Docker's own daemon and never sent to a registry.
//!
//! Keys of `auths` are hosts, with `https://…/v1/` around them in Docker's older files; in Podman's they may go on with a
//! path, and the longest that a repository's name begins with counts.
//!
//! Source: Docker CLI documentation, "Credential stores" and the `config.json` reference; `containers-auth.json(5)`.

use std::collections::BTreeMap;

use base::fault::{Fault, Faulty};
use base::reference::DEFAULT_REGISTRY;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::credentials::{Credential, Credentials, Lookup};

/// The key under which Docker keeps the credential of `docker.io`.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What hosts of `docker.io` are called in keys.
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The credentials that a `config.json` holds.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    /// By host, or host and path.
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
        /// Why, with line and column.
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
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
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
                credentials.insert(name_of_key(&key), credential);
            }
        }
        let helpers = wire.helpers.into_iter().filter(|(_, helper)| !helper.is_empty());
        Ok(Self {
            credentials,
            store: wire.store.filter(|store| !store.is_empty()),
            helpers: helpers.map(|(key, helper)| (name_of_key(&key), helper)).collect(),
        })
    }

    /// The name of the helper program that is configured for `registry`, which this crate cannot ask.
    pub fn helper(&self, registry: &str) -> Option<&str> {
        self.helpers.get(config_host(registry)).or(self.store.as_ref()).map(String::as_str)
    }

    /// The text of a `config.json` with a login to `registry` more, or less if there is no credential. All else stays.
    ///
    /// # Errors
    /// When `text` is not a Docker configuration.
    pub fn with_login(
        text: &[u8],
        path: &str,
        registry: &str,
        credential: Option<&Credential>,
    ) -> Result<Vec<u8>, DockerConfigError> {
        let json = |source| DockerConfigError::Json { path: path.to_owned(), source };
        let text = if text.trim_ascii().is_empty() { b"{}" } else { text };
        let mut config: Map<String, Value> = serde_json::from_slice(text).map_err(json)?;
        let auths = config.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.retain(|key, _| name_of_key(key) != config_host(registry));
            if let Some(credential) = credential {
                auths.insert(server_key(registry), entry(credential));
            }
        }
        let mut bytes = serde_json::to_vec_pretty(&config).map_err(json)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Whether there is an entry for `registry`, even an empty one.
    pub fn has_entry(&self, registry: &str) -> bool {
        self.credentials.contains_key(config_host(registry))
    }

    fn find(&self, registry: &str, repository: &str) -> Option<&Credential> {
        let mut name = format!("{}/{repository}", config_host(registry));
        loop {
            if let Some(found) = self.credentials.get(&name) {
                return Some(found);
            }
            name.truncate(name.rfind('/')?);
        }
    }
}

impl Credentials for DockerConfig {
    fn lookup(&self, registry: &str, repository: &str) -> Lookup {
        Lookup::found(self.find(registry, repository).cloned())
    }
}

impl WireAuth {
    /// The credential, `Some(None)` when the entry is empty (as credential stores leave it), `None`
    /// when it is malformed.
    fn credential(self) -> Option<Option<Credential>> {
        if !self.identity_token.is_empty() {
            return Some(Some(Credential::IdentityToken(self.identity_token)));
        }
        if !self.registry_token.is_empty() {
            return Some(Some(Credential::RegistryToken(self.registry_token)));
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

/// How Docker writes a credential.
fn entry(credential: &Credential) -> Value {
    match credential {
        Credential::Password { user, password } => {
            serde_json::json!({"auth": STANDARD.encode(format!("{user}:{password}"))})
        }
        Credential::IdentityToken(token) => serde_json::json!({"identitytoken": token}),
        Credential::RegistryToken(token) => serde_json::json!({"registrytoken": token}),
    }
}

/// Under which name Docker and its helpers know a registry.
pub fn server_key(registry: &str) -> String {
    if config_host(registry) == DEFAULT_REGISTRY { DOCKER_HUB_KEY.to_owned() } else { registry.to_owned() }
}

/// The host of a key, which may be a URL such as `https://index.docker.io/v1/`, or host and path.
fn name_of_key(key: &str) -> String {
    let (is_url, rest) = match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => (true, rest),
        None => (false, key),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = config_host(host);
    let path = path.trim_matches('/');
    if is_url || matches!(path, "" | "v1" | "v2") { host.to_owned() } else { format!("{host}/{path}") }
}

fn config_host(registry: &str) -> &str {
    if DOCKER_HUB_HOSTS.contains(&registry) { DEFAULT_REGISTRY } else { registry }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
    }

    fn parse(text: &str) -> DockerConfig {
        DockerConfig::parse(text.as_bytes(), "config.json").unwrap()
    }

    #[test]
    fn entries_are_found_by_registry() {
        let config = parse(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2U6Y3JldA=="},
            "quay.io":{"identitytoken":"t"},"other:5000":{"username":"u","password":"p"},"stored.example":{},
            "raw.example":{"registrytoken":"r"}},"credHelpers":{"gcr.io":"gcloud"},"HttpHeaders":{}}"#,
        );
        let lookup = |registry| config.lookup(registry, "a/b").credential;
        assert_eq!(lookup("docker.io"), password("me", "se:cret"));
        assert_eq!(lookup("quay.io"), Some(Credential::IdentityToken("t".to_owned())));
        assert_eq!(lookup("raw.example"), Some(Credential::RegistryToken("r".to_owned())));
        assert_eq!(lookup("other:5000"), password("u", "p"));
        assert_eq!(lookup("stored.example"), None);
        assert_eq!((config.helper("gcr.io"), config.helper("quay.io")), (Some("gcloud"), None));
        assert_eq!(parse(r#"{"credsStore":"pass"}"#).helper("quay.io"), Some("pass"));
    }

    #[test]
    fn the_longest_path_that_fits_counts() {
        let config = parse(
            r#"{"auths":{"r.example":{"auth":"YTpi"},"r.example/team":{"auth":"Yzpk"},
            "r.example/team/app":{"auth":"ZTpm"}}}"#,
        );
        let lookup = |repository| config.lookup("r.example", repository).credential;
        assert_eq!(lookup("other"), password("a", "b"));
        assert_eq!(lookup("team/other"), password("c", "d"));
        assert_eq!(lookup("teams/other"), password("a", "b"));
        assert_eq!(lookup("team/app/part"), password("e", "f"));
    }

    #[test]
    fn a_login_leaves_all_else_as_it_is() {
        let text = br#"{"psFormat":"x","auths":{"docker.io":{"auth":"YTpi"},"other":{"auth":"Yzpk"}},"credHelpers":{"a":"b"}}"#;
        let new = DockerConfig::with_login(text, "c", "docker.io", password("me", "it").as_ref()).unwrap();
        let value: Value = serde_json::from_slice(&new).unwrap();
        assert_eq!(value["psFormat"], "x");
        assert_eq!(value["credHelpers"]["a"], "b");
        assert_eq!(value["auths"].as_object().unwrap().len(), 2);
        assert_eq!(value["auths"][DOCKER_HUB_KEY]["auth"], "bWU6aXQ=");
        let gone = DockerConfig::with_login(&new, "c", "index.docker.io", None).unwrap();
        let config = DockerConfig::parse(&gone, "c").unwrap();
        assert!(!config.has_entry("docker.io") && config.has_entry("other"));
        assert!(DockerConfig::with_login(b"", "c", "a", None).is_ok());
        assert!(DockerConfig::with_login(b"[1]", "c", "a", None).is_err());
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
        let all = [
            password("me", "hidden"),
            Some(Credential::IdentityToken("hidden".into())),
            Some(Credential::RegistryToken("hidden".into())),
        ];
        let shown = format!("{all:?}");
        assert!(shown.contains("me") && !shown.contains("hidden"), "{shown}");
    }
}
