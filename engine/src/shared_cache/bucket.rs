//! Records and blobs in a bucket of S3, or of what speaks its protocol.
//!
//! `PREFIX` + `records/v1/<key>`, `notes/v1/<key>` and `claims/v1/<key>`; blobs at `PREFIX` + `blobs/<digest>`, where BuildKit's cache of this kind has them
//! as well. Records are written on the condition that there is none (`If-None-Match: *`); a server that does not know the condition
//! replaces one by an equal one.

use std::path::Path;

use base::image::Descriptor;
use base::{CancelToken, Digest, Key};
use registry::BlobSource;
use registry::s3;
use snapshotter::BlobWriter;
use tokio::sync::Semaphore;

use super::bucket_keys::KeyRing;
use super::claims::{Claim, Claimed};
use super::place::{NewRecord, Place, Source};
use super::record;
use super::transfer::{self, Incoming};
use crate::Engine;
use crate::error::EngineError;
use crate::request::BucketPlace;

/// How many records are asked for at once. S3 answers one object per request, but any number of requests.
const REQUESTS_AT_ONCE: usize = 64;

/// Longer claims are none.
const MAX_CLAIM: u64 = 256;

/// A bucket that builders share.
pub(crate) struct Bucket<'a> {
    engine: &'a Engine,
    place: BucketPlace,
    keys: KeyRing,
    uploads: Semaphore,
}

impl<'a> Bucket<'a> {
    /// The bucket that is called so.
    pub(crate) fn new(engine: &'a Engine, place: BucketPlace) -> Self {
        let uploads = Semaphore::new(place.upload_parallelism.get());
        let keys = KeyRing::new(place.clone());
        Self { engine, place, keys, uploads }
    }

    /// What sends its requests.
    pub(super) fn open(&self, cancel: &CancelToken) -> Result<s3::Bucket, EngineError> {
        let client = self.engine.network()?.client.clone();
        Ok(s3::Bucket::new(client, self.engine.clock.clone(), self.keys.options(self.engine, cancel)?)?)
    }

    fn record(&self, key: &Key) -> String {
        format!("{}records/v1/{}", self.place.prefix, key.hex())
    }

    fn note_key(&self, key: &Key) -> String {
        format!("{}notes/v1/{}", self.place.prefix, key.hex())
    }

    fn claim_key(&self, key: &Key) -> String {
        format!("{}claims/v1/{}", self.place.prefix, key.hex())
    }

    fn blob(&self, digest: &Digest) -> String {
        format!("{}{}{digest}", self.place.prefix, self.place.blobs_prefix)
    }

    /// Whether a blob is there. One that is, is touched if it becomes old.
    pub(super) fn has_blob(&self, blob: &Descriptor, cancel: &CancelToken) -> Result<bool, EngineError> {
        let bucket = self.open(cancel)?;
        self.engine.network()?.wait(cancel, self.is_there(&bucket, &self.blob(&blob.digest)))
    }

    /// Writes an object that is in memory.
    pub(super) fn put(
        &self,
        key: &str,
        bytes: &[u8],
        if_absent: bool,
        cancel: &CancelToken,
    ) -> Result<s3::Written, EngineError> {
        let bucket = self.open(cancel)?;
        let source = BlobSource::Bytes(bytes.to_vec().into());
        let content = (source, &Digest::of(bytes), bytes.len() as u64);
        self.engine.network()?.wait(cancel, bucket.put(key, content, if_absent))
    }

    /// Whether there is an object, which is touched if it becomes old: rules of the bucket must not let go of what is
    /// used.
    async fn is_there(&self, bucket: &s3::Bucket, key: &str) -> Result<bool, EngineError> {
        let Some(info) = bucket.head(key).await? else { return Ok(false) };
        let now = self.engine.clock.now();
        let is_old = info.modified.is_some_and(|modified| {
            now.duration_since(modified).unsigned_abs() > self.place.touch_refresh && modified < now
        });
        if is_old && info.size <= s3::MAX_OBJECT {
            bucket.touch(key).await?;
        }
        Ok(true)
    }
}

