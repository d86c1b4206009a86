//! Keeping what a failed process left: its root filesystem and those of its writable mounts become snapshots that
//! are no results.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use base::event::Event;
use llb::{ExecOp, Vertex};
use snapshotter::{ActiveSnapshot, FailedPart};

use super::{BuildOps, Filesystem};
use crate::error::{EngineError, StepError};
use crate::failed::{FailedDocument, KeptStep};

/// A process that failed, and what it wrote.
pub(super) struct FailedProcess<'a> {
    /// How it ended.
    pub(super) error: &'a StepError,
    /// Its root filesystem.
    pub(super) active: ActiveSnapshot,
    /// Filesystems of its mounts, by the places of these.
    pub(super) written: Vec<(usize, ActiveSnapshot)>,
}

/// How a process ended, without its command: `exit code: 7`.
fn status(error: &StepError) -> String {
    match error {
        StepError::Process { status, .. } => status.clone(),
        other => other.to_string(),
    }
}

impl BuildOps<'_> {
    /// What is kept of the first step that failed.
    pub(crate) fn kept(&self) -> Option<&KeptStep> {
        self.kept.get()
    }

    /// Keeps what the first process that fails in this build left. That this cannot be done is worth a warning.
    pub(super) fn keep_failed(
        &self,
        vertex: &Vertex,
        op: &ExecOp,
        inputs: &[Option<Filesystem>],
        process: FailedProcess<'_>,
    ) {
        if self.has_failed.swap(true, Ordering::Relaxed) {
            return;
        }
        match self.keep(vertex, op, inputs, process) {
            Ok(kept) => {
                if let Some(kept) = kept {
                    self.kept.get_or_init(|| kept);
                }
            }
            Err(error) => self.progress.emit(Event::Warning {
                vertex: Some(vertex.id),
                code: "FailedStepNotKept".to_owned(),
                message: format!("what the failed step left is not kept: {error}"),
                excerpt: String::new(),
                url: None,
                place: None,
            }),
        }
    }

    fn keep(
        &self,
        vertex: &Vertex,
        op: &ExecOp,
        inputs: &[Option<Filesystem>],
        process: FailedProcess<'_>,
    ) -> Result<Option<KeptStep>, EngineError> {
        let Some(recorder) = self.progress.recorder() else { return Ok(None) };
        let directory = recorder.directory()?;
        let of_mounts: Vec<Option<Filesystem>> =
            op.mounts.iter().map(|mount| inputs.get(mount.input()? as usize).copied().flatten()).collect();
        let document =
            FailedDocument::new(vertex, op, &of_mounts, &self.request.steps, status(process.error));
        document.write(&directory)?;
        let mut written: HashMap<usize, ActiveSnapshot> = process.written.into_iter().collect();
        let part = |(index, input): (usize, &Option<Filesystem>)| match written.remove(&index) {
            Some(changes) => Some(FailedPart::Written(changes)),
            None => input.map(|input| FailedPart::Shown(input.snapshot)),
        };
        let mut parts = vec![Some(FailedPart::Written(process.active))];
        parts.extend(of_mounts.iter().enumerate().map(part));
        let parts = self.engine.store.keep_failed_step(recorder.id(), parts)?;
        let Some(root) = parts.first().copied().flatten() else { return Ok(None) };
        let (build, step) = (recorder.id().to_owned(), vertex.metadata.name.clone());
        let below = if op.has_root { inputs.first().copied().flatten() } else { None };
        let inputs = std::iter::once(below).chain(of_mounts).collect();
        Ok(Some(KeptStep { build, step, root, op: op.clone(), inputs, parts }))
    }
}
