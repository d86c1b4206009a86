//! Reads one 512-byte header block: names, numbers in octal and in GNU's binary form, the checksum, and
//! the type flag. Extended headers are somebody else's work.

use super::TarError;
use crate::tar_entry::{BLOCK, Entry, EntryName, Kind, Mtime, checksums, field};

/// What a header block introduces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TypeFlag {
    /// A file of this kind.
    Entry(Kind),
    /// A sparse file in the old GNU encoding.
    OldSparse,
    /// Pax records for the next entry.
    Pax,
    /// Pax records for all later entries.
    Global,
    /// The GNU long name of the next entry.
    LongName,
    /// The GNU long link target of the next entry.
    LongLink,
    /// A GNU volume label: a name and nothing else.
    Label,
    /// Any other flag.
    Unknown(u8),
}

/// A header block whose checksum is right. Numbers are read when they are asked for.
pub(super) struct Header {
    pub(super) flag: TypeFlag,
    pub(super) path: Vec<u8>,
    block: [u8; BLOCK],
}

impl Header {
    /// Checks and reads the block that was found at `offset`.
    pub(super) fn parse(block: &[u8; BLOCK], offset: u64) -> Result<Self, TarError> {
        let stored = number(&block[field::CHECKSUM]).ok_or(TarError::Checksum { offset })?;
        let (unsigned, signed) = checksums(block);
        if stored != unsigned && stored != signed {
            return Err(TarError::Checksum { offset });
        }
        let flag = type_flag(block[field::TYPE]);
        Ok(Self { flag, path: full_name(block), block: *block })
    }

    /// The size of the data that follows.
    pub(super) fn size(&self) -> Result<u64, TarError> {
        self.number(field::SIZE, "size")
    }

    /// The entry as this header alone describes it.
    pub(super) fn entry(&self, kind: Kind) -> Result<Entry, TarError> {
        let mut entry = Entry::new(kind, self.path.clone());
        entry.mode = self.number::<u32>(field::MODE, "mode")? & 0o7777;
        entry.uid = self.number(field::UID, "owner")?;
        entry.gid = self.number(field::GID, "group")?;
        entry.mtime = Mtime { seconds: self.number(field::MTIME, "modification time")?, nanos: 0 };
        match kind {
            Kind::File => entry.size = self.size()?,
            Kind::Symlink | Kind::HardLink => entry.link = text(&self.block[field::LINK]).to_vec(),
            Kind::CharDevice | Kind::BlockDevice => {
                let major = self.number(field::MAJOR, "device number")?;
                entry.device = (major, self.number(field::MINOR, "device number")?);
            }
            Kind::Directory | Kind::Fifo => {}
        }
        Ok(entry)
    }

    fn number<T: TryFrom<i64>>(
        &self,
        range: std::ops::Range<usize>,
        field: &'static str,
    ) -> Result<T, TarError> {
        number(&self.block[range])
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| TarError::Number { entry: EntryName(self.path.clone()), field })
    }
}

/// The name with its prefix. Only POSIX ustar has a prefix; GNU keeps other things in those bytes.
fn full_name(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&block[field::NAME]);
    let prefix = text(&block[field::PREFIX]);
    // The version is not compared: old ustar writers left it out.
    let ustar = block[field::MAGIC].starts_with(b"ustar\0");
    if !ustar || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn type_flag(flag: u8) -> TypeFlag {
    match flag {
        // '7' is a "contiguous" file, which POSIX wants treated as a regular one.
        b'0' | 0 | b'7' => TypeFlag::Entry(Kind::File),
        b'1' => TypeFlag::Entry(Kind::HardLink),
        b'2' => TypeFlag::Entry(Kind::Symlink),
        b'3' => TypeFlag::Entry(Kind::CharDevice),
        b'4' => TypeFlag::Entry(Kind::BlockDevice),
        b'5' => TypeFlag::Entry(Kind::Directory),
        b'6' => TypeFlag::Entry(Kind::Fifo),
        b'S' => TypeFlag::OldSparse,
        b'x' | b'X' => TypeFlag::Pax,
        b'g' => TypeFlag::Global,
        b'L' => TypeFlag::LongName,
        b'K' => TypeFlag::LongLink,
        b'V' => TypeFlag::Label,
        other => TypeFlag::Unknown(other),
    }
}

/// The bytes of a text field up to its first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number field: octal digits between spaces and NULs, an empty field being 0; or, when the highest bit
/// of the first byte is set, a big-endian two's complement number in the remaining bits (GNU).
pub(super) fn number(bytes: &[u8]) -> Option<i64> {
    let first = *bytes.first()?;
    if first & 0x80 != 0 {
        // The second highest bit is the sign, so the first byte contributes seven bits.
        let start = i64::from((first << 1).cast_signed() >> 1);
        return bytes[1..]
            .iter()
            .try_fold(start, |value, &byte| value.checked_mul(256).map(|value| value | i64::from(byte)));
    }
    let end = bytes.iter().rposition(|byte| !matches!(byte, b' ' | 0)).map_or(0, |last| last + 1);
    let begin = bytes[..end].iter().position(|&byte| byte != b' ').unwrap_or(end);
    bytes[begin..end].iter().try_fold(0i64, |value, &byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_in_octal_and_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"12x\0"), None);
        assert_eq!(number(b"12\x0034"), None);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(8 << 30));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), Some(-1));
        assert_eq!(number(b"\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
