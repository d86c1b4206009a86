//! The cache document: BuildKit's `application/vnd.buildkit.cacheconfig.v0`, with keys and facts of ours.
//!
//! It lists layers, each with the one below it, and records, each with the layer that is the topmost of a result. Other tools
//! can list and copy it. What BuildKit calls the digest of a record is our key here, which no other builder computes; and beside
//! it stands what a [`Record`] says.

use std::collections::{BTreeMap, HashMap};

use base::image::Descriptor;
use base::{Digest, Key, Timestamp};
use serde::{Deserialize, Serialize};
use snapshotter::SharedLayer;

use crate::shared_cache::record::{Record, RecordedLayer};

/// The media type of the document.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";

/// What our keys begin with where BuildKit has a digest.
const ALGORITHM: &str = "blake3:";

/// The version of what we add. A record of another version is a miss.
const VERSION: u32 = 1;

/// What a step is called whose name was not written down.
const UNNAMED: &str = "a step of an image";

/// Longer chains of layers are not followed.
const MAX_CHAIN: usize = 1000;

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheConfig {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) layers: Vec<CacheLayer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) records: Vec<CacheRecord>,
}

/// A layer over another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheLayer {
    pub(crate) blob: Digest,
    /// The number of the layer below; -1 is none. Go leaves 0 out.
    #[serde(default)]
    parent: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<LayerAnnotations>,
}

/// What else is known of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayerAnnotations {
    #[serde(default)]
    media_type: String,
    #[serde(rename = "diffID")]
    diff_id: Option<Digest>,
    #[serde(default)]
    size: u64,
    created_at: Option<Timestamp>,
}

/// A result and the key that leads to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheRecord {
    #[serde(default)]
    digest: String,
    /// The results; ours is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<CacheResult>,
    /// What we add: [`Facts`], unless another version has written it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lapstrake: Option<serde_json::Value>,
}

/// The topmost layer of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CacheResult {
    layer: usize,
    #[serde(rename = "createdAt", default, skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
}

/// What a [`Record`] says beside its layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Facts {
    version: u32,
    content: Key,
    #[serde(default, skip_serializing_if = "is_zero")]
    cost_ms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    path_ms: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    step: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl CacheConfig {
    /// The blobs of all layers, each once.
    pub(crate) fn blobs(&self) -> Vec<Descriptor> {
        let blobs: BTreeMap<Digest, Descriptor> =
            self.layers.iter().filter_map(CacheLayer::descriptor).map(|blob| (blob.digest, blob)).collect();
        blobs.into_values().collect()
    }

    /// The document as it is written.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The records as an image's config has them: the layers are the image's own.
    pub(crate) fn inline(records: &[CacheRecord]) -> Vec<u8> {
        serde_json::to_vec(records).unwrap_or_default()
    }

    /// The document of an image that has its records in its config.
    pub(crate) fn of_image(records: Vec<CacheRecord>, layers: &[SharedLayer]) -> Self {
        let layer = |(index, layer): (usize, &SharedLayer)| {
            CacheLayer::new(&RecordedLayer::of(layer), index.checked_sub(1))
        };
        Self { layers: layers.iter().enumerate().map(layer).collect(), records }
    }

    /// A layer with all that are below it, the base first.
    fn chain(&self, topmost: usize) -> Option<Vec<RecordedLayer>> {
        let mut next = i64::try_from(topmost).ok()?;
        let mut chain = Vec::new();
        while next >= 0 {
            let layer = self.layers.get(usize::try_from(next).ok()?)?;
            chain.push(RecordedLayer::of(&layer.to_layer()?));
            next = layer.parent;
            if chain.len() > MAX_CHAIN {
                return None;
            }
        }
        chain.reverse();
        Some(chain)
    }
}

impl CacheLayer {
    fn new(layer: &RecordedLayer, parent: Option<usize>) -> Self {
        let SharedLayer { descriptor, diff_id, created_at } = layer.to_layer();
        let annotations = LayerAnnotations {
            media_type: descriptor.media_type,
            diff_id: Some(diff_id),
            size: descriptor.size,
            created_at: Some(created_at),
        };
        let parent = parent.and_then(|parent| i64::try_from(parent).ok()).unwrap_or(-1);
        Self { blob: descriptor.digest, parent, annotations: Some(annotations) }
    }

