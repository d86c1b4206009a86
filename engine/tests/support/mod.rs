//! What the tests of whole builds share: where an engine is, and a build request.

use std::path::Path;
use std::sync::Arc;

use base::Platform;
use engine::isolation::{Wanted, obtain};
use engine::registries::RegistryFiles;
use engine::request::{BuildRequest, ContextSource, DockerfileSource};
use engine::{ArchiveLimits, EngineOptions};

/// An engine whose store is below `directory`; `None` where an ordinary user runs the tests, since isolation has to
/// be obtained for them before there are threads.
pub(crate) fn options(directory: &Path) -> Option<EngineOptions> {
    testkit::privilege::root()?;
    Some(EngineOptions {
        root: directory.join("store"),
        runtime_directory: directory.join("run"),
        isolation: obtain(Wanted::Auto, &[], None).map_err(Arc::new),
        registries: RegistryFiles::default(),
        driver: None,
        layer_way: None,
        on_unpacked: |_| {},
        layer_form: Default::default(),
        archive_limits: ArchiveLimits::default(),
        proxies: Vec::new(),
    })
}

/// A build of this Dockerfile, without a context.
pub(crate) fn request(dockerfile: &str) -> BuildRequest {
    let dockerfile = DockerfileSource::Text(dockerfile.as_bytes().to_vec());
    BuildRequest { platforms: vec![Platform::host()], ..BuildRequest::new(ContextSource::Empty, dockerfile) }
}
