//! Between layers of registries and snapshots: unpacking blobs, and making blobs from snapshots.
//!
//! Both directions are remembered. A layer is unpacked once for all images that have it on top of the same
//! layers (by chain id), and a snapshot's layer is written once for each form. A layer that was pulled
//! keeps its original blob, so that it is pushed as it came.

#[cfg(test)]
mod arriving_tests;
mod convert;
mod planned;

use std::io::{self, Read, Write};
use std::path::Path;

use base::image::{Descriptor, chain_id};
use base::{CancelToken, Digest, Key, KeyHasher, Timestamp};

use crate::apply::{self, Applied};
use crate::blob::{Arriving, BlobInfo};
use crate::compress::{CompressError, Compression, LayerEncoder};
use crate::db::{layers, sharing, snapshots};
use crate::diff::{self, DiffError, DiffOptions, PathChange};
use crate::digest_thread::DigestThread;
use crate::error::StoreError;
use crate::lease::Lease;
use crate::packed::pulled::Sharing;
use crate::packed::{Archive, PackError};
use crate::snapshot::{ActiveSnapshot, CommitInfo, SnapshotId};
use crate::store::Store;

/// How much of an archive is in memory at a time.
const ARCHIVE_BUFFER: usize = 256 << 10;

/// The layer of a snapshot, in one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// The digest of the uncompressed layer.
    pub diff_id: Digest,
    /// The blob.
    pub descriptor: Descriptor,
}

/// How a snapshot's layer is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerForm {
    /// The compression.
    pub compression: Compression,
    /// Later modification times become this one: seconds since 1970, as in `SOURCE_DATE_EPOCH`.
    pub clamp_mtime: Option<i64>,
}

impl From<Compression> for LayerForm {
    /// With the times that the files have.
    fn from(compression: Compression) -> Self {
        Self { compression, clamp_mtime: None }
    }
}

impl LayerForm {
    /// The name of this form in the database.
    pub(crate) fn name(self) -> String {
        let compression = match self.compression {
            Compression::None => "none".to_owned(),
            Compression::Gzip(level) => format!("gzip:{level}"),
            Compression::Zstd(level) => format!("zstd:{level}"),
        };
        self.clamp_mtime.map_or_else(|| compression.clone(), |time| format!("{compression}@{time}"))
    }

    /// The form of this [name](Self::name).
    fn from_name(name: &str) -> Option<Self> {
        let (compression, clamp_mtime) = match name.split_once('@') {
            Some((compression, time)) => (compression, Some(time.parse().ok()?)),
            None => (name, None),
        };
        let compression = match compression.split_once(':') {
            None if compression == "none" => Compression::None,
            Some(("gzip", level)) => Compression::Gzip(level.parse().ok()?),
            Some(("zstd", level)) => Compression::Zstd(level.parse().ok()?),
            _ => return None,
        };
        Some(Self { compression, clamp_mtime })
    }

    pub(crate) fn media_type(self) -> &'static str {
        self.compression.media_type()
    }
}

/// Where the blob of a layer comes from.
#[derive(Clone, Copy)]
struct LayerSource<'a> {
    descriptor: &'a Descriptor,
    /// Whoever receives it; it is in the store otherwise.
    arriving: Option<&'a Arriving>,
    sharing: Sharing,
}

impl LayerSource<'_> {
    fn open(&self, store: &Store) -> Result<Box<dyn Read + Send>, StoreError> {
        match self.arriving {
            Some(arriving) => Ok(Box::new(arriving.reader())),
            None => Ok(Box::new(store.open_blob(&self.descriptor.digest)?)),
        }
    }

    /// What is still received may have an end that nobody needed to read, and be wrong all the same.
    fn check_whole(&self, directory: &Path) -> Result<(), StoreError> {
        if self.arriving.is_none_or(Arriving::is_whole) {
            return Ok(());
        }
        let source = CompressError::Start(io::ErrorKind::UnexpectedEof.into()).into();
        let (layer, directory) = (self.descriptor.digest, directory.to_owned());
        Err(StoreError::Apply { layer, directory, source: Box::new(source) })
    }
}

/// A layer that another store has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLayer {
    /// Its blob.
    pub descriptor: Descriptor,
    /// The digest of its uncompressed content.
    pub diff_id: Digest,
    /// When work on it began there. An image that is made with it has this time, so it is the same image here.
    pub created_at: Timestamp,
}

