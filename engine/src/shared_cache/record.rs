//! What builders tell each other of a step's result.

use base::image::Descriptor;
use base::{Digest, Key, Timestamp};
use serde::{Deserialize, Serialize};
use snapshotter::SharedLayer;

/// The version of the format. A record of another version is a miss.
const VERSION: u32 = 1;

/// Longer records are not read: a result has at most some hundred layers.
pub(crate) const MAX_SIZE: u64 = 1 << 20;

/// Longer notes are not read.
pub(crate) const MAX_NOTE_SIZE: u64 = 16 << 20;

/// A step's result: what its files are, and the layers that they are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// The content key of the result.
    pub(crate) content: Key,
    /// The layers of the result, the base first.
    pub(crate) layers: Vec<RecordedLayer>,
    /// How long the step took, in milliseconds.
    pub(crate) cost_ms: u64,
    /// How long the longest chain of steps took that led to it, in milliseconds.
    pub(crate) path_ms: u64,
    /// The name of the step, for people.
    pub(crate) step: String,
}

/// A layer of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedLayer {
    media_type: String,
    /// The digest of its blob.
    pub(crate) digest: Digest,
    /// The length of its blob in bytes.
    pub(crate) size: u64,
    /// The digest of its uncompressed content.
    pub(crate) diff_id: Digest,
    created_ms: i64,
}

impl Record {
    /// A record of this version.
    pub(crate) fn new(
        content: Key,
        layers: Vec<RecordedLayer>,
        (cost_ms, path_ms): (u64, u64),
        step: String,
    ) -> Self {
        Self { version: VERSION, content, layers, cost_ms, path_ms, step }
    }

    /// Reads a record. `None` for whatever is none of ours: a cache is anybody's, and what cannot be read is a miss.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        (record.version == VERSION && !record.layers.is_empty()).then_some(record)
    }

    /// The record as it is written.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether all layers are those of another result, from the base up.
    pub(crate) fn is_part_of(&self, whole: &Self) -> bool {
        let layers = whole.layers.get(..self.layers.len());
        layers.is_some_and(|layers| {
            layers.iter().zip(&self.layers).all(|(own, part)| own.diff_id == part.diff_id)
        })
    }

    /// Whether the result needs one of these blobs.
    pub(crate) fn needs_any(&self, blobs: &std::collections::HashSet<Digest>) -> bool {
        self.layers.iter().any(|layer| blobs.contains(&layer.digest))
    }
}

impl RecordedLayer {
    /// What is told of a layer.
    pub(crate) fn of(layer: &SharedLayer) -> Self {
        Self {
            media_type: layer.descriptor.media_type.clone(),
            digest: layer.descriptor.digest,
            size: layer.descriptor.size,
            diff_id: layer.diff_id,
            created_ms: layer.created_at.as_millisecond(),
        }
    }

    /// The layer that is told of.
    pub(crate) fn to_layer(&self) -> SharedLayer {
        SharedLayer {
            descriptor: self.descriptor(),
            diff_id: self.diff_id,
            created_at: Timestamp::from_millisecond(self.created_ms).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    /// Its blob.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.size)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Some record.
    pub(in super::super) fn record() -> Record {
        let blob = Digest::of(b"blob");
        let layer = SharedLayer {
            descriptor: Descriptor::new("application/vnd.oci.image.layer.v1.tar+zstd", blob, 4),
            diff_id: Digest::of(b"content"),
            created_at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
        };
        Record::new(
            Key::from_bytes([7; 32]),
            vec![RecordedLayer::of(&layer)],
            (12, 34),
            "RUN make".to_owned(),
        )
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = record();
        let read = Record::read(&record.to_bytes()).unwrap();
        assert_eq!(read, record);
        assert_eq!(RecordedLayer::of(&read.layers[0].to_layer()), record.layers[0]);
        assert!(read.needs_any(&[Digest::of(b"blob")].into()) && !read.needs_any(&[Digest::of(b"")].into()));
    }

    #[test]
    fn what_is_none_of_ours_is_a_miss() {
        let written = String::from_utf8(record().to_bytes()).unwrap();
        let newer = written.replace("\"version\":1", "\"version\":2");
        for text in ["", "{}", "null", "\u{0}\u{1}", &written[..written.len() - 1], newer.as_str()] {
            assert_eq!(Record::read(text.as_bytes()), None, "{text}");
        }
    }
}
