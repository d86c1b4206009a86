//! `buildkitd.toml`: what a daemon does when its command line does not say (BuildKit, `docs/buildkitd.toml.md`).
//!
//! What BuildKit knows and means nothing here is passed over; what nobody knows is told, and is no error, as with BuildKit. The
//! tables about registries are read where registries are (`RegistryFiles::buildkit_file`).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config_file::ConfigFileError;
use crate::history::HistoryLimits;
use crate::retention::{Retention, Worker, duration};

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildkitdFile {
    /// The store.
    pub root: Option<PathBuf>,
    /// Where to listen.
    pub addresses: Vec<String>,
    /// Where to show numbers.
    pub debug_address: Option<String>,
    /// The group that may use the sockets.
    pub group: Option<u32>,
    /// Certificate, key and the authority of clients' certificates.
    pub tls: TlsFiles,
    /// What clients may ask for.
    pub entitlements: Vec<String>,
    /// What of the cache is kept.
    pub retention: Retention,
    /// How many builds are remembered, and for how long, if the file says so.
    pub history: Option<HistoryLimits>,
    /// How many processes of steps run at once.
    pub jobs: Option<NonZeroUsize>,
    /// Labels of the worker.
    pub labels: Vec<(String, String)>,
    /// Settings that nobody knows.
    pub unknown: Vec<String>,
}

/// Files with certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct TlsFiles {
    /// The daemon's certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The authority that clients need a certificate of.
    pub ca: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    root: Option<PathBuf>,
    #[serde(rename = "insecure-entitlements")]
    entitlements: Vec<String>,
    grpc: Grpc,
    history: Option<History>,
    worker: toml::Table,
}

/// What of one is not said is BuildKit's own value.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct History {
    #[serde(deserialize_with = "duration")]
    max_age: Duration,
    max_entries: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(48 * 3600), max_entries: 50 }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Grpc {
    address: Vec<String>,
    #[serde(rename = "debugAddress")]
    debug_address: Option<String>,
    gid: Option<u32>,
    tls: TlsFiles,
}

/// What BuildKit knows besides; of `worker.oci` what is about collection is known elsewhere.
const KNOWN: [&str; 17] = [
    "root",
    "debug",
    "trace",
    "insecure-entitlements",
    "proxyNetwork",
    "provenanceEnvDir",
    "log",
    "dns",
    "grpc",
    "otel",
    "cdi",
    "history",
    "system",
    "frontend",
    "registry",
    "cache",
    "worker",
];
const KNOWN_OF_WORKERS: [&str; 24] = [
    "enabled",
    "platforms",
    "snapshotter",
    "rootless",
    "noProcessSandbox",
    "labels",
    "binary",
    "proxySnapshotterPath",
    "defaultCgroupParent",
    "stargzSnapshotter",
    "apparmor-profile",
    "selinux",
    "max-parallelism",
    "networkMode",
    "cniConfigPath",
    "cniBinaryPath",
    "cniPoolSize",
    "bridgeName",
    "bridgeSubnet",
    "address",
    "namespace",
    "runtime",
    "maxParallelism",
    "cniPoolPath",
];
const COLLECTION: [&str; 6] =
    ["gc", "reservedSpace", "maxUsedSpace", "minFreeSpace", "gckeepstorage", "gcpolicy"];

