//! A build that somebody else steers: a client that asks for results one after the other, looks into them, and says in the end
//! which of them go where.
//!
//! [`crate::Engine::build`] is the same in one go.

mod told;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use base::event::EventSink;
use base::image::ImageConfig;
use base::{CancelToken, Platform, Reference, Timestamp};
use snapshotter::tree::{Entry, Follow};
use snapshotter::{ScratchDir, Tree};
use sys::stat::Stat;

pub use self::told::Provenance;
pub use sys::stat::Kind as FileKind;

use crate::Engine;
use crate::build::Prepared;
use crate::error::{BuildError, EngineError};
use crate::ops::{Sharing, StepResult};
use crate::remote::{Access, Fetcher};
use crate::report::BuildReport;
use crate::request::{BuildRequest, Output};

/// A build that is being steered.
pub struct Session<'a> {
    fetcher: Fetcher<'a>,
    sharing: Sharing<'a>,
    /// What has gone somewhere.
    exported: Mutex<Vec<Option<StepResult>>>,
}

/// A result that a client has asked for: an image for each platform, not yet written anywhere.
pub struct Solved {
    prepared: Prepared,
    roots: Vec<Option<StepResult>>,
}

/// A file of a result.
#[derive(Debug, Clone)]
pub struct FoundFile {
    /// Its name, without directories.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of content.
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub modified: i64,
    /// The target of a symbolic link.
    pub target: String,
}

impl Engine {
    /// Begins a build and lets `steer` have its way with it. The caches of `opening` are those of the whole build.
    ///
    /// # Errors
    /// As for [`Engine::build`], and what `steer` answers.
    pub fn steered_build(
        &self,
        opening: &BuildRequest,
        events: Arc<dyn EventSink>,
        cancel: &CancelToken,
        steer: impl FnOnce(&Session<'_>) -> Result<BuildReport, BuildError>,
    ) -> Result<BuildReport, BuildError> {
        self.recorded(opening, events, |progress| {
            let lease = self.store.lease("build").map_err(EngineError::from)?;
            let access = Access::of(opening)?;
            let rules = &opening.steps.rules;
            let fetcher = Fetcher { engine: self, lease: &lease, access: &access, progress, rules, cancel };
            self.with_caches(fetcher, opening, |sharing| {
                let session = Session { fetcher, sharing, exported: Mutex::default() };
                let report = steer(&session)?;
                let exported = session.exported.into_inner().unwrap_or_else(PoisonError::into_inner);
                Ok((exported, report))
            })
        })
    }
}

impl Engine {
    /// An empty directory, which goes with what is answered.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<ScratchDir, EngineError> {
        Ok(self.store.scratch(&self.store.lease("what a client sends")?)?)
    }
}

impl Session<'_> {
    /// Builds what a Dockerfile says, and keeps it here until the build is over.
    ///
    /// # Errors
    /// As for [`Engine::build`].
    pub fn solve(&self, request: &BuildRequest) -> Result<Solved, BuildError> {
        let prepared = Prepared::new(&self.fetcher, request)?;
        let roots = prepared.solve(self.sharing)?;
        Ok(Solved { prepared, roots })
    }

    /// Writes a result somewhere, under these names, and with this time if there is one.
    ///
    /// # Errors
    /// As for [`Engine::build`].
    pub fn export(
        &self,
        solved: &Solved,
        outputs: Vec<Output>,
        tags: Vec<Reference>,
        epoch: Option<Timestamp>,
    ) -> Result<BuildReport, BuildError> {
        let mut request = BuildRequest { outputs, tags, ..solved.prepared.request.clone() };
        request.epoch = epoch.or(request.epoch);
        crate::export::check(&request)?;
        let mut roots = solved.roots.clone();
        let report = loop {
            let engine = self.fetcher.engine;
            match engine.export_built(self.sharing.cache, &request, (&solved.prepared, &roots)) {
                Err(error) => match error.lost_shared() {
                    // It was to be pushed from where it is. Each time there is less that can be lost.
                    Some(lost) => {
                        self.fetcher.progress.warn("SharedCache", lost);
                        roots = solved.prepared.solve(self.sharing)?;
                    }
                    None => return Err(error),
                },
                Ok(report) => break report,
            }
        };
        self.exported.lock().unwrap_or_else(PoisonError::into_inner).extend(roots);
        Ok(report)
    }

    /// An empty directory that goes with what is answered.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<ScratchDir, EngineError> {
        Ok(self.fetcher.engine.store.scratch(self.fetcher.lease)?)
    }

    /// The beginning of a file of a result, from `offset` on, at most `limit` bytes. Links are followed inside the result.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub fn read_file(
        &self,
        solved: &Solved,
        platform: usize,
        path: &str,
        range: (u64, u64),
    ) -> Result<Vec<u8>, EngineError> {
        let (tree, entry) = self.find(solved, platform, path, Follow::Last)?;
        let mut file = tree.open(&entry)?;
        let shown = tree.shown(&entry);
        let failed = |source| EngineError::from(sys::path_error::PathError::new("read", &shown, source));
        file.seek(SeekFrom::Start(range.0)).map_err(failed)?;
        let mut content = Vec::new();
        file.take(range.1).read_to_end(&mut content).map_err(failed)?;
        Ok(content)
    }

    /// What is in a directory of a result.
    ///
    /// # Errors
    /// There is no such directory, or it cannot be read.
    pub fn read_dir(
        &self,
        solved: &Solved,
        platform: usize,
        path: &str,
    ) -> Result<Vec<FoundFile>, EngineError> {
        let (tree, entry) = self.find(solved, platform, path, Follow::Last)?;
        tree.read_dir(&entry)?.into_iter().map(|entry| found(&tree, &entry)).collect()
    }

    /// What is known of a file of a result. A link in the last place is not followed.
    ///
    /// # Errors
    /// There is no such file.
    pub fn stat_file(&self, solved: &Solved, platform: usize, path: &str) -> Result<FoundFile, EngineError> {
        let (tree, entry) = self.find(solved, platform, path, Follow::NoLast)?;
        found(&tree, &entry)
    }

    fn find(
        &self,
        solved: &Solved,
        platform: usize,
        path: &str,
        follow: Follow,
    ) -> Result<(Tree, Entry), EngineError> {
        let missing = || EngineError::NotInResult(path.to_owned());
        let root = solved.roots.get(platform).copied().flatten().ok_or_else(missing)?;
        let filesystem = self.sharing.here(root, self.fetcher.cancel)?;
        let tree = Tree::overlay(self.fetcher.engine.store.view_dirs(filesystem.snapshot)?)?;
        let entry = tree.lookup(path, follow)?.ok_or_else(missing)?;
        Ok((tree, entry))
    }
}

impl Solved {
    /// The images: platforms and configs, without what is only known of their layers.
    pub fn images(&self) -> impl Iterator<Item = (&Platform, &ImageConfig)> {
        self.prepared.lowered.images.iter().map(|image| (&image.platform, &image.config))
    }
}

fn found(tree: &Tree, entry: &Entry) -> Result<FoundFile, EngineError> {
    let name = entry.name().to_string_lossy().into_owned();
    let stat = entry.stat();
    let is_link = stat.kind == FileKind::Symlink;
    let target = if is_link { tree.read_link(entry)?.to_string_lossy().into_owned() } else { String::new() };
    let modified = i64::try_from(stat.mtime.total_nanoseconds()).unwrap_or(i64::MAX);
    let Stat { kind, mode, uid, gid, size, .. } = *stat;
    Ok(FoundFile { name, kind, mode, uid, gid, size, modified, target })
}
