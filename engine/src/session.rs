//! A build that somebody else steers: a client that asks for results one after the other, looks into them, and says in the end
//! which of them go where.
//!
//! [`crate::Engine::build`] is the same in one go.

mod failed;
mod process;
mod told;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use base::event::EventSink;
use base::image::ImageConfig;
use base::{CancelToken, Digest, GitUrl, Platform, Reference, Timestamp};
use frontend::low_level::pb;
use frontend::{Lowered, LoweredImage, MetaResolver as _, ResolveError};
use llb::{Graph, GraphBuilder};
use snapshotter::tree::{Entry, Follow};
use snapshotter::{ScratchDir, Tree};
use sys::stat::Stat;

pub use self::failed::LeftProcess;
pub use self::process::{SessionProcess, Streams, resize};
pub use self::told::Provenance;
pub use frontend::{ResolvedHttp, ResolvedImage};
pub use sys::stat::Kind as FileKind;

use crate::Engine;
use crate::assemble::MULTI_PLATFORM;
use crate::attest::Scanned;
use crate::build::Prepared;
use crate::contexts::Contexts;
use crate::error::{BuildError, EngineError};
use crate::layouts::Layouts;
use crate::ops::{Sharing, StepResult};
use crate::remote::http::PinnedFile;
use crate::remote::{Access, Fetcher};
use crate::report::BuildReport;
use crate::request::{BuildRequest, Output, PullPolicy};
use crate::resolve::SourceResolver;
use crate::source_policy::{Governed, SourcePolicies};

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

