//! A tar that comes as a stream and can be read only once: its large files go where they are to be in the end, the rest is kept aside.
//!
//! The file aside is as long as the tar, with holes where the large files would be, so that every offset in it is that of the tar. What
//! lies where is read from it afterwards, as from any tar. Headers are looked at here only to find large files; where one is unusual,
//! everything from there on is kept aside. So what this file and the reader of the table see differently costs a digest that does not
//! match, and no more.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};

/// Where large files go that come one after the other.
pub trait Shelf {
    /// Takes a file's content to its end, and gives it back to be read from the beginning.
    ///
    /// # Errors
    /// It cannot be read or kept.
    fn keep(&mut self, content: &mut dyn Read) -> io::Result<File>;
}

/// A tar is made of blocks of this size (POSIX, `pax`).
const BLOCK: usize = 512;

/// Files from this size on are large, in bytes.
const LARGE: u64 = 1 << 20;

/// The longest list of attributes that is looked at, in bytes.
const LONGEST: u64 = 1 << 20;

/// How much is copied at a time.
const BUFFER: usize = 256 << 10;

/// The large files of a tar, by the offsets that they would have in it.
pub(super) type Shelved = HashMap<u64, File>;

/// Copies a tar to the file aside, which is empty; what is large goes to the shelf.
pub(super) fn spool(mut stream: impl Read, aside: &mut File, shelf: &mut dyn Shelf) -> io::Result<Shelved> {
    let mut shelved = Shelved::new();
    let mut offset = 0;
    // What attributes say of the size of the next file.
    let mut attributed = None;
    loop {
        let mut header = [0; BLOCK];
        let length = fill(&mut stream, &mut header)?;
        aside.write_all(&header[..length])?;
        offset += length as u64;
        let Some(entry) = (length == BLOCK).then(|| Entry::of(&header)).flatten() else { break };
        let padded = |size: u64| size.next_multiple_of(BLOCK as u64);
        match entry.kind {
            Kind::File => {
                let size = attributed.take().unwrap_or(entry.size);
                if size < LARGE {
                    offset += copy(&mut stream, padded(size), aside)?;
                    continue;
                }
                let mut content = stream.by_ref().take(size);
                let file = shelf.keep(&mut content)?;
                let read = size - content.limit();
                shelved.insert(offset, file);
                offset = aside.seek(SeekFrom::Current(read as i64))?;
                // So that it is as long as the tar, even if that ends here.
                aside.set_len(offset)?;
                offset += copy(&mut stream, padded(size) - size, aside)?;
            }
            Kind::Attributes if entry.size <= LONGEST => {
                let mut text = Vec::new();
                stream.by_ref().take(padded(entry.size)).read_to_end(&mut text)?;
                aside.write_all(&text)?;
                offset += text.len() as u64;
                match size_in(text.get(..entry.size as usize).unwrap_or_default()) {
                    Said::Nothing => {}
                    Said::Size(size) => attributed = Some(size),
                    Said::Unclear => break,
                }
            }
            Kind::Name => offset += copy(&mut stream, padded(entry.size), aside)?,
            Kind::Nothing => {}
            Kind::Attributes | Kind::Other => break,
        }
    }
    copy(&mut stream, u64::MAX, aside)?;
    aside.rewind()?;
    Ok(shelved)
}

/// What a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file's content.
    File,
    /// Attributes of the next entry (`x`).
    Attributes,
    /// The long name of the next entry (GNU's `L` and `K`).
    Name,
    /// An entry without content.
    Nothing,
    /// Anything else.
    Other,
}

struct Entry {
    kind: Kind,
    size: u64,
}

impl Entry {
    /// None at the end, and for what is no header.
    fn of(block: &[u8; BLOCK]) -> Option<Self> {
        let header = tar::Header::from_byte_slice(block);
        let is_zero = |byte: &u8| *byte == 0;
        if block.iter().all(is_zero) {
            return None;
        }
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, byte)| if (148..156).contains(&i) { 32 } else { u32::from(*byte) })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return None;
        }
        let size = header.entry_size().ok().filter(|size| *size < i64::MAX as u64 / 2)?;
        let kind = match header.entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File,
            tar::EntryType::XHeader => Kind::Attributes,
            tar::EntryType::GNULongName | tar::EntryType::GNULongLink => Kind::Name,
            tar::EntryType::Directory | tar::EntryType::Symlink | tar::EntryType::Link if size == 0 => {
                Kind::Nothing
            }
            _ => Kind::Other,
        };
        Some(Self { kind, size })
    }
}

