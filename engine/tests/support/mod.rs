//! What the tests of whole builds share: where an engine is, and a build request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use base::Platform;
use engine::isolation::{Wanted, obtain};
use engine::registries::RegistryFiles;
use engine::request::{
    BuildRequest, ContextModes, ContextSource, DockerfileSource, NetworkMode, PullPolicy, Secrets,
    StepSettings,
};
use engine::{ArchiveLimits, EngineOptions};

/// An engine whose store is below `directory`; `None` where an ordinary user runs the tests, since isolation has to
/// be obtained for them before there are threads.
pub(crate) fn options(directory: &Path) -> Option<EngineOptions> {
    testkit::privilege::root()?;
    Some(EngineOptions {
        root: directory.join("store"),
        runtime_directory: directory.join("run"),
        isolation: obtain(Wanted::Auto, &[]).map_err(Arc::new),
        registries: RegistryFiles::default(),
        driver: None,
        archive_limits: ArchiveLimits::default(),
        proxies: Vec::new(),
    })
}

/// A build of this Dockerfile, without a context.
pub(crate) fn request(dockerfile: &str) -> BuildRequest {
    BuildRequest {
        context: ContextSource::Empty,
        dockerfile: DockerfileSource::Text(dockerfile.as_bytes().to_vec()),
        tags: Vec::new(),
        outputs: Vec::new(),
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        target: None,
        further_targets: Vec::new(),
        platforms: vec![Platform::host()],
        keep_going: false,
        jobs: None,
        no_cache: false,
        no_cache_filter: Vec::new(),
        caches: engine::request::SharedCaches::default(),
        context_modes: ContextModes::default(),
        named_contexts: BTreeMap::new(),
        allow: BTreeSet::new(),
        secrets: Secrets::default(),
        ssh: BTreeMap::new(),
        steps: StepSettings::default(),
        on_failure: Vec::new(),
        pull: PullPolicy::Missing,
        network: NetworkMode::Default,
        epoch: None,
        epoch_of_context: false,
        remembered: true,
    }
}
