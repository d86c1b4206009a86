//! What Docker's `config.json` says beside logins: proxies for builds and containers, and the keys that detach
//! (<https://docs.docker.com/reference/cli/docker/#docker-cli-configuration-file-configjson-properties>).

use std::path::{Path, PathBuf};

use engine::request::DetachKeys;
use serde::Deserialize;

use crate::error::CliError;
use crate::places;

/// The settings of this user's client.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DockerConfig {
    #[serde(default)]
    proxies: Proxies,
    detach_keys: Option<String>,
}

/// By daemon. There is none here, so only those for all count.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
struct Proxies {
    #[serde(default)]
    default: Proxy,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Proxy {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
    ftp_proxy: Option<String>,
    all_proxy: Option<String>,
}

impl DockerConfig {
    /// Reads the file of this user; one that is missing or empty says nothing.
    ///
    /// # Errors
    /// It cannot be read, or what it says of these settings is of the wrong kind.
    pub(crate) fn read() -> Result<Self, CliError> {
        places::docker_config().map_or_else(|| Ok(Self::default()), |path| Self::at(&path))
    }

    fn at(path: &Path) -> Result<Self, CliError> {
        let hint = "correct it, or name another directory in DOCKER_CONFIG";
        let text = match std::fs::read_to_string(path) {
            Err(error) if is_missing(&error) => return Ok(Self::default()),
            Err(error) => {
                return Err(CliError::usage(format!("cannot read {}: {error}", path.display()), hint));
            }
            Ok(text) if text.trim().is_empty() => return Ok(Self::default()),
            Ok(text) => text,
        };
        serde_json::from_str(&text).map_err(|error| {
            CliError::usage(format!("{} is not as it should be: {error}", path.display()), hint)
        })
    }

    /// The variables for builds and containers, in both spellings that programs look for.
    pub(crate) fn proxies(&self) -> Vec<(String, String)> {
        let Proxy { http_proxy, https_proxy, no_proxy, ftp_proxy, all_proxy } = &self.proxies.default;
        let named = [
            ("http_proxy", http_proxy),
            ("https_proxy", https_proxy),
            ("no_proxy", no_proxy),
            ("ftp_proxy", ftp_proxy),
            ("all_proxy", all_proxy),
        ];
        let set = named.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        set.filter(|(_, value)| !value.is_empty())
            .flat_map(|(name, value)| {
                [name.to_uppercase(), name.to_owned()].map(|name| (name, value.to_owned()))
            })
            .collect()
    }

    /// The keys that leave a container running, where the command line names none.
    ///
    /// # Errors
    /// They are no keys.
    pub(crate) fn detach_keys(&self) -> Result<DetachKeys, CliError> {
        let Some(text) = &self.detach_keys else { return Ok(DetachKeys::default()) };
        text.parse().map_err(|error| {
            let place = places::docker_config().unwrap_or_else(|| PathBuf::from("config.json"));
            let message = format!("{} has bad detachKeys {text:?}: {error}", place.display());
            CliError::usage(message, "write them such as ctrl-p,ctrl-q")
        })
    }
}

/// A file below something that is no directory is as missing as one in an empty directory.
fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> DockerConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn proxies_have_both_spellings_and_empty_ones_are_none() {
        let config =
            parsed(r#"{"auths": {}, "proxies": {"default": {"httpProxy": "http://p:1", "noProxy": ""}}}"#);
        let value = "http://p:1".to_owned();
        assert_eq!(
            config.proxies(),
            [("HTTP_PROXY".to_owned(), value.clone()), ("http_proxy".to_owned(), value)]
        );
        assert_eq!(parsed(r#"{"proxies": {"tcp://other:1": {"httpProxy": "x"}}}"#).proxies(), []);
        assert_eq!(parsed("{}").proxies(), []);
    }

    #[test]
    fn keys_are_checked() {
        assert_eq!(
            parsed(r#"{"detachKeys": "ctrl-x,q"}"#).detach_keys().unwrap(),
            "ctrl-x,q".parse().unwrap()
        );
        assert!(parsed(r#"{"detachKeys": "ctrl-1"}"#).detach_keys().is_err());
        assert_eq!(parsed("{}").detach_keys().unwrap(), DetachKeys::default());
    }

    #[test]
    fn a_file_that_is_not_there_says_nothing() {
        assert_eq!(
            DockerConfig::at(Path::new("/proc/version/config.json")).unwrap(),
            DockerConfig::default()
        );
        assert_eq!(DockerConfig::at(Path::new("/nowhere/config.json")).unwrap(), DockerConfig::default());
        assert!(DockerConfig::at(Path::new("/proc/version")).is_err());
    }
}
