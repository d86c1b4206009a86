//! What a build asks for besides the Dockerfile.

use std::collections::BTreeMap;

use base::{Platform, Timestamp};
use llb::NetworkMode;
use parser::ignore::IgnoreFile;
use parser::lint::CheckOptions;

/// The options of a build that change what is built.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--build-arg`, by name.
    pub build_args: BTreeMap<String, String>,
    /// `--target`; the last stage without it.
    pub target: Option<String>,
    /// The platform to build for.
    pub platform: Platform,
    /// The platform that builds.
    pub build_platform: Platform,
    /// `--no-cache`
    pub no_cache: bool,
    /// `--label`, by name; these win over the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// `--network`: the network of every RUN that does not say.
    pub network: NetworkMode,
    /// `SOURCE_DATE_EPOCH`: the creation time of everything.
    pub epoch: Option<Timestamp>,
    /// Which build checks report.
    pub checks: CheckOptions,
    /// What the build context leaves out, for the check that tells why a file cannot be copied.
    pub ignored: IgnoreFile,
}

impl Options {
    /// Options that ask for nothing special, for the platform of this machine.
    pub fn for_host() -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            platform: Platform::host(),
            build_platform: Platform::host(),
            no_cache: false,
            labels: BTreeMap::new(),
            network: NetworkMode::Default,
            epoch: None,
            checks: CheckOptions::default(),
            ignored: IgnoreFile::default(),
        }
    }
}