    fn descriptor(&self) -> Option<Descriptor> {
        let LayerAnnotations { media_type, size, .. } = self.annotations.as_ref()?;
        Some(Descriptor::new(media_type, self.blob, *size))
    }

    fn to_layer(&self) -> Option<SharedLayer> {
        let LayerAnnotations { diff_id, created_at, .. } = self.annotations.as_ref()?;
        let created_at = created_at.unwrap_or(Timestamp::UNIX_EPOCH);
        Some(SharedLayer { descriptor: self.descriptor()?, diff_id: (*diff_id)?, created_at })
    }
}

impl CacheRecord {
    /// The record of a result whose topmost layer is number `layer`.
    pub(crate) fn new(key: &Key, record: &Record, layer: usize) -> Self {
        let (step, content) = (record.step.clone(), record.content);
        let facts =
            Facts { version: VERSION, content, cost_ms: record.cost_ms, path_ms: record.path_ms, step };
        let created_at = record.layers.last().map(|layer| layer.to_layer().created_at);
        Self {
            digest: format!("{ALGORITHM}{}", key.hex()),
            layers: vec![CacheResult { layer, created_at }],
            lapstrake: serde_json::to_value(facts).ok(),
        }
    }

    /// What it says, if it is one of ours.
    fn listed(&self, document: usize) -> Option<Listed> {
        let key = Key::from_hex(self.digest.strip_prefix(ALGORITHM)?)?;
        let facts: Facts = serde::Deserialize::deserialize(self.lapstrake.as_ref()?).ok()?;
        let layer = self.layers.first()?.layer;
        (facts.version == VERSION).then_some(Listed { key, document, layer, facts })
    }
}

/// A document that is being put together.
#[derive(Default)]
pub(crate) struct Draft {
    layers: Vec<CacheLayer>,
    /// The numbers of layers by blob and the layer below.
    numbers: HashMap<(Digest, Option<usize>), usize>,
    records: BTreeMap<Key, CacheRecord>,
}

impl Draft {
    /// Adds a result under a key.
    pub(crate) fn add(&mut self, key: &Key, record: &Record) {
        let mut top = None;
        for layer in &record.layers {
            let next = self.layers.len();
            let number = *self.numbers.entry((layer.digest, top)).or_insert(next);
            if number == next {
                self.layers.push(CacheLayer::new(layer, top));
            }
            top = Some(number);
        }
        if let Some(top) = top {
            self.records.insert(*key, CacheRecord::new(key, record, top));
        }
    }

    /// The document, in which nothing depends on the order of what was added but the numbers of layers.
    pub(crate) fn finish(self) -> CacheConfig {
        CacheConfig { layers: self.layers, records: self.records.into_values().collect() }
    }
}

/// Documents that were read, in which results are found by key.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    documents: Vec<CacheConfig>,
    results: Vec<Listed>,
    /// The numbers of results by key.
    numbers: HashMap<Key, usize>,
    /// The keys that lead to a result: its document, topmost layer and content.
    keys: HashMap<(usize, usize, Key), Vec<Key>>,
}

/// A record of ours.
#[derive(Debug)]
struct Listed {
    key: Key,
    /// The number of its document.
    document: usize,
    /// The number of its topmost layer.
    layer: usize,
    facts: Facts,
}

impl Listed {
    fn result(&self) -> (usize, usize, Key) {
        (self.document, self.layer, self.facts.content)
    }
}

impl Catalogue {
    /// Of several documents; the first that has a key counts.
    pub(crate) fn new(documents: Vec<CacheConfig>) -> Self {
        let (mut results, mut numbers) = (Vec::new(), HashMap::new());
        let mut keys: HashMap<_, Vec<Key>> = HashMap::new();
        for (number, document) in documents.iter().enumerate() {
            for listed in document.records.iter().filter_map(|record| record.listed(number)) {
                numbers.entry(listed.key).or_insert(results.len());
                keys.entry(listed.result()).or_default().push(listed.key);
                results.push(listed);
            }
        }
        Self { documents, results, numbers, keys }
    }

