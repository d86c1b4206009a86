//! `registries.conf` (version 2) of Podman, Buildah and Skopeo, with the files of its `.d` directory.
//!
//! The `[[registry]]` with the longest `prefix` that a name begins with says where that part of the name really is
//! (`location`), which mirrors are asked before, and whether it is `insecure` or `blocked`. Names without a registry are not
//! looked up: they mean the same on every machine.
//!
//! Source: `containers-registries.conf(5)`.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::{EndpointRule, HostFileError, Said, Scheme, split_url, wrong};
use crate::endpoint::Capabilities;

/// What the files say, the later ones before the earlier.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistriesConf {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// A host, host and path, or `*.` and the end of a host.
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    location: String,
    insecure: bool,
    capabilities: Capabilities,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    registry: Vec<Spanned<WireRegistry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WireRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<WireMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WireMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<PullFromMirror>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum PullFromMirror {
    All,
    DigestOnly,
    TagOnly,
}

impl RegistriesConf {
    /// Reads the text of one file.
    ///
    /// # Errors
    /// [`HostFileError`] says in which line what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self, HostFileError> {
        let wire: Wire = super::toml(path, text)?;
        let mut entries = Vec::with_capacity(wire.registry.len());
        for registry in wire.registry {
            let start = registry.span().start;
            let entry = Entry::of(registry.into_inner());
            entries.push(entry.map_err(|problem| wrong(path, text, start, &problem))?);
        }
        Ok(Self { entries })
    }

    /// Both, `later` before this.
    #[must_use]
    pub fn merged(mut self, later: Self) -> Self {
        self.entries.retain(|entry| later.entries.iter().all(|new| new.prefix != entry.prefix));
        self.entries.extend(later.entries);
        self
    }

    /// What is said of a repository.
    pub fn rules(&self, registry: &str, repository: &str) -> Said {
        let name = format!("{registry}/{repository}");
        let fitting = self.entries.iter().filter_map(|entry| Some((entry, entry.rest(&name)?)));
        let Some((entry, rest)) = fitting.max_by_key(|(entry, _)| entry.prefix.len()) else {
            return Said::Nothing;
        };
        if entry.blocked {
            return Said::Blocked;
        }
        let mut rules = Vec::with_capacity(entry.mirrors.len() + 1);
        for mirror in &entry.mirrors {
            let rule = rule(&format!("{}{rest}", mirror.location), mirror.insecure);
            rules.push(EndpointRule { capabilities: mirror.capabilities, ..rule });
        }
        let own = match entry.location.as_str() {
            "" => name.clone(),
            location => format!("{location}{rest}"),
        };
        rules.push(rule(&own, entry.insecure));
        Said::Endpoints(rules)
    }
}

/// The endpoint of a complete name.
fn rule(name: &str, insecure: bool) -> EndpointRule {
    let (host, repository) = name.split_once('/').unwrap_or((name, ""));
    let scheme = if insecure { Scheme::Either } else { Scheme::Usual };
    EndpointRule { repository: Some(repository.to_owned()), ..EndpointRule::new(host, scheme) }
}

impl Entry {
    fn of(wire: WireRegistry) -> Result<Self, String> {
        let WireRegistry { prefix, location, insecure, blocked, mirror_by_digest_only, mirror } = wire;
        let prefix = if prefix.is_empty() { location.clone() } else { prefix };
        if prefix.is_empty() {
            return Err("a [[registry]] has neither prefix nor location".to_owned());
        }
        let is_place = |text: &str| split_url(text).is_some_and(|(scheme, ..)| scheme.is_none());
        let places = std::iter::once(prefix.strip_prefix("*.").unwrap_or(&prefix));
        let places = places.chain(mirror.iter().map(|mirror| mirror.location.as_str()));
        for place in places.chain((!location.is_empty()).then_some(location.as_str())) {
            if !is_place(place) {
                return Err(format!("\"{place}\" is not a host with or without a path (and no https://)"));
            }
        }
        let mirrors = mirror.into_iter().map(|wire| Mirror::of(wire, mirror_by_digest_only)).collect();
        Ok(Self { prefix, location, insecure, blocked, mirrors })
    }

