//! Turns loaded changes into archive entries: whiteout names, hard links, clamped times.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::CancelToken;

use super::load::{Content, Loaded, Loader, Present};
use super::{Change, DiffError, DiffOptions, DiffStats};
use crate::apply::whiteout::PREFIX;
use crate::tar_entry::{Entry, Kind};
use crate::tar_write::Writer;

/// The name that makes its directory opaque.
const OPAQUE: &str = ".wh..wh..opq";

/// Writes changes, which come in tree order, as an archive.
pub(super) fn write<W: Write, I: Iterator<Item = Result<Change, DiffError>>>(
    mut loader: Loader<'_, I>,
    options: DiffOptions,
    out: BufWriter<W>,
    cancel: &CancelToken,
) -> Result<DiffStats, DiffError> {
    let mut emitter = Emitter {
        archive: Writer::new(out),
        options,
        first_names: HashMap::new(),
        stats: DiffStats::default(),
        cancel,
    };
    loop {
        cancel.check()?;
        let batch = loader.next_batch()?;
        if batch.is_empty() {
            break;
        }
        for loaded in batch {
            emitter.emit(loaded)?;
        }
    }
    let out = emitter.archive.finish()?;
    out.into_inner().map_err(|error| DiffError::Finish(error.into_error()))?;
    Ok(emitter.stats)
}

struct Emitter<'a, W: Write> {
    archive: Writer<BufWriter<W>>,
    options: DiffOptions,
    /// For files with several names, the name that was written first.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    stats: DiffStats,
    cancel: &'a CancelToken,
}

impl<W: Write> Emitter<'_, W> {
    fn emit(&mut self, loaded: Loaded) -> Result<(), DiffError> {
        match loaded {
            Loaded::Present(present) => self.present(*present),
            Loaded::Deleted(path) => {
                let mut name = PREFIX.to_vec();
                name.extend_from_slice(checked_name(&path)?.as_bytes());
                self.whiteout(&path.with_file_name(OsStr::from_bytes(&name)))
            }
            Loaded::Opaque(path) => self.whiteout(&path.join(OPAQUE)),
            Loaded::Socket => {
                self.stats.skipped_sockets += 1;
                Ok(())
            }
        }
    }

    fn present(&mut self, present: Present) -> Result<(), DiffError> {
        let Present { mut entry, content, shared_inode } = present;
        checked_name(Path::new(OsStr::from_bytes(&entry.path)))?;
        if let Some(latest) = self.options.clamp_mtime {
            entry.mtime.seconds = entry.mtime.seconds.min(latest);
        }
        self.stats.entries += 1;
        if let Some(inode) = shared_inode {
            if let Some(first) = self.first_names.get(&inode) {
                let path = std::mem::replace(&mut entry.path, first.clone());
                let link = entry.hard_link(path);
                return Ok(self.archive.append(&link, &mut io::empty())?);
            }
            self.first_names.insert(inode, entry.path.clone());
        }
        self.stats.bytes += entry.size;
        match content {
            Content::Read(bytes) => self.archive.append(&entry, &mut bytes.as_slice())?,
            Content::InFile(directory, name) => {
                let file = directory.open_file(name)?;
                let written = self.archive.append(&entry, &mut Watched { file, cancel: self.cancel });
                // A cancelled read fails the entry; say why.
                self.cancel.check()?;
                written?;
            }
        }
        Ok(())
    }

    /// An empty file that belongs to root and to no time.
    fn whiteout(&mut self, path: &Path) -> Result<(), DiffError> {
        self.stats.whiteouts += 1;
        let entry = Entry::new(Kind::File, path.as_os_str().as_bytes());
        Ok(self.archive.append(&entry, &mut io::empty())?)
    }
}

/// The last component, unless a layer would take it for a deletion.
fn checked_name(path: &Path) -> Result<&OsStr, DiffError> {
    let name = path.file_name().unwrap_or_default();
    if name.as_bytes().starts_with(PREFIX) {
        return Err(DiffError::Reserved { path: PathBuf::from(path) });
    }
    Ok(name)
}

/// A large file that stops being read when the caller asks to stop.
struct Watched<'a> {
    file: std::fs::File,
    cancel: &'a CancelToken,
}

impl io::Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(io::Error::other)?;
        self.file.read(into)
    }
}
