//! A bundle's `config.json`: reading it, and the one that `spec` writes for a start.

use std::path::{Path, PathBuf};

use base::Mount;
use oci_spec::runtime::Spec;

use super::error::OciError;
use super::limits;
use crate::cgroup::Location;
use crate::request::{RunRequest, SeccompProfile, Stdio};
use crate::spec::{self, Bundle};

/// A configuration may be large: it has a filter of four hundred names, and mounts. This is far beyond that.
const LARGEST: u64 = 16 << 20;

/// A configuration and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) spec: Spec,
    pub(super) path: PathBuf,
    /// The directory of the bundle.
    pub(super) bundle: PathBuf,
}

impl Config {
    /// Reads the configuration of a bundle.
    pub(super) fn read(bundle: &Path) -> Result<Self, OciError> {
        let path = bundle.join("config.json");
        let Some(bytes) = sys::fs::read_limited(&path, LARGEST)? else {
            let problem = format!("is larger than {LARGEST} bytes");
            return Err(OciError::Invalid { path, problem });
        };
        let mut spec: Spec = serde_json::from_slice(&bytes)
            .map_err(|source| OciError::Config { path: path.clone(), source })?;
        if let Some(process) = spec.process_mut() {
            limits::make_attainable(process);
        }
        let config = Self { spec, path, bundle: bundle.to_owned() };
        config.check()?;
        Ok(config)
    }

    fn invalid(&self, problem: impl Into<String>) -> OciError {
        OciError::Invalid { path: self.path.clone(), problem: problem.into() }
    }

    /// Refuses what cannot be carried out, so that nothing is left out silently.
    fn check(&self) -> Result<(), OciError> {
        if !self.spec.version().starts_with("1.") {
            return Err(self.invalid(format!("follows version {} of the spec, not 1", self.spec.version())));
        }
        if self.spec.root().is_none() {
            return Err(self.invalid("has no root filesystem"));
        }
        let Some(linux) = self.spec.linux() else { return Err(self.invalid("has no section for Linux")) };
        if linux.intel_rdt().is_some() {
            return Err(self.invalid("asks for Intel RDT, which is not supported"));
        }
        let process = self.spec.process().as_ref();
        if process.is_some_and(|process| !process.cwd().is_absolute()) {
            return Err(self.invalid("has a working directory that is not absolute"));
        }
        let mounts = linux.namespaces().iter().flatten();
        if !mounts.into_iter().any(|one| one.typ() == oci_spec::runtime::LinuxNamespaceType::Mount) {
            return Err(self.invalid("has no mount namespace, without which the host's mounts would change"));
        }
        Ok(())
    }

    /// The root filesystem.
    pub(super) fn rootfs(&self) -> PathBuf {
        let root = self.spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
        self.bundle.join(root)
    }

    /// Where the control group is to be.
    pub(super) fn location(&self, id: &str) -> Result<Location, OciError> {
        let path = self.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let text =
            path.map_or_else(|| format!("lapstrake-oci/{id}"), |path| path.to_string_lossy().into_owned());
        Ok(Location::parse(&text)?)
    }

    /// The spec with what the plan needs beside it.
    pub(super) fn bundle(&self, stdio: Stdio) -> Bundle {
        Bundle {
            spec: self.spec.clone(),
            root: Mount::Bind { source: self.rootfs(), read_only: false },
            layers: Default::default(),
            directory: self.bundle.clone(),
            volatile_root: false,
            parts: Vec::new(),
            files: Vec::new(),
            seccomp: SeccompProfile::Unconfined,
            create_cwd: true,
            marks: false,
            stdio,
        }
    }
}

/// The configuration that one starts to write one's own from: a shell in a terminal, with Docker's defaults.
pub fn default_spec() -> Result<Spec, OciError> {
    let root = Mount::Bind { source: PathBuf::from("rootfs"), read_only: false };
    let mut request = RunRequest::new(root, vec!["sh".to_owned()]);
    request.env.push("TERM=xterm".to_owned());
    request.read_only_root = true;
    request.no_new_privileges = true;
    request.hostname = Some("lapstrake".to_owned());
    let size = crate::request::TtySize { rows: 24, columns: 80 };
    let mut spec = spec::build(&request, Stdio::Terminal(size))?.spec;
    spec.set_version(super::record::OCI_VERSION.to_owned());
    if let Some(process) = spec.process_mut() {
        process.set_console_size(None);
    }
    Ok(spec)
}
