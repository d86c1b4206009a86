//! Blobs: content named by its sha256 digest.
//!
//! Content is written aside while it is hashed, checked against what was expected, and only then gets its
//! name and its row. So a blob that can be found is complete, a failed or killed writer leaves nothing but
//! a file that the collector removes, and two writers of the same content both succeed.

mod arriving;
mod partial;

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base::Digest;
use base::digest::Digester;
use sys::fs::{PathContext as _, PathError};
use sys::lock::{FileLock, LockMode};

use self::arriving::Teller;
pub use self::arriving::{Arriving, ArrivingReader};
use crate::db::{blobs, leases};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::mark::Node;
use crate::store::Store;

/// How much of a stream is in memory at a time.
const COPY_BUFFER: usize = 256 << 10;

/// A blob in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// What it is named by.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// What the content must turn out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The digest.
    pub digest: Digest,
    /// The length in bytes.
    pub size: u64,
}

impl Store {
    /// Begins a new blob. What is written is hashed on the way; dropping the writer forgets it.
    pub fn ingest(&self, lease: &Lease) -> Result<BlobWriter, StoreError> {
        let aside = self.write_aside(lease)?;
        let (store, lease) = (self.clone(), lease.clone());
        Ok(BlobWriter { store, lease, aside, digester: Digester::new(), size: 0, teller: Teller::default() })
    }

    /// A file beside the blobs that may become one.
    pub(crate) fn write_aside(&self, lease: &Lease) -> Result<AsideFile, StoreError> {
        let path = self.layout().ingest(lease.id(), self.next_number());
        // Content does not change once it has its name.
        let file = sys::fs::create_new(&path, 0o444)?;
        Ok(AsideFile { file, path, partial: None })
    }

    /// The blob with this digest, protected by `lease` from then on.
    pub fn blob(&self, lease: &Lease, digest: &Digest) -> Result<Option<BlobInfo>, StoreError> {
        const OPERATION: &str = "look up a blob";
        let Some(size) = self.db().read(OPERATION, |c| blobs::size(c, digest))? else { return Ok(None) };
        if lease.holds(Node::Blob(*digest)) {
            return Ok(Some(BlobInfo { digest: *digest, size }));
        }
        let size = self.db().write(OPERATION, |c| {
            let size = blobs::size(c, digest)?;
            if size.is_some() {
                leases::hold_blob(c, lease.id(), digest)?;
            }
            Ok(size)
        })?;
        if size.is_some() {
            lease.note_blob(*digest);
        }
        Ok(size.map(|size| BlobInfo { digest: *digest, size }))
    }

    /// Opens a blob for reading. Something must protect it until then: a lease or an image.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBlob`], and [`StoreError::BlobDamaged`] when the file's length is wrong.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let size = self.db().read("look up a blob", |c| blobs::size(c, digest))?;
        let expected = size.ok_or(StoreError::NoSuchBlob { digest: *digest })?;
        let path = self.blob_path(digest);
        let file = match sys::fs::open(&path) {
            // The collector may have been here since; without a row, there is no blob.
            Err(error) if error.is_not_found() && !self.has_blob(digest)? => {
                return Err(StoreError::NoSuchBlob { digest: *digest });
            }
            file => file?,
        };
        let actual = file.metadata().at("inspect", &path)?.len();
        if actual != expected {
            return Err(StoreError::BlobDamaged { digest: *digest, path, expected, actual });
        }
        Ok(file)
    }

    fn has_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.db().read("look up a blob", |c| blobs::size(c, digest))?.is_some())
    }

    /// The whole of a blob of at most `limit` bytes; `None` when there is no such blob.
    ///
    /// # Errors
    /// [`StoreError::BlobTooLarge`] and [`StoreError::BlobDamaged`].
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut file = match self.open_blob(digest) {
            Err(StoreError::NoSuchBlob { .. }) => return Ok(None),
            file => file?,
        };
        let path = self.blob_path(digest);
        let size = file.metadata().at("inspect", &path)?.len();
        if size > limit {
            return Err(StoreError::BlobTooLarge { digest: *digest, size, limit });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", &path)?;
        Ok(Some(bytes))
    }

    /// Where the blob with this digest lies, or would lie.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.layout().blob(digest)
    }

    /// Stores `bytes` as a blob.
    pub fn put_blob(&self, lease: &Lease, bytes: &[u8]) -> Result<BlobInfo, StoreError> {
        let digest = Digest::of(bytes);
        if let Some(blob) = self.blob(lease, &digest)? {
            return Ok(blob);
        }
        let mut writer = self.ingest(lease)?;
        writer.append(bytes)?;
        writer.finish(None)
    }

    /// Makes the complete file `aside` the blob that it is said to be, protected by `lease`, unless that is
    /// there already.
    pub(crate) fn publish(
        &self,
        lease: &Lease,
        mut aside: AsideFile,
        blob: &BlobInfo,
    ) -> Result<(), StoreError> {
        if self.blob(lease, &blob.digest)?.is_some() {
            aside.discard();
            return Ok(());
        }
        // While this lock is held, the collector does not take the file for one without a row.
        aside.close_for_writing()?;
        let _publishing = FileLock::acquire(&self.layout().blobs_lock(), LockMode::Shared)?;
        // A file of that name without a row may be damaged, so it is replaced.
        rename_into_place(&aside.path, &self.blob_path(&blob.digest))?;
        let now = self.now_millis();
        self.db().write("record a blob", |c| {
            blobs::insert(c, &blob.digest, blob.size, now)?;
            leases::hold_blob(c, lease.id(), &blob.digest)
        })?;
        lease.note_blob(blob.digest);
        Ok(())
    }
}

