//! The table of contents of a tar: which file lies where. File contents are skipped, not read.
//!
//! Names are normalised and kept as keys only. A name that leads out of the archive is refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::container::Part;
use super::error::ArchiveErrorKind;
use super::shelf::Shelved;

type Result<T> = std::result::Result<T, ArchiveErrorKind>;

/// The most entries that an archive may have.
const MAX_ENTRIES: usize = 200_000;
/// The most bytes of headers and long names that are read.
const MAX_HEADERS: u64 = 256 << 20;
/// The most links that are followed to a file.
const MAX_LINKS: usize = 8;

/// A tar and where its files lie.
pub(crate) struct TarTable {
    file: Arc<File>,
    entries: HashMap<String, Entry>,
}

enum Entry {
    /// Content, by offset and size.
    File(u64, u64),
    /// Content that is on the shelf.
    Shelved(Arc<File>, u64),
    /// Another name, as normalised.
    Link(String),
    /// A directory or a device.
    Other,
}

impl TarTable {
    /// Reads the headers of `file`, in the place of whose largest contents there may be others. A name that occurs again replaces the
    /// earlier entry.
    pub(crate) fn read(file: File, mut shelved: Shelved) -> Result<Self> {
        let length = file.metadata().map_err(|source| ArchiveErrorKind::io("examine", source))?.len();
        let mut archive = tar::Archive::new(HeaderReader { file: &file, left: MAX_HEADERS, zeros: false });
        let tar = |source| ArchiveErrorKind::Tar { source };
        let mut entries = HashMap::new();
        for entry in archive.entries_with_seek().map_err(tar)? {
            let entry = entry.map_err(tar)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let key =
                normalise("", &name).ok_or_else(|| ArchiveErrorKind::UnsafeName { entry: name.clone() })?;
            if entries.len() >= MAX_ENTRIES {
                return Err(ArchiveErrorKind::TooManyEntries { limit: MAX_ENTRIES });
            }
            let entry = match classify(&entry, name, length)? {
                Entry::File(offset, size) => match shelved.remove(&offset) {
                    Some(file) => Entry::Shelved(Arc::new(file), size),
                    None => Entry::File(offset, size),
                },
                other => other,
            };
            entries.insert(key, entry);
        }
        if !archive.into_inner().zeros {
            return Err(ArchiveErrorKind::NoEnd);
        }
        nothing_follows(&file)?;
        Ok(Self { file: Arc::new(file), entries })
    }

    /// The file `path`, through links within the archive.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Part>> {
        let Some(mut key) = normalise("", path) else {
            return Err(ArchiveErrorKind::UnsafeName { entry: path.to_owned() });
        };
        for _ in 0..MAX_LINKS {
            match self.entries.get(&key) {
                None => return Ok(None),
                Some(Entry::File(offset, size)) => {
                    return Ok(Some(Part::Region { file: self.file.clone(), offset: *offset, size: *size }));
                }
                Some(Entry::Shelved(file, size)) => {
                    return Ok(Some(Part::Region { file: Arc::clone(file), offset: 0, size: *size }));
                }
                Some(Entry::Link(target)) => key.clone_from(target),
                Some(Entry::Other) => return Err(ArchiveErrorKind::NotAFile { file: path.to_owned() }),
            }
        }
        Err(ArchiveErrorKind::LinkLoop { entry: path.to_owned() })
    }
}

/// Refuses what stands behind the end of the tar, where tar itself writes only zeros: a second archive that was
/// appended would silently be lost.
fn nothing_follows(mut file: &File) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut offset =
        file.stream_position().map_err(|source| ArchiveErrorKind::io("find the position in", source))?;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(ArchiveErrorKind::io("read", source)),
        };
        if let Some(index) = buffer[..count].iter().position(|byte| *byte != 0) {
            return Err(ArchiveErrorKind::Trailing { offset: offset + index as u64 });
        }
        offset += count as u64;
    }
}

fn classify<R: Read>(entry: &tar::Entry<'_, R>, name: String, length: u64) -> Result<Entry> {
    use tar::EntryType;
    let target = || entry.link_name_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let base = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            let end = offset.saturating_add(size);
            if end > length {
                return Err(ArchiveErrorKind::Truncated { entry: name, end, length });
            }
            return Ok(Entry::File(offset, size));
        }
        EntryType::GNUSparse => return Err(ArchiveErrorKind::Sparse { entry: name }),
        // A symbolic link is relative to its own directory, a hard link to the archive's root.
        EntryType::Symlink => name.rsplit_once('/').map_or("", |(directory, _)| directory),
        EntryType::Link => "",
        _ => return Ok(Entry::Other),
    };
    let key = target().and_then(|target| normalise(base, &target));
    key.map(Entry::Link).ok_or_else(|| ArchiveErrorKind::UnsafeName { entry: name.clone() })
}

/// `name` relative to the directory `base`, without `.`, `..` and double slashes; `None` if it is
/// absolute or leads out of the root.
fn normalise(base: &str, name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Reads headers and limits how much of them there may be. Contents are passed by seeking.
struct HeaderReader<'a> {
    file: &'a File,
    left: u64,
    /// Whether the last block was all zeros, as the block is that ends a tar.
    zeros: bool,
}

impl Read for HeaderReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count > 0 {
            self.zeros = buffer[..count].iter().all(|byte| *byte == 0);
        }
        let message = "its headers are too large";
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, message))?;
        Ok(count)
    }
}

impl Seek for HeaderReader<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_or_refused() {
        assert_eq!(normalise("", "./a//b/./c").as_deref(), Some("a/b/c"));
        assert_eq!(normalise("a/b", "../c/layer.tar").as_deref(), Some("a/c/layer.tar"));
        assert_eq!(normalise("a", "../../c"), None);
        assert_eq!(normalise("", "/etc/passwd"), None);
        assert_eq!(normalise("", "../etc/passwd"), None);
    }
}
