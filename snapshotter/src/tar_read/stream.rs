//! The byte stream below the tar reader: counts offsets, lends bytes in place, and turns I/O errors into
//! errors that say where they happened. It knows blocks, but not what is in them.

use std::io::{self, BufRead};

use super::TarError;
use crate::tar_entry::BLOCK;

/// A buffered input and the offset in it.
pub(super) struct Stream<R> {
    input: R,
    offset: u64,
    /// Bytes lent by the last call of [`Stream::lend`], which `input` still holds.
    lent: usize,
}

impl<R: BufRead> Stream<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, offset: 0, lent: 0 }
    }

    /// Bytes read so far, counting lent ones.
    pub(super) fn offset(&self) -> u64 {
        self.offset + self.lent as u64
    }

    /// How many bytes, at most `most`, can be lent at once; 0 at the end of the stream only (or if `most`
    /// is 0).
    pub(super) fn available(&mut self, most: u64) -> Result<usize, TarError> {
        self.return_lent();
        let length = self.fill()?.len();
        Ok(length.min(usize::try_from(most).unwrap_or(usize::MAX)))
    }

    /// Lends `length` bytes, which [`Stream::available`] has just promised.
    pub(super) fn lend(&mut self, length: usize) -> Result<&[u8], TarError> {
        self.lent = length;
        let offset = self.offset;
        match self.input.fill_buf() {
            Ok(bytes) => Ok(&bytes[..length]),
            Err(source) => Err(TarError::Read { offset, source }),
        }
    }

    /// The next block, or `None` at the end of the stream.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let length = self.available((BLOCK - filled) as u64)?;
            if length == 0 && filled == 0 {
                return Ok(None);
            }
            if length == 0 {
                return Err(TarError::TruncatedHeader { offset: self.offset() });
            }
            block[filled..filled + length].copy_from_slice(self.lend(length)?);
            filled += length;
        }
        Ok(Some(block))
    }

    /// The next `count` bytes, or fewer at the end of the stream. Memory grows with what is really there.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, TarError> {
        let mut bytes = Vec::new();
        loop {
            let length = self.available(count - bytes.len() as u64)?;
            if length == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(self.lend(length)?);
        }
    }

    /// Passes over `count` bytes, and says how many there were.
    pub(super) fn skip(&mut self, count: u64) -> Result<u64, TarError> {
        self.return_lent();
        let mut skipped = 0;
        while skipped < count {
            let length = self.available(count - skipped)?;
            if length == 0 {
                break;
            }
            self.lent = length;
            skipped += length as u64;
        }
        Ok(skipped)
    }

    fn return_lent(&mut self) {
        self.input.consume(self.lent);
        self.offset += self.lent as u64;
        self.lent = 0;
    }

    fn fill(&mut self) -> Result<&[u8], TarError> {
        // Not one loop with the final call: a borrow that is returned cannot also end in a retry.
        while let Err(source) = self.input.fill_buf() {
            if source.kind() != io::ErrorKind::Interrupted {
                return Err(TarError::Read { offset: self.offset, source });
            }
        }
        let offset = self.offset;
        self.input.fill_buf().map_err(|source| TarError::Read { offset, source })
    }
}
