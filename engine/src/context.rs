//! The build context: the user's files, read in place, through the rules of the ignore file; or what a
//! repository or a web server has instead.

mod remote;
mod selected;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{CancelToken, KeyHasher};
use parser::ignore::{Directory, IgnoreFile};
use parser::{Level, SourceFile};
use snapshotter::stat_cache::StatCache;
use snapshotter::tree::{DirectoryFilter, Filter, Follow};
use snapshotter::{Layering, Lease, ScratchDir, Store, Tree};

use crate::error::{BuildError, EngineError};
use crate::remote::Fetcher;
use crate::request::{BuildRequest, ContextSource, DockerfileSource};

/// No Dockerfile and no ignore file is larger, in bytes.
pub const LARGEST_TEXT: u64 = 64 << 20;

/// The ignore file of a context.
const OWN_IGNORE_FILE: &str = ".dockerignore";

/// The context of one build.
pub(crate) struct BuildContext {
    /// The files, the ignored ones left out.
    pub(crate) tree: Tree,
    /// Remembers content hashes between builds; only for directories that stay.
    pub(crate) stat_cache: Option<StatCache>,
    /// The rules of the ignore file.
    pub(crate) ignored: IgnoreFile,
    /// The Dockerfile, where it came in the place of a context.
    alone: Option<LoadedDockerfile>,
    /// When its files were last changed, for contexts from elsewhere: seconds since 1970.
    changed: Option<i64>,
    /// Whether it came from elsewhere. Then it is complete, and no ignore file holds for it.
    remote: bool,
    /// Holds unpacked files until the build is over.
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
pub fn is_archive(data: impl Read + Send) -> std::io::Result<bool> {
    snapshotter::archive::is_archive(data)
}

impl BuildContext {
    /// Opens a context; what is not a directory is fetched or unpacked first.
    pub(crate) fn open(
        fetcher: &Fetcher<'_>,
        request: &BuildRequest,
        source: &ContextSource,
    ) -> Result<Self, BuildError> {
        let Fetcher { engine, lease, .. } = *fetcher;
        match source {
            ContextSource::Directory(path) => {
                let path = std::path::absolute(path).map_err(|source| {
                    EngineError::from(sys::path_error::PathError::new("find the context", path, source))
                })?;
                let tree = Tree::directory(&path, None).map_err(EngineError::from)?;
                let remembered = stat_cache_path(&engine.store, &path)?;
                let stat_cache = Some(StatCache::load(&remembered, engine.clock.now()));
                Ok(Self { stat_cache, ..Self::of(tree, None) })
            }
            ContextSource::Selected(wanted) => Ok(Self::of(selected::tree(wanted)?, None)),
            ContextSource::Archive(path) => {
                let file = sys::fs::open(path).map_err(EngineError::from)?;
                Ok(Self::unpacked(&engine.store, lease, Some(file))?)
            }
            ContextSource::Git(url) => Ok(remote::repository(fetcher, url, keeps_git_directory(request))?),
            ContextSource::Url(url) => Ok(remote::url(fetcher, url)?),
            ContextSource::Empty => Ok(Self::unpacked(&engine.store, lease, None)?),
        }
    }

    /// The same for a named context, where a single file of the web is a file and no Dockerfile.
    pub(crate) fn open_named(
        fetcher: &Fetcher<'_>,
        request: &BuildRequest,
        source: &ContextSource,
    ) -> Result<Self, BuildError> {
        match source {
            ContextSource::Url(url) => Ok(remote::named_url(fetcher, url)?),
            other => Self::open(fetcher, request, other),
        }
    }

    fn of(tree: Tree, scratch: Option<ScratchDir>) -> Self {
        Self {
            tree,
            stat_cache: None,
            ignored: IgnoreFile::default(),
            alone: None,
            changed: None,
            remote: false,
            _scratch: scratch,
        }
    }

    fn unpacked(store: &Store, lease: &Lease, archive: Option<File>) -> Result<Self, EngineError> {
        let scratch = store.scratch(lease)?;
        if let Some(file) = archive {
            let options = store.apply_options(Layering::Plain);
            snapshotter::archive::extract_archive(file, scratch.path(), &options, &CancelToken::new())?;
        }
        let tree = Tree::directory(scratch.path(), None)?;
        Ok(Self { remote: true, ..Self::of(tree, Some(scratch)) })
    }

    /// Whether there is nothing but a Dockerfile.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// `SOURCE_DATE_EPOCH=context`: when the files were last changed, by their commit or their server.
    pub(crate) fn epoch(&self) -> Result<base::Timestamp, EngineError> {
        let time = self.changed.and_then(base::time::from_epoch_seconds);
        time.ok_or(EngineError::NoContextTime)
    }

