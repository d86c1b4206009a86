//! Who we are to servers: which secret goes where.
//!
//! Secrets are found by well-known ids, as in BuildKit:
//!
//! | id | sent |
//! |---|---|
//! | `HTTP_AUTH_HEADER_<host>` | to that host, as the `Authorization` header of a download |
//! | `HTTP_AUTH_TOKEN_<host>` | the same after `Bearer ` |
//! | `GIT_AUTH_HEADER.<host>`, `GIT_AUTH_HEADER` | to that host, or the repository's own, by git |
//! | `GIT_AUTH_TOKEN.<host>`, `GIT_AUTH_TOKEN` | the same, as the password of `x-access-token` |
//!
//! A host is `name:port` or only its name; the more precise id wins, and a header wins over a token.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::EngineError;
use crate::request::{BuildRequest, SshSource};

/// The id of the agent that git may use.
const DEFAULT_AGENT: &str = "default";

/// What a build may show to servers of what it knows. Shows nothing of it in its debug form.
#[derive(Clone, Default)]
pub struct Access {
    /// Secrets by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The socket of an SSH agent.
    pub ssh_agent: Option<PathBuf>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&String> = self.secrets.keys().collect();
        f.debug_struct("Access").field("secrets", &ids).field("ssh_agent", &self.ssh_agent).finish()
    }
}

/// A header for all URLs of one origin.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OriginHeader {
    /// Scheme, host and port with a slash, as in `https://host/`.
    pub(crate) origin: String,
    /// `Authorization: …`
    pub(crate) header: String,
}

impl Access {
    /// What a build may show: those of its secrets that are for servers, and its default SSH agent.
    ///
    /// # Errors
    /// A secret cannot be read.
    pub(crate) fn of(request: &BuildRequest) -> Result<Self, EngineError> {
        let for_servers = |id: &str| id.starts_with("GIT_AUTH_") || id.starts_with("HTTP_AUTH_");
        let mut secrets = BTreeMap::new();
        for id in request.secrets.ids().filter(|id| for_servers(id)) {
            if let Some(value) = request.secrets.get(id)? {
                secrets.insert(id.to_owned(), value);
            }
        }
        let ssh_agent = match request.ssh.get(DEFAULT_AGENT) {
            Some(SshSource::Agent(socket)) => Some(socket.clone()),
            _ => None,
        };
        Ok(Self { secrets, ssh_agent })
    }

    /// The value of the `Authorization` header for a download.
    pub(crate) fn of_download(&self, url: &str) -> Option<String> {
        hosts(url).find_map(|host| {
            let header = self.text(&format!("HTTP_AUTH_HEADER_{host}"));
            let token =
                || self.text(&format!("HTTP_AUTH_TOKEN_{host}")).map(|token| format!("Bearer {token}"));
            header.or_else(token)
        })
    }

    /// What git sends along: to the repository's own host, and to every host that has a secret by name, for
    /// submodules.
    pub(crate) fn of_repository(&self, remote: &str) -> Vec<OriginHeader> {
        let mut headers = Vec::new();
        if let Some(origin) = origin(remote) {
            let by_host = hosts(remote).find_map(|host| self.git_header(&format!(".{host}")));
            if let Some(header) = by_host.or_else(|| self.git_header("")) {
                headers.push(OriginHeader { origin, header });
            }
        }
        let named = self.secrets.keys().filter_map(|id| {
            id.strip_prefix("GIT_AUTH_TOKEN.").or_else(|| id.strip_prefix("GIT_AUTH_HEADER."))
        });
        for host in named {
            let origin = format!("https://{host}/");
            let known = headers.iter().any(|known| known.origin == origin);
            if let Some(header) = self.git_header(&format!(".{host}")).filter(|_| !known) {
                headers.push(OriginHeader { origin, header });
            }
        }
        headers
    }

    fn git_header(&self, suffix: &str) -> Option<String> {
        let header = self.text(&format!("GIT_AUTH_HEADER{suffix}"));
        let token = || {
            let token = self.text(&format!("GIT_AUTH_TOKEN{suffix}"))?;
            Some(format!("basic {}", STANDARD.encode(format!("x-access-token:{token}"))))
        };
        header.or_else(token).map(|value| format!("Authorization: {value}"))
    }

    /// A secret that is text, without the line end of the file that it came from.
    fn text(&self, id: &str) -> Option<String> {
        let text = std::str::from_utf8(self.secrets.get(id)?).ok()?;
        Some(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// The ways to name the host of an `http` or `https` URL: with its port, and without.
fn hosts(url: &str) -> impl Iterator<Item = &str> {
    let authority = authority(url);
    let name = authority.and_then(|authority| authority.rsplit_once(':')).map(|(name, _)| name);
    authority.into_iter().chain(name)
}

fn authority(url: &str) -> Option<&str> {
    if !base::git_url::is_http(url) {
        return None;
    }
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}

fn origin(url: &str) -> Option<String> {
    let (scheme, _) = url.split_once("://")?;
    Some(format!("{}://{}/", scheme.to_ascii_lowercase(), authority(url)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(secrets: &[(&str, &str)]) -> Access {
        let secrets = secrets.iter().map(|(id, value)| ((*id).to_owned(), value.as_bytes().to_vec()));
        Access { secrets: secrets.collect(), ssh_agent: None }
    }

    #[test]
    fn downloads_get_the_secret_of_their_host() {
        let access = access(&[
            ("HTTP_AUTH_TOKEN_a.example", "token\n"),
            ("HTTP_AUTH_HEADER_a.example:81", "Basic x"),
            ("HTTP_AUTH_TOKEN_a.example:81", "unused"),
        ]);
        let of = |url: &str| access.of_download(url);
        assert_eq!(of("https://a.example/file").as_deref(), Some("Bearer token"));
        assert_eq!(of("https://a.example:443/file").as_deref(), Some("Bearer token"));
        assert_eq!(of("http://user@a.example:81?x").as_deref(), Some("Basic x"));
        assert_eq!(of("https://b.example/a.example"), None);
        assert_eq!(of("https://b.example?@a.example"), None);
    }

    #[test]
    fn repositories_get_a_secret_for_their_origin_only() {
        let access = access(&[("GIT_AUTH_TOKEN", "t"), ("GIT_AUTH_HEADER.sub.example", "Bearer s")]);
        let shown = |remote: &str| -> Vec<String> {
            let headers = access.of_repository(remote);
            headers.iter().map(|one| format!("{} {}", one.origin, one.header)).collect()
        };
        let submodules = "https://sub.example/ Authorization: Bearer s";
        let own = "https://a.example/ Authorization: basic eC1hY2Nlc3MtdG9rZW46dA==";
        assert_eq!(shown("https://a.example/x.git"), [own, submodules]);
        assert_eq!(shown("https://sub.example/x.git"), [submodules]);
        assert_eq!(shown("git@a.example:x"), [submodules]);
    }

    #[test]
    fn the_debug_form_keeps_secrets() {
        let shown = format!("{:?}", access(&[("GIT_AUTH_TOKEN", "hidden")]));
        assert!(shown.contains("GIT_AUTH_TOKEN") && !shown.contains("hidden"));
    }
}
