//! The form of a segment: `{"version":2,"segment":"…"}`, in base64 the zstd-compressed JSON of [`Segment`].
//!
//! It lies where a record may lie. A builder that knows no segments finds a record of another version there, and so a miss. What
//! is read is anybody's: whatever does not fit together is no segment.

use std::collections::HashMap;
use std::io::Read as _;

use base::image::Descriptor;
use base::{Digest, Key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::super::record;

/// The version of the form. It changes when the form does; one is that of records on their own.
const VERSION: u32 = 2;

/// The media type of a pack.
const PACK_TYPE: &str = "application/vnd.lapstrake.cache.pack.v1";

/// The longest pack, in bytes.
pub(in super::super) const MAX_PACK: u64 = 4 << 20;

/// The longest text of a segment before it is compressed, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// How much the text is compressed: what repeats is found at this level, too.
const LEVEL: i32 = 3;

/// The records of several steps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in super::super) struct Segment {
    /// Each record as it is written on its own, with its signature, under its key.
    pub(in super::super) records: Vec<(Key, String)>,
    /// Where the layers of the records are that are not blobs of their own.
    pub(in super::super) cuts: Vec<Cut>,
    /// Keys under which other segments are found that builds which use this one are likely to want.
    #[serde(default)]
    pub(in super::super) others: Vec<Key>,
}

/// A layer's blob, which is part of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Cut {
    /// The digest of the layer's blob.
    pub(in super::super) blob: Digest,
    /// Its length in bytes.
    pub(in super::super) size: u64,
    /// The digest of the pack.
    pub(in super::super) pack: Digest,
    /// The length of the pack in bytes.
    pub(in super::super) pack_size: u64,
    /// Where in the pack the layer begins.
    pub(in super::super) at: u64,
}

impl Cut {
    /// The blob of the pack.
    pub(in super::super) fn pack(&self) -> Descriptor {
        Descriptor::new(PACK_TYPE, self.pack, self.pack_size)
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    segment: String,
}

impl Segment {
    /// The segment as it is written; `None` when it is too long to be read.
    pub(in super::super) fn to_bytes(&self) -> Option<Vec<u8>> {
        let text = serde_json::to_vec(self).ok().filter(|text| text.len() as u64 <= MAX_TEXT)?;
        let segment = STANDARD.encode(zstd::encode_all(text.as_slice(), LEVEL).ok()?);
        let bytes = serde_json::to_vec(&Envelope { version: VERSION, segment }).ok()?;
        (bytes.len() as u64 <= record::MAX_SIZE).then_some(bytes)
    }