/// What attributes say of a size.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Size(u64),
    Unclear,
}

/// Reads `LENGTH NAME=VALUE\n` after one another (POSIX, `pax`, "Extended Header").
fn size_in(attributes: &[u8]) -> Said {
    let mut said = Said::Nothing;
    for extension in tar::PaxExtensions::new(attributes) {
        let Ok(extension) = extension else { return Said::Unclear };
        if extension.key_bytes().starts_with(b"GNU.sparse") {
            return Said::Unclear;
        }
        if extension.key_bytes() == b"size" {
            let value = extension.value().ok().and_then(|value| value.parse().ok());
            said = match value {
                Some(size) if size < i64::MAX as u64 / 2 => Said::Size(size),
                _ => return Said::Unclear,
            };
        }
    }
    said
}

/// Reads until the buffer is full or the stream ends; answers how much that was.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match stream.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Copies so many bytes, or what there is; answers how many.
fn copy(stream: &mut impl Read, bytes: u64, aside: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER.min(usize::try_from(bytes).unwrap_or(BUFFER))];
    let mut copied = 0;
    while copied < bytes {
        let wanted = usize::try_from(bytes - copied).map_or(buffer.len(), |left| left.min(buffer.len()));
        let length = fill(stream, &mut buffer[..wanted])?;
        if length == 0 {
            break;
        }
        aside.write_all(&buffer[..length])?;
        copied += length as u64;
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keeps files as they come.
    struct Files;

    impl Shelf for Files {
        fn keep(&mut self, content: &mut dyn Read) -> io::Result<File> {
            let mut file = tempfile::tempfile()?;
            io::copy(content, &mut file)?;
            file.rewind()?;
            Ok(file)
        }
    }

    /// What is aside, with the large files in their places.
    fn whole(stream: &[u8]) -> (Vec<u8>, usize) {
        let mut aside = tempfile::tempfile().unwrap();
        let shelved = spool(stream, &mut aside, &mut Files).unwrap();
        let mut bytes = Vec::new();
        aside.read_to_end(&mut bytes).unwrap();
        for (offset, file) in &shelved {
            let mut content = Vec::new();
            (&*file).read_to_end(&mut content).unwrap();
            let place = *offset as usize;
            assert!(bytes[place..place + content.len()].iter().all(|byte| *byte == 0), "it is not aside");
            bytes[place..place + content.len()].copy_from_slice(&content);
        }
        (bytes, shelved.len())
    }

    fn tar(sizes: &[usize], long_names: bool) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (number, size) in sizes.iter().enumerate() {
            let content: Vec<u8> = (0..*size).map(|i| (i * 7 + number) as u8 | 1).collect();
            let name = format!("{}{number}", if long_names { "x".repeat(200) } else { String::new() });
            let mut header = tar::Header::new_gnu();
            header.set_size(*size as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, content.as_slice()).unwrap();
            archive.append_pax_extensions([("comment", &b"size=1"[..])]).unwrap();
        }
        archive.into_inner().unwrap()
    }

    const BIG: usize = LARGE as usize;

    #[test]
    fn large_files_go_to_the_shelf_and_the_rest_aside() {
        for (sizes, shelved) in [(&[3, BIG, 0, BIG + 5, 511][..], 2), (&[BIG - 1], 0), (&[], 0)] {
            for long_names in [false, true] {
                let tar = tar(sizes, long_names);
                assert_eq!(whole(&tar), (tar, shelved), "{sizes:?} {long_names}");
            }
        }
    }

    #[test]
    fn attributes_say_how_large_a_file_is() {
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_pax_extensions([("size", (BIG + 1).to_string().as_bytes())]).unwrap();
        let mut bytes = archive.into_inner().unwrap();
        bytes.truncate(2 * BLOCK);
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend(std::iter::repeat_n(1, (BIG + 1).next_multiple_of(BLOCK)));
        assert_eq!(whole(&bytes).1, 1);
        assert_eq!(size_in(b"13 size=1234\n"), Said::Size(1234));
        for unclear in [&b"9 size=x\n"[..], b"22 GNU.sparse.major=1\n", b"nonsense"] {
            assert_eq!(size_in(unclear), Said::Unclear);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Wherever it is cut off or spoiled, nothing is lost and nothing added.
        #[test]
        fn any_bytes_are_kept(cut in 0..2 * BIG + 4096, place in 0..8192_usize, byte: u8) {
            let mut tar = tar(&[700, BIG + 100, 3], true);
            tar[place] = byte;
            tar.truncate(cut);
            prop_assert_eq!(whole(&tar).0, tar);
        }
    }
}
