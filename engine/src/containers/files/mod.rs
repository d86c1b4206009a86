//! What is in a container's file system: copied in and out, told as changes, exported, made an image of.
//!
//! The root belongs to the container, which is hostile and may be running. Nothing here walks a path of it by name: paths
//! are looked up below the root's descriptor, component by component, and written to by way of descriptors
//! (`docs/design/0027`).

mod changes;
mod commit;
mod copy_in;
mod copy_out;
mod error;
mod stat;
mod transfer;

use std::path::Path;

use runner::Files;
use runner::shim::{Config, ShimError, Status};
use snapshotter::tree::TreeError;
use snapshotter::{ContainerRecord, HeldDir, Tree};

use super::ContainerDocument;
use super::remove::pause;
use crate::Engine;
use crate::error::EngineError;
pub use commit::{CommitRequest, Committed, Paused};
pub use copy_in::Source;
pub use error::FilesError;
pub use stat::{Kind, PathStat};
pub use transfer::Copied;

/// A place in a container, and how to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyRequest {
    /// The container.
    pub container: String,
    /// The path in it. A slash at its end says that it is a directory, `/.` that only what is in it is meant.
    pub path: String,
    /// Owners are kept (`-a`).
    pub archive: bool,
    /// A link as source stands for what it leads to (`-L`).
    pub follow: bool,
    /// What an archive has may replace what is there by something of another kind.
    pub replaces: bool,
    /// What an archive has is to belong to the container's user.
    pub own: bool,
}

/// How often a container is looked at that ends while its supervisor is asked for its files.
const ATTEMPTS: usize = 100;

/// The files of a container while something is done with them.
struct Opened {
    // Before the lock, so that nothing is mounted any more when it is let go of.
    files: Files,
    /// Keeps a container that does not run from being started.
    lock: Option<HeldDir>,
    document: ContainerDocument,
    /// The user of its process.
    user: (u32, u32),
}

impl Engine {
    fn open_files(&self, name: &str) -> Result<Opened, EngineError> {
        let record = self.find_container(name)?;
        for _ in 1..ATTEMPTS {
            match self.open_files_of(&record) {
                // It has ended just now, which its supervisor may not have noticed yet. Then it may be claimed, or has been started again.
                Err(EngineError::Shim(ShimError::Gone | ShimError::Refused { .. })) => pause(),
                opened => return opened,
            }
        }
        self.open_files_of(&record)
    }

    fn open_files_of(&self, record: &ContainerRecord) -> Result<Opened, EngineError> {
        let document = self.container(&record.id)?.document;
        let (files, lock) = match self.claim(&record.id)? {
            Some(dir) => {
                self.store.check_container_layers(record)?;
                let mut request = Config::read(dir.path())?.request;
                request.layer_way = self.store.layer_way();
                (Files::of_stopped(&request)?, Some(dir))
            }
            None => {
                let refused = |error: EngineError| match self.container(&record.id) {
                    Ok(now) if now.state.status == Status::Restarting => {
                        FilesError::Restarting(record.id.clone()).into()
                    }
                    _ => error,
                };
                let mut client = self
                    .supervisor(&record.id)?
                    .ok_or_else(|| refused(EngineError::NotRunning(record.id.clone())))?;
                let files = Files::of_running(&mut client).map_err(|error| match error {
                    error @ ShimError::Refused { .. } => refused(error.into()),
                    error => error.into(),
                })?;
                (files, None)
            }
        };
        let user =
            self.settings_of(&record.id).map(|config| (config.request.user.uid, config.request.user.gid));
        let user = user.unwrap_or_default();
        Ok(Opened { files, lock, document, user })
    }
}

impl Opened {
    /// A view of the files in which no path leads out.
    fn tree(&self) -> Result<Tree, EngineError> {
        Ok(Tree::of_open(self.files.root().open_dir("").map_err(TreeError::from)?))
    }

    /// Whether a copy looks into what is mounted at a path: what the container has of the host or in a volume. What the
    /// kernel shows there, such as `/proc`, is not files.
    fn is_shown(&self, path: &Path) -> bool {
        let path = Path::new("/").join(path);
        self.document.mounts.iter().any(|point| path.starts_with(Path::new(&point.target)))
    }

    /// Whether a path is what the kernel tells of itself.
    fn is_kernels(&self, path: &Path) -> bool {
        ["proc", "sys"].iter().any(|top| path.starts_with(top)) && !self.is_shown(path)
    }

    /// Unmounts what was mounted, and lets go of the container. What came of it before wins over a failure of that.
    fn close<T>(self, done: Result<T, EngineError>) -> Result<T, EngineError> {
        let Self { files, lock, .. } = self;
        let closed = files.close();
        drop(lock);
        done.and_then(|done| closed.map(|()| done).map_err(EngineError::from))
    }
}