impl Store {
    /// [`apply_layer`](Self::apply_layer) for a layer that was made by another store, at another time.
    ///
    /// # Errors
    /// As there.
    pub fn apply_shared_layer(
        &self,
        lease: &Lease,
        parent: Option<SnapshotId>,
        layer: &SharedLayer,
        cancel: &CancelToken,
    ) -> Result<SnapshotId, StoreError> {
        let SharedLayer { descriptor, diff_id, created_at } = layer;
        let source = LayerSource { descriptor, arriving: None, sharing: Sharing::Wanted };
        self.apply(lease, parent, source, Some(diff_id), Some(*created_at), cancel)
    }

    /// The snapshot of `layer` on top of `parent`, protected by `lease`. Unpacks the blob, which must be in
    /// the store, unless that was done before; for this, `expected_diff_id` must be given. When it is, a
    /// layer with other content is refused.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBlob`], [`StoreError::Apply`] for a bad layer, [`StoreError::NoSuchSnapshot`].
    pub fn apply_layer(
        &self,
        lease: &Lease,
        parent: Option<SnapshotId>,
        layer: &Descriptor,
        expected_diff_id: Option<&Digest>,
        cancel: &CancelToken,
    ) -> Result<SnapshotId, StoreError> {
        let source = LayerSource { descriptor: layer, arriving: None, sharing: Sharing::Wanted };
        self.apply(lease, parent, source, expected_diff_id, None, cancel)
    }

    /// [`apply_layer`](Self::apply_layer) for a blob that is being received, and need not be in the store yet. The snapshot
    /// is there when all of the blob is, and is what its digest says.
    ///
    /// # Errors
    /// As there; [`StoreError::Apply`] also when the rest of the blob does not come.
    pub fn apply_arriving_layer(
        &self,
        lease: &Lease,
        parent: Option<SnapshotId>,
        layer: &Descriptor,
        arriving: &Arriving,
        expected_diff_id: Option<&Digest>,
        cancel: &CancelToken,
    ) -> Result<SnapshotId, StoreError> {
        let source = LayerSource { descriptor: layer, arriving: Some(arriving), sharing: Sharing::Wanted };
        self.apply(lease, parent, source, expected_diff_id, None, cancel)
    }

