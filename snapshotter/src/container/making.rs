//! Making a container: one transaction for its row, its snapshot and the look at whether its image is still there,
//! and then the directories that it writes to.
//!
//! Nothing has to be protected before: until the row is there, the container is not. From then on it protects what it
//! stands on. Whoever makes it holds its lock until it is complete, so a row whose lock is free and whose directory lacks
//! what runs it is that of a maker who was killed.

use std::path::PathBuf;

use base::{Digest, Mount};

use super::ContainerRecord;
use crate::db::{blobs, containers, from_millis, networks, snapshots, volumes};
use crate::error::StoreError;
use crate::held_dir::HeldDir;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// A container that is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewContainer<'a> {
    /// 64 hex digits.
    pub id: &'a str,
    /// Its name, which no other container has.
    pub name: &'a str,
    /// The id of its image.
    pub image: &'a Digest,
    /// The document that the image was found by: its manifest, or an index.
    pub target: &'a Digest,
    /// The snapshot with all of the image's layers; `None` for an image without any.
    pub parent: Option<SnapshotId>,
    /// The names of the volumes that it shows.
    pub volumes: &'a [String],
    /// The images that it shows beside its own: what each was found by, and the snapshot with all of its layers.
    pub images: &'a [(Digest, Option<SnapshotId>)],
    /// The ids of the user-defined networks that it is in.
    pub networks: &'a [String],
}

/// A container with a row that is not complete. Dropping it without [`keep`](Self::keep) takes it back.
#[derive(Debug)]
pub struct UnfinishedContainer<'a> {
    store: &'a Store,
    /// Its lock is held for as long as it is not complete.
    dir: &'a HeldDir,
    record: ContainerRecord,
    lower: Vec<PathBuf>,
    is_kept: bool,
}

impl Store {
    /// Records a container and makes what it writes to. From then on that, and all below it, is kept until
    /// [`remove_container`](Self::remove_container).
    ///
    /// # Errors
    /// [`StoreError::ContainerNameTaken`]; [`StoreError::NoSuchBlob`] or [`StoreError::NoSuchSnapshot`] when the
    /// image was removed meanwhile, [`StoreError::NoSuchVolume`] and [`StoreError::NoSuchNetwork`] when a volume or a
    /// network was.
    pub fn begin_container<'a>(
        &'a self,
        new: &NewContainer<'_>,
        dir: &'a HeldDir,
    ) -> Result<UnfinishedContainer<'a>, StoreError> {
        let driver = self.driver()?;
        let now = self.now_millis();
        let (snapshot, chain) = self.db().write("record a container", |c| {
            if let Some(other) = containers::named(c, new.name)? {
                let name = new.name.to_owned();
                return Ok(Err(StoreError::ContainerNameTaken { name, id: other.id }));
            }
            if blobs::size(c, new.target)?.is_none() {
                return Ok(Err(StoreError::NoSuchBlob { digest: *new.target }));
            }
            for name in new.volumes {
                if volumes::get(c, name)?.is_none() {
                    return Ok(Err(StoreError::NoSuchVolume { name: name.clone() }));
                }
            }
            for (target, snapshot) in new.images {
                if blobs::size(c, target)?.is_none() {
                    return Ok(Err(StoreError::NoSuchBlob { digest: *target }));
                }
                if let Some(id) = snapshot
                    && !snapshots::is_committed(c, *id)?
                {
                    return Ok(Err(StoreError::NoSuchSnapshot { id: *id }));
                }
            }
            for id in new.networks {
                if networks::get(c, id)?.is_none() {
                    return Ok(Err(StoreError::NoSuchNetwork { network: id.clone() }));
                }
            }
            let chain = new.parent.map(|id| snapshots::chain(c, id)).transpose()?.unwrap_or_default();
            match new.parent.filter(|_| chain.is_empty()) {
                Some(id) => Ok(Err(StoreError::NoSuchSnapshot { id })),
                None => {
                    let snapshot = containers::insert(c, new, now)?;
                    new.volumes.iter().try_for_each(|name| volumes::use_by(c, name, new.id))?;
                    let mut images = new.images.iter().filter_map(|(_, snapshot)| *snapshot);
                    images.try_for_each(|snapshot| containers::show_image(c, new.id, snapshot))?;
                    new.networks.iter().try_for_each(|id| networks::join(c, id, new.id))?;
                    Ok(Ok((snapshot, chain)))
                }
            }
        })??;
        let record = ContainerRecord {
            id: new.id.to_owned(),
            name: new.name.to_owned(),
            image: *new.image,
            snapshot,
            created_at: from_millis(now),
        };
        let lower = driver.view(self.visible_names(&chain));
        // From here on, dropping it takes everything back.
        let unfinished = UnfinishedContainer { store: self, dir, record, lower, is_kept: false };
        let below = driver.view(self.visible(&chain)?);
        let dirs = self.layout().snapshot(snapshot);
        sys::fs::create_dir(&dirs.top, 0o700)?;
        driver.create(&dirs, &below)?;
        Ok(unfinished)
    }
}

impl UnfinishedContainer<'_> {
    /// What to mount for its processes to run in.
    pub fn mount(&self) -> Result<Mount, StoreError> {
        let dirs = self.store.layout().snapshot(self.record.snapshot);
        Ok(self.store.driver()?.writable_mount(&dirs, &self.lower)?)
    }

    /// Says that it is complete.
    pub fn keep(mut self) -> ContainerRecord {
        self.is_kept = true;
        self.record.clone()
    }
}

impl Drop for UnfinishedContainer<'_> {
    /// Whatever fails here is done by the next who lists the containers.
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = self.store.take_away(&self.record, self.dir, false);
        }
    }
}