    /// What of `name` follows the prefix, if it begins with it: nothing, or a slash and more.
    fn rest<'n>(&self, name: &'n str) -> Option<&'n str> {
        if let Some(end) = self.prefix.strip_prefix('*') {
            let (host, _) = name.split_once('/')?;
            let bare = host.split(':').next().unwrap_or(host);
            return (bare.ends_with(end) || host.ends_with(end)).then(|| &name[host.len()..]);
        }
        let rest = name.strip_prefix(self.prefix.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

impl Mirror {
    fn of(wire: WireMirror, by_digest_only: bool) -> Self {
        let by_digest = Capabilities { resolve: false, pull: true, push: false };
        let capabilities = match wire.pull_from_mirror {
            Some(PullFromMirror::DigestOnly) => by_digest,
            // Blobs are always asked for by digest, so tags alone would be of no use.
            Some(PullFromMirror::TagOnly | PullFromMirror::All) => Capabilities::READ,
            None if by_digest_only => by_digest,
            None => Capabilities::READ,
        };
        let location = wire.location.trim_end_matches('/').to_owned();
        Self { location, insecure: wire.insecure, capabilities }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RegistriesConf, HostFileError> {
        RegistriesConf::parse(Path::new("/r.conf"), text)
    }

    /// `host/repository` of each endpoint.
    fn places(conf: &RegistriesConf, registry: &str, repository: &str) -> Vec<String> {
        match conf.rules(registry, repository) {
            Said::Endpoints(rules) => {
                let place =
                    |rule: EndpointRule| format!("{}/{}", rule.host, rule.repository.unwrap_or_default());
                rules.into_iter().map(place).collect()
            }
            Said::Blocked => vec!["blocked".to_owned()],
            Said::Nothing => Vec::new(),
        }
    }

    const TEXT: &str = r#"
unqualified-search-registries = ["quay.io"]
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000/hub"
insecure = true
[[registry]]
prefix = "docker.io/bad"
blocked = true
[[registry]]
prefix = "old.example/team"
location = "new.example/moved"
[[registry]]
prefix = "*.corp.example"
insecure = true
[aliases]
"tool" = "quay.io/team/tool"
"#;

    #[test]
    fn the_longest_prefix_says_where_a_name_is() {
        let conf = parse(TEXT).unwrap();
        let hub = ["mirror.example:5000/hub/library/debian", "docker.io/library/debian"];
        assert_eq!(places(&conf, "docker.io", "library/debian"), hub);
        assert_eq!(places(&conf, "docker.io", "bad/x"), ["blocked"]);
        assert_eq!(places(&conf, "docker.io", "badly/x").len(), 2);
        assert_eq!(places(&conf, "old.example", "team/app"), ["new.example/moved/app"]);
        assert_eq!(places(&conf, "old.example", "other"), [""; 0]);
        assert_eq!(places(&conf, "a.corp.example:5000", "x"), ["a.corp.example:5000/x"]);
    }

    #[test]
    fn a_later_file_replaces_what_is_said_of_a_prefix() {
        let later = parse("[[registry]]\nlocation = \"docker.io\"\n").unwrap();
        let conf = parse(TEXT).unwrap().merged(later);
        assert_eq!(places(&conf, "docker.io", "library/debian"), ["docker.io/library/debian"]);
        assert_eq!(places(&conf, "docker.io", "bad/x"), ["blocked"]);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, line, named) in [
            ("[[registry]]\ninsecure = true\n", 1, "neither prefix nor location"),
            ("[[registry]]\nlocation = \"a\"\ninsecur = true\n", 3, "unknown field `insecur`"),
            ("\n[[registry]]\nlocation = \"https://a\"\n", 2, "no https://"),
            ("x =\n", 1, ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.line == line && error.problem.contains(named), "{error}");
        }
    }
}
