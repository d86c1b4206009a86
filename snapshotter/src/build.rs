//! Builds that are remembered: a row for each, and a directory for what is kept of it.
//!
//! The store does not know what is in that directory, but for a lock that the build holds while it runs. The
//! directory is made before the row and removed after it; without a row and a holder of its lock it is garbage.
//! A build in which nothing ran has no directory: what is kept of it is little and is in its row.
//!
//! Which build is newer is told by the order in which their rows came, not by the clock, which may be set back.

use std::path::PathBuf;

use base::{Key, Timestamp};
use sys::lock::{FileLock, LockMode};

use crate::db::{builds, from_millis};
use crate::error::StoreError;
use crate::held_dir::{HeldDir, LOCK, Owners};
use crate::store::Store;

/// How many builds are kept that nobody pinned.
const MOST_BUILDS: usize = 200;

/// How long it is remembered that a result was removed, in milliseconds.
const REMOVALS_KEPT_FOR: i64 = 30 * 24 * 3_600_000;

/// What became of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildStatus {
    /// It runs, or it was killed: see [`Store::is_building`].
    Running,
    /// It gave what was asked for.
    Completed,
    /// It failed.
    Failed,
    /// It was stopped by its user.
    Canceled,
}

impl BuildStatus {
    /// The name in the row, BuildKit's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "error",
            Self::Canceled => "canceled",
        }
    }

    /// The status of this name; one that is not known is a failure.
    pub fn from_name(name: &str) -> Self {
        let all = [Self::Running, Self::Completed, Self::Failed, Self::Canceled];
        all.into_iter().find(|status| status.name() == name).unwrap_or(Self::Failed)
    }
}

/// A build that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRecord {
    /// Lower-case letters and digits.
    pub id: String,
    /// What it is a build of: equal for builds that are worth comparing.
    pub project: Key,
    /// What people call it.
    pub name: String,
    /// When it began.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub status: BuildStatus,
    /// Whether it stays until somebody removes it.
    pub pinned: bool,
}

/// What is kept of a build in which nothing ran. The store does not know what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildContent {
    /// What became of it.
    pub record: Vec<u8>,
    /// Its log.
    pub events: Vec<u8>,
}

impl Store {
    /// Makes the directory of a new build. It is garbage until [`put_build`](Self::put_build).
    pub fn create_build_dir(&self, id: &str) -> Result<HeldDir, StoreError> {
        self.create_held_dir(self.layout().build(id))
    }

    /// Where the directory of a build is.
    pub fn build_path(&self, id: &str) -> PathBuf {
        self.layout().build(id)
    }

    /// Records a build, or what became of it.
    pub fn put_build(&self, build: &BuildRecord) -> Result<(), StoreError> {
        Ok(self.db().write("record a build", |c| builds::put(c, build))?)
    }

    /// Records a build that was made elsewhere and has no row. It is as new as the time says at which it began.
    pub fn put_foreign_build(&self, build: &BuildRecord) -> Result<(), StoreError> {
        Ok(self.db().write("record a build", |c| builds::put_foreign(c, build))?)
    }

    /// Records a build that is over and has neither a directory nor a row.
    pub fn insert_build(&self, build: &BuildRecord, content: &BuildContent) -> Result<(), StoreError> {
        Ok(self.db().write("record a build", |c| builds::insert(c, build, content))?)
    }

    /// What is kept of a build that has no directory; `None` for one that has.
    pub fn build_content(&self, id: &str) -> Result<Option<BuildContent>, StoreError> {
        Ok(self.db().read("look up a build", |c| builds::content(c, id))?)
    }

    /// Every build, the newest first.
    pub fn builds(&self) -> Result<Vec<BuildRecord>, StoreError> {
        Ok(self.db().read("list builds", builds::all)?)
    }

    /// The newest build, or the one so many before it.
    pub fn build_before_newest(&self, back: u32) -> Result<Option<BuildRecord>, StoreError> {
        Ok(self.db().read("look up a build", |c| builds::before_newest(c, back))?)
    }

    /// The newest builds of a project, `most` of them at most.
    pub fn builds_of(&self, project: &Key, most: usize) -> Result<Vec<BuildRecord>, StoreError> {
        Ok(self.db().read("list builds", |c| builds::of_project(c, project, most))?)
    }

    /// The builds whose id is `prefix` or begins with it, two at most. None for what cannot begin an id.
    pub fn builds_beginning_with(&self, prefix: &str) -> Result<Vec<BuildRecord>, StoreError> {
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(Vec::new());
        }
        Ok(self.db().read("look up a build", |c| builds::beginning_with(c, prefix))?)
    }

    /// Whether the process of a build is alive.
    pub fn is_building(&self, id: &str) -> Result<bool, StoreError> {
        // Shared, so that several who ask do not take each other for the build.
        match FileLock::try_acquire(&self.layout().build(id).join(LOCK), LockMode::Shared) {
            Ok(lock) => Ok(lock.is_none()),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Pins a build, so that it stays until somebody removes it, or takes the pin away. `false` when there is no such
    /// build.
    pub fn pin_build(&self, id: &str, pinned: bool) -> Result<bool, StoreError> {
        Ok(self.db().write("pin a build", |c| builds::pin(c, id, pinned))?)
    }

    /// Forgets a build that does not run. `false` when it does, or there is none.
    pub fn remove_build(&self, id: &str) -> Result<bool, StoreError> {
        if self.is_building(id)? || !self.db().write("remove a build", |c| builds::delete(c, id))? {
            return Ok(false);
        }
        match self.discard(&self.layout().build(id)) {
            // A collector was faster, or somebody has cleared it away.
            Err(error) if error.is_not_found() => Ok(true),
            discarded => Ok(discarded.map(|()| true)?),
        }
    }

    /// When the result of a key was removed from the cache, as far as that is remembered.
    pub fn removed_at(&self, output: &Key) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.db().read("look up a removed result", |c| builds::removed_at(c, output))?.map(from_millis))
    }

    /// Forgets the oldest builds where there are too many, and moves directories without a row to the trash.
    pub(crate) fn sweep_builds(&self) -> Result<(), StoreError> {
        let unpinned = self.builds()?.into_iter().filter(|build| !build.pinned);
        for build in unpinned.skip(MOST_BUILDS) {
            self.remove_build(&build.id)?;
        }
        // Without builds there is nothing to explain.
        let kept_for = if self.builds()?.is_empty() { 0 } else { REMOVALS_KEPT_FOR };
        let before = self.now_millis() - kept_for;
        self.db().write("forget removed results", |c| builds::forget_removed(c, before))?;
        self.sweep_unknown(Owners::Builds)
    }
}

#[cfg(test)]
mod tests;
