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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::caller::AgentWay;
use crate::error::EngineError;
use crate::request::{BuildRequest, Secrets, SshSources};

/// The id of the agent that git may use.
const DEFAULT_AGENT: &str = "default";

/// What a build may show to servers of what it knows. Shows nothing of it in its debug form.
#[derive(Clone, Default)]
pub(crate) struct Access {
    /// Secrets by id, each a line of text.
    secrets: BTreeMap<String, String>,
    /// Where others may be, which somebody is asked for.
    others: Option<Secrets>,
    /// Where SSH keys are.
    ssh: SshSources,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&String> = self.secrets.keys().collect();
        f.debug_struct("Access").field("secrets", &ids).field("ssh", &self.ssh).finish()
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
    /// What a build may show: those of its secrets that are for servers, and its default SSH keys.
    ///
    /// # Errors
    /// A secret cannot be read, or is not a line of text.
    pub(crate) fn of(request: &BuildRequest) -> Result<Self, EngineError> {
        let for_servers = |id: &str| id.starts_with("GIT_AUTH_") || id.starts_with("HTTP_AUTH_");
        let others = request.secrets.asks().then(|| request.secrets.clone());
        let mut access = Self { secrets: BTreeMap::new(), others, ssh: request.ssh.clone() };
        for id in request.secrets.ids().filter(|id| for_servers(id)) {
            if let Some(text) = text_of(&request.secrets, id)? {
                access.secrets.insert(id.to_owned(), text);
            }
        }
        Ok(access)
    }

    /// The way to the SSH agent that git may use.
    ///
    /// # Errors
    /// Whoever has it does not answer.
    pub(crate) fn agent(&self) -> Result<Option<AgentWay>, EngineError> {
        self.ssh.get(DEFAULT_AGENT)
    }

    /// A secret, given or asked for.
    fn secret(&self, id: &str) -> Result<Option<String>, EngineError> {
        match (self.secrets.get(id), &self.others) {
            (Some(text), _) => Ok(Some(text.clone())),
            (None, Some(others)) => text_of(others, id),
            (None, None) => Ok(None),
        }
    }

    /// The value of the `Authorization` header for a download.
    ///
    /// # Errors
    /// Whoever has the secret does not answer, or it is not a line of text.
    pub(crate) fn of_download(&self, url: &str) -> Result<Option<String>, EngineError> {
        for host in hosts(url) {
            if let Some(header) = self.secret(&format!("HTTP_AUTH_HEADER_{host}"))? {
                return Ok(Some(header));
            }
            if let Some(token) = self.secret(&format!("HTTP_AUTH_TOKEN_{host}"))? {
                return Ok(Some(format!("Bearer {token}")));
            }
        }
        Ok(None)
    }

    /// What git sends along: to the repository's own host, and to every host that has a secret by name, for
    /// submodules. A password in the URL wins.
    ///
    /// # Errors
    /// Whoever has the secret does not answer, or it is not a line of text.
    pub(crate) fn of_repository(&self, remote: &str) -> Result<Vec<OriginHeader>, EngineError> {
        let mut headers = Vec::new();
        if let Some(origin) = origin(remote)
            && let Some(header) = self.own_header(remote)?
        {
            headers.push(OriginHeader { origin, header });
        }
        let named = self.secrets.keys().filter_map(|id| {
            id.strip_prefix("GIT_AUTH_TOKEN.").or_else(|| id.strip_prefix("GIT_AUTH_HEADER."))
        });
        for host in named {
            let origin = format!("https://{host}/");
            let known = headers.iter().any(|known| known.origin == origin);
            if let Some(header) = self.git_header(&format!(".{host}"))?.filter(|_| !known) {
                headers.push(OriginHeader { origin, header });
            }
        }
        Ok(headers)
    }

    /// The header for the repository itself.
    fn own_header(&self, remote: &str) -> Result<Option<String>, EngineError> {
        if let Some(both) = credentials(remote) {
            return Ok(Some(format!("Authorization: Basic {}", STANDARD.encode(both))));
        }
        for host in hosts(remote) {
            if let Some(header) = self.git_header(&format!(".{host}"))? {
                return Ok(Some(header));
            }
        }
        self.git_header("")
    }

    fn git_header(&self, suffix: &str) -> Result<Option<String>, EngineError> {
        if let Some(value) = self.secret(&format!("GIT_AUTH_HEADER{suffix}"))? {
            return Ok(Some(format!("Authorization: {value}")));
        }
        let token = self.secret(&format!("GIT_AUTH_TOKEN{suffix}"))?;
        let basic = |token| STANDARD.encode(format!("x-access-token:{token}"));
        Ok(token.map(|token| format!("Authorization: Basic {}", basic(token))))
    }
}