    /// Reads the Dockerfile.
    pub(crate) fn dockerfile(
        &self,
        source: &DockerfileSource,
        fetcher: &Fetcher<'_>,
    ) -> Result<LoadedDockerfile, EngineError> {
        match source {
            DockerfileSource::Url(url) => remote::dockerfile(fetcher, url),
            DockerfileSource::Text(text) => {
                if text.len() as u64 > LARGEST_TEXT {
                    let file = "the Dockerfile on standard input".to_owned();
                    return Err(EngineError::TooLarge { file, limit: LARGEST_TEXT });
                }
                Ok(LoadedDockerfile { name: "Dockerfile".to_owned(), text: text.clone(), ignore: None })
            }
            DockerfileSource::File(path) => {
                let text = sys::fs::read_limited(path, LARGEST_TEXT)?;
                let too_large =
                    || EngineError::TooLarge { file: path.display().to_string(), limit: LARGEST_TEXT };
                let text = text.ok_or_else(too_large)?;
                let mut beside = path.as_os_str().to_owned();
                beside.push(".dockerignore");
                let ignore = sys::fs::exists(Path::new(&beside))?
                    .then(|| sys::fs::read(Path::new(&beside)))
                    .transpose()?
                    .map(|text| (beside.to_string_lossy().into_owned(), text));
                Ok(LoadedDockerfile { name: path.display().to_string(), text, ignore })
            }
            DockerfileSource::Sent { directory, path } => {
                Self::of(Tree::directory(directory, None)?, None).in_context(&[path, &path.to_lowercase()])
            }
            DockerfileSource::InContext(path) => self.in_context(&[path]),
            DockerfileSource::Default => match &self.alone {
                Some(alone) => Ok(alone.clone()),
                None => self.in_context(&["Dockerfile", "dockerfile"]),
            },
        }
    }

    /// The first of `names` that the context has.
    fn in_context(&self, names: &[&str]) -> Result<LoadedDockerfile, EngineError> {
        for name in names {
            if let Some(text) = self.read(name)? {
                let beside = format!("{name}.dockerignore");
                let ignore = if self.remote { None } else { self.read(&beside)?.map(|text| (beside, text)) };
                return Ok(LoadedDockerfile { name: (*name).to_owned(), text, ignore });
            }
        }
        Err(EngineError::NoDockerfile { name: names[0].to_owned() })
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(entry) = self.tree.lookup(path, Follow::Last)? else { return Ok(None) };
        Ok(Some(self.tree.read(&entry, LARGEST_TEXT)?))
    }

    /// The same context without what its ignore file excludes: the one that belongs to the Dockerfile, else
    /// its own.
    pub(crate) fn with_ignore_file(self, dockerfile: &LoadedDockerfile) -> Result<Self, BuildError> {
        match &dockerfile.ignore {
            Some((name, text)) => self.without_ignored(name, text),
            None => self.with_own_ignore_file(),
        }
    }

    /// The same context without what the `.dockerignore` in its root excludes. One that is fetched from
    /// elsewhere has none.
    pub(crate) fn with_own_ignore_file(self) -> Result<Self, BuildError> {
        let own = if self.remote { None } else { self.read(OWN_IGNORE_FILE)? };
        match own {
            Some(text) => self.without_ignored(OWN_IGNORE_FILE, &text),
            None => Ok(self),
        }
    }

    fn without_ignored(self, name: &str, text: &[u8]) -> Result<Self, BuildError> {
        let text = String::from_utf8_lossy(text).into_owned();
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

/// Whether the build argument that keeps `.git` of a context is set.
fn keeps_git_directory(request: &BuildRequest) -> bool {
    let value = request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    value.and_then(|value| base::boolean::parse(value)).unwrap_or(false)
}

/// The rules of an ignore file, as the store's trees ask for them.
pub(crate) struct IgnoreRules(pub(crate) IgnoreFile);

impl Filter for IgnoreRules {
    fn directory<'a>(&'a self, dir: &Path) -> Box<dyn DirectoryFilter + 'a> {
        let directory = self.0.directory(dir.as_os_str().as_encoded_bytes());
        Box::new(IgnoreDirectory { rules: &self.0, directory })
    }

    fn prunes(&self, dir: &Path) -> bool {
        !self.0.may_contain_exceptions(dir.as_os_str().as_encoded_bytes())
    }
}

/// The same at one directory.
struct IgnoreDirectory<'a> {
    rules: &'a IgnoreFile,
    directory: Directory,
}

impl DirectoryFilter for IgnoreDirectory<'_> {
    fn excludes(&self, name: &OsStr) -> bool {
        self.rules.excludes_in(&self.directory, name.as_encoded_bytes())
    }
}

/// Where the stat cache of a context directory is: named by the directory's path.
fn stat_cache_path(store: &Store, directory: &Path) -> Result<PathBuf, EngineError> {
    let name =
        KeyHasher::new("lapstrake/context/v1").bytes(directory.as_os_str().as_encoded_bytes()).finish();
    Ok(store.stat_cache_file(&name)?)
}
