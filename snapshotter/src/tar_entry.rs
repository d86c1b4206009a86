//! What a tar archive says about one file, shared by the reader, the writer, apply and diff.
//!
//! Also the one place that knows where the fields of a 512-byte header block lie (POSIX.1-2017, `pax`,
//! "ustar Interchange Format"). Nothing here reads or writes.

use std::fmt;
use std::ops::Range;

/// The size of a tar block: headers are one block, data is padded to whole blocks.
pub const BLOCK: usize = 512;

/// The prefix of a pax record that carries an extended attribute, as star, Go and libarchive write it.
pub const XATTR_RECORD: &[u8] = b"SCHILY.xattr.";

/// Where the fields of a header block lie.
pub(crate) mod field {
    use super::Range;

    pub(crate) const NAME: Range<usize> = 0..100;
    pub(crate) const MODE: Range<usize> = 100..108;
    pub(crate) const UID: Range<usize> = 108..116;
    pub(crate) const GID: Range<usize> = 116..124;
    pub(crate) const SIZE: Range<usize> = 124..136;
    pub(crate) const MTIME: Range<usize> = 136..148;
    pub(crate) const CHECKSUM: Range<usize> = 148..156;
    pub(crate) const TYPE: usize = 156;
    pub(crate) const LINK: Range<usize> = 157..257;
    pub(crate) const MAGIC: Range<usize> = 257..265;
    pub(crate) const MAJOR: Range<usize> = 329..337;
    pub(crate) const MINOR: Range<usize> = 337..345;
    /// In ustar only: GNU tar's own format keeps other things there.
    pub(crate) const PREFIX: Range<usize> = 345..500;

    /// POSIX ustar: magic `ustar`, NUL, version `00`.
    pub(crate) const USTAR: &[u8; 8] = b"ustar\x0000";
}

/// What kind of file an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file with data.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; the target is in [`Entry::link`].
    Symlink,
    /// Another name of an earlier entry; that entry's path is in [`Entry::link`].
    HardLink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

impl Kind {
    /// That of a file; `None` for a socket, which no archive can hold.
    pub(crate) fn of(kind: sys::stat::Kind) -> Option<Self> {
        Some(match kind {
            sys::stat::Kind::File => Self::File,
            sys::stat::Kind::Directory => Self::Directory,
            sys::stat::Kind::Symlink => Self::Symlink,
            sys::stat::Kind::CharDevice => Self::CharDevice,
            sys::stat::Kind::BlockDevice => Self::BlockDevice,
            sys::stat::Kind::Fifo => Self::Fifo,
            sys::stat::Kind::Socket => return None,
        })
    }
}

/// A modification time: seconds since 1970, which may be negative, and nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mtime {
    /// Whole seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// One piece of data of a sparse file; what lies between pieces reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file the piece begins, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// One extended attribute: its full name (`user.note`) and its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// The name with its namespace, without NUL.
    pub name: Vec<u8>,
    /// Any bytes.
    pub value: Vec<u8>,
}

impl From<sys::xattr::Xattr> for Xattr {
    fn from(xattr: sys::xattr::Xattr) -> Self {
        Self { name: xattr.name.into_bytes(), value: xattr.value }
    }
}

/// What an archive says about one file. Paths are bytes as they stand in the archive: not cleaned, not
/// trusted, and not necessarily UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name in the archive.
    pub path: Vec<u8>,
    /// The kind of file.
    pub kind: Kind,
    /// The target of a symlink or hard link, else empty.
    pub link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky (`0o7777` at most).
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The time of the last modification.
    pub mtime: Mtime,
    /// The length of the file in bytes, holes included; 0 for everything but regular files.
    pub size: u64,
    /// Major and minor number of a device, else 0.
    pub device: (u32, u32),
    /// Extended attributes in the order of the archive.
    pub xattrs: Vec<Xattr>,
    /// The pieces that have data, for a sparse file; `None` when all of it has.
    pub extents: Option<Vec<Extent>>,
}

impl Entry {
    /// An entry of this kind and name: mode 0, owner 0:0, time 0, no data.
    pub fn new(kind: Kind, path: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            kind,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
            extents: None,
        }
    }

    /// Another name of this file, which says about it what its own entry says.
    pub(crate) fn hard_link(&self, path: impl Into<Vec<u8>>) -> Self {
        Self {
            link: self.path.clone(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            ..Self::new(Kind::HardLink, path)
        }
    }
}

/// The name of an entry as error messages show it: control characters and bytes that are not UTF-8 are
/// escaped, and a very long name is cut, because the name may come from hostile input.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryName(pub Vec<u8>);

impl EntryName {
    const SHOWN: usize = 300;
}

impl From<&[u8]> for EntryName {
    fn from(name: &[u8]) -> Self {
        Self(name.to_vec())
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(Self::SHOWN)];
        f.write_str("\"")?;
        for chunk in shown.utf8_chunks() {
            write!(f, "{}", chunk.valid().escape_debug())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        if shown.len() < self.0.len() {
            f.write_str("…")?;
        }
        f.write_str("\"")
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The sum of the bytes of a header block, its checksum field counted as spaces, as the two ways in use
/// compute it: over unsigned bytes (POSIX) and over signed bytes (some old writers).
pub(crate) fn checksums(block: &[u8; BLOCK]) -> (i64, i64) {
    let mut unsigned = 0;
    let mut signed = 0;
    for (at, &byte) in block.iter().enumerate() {
        let byte = if field::CHECKSUM.contains(&at) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    (unsigned, signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_shown_escaped_and_cut() {
        assert_eq!(EntryName(b"a\n\xff\x1b[2J".to_vec()).to_string(), r#""a\n\xff\u{1b}[2J""#);
        let long = EntryName(vec![b'x'; 5000]).to_string();
        assert!(long.len() < 400 && long.ends_with("…\""), "{long}");
    }
}
