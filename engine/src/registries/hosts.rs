//! How registries are reached, as the files of this machine say.
//!
//! The first that says something of a registry decides: containerd's `hosts.toml`, `registries.conf`, `buildkitd.toml`,
//! `daemon.json`; each the user's before the system's. Certificates in `certs.d` directories are for every endpoint of their
//! host. With none of all that, a registry is reached as usual.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{Fault, Faulty};
use registry::endpoint::{EndpointSpec, Hosts, RouteError, Tls};
use registry::host_files::buildkitd_toml::BuildkitdToml;
use registry::host_files::daemon_json::DaemonJson;
use registry::host_files::registries_conf::RegistriesConf;
use registry::host_files::{BadHost, EndpointRule, HostFileError, Said, Scheme, certificates, hosts_toml};
use sys::path_error::PathError;

use super::RegistryFiles;

/// Larger files are no configuration.
const LARGEST_FILE: u64 = 4 << 20;

/// Why the files do not say how a registry is reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HostsError {
    /// A file cannot be read.
    #[error("{0}")]
    File(Arc<PathError>),
    /// A file does not make sense.
    #[error(transparent)]
    Syntax(#[from] HostFileError),
    /// A file is not text.
    #[error("{} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// A host is not one.
    #[error(transparent)]
    Host(#[from] BadHost),
    /// A file of certificates has no other half.
    #[error("{} has no {other} beside it", path.display())]
    HalfAPair {
        /// The file.
        path: PathBuf,
        /// What is missing.
        other: String,
    },
    /// The registry is forbidden.
    #[error("{} blocks it", .0.display())]
    Blocked(PathBuf),
}

impl From<PathError> for HostsError {
    fn from(error: PathError) -> Self {
        Self::File(Arc::new(error))
    }
}

impl Faulty for HostsError {
    fn fault(&self) -> Fault {
        match self {
            Self::File(error) => error.fault(),
            _ => Fault::Input,
        }
    }
}

/// The files that are about all registries.
struct Common {
    registries_conf: RegistriesConf,
    /// Where that is from.
    registries_conf_path: PathBuf,
    buildkit: Vec<(PathBuf, BuildkitdToml)>,
    daemon: Vec<(PathBuf, DaemonJson)>,
}

/// The files of this machine; each is read once, when a registry is first asked, and again when settings have changed.
pub(crate) struct HostFiles {
    files: RegistryFiles,
    /// Whether registries of which the files say nothing are reached in any way.
    trusts: bool,
    found: Mutex<Found>,
}

/// What was read.
#[derive(Default)]
struct Found {
    /// How often settings had changed by then.
    generation: u64,
    common: Option<Arc<Common>>,
    /// What was found for a registry's repository.
    known: HashMap<(String, String), Vec<EndpointSpec>>,
}

impl HostFiles {
    /// Registries of which the files say nothing are reached as usual, or in any way if they are trusted.
    pub(crate) fn new(files: &RegistryFiles, trusts: bool) -> Self {
        Self { files: files.clone(), trusts, found: Mutex::default() }
    }

    /// What is known, if it is not of before the last change.
    fn found(&self) -> MutexGuard<'_, Found> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.files.settings.generation();
        if found.generation != generation {
            *found = Found { generation, ..Found::default() };
        }
        found
    }

    fn common(&self) -> Result<Arc<Common>, HostsError> {
        if let Some(common) = &self.found().common {
            return Ok(Arc::clone(common));
        }
        let common = Arc::new(self.read_common()?);
        Ok(Arc::clone(self.found().common.get_or_insert(common)))
    }

    fn find(&self, registry: &str, repository: &str) -> Result<Vec<EndpointSpec>, HostsError> {
        let (rules, source) = match self.said(registry, repository)? {
            (Said::Blocked, source) => return Err(HostsError::Blocked(source)),
            (Said::Endpoints(rules), source) => (rules, source.display().to_string()),
            (Said::Nothing, _) if self.has_certificates(registry)? => {
                (vec![EndpointRule::new(registry, Scheme::Usual)], "certificates for it".to_owned())
            }
            (Said::Nothing, _) if self.trusts => {
                (vec![EndpointRule::new(registry, Scheme::Either)], "registry.insecure".to_owned())
            }
            (Said::Nothing, _) => return Ok(Vec::new()),
        };
        let mut specs = Vec::with_capacity(rules.len());
        for rule in rules {
            let tls = self.tls(&rule)?;
            specs.extend(rule.specs(registry, tls, &source)?);
        }
        EndpointSpec::chain(&mut specs);
        Ok(specs)
    }

    /// What the first file says that says something, and which that is.
    fn said(&self, registry: &str, repository: &str) -> Result<(Said, PathBuf), HostsError> {
        for directory in &self.files.directories {
            if let Some(path) = hosts_toml_of(directory, registry)?
                && let Some(text) = text_of(&path)?
            {
                return Ok((Said::Endpoints(hosts_toml::parse(&path, &text, registry)?), path));
            }
        }
        let common = self.common()?;
        let mut all =
            vec![(common.registries_conf.rules(registry, repository), &common.registries_conf_path)];
        all.extend(common.buildkit.iter().map(|(path, file)| (file.rules(registry), path)));
        all.extend(common.daemon.iter().map(|(path, file)| (file.rules(registry), path)));
        let found = all.into_iter().find(|(said, _)| *said != Said::Nothing);
        Ok(found.map_or((Said::Nothing, PathBuf::new()), |(said, path)| (said, path.clone())))
    }

    fn read_common(&self) -> Result<Common, HostsError> {
        let (registries_conf, registries_conf_path) = self.read_registries_conf()?;
        let (mut buildkit, mut daemon) = (Vec::new(), Vec::new());
        if let Some(path) = &self.files.buildkit_file
            && let Some(text) = text_of(path)?
        {
            buildkit.push((path.clone(), BuildkitdToml::parse(path, &text)?));
        }
        if let Some(text) = self.files.settings.text() {
            let path = PathBuf::from("the daemon's flags");
            let file = DaemonJson::parse(&path, &text)?;
            daemon.push((path, file));
        }
        for directory in &self.files.directories {
            let path = directory.join("buildkit/buildkitd.toml");
            if let Some(text) = text_of(&path)? {
                let file = BuildkitdToml::parse(&path, &text)?;
                buildkit.push((path, file));
            }
            let path = directory.join("docker/daemon.json");
            if let Some(text) = text_of(&path)? {
                let file = DaemonJson::parse(&path, &text)?;
                daemon.push((path, file));
            }
        }
        Ok(Common { registries_conf, registries_conf_path, buildkit, daemon })
    }

    /// The user's file replaces the system's; those in `.d` directories add to it, the user's last.
    fn read_registries_conf(&self) -> Result<(RegistriesConf, PathBuf), HostsError> {
        let mut conf = RegistriesConf::default();
        let mut main = PathBuf::from("registries.conf");
        let usual = self.files.directories.iter().map(|at| at.join("containers/registries.conf"));
        for path in self.files.registries_conf.clone().into_iter().chain(usual) {
            if let Some(text) = text_of(&path)? {
                conf = RegistriesConf::parse(&path, &text)?;
                main = path;
                break;
            }
        }
        for directory in self.files.directories.iter().rev() {
            let more = directory.join("containers/registries.conf.d");
            for name in names_in(&more)?.into_iter().filter(|name| name.ends_with(".conf")) {
                let path = more.join(name);
                if let Some(text) = text_of(&path)? {
                    conf = conf.merged(RegistriesConf::parse(&path, &text)?);
                }
            }
        }
        Ok((conf, main))
    }

    /// The directories with certificates of a host.
    fn certificate_directories(&self, host: &str) -> Vec<PathBuf> {
        let kinds = ["docker/certs.d", "containers/certs.d", "containerd/certs.d", "buildkit/certs.d"];
        let is_name = !host.contains('/') && !host.starts_with('.');
        let all = self.files.directories.iter().flat_map(|at| kinds.map(|kind| at.join(kind).join(host)));
        if is_name { all.collect() } else { Vec::new() }
    }

    fn has_certificates(&self, host: &str) -> Result<bool, HostsError> {
        for directory in self.certificate_directories(host) {
            if names_in(&directory)?.iter().any(|name| name.ends_with(".crt") || name.ends_with(".cert")) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The certificates of an endpoint: those that its rule names, and those in the directories of its host.
    fn tls(&self, rule: &EndpointRule) -> Result<Tls, HostsError> {
        let mut tls = Tls { skip_verify: rule.skip_verify, ..Tls::default() };
        let (mut roots, mut identities) = (rule.roots.clone(), rule.identities.clone());
        for directory in self.certificate_directories(&rule.host) {
            let half =
                |(name, other): (String, String)| HostsError::HalfAPair { path: directory.join(name), other };
            let files = certificates::sort(&names_in(&directory)?).map_err(half)?;
            roots.extend(files.roots.iter().map(|name| directory.join(name)));
            let pair = |(certificate, key): &(String, String)| {
                (directory.join(certificate), Some(directory.join(key)))
            };
            identities.extend(files.identities.iter().map(pair));
        }
        for path in roots {
            tls.roots.push((path.display().to_string(), sys::fs::read(&path)?));
        }
        // Of several, the first is as good as any: which one a server wants is not known before.
        if let Some((certificate, key)) = identities.into_iter().next() {
            let mut pem = sys::fs::read(&certificate)?;
            if let Some(key) = key {
                pem.push(b'\n');
                pem.extend(sys::fs::read(&key)?);
            }
            tls.identity = Some((certificate.display().to_string(), pem));
        }
        Ok(tls)
    }
}

impl Hosts for HostFiles {
    fn endpoints(&self, registry: &str, repository: &str) -> Result<Vec<EndpointSpec>, RouteError> {
        let key = (registry.to_owned(), repository.to_owned());
        if let Some(specs) = self.found().known.get(&key) {
            return Ok(specs.clone());
        }
        let specs = self.find(registry, repository).map_err(|error| RouteError::from(Box::from(error)))?;
        self.found().known.insert(key, specs.clone());
        Ok(specs)
    }
}

/// The `hosts.toml` of a registry below a directory, by any of the names that containerd looks for.
fn hosts_toml_of(directory: &Path, registry: &str) -> Result<Option<PathBuf>, HostsError> {
    let all = directory.join("containerd/certs.d");
    let with_port = registry.replace(':', "_") + "_";
    for name in [registry, &with_port, "_default"] {
        let path = all.join(name).join("hosts.toml");
        if !name.starts_with('.') && sys::fs::exists(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A file's text; `None` when there is no such file.
fn text_of(path: &Path) -> Result<Option<String>, HostsError> {
    match sys::fs::read_limited(path, LARGEST_FILE) {
        Ok(Some(bytes)) => {
            String::from_utf8(bytes).map(Some).map_err(|_| HostsError::NotText(path.to_owned()))
        }
        Ok(None) => Ok(None),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names in a directory, in order; none when there is no such directory.
fn names_in(directory: &Path) -> Result<Vec<String>, HostsError> {
    let mut names: Vec<String> = match sys::fs::list(directory) {
        Ok(names) => names.into_iter().filter_map(|name| name.into_string().ok()).collect(),
        Err(error) if is_missing(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    names.sort_unstable();
    Ok(names)
}

/// Whether nothing is there, or nothing that we may see: what only root may read is for root's programs.
fn is_missing(error: &PathError) -> bool {
    error.is_not_found()
        || matches!(error.kind(), std::io::ErrorKind::NotADirectory | std::io::ErrorKind::PermissionDenied)
}