impl BuildkitdFile {
    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigFileError`] says in which line what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigFileError> {
        let wrong = |error: toml::de::Error| ConfigFileError::of(path, text, &error);
        let table: toml::Table = toml::from_str(text).map_err(wrong)?;
        let file: File = toml::from_str(text).map_err(wrong)?;
        let mut unknown: Vec<String> = unknown_of(&table, "", &KNOWN);
        let mut collection = toml::Table::new();
        let (mut jobs, mut labels) = (None, Vec::new());
        for (kind, worker) in &file.worker {
            let Some(worker) = worker.as_table() else { continue };
            let is_known = |name: &&str| KNOWN_OF_WORKERS.contains(name) || COLLECTION.contains(name);
            let names = worker.keys().map(String::as_str).filter(|name| !is_known(name));
            unknown.extend(names.map(|name| format!("worker.{kind}.{name}")));
            if kind != "oci" {
                continue;
            }
            collection =
                worker.iter().filter(|(name, _)| COLLECTION.contains(&name.as_str())).map(owned).collect();
            let number = worker.get("max-parallelism").and_then(toml::Value::as_integer);
            jobs = number.and_then(|number| NonZeroUsize::new(usize::try_from(number).ok()?));
            let all = worker.get("labels").and_then(toml::Value::as_table).into_iter().flatten();
            labels =
                all.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        }
        let worker = toml::Table::from_iter([("oci".to_owned(), collection.into())]);
        // Lines are those of the piece that was cut out, so the name says more.
        let worker: Worker = worker.try_into().map_err(|error: toml::de::Error| ConfigFileError {
            path: path.to_owned(),
            line: text.lines().position(|line| line.contains("[worker.oci")).unwrap_or(0) + 1,
            problem: format!("[worker.oci]: {}", error.message()),
        })?;
        Ok(Self {
            root: file.root,
            addresses: file.grpc.address,
            debug_address: file.grpc.debug_address.filter(|address| !address.is_empty()),
            group: file.grpc.gid.filter(|group| *group != 0),
            tls: file.grpc.tls,
            entitlements: file.entitlements,
            retention: worker.retention(path),
            history: file
                .history
                .map(|history| HistoryLimits { most: history.max_entries, age: history.max_age }),
            jobs,
            labels,
            unknown,
        })
    }
}

fn owned((name, value): (&String, &toml::Value)) -> (String, toml::Value) {
    (name.clone(), value.clone())
}

fn unknown_of(table: &toml::Table, prefix: &str, known: &[&str]) -> Vec<String> {
    let names = table.keys().filter(|name| !known.contains(&name.as_str()));
    names.map(|name| format!("{prefix}{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_here_is_read_and_the_rest_passed_over() {
        let text = r#"
root = "/var/lib/buildkit"
debug = true
insecure-entitlements = ["network.host", "security.insecure"]
misspelt = 1
[history]
  maxAge = "36h"
[log]
  format = "text"
[grpc]
  address = ["unix:///run/buildkit/buildkitd.sock", "tcp://0.0.0.0:1234"]
  debugAddress = "127.0.0.1:6060"
  gid = 1000
  [grpc.tls]
    cert = "/c"
    key = "/k"
    ca = "/a"
[worker.oci]
  enabled = true
  gc = false
  max-parallelism = 4
  nonsense = 1
  [worker.oci.labels]
    "team" = "a"
  [[worker.oci.gcpolicy]]
    keepDuration = "48h"
    maxUsedSpace = "512MB"
[worker.containerd]
  address = "/run/containerd/containerd.sock"
[registry."docker.io"]
  mirrors = ["mirror:5000"]
"#;
        let file = BuildkitdFile::parse(Path::new("/f"), text).unwrap();
        assert_eq!(file.root.as_deref(), Some(Path::new("/var/lib/buildkit")));
        assert_eq!((file.addresses.len(), file.group), (2, Some(1000)));
        assert_eq!(file.debug_address.as_deref(), Some("127.0.0.1:6060"));
        assert_eq!(file.tls.ca.as_deref(), Some(Path::new("/a")));
        assert_eq!(file.entitlements, ["network.host", "security.insecure"]);
        assert_eq!((file.jobs.map(NonZeroUsize::get), file.retention.is_enabled()), (Some(4), false));
        assert_eq!(file.labels, [("team".to_owned(), "a".to_owned())]);
        let limits = HistoryLimits { most: 50, age: Duration::from_secs(36 * 3600) };
        assert_eq!(file.history, Some(limits));
        assert_eq!(file.unknown, ["misspelt", "worker.oci.nonsense"]);
    }

    #[test]
    fn mistakes_have_a_line() {
        let wrong = |text: &str| BuildkitdFile::parse(Path::new("/f"), text).unwrap_err();
        assert_eq!(wrong("\nroot = 1\n").line, 2);
        assert_eq!(wrong("[grpc]\naddress = 7\n").line, 2);
        assert_eq!(wrong("\n\n[worker.oci]\ngc = \"perhaps\"\n").line, 3);
        assert_eq!(wrong("[[[").line, 1);
    }
}