/// A secret as a line of text.
fn text_of(secrets: &Secrets, id: &str) -> Result<Option<String>, EngineError> {
    let Some(value) = secrets.get(id)? else { return Ok(None) };
    line(&value).map(Some).ok_or_else(|| EngineError::SecretNotText { id: id.to_owned() })
}

/// A value as one line of text, without the line end of the file that it came from.
fn line(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches(['\r', '\n']);
    (!text.contains(char::is_control)).then(|| text.to_owned())
}

/// The URL of a repository without the user and password in it. For `http` only; elsewhere the user is part
/// of the name, and there are no passwords.
pub(crate) fn without_credentials(remote: &str) -> String {
    match (authority_with_user(remote), remote.split_once("://")) {
        (Some(authority), Some((scheme, rest))) if authority.contains('@') => {
            let tail = &rest[authority.len()..];
            format!("{scheme}://{}{tail}", without_user(authority))
        }
        _ => remote.to_owned(),
    }
}

/// `user:password` of an `http` URL, decoded.
fn credentials(url: &str) -> Option<Vec<u8>> {
    let (user, _) = authority_with_user(url)?.rsplit_once('@')?;
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut all = base::git_url::percent_decoded(name);
    all.push(b':');
    all.extend(base::git_url::percent_decoded(password));
    Some(all)
}

/// The ways to name the host of an `http` or `https` URL: with its port, and without.
fn hosts(url: &str) -> impl Iterator<Item = &str> {
    let authority = authority(url);
    let name = authority.and_then(|authority| authority.rsplit_once(':')).map(|(name, _)| name);
    authority.into_iter().chain(name)
}

fn authority(url: &str) -> Option<&str> {
    authority_with_user(url).map(without_user)
}

fn authority_with_user(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://").filter(|_| base::git_url::is_http(url))?;
    rest.split(['/', '?', '#']).next()
}

fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

fn origin(url: &str) -> Option<String> {
    let (scheme, _) = url.split_once("://")?;
    Some(format!("{}://{}/", scheme.to_ascii_lowercase(), authority(url)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(secrets: &[(&str, &str)]) -> Access {
        let secrets = secrets.iter().map(|(id, value)| ((*id).to_owned(), (*value).to_owned()));
        Access { secrets: secrets.collect(), ..Access::default() }
    }

    #[test]
    fn downloads_get_the_secret_of_their_host() {
        let access = access(&[
            ("HTTP_AUTH_TOKEN_a.example", "token"),
            ("HTTP_AUTH_HEADER_a.example:81", "Basic x"),
            ("HTTP_AUTH_TOKEN_a.example:81", "unused"),
        ]);
        let of = |url: &str| access.of_download(url).unwrap();
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
            let headers = access.of_repository(remote).unwrap();
            headers.iter().map(|one| format!("{} {}", one.origin, one.header)).collect()
        };
        let submodules = "https://sub.example/ Authorization: Bearer s";
        let own = "https://a.example/ Authorization: Basic eC1hY2Nlc3MtdG9rZW46dA==";
        assert_eq!(shown("https://a.example/x.git"), [own, submodules]);
        assert_eq!(shown("https://sub.example/x.git"), [submodules]);
        assert_eq!(shown("git@a.example:x"), [submodules]);
        let password = "https://a.example/ Authorization: Basic dTpwQHc=";
        assert_eq!(shown("https://u:p%40w@a.example/x.git"), [password, submodules]);
    }

    #[test]
    fn credentials_are_taken_out_of_urls() {
        assert_eq!(without_credentials("https://u:p@h:1/x@y.git"), "https://h:1/x@y.git");
        assert_eq!(without_credentials("https://token@h/x.git"), "https://h/x.git");
        assert_eq!(without_credentials("https://h/x@y.git"), "https://h/x@y.git");
        assert_eq!(without_credentials("ssh://git@h/x"), "ssh://git@h/x");
    }

    #[test]
    fn a_secret_is_a_line_of_text() {
        assert_eq!(line(b"token\r\n").as_deref(), Some("token"));
        assert_eq!(line(b"one\ntwo"), None);
        assert_eq!(line(b"\xff"), None);
    }

    #[test]
    fn the_debug_form_keeps_secrets() {
        let shown = format!("{:?}", access(&[("GIT_AUTH_TOKEN", "hidden")]));
        assert!(shown.contains("GIT_AUTH_TOKEN") && !shown.contains("hidden"));
    }
}
