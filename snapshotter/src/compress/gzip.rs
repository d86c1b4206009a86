//! A gzip writer that compresses blocks in parallel and still writes one ordinary member (RFC 1952).
//!
//! The input is cut every [`BLOCK`] bytes. Each block is deflated on its own, with the 32 KiB before it as
//! dictionary, and ends in a sync flush, that is, on a byte border; so the outputs can be joined. A last,
//! empty block ends the stream. Cuts lie at fixed offsets of the input, so neither the number of threads
//! nor the sizes of the writes show in the output.
//!
//! Blocks go to the pool as soon as they are full, and their outputs are written in order as they become ready;
//! so whoever writes reads and hashes the next blocks meanwhile.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// How much input is compressed on its own.
const BLOCK: usize = 256 << 10;

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
    /// The end of the block before, then the block that is being filled.
    input: Vec<u8>,
    /// How much of `input` belongs to the block before.
    history: usize,
    /// The blocks that are being compressed, in order.
    pending: VecDeque<Receiver<io::Result<Deflated>>>,
    /// How many blocks may be under way.
    most_pending: usize,
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
        Self {
            out,
            level: Compression::new(level),
            input: Vec::with_capacity(WINDOW + BLOCK),
            history: 0,
            pending: VecDeque::new(),
            // Enough that no thread waits while the first output is written.
            most_pending: 4 * rayon::current_num_threads(),
            crc: Crc::new(),
            header_written: false,
        }
    }

    /// Compresses what is left, writes the trailer, and gives the output back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.input.len() > self.history {
            self.compress_block();
        }
        self.write_down_to(0)?;
        self.write_header()?;
        self.out.write_all(&LAST_BLOCK)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }

    /// Hands the block that was filled to the pool.
    fn compress_block(&mut self) {
        let mut next = Vec::with_capacity(WINDOW + BLOCK);
        next.extend_from_slice(&self.input[self.input.len().saturating_sub(WINDOW)..]);
        let kept = next.len();
        let (input, history) = (std::mem::replace(&mut self.input, next), self.history);
        self.history = kept;
        let level = self.level;
        let (sender, receiver) = sync_channel(1);
        rayon::spawn(move || {
            let (dictionary, block) = input.split_at(history);
            // Nobody waits for it when the writer is gone.
            let _ = sender.send(deflate(dictionary, block, level));
        });
        self.pending.push_back(receiver);
    }

    /// Writes outputs until no more than `most` blocks are under way.
    fn write_down_to(&mut self, most: usize) -> io::Result<()> {
        while self.pending.len() > most {
            let Some(receiver) = self.pending.pop_front() else { break };
            let block = wait(&receiver)?;
            self.write_header()?;
            self.out.write_all(&block.bytes)?;
            self.crc.combine(&block.crc);
        }
        Ok(())
    }

    fn write_header(&mut self) -> io::Result<()> {
        if !self.header_written {
            self.out.write_all(&HEADER)?;
            self.header_written = true;
        }
        Ok(())
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.history + BLOCK - self.input.len();
        let count = bytes.len().min(room);
        self.input.extend_from_slice(&bytes[..count]);
        if count == room {
            self.compress_block();
            self.write_down_to(self.most_pending)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for a block. A thread of the pool works on other tasks meanwhile: it may be the only one.
fn wait(block: &Receiver<io::Result<Deflated>>) -> io::Result<Deflated> {
    loop {
        match block.try_recv() {
            Ok(block) => return block,
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => {}
        }
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            // No task waits, so another thread has this one.
            return block.recv().unwrap_or_else(|_| Err(lost()));
        }
    }
}

/// A task ends without an answer only by a panic.
fn lost() -> io::Error {
    io::Error::other("a thread that compressed a block has ended without a result")
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
