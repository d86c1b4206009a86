//! What a build asks for besides the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};

use base::{Platform, Timestamp};
use llb::NetworkMode;
use parser::ignore::IgnoreFile;
use parser::lint::CheckOptions;

use crate::contexts::NamedContext;

/// The options of a build that change what is built.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--build-arg`, by name.
    pub build_args: BTreeMap<String, String>,
    /// `--target`; the last stage without it.
    pub target: Option<String>,
    /// Further `--target`s: stages that are built besides.
    pub further_targets: Vec<String>,
    /// The platforms to build for, at least one.
    pub platforms: Vec<Platform>,
    /// The platform that builds.
    pub build_platform: Platform,
    /// `--no-cache`
    pub no_cache: bool,
    /// `--no-cache-filter`: the names of stages whose steps run again.
    pub no_cache_filter: Vec<String>,
    /// `--build-context`, by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--allow`: what steps may do beyond what a container may.
    pub allow: BTreeSet<Entitlement>,
    /// `--label`, by name; these win over the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// `--network`: the network of every RUN that does not say.
    pub network: NetworkMode,
    /// `SOURCE_DATE_EPOCH`: the creation time of everything.
    pub epoch: Option<Timestamp>,
    /// Which build checks report.
    pub checks: CheckOptions,
    /// Whether it matters what is looked through for packages besides the result.
    pub scans: bool,
    /// What the build context leaves out, for the check that tells why a file cannot be copied.
    pub ignored: IgnoreFile,
}

impl Options {
    /// Options that ask for nothing special, for the platform of this machine.
    pub fn for_host() -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            further_targets: Vec::new(),
            platforms: vec![Platform::host()],
            build_platform: Platform::host(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            contexts: BTreeMap::new(),
            allow: BTreeSet::new(),
            labels: BTreeMap::new(),
            network: NetworkMode::Default,
            epoch: None,
            checks: CheckOptions::default(),
            scans: false,
            ignored: IgnoreFile::default(),
        }
    }
}

/// Something that a step may only do when the caller agrees (`--allow`). Names are BuildKit's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `network.host`: use the host's network.
    NetworkHost,
    /// `security.insecure`: run with all rights of the builder.
    SecurityInsecure,
    /// `device`: use devices of the host.
    Device,
}

impl Entitlement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NetworkHost, Self::SecurityInsecure, Self::Device];

    /// The name that `--allow` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
            Self::Device => "device",
        }
    }

    /// The entitlement of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}
