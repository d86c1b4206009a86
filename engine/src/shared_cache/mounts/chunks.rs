//! A stream as chunks, cut where its content says so: what is the same as before is in the same chunks, also after
//! something was put in before it. Source: FastCDC (Xia and others, USENIX ATC 2016), by the crate of this name.

use std::io::{self, Read};

use base::Digest;
use fastcdc::v2020::StreamCDC;
use snapshotter::{Store, StoreError};

use super::list::{Chunk, LONGEST_CHUNK, MOST_CHUNKS};

/// The usual length of a chunk, in bytes.
const SMALLEST_AVERAGE: u64 = 1 << 20;
/// The longest average there is.
const LARGEST_AVERAGE: u64 = 4 << 20;

/// How long chunks of a stream of `size` bytes are on average, so that their number stays far below the largest one. It
/// changes by doubling, and rarely: with another average all cuts are elsewhere.
pub(super) fn average(size: u64) -> u32 {
    let wanted = (size / (MOST_CHUNKS as u64 / 4)).next_power_of_two();
    u32::try_from(wanted.clamp(SMALLEST_AVERAGE, LARGEST_AVERAGE)).unwrap_or(u32::MAX)
}

/// Cuts `stream` and hands the chunks to `each`, one after the other.
pub(super) fn cut<E: From<ChunkError>>(
    stream: impl Read,
    average: u32,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let average = average as usize;
    let chunks = StreamCDC::new(stream, average / 4, average, LONGEST_CHUNK as usize);
    for (count, chunk) in chunks.enumerate() {
        if count == MOST_CHUNKS {
            return Err(ChunkError::TooMany.into());
        }
        each(&chunk.map_err(|error| ChunkError::Cut(error.into()))?.data)?;
    }
    Ok(())
}

/// A chunk as a blob.
pub(super) fn pack(content: &[u8]) -> Result<Vec<u8>, ChunkError> {
    zstd::bulk::compress(content, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(ChunkError::Cut)
}

/// Why files cannot be cut into chunks, or put together of them.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// There is no pipe between who reads the files and who cuts.
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
    /// What comes from the files cannot be cut.
    #[error("cannot cut the files into chunks")]
    Cut(#[source] io::Error),
    /// The files are too many.
    #[error("it has more than {MOST_CHUNKS} chunks")]
    TooMany,
    /// It is longer than an archive may be.
    #[error("its files are {size} bytes, and archives may have {limit} (--max-layer-size allows more)")]
    TooLarge {
        /// How long it is, in bytes.
        size: u64,
        /// How long it may be.
        limit: u64,
    },
    /// The store has no such blob, or it is damaged there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob is not what a list says.
    #[error("the blob {0} is no chunk, or another one than the list says")]
    Damaged(Digest),
}

/// The stream that chunks are, whose blobs are in the store.
pub(super) struct Joined<'a> {
    store: &'a Store,
    chunks: std::slice::Iter<'a, Chunk>,
    current: Vec<u8>,
    /// How much of it was read.
    read: usize,
}

impl<'a> Joined<'a> {
    pub(super) fn new(store: &'a Store, chunks: &'a [Chunk]) -> Self {
        Self { store, chunks: chunks.iter(), current: Vec::new(), read: 0 }
    }

    fn unpack(&self, chunk: &Chunk) -> Result<Vec<u8>, ChunkError> {
        let blob = chunk.blob().digest;
        let damaged = |_| ChunkError::Damaged(blob);
        let mut packed = Vec::new();
        self.store.open_blob(&blob)?.read_to_end(&mut packed).map_err(damaged)?;
        let content = zstd::bulk::decompress(&packed, chunk.length as usize).map_err(damaged)?;
        if Digest::of(&content) == chunk.content { Ok(content) } else { Err(ChunkError::Damaged(blob)) }
    }
}

impl Read for Joined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.current.len() {
            let Some(chunk) = self.chunks.next() else { return Ok(0) };
            self.current = self.unpack(chunk).map_err(io::Error::other)?;
            self.read = 0;
        }
        let length = buffer.len().min(self.current.len() - self.read);
        buffer[..length].copy_from_slice(&self.current[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a pattern.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    fn chunks(content: &[u8]) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        cut::<ChunkError>(content, average(0), |chunk| {
            chunks.push(chunk.to_vec());
            Ok(())
        })
        .unwrap();
        chunks
    }

    #[test]
    fn what_is_put_in_changes_few_chunks() {
        let before = noise(24 << 20);
        let first = chunks(&before);
        assert_eq!(first.concat(), before);
        assert!((10..60).contains(&first.len()), "{}", first.len());
        let after = [&before[..9 << 20], b"put in", &before[9 << 20..]].concat();
        let new: Vec<_> = chunks(&after).into_iter().filter(|chunk| !first.contains(chunk)).collect();
        assert!((1..=2).contains(&new.len()), "{}", new.len());
    }

    #[test]
    fn large_streams_have_longer_chunks() {
        assert_eq!((average(0), average(4 << 30)), (1 << 20, 1 << 20));
        assert_eq!((average(5 << 30), average(u64::MAX / 2)), (2 << 20, 4 << 20));
    }
}
