//! The `[registry."HOST"]` tables of BuildKit's `buildkitd.toml`.
//!
//! A mirror is a host, perhaps with a path, and reached as its own table says.
//!
//! Source: BuildKit documentation, `buildkitd.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{EndpointRule, HostFileError, Said, Scheme, split_url, wrong};
use crate::endpoint::Capabilities;

/// What a `buildkitd.toml` says of registries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildkitdToml {
    registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Registry {
    /// Host and path of each.
    mirrors: Vec<(String, String)>,
    plain: bool,
    insecure: bool,
    roots: Vec<PathBuf>,
    identities: Vec<(PathBuf, Option<PathBuf>)>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    registry: BTreeMap<String, WireRegistry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRegistry {
    #[serde(default)]
    mirrors: Vec<Spanned<String>>,
    #[serde(default)]
    http: bool,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    ca: Vec<PathBuf>,
    #[serde(default)]
    keypair: Vec<KeyPair>,
    #[serde(default, rename = "tlsconfigdir")]
    _directories: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyPair {
    key: PathBuf,
    cert: PathBuf,
}

impl BuildkitdToml {
    /// Reads the text of the file at `path`. All but registries is not looked at.
    ///
    /// # Errors
    /// [`HostFileError`] says in which line what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self, HostFileError> {
        let wire: Wire = super::toml(path, text)?;
        let mut registries = BTreeMap::new();
        for (name, wire) in wire.registry {
            let mut mirrors = Vec::with_capacity(wire.mirrors.len());
            for mirror in wire.mirrors {
                let Some((None, host, mirror_path)) = split_url(mirror.get_ref()) else {
                    let problem =
                        format!("mirror \"{}\" is not a host with or without a path", mirror.get_ref());
                    return Err(wrong(path, text, mirror.span().start, &problem));
                };
                mirrors.push((host.to_owned(), mirror_path.to_owned()));
            }
            let identities = wire.keypair.into_iter().map(|pair| (pair.cert, Some(pair.key))).collect();
            let registry =
                Registry { mirrors, plain: wire.http, insecure: wire.insecure, roots: wire.ca, identities };
            registries.insert(name, registry);
        }
        Ok(Self { registries })
    }

    /// What it says of a registry.
    pub fn rules(&self, registry: &str) -> Said {
        let Some(own) = self.registries.get(registry) else { return Said::Nothing };
        let mirror = |(host, path): &(String, String)| EndpointRule {
            path: format!("/v2{path}"),
            capabilities: Capabilities::READ,
            ..self.rule(host)
        };
        let mut rules: Vec<EndpointRule> = own.mirrors.iter().map(mirror).collect();
        rules.push(self.rule(registry));
        Said::Endpoints(rules)
    }

    fn rule(&self, host: &str) -> EndpointRule {
        let default = Registry::default();
        let registry = self.registries.get(host).unwrap_or(&default);
        let scheme = match registry {
            Registry { plain: true, .. } => Scheme::Http,
            Registry { insecure: true, .. } => Scheme::Https,
            _ => Scheme::Usual,
        };
        EndpointRule {
            skip_verify: registry.insecure,
            roots: registry.roots.clone(),
            identities: registry.identities.clone(),
            ..EndpointRule::new(host, scheme)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BuildkitdToml, HostFileError> {
        BuildkitdToml::parse(Path::new("/b.toml"), text)
    }

    #[test]
    fn mirrors_are_reached_as_their_own_tables_say() {
        let file = parse(
            r#"
debug = true
[worker.oci]
  gc = true
[registry."docker.io"]
  mirrors = ["m.example:5000/hub", "n.example"]
[registry."m.example:5000"]
  http = true
[registry."n.example"]
  insecure = true
  ca = ["/ca.pem"]
  [[registry."n.example".keypair]]
    key = "/k.pem"
    cert = "/c.pem"
"#,
        )
        .unwrap();
        let Said::Endpoints(rules) = file.rules("docker.io") else { panic!("nothing is said") };
        assert_eq!(rules.len(), 3);
        assert_eq!((rules[0].scheme, rules[0].path.as_str()), (Scheme::Http, "/v2/hub"));
        assert!(rules[1].skip_verify && rules[1].roots.len() == 1 && rules[1].identities.len() == 1);
        assert_eq!(rules[2], EndpointRule::new("docker.io", Scheme::Usual));
        assert_eq!(file.rules("quay.io"), Said::Nothing);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = parse("\n[registry.\"a\"]\nmirrors = [\"https://b\"]\n").unwrap_err();
        assert!(error.line == 3 && error.problem.contains("https://b"), "{error}");
        let error = parse("[registry.\"a\"]\nplain-http = true\n").unwrap_err();
        assert!(error.line == 2 && error.problem.contains("unknown field"), "{error}");
    }
}
