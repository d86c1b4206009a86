//! Processes of steps that failed, for clients that look around in what they saw and left.

use base::image::ImageConfig;
use base::{KeyHasher, Platform};
use frontend::{Lowered, LoweredImage};
use llb::ExecOp;
use snapshotter::SnapshotId;

use super::{Session, Solved, empty_graph};
use crate::attest::Scanned;
use crate::build::Prepared;
use crate::contexts::Contexts;
use crate::error::{BuildError, EngineError};
use crate::failed::KeptStep;
use crate::ops::{Filesystem, StepResult};
use crate::request::BuildRequest;

/// A process that failed, and its filesystems: the root, then those of its mounts by their places.
pub struct LeftProcess {
    /// What ran.
    pub op: ExecOp,
    /// What it began with.
    pub inputs: Vec<Option<Solved>>,
    /// What it left.
    pub left: Vec<Option<Solved>>,
}

impl Session<'_> {
    /// What is kept of the process whose failure `error` is, for as long as the build lasts.
    ///
    /// # Errors
    /// It has been removed meanwhile.
    pub fn left_process(
        &self,
        error: &BuildError,
        request: &BuildRequest,
    ) -> Result<Option<LeftProcess>, EngineError> {
        let Some(KeptStep { build, op, inputs, parts, .. }) = error.kept_step() else { return Ok(None) };
        let hold = |snapshot: SnapshotId| self.fetcher.engine.store.hold(self.fetcher.lease, snapshot);
        let mut before = Vec::with_capacity(inputs.len());
        for input in inputs {
            input.map(|input| hold(input.snapshot)).transpose()?;
            before.push(input.map(|input| filesystem(request, input)));
        }
        let mut left = Vec::with_capacity(parts.len());
        for (part, snapshot) in (0u64..).zip(parts) {
            snapshot.map(hold).transpose()?;
            // Nobody else has the same.
            let content = KeyHasher::new("lapstrake/left-content/v1").str(build).u64(part).finish();
            left.push(snapshot.map(|snapshot| filesystem(request, Filesystem { snapshot, content })));
        }
        Ok(Some(LeftProcess { op: op.clone(), inputs: before, left }))
    }
}

/// A filesystem as a result.
fn filesystem(request: &BuildRequest, filesystem: Filesystem) -> Solved {
    let (graph, platform) = (empty_graph(), Platform::host());
    let image = LoweredImage {
        target: None,
        config: ImageConfig::scratch(&platform),
        platform,
        scans: Vec::new(),
        graph: graph.clone(),
    };
    let lowered = Lowered { graph, images: vec![image], epoch: request.epoch, warnings: Vec::new() };
    let (contexts, scanned) = (Contexts::none(), Scanned::default());
    let prepared = Prepared { request: request.clone(), files: Vec::new(), lowered, contexts, scanned };
    Solved { prepared, roots: vec![Some(StepResult::Here(filesystem))] }
}
