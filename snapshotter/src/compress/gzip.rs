//! A gzip writer that compresses blocks in parallel and still writes one ordinary member (RFC 1952).
//!
//! The input is cut every [`BLOCK`] bytes. Each block is deflated on its own, with the 32 KiB before it as
//! dictionary, and ends in a sync flush, that is, on a byte border; so the outputs can be joined. A last,
//! empty block ends the stream. Cuts lie at fixed offsets of the input, so neither the number of threads
//! nor the sizes of the writes show in the output.

use std::io::{self, Write};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use rayon::prelude::*;

/// How much input is compressed on its own.
const BLOCK: usize = 256 << 10;

/// How many blocks are gathered before they are compressed together.
const BATCH: usize = 16;

/// How far back deflate can refer (RFC 1951).
const WINDOW: usize = 32 << 10;

/// Magic, method deflate, no flags, no time, no extra flags, operating system unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty last block with fixed codes (RFC 1951, 3.2.6).
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Compresses what is written to it.
pub(super) struct GzipWriter<W> {
    out: W,
    level: Compression,
    /// The last bytes of the batch before, then the batch.
    input: Vec<u8>,
    /// How much of `input` belongs to the batch before.
    history: usize,
    crc: Crc,
    header_written: bool,
}

/// A compressed block and the checksum of its input.
struct Deflated {
    bytes: Vec<u8>,
    crc: Crc,
}

impl<W: Write> GzipWriter<W> {
    pub(super) fn new(out: W, level: u32) -> Self {
        let input = Vec::with_capacity(WINDOW + BATCH * BLOCK);
        Self {
            out,
            level: Compression::new(level),
            input,
            history: 0,
            crc: Crc::new(),
            header_written: false,
        }
    }

    /// Compresses what is left, writes the trailer, and gives the output back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.compress_batch()?;
        self.out.write_all(&LAST_BLOCK)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }

    fn compress_batch(&mut self) -> io::Result<()> {
        if !self.header_written {
            self.out.write_all(&HEADER)?;
            self.header_written = true;
        }
        let starts: Vec<usize> = (self.history..self.input.len()).step_by(BLOCK).collect();
        let (input, level) = (&self.input, self.level);
        let blocks = starts.into_par_iter().map(|start| {
            let end = input.len().min(start + BLOCK);
            deflate(&input[start.saturating_sub(WINDOW)..start], &input[start..end], level)
        });
        for block in blocks.collect::<io::Result<Vec<_>>>()? {
            self.out.write_all(&block.bytes)?;
            self.crc.combine(&block.crc);
        }
        let kept = self.input.len().min(WINDOW);
        self.input.drain(..self.input.len() - kept);
        self.history = kept;
        Ok(())
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.history + BATCH * BLOCK - self.input.len();
        let count = bytes.len().min(room);
        self.input.extend_from_slice(&bytes[..count]);
        if count == room {
            self.compress_batch()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Deflates one block up to a byte border.
fn deflate(dictionary: &[u8], input: &[u8], level: Compression) -> io::Result<Deflated> {
    let mut compress = Compress::new(level, false);
    if !dictionary.is_empty() {
        compress.set_dictionary(dictionary).map_err(io::Error::other)?;
    }
    let mut bytes = Vec::with_capacity(input.len() / 2 + 64);
    loop {
        // `total_in` counts the input of this block only, so it is at most its length.
        let done = compress.total_in() as usize;
        let status = compress
            .compress_vec(&input[done..], &mut bytes, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        let flushed = bytes.len() < bytes.capacity() || status == Status::BufError;
        if compress.total_in() as usize == input.len() && flushed {
            break;
        }
        bytes.reserve(input.len() / 4 + 64);
    }
    let mut crc = Crc::new();
    crc.update(input);
    Ok(Deflated { bytes, crc })
}
