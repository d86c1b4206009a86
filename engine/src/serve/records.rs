//! What is kept of the records that builders push: those that were used lately, and no more than there is room for.
//!
//! Records of steps ([`crate::shared_cache`]) are images of the store, so that their layers are kept; but nobody ever deletes
//! one. So the registry notes when each was last read, and takes away the names of those that nobody needs any more. Their blobs
//! go with the next collection.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::image::{Descriptor, Manifest};
use base::time::Clock;
use base::{Digest, Reference, Timestamp};
use snapshotter::{ImageRecord, MAX_DOCUMENT, Store, StoreError};

use crate::shared_cache::{RECORD_TYPE, is_tag_of_record};

/// Where it is noted when records were used: the name of the image, and milliseconds.
const BUCKET: &str = "registry-records";

/// How many records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordLimits {
    /// For how long one is kept that nobody uses; `None` is for good.
    pub unused: Option<Duration>,
    /// How many bytes of layers they may need together; `None` is any number.
    pub size: Option<u64>,
}

/// The records of a registry.
pub(super) struct Records {
    store: Store,
    clock: Arc<dyn Clock>,
    limits: RecordLimits,
    /// When records were used since this was last written down, by name.
    used: Mutex<HashMap<String, Timestamp>>,
}

/// A record with a name, as it is looked at to decide whether it stays.
struct Kept {
    name: String,
    used: Timestamp,
    blobs: Vec<Descriptor>,
}

