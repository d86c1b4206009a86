//! What processes of steps are given besides what their operation says.

use runner::KeptLayers;
use snapshotter::{Lease, SnapshotId, Tree};

use super::BuildOps;
use super::build_group::BuildGroup;
use crate::Engine;
use crate::error::EngineError;
use crate::request::{Secrets, SshSources, StepSettings};
use crate::shared_cache::PortableMounts;

/// Where mounts and settings of a process come from: a build, or somebody who looks at a step that failed.
#[derive(Clone)]
pub(crate) struct Surroundings<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) lease: &'a Lease,
    pub(crate) secrets: &'a Secrets,
    pub(crate) ssh: &'a SshSources,
    pub(crate) settings: &'a StepSettings,
    pub(crate) group: &'a BuildGroup,
    /// Layers that its steps have mounted.
    pub(crate) layers: KeptLayers,
    /// The cache mounts that are shared with other builders.
    pub(crate) portable: Option<&'a PortableMounts<'a>>,
}

impl Surroundings<'_> {
    /// The merged view of a filesystem.
    pub(super) fn tree(&self, snapshot: SnapshotId) -> Result<Tree, EngineError> {
        Ok(Tree::overlay(self.engine.store.view_dirs(snapshot)?)?)
    }
}

impl BuildOps<'_> {
    /// Those of this build.
    pub(super) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            engine: self.engine,
            lease: self.lease,
            secrets: &self.request.secrets,
            ssh: &self.request.ssh,
            settings: &self.request.steps,
            group: &self.group,
            layers: self.layers.clone(),
            portable: Some(self.sharing.mounts),
        }
    }
}