    fn apply(
        &self,
        lease: &Lease,
        parent: Option<SnapshotId>,
        layer: LayerSource<'_>,
        expected_diff_id: Option<&Digest>,
        created_at: Option<Timestamp>,
        cancel: &CancelToken,
    ) -> Result<SnapshotId, StoreError> {
        let below = match parent {
            Some(parent) => Below::Chain(self.snapshot_info(parent)?.chain_id),
            None => Below::Nothing,
        };
        let commit = |layer: LayerSource<'_>| {
            let (active, info) = self.unpack(lease, parent, &below, layer, expected_diff_id, cancel)?;
            layer.check_whole(active.layer_dir())?;
            active.commit(CommitInfo { created_at, ..info })
        };
        let unpack = || match commit(layer) {
            // Just now, and it may happen again with another one.
            Err(StoreError::LayerConverted { .. }) => {
                commit(LayerSource { sharing: Sharing::Unwanted, ..layer })
            }
            done => done,
        };
        let Some(chain_id) = expected_diff_id.and_then(|diff_id| below.with(diff_id)) else {
            return unpack();
        };
        let key = KeyHasher::new("lapstrake/claim-chain/v1").add(&chain_id).finish();
        self.once(&key, cancel, || self.snapshot_by_chain_id(lease, &chain_id), unpack)
    }

    fn unpack(
        &self,
        lease: &Lease,
        parent: Option<SnapshotId>,
        below: &Below,
        source: LayerSource<'_>,
        expected: Option<&Digest>,
        cancel: &CancelToken,
    ) -> Result<(ActiveSnapshot, CommitInfo), StoreError> {
        let layer = source.descriptor;
        let active = self.prepare(lease, parent)?;
        let options = self.layer_options(active.parent().is_some(), active.lower_dirs().to_vec())?;
        let failed = |directory: &Path, source| match source {
            apply::ApplyError::Cancelled => StoreError::Cancelled,
            source => {
                let directory = directory.to_owned();
                StoreError::Apply { layer: layer.digest, directory, source: Box::new(source) }
            }
        };
        if self.packs_layers(layer.size)? {
            let blob = source.open(self)?;
            match active.pack_blob(blob, expected.copied(), &options, source.sharing, cancel) {
                Ok(Some((applied, diff_id))) => {
                    let info = commit_info(layer, below, diff_id, &applied);
                    return Ok((active, info));
                }
                Ok(None) => {}
                Err(PackError::Store(error)) => return Err(error),
                Err(PackError::Apply(error)) => return Err(failed(&active.dirs().top, error)),
            }
        }
        let blob = source.open(self)?;
        let (applied, diff_id) =
            apply::apply_blob(blob, expected.copied(), active.layer_dir(), &options, cancel)
                .map_err(|source| failed(active.layer_dir(), source))?;
        let info = commit_info(layer, below, diff_id, &applied);
        Ok((active, info))
    }

    /// The layer of a snapshot, its changes to its parent, as a blob that is in the store and protected by
    /// `lease`. A layer that was pulled is the blob it came as, whatever `form` says.
    ///
    /// # Errors
    /// [`StoreError::NoSuchSnapshot`], [`StoreError::Diff`] when the files cannot be read.
    pub fn layer(
        &self,
        lease: &Lease,
        id: SnapshotId,
        form: impl Into<LayerForm>,
        cancel: &CancelToken,
    ) -> Result<LayerBlob, StoreError> {
        let form = form.into();
        let id = self.layer_owner(id)?;
        let known = || self.stored_layer(lease, id, form);
        self.once(&claim_key(id, &form.name()), cancel, known, || {
            let (layer, plain_size) = self.write_blob(lease, id, form, cancel)?;
            self.remember(id, form, &layer, plain_size)?;
            Ok(layer)
        })
    }

    /// The same without making a blob: what [`layer`](Self::layer) without compression would return. For a
    /// manifest whose layers are made when somebody wants them.
    pub fn layer_id(
        &self,
        lease: &Lease,
        id: SnapshotId,
        clamp_mtime: Option<i64>,
        cancel: &CancelToken,
    ) -> Result<LayerBlob, StoreError> {
        let form = LayerForm { compression: Compression::None, clamp_mtime };
        self.hold(lease, id)?;
        let id = self.layer_owner(id)?;
        if let Some(original) = self.known_layer(id, layers::ORIGINAL)?
            && self.blob(lease, &original.descriptor.digest)?.is_some()
        {
            return Ok(original);
        }
        if let Some(known) = self.known_layer(id, &form.name())? {
            return Ok(known);
        }
        let mut sink = DigestSink::default();
        self.write_layer(id, form, &mut sink, cancel)?;
        let (digest, size) = (sink.digest.finish(), sink.size);
        let layer =
            LayerBlob { diff_id: digest, descriptor: Descriptor::new(form.media_type(), digest, size) };
        self.remember(id, form, &layer, size)?;
        Ok(layer)
    }

    /// The paths that the layer of a committed snapshot changes, in tree order. The snapshot must be protected by a
    /// lease.
    pub fn changed_paths(&self, id: SnapshotId, cancel: &CancelToken) -> Result<Vec<PathChange>, StoreError> {
        let parent = self.snapshot_info(id)?.parent;
        let lower = parent.map(|parent| self.view_dirs(parent)).transpose()?.unwrap_or_default();
        let layer = self.layer_root(self.layer_owner(id)?)?;
        match diff::changed_paths(self.driver()?.layer_source(&layer, &lower), cancel) {
            Err(DiffError::Cancelled) => Err(StoreError::Cancelled),
            changes => changes.map_err(|source| StoreError::Diff { id, source }),
        }
    }

    /// The snapshot that the layer of `id` is kept with.
    fn layer_owner(&self, id: SnapshotId) -> Result<SnapshotId, StoreError> {
        let owner = self.db().read("look up the owner of a layer", |c| sharing::owner(c, id))?;
        owner.ok_or(StoreError::NoSuchSnapshot { id })
    }

    /// The layer in `form`, or as it was pulled, if its blob is there.
    fn stored_layer(
        &self,
        lease: &Lease,
        id: SnapshotId,
        form: LayerForm,
    ) -> Result<Option<LayerBlob>, StoreError> {
        for name in [layers::ORIGINAL, &form.name()] {
            if let Some(known) = self.known_layer(id, name)?
                && self.blob(lease, &known.descriptor.digest)?.is_some()
            {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    fn known_layer(&self, id: SnapshotId, form: &str) -> Result<Option<LayerBlob>, StoreError> {
        Ok(self.db().read("look up a layer", |c| layers::get(c, id, form))?)
    }

    fn write_blob(
        &self,
        lease: &Lease,
        id: SnapshotId,
        form: LayerForm,
        cancel: &CancelToken,
    ) -> Result<(LayerBlob, u64), StoreError> {
        let failed = |source| StoreError::Compress { id, source };
        let mut aside = self.write_aside(lease)?;
        let mut encoder = LayerEncoder::new(&mut aside, form.compression).map_err(failed)?;
        self.write_layer(id, form, &mut encoder, cancel)?;
        let encoded = encoder.finish().map_err(failed)?;
        self.publish(lease, aside, &BlobInfo { digest: encoded.digest, size: encoded.size })?;
        let descriptor = Descriptor::new(form.media_type(), encoded.digest, encoded.size);
        Ok((LayerBlob { diff_id: encoded.diff_id, descriptor }, encoded.uncompressed_size))
    }

    fn write_layer(
        &self,
        id: SnapshotId,
        form: LayerForm,
        out: &mut dyn Write,
        cancel: &CancelToken,
    ) -> Result<(), StoreError> {
        let parent = self.snapshot_info(id)?.parent;
        let lower = parent.map(|parent| self.view_dirs(parent)).transpose()?.unwrap_or_default();
        if form.clamp_mtime.is_none()
            && let Some(archive) = self.packed_archive(id)?
        {
            return self.copy_archive(archive, id, out, cancel);
        }
        let layer = self.layer_root(id)?;
        let source = self.driver()?.layer_source(&layer, &lower);
        let options = DiffOptions { clamp_mtime: form.clamp_mtime };
        match diff::write_layer(source, options, out, cancel) {
            Ok(_) => Ok(()),
            Err(DiffError::Cancelled) => Err(StoreError::Cancelled),
            Err(source) => Err(StoreError::Diff { id, source }),
        }
    }

    /// The archive of a packed layer is the layer.
    fn copy_archive(
        &self,
        mut archive: Archive,
        id: SnapshotId,
        out: &mut dyn Write,
        cancel: &CancelToken,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Diff { id, source: DiffError::Copy(source) };
        let mut buffer = vec![0; ARCHIVE_BUFFER];
        loop {
            if cancel.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            match archive.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => out.write_all(&buffer[..count]).map_err(failed)?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Remembers both digests of a layer, and what follows from them about the snapshots that use it.
    fn remember(
        &self,
        id: SnapshotId,
        form: LayerForm,
        layer: &LayerBlob,
        plain_size: u64,
    ) -> Result<(), StoreError> {
        Ok(self.db().write("remember a layer", |c| {
            let users = sharing::users(c, id)?;
            if users.is_empty() {
                return Ok(());
            }
            layers::put(c, id, &form.name(), layer)?;
            if form.clamp_mtime.is_some() {
                return Ok(());
            }
            let plain = LayerForm { compression: Compression::None, ..form };
            if layers::get(c, id, &plain.name())?.is_none() {
                let descriptor = Descriptor::new(plain.media_type(), layer.diff_id, plain_size);
                layers::put(c, id, &plain.name(), &LayerBlob { diff_id: layer.diff_id, descriptor })?;
            }
            users.iter().try_for_each(|id| snapshots::learn_diff_id(c, *id, &layer.diff_id, plain_size))
        })?)
    }
}

/// What is below a layer.
enum Below {
    /// It is the base.
    Nothing,
    /// Layers with this chain id, if it is known.
    Chain(Option<Digest>),
}

impl Below {
    /// The chain id with the layer `diff_id` on top.
    fn with(&self, diff_id: &Digest) -> Option<Digest> {
        match self {
            Self::Nothing => Some(*diff_id),
            Self::Chain(below) => chain_id(&[(*below)?, *diff_id]),
        }
    }
}

/// What is recorded of a layer that came as a blob.
fn commit_info(layer: &Descriptor, below: &Below, diff_id: Digest, applied: &Applied) -> CommitInfo {
    CommitInfo {
        diff: Some((diff_id, applied.bytes)),
        chain_id: below.with(&diff_id),
        opaque: applied.root_opaque,
        original: Some(layer.clone()),
        ..CommitInfo::default()
    }
}

fn claim_key(id: SnapshotId, form: &str) -> Key {
    KeyHasher::new("lapstrake/claim-layer/v1").u64(id.to_u64()).str(form).finish()
}

/// Digests and counts what is written, and keeps nothing.
#[derive(Default)]
struct DigestSink {
    digest: DigestThread,
    size: u64,
}

impl Write for DigestSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
