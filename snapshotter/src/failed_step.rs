//! What failed steps of builds left: snapshots that are no results, and stay for a while to be looked at.
//!
//! They have named roots, so no collection takes them, and are bounded in number, age and size. Which of a step's
//! filesystems a part is, the store does not know, but for the first: the root filesystem.

use crate::db::failed_steps::{self, KeptRow};
use crate::db::snapshots;
use crate::error::StoreError;
use crate::gc::{Policy, SpaceLimits};
use crate::snapshot::{ActiveSnapshot, CommitInfo, SnapshotId};
use crate::store::Store;
use crate::usage::disk_usage;

/// Of how many builds something is kept.
const MOST_KEPT: usize = 10;

/// How long, in milliseconds.
const KEPT_FOR: i64 = 7 * 24 * 3_600_000;

/// How much, in bytes of disk that the processes wrote. The newest is kept whatever its size.
const MOST_BYTES: u64 = 4 << 30;

/// A filesystem of a step that failed.
#[derive(Debug)]
pub enum FailedPart {
    /// The process could write to it.
    Written(ActiveSnapshot),
    /// It only saw it.
    Shown(SnapshotId),
}

impl Store {
    /// Keeps the filesystems of a step of `build` that failed, in place of those of another. The first is the
    /// root filesystem. Gives their snapshots. Lets go of what is then too much of other builds.
    ///
    /// # Errors
    /// The store cannot be written; nothing is kept then.
    pub fn keep_failed_step(
        &self,
        build: &str,
        parts: Vec<Option<FailedPart>>,
    ) -> Result<Vec<Option<SnapshotId>>, StoreError> {
        let mut sizes = Vec::new();
        let mut commit = |part: FailedPart| match part {
            FailedPart::Shown(id) => Ok(id),
            FailedPart::Written(active) => {
                let id = active.commit(CommitInfo::default())?;
                sizes.push((id, disk_usage(&self.layout().snapshot(id).top)?));
                Ok(id)
            }
        };
        let parts: Vec<Option<SnapshotId>> = parts
            .into_iter()
            .map(|part| part.map(&mut commit).transpose())
            .collect::<Result<_, StoreError>>()?;
        let lost = self.db().write("keep a failed step", |c| {
            sizes.iter().try_for_each(|(id, size)| snapshots::set_size(c, *id, *size))?;
            failed_steps::delete(c, build)?;
            for (part, id) in parts.iter().enumerate() {
                let Some(id) = id else { continue };
                if !failed_steps::put(c, build, part, *id)? {
                    return Ok(Some(*id));
                }
            }
            Ok(None)
        })?;
        if let Some(id) = lost {
            self.forget_failed_step(build)?;
            return Err(StoreError::NoSuchSnapshot { id });
        }
        self.bound_failed_steps(&[])?;
        Ok(parts)
    }

    /// A filesystem of the failed step of a build; 0 is the root filesystem.
    pub fn failed_part(&self, build: &str, part: usize) -> Result<Option<SnapshotId>, StoreError> {
        Ok(self.db().read("look up a failed step", |c| failed_steps::get(c, build, part))?)
    }

    /// The builds of which a failed step is kept, the newest first.
    pub fn failed_steps(&self) -> Result<Vec<String>, StoreError> {
        let kept = self.db().read("list failed steps", failed_steps::all)?;
        Ok(kept.into_iter().map(|kept| kept.build).collect())
    }

    /// Lets go of what the failed step of a build left. `false` when there was nothing.
    pub fn forget_failed_step(&self, build: &str) -> Result<bool, StoreError> {
        Ok(self.db().write("forget a failed step", |c| failed_steps::delete(c, build))?)
    }

    /// Lets go of what is too much, and of what `policies` drop: those that drop the build cache without a limit.
    pub(crate) fn bound_failed_steps(&self, policies: &[Policy]) -> Result<(), StoreError> {
        let kept = self.db().read("list failed steps", failed_steps::all)?;
        let now = self.now_millis();
        let drops = |policy: &&Policy| policy.filters.is_empty() && policy.limits == SpaceLimits::NONE;
        let deadline = policies.iter().filter(drops).filter_map(|policy| policy.deadline(now)).max();
        for build in too_much(&kept, now, deadline) {
            self.forget_failed_step(build)?;
        }
        Ok(())
    }
}

/// The builds of which nothing is to be kept any more. `kept` has the newest first; what is not younger than
/// `deadline` goes as well.
fn too_much(kept: &[KeptRow], now: i64, deadline: Option<i64>) -> Vec<&str> {
    let (mut count, mut bytes) = (0, 0_u64);
    let mut gone = Vec::new();
    for row in kept {
        let Some(created) = row.created else {
            gone.push(row.build.as_str());
            continue;
        };
        if row.pinned {
            continue;
        }
        count += 1;
        bytes = bytes.saturating_add(row.bytes);
        let is_old = now.saturating_sub(created) > KEPT_FOR || deadline.is_some_and(|at| created <= at);
        if is_old || count > MOST_KEPT || (count > 1 && bytes > MOST_BYTES) {
            gone.push(row.build.as_str());
        }
    }
    gone
}

#[cfg(test)]
mod tests;