impl Source for Bucket<'_> {
    fn claim(&self, claim: &Claim, cancel: &CancelToken) -> Result<Claimed, EngineError> {
        let (bucket, object, bytes) = (self.open(cancel)?, self.claim_key(&claim.key), claim.to_bytes());
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let content = |bytes: &[u8]| BlobSource::Bytes(bytes.to_vec().into());
        self.engine.network()?.wait(cancel, async {
            if bucket.put(&object, (content(&bytes), &digest, size), true).await? == s3::Written::New {
                return Ok(Claimed::Ours);
            }
            let kept = read(&bucket, &object, MAX_CLAIM).await?;
            if kept.is_some_and(|kept| claim.is_of_another(&kept)) {
                return Ok(Claimed::Theirs);
            }
            // It is over, and whoever else sees that at the same moment makes the result, too.
            bucket.put(&object, (content(&bytes), &digest, size), false).await?;
            Ok::<_, EngineError>(Claimed::Ours)
        })
    }

    fn release(&self, claim: &Claim, cancel: &CancelToken) -> Result<(), EngineError> {
        let (bucket, object) = (self.open(cancel)?, self.claim_key(&claim.key));
        self.engine.network()?.wait(cancel, async {
            if read(&bucket, &object, MAX_CLAIM).await?.is_some_and(|kept| !claim.is_of_another(&kept)) {
                bucket.delete(&object).await?;
            }
            Ok::<_, EngineError>(())
        })
    }

    fn name(&self) -> String {
        let s3::BucketOptions { bucket, endpoint, .. } = &self.place.options;
        let host = endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        format!("s3://{bucket}/{}{host}", self.place.prefix)
    }

    fn records(&self, keys: &[Key], cancel: &CancelToken) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let bucket = self.open(cancel)?;
        let objects: Vec<String> = keys.iter().map(|key| self.record(key)).collect();
        let ask = move |object: String| {
            let bucket = bucket.clone();
            async move { read(&bucket, &object, record::MAX_SIZE).await }
        };
        self.engine.network()?.wait(cancel, transfer::each(objects, REQUESTS_AT_ONCE, ask))
    }

    fn records_at_once(
        &self,
        _keys: &[Key],
        _cancel: &CancelToken,
    ) -> Result<Option<Vec<Option<Vec<u8>>>>, EngineError> {
        Ok(None)
    }

    fn note(&self, key: &Key, cancel: &CancelToken) -> Result<Option<Vec<u8>>, EngineError> {
        let bucket = self.open(cancel)?;
        let object = self.note_key(key);
        self.engine.network()?.wait(cancel, read(&bucket, &object, record::MAX_NOTE_SIZE))
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let (bucket, network) = (self.open(cancel)?, self.engine.network()?);
        let object = self.blob(&blob.digest);
        let Some(mut stream) = network.wait(cancel, bucket.get(&object))? else { return Ok(false) };
        let mut incoming = Incoming::new(blob, to);
        while let Some(chunk) = network.wait(cancel, stream.next())? {
            if !incoming.take(&chunk)? {
                break;
            }
        }
        Ok(true)
    }
}

impl Place for Bucket<'_> {
    fn wants_segments(&self) -> bool {
        true
    }

    fn add_record(
        &self,
        key: &Key,
        record: &NewRecord<'_>,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let object = self.record(key);
        if !record.replaces {
            let bucket = self.open(cancel)?;
            if self.engine.network()?.wait(cancel, self.is_there(&bucket, &object))? {
                return Ok(false);
            }
        }
        let written = self.put(&object, record.bytes, !record.replaces, cancel)?;
        Ok(written == s3::Written::New)
    }

    fn put_note(&self, key: &Key, note: &[u8], cancel: &CancelToken) -> Result<(), EngineError> {
        self.put(&self.note_key(key), note, false, cancel)?;
        Ok(())
    }

    fn add_blob(
        &self,
        blob: &Descriptor,
        file: &Path,
        anew: bool,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let bucket = self.open(cancel)?;
        let object = self.blob(&blob.digest);
        let source = BlobSource::file(file);
        self.engine.network()?.wait(cancel, async {
            // The semaphore is never closed.
            let _permit = self.uploads.acquire().await.ok();
            if !anew && self.is_there(&bucket, &object).await? {
                return Ok(());
            }
            bucket.put(&object, (source, &blob.digest, blob.size), false).await?;
            Ok::<_, EngineError>(())
        })
    }
}

/// The content of an object that is there and not longer than `limit`.
async fn read(bucket: &s3::Bucket, object: &str, limit: u64) -> Result<Option<Vec<u8>>, EngineError> {
    match bucket.get(object).await? {
        Some(stream) => Ok(stream.read_to_end(limit).await?),
        None => Ok(None),
    }
}