/// Renames a file, creating the directory that it goes to if it is the first there.
fn rename_into_place(from: &Path, to: &Path) -> Result<(), PathError> {
    match (sys::fs::rename(from, to), to.parent()) {
        (Err(error), Some(directory)) if error.is_not_found() => {
            sys::fs::create_dir_all(directory, 0o700)?;
            sys::fs::rename(from, to)
        }
        (result, _) => result,
    }
}

/// Receives the content of a blob. Dropping it without [`finish`](Self::finish) keeps nothing, unless it was made
/// by [`Store::resume_ingest`].
pub struct BlobWriter {
    store: Store,
    lease: Lease,
    aside: AsideFile,
    digester: Digester,
    size: u64,
    teller: Teller,
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobWriter")
            .field("path", &self.aside.path)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl BlobWriter {
    /// Writes all that `from` gives. Returns how many bytes that was.
    ///
    /// # Errors
    /// [`StoreError::Content`] when `from` fails, [`StoreError::File`] when the store does.
    pub fn copy_from(&mut self, from: &mut dyn Read) -> Result<u64, StoreError> {
        let mut buffer = vec![0; COPY_BUFFER];
        let before = self.size;
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => return Ok(self.size - before),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(StoreError::Content { source }),
            };
            self.append(&buffer[..length])?;
        }
    }

    /// Writes `bytes`.
    ///
    /// # Errors
    /// The store cannot.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        self.aside.append(bytes)?;
        self.digester.update(bytes);
        self.size += bytes.len() as u64;
        self.teller.wrote(self.size);
        Ok(())
    }

    /// Lets others read what is written, while it is.
    ///
    /// # Errors
    /// What was written so far cannot be opened.
    pub fn tell(&mut self, arriving: &Arriving) -> Result<(), StoreError> {
        Ok(self.teller.begin(arriving, &self.aside.path, self.size)?)
    }

    /// How many bytes were written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends the content and makes it a blob, protected by the writer's lease. A blob that is there already
    /// is success.
    ///
    /// # Errors
    /// [`StoreError::BlobMismatch`] when digest or length are not the expected ones; nothing is kept then.
    pub fn finish(mut self, expected: Option<Expected>) -> Result<BlobInfo, StoreError> {
        let blob = BlobInfo { digest: self.digester.finish(), size: self.size };
        if let Some(expected) = expected.filter(|e| (e.digest, e.size) != (blob.digest, blob.size)) {
            self.aside.discard();
            return Err(StoreError::BlobMismatch {
                expected: expected.digest,
                expected_size: expected.size,
                actual: blob.digest,
                actual_size: blob.size,
            });
        }
        self.store.publish(&self.lease, self.aside, &blob)?;
        self.teller.done();
        Ok(blob)
    }
}

impl Write for BlobWriter {
    /// Errors are I/O errors of the right kind that carry a [`PathError`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(|error| io::Error::new(error.kind(), error))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file beside the blobs, removed when dropped unless it has become a blob.
pub(crate) struct AsideFile {
    file: File,
    path: PathBuf,
    /// The lock on a file that is kept for the next writer when it is dropped.
    partial: Option<FileLock>,
}

impl AsideFile {
    /// Makes the file one that is removed when it is dropped.
    fn discard(&mut self) {
        if let Some(lock) = self.partial.take() {
            // Removed under its lock, so that it is nobody else's by then.
            let _ = lock.remove();
        }
    }

    /// Content does not change once it has its name.
    fn close_for_writing(&self) -> Result<(), PathError> {
        if self.partial.is_none() {
            return Ok(());
        }
        self.file.set_permissions(Permissions::from_mode(0o444)).at("change the mode of", &self.path)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        sys::failpoint::pass("write").at("write", &self.path)?;
        self.file.write_all(bytes).at("write", &self.path)
    }
}

impl Write for AsideFile {
    /// Errors are as those of [`BlobWriter`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(|error| io::Error::new(error.kind(), error))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for AsideFile {
    fn drop(&mut self) {
        if self.partial.is_some() {
            return;
        }
        // A file that has become a blob is not here any more. If removal fails, the collector does it later.
        let _ = sys::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests;
