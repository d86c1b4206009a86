//! What holds the files of an archive: a tar or a directory; and the unpacking of a compressed tar.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ArchiveErrorKind;
use super::shelf::{self, Shelf, Shelved};
use super::tar_table::TarTable;

type Result<T> = std::result::Result<T, ArchiveErrorKind>;

/// How much compressed data is read at a time.
const READ_BUFFER: usize = 256 << 10;
/// How many bytes tell a compression.
const MAGIC: usize = 6;
/// The most memory that decompressing xz may take, in bytes. `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 512 << 20;
/// `LZMA_CONCATENATED`: several xz streams in a row are one file (liblzma, `lzma/container.h`).
const XZ_CONCATENATED: u32 = 0x08;

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
        let magic = read_start(&mut file)?;
        rewind(&mut file)?;
        let file = match decompressor(&magic, file)? {
            Stream::Plain(file) => file,
            Stream::Compressed(mut plain) => spooled(&mut plain, spool, true)?,
        };
        TarTable::read(file, Shelved::new()).map(Self::Tar)
    }

    /// The same for a tar that can be read only once: its large files go to the shelf, the rest is kept in `spool`.
    pub(crate) fn from_stream(mut stream: impl Read, spool: &Path, shelf: &mut dyn Shelf) -> Result<Self> {
        let magic = read_start(&mut stream)?;
        let (mut plain, compressed): (Box<dyn Read>, bool) =
            match decompressor(&magic, Cursor::new(&magic).chain(stream))? {
                Stream::Plain(plain) => (Box::new(plain), false),
                Stream::Compressed(plain) => (plain, true),
            };
        let mut file = aside(spool)?;
        let shelved =
            shelf::spool(&mut plain, &mut file, shelf).map_err(|error| unspooled(error, compressed))?;
        TarTable::read(file, shelved).map(Self::Tar)
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

/// A stream that was looked into.
enum Stream<'a, R> {
    /// It is not compressed.
    Plain(R),
    /// What it holds.
    Compressed(Box<dyn Read + 'a>),
}

/// What `input` holds, which begins with `magic`.
fn decompressor<'a, R: Read + 'a>(magic: &[u8], input: R) -> Result<Stream<'a, R>> {
    let buffered = |input| BufReader::with_capacity(READ_BUFFER, input);
    let damaged = |source| ArchiveErrorKind::Unpack { source };
    Ok(Stream::Compressed(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(input))),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(input))),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, XZ_CONCATENATED);
            let stream = stream.map_err(|error| damaged(error.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered(input), stream))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(buffered(input)).map_err(damaged)?)
        }
        _ => return Ok(Stream::Plain(input)),
    }))
}

/// A file in `spool` that has no name and goes away with its last handle.
fn aside(spool: &Path) -> Result<File> {
    tempfile::tempfile_in(spool).map_err(|source| ArchiveErrorKind::io("make a temporary file for", source))
}

/// Writes a stream into such a file.
fn spooled(stream: &mut impl Read, spool: &Path, compressed: bool) -> Result<File> {
    let mut file = aside(spool)?;
    io::copy(stream, &mut file).map_err(|source| unspooled(source, compressed))?;
    rewind(&mut file)?;
    Ok(file)
}

fn unspooled(source: io::Error, compressed: bool) -> ArchiveErrorKind {
    match source.kind() {
        io::ErrorKind::StorageFull => ArchiveErrorKind::io("unpack", source),
        _ if compressed => ArchiveErrorKind::Unpack { source },
        _ => ArchiveErrorKind::io("read", source),
    }
}

/// The first bytes of a stream, which may be short.
fn read_start(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut start = Vec::with_capacity(MAGIC);
    let read = stream.take(MAGIC as u64).read_to_end(&mut start);
    read.map_err(|source| ArchiveErrorKind::io("read", source))?;
    Ok(start)
}

fn rewind(file: &mut File) -> Result<()> {
    file.seek(SeekFrom::Start(0)).map(drop).map_err(|source| ArchiveErrorKind::io("rewind", source))
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
