//! Parts of files in memory, read without copying them.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Advice, Mmap, MmapOptions};

/// A part of a file that nobody changes, in memory.
///
/// All of it has been read when this is made, so a file that is shorter, or that the disk does not give, is an error then. Were the
/// file cut or the disk lost while this exists, the kernel would end the process (`SIGBUS`, `mmap(2)`): so it is for files of our
/// own that are written once, a few mebibytes at a time, and not for long.
pub struct Mapped(Mmap);

impl Mapped {
    /// Maps `length` bytes of a file from `offset` on, and has the kernel read them.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`]: the file ends before. What the kernel says: it cannot be read, or the kernel is older than
    /// Linux 5.14 and cannot do this (`MADV_POPULATE_READ`, `madvise(2)`).
    pub fn new(file: &File, offset: u64, length: usize) -> io::Result<Self> {
        let size = file.metadata()?.len();
        if length == 0 || size.checked_sub(offset).is_none_or(|rest| rest < length as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the mapping is for reading, and the file has all of it. Nobody in this process writes to such files; that nobody
        // else changes them is what this is for.
        let mapped = unsafe { MmapOptions::new().offset(offset).len(length).map(file) }?;
        mapped.advise(Advice::PopulateRead)?;
        Ok(Self(mapped))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_part_of_a_file_is_what_is_in_it() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..50_000_u32).map(|number| (number % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        for (offset, length) in
            [(0, 1), (0, 50_000), (1, 4095), (4096, 4096), (4095, 2), (12_345, 20_000), (49_999, 1)]
        {
            let mapped = Mapped::new(&file, offset, length).unwrap();
            let offset = offset as usize;
            assert_eq!(*mapped, bytes[offset..offset + length], "{length} from {offset}");
        }
    }

    #[test]
    fn what_a_file_does_not_have_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 5000]).unwrap();
        // The end of the last page is memory, but not of the file.
        for (offset, length) in
            [(0, 5001), (4096, 905), (5000, 1), (8192, 1), (u64::MAX, 1), (1, usize::MAX), (7, 0)]
        {
            let error = Mapped::new(&file, offset, length).err().map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::UnexpectedEof), "{length} from {offset}");
        }
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let directory = File::open("/").unwrap();
        assert!(Mapped::new(&directory, 0, 1).is_err());
    }
}
