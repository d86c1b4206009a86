//! Steps that failed: what their processes left is kept for a while, to be looked at.
//!
//! `ops::failed` keeps it when a process fails; what is here finds it again, starts a process in it ([`shell`]),
//! copies files out of it and tells what the process had changed ([`files`]), and makes an image of it
//! ([`image`]). `docs/design/0014` says what is kept, and for how long.

mod document;
mod files;
mod image;
mod shell;

use base::CancelToken;
use llb::ExecOp;
use snapshotter::{Lease, SnapshotId, Tree};

pub(crate) use self::document::FailedDocument;
pub(crate) use self::files::export_on_failure;
pub use self::files::{FailureOutput, PathChange, PathChangeKind};
pub use self::shell::DebugRequest;
use crate::Engine;
use crate::error::EngineError;
use crate::ops::Filesystem;

/// What a build has kept of a step of its own.
#[derive(Debug, Clone)]
pub struct KeptStep {
    /// The id of the build.
    pub(crate) build: String,
    /// The step's name.
    pub(crate) step: String,
    /// Its root filesystem as it was left.
    pub(crate) root: SnapshotId,
    /// What ran.
    pub(crate) op: ExecOp,
    /// What it began with: its root filesystem, and those that its mounts showed, by their places.
    pub(crate) inputs: Vec<Option<Filesystem>>,
    /// What it left of them.
    pub(crate) parts: Vec<Option<SnapshotId>>,
}

/// What people are told of a failed step that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    /// The id of the build.
    pub build: String,
    /// The step, as progress showed it.
    pub step: String,
    /// How its process ended, as in `exit code: 7`.
    pub status: String,
    /// Ids of secrets that it had, and that have to be given again.
    pub secrets: Vec<String>,
}

/// A failed step that is looked at: nothing of it goes meanwhile.
struct Opened {
    build: String,
    document: FailedDocument,
    /// The kept filesystems: the root, then those of mounts.
    parts: Vec<Option<SnapshotId>>,
    root: SnapshotId,
    lease: Lease,
}

impl Engine {
    /// What is known of the failed step of a build, or of the newest build of which one is kept.
    ///
    /// # Errors
    /// There is no such build, or nothing is kept of it.
    pub fn failed_step(&self, build: Option<&str>) -> Result<FailedStep, EngineError> {
        let Opened { build, document, .. } = self.open_failed(build)?;
        let secret = |mount: &llb::ExecMount| match &mount.kind {
            llb::MountKind::Secret(secret) => Some(secret.id.clone()),
            _ => None,
        };
        let secrets = document.op.mounts.iter().filter_map(secret).collect();
        Ok(FailedStep { build, step: document.step, status: document.status, secrets })
    }

    fn open_failed(&self, build: Option<&str>) -> Result<Opened, EngineError> {
        let build = match build {
            Some(id) => self.find_build(Some(id))?.id,
            None => self.store.failed_steps()?.into_iter().next().ok_or(EngineError::NoFailedSteps)?,
        };
        let nothing = || EngineError::NoFailedStep(build.clone());
        let document = FailedDocument::read(&self.store.build_path(&build))?.ok_or_else(nothing)?;
        let lease = self.store.lease("debug")?;
        let part = |part: usize| {
            let id = self.store.failed_part(&build, part)?;
            id.map(|id| self.store.hold(&lease, id).map(|()| id)).transpose()
        };
        let parts: Vec<Option<SnapshotId>> =
            (0..=document.op.mounts.len()).map(part).collect::<Result<_, _>>()?;
        let root = parts.first().copied().flatten().ok_or_else(nothing)?;
        Ok(Opened { build, document, parts, root, lease })
    }

    /// The merged view of a snapshot.
    fn tree_of(&self, id: SnapshotId) -> Result<Tree, EngineError> {
        Ok(Tree::overlay(self.store.view_dirs(id)?)?)
    }

    /// What the process of a failed step had changed in its root filesystem.
    ///
    /// # Errors
    /// There is no such build, nothing is kept of it, or files cannot be read.
    pub fn failed_changes(
        &self,
        build: Option<&str>,
        cancel: &CancelToken,
    ) -> Result<Vec<PathChange>, EngineError> {
        let opened = self.open_failed(build)?;
        Ok(self.store.changed_paths(opened.root, cancel)?)
    }
}

impl Opened {
    /// The inputs of the operation.
    fn inputs(&self) -> Vec<Option<Filesystem>> {
        let input = |(part, id): (usize, &Option<SnapshotId>)| {
            let content = self.document.content(part).unwrap_or(base::Key::from_bytes([0; 32]));
            id.map(|snapshot| Filesystem { snapshot, content })
        };
        self.parts.iter().enumerate().map(input).collect()
    }
}
