//! What holds the files of an archive: a tar or a directory; and the unpacking of a compressed tar.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ArchiveErrorKind;
use super::tar_table::TarTable;

type Result<T> = std::result::Result<T, ArchiveErrorKind>;

/// The files of an archive.
pub(crate) enum Container {
    /// An OCI layout as a directory. Only names that we make are looked up in it.
    Directory(PathBuf),
    /// A tar.
    Tar(TarTable),
}

impl Container {
    /// Reads the table of a tar, after unpacking it into `spool` if it is compressed.
    pub(crate) fn from_file(mut file: File, spool: &Path) -> Result<Self> {
        let mut magic = [0; 6];
        let count =
            read_full(&mut file, &mut magic).map_err(|source| ArchiveErrorKind::io("read", source))?;
        rewind(&mut file)?;
        let file = match &magic[..count] {
            [0x1f, 0x8b, ..] => unpack(flate2::read::MultiGzDecoder::new(file), spool)?,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let decoder = zstd::stream::read::Decoder::new(file);
                unpack(decoder.map_err(|source| ArchiveErrorKind::Unpack { source })?, spool)?
            }
            [b'B', b'Z', b'h', ..] => return Err(ArchiveErrorKind::Compression { name: "bzip2" }),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(ArchiveErrorKind::Compression { name: "xz" }),
            _ => file,
        };
        TarTable::read(file).map(Self::Tar)
    }

    /// The file `path`, a name with `/` that is relative to the root; `None` if it is not there.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Part>> {
        match self {
            Self::Tar(table) => table.find(path),
            Self::Directory(root) => open_in(root, path),
        }
    }

    /// The bytes of a small file.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(part) = self.find(path)? else { return Ok(None) };
        if part.size() > limit {
            return Err(ArchiveErrorKind::TooLarge { item: path.to_owned(), limit });
        }
        part.read_all(limit).map(Some)
    }
}

fn open_in(root: &Path, path: &str) -> Result<Option<Part>> {
    let full = root.join(path);
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let metadata = match std::fs::metadata(&full) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ArchiveErrorKind::io("examine a file of", source)),
    };
    if !metadata.is_file() {
        return Err(ArchiveErrorKind::NotAFile { file: path.to_owned() });
    }
    let file = File::open(&full).map_err(|source| ArchiveErrorKind::io("open a file of", source))?;
    Ok(Some(Part::Region { file: Arc::new(file), offset: 0, size: metadata.len() }))
}

/// Unpacks a stream into a file in `spool` that has no name and goes away with its last handle.
fn unpack(mut packed: impl Read, spool: &Path) -> Result<File> {
    let spooling = |source| ArchiveErrorKind::io("make a temporary file for", source);
    let mut file = tempfile::tempfile_in(spool).map_err(spooling)?;
    io::copy(&mut packed, &mut file).map_err(|source| match source.kind() {
        io::ErrorKind::StorageFull => ArchiveErrorKind::io("unpack", source),
        _ => ArchiveErrorKind::Unpack { source },
    })?;
    rewind(&mut file)?;
    Ok(file)
}

fn rewind(file: &mut File) -> Result<()> {
    file.seek(SeekFrom::Start(0)).map(drop).map_err(|source| ArchiveErrorKind::io("rewind", source))
}

/// Fills `buffer` as far as the file goes.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The bytes of one file of an archive.
#[derive(Clone)]
pub(crate) enum Part {
    /// A stretch of a file on disk.
    Region {
        /// The file.
        file: Arc<File>,
        /// Where the stretch begins.
        offset: u64,
        /// Its length.
        size: u64,
    },
    /// Bytes that are not in the archive: a manifest made up for it.
    Memory(Arc<[u8]>),
}

impl Part {
    /// The length in bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Region { size, .. } => *size,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Reads from `position` on; zero only at the end.
    pub(crate) fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = self.size().saturating_sub(position);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        match self {
            Self::Memory(bytes) => {
                // `position` is below the length, because something is left.
                let start = position as usize;
                buffer[..wanted].copy_from_slice(&bytes[start..start + wanted]);
                Ok(wanted)
            }
            Self::Region { file, offset, .. } => {
                let count = file.read_at(&mut buffer[..wanted], offset + position);
                let count = count.map_err(|source| ArchiveErrorKind::io("read", source))?;
                if count == 0 {
                    let shrunk = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(ArchiveErrorKind::io("read", shrunk));
                }
                Ok(count)
            }
        }
    }

    /// All bytes, of which there may be `limit`.
    pub(crate) fn read_all(&self, limit: u64) -> Result<Vec<u8>> {
        let size = self.size().min(limit);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        let mut count = 0;
        while count < bytes.len() {
            count += self.read_at(count as u64, &mut bytes[count..])?;
        }
        Ok(bytes)
    }
}
