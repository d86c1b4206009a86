//! Keys that a machine or a container is lent: a service nearby gives them for some hours.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Container credential provider" and "IMDS credential provider" (version 2, whose
//! requests carry a token).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base::Timestamp;
use bytes::Bytes;
use reqwest::header::{self, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::time::timeout;

use super::{Keys, refusal};
use crate::client::{Client, InContext as _};
use crate::error::{Context, ErrorKind, Result};
use crate::hosts;
use crate::transport::Request;
use crate::upload::{BlobSource, Payload};

/// How long the service may take in all: it is as near as this machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is read.
const LONGEST: u64 = 64 * 1024;

/// Addresses beside the loopback's that plain HTTP goes to: services of containers, and of machines.
const NEARBY: [&str; 5] =
    ["169.254.170.2", "169.254.170.23", "fd00:ec2::23", "169.254.169.254", "fd00:ec2::254"];

/// How long a token of a machine's service is good for, in seconds; it is used at once.
const TOKEN_TIME: &str = "60";

/// Who lends keys.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyService {
    /// The service of a container's host, at a URL of its own.
    Container {
        /// The URL of the keys.
        url: String,
        /// What says which container asks.
        authorization: Option<String>,
        /// The file with the same, which is read each time.
        authorization_file: Option<PathBuf>,
    },
    /// The service of a machine, with the keys of its role.
    Machine {
        /// The URL of the service.
        url: String,
    },
}

impl std::fmt::Debug for KeyService {
    /// Without what says who asks.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container { url, .. } => write!(f, "Container({url})"),
            Self::Machine { url } => write!(f, "Machine({url})"),
        }
    }
}

/// Keys for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LentKeys {
    /// The keys.
    pub keys: Keys,
    /// Until when they are good; `None` is for ever.
    pub until: Option<Timestamp>,
}

/// The answer with keys.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answered {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<Timestamp>,
}

impl Client {
    /// Asks a service for keys.
    ///
    /// # Errors
    /// When it cannot be asked, has none, or takes more than a few seconds.
    pub async fn lent_keys(&self, service: &KeyService) -> Result<LentKeys> {
        let (KeyService::Container { url, .. } | KeyService::Machine { url }) = service;
        let context = Context::object("ask", "keys", url, "");
        let asked = async {
            let base = near(url)?;
            match service {
                KeyService::Container { authorization, authorization_file, .. } => {
                    let from_file = authorization_file.as_ref().map(std::fs::read_to_string).transpose();
                    let from_file = from_file.map_err(|source| ErrorKind::Source { source })?;
                    let text = from_file.map(|text| text.trim().to_owned()).or_else(|| authorization.clone());
                    let headers = text.map(|text| (header::AUTHORIZATION, text));
                    self.ask_for_keys(Method::GET, base, headers.into_iter().collect()).await
                }
                KeyService::Machine { .. } => self.of_machine(&base).await,
            }
        };
        let asked = match timeout(PATIENCE, asked).await {
            Ok(asked) => asked,
            Err(_) => Err(ErrorKind::Stalled { host: url.clone(), idle: PATIENCE, received: 0, attempts: 1 }),
        };
        let answer = asked.within(&context)?;
        let wrong = |source| context.error(ErrorKind::KeyAnswer { source });
        let found: Answered = serde_json::from_slice(&answer).map_err(wrong)?;
        let Answered {
            access_key_id: id,
            secret_access_key: secret,
            token: session_token,
            expiration: until,
        } = found;
        Ok(LentKeys { keys: Keys { id, secret, session_token }, until })
    }

    /// The keys of a machine's role, whose name is asked for first.
    async fn of_machine(&self, base: &Url) -> std::result::Result<Vec<u8>, ErrorKind> {
        let at = |path: &str| {
            let mut url = base.clone();
            url.set_path(path);
            url
        };
        let own = |name: &'static str, text: String| (HeaderName::from_static(name), text);
        let time = own("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TIME.to_owned());
        let token = self.ask_for_keys(Method::PUT, at("/latest/api/token"), vec![time]).await?;
        let token = own("x-aws-ec2-metadata-token", String::from_utf8_lossy(&token).into_owned());
        let place = "/latest/meta-data/iam/security-credentials/";
        let roles = self.ask_for_keys(Method::GET, at(place), vec![token.clone()]).await?;
        let roles = String::from_utf8_lossy(&roles).into_owned();
        let role = roles.lines().next().unwrap_or_default();
        self.ask_for_keys(Method::GET, at(&format!("{place}{role}")), vec![token]).await
    }

    /// The body of an answer that is a success.
    async fn ask_for_keys(
        &self,
        method: Method,
        url: Url,
        headers: Vec<(HeaderName, String)>,
    ) -> std::result::Result<Vec<u8>, ErrorKind> {
        let mut request = Request::new(method, url);
        for (name, text) in headers {
            let mut value = HeaderValue::from_str(&text).map_err(|_| ErrorKind::BadKeys)?;
            value.set_sensitive(true);
            request.headers.insert(name, value);
        }
        if request.method == Method::PUT {
            request.payload =
                Some(Payload { source: BlobSource::Bytes(Bytes::new()), size: 0, progress: None });
        }
        let transport = self.transport();
        let mut answer = transport.exchange(&request, None).await?;
        let (status, body) = (answer.status(), transport.body(&mut answer, LONGEST).await?);
        if status.is_success() { Ok(body) } else { Err(refusal(status, &String::from_utf8_lossy(&body))) }
    }
}

/// The URL, if keys may come from there: over TLS, or from this machine or a service beside it.
fn near(text: &str) -> std::result::Result<Url, ErrorKind> {
    let bad = || ErrorKind::BadAddress { registry: text.to_owned() };
    let url = Url::parse(text).map_err(|_| bad())?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_near = || {
        let listed = |address: IpAddr| NEARBY.iter().any(|near| near.parse() == Ok(address));
        hosts::is_loopback(&hosts::host_of(&url)) || host.parse().is_ok_and(listed)
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_near() => Ok(url),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_nearby_or_over_tls() {
        for good in [
            "http://127.0.0.1:1/x",
            "http://169.254.170.2/v2",
            "http://[fd00:ec2::254]",
            "https://keys.example/",
        ] {
            assert!(near(good).is_ok(), "{good}");
        }
        for bad in ["http://keys.example/", "http://169.254.1.1/", "ftp://127.0.0.1/", "nothing"] {
            assert!(near(bad).is_err(), "{bad}");
        }
        let authorization = Some("secret".to_owned());
        let service =
            KeyService::Container { url: "http://x".to_owned(), authorization, authorization_file: None };
        assert!(!format!("{service:?}").contains("secret"));
    }
}
