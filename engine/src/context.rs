//! The build context: the user's files, read in place, through the rules of the ignore file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{CancelToken, KeyHasher};
use parser::ignore::IgnoreFile;
use parser::{Level, SourceFile};
use snapshotter::apply::ApplyOptions;
use snapshotter::stat_cache::StatCache;
use snapshotter::tree::{Filter, Follow};
use snapshotter::{Layering, Lease, ScratchDir, Store, Tree};

use crate::error::{BuildError, EngineError};
use crate::request::{ContextSource, DockerfileSource};

/// No Dockerfile and no ignore file is larger.
const LARGEST_TEXT: u64 = 64 << 20;

/// The context of one build.
pub(crate) struct BuildContext {
    /// The files, the ignored ones left out.
    pub(crate) tree: Tree,
    /// Remembers content hashes between builds; only for directories that stay.
    pub(crate) stat_cache: Option<StatCache>,
    /// The rules of the ignore file.
    pub(crate) ignored: IgnoreFile,
    /// Holds an unpacked archive until the build is over.
    _scratch: Option<ScratchDir>,
}

/// A Dockerfile's bytes, and the ignore file that belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct LoadedDockerfile {
    /// What errors call it.
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
    /// `<Dockerfile>.dockerignore`, if there is one.
    ignore: Option<(String, Vec<u8>)>,
}

/// Whether these bytes are a tar archive, plain or compressed.
pub fn is_archive(data: &[u8]) -> bool {
    snapshotter::archive::is_archive(data).unwrap_or(false)
}

impl BuildContext {
    /// Opens a context; an archive is unpacked first.
    pub(crate) fn open(
        store: &Store,
        lease: &Lease,
        source: &ContextSource,
        now: base::Timestamp,
    ) -> Result<Self, BuildError> {
        match source {
            ContextSource::Directory(path) => {
                let path = std::path::absolute(path).map_err(|source| {
                    EngineError::from(sys::path_error::PathError::new("find the context", path, source))
                })?;
                let tree = Tree::directory(&path, None).map_err(EngineError::from)?;
                let stat_cache = Some(StatCache::load(&stat_cache_path(store, &path)?, now));
                Ok(Self { tree, stat_cache, ignored: IgnoreFile::default(), _scratch: None })
            }
            ContextSource::Archive(path) => Self::unpacked(store, lease, Some(path)),
            ContextSource::Empty => Self::unpacked(store, lease, None),
        }
    }

    fn unpacked(store: &Store, lease: &Lease, archive: Option<&Path>) -> Result<Self, BuildError> {
        let scratch = store.scratch(lease).map_err(EngineError::from)?;
        if let Some(path) = archive {
            let file = sys::fs::open(path).map_err(EngineError::from)?;
            let options = ApplyOptions::new(Layering::Plain);
            snapshotter::archive::extract_archive(file, scratch.path(), &options, &CancelToken::new())
                .map_err(EngineError::from)?;
        }
        let tree = Tree::directory(scratch.path(), None).map_err(EngineError::from)?;
        Ok(Self { tree, stat_cache: None, ignored: IgnoreFile::default(), _scratch: Some(scratch) })
    }

    /// Reads the Dockerfile.
    pub(crate) fn dockerfile(&self, source: &DockerfileSource) -> Result<LoadedDockerfile, EngineError> {
        match source {
            DockerfileSource::Text(text) => {
                Ok(LoadedDockerfile { name: "Dockerfile".to_owned(), text: text.clone(), ignore: None })
            }
            DockerfileSource::File(path) => {
                let text = sys::fs::read_limited(path, LARGEST_TEXT)?.unwrap_or_default();
                let mut beside = path.as_os_str().to_owned();
                beside.push(".dockerignore");
                let ignore = sys::fs::exists(Path::new(&beside))?
                    .then(|| sys::fs::read(Path::new(&beside)))
                    .transpose()?
                    .map(|text| (beside.to_string_lossy().into_owned(), text));
                Ok(LoadedDockerfile { name: path.display().to_string(), text, ignore })
            }
            DockerfileSource::InContext(path) => self.in_context(&[path]),
            DockerfileSource::Default => self.in_context(&["Dockerfile", "dockerfile"]),
        }
    }

    /// The first of `names` that the context has.
    fn in_context(&self, names: &[&str]) -> Result<LoadedDockerfile, EngineError> {
        for name in names {
            if let Some(text) = self.read(name)? {
                let beside = format!("{name}.dockerignore");
                let ignore = self.read(&beside)?.map(|text| (beside, text));
                return Ok(LoadedDockerfile { name: (*name).to_owned(), text, ignore });
            }
        }
        Err(EngineError::NoDockerfile { name: names[0].to_owned() })
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(entry) = self.tree.lookup(path, Follow::Last)? else { return Ok(None) };
        Ok(Some(self.tree.read(&entry, LARGEST_TEXT)?))
    }

    /// The same context without what its ignore file excludes.
    pub(crate) fn with_ignore_file(self, dockerfile: &LoadedDockerfile) -> Result<Self, BuildError> {
        let (name, text) = match &dockerfile.ignore {
            Some((name, text)) => (name.clone(), text.clone()),
            None => match self.read(".dockerignore")? {
                Some(text) => (".dockerignore".to_owned(), text),
                None => return Ok(self),
            },
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let (rules, diagnostics) = IgnoreFile::parse(&text);
        if diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error) {
            return Err(BuildError::dockerfile(SourceFile::new(name, text), diagnostics));
        }
        if rules.is_empty() {
            return Ok(self);
        }
        let directory = self.tree.dirs().next().map(Path::to_owned).unwrap_or_default();
        let filter: Arc<dyn Filter> = Arc::new(IgnoreRules(rules.clone()));
        let tree = Tree::directory(directory, Some(filter)).map_err(EngineError::from)?;
        Ok(Self { tree, ignored: rules, ..self })
    }

    /// Keeps what was learnt about the files, for the next build.
    pub(crate) fn save_stat_cache(&self) -> Result<(), EngineError> {
        if let Some(cache) = &self.stat_cache {
            cache.save()?;
        }
        Ok(())
    }
}

/// The rules of an ignore file, as the store's trees ask for them.
pub(crate) struct IgnoreRules(pub(crate) IgnoreFile);

impl Filter for IgnoreRules {
    fn excludes(&self, relative: &Path, _is_dir: bool) -> bool {
        self.0.excludes(relative.as_os_str().as_encoded_bytes())
    }

    fn prunes(&self, dir: &Path) -> bool {
        !self.0.may_contain_exceptions(dir.as_os_str().as_encoded_bytes())
    }
}

/// Where the stat cache of a context directory is: named by the directory's path.
fn stat_cache_path(store: &Store, directory: &Path) -> Result<PathBuf, EngineError> {
    let name =
        KeyHasher::new("lapstrake/context/v1").bytes(directory.as_os_str().as_encoded_bytes()).finish();
    Ok(store.stat_cache_file(&name)?)
}