impl Records {
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>, limits: RecordLimits) -> Self {
        Self { store, clock, limits, used: Mutex::default() }
    }

    /// Notes that an image was read, in case it is a record.
    pub(super) fn touch(&self, tag: &str, name: &str) {
        if is_tag_of_record(tag) {
            self.used().insert(name.to_owned(), self.clock.now());
        }
    }

    /// Writes down what was used, and lets go of the records that are beyond the limits and of those that were replaced.
    pub(super) fn tidy(&self) -> Result<(), StoreError> {
        let mut records = Vec::new();
        let last = self.last_uses()?;
        for image in self.store.images()? {
            let Some(blobs) = self.blobs_of_record(&image)? else { continue };
            if image.dangling {
                self.store.untag(&image.name)?;
                continue;
            }
            let used = last.get(&image.name).copied().unwrap_or(image.created_at).max(image.created_at);
            records.push(Kept { name: image.name, used, blobs });
        }
        let names: HashSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
        for gone in last.keys().filter(|name| !names.contains(name.as_str())) {
            self.store.kv_delete(BUCKET, gone.as_bytes())?;
        }
        for name in self.beyond_limits(records) {
            self.store.untag(&name)?;
            self.store.kv_delete(BUCKET, name.as_bytes())?;
        }
        Ok(())
    }

    /// The names of the records that are beyond the limits.
    fn beyond_limits(&self, mut records: Vec<Kept>) -> Vec<String> {
        let now = self.clock.now();
        records.sort_by(|one, other| other.used.cmp(&one.used).then_with(|| one.name.cmp(&other.name)));
        let (mut seen, mut size, mut is_full) = (HashSet::<Digest>::new(), 0_u64, false);
        let mut beyond = Vec::new();
        for record in records {
            let unused = Duration::try_from(now.duration_since(record.used)).unwrap_or_default();
            let new = record.blobs.iter().filter(|blob| seen.insert(blob.digest)).map(|blob| blob.size);
            size = new.fold(size, u64::saturating_add);
            is_full |= self.limits.size.is_some_and(|limit| size > limit);
            if is_full || self.limits.unused.is_some_and(|limit| unused > limit) {
                beyond.push(record.name);
            }
        }
        beyond
    }

    /// When records were used as far as anybody noted it, with what was used since. All of it is written down.
    fn last_uses(&self) -> Result<HashMap<String, Timestamp>, StoreError> {
        let since = std::mem::take(&mut *self.used());
        for (name, used) in &since {
            self.store.kv_put(BUCKET, name.as_bytes(), &used.as_millisecond().to_le_bytes())?;
        }
        let read = |(name, time): (Vec<u8>, Vec<u8>)| {
            let milliseconds = i64::from_le_bytes(time.try_into().ok()?);
            Some((String::from_utf8(name).ok()?, Timestamp::from_millisecond(milliseconds).ok()?))
        };
        Ok(self.store.kv_list(BUCKET)?.into_iter().filter_map(read).collect())
    }

    /// The blobs that an image needs if it is a record, with a name of ours or without one.
    fn blobs_of_record(&self, image: &ImageRecord) -> Result<Option<Vec<Descriptor>>, StoreError> {
        let tag = image.name.parse::<Reference>().ok().and_then(|name| name.tag);
        if !image.dangling && !tag.is_some_and(|tag| is_tag_of_record(&tag)) {
            return Ok(None);
        }
        let document = match self.store.read_blob(&image.descriptor.digest, MAX_DOCUMENT) {
            Err(StoreError::BlobTooLarge { .. }) => return Ok(None),
            document => document?,
        };
        let manifest = document.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
        let manifest = manifest.filter(|manifest| manifest.config.media_type == RECORD_TYPE);
        Ok(manifest.map(|manifest| manifest.layers))
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::image::media_type::OCI_MANIFEST;
    use snapshotter::Options;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// A clock that is put forward by hand, in seconds.
    #[derive(Default)]
    struct Seconds(AtomicI64);

    impl Clock for Seconds {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
        }
    }

    struct Fixture {
        records: Records,
        clock: Arc<Seconds>,
        _dir: tempfile::TempDir,
    }

    fn fixture(limits: RecordLimits) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Seconds::default());
        let options = Options { clock: clock.clone(), ..Options::default() };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        Fixture { records: Records::new(store, clock.clone(), limits), clock, _dir: dir }
    }

    impl Fixture {
        /// Pushes a record that needs a layer of 100 bytes for each letter.
        fn push(&self, name: &str, letters: &str) {
            let layer = |letter: char| Descriptor::new("layer", Digest::of(&[letter as u8]), 100);
            let manifest = Manifest {
                artifact_type: None,
                subject: None,
                schema_version: 2,
                media_type: OCI_MANIFEST.to_owned(),
                config: Descriptor::new(RECORD_TYPE, Digest::of(b"{}"), 2),
                layers: letters.chars().map(layer).collect(),
                annotations: [("name".to_owned(), name.to_owned())].into(),
            };
            let store = &self.records.store;
            let lease = store.lease("test").unwrap();
            let blob = store.put_blob(&lease, &serde_json::to_vec(&manifest).unwrap()).unwrap();
            store.tag(&image(name), &Descriptor::new(OCI_MANIFEST, blob.digest, blob.size)).unwrap();
        }

        /// The records that are left a second later, by their names.
        fn left(&self) -> String {
            self.clock.0.fetch_add(1, Ordering::SeqCst);
            self.records.tidy().unwrap();
            let images = self.records.store.images().unwrap();
            images.iter().filter_map(|image| image.name.chars().last()).collect()
        }
    }

    fn tag(name: &str) -> String {
        format!("lapstrake-v1-{name}")
    }

    fn image(name: &str) -> String {
        format!("localhost:5000/cache:{}", tag(name))
    }

    #[test]
    fn what_nobody_uses_is_let_go() {
        let limits = RecordLimits { unused: Some(Duration::from_secs(10)), size: None };
        let fixture = fixture(limits);
        for name in ["a", "b", "c"] {
            fixture.push(name, name);
        }
        assert_eq!(fixture.left(), "abc");
        fixture.clock.0.fetch_add(8, Ordering::SeqCst);
        fixture.records.touch(&tag("b"), &image("b"));
        assert_eq!(fixture.left(), "abc");
        assert_eq!(fixture.left(), "b");
        // A second server reads what the first one has written down.
        let Fixture { records, clock, .. } = &fixture;
        let second = Records::new(records.store.clone(), clock.clone(), limits);
        second.tidy().unwrap();
        assert_eq!(fixture.left(), "b");
        fixture.clock.0.fetch_add(20, Ordering::SeqCst);
        assert_eq!(fixture.left(), "");
        assert_eq!(records.store.kv_list(BUCKET).unwrap(), []);
    }

    #[test]
    fn layers_are_counted_once_and_the_oldest_records_go() {
        let fixture = fixture(RecordLimits { unused: None, size: Some(300) });
        for (second, (name, layers)) in [("a", "x"), ("b", "xy"), ("c", "xyz")].into_iter().enumerate() {
            fixture.clock.0.store(second as i64, Ordering::SeqCst);
            fixture.push(name, layers);
        }
        assert_eq!(fixture.left(), "abc");
        fixture.push("d", "w");
        assert_eq!(fixture.left(), "d", "c and d need 400");
    }

    #[test]
    fn other_images_stay_and_replaced_records_go() {
        let fixture = fixture(RecordLimits { unused: Some(Duration::ZERO), size: Some(0) });
        let store = &fixture.records.store;
        let lease = store.lease("test").unwrap();
        let manifest = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"x","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1},"layers":[]}"#;
        let blob = store.put_blob(&lease, manifest).unwrap();
        store.tag(&image("p"), &Descriptor::new(OCI_MANIFEST, blob.digest, blob.size)).unwrap();
        store.tag("localhost:5000/app:q", &Descriptor::new(OCI_MANIFEST, blob.digest, blob.size)).unwrap();
        let unlimited = Records::new(store.clone(), fixture.clock.clone(), RecordLimits::default());
        fixture.push("r", "x");
        fixture.push("r", "y");
        assert_eq!(store.images().unwrap().iter().filter(|image| image.dangling).count(), 1);
        unlimited.tidy().unwrap();
        assert_eq!(store.images().unwrap().len(), 3);
        assert_eq!(fixture.left(), "qp");
    }
}