    /// How many results it has that are ours.
    pub(crate) fn usable(&self) -> usize {
        self.numbers.len()
    }

    /// How many results it has, of whatever builder.
    pub(crate) fn all(&self) -> usize {
        self.documents.iter().map(|document| document.records.len()).sum()
    }

    /// The result of a key.
    pub(crate) fn record(&self, key: &Key) -> Option<Record> {
        let listed = self.listed(key)?;
        let Facts { content, cost_ms, path_ms, step, .. } = &listed.facts;
        let layers = self.documents[listed.document].chain(listed.layer)?;
        let step = if step.is_empty() { UNNAMED } else { step };
        Some(Record::new(*content, layers, (*cost_ms, *path_ms), step.to_owned()))
    }

    /// All keys that lead to the same result as this one.
    pub(crate) fn same_as(&self, key: &Key) -> Vec<Key> {
        let keys = self.listed(key).and_then(|listed| self.keys.get(&listed.result()));
        keys.cloned().unwrap_or_default()
    }

    fn listed(&self, key: &Key) -> Option<&Listed> {
        Some(&self.results[*self.numbers.get(key)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str) -> RecordedLayer {
        let descriptor =
            Descriptor::new("application/vnd.oci.image.layer.v1.tar+gzip", Digest::of(name.as_bytes()), 7);
        let created_at = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        RecordedLayer::of(&SharedLayer { descriptor, diff_id: Digest::of(b"content"), created_at })
    }

    fn record(content: u8, layers: &[&str]) -> Record {
        let layers = layers.iter().map(|name| layer(name)).collect();
        Record::new(key(content), layers, (3, 4), "RUN make".to_owned())
    }

    fn key(number: u8) -> Key {
        Key::from_bytes([number; 32])
    }

    fn document() -> CacheConfig {
        let mut draft = Draft::default();
        draft.add(&key(1), &record(9, &["base", "one"]));
        draft.add(&key(2), &record(8, &["base", "one", "two"]));
        draft.add(&key(3), &record(8, &["base", "one", "two"]));
        draft.finish()
    }

    fn read(text: &str) -> Catalogue {
        Catalogue::new(vec![serde_json::from_str(text).unwrap()])
    }

    #[test]
    fn what_is_written_is_found_by_key_and_layers_are_there_once() {
        let document = document();
        assert_eq!(document.layers.len(), 3);
        assert_eq!(document.blobs().len(), 3);
        let text = String::from_utf8(document.to_bytes()).unwrap();
        let catalogue = read(&text);
        assert_eq!(catalogue.record(&key(2)), Some(record(8, &["base", "one", "two"])));
        assert_eq!(catalogue.record(&key(1)), Some(record(9, &["base", "one"])));
        assert_eq!(catalogue.record(&key(4)), None);
        let mut same = catalogue.same_as(&key(3));
        same.sort_unstable();
        assert_eq!(same, [key(2), key(3)]);
    }

    #[test]
    fn records_of_others_and_of_newer_versions_are_counted_and_not_used() {
        let text = String::from_utf8(document().to_bytes()).unwrap();
        let newer = read(&text.replace("\"version\":1", "\"version\":2"));
        assert_eq!((newer.usable(), newer.all()), (0, 3));
        // A document as BuildKit writes it, where a parent of 0 is left out.
        let digest = Digest::of(b"x");
        let foreign = format!(
            r#"{{"layers":[{{"blob":"{digest}","parent":-1}},{{"blob":"{digest}"}}],"records":[{{"layers":[{{"layer":1,
                "createdAt":"2024-01-02T03:04:05.678901234Z"}}],"digest":"{digest}","inputs":[[{{"link":0}}]]}},{{"digest":"random:a"}}]}}"#
        );
        let foreign = read(&foreign);
        assert_eq!((foreign.usable(), foreign.all()), (0, 2));
    }

    #[test]
    fn layers_that_are_not_there_or_in_a_circle_are_misses() {
        let text = String::from_utf8(document().to_bytes()).unwrap();
        let circle = text.replace("\"parent\":-1", "\"parent\":1");
        let outside = text.replace("\"parent\":-1", "\"parent\":77");
        for text in [circle, outside] {
            assert_eq!(read(&text).record(&key(1)), None, "{text}");
        }
    }
}
