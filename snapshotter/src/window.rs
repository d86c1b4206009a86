//! Reading here and there in a file, mostly forward.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// How far ahead is as good as next.
const NEAR: u64 = 64 << 10;

/// The most that is asked for at a time, in bytes.
const MOST: u64 = 16 << 20;

/// A part of a file that was read.
pub(crate) struct Window {
    /// How much is read at a time of what comes next, in bytes, and elsewhere.
    length: usize,
    elsewhere: usize,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// One that reads so many bytes at a time.
    pub(crate) fn new(length: usize) -> Self {
        Self { length, elsewhere: length.min(NEAR as usize), start: 0, bytes: Vec::new() }
    }

    /// These bytes of a file, which is the same each time.
    ///
    /// # Errors
    /// What the kernel says; the file ends before; it is more than [`MOST`].
    pub(crate) fn bytes(&mut self, file: &File, offset: u64, length: u64) -> io::Result<&[u8]> {
        let wanted = usize::try_from(length.min(MOST)).unwrap_or(usize::MAX);
        if wanted as u64 != length {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let end = self.start.saturating_add(self.bytes.len() as u64);
        if offset < self.start || offset.saturating_add(length) > end {
            let is_next = offset >= self.start && offset <= end.saturating_add(NEAR);
            self.bytes.resize(wanted.max(if is_next { self.length } else { self.elsewhere }), 0);
            self.start = offset;
            let count = read_at(file, &mut self.bytes, offset);
            // What could not be read is not there.
            self.bytes.truncate(*count.as_ref().unwrap_or(&0));
            if count? < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        // It was found to be in the window.
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..from + wanted])
    }
}

/// As much as there is.
fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_wherever_it_is() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &content).unwrap();
        let mut window = Window::new(4096);
        for (offset, length) in
            [(0, 10), (10, 4000), (4000, 200), (900_000, 5), (3, 5000), (1_199_990, 10), (7, 0)]
        {
            let expected = &content[offset..offset + length];
            assert_eq!(window.bytes(&file, offset as u64, length as u64).unwrap(), expected, "{offset}");
        }
        for (offset, length) in [(1_199_990, 11), (2_000_000, 1), (u64::MAX, 1), (0, u64::MAX)] {
            assert!(window.bytes(&file, offset, length).is_err(), "{offset}");
            assert_eq!(window.bytes(&file, 8, 4).unwrap(), &content[8..12], "after {offset}");
        }
    }
}
