//! Reads the `WWW-Authenticate` header, by which a registry says how it wants to be logged in to.
//!
//! Source: RFC 9110, section 11.6.1, and the distribution project's token authentication document.

use reqwest::header::{self, HeaderMap};

use crate::http_error::printable;

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With user name and password on every request.
    Basic,
    /// With a token from a token server.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// What the token server calls this registry.
        service: Option<String>,
        /// The rights the refused request needs.
        scope: Option<String>,
    },
}

impl std::fmt::Display for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Basic => f.write_str("a user name and password (Basic)"),
            Self::Bearer { realm, .. } => write!(f, "a token of {} (Bearer)", printable(realm, 200)),
        }
    }
}

/// The best challenge that the headers hold, bearer before basic; `None` when none is understood.
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let challenges: Vec<Challenge> = values.filter_map(parse).collect();
    let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(challenges.first()).cloned()
}

fn parse(value: &str) -> Option<Challenge> {
    let (scheme, parameters) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameters = parse_parameters(parameters);
    let find = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    Some(Challenge::Bearer { realm: find("realm")?, service: find("service"), scope: find("scope") })
}

/// `name=value` pairs, separated by commas; a value may be quoted, with backslash escapes.
fn parse_parameters(text: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, remaining) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => take_quoted(quoted),
            None => {
                let (value, remaining) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), remaining)
            }
        };
        parameters.push((name.trim_matches([' ', ',']).to_owned(), value));
        rest = remaining;
    }
    parameters
}

/// The text up to the closing quote, and what follows it. A missing quote ends at the end.
fn take_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &text[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn bearer_challenges_are_read() {
        let usual = r#"Bearer realm="https://a/token",service="s",scope="repository:x:pull,push""#;
        assert_eq!(parse(usual), bearer("https://a/token", Some("s"), Some("repository:x:pull,push")));
        assert_eq!(
            parse(r#"bearer realm=https://a , service="a\"b""#),
            bearer("https://a", Some("a\"b"), None)
        );
        assert_eq!(parse(r#"Bearer realm="unclosed"#), bearer("unclosed", None, None));
    }

    #[test]
    fn others_are_basic_or_nothing() {
        assert_eq!(parse(r#"Basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(parse("Bearer"), None);
        assert_eq!(parse("Negotiate"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn bearer_is_preferred_to_basic() {
        let mut headers = HeaderMap::new();
        headers.append(header::WWW_AUTHENTICATE, "Basic realm=\"x\"".parse().unwrap());
        headers.append(header::WWW_AUTHENTICATE, "Bearer realm=\"https://t\"".parse().unwrap());
        assert_eq!(from_headers(&headers), bearer("https://t", None, None));
    }
}