/// What an image of a result is made of.
#[derive(Default)]
pub struct ResultPart<'a> {
    /// A result, and which of its images; `None` is an empty filesystem.
    pub of: Option<(&'a Solved, usize)>,
    /// The platform; that of the image, without one.
    pub platform: Option<Platform>,
    /// The config; that of the image, without one.
    pub config: Option<ImageConfig>,
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
            self.with_session(fetcher, opening, steer)
        })
    }

    /// The same for a build that has begun.
    pub(crate) fn with_session(
        &self,
        fetcher: Fetcher<'_>,
        opening: &BuildRequest,
        steer: impl FnOnce(&Session<'_>) -> Result<BuildReport, BuildError>,
    ) -> Result<BuildReport, BuildError> {
        self.with_caches(fetcher, opening, |sharing| {
            let session = Session { fetcher, sharing, exported: Mutex::default() };
            let report = steer(&session)?;
            let exported = session.exported.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok((exported, report))
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

    /// Makes what a definition of operations says, and keeps it here until the build is over. The named contexts of `request`
    /// are its local sources that are files, by their keys, and its sources that are images of the store, by their identifiers.
    ///
    /// # Errors
    /// As for [`Engine::build`].
    pub fn solve_definition(
        &self,
        definition: &pb::Definition,
        request: &BuildRequest,
    ) -> Result<Solved, BuildError> {
        let prepared = Prepared::of_definition(&self.fetcher, request, definition)?;
        let roots = prepared.solve(self.sharing)?;
        Ok(Solved { prepared, roots })
    }

    /// A result that is put together from others: an image for each part. It is an index if `is_index`, whatever it has.
    pub fn compose(&self, request: &BuildRequest, parts: Vec<ResultPart<'_>>, is_index: bool) -> Solved {
        let mut request = request.clone();
        if is_index {
            request.build_args.insert(MULTI_PLATFORM.to_owned(), "1".to_owned());
        }
        let (mut images, mut roots, mut files) = (Vec::new(), Vec::new(), Vec::new());
        let mut scanned = Vec::new();
        for ResultPart { of, platform, config } in parts {
            let known = of.and_then(|(solved, image)| solved.prepared.lowered.images.get(image));
            let platform = platform.or_else(|| Some(known?.platform.clone())).unwrap_or_else(Platform::host);
            let config = config.or_else(|| Some(known?.config.clone()));
            images.push(LoweredImage {
                target: known.and_then(|known| known.target),
                config: config.unwrap_or_else(|| ImageConfig::scratch(&platform)),
                graph: known.map_or_else(empty_graph, |known| Arc::clone(&known.graph)),
                scans: known.map(|known| known.scans.clone()).unwrap_or_default(),
                platform,
            });
            roots.push(of.and_then(|(solved, image)| solved.roots.get(image).copied().flatten()));
            scanned.push(of.map(|(solved, image)| solved.prepared.scanned.of(image)).unwrap_or_default());
            files.extend(of.filter(|_| files.is_empty()).map(|(solved, _)| solved.prepared.files.clone()));
        }
        let (graph, epoch) = (empty_graph(), request.epoch);
        let lowered = Lowered { graph, images, epoch, warnings: Vec::new() };
        let files = files.into_iter().flatten().collect();
        let (contexts, scanned) = (Contexts::none(), Scanned::of_images(scanned));
        Solved { prepared: Prepared { request, files, lowered, contexts, scanned }, roots }
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
        let engine = self.fetcher.engine;
        let report = engine.export_built(self.sharing, &request, (&solved.prepared, &solved.roots))?;
        self.exported.lock().unwrap_or_else(PoisonError::into_inner).extend(solved.roots.iter().copied());
        Ok(report)
    }

    /// What the name of an image means for a platform.
    ///
    /// # Errors
    /// There is no such image, or its registry cannot be asked.
    pub fn resolve_image(
        &self,
        reference: &Reference,
        platform: &Platform,
        (pull, policies): (PullPolicy, &SourcePolicies),
    ) -> Result<ResolvedImage, ResolveError> {
        let layouts = Layouts::default();
        let resolver = SourceResolver::new(self.fetcher, &layouts, pull);
        Governed { policies, resolver: &resolver }.resolve(reference, platform)
    }

    /// The complete id of the commit that a repository's URL means.
    ///
    /// # Errors
    /// The repository cannot be asked, or does not have it.
    pub fn resolve_git(&self, url: &GitUrl) -> Result<String, EngineError> {
        self.fetcher.pin_commit(url)
    }

    /// What a URL has, which must be `checksum`, if that is given.
    ///
    /// # Errors
    /// It cannot be fetched, or has something else.
    pub fn resolve_http(&self, url: &str, checksum: Option<Digest>) -> Result<ResolvedHttp, EngineError> {
        let PinnedFile { digest, filename, last_modified } = self.fetcher.pin_file(url, checksum)?;
        Ok(ResolvedHttp { digest, filename, last_modified })
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
        read_range(&self.tree(solved, platform, path)?, path, range)
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
        read_names(&self.tree(solved, platform, path)?, path)
    }

    /// What is known of a file of a result. A link in the last place is not followed.
    ///
    /// # Errors
    /// There is no such file.
    pub fn stat_file(&self, solved: &Solved, platform: usize, path: &str) -> Result<FoundFile, EngineError> {
        found_at(&self.tree(solved, platform, path)?, path)
    }

    /// The files of a result in which `path` is looked for.
    fn tree(&self, solved: &Solved, platform: usize, path: &str) -> Result<Tree, EngineError> {
        let missing = || EngineError::NotInResult(path.to_owned());
        let root = solved.roots.get(platform).copied().flatten().ok_or_else(missing)?;
        let filesystem = self.sharing.here(root, self.fetcher.cancel)?;
        Ok(Tree::overlay(self.fetcher.engine.store.view_dirs(filesystem.snapshot)?)?)
    }
}

impl Solved {
    /// The images: platforms and configs, without what is only known of their layers.
    pub fn images(&self) -> impl Iterator<Item = (&Platform, &ImageConfig)> {
        self.prepared.lowered.images.iter().map(|image| (&image.platform, &image.config))
    }
}

/// A graph without operations.
fn empty_graph() -> Arc<Graph> {
    // Nothing is in it that could be wrong.
    Arc::new(GraphBuilder::new().finish().unwrap_or_else(|_| unreachable!("an empty graph is one")))
}

fn lookup(tree: &Tree, path: &str, follow: Follow) -> Result<Entry, EngineError> {
    tree.lookup(path, follow)?.ok_or_else(|| EngineError::NotInResult(path.to_owned()))
}

/// A part of a file.
fn read_range(tree: &Tree, path: &str, (offset, limit): (u64, u64)) -> Result<Vec<u8>, EngineError> {
    let entry = lookup(tree, path, Follow::Last)?;
    let mut file = tree.open(&entry)?;
    let shown = tree.shown(&entry);
    let failed = |source| EngineError::from(sys::path_error::PathError::new("read", &shown, source));
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

/// What is in a directory.
fn read_names(tree: &Tree, path: &str) -> Result<Vec<FoundFile>, EngineError> {
    let entry = lookup(tree, path, Follow::Last)?;
    tree.read_dir(&entry)?.into_iter().map(|entry| found(tree, &entry)).collect()
}

/// What is known of a file. A link in the last place is not followed.
fn found_at(tree: &Tree, path: &str) -> Result<FoundFile, EngineError> {
    found(tree, &lookup(tree, path, Follow::NoLast)?)
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
