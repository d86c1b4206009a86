//! The trash: what is being deleted. A name in the store is free as soon as its file is here, and nothing
//! that is here is ever looked at again but to be removed, by this process or by a later collection.

use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use sys::fs::PathError;

use crate::error::StoreError;
use crate::store::Store;

/// How many trees are removed at once. Removing waits for the disk, not for the processor: on ext4 on a
/// busy disk, each name removed alone waits for a block of its own.
const REMOVERS: usize = 16;

impl Store {
    /// Moves something to the trash. That another collector was faster is fine.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), PathError> {
        let name = crate::store::new_name()?;
        match sys::fs::rename(path, &self.layout().trashed(&name, self.next_number())) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// Removes everything in the trash. Answers how many bytes of disk that was.
    pub(super) fn empty_trash(&self) -> Result<u64, StoreError> {
        let names = sys::fs::list(&self.layout().trash())?;
        let paths: Vec<PathBuf> = names.iter().map(|name| self.layout().trash().join(name)).collect();
        let remove = |path: &PathBuf| Ok(sys::fs::remove_tree(path)?.bytes);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(REMOVERS.min(paths.len()).max(1)).build();
        let removed: Result<u64, PathError> = match pool {
            Ok(pool) if paths.len() > 1 => pool.install(|| paths.par_iter().map(remove).sum()),
            // Without threads it takes longer.
            _ => paths.iter().map(remove).sum(),
        };
        Ok(removed?)
    }
}
