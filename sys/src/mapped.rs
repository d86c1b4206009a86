//! Parts of files in memory, read without copying them.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::ptr::NonNull;

/// A part of a file that nobody changes, in memory.
///
/// All of it has been read when this is made, so a file that is shorter, or that the disk does not give, is an error then. Were the
/// file cut or the disk lost while this exists, the kernel would end the process (`SIGBUS`, `mmap(2)`): so it is for files of our
/// own that are written once, a few mebibytes at a time, and not for long.
pub struct Mapped {
    /// Of the mapping, which begins with a page.
    address: NonNull<libc::c_void>,
    length: usize,
    /// Where in it the part is.
    part: Range<usize>,
}

// SAFETY: it is memory that is only read, and is given back by whoever drops it, from any thread.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps `length` bytes of a file from `offset` on, and has the kernel read them.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`]: the file ends before. What the kernel says: it cannot be read, or the kernel is older than
    /// Linux 5.14 and cannot do this (`MADV_POPULATE_READ`, `madvise(2)`).
    pub fn new(file: &File, offset: u64, length: usize) -> io::Result<Self> {
        let end = u64::try_from(length).ok().and_then(|length| offset.checked_add(length));
        if length == 0 || end.is_none_or(|end| std::fs::File::metadata(file).is_ok_and(|is| is.size() < end))
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let page = page_size();
        // It is less than a page.
        let before = (offset % page) as usize;
        let start = libc::off_t::try_from(offset - offset % page).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mapped = length.checked_add(before).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                start,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address).ok_or(io::ErrorKind::OutOfMemory)?;
        let this = Self { address, length: mapped, part: before..mapped };
        // SAFETY: the mapping is ours; this reads its pages and changes nothing.
        match unsafe { libc::madvise(address.as_ptr(), mapped, libc::MADV_POPULATE_READ) } {
            0 => Ok(this),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: that many bytes are mapped for reading until this is dropped, and the file has them all. Nobody in this process
        // writes to the mapping; that nobody changes the file is what this is for.
        let all = unsafe { std::slice::from_raw_parts(self.address.as_ptr().cast::<u8>(), self.length) };
        &all[self.part.clone()]
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and what was lent of it is given back.
        unsafe { libc::munmap(self.address.as_ptr(), self.length) };
    }
}

/// The length of a page, in bytes.
fn page_size() -> u64 {
    // SAFETY: it has no requirements.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
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
