//! Named roots: snapshots that are kept until their user lets them go, such as those of containers.

use crate::db::roots;
use crate::error::StoreError;
use crate::snapshot::SnapshotId;
use crate::store::Store;

impl Store {
    /// Keeps a snapshot, and all below it, under `kind` and `name`, in place of what was kept there. It must
    /// be protected by a lease until then.
    ///
    /// # Errors
    /// [`StoreError::NoSuchSnapshot`].
    pub fn add_root(&self, kind: &str, name: &str, id: SnapshotId) -> Result<(), StoreError> {
        let found = self.db().write("add a root", |c| roots::put(c, kind, name, id))?;
        if found { Ok(()) } else { Err(StoreError::NoSuchSnapshot { id }) }
    }

    /// The snapshot kept under `kind` and `name`.
    pub fn root_of(&self, kind: &str, name: &str) -> Result<Option<SnapshotId>, StoreError> {
        Ok(self.db().read("look up a root", |c| roots::get(c, kind, name))?)
    }

    /// Lets go of what is kept under `kind` and `name`. `false` when there was nothing.
    pub fn remove_root(&self, kind: &str, name: &str) -> Result<bool, StoreError> {
        Ok(self.db().write("remove a root", |c| roots::delete(c, kind, name))?)
    }
}
