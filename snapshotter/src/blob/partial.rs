//! Content that is written in several goes: what one writer did not finish, the next one goes on with.
//!
//! Such content lies in a file named by the digest that it is to have. Whoever writes to it holds a lock on it, and
//! a second writer at the same time begins a file of its own. What an earlier writer left is hashed again before
//! anything is added, and the whole is checked at the end; so a file that a power loss has damaged costs time, and
//! nothing else. Files that nobody has added to for a day are garbage.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use base::digest::Digester;
use sys::fs::{PathContext as _, PathError};
use sys::lock::{FileLock, LockMode};

use super::arriving::Teller;
use super::{AsideFile, BlobWriter, COPY_BUFFER, Expected};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::store::Store;

/// How long unfinished content is kept after the last addition.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

impl Store {
    /// Goes on with the content that is expected, from where the last writer of it was interrupted: see
    /// [`BlobWriter::size`]. Dropping the writer keeps what was written for the next one, unless it is
    /// [discarded](BlobWriter::discard).
    pub fn resume_ingest(&self, lease: &Lease, expected: &Expected) -> Result<BlobWriter, StoreError> {
        sys::fs::create_dir_all(&self.layout().partials(), 0o700)?;
        let path = self.layout().partial(&expected.digest);
        let Some(lock) = FileLock::try_acquire(&path, LockMode::Exclusive)? else {
            // Somebody is writing it. Two that write the same both succeed.
            return self.ingest(lease);
        };
        let mut file = sys::fs::open_to_change(&path)?;
        let (digester, size) = hash_again(&mut file, &path, expected.size)?;
        let aside = AsideFile { file, path, partial: Some(lock) };
        Ok(BlobWriter {
            store: self.clone(),
            lease: lease.clone(),
            aside,
            digester,
            size,
            teller: Teller::default(),
        })
    }

    /// Removes content that nobody finishes: what is old, or with `all` all of it.
    pub(crate) fn sweep_partials(&self, all: bool) -> Result<(), StoreError> {
        let directory = self.layout().partials();
        let names = match sys::fs::list(&directory) {
            Err(error) if error.is_not_found() => return Ok(()),
            names => names?,
        };
        for name in names {
            let path = directory.join(name);
            let Some(lock) = FileLock::try_acquire(&path, LockMode::Exclusive)? else { continue };
            let changed = sys::fs::metadata(&path)?.modified().at("inspect", &path)?;
            let now = std::time::SystemTime::from(self.now());
            // A clock that was set back makes files from the future; they count as new.
            let age = now.duration_since(changed).unwrap_or_default();
            if all || age > KEPT_FOR {
                lock.remove()?;
            }
        }
        Ok(())
    }
}

impl BlobWriter {
    /// What was written so far, hashed.
    pub fn digester(&self) -> Digester {
        self.digester.clone()
    }

    /// Forgets what was written, also for a writer that could go on with it.
    pub fn discard(mut self) {
        self.aside.discard();
    }
}

/// Hashes what a file holds, and leaves it at its end. What is longer than it can be is emptied.
fn hash_again(file: &mut File, path: &Path, most: u64) -> Result<(Digester, u64), PathError> {
    let (mut digester, mut size, mut buffer) = (Digester::new(), 0, vec![0; COPY_BUFFER]);
    loop {
        match file.read(&mut buffer).at("read", path)? {
            0 => return Ok((digester, size)),
            count => {
                digester.update(&buffer[..count]);
                size += count as u64;
            }
        }
        if size > most {
            file.set_len(0).at("truncate", path)?;
            file.seek(SeekFrom::Start(0)).at("rewind", path)?;
            return Ok((Digester::new(), 0));
        }
    }
}
