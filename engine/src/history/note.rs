//! What a build leaves beside the results that it shares, so that a builder which has never seen the project can say why a
//! step has to run there.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;

use base::{Key, KeyHasher};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use solver::explain::Before;

use super::document::{GraphDocument, RequestDocument, StepDocument};

/// The form of the document. Others are not read.
const VERSION: u32 = 1;

/// Files behind content keys are left out from this size on, in bytes before compression.
const MOST_LISTINGS: usize = 4 << 20;

/// Longer documents are not read, in bytes after decompression.
const LONGEST: u64 = 64 << 20;

/// The newest build of something, for builders elsewhere.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    build: String,
    graph: GraphDocument,
    /// What was known of the steps: their keys, and what they cost.
    steps: Vec<StepDocument>,
    /// The files behind content keys, each in base64.
    listings: BTreeMap<Key, String>,
}

/// A build of another builder.
pub(crate) struct Note {
    pub(crate) build: String,
    pub(crate) before: Before,
    /// How long the steps took, now or when they ran, in milliseconds.
    pub(crate) costs: Vec<Option<u64>>,
    pub(crate) listings: HashMap<Key, Vec<u8>>,
}

/// What builds are about, on whatever machine: the last part of the context's path, which checkouts have in common, the
/// Dockerfile, the targets and the platforms.
pub(crate) fn subject(request: &RequestDocument) -> Key {
    let mut hasher = KeyHasher::new("lapstrake/shared-subject/v1");
    hasher.str(&super::build_name(request)).str(&request.dockerfile);
    for platform in &request.platforms {
        hasher.str(platform);
    }
    hasher.finish()
}

/// Writes a note. `listing` gives the files behind a content key.
pub(super) fn write(
    build: &str,
    graph: GraphDocument,
    steps: &[StepDocument],
    listing: impl Fn(&Key) -> Option<Vec<u8>>,
) -> Vec<u8> {
    let mut listings = BTreeMap::new();
    let mut size = 0;
    for key in steps.iter().flat_map(|step| &step.inputs).flatten() {
        let Some(listing) = listing(key) else { continue };
        size += listing.len();
        if size > MOST_LISTINGS {
            break;
        }
        listings.insert(*key, STANDARD.encode(listing));
    }
    let known = |step: &StepDocument| StepDocument {
        definition: step.definition,
        inputs: step.inputs.clone(),
        not_asked: step.not_asked,
        outcome: step.outcome,
        cost_ms: step.cost_ms,
        ..StepDocument::default()
    };
    let steps = steps.iter().map(known).collect();
    let document = Document { version: VERSION, build: build.to_owned(), graph, steps, listings };
    zstd::encode_all(super::to_json(&document).as_slice(), 3).unwrap_or_default()
}

/// Reads a note; `None` for whatever is none of this form.
pub(super) fn read(bytes: &[u8]) -> Option<Note> {
    let mut text = Vec::new();
    zstd::Decoder::new(bytes).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
    let document: Document = serde_json::from_slice(&text).ok()?;
    let is_id = !document.build.is_empty() && document.build.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if document.version != VERSION || !is_id {
        return None;
    }
    let keys: Vec<_> = document.steps.iter().map(StepDocument::keys).collect();
    let steps = document.graph.facts().filter(|steps| steps.len() == keys.len())?;
    let listing = |(key, text): (Key, String)| Some((key, STANDARD.decode(text).ok()?));
    Some(Note {
        build: document.build,
        before: Before { steps, keys },
        costs: document.steps.iter().map(|step| step.cost_ms).collect(),
        listings: document.listings.into_iter().filter_map(listing).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let key = Key::from_bytes([1; 32]);
        let step = StepDocument { definition: Some(key), inputs: vec![Some(key)], ..StepDocument::default() };
        let written = write("abc", GraphDocument::of(&[]), &[], |_| None);
        assert_eq!(read(&written).unwrap().build, "abc");
        // Keys without steps are no note.
        assert!(read(&write("abc", GraphDocument::of(&[]), &[step], |_| Some(vec![7]))).is_none());
        assert!(read(&write("../x", GraphDocument::of(&[]), &[], |_| None)).is_none());
    }

    #[test]
    fn what_is_no_note_is_not_read() {
        let bomb = zstd::encode_all(std::io::repeat(b'[').take(LONGEST + 1), 3).unwrap();
        let other = zstd::encode_all(&b"{\"version\":2}"[..], 3).unwrap();
        for bytes in [&b""[..], b"no zstd", &other, &bomb] {
            assert!(read(bytes).is_none());
        }
    }
}
