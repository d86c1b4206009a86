//! What a path of a container is.

use std::path::PathBuf;

use base::Timestamp;
use snapshotter::tree::Follow;
pub use sys::stat::Kind;

use super::CopyRequest;
use super::copy_out::Found;
use crate::Engine;
use crate::error::EngineError;

/// What a path of a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of the path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
    /// When its content last changed.
    pub mtime: Timestamp,
    /// Where a link leads to in the container, whether there is something or not.
    pub link_target: Option<PathBuf>,
}

impl Engine {
    /// What a path of a container is. The last link of it is not followed, unless the path says that it is a directory.
    ///
    /// # Errors
    /// There is no such container or file.
    pub fn stat_in_container(&self, request: &CopyRequest) -> Result<PathStat, EngineError> {
        let opened = self.open_files(&request.container)?;
        let stat = opened.tree().and_then(|tree| {
            let Found { top, name, own_name } = opened.find(&tree, request)?;
            let stat = top.stat();
            let link_target = match top.kind() {
                Kind::Symlink => {
                    let (_, real, _) = tree.locate(top.path(), Follow::Last)?;
                    Some(PathBuf::from("/").join(real))
                }
                _ => None,
            };
            let name = if name.as_os_str().is_empty() { own_name } else { name };
            let nanoseconds = i32::try_from(stat.mtime.nanoseconds).unwrap_or_default();
            Ok(PathStat {
                name: name.display().to_string(),
                size: stat.size,
                mode: stat.mode,
                kind: top.kind(),
                mtime: Timestamp::new(stat.mtime.seconds, nanoseconds).unwrap_or_default(),
                link_target,
            })
        });
        opened.close(stat)
    }
}
