//! A build as it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use base::{Platform, Reference, Timestamp};
use frontend::low_level::pb;

use super::{
    Attestations, ContextModes, ContextSource, DockerfileSource, Entitlement, FailureOutput, NamedContext,
    NetworkMode, Output, PullPolicy, Secrets, SharedCaches, SshSources, StepSettings, TargetRequest,
};
use crate::source_policy::SourcePolicies;

/// A build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Where COPY and ADD take files from.
    pub context: ContextSource,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// Names for the image; empty leaves it without a name.
    pub tags: Vec<Reference>,
    /// Where the result goes; empty means [`Output::Store`]. What is reported of the build is the first of them.
    pub outputs: Vec<Output>,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--target`
    pub target: Option<String>,
    /// What is built besides, in the same graph: what targets share is made once.
    pub further_targets: Vec<TargetRequest>,
    /// `--platform`; empty is the host's.
    pub platforms: Vec<Platform>,
    /// `--keep-going`: after a failure, all that does not depend on what failed is still done.
    pub keep_going: bool,
    /// How many processes of steps run at once; `None` for what suits the machine.
    pub jobs: Option<NonZeroUsize>,
    /// `--no-cache`
    pub no_cache: bool,
    /// `--no-cache-filter`: names of stages whose steps run again.
    pub no_cache_filter: Vec<String>,
    /// `--cache-from` and `--cache-to`
    pub caches: SharedCaches,
    /// `--provenance`, `--sbom` and `--attest`
    pub attestations: Attestations,
    /// `--context-modes`
    pub context_modes: ContextModes,
    /// `--build-context`, by name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `--allow`
    pub allow: BTreeSet<Entitlement>,
    /// `--secret`
    pub secrets: Secrets,
    /// `--ssh`, by name.
    pub ssh: SshSources,
    /// What every step's process gets besides.
    pub steps: StepSettings,
    /// `--output-on-failure`: files of the step that fails.
    pub on_failure: Vec<FailureOutput>,
    /// `--pull`: when registries are asked for base images.
    pub pull: PullPolicy,
    /// `--network`
    pub network: NetworkMode,
    /// `SOURCE_DATE_EPOCH`: all times in the result.
    pub epoch: Option<Timestamp>,
    /// `SOURCE_DATE_EPOCH=context`: that time is the one at which the context was last changed.
    pub epoch_of_context: bool,
    /// Whether the build is remembered. One that is not is in no history and explains nothing, and what a failed step of
    /// it left is not kept.
    pub remembered: bool,
    /// Which sources may be used, and what stands in for some.
    pub policies: SourcePolicies,
    /// What nested builds of a definition are, by the digests of their operations.
    pub nested: BTreeMap<String, pb::Definition>,
}

impl BuildRequest {
    /// A build of this Dockerfile with these files, for which nothing else is asked.
    pub fn new(context: ContextSource, dockerfile: DockerfileSource) -> Self {
        Self {
            context,
            dockerfile,
            tags: Vec::new(),
            outputs: Vec::new(),
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            target: None,
            further_targets: Vec::new(),
            platforms: Vec::new(),
            keep_going: false,
            jobs: None,
            no_cache: false,
            no_cache_filter: Vec::new(),
            caches: SharedCaches::default(),
            attestations: Attestations::default(),
            context_modes: ContextModes::default(),
            named_contexts: BTreeMap::new(),
            allow: BTreeSet::new(),
            secrets: Secrets::default(),
            ssh: SshSources::default(),
            steps: StepSettings::default(),
            on_failure: Vec::new(),
            pull: PullPolicy::default(),
            network: NetworkMode::default(),
            epoch: None,
            epoch_of_context: false,
            remembered: true,
            policies: SourcePolicies::default(),
            nested: BTreeMap::new(),
        }
    }
}