    /// Reads a segment; `None` for whatever is none of this version, or does not fit together.
    pub(in super::super) fn read(bytes: &[u8]) -> Option<Self> {
        let Envelope { version, segment } = serde_json::from_slice(bytes).ok()?;
        if version != VERSION {
            return None;
        }
        let compressed = STANDARD.decode(segment).ok()?;
        let mut text = Vec::new();
        zstd::Decoder::new(compressed.as_slice()).ok()?.take(MAX_TEXT + 1).read_to_end(&mut text).ok()?;
        if text.len() as u64 > MAX_TEXT {
            return None;
        }
        let segment: Self = serde_json::from_slice(&text).ok()?;
        fit_together(&segment.cuts).then_some(segment)
    }
}

/// Whether all cuts lie in their packs, none over another.
fn fit_together(cuts: &[Cut]) -> bool {
    let mut sizes = HashMap::new();
    let is_one = |cut: &Cut| *sizes.entry(cut.pack).or_insert(cut.pack_size) == cut.pack_size;
    if !cuts.iter().all(is_one) {
        return false;
    }
    let mut cuts: Vec<&Cut> = cuts.iter().collect();
    cuts.sort_unstable_by_key(|cut| (cut.pack, cut.at));
    let end = |cut: &Cut| cut.at.checked_add(cut.size).filter(|end| *end <= cut.pack_size);
    let lies_in = |cut: &&Cut| cut.pack_size <= MAX_PACK && end(cut).is_some();
    let follows =
        |pair: &[&Cut]| pair[0].pack != pair[1].pack || end(pair[0]).is_some_and(|end| end <= pair[1].at);
    cuts.iter().all(lies_in) && cuts.windows(2).all(follows)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(at: u64, size: u64) -> Cut {
        let blob = Digest::of(&at.to_le_bytes());
        Cut { blob, size, pack: Digest::of(b"pack"), pack_size: 100, at }
    }

    pub(in super::super) fn segment(cuts: Vec<Cut>) -> Segment {
        let records = vec![(Key::from_bytes([1; 32]), "{\"version\":1}\nsignature\n".to_owned())];
        Segment { records, cuts, others: vec![Key::from_bytes([2; 32])] }
    }

    /// Whatever text, in the envelope.
    fn enveloped(version: u32, text: &[u8]) -> Vec<u8> {
        let segment = STANDARD.encode(zstd::encode_all(text, LEVEL).unwrap());
        serde_json::to_vec(&Envelope { version, segment }).unwrap()
    }

    #[test]
    fn a_segment_is_read_as_it_was_written() {
        let whole = segment(vec![cut(0, 40), cut(40, 60)]);
        let bytes = whole.to_bytes().unwrap();
        assert_eq!(Segment::read(&bytes), Some(whole));
        assert_eq!(record::Record::read(&bytes), None, "who knows records alone finds none");
        let single = record::tests::record().to_bytes();
        assert_eq!(Segment::read(&single), None);
    }

    #[test]
    fn cuts_that_do_not_fit_are_no_segment() {
        let other = Cut { pack_size: 200, ..cut(50, 1) };
        let huge = Cut { pack_size: u64::MAX, ..cut(0, 1) };
        for cuts in [
            vec![cut(0, 101)],
            vec![cut(101, 0)],
            vec![cut(u64::MAX, 2)],
            vec![cut(0, u64::MAX)],
            vec![cut(0, 40), cut(39, 2)],
            vec![cut(0, 40), cut(0, 40)],
            vec![cut(0, 1), other],
            vec![huge],
        ] {
            let bytes = segment(cuts.clone()).to_bytes().unwrap();
            assert_eq!(Segment::read(&bytes), None, "{cuts:?}");
        }
    }

    #[test]
    fn what_is_none_of_ours_is_no_segment() {
        let text = serde_json::to_vec(&segment(vec![cut(0, 1)])).unwrap();
        assert!(Segment::read(&enveloped(VERSION, &text)).is_some());
        assert_eq!(Segment::read(&enveloped(VERSION + 1, &text)), None, "a newer one");
        for text in [&b""[..], b"{}", b"null", &text[1..]] {
            assert_eq!(Segment::read(&enveloped(VERSION, text)), None);
        }
        for bytes in
            [&b""[..], b"{}", br#"{"version":2,"segment":"%"}"#, br#"{"version":2,"segment":"AAAA"}"#]
        {
            assert_eq!(Segment::read(bytes), None);
        }
    }

    #[test]
    fn what_unpacks_to_too_much_is_no_segment() {
        let bomb = vec![b' '; usize::try_from(MAX_TEXT).unwrap() + 1];
        let bytes = enveloped(VERSION, &bomb);
        assert!(bytes.len() < 10_000);
        assert_eq!(Segment::read(&bytes), None);
    }

    proptest! {
        /// A segment that somebody has tampered with is read as one that fits together, or not at all.
        #[test]
        fn damage_makes_no_cut_beyond_its_pack(
            cuts in proptest::collection::vec((0_u64..120, 0_u64..60), 0..6),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut text = serde_json::to_vec(&segment(cuts.into_iter().map(|(at, size)| cut(at, size)).collect())).unwrap();
            for (at, byte) in damage {
                let at = at.index(text.len());
                text[at] = byte;
            }
            if let Some(read) = Segment::read(&enveloped(VERSION, &text)) {
                for cut in read.cuts {
                    prop_assert!(cut.at + cut.size <= cut.pack_size && cut.pack_size <= MAX_PACK);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Segment::read(&bytes), None);
            prop_assert_eq!(Segment::read(&enveloped(VERSION, &bytes)), None);
        }
    }
}
