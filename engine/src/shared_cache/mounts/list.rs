//! What builders tell each other of a cache mount: a small record, and the list of the chunks that its files are in.

use std::io::Read as _;

use base::image::Descriptor;
use base::{Digest, Key, KeyHasher};
use serde::{Deserialize, Serialize};

/// The version of both documents. What is of another version is not there.
const VERSION: u32 = 1;

/// The media type of a list.
const LIST_TYPE: &str = "application/vnd.lapstrake.cache-mount.list.v1+json+zstd";
/// The media type of a chunk.
const CHUNK_TYPE: &str = "application/vnd.lapstrake.cache-mount.chunk.v1+zstd";

/// Longer lists are not read, in bytes after decompression.
const LONGEST_LIST: u64 = 16 << 20;

/// The most chunks of one cache mount. A registry accepts manifests of 4 MiB, and names every chunk in one.
pub(super) const MOST_CHUNKS: usize = 16_384;
/// The longest chunk, in bytes before compression.
pub(super) const LONGEST_CHUNK: u32 = 16 << 20;

/// Under what a cache mount is found: its id, and the branch or whatever else it was made for.
pub(super) fn key(scope: &str, id: &str) -> Key {
    KeyHasher::new("lapstrake/portable-cache-mount/v1").str(scope).str(id).finish()
}

/// What is found under a [`key`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MountRecord {
    version: u32,
    /// What its users call it.
    pub(super) id: String,
    /// The digest of the blob that is the list.
    list: Digest,
    /// The length of that blob in bytes.
    list_size: u64,
}

impl MountRecord {
    /// The record of a cache mount whose list is the blob `list`.
    pub(super) fn new(id: &str, list: &Descriptor) -> Self {
        Self { version: VERSION, id: id.to_owned(), list: list.digest, list_size: list.size }
    }

    /// Reads the record of the cache mount `id`; `None` for whatever is none of ours.
    pub(super) fn read(bytes: &[u8], id: &str) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        (record.version == VERSION && record.id == id && record.list_size <= LONGEST_LIST).then_some(record)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The blob that is the list.
    pub(super) fn list(&self) -> Descriptor {
        list_blob(self.list, self.list_size)
    }
}

/// The blob of a list.
pub(super) fn list_blob(digest: Digest, size: u64) -> Descriptor {
    Descriptor::new(LIST_TYPE, digest, size)
}

/// The chunks of a tar of a cache mount, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct ChunkList {
    version: u32,
    pub(super) chunks: Vec<Chunk>,
}

/// A part of the tar. It is compressed as a blob of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    /// The digest of its content.
    pub(super) content: Digest,
    /// The length of its content in bytes.
    pub(super) length: u32,
    /// The digest of its blob.
    blob: Digest,
    /// The length of its blob in bytes.
    blob_size: u64,
}

impl ChunkList {
    pub(super) fn new(chunks: Vec<Chunk>) -> Self {
        Self { version: VERSION, chunks }
    }

    /// Reads a list; `None` for whatever is none of ours.
    pub(super) fn read(blob: &[u8]) -> Option<Self> {
        let mut text = Vec::new();
        zstd::Decoder::new(blob).ok()?.take(LONGEST_LIST).read_to_end(&mut text).ok()?;
        let list: Self = serde_json::from_slice(&text).ok()?;
        // What does not compress becomes a little longer.
        let longest_blob = u64::from(LONGEST_CHUNK) * 2;
        let is_sane =
            |chunk: &Chunk| (1..=LONGEST_CHUNK).contains(&chunk.length) && chunk.blob_size <= longest_blob;
        let is_ours = list.version == VERSION && list.chunks.len() <= MOST_CHUNKS;
        (is_ours && list.chunks.iter().all(is_sane)).then_some(list)
    }

    /// The list as a blob.
    pub(super) fn to_blob(&self) -> Vec<u8> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        zstd::encode_all(text.as_slice(), zstd::DEFAULT_COMPRESSION_LEVEL).unwrap_or_default()
    }

    /// How long the tar is, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum()
    }

    /// The blobs of all chunks, each once.
    pub(super) fn blobs(&self) -> Vec<Descriptor> {
        let mut seen = std::collections::HashSet::new();
        self.chunks.iter().filter(|chunk| seen.insert(chunk.blob)).map(Chunk::blob).collect()
    }
}

impl Chunk {
    /// A chunk whose content is `content`, and which is compressed as the blob `blob`.
    pub(super) fn new(content: Digest, length: u32, blob: Digest, blob_size: u64) -> Self {
        Self { content, length, blob, blob_size }
    }

    /// Its blob.
    pub(super) fn blob(&self) -> Descriptor {
        Descriptor::new(CHUNK_TYPE, self.blob, self.blob_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(length: u32) -> ChunkList {
        ChunkList::new(vec![Chunk::new(Digest::of(b"a"), length, Digest::of(b"b"), 7); 2])
    }

    #[test]
    fn documents_are_read_as_they_were_written() {
        let list = list(9);
        assert_eq!(ChunkList::read(&list.to_blob()), Some(list.clone()));
        assert_eq!(list.blobs().len(), 1);
        let record = MountRecord::new("pip", &list_blob(Digest::of(b"list"), 4));
        assert_eq!(MountRecord::read(&record.to_bytes(), "pip"), Some(record));
    }

    #[test]
    fn what_is_none_of_ours_is_not_there() {
        let record = MountRecord::new("pip", &list_blob(Digest::of(b"list"), 4)).to_bytes();
        assert_eq!(MountRecord::read(&record, "another"), None);
        assert_eq!(MountRecord::read(b"{}", "pip"), None);
        let huge = MountRecord::new("pip", &list_blob(Digest::of(b"list"), u64::MAX)).to_bytes();
        assert_eq!(MountRecord::read(&huge, "pip"), None);
        let bomb = zstd::encode_all(std::io::repeat(b'[').take(LONGEST_LIST + 1), 3).unwrap();
        let newer = ChunkList { version: 2, ..list(9) };
        for blob in
            [&b""[..], b"no zstd", &bomb, &newer.to_blob(), &list(0).to_blob(), &list(u32::MAX).to_blob()]
        {
            assert_eq!(ChunkList::read(blob), None);
        }
    }

    #[test]
    fn scopes_and_ids_do_not_run_together() {
        assert_ne!(key("a", "bc"), key("ab", "c"));
    }
}
