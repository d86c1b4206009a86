//! Records and blobs in a directory: of this machine, or one that several mount.
//!
//! `records/v1/ab/<key>`, `blobs/sha256/<digest>`, `notes/v1/<key>` and `claims/v1/<key>`. A file is written aside and then linked to its name, so it is
//! whole when it is seen, and the first one stays.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base::image::Descriptor;
use base::{CancelToken, Digest, Key};
use snapshotter::BlobWriter;
use sys::fs::PathContext as _;

use super::claims::{Claim, Claimed};
use super::place::{NewRecord, Place, Source};
use super::record;
use super::transfer::copy_file;
use crate::error::EngineError;

/// A directory that builders share.
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`, which need not be there.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn record(&self, key: &Key) -> PathBuf {
        let hex = key.hex();
        self.path.join("records/v1").join(&hex[..2]).join(hex)
    }

    fn note_path(&self, key: &Key) -> PathBuf {
        self.path.join("notes/v1").join(key.hex())
    }

    fn claim_path(&self, key: &Key) -> PathBuf {
        self.path.join("claims/v1").join(key.hex())
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    /// Gives `path` what `write` writes; without `replaces`, unless it is there by then.
    fn add(
        &self,
        path: &Path,
        replaces: bool,
        write: impl FnOnce(&mut File, &Path) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        sys::fs::create_dir_all(path.parent().unwrap_or(&self.path), 0o755)?;
        let directory = self.path.join("aside");
        sys::fs::create_dir_all(&directory, 0o755)?;
        let aside = directory.join(sys::random::hex(16)?);
        let mut file = sys::fs::create_new(&aside, 0o644)?;
        let added = write(&mut file, &aside).and_then(|()| {
            if replaces {
                return Ok(sys::fs::rename(&aside, path)?);
            }
            sys::fs::link_if_absent(&aside, path)?;
            Ok(())
        });
        let removed = sys::fs::remove_file(&aside);
        added?;
        removed?;
        Ok(())
    }
}

/// Longer claims are none.
const MAX_CLAIM: u64 = 256;

/// The content of a file that is there and not longer than `limit`.
fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, EngineError> {
    match sys::fs::read_limited(path, limit) {
        Ok(content) => Ok(content),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Source for Directory {
    fn claim(&self, claim: &Claim, _cancel: &CancelToken) -> Result<Claimed, EngineError> {
        let path = self.claim_path(&claim.key);
        match read_if_there(&path, MAX_CLAIM)? {
            Some(kept) if claim.is_of_another(&kept) => return Ok(Claimed::Theirs),
            Some(_) => drop(sys::fs::remove_file(&path)?),
            None => {}
        }
        self.add(&path, false, |file, aside| Ok(file.write_all(&claim.to_bytes()).at("write", aside)?))?;
        // Somebody may have been faster.
        let kept = read_if_there(&path, MAX_CLAIM)?;
        let is_theirs = kept.is_some_and(|kept| claim.is_of_another(&kept));
        Ok(if is_theirs { Claimed::Theirs } else { Claimed::Ours })
    }

    fn release(&self, claim: &Claim, _cancel: &CancelToken) -> Result<(), EngineError> {
        let path = self.claim_path(&claim.key);
        if read_if_there(&path, MAX_CLAIM)?.is_some_and(|kept| !claim.is_of_another(&kept)) {
            sys::fs::remove_file(&path)?;
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn records(&self, keys: &[Key], cancel: &CancelToken) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let read = |key: &Key| {
            cancel.check()?;
            read_if_there(&self.record(key), record::MAX_SIZE)
        };
        keys.iter().map(read).collect()
    }

    fn note(&self, key: &Key, _cancel: &CancelToken) -> Result<Option<Vec<u8>>, EngineError> {
        read_if_there(&self.note_path(key), record::MAX_NOTE_SIZE)
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        _cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        copy_file(&self.blob_path(&blob.digest), blob, to)
    }
}

impl Place for Directory {
    fn add_record(
        &self,
        key: &Key,
        record: &NewRecord<'_>,
        _cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let path = self.record(key);
        if !record.replaces && sys::fs::exists(&path)? {
            return Ok(false);
        }
        self.add(&path, record.replaces, |file, aside| {
            Ok(file.write_all(record.bytes).at("write", aside)?)
        })?;
        Ok(true)
    }

    fn put_note(&self, key: &Key, note: &[u8], _cancel: &CancelToken) -> Result<(), EngineError> {
        self.add(&self.note_path(key), true, |file, aside| Ok(file.write_all(note).at("write", aside)?))
    }

    fn add_blob(
        &self,
        blob: &Descriptor,
        file: &Path,
        anew: bool,
        _cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let path = self.blob_path(&blob.digest);
        if !anew && sys::fs::exists(&path)? {
            return Ok(());
        }
        let mut content = sys::fs::open(file)?;
        self.add(&path, true, |to, aside| {
            std::io::copy(&mut content, to).at("write", aside)?;
            Ok(())
        })
    }
}
