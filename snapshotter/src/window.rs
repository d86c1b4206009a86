//! Reading here and there in a file of the store, mostly forward: what comes next is mapped and not copied.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;

use sys::mapped::Mapped;

/// How far ahead is as good as next.
const NEAR: u64 = 64 << 10;

/// How much is mapped at a time, in bytes.
const AHEAD: u64 = 2 << 20;

/// How much is read ahead where the kernel cannot map, in bytes.
const COPIED_AHEAD: u64 = 16 << 10;

/// The most that is asked for at a time, in bytes.
const MOST: u64 = 16 << 20;

/// A part of a file that is in memory.
#[derive(Default)]
pub(crate) struct Window {
    start: u64,
    bytes: Bytes,
    /// After what was asked for last.
    next: u64,
    /// Whether the kernel cannot map it.
    is_copied: bool,
}

enum Bytes {
    Mapped(Mapped),
    Copied(Vec<u8>),
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Copied(Vec::new())
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Copied(copied) => copied,
        }
    }
}

impl Window {
    /// These bytes of a file, which is the same each time.
    ///
    /// # Errors
    /// What the kernel says; the file ends before; it is more than [`MOST`].
    pub(crate) fn bytes(&mut self, file: &File, offset: u64, length: u64) -> io::Result<&[u8]> {
        let end = offset.checked_add(length).filter(|_| length <= MOST).ok_or(io::ErrorKind::InvalidInput)?;
        let is_next = (self.next..=self.next.saturating_add(NEAR)).contains(&offset);
        self.next = end;
        if offset < self.start || end - self.start > self.bytes.len() as u64 {
            self.fill(file, offset, length, is_next)?;
        }
        // It is in the window, which is in memory.
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..from + length as usize])
    }

    /// Keeps nothing of the file in memory.
    pub(crate) fn let_go(&mut self) {
        self.bytes = Bytes::default();
    }

    fn fill(&mut self, file: &File, offset: u64, length: u64, is_next: bool) -> io::Result<()> {
        // What could not be read is not there.
        let mut buffer = match std::mem::take(&mut self.bytes) {
            Bytes::Copied(buffer) => buffer,
            Bytes::Mapped(_) => Vec::new(),
        };
        self.start = offset;
        if is_next && !self.is_copied {
            let rest = file.metadata()?.len().saturating_sub(offset);
            match Mapped::new(file, offset, rest.min(length.max(AHEAD)) as usize) {
                Ok(mapped) if mapped.len() as u64 >= length => {
                    self.bytes = Bytes::Mapped(mapped);
                    return Ok(());
                }
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => self.is_copied = error.kind() != io::ErrorKind::UnexpectedEof,
            }
        }
        let wanted = if is_next { length.max(COPIED_AHEAD) } else { length };
        buffer.resize(wanted as usize, 0);
        let count = read_at(file, &mut buffer, offset)?;
        buffer.truncate(count);
        if (count as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes = Bytes::Copied(buffer);
        Ok(())
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
    fn what_comes_next_is_mapped_or_read_and_the_same() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &content).unwrap();
        for is_copied in [false, true] {
            let mut window = Window { is_copied, ..Window::default() };
            for offset in (0..3_000_000 - 512).step_by(4608) {
                let bytes = window.bytes(&file, offset as u64, 512).unwrap();
                assert_eq!(bytes, &content[offset..offset + 512], "{offset}");
                if offset % 97 == 0 {
                    window.let_go();
                } else {
                    assert_ne!(matches!(window.bytes, Bytes::Mapped(_)), is_copied, "{offset}");
                }
            }
        }
    }

    #[test]
    fn what_is_asked_for_is_read_wherever_it_is() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &content).unwrap();
        let mut window = Window::default();
        for (offset, length) in
            [(0, 10), (10, 4000), (4000, 200), (900_000, 5), (3, 5000), (1_199_990, 10), (7, 0)]
        {
            let expected = &content[offset..offset + length];
            assert_eq!(window.bytes(&file, offset as u64, length as u64).unwrap(), expected, "{offset}");
        }
        for (offset, length) in [(1_199_990, 11), (2_000_000, 1), (u64::MAX, 1), (0, u64::MAX)] {
            assert!(window.bytes(&file, offset, length).is_err(), "{offset}");
            assert!(!window.is_copied);
            assert_eq!(window.bytes(&file, 8, 4).unwrap(), &content[8..12], "after {offset}");
        }
    }
}
