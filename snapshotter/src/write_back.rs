//! Files that have to be on the disk soon after their last byte is written.

use std::fs::File;
use std::io::{self, Write};

/// How much is written until the disk is told to begin with it.
const STEP: u64 = 16 << 20;

/// What is as long as this is better begun with before it is flushed.
const LONG: u64 = 1 << 20;

/// Tells the disk to begin with a file that was written, if that is worth it.
pub(crate) fn begin_if_long(file: &File, length: u64) {
    if length >= LONG {
        sys::fs::begin_to_store(file, 0..length);
    }
}

/// Writes to a new file, and tells the disk to begin every [`STEP`] bytes: what it writes while it has nothing else to do
/// need not be waited for at the end.
pub(crate) struct WriteBack<'a> {
    file: &'a File,
    written: u64,
    /// How much of it is on its way to the disk.
    begun: u64,
}

impl<'a> WriteBack<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        Self { file, written: 0, begun: 0 }
    }
}

impl Write for WriteBack<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        sys::failpoint::pass("write")?;
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written - self.begun >= STEP {
            sys::fs::begin_to_store(self.file, self.begun..self.written);
            self.begun = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
