//! containerd's `hosts.toml`, of which each registry has one in a directory of its own.
//!
//! Each `[host."URL"]` is an endpoint, in the order of the file; `server` is the last.
//!
//! Source: containerd documentation, "Registry Configuration".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{EndpointRule, HostFileError, OneOrMany, Scheme, split_url, wrong};
use crate::endpoint::{Capabilities, Headers};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    server: Option<Spanned<String>>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, WireHost>,
    // What follows is about the server.
    capabilities: Option<Vec<Spanned<String>>>,
    ca: Option<OneOrMany<PathBuf>>,
    client: Option<WireClient>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany<String>>,
    #[serde(default)]
    override_path: bool,
    #[serde(default, rename = "dial_timeout")]
    _dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHost {
    capabilities: Option<Vec<Spanned<String>>>,
    ca: Option<OneOrMany<PathBuf>>,
    client: Option<WireClient>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany<String>>,
    #[serde(default)]
    override_path: bool,
    #[serde(default, rename = "dial_timeout")]
    _dial_timeout: Option<String>,
}

/// A file, files, or pairs of certificate and key.
#[derive(Deserialize)]
#[serde(untagged)]
enum WireClient {
    File(PathBuf),
    Files(Vec<OneOrMany<PathBuf>>),
}

/// Reads the text of the `hosts.toml` of a registry. Files that it names are relative to its directory.
///
/// # Errors
/// [`HostFileError`] says in which line what is wrong.
pub fn parse(path: &Path, text: &str, registry: &str) -> Result<Vec<EndpointRule>, HostFileError> {
    let wire: Wire = super::toml(path, text)?;
    let mut hosts: Vec<(Spanned<String>, WireHost)> = wire.host.into_iter().collect();
    hosts.sort_by_key(|(url, _)| url.span().start);
    let reader = Reader { path, text, registry };
    let mut rules = Vec::with_capacity(hosts.len() + 1);
    for (url, host) in hosts {
        rules.push(reader.rule(&url, host)?);
    }
    let server = wire.server.unwrap_or_else(|| Spanned::new(0..0, registry.to_owned()));
    let own = WireHost {
        capabilities: wire.capabilities,
        ca: wire.ca,
        client: wire.client,
        skip_verify: wire.skip_verify,
        header: wire.header,
        override_path: wire.override_path,
        _dial_timeout: None,
    };
    rules.push(reader.rule(&server, own)?);
    Ok(rules)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    registry: &'a str,
}

impl Reader<'_> {
    fn rule(&self, url: &Spanned<String>, host: WireHost) -> Result<EndpointRule, HostFileError> {
        let Some((scheme, name, path)) = split_url(url.get_ref()) else {
            let problem = format!("\"{}\" is not the URL of a registry", url.get_ref());
            return Err(wrong(self.path, self.text, url.span().start, &problem));
        };
        let path = match path.strip_suffix("/v2").unwrap_or(path) {
            _ if host.override_path => path.to_owned(),
            above => format!("{above}/v2"),
        };
        let file = |file: PathBuf| self.path.parent().unwrap_or(Path::new("/")).join(file);
        let all = |files: Option<OneOrMany<PathBuf>>| files.map(OneOrMany::into_vec).unwrap_or_default();
        let headers = host
            .header
            .into_iter()
            .flat_map(|(name, values)| values.into_vec().into_iter().map(move |value| (name.clone(), value)));
        let identity = |pair: OneOrMany<PathBuf>| {
            let mut files = pair.into_vec().into_iter().map(file);
            files.next().map(|certificate| (certificate, files.next()))
        };
        let identities = match host.client {
            None => Vec::new(),
            Some(WireClient::File(certificate)) => vec![(file(certificate), None)],
            Some(WireClient::Files(pairs)) => pairs.into_iter().filter_map(identity).collect(),
        };
        Ok(EndpointRule {
            path,
            capabilities: self.capabilities(host.capabilities)?,
            skip_verify: host.skip_verify,
            roots: all(host.ca).into_iter().map(file).collect(),
            identities,
            headers: Headers(headers.collect()),
            names_registry: !crate::hosts::is_host_of(name, self.registry),
            ..EndpointRule::new(name, scheme.unwrap_or(Scheme::Usual))
        })
    }

    fn capabilities(&self, list: Option<Vec<Spanned<String>>>) -> Result<Capabilities, HostFileError> {
        let Some(list) = list else { return Ok(Capabilities::ALL) };
        let mut able = Capabilities { resolve: false, pull: false, push: false };
        for word in list {
            match word.get_ref().as_str() {
                "resolve" => able.resolve = true,
                "pull" => able.pull = true,
                "push" => able.push = true,
                // Referrers are read as all else is.
                "referrers" => {}
                other => {
                    let problem = format!("\"{other}\" is no capability; there are pull, resolve and push");
                    return Err(wrong(self.path, self.text, word.span().start, &problem));
                }
            }
        }
        Ok(able)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Vec<EndpointRule>, HostFileError> {
        parse(Path::new("/certs.d/docker.io/hosts.toml"), text, "docker.io")
    }

    #[test]
    fn hosts_come_in_the_order_of_the_file_and_the_server_last() {
        let rules = rules(
            r#"
server = "https://registry-1.docker.io"
[host."https://z.example"]
  capabilities = ["pull", "resolve"]
  ca = "ca.pem"
  [host."https://z.example".header]
    x-one = "1"
    x-two = ["2", "3"]
[host."http://a.example:5000/base/v2"]
  override_path = true
  client = [["/c.pem", "/k.pem"], "both.pem"]
  skip_verify = true
"#,
        )
        .unwrap();
        let hosts: Vec<&str> = rules.iter().map(|rule| rule.host.as_str()).collect();
        assert_eq!(hosts, ["z.example", "a.example:5000", "registry-1.docker.io"]);
        assert_eq!(rules[0].roots, [PathBuf::from("/certs.d/docker.io/ca.pem")]);
        assert_eq!(rules[0].capabilities, Capabilities::READ);
        assert_eq!(rules[0].headers.0.len(), 3);
        assert!(!format!("{:?}", rules[0]).contains("\"2\""), "values of headers may be secret");
        assert!(rules[0].names_registry && !rules[2].names_registry);
        assert_eq!((rules[1].path.as_str(), rules[1].scheme), ("/base/v2", Scheme::Http));
        assert_eq!(rules[1].identities.len(), 2);
        assert_eq!(rules[2].path, "/v2");
    }

    #[test]
    fn a_file_may_say_something_of_the_server_alone() {
        let rules = rules("ca = [\"/a.pem\"]\nskip_verify = true\n").unwrap();
        assert_eq!(rules.len(), 1);
        assert!(rules[0].host == "docker.io" && rules[0].skip_verify && rules[0].roots.len() == 1);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, line, named) in [
            ("[host.\"https://a\"]\ncapabilities = [\"pul\"]\n", 2, "\"pul\" is no capability"),
            ("[host.\"ftp://a\"]\n", 1, "not the URL"),
            ("server = \"https://a\"\n[host.\"https://a\"]\nskip-verify = true\n", 3, "unknown field"),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.line == line && error.problem.contains(named), "{error}");
        }
    }
}
