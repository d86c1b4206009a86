//! Records and blobs in a repository of any OCI registry.
//!
//! A record is a manifest with a tag of its own, made of its key. Its layers are the result's, so the registry keeps them
//! as long as the record; the record itself is an annotation, so one request answers a look-up.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use base::image::{Descriptor, Manifest, media_type};
use base::{CancelToken, Digest, Key, Reference};
use registry::{BlobSource, ClaimRequest, Client};
use snapshotter::BlobWriter;

use super::claims::{Claim, Claimed};
use super::place::{NewRecord, Place, Source};
use super::{record, transfer};
use crate::Engine;
use crate::blocking::Network;
use crate::error::EngineError;

/// What the tags of records begin with: the version of the form described above.
const TAG: &str = "lapstrake-v1-";

/// What the tags of notes begin with. A note is the only layer of its manifest.
const NOTE_TAG: &str = "lapstrake-note-v1-";

/// The media type of a record's config, which says what the manifest is.
pub(crate) const RECORD_TYPE: &str = "application/vnd.lapstrake.cache.record.v1+json";

/// The media type of a note.
const NOTE_TYPE: &str = "application/vnd.lapstrake.cache.note.v1+json+zstd";

/// The annotation with the record.
const ANNOTATION: &str = "dev.lapstrake.cache.record";

/// The content of a record's config.
const CONFIG: &[u8] = b"{}";

/// How many records are asked for at once.
const REQUESTS_AT_ONCE: usize = 16;

/// Whether a tag is one that a record or a note has.
pub(crate) fn is_tag_of_record(tag: &str) -> bool {
    tag.starts_with(TAG) || tag.starts_with(NOTE_TAG)
}

/// A repository that builders share.
pub(crate) struct Repository<'a> {
    engine: &'a Engine,
    reference: Reference,
    /// Whether the config that all manifests have is there. Held while it is sent.
    has_config: Mutex<bool>,
    /// Set when the registry turned out to know no requests for many records.
    one_by_one: AtomicBool,
}

impl<'a> Repository<'a> {
    /// The repository of `reference`; its tag is of no account.
    pub(crate) fn new(engine: &'a Engine, reference: Reference) -> Self {
        Self { engine, reference, has_config: Mutex::new(false), one_by_one: AtomicBool::new(false) }
    }

    fn of_key(&self, key: &Key) -> Reference {
        self.tagged(format!("{TAG}{}", key.hex()))
    }

    fn tagged(&self, tag: String) -> Reference {
        Reference { tag: Some(tag), digest: None, ..self.reference.clone() }
    }

    fn records_one_by_one(
        &self,
        keys: &[Key],
        cancel: &CancelToken,
    ) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let network = self.engine.network()?;
        let references: Vec<Reference> = keys.iter().map(|key| self.of_key(key)).collect();
        let client = network.client.clone();
        let ask = move |reference: Reference| {
            let client = client.clone();
            async move { record_of(&client, &reference).await }
        };
        network.wait(cancel, transfer::each(references, REQUESTS_AT_ONCE, ask))
    }

    /// Pushes a manifest whose layers are there.
    fn push(
        &self,
        reference: &Reference,
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let network = self.engine.network()?;
        let config = self.push_config(cancel)?;
        let media_type = media_type::OCI_MANIFEST;
        let manifest = Manifest {
            artifact_type: None,
            subject: None,
            schema_version: 2,
            media_type: media_type.to_owned(),
            config,
            layers,
            annotations,
        };
        let bytes = serde_json::to_vec(&manifest).unwrap_or_default();
        network.wait(cancel, network.client.push_manifest(reference, media_type, bytes.into()))?;
        Ok(())
    }

    /// Pushes the config that all manifests have, once for a build.
    fn push_config(&self, cancel: &CancelToken) -> Result<Descriptor, EngineError> {
        let network = self.engine.network()?;
        let config = Descriptor::new(RECORD_TYPE, Digest::of(CONFIG), CONFIG.len() as u64);
        let mut is_there = self.has_config.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_there {
            let source = BlobSource::Bytes(CONFIG.into());
            network.wait(cancel, network.client.push_blob(&self.reference, &config, &source, None, None))?;
            *is_there = true;
        }
        Ok(config)
    }
}

impl Source for Repository<'_> {
    /// `lap registry serve` knows claims, others do not.
    fn claim(&self, claim: &Claim, cancel: &CancelToken) -> Result<Claimed, EngineError> {
        let network = self.engine.network()?;
        let granted = network.wait(cancel, network.client.claim(&self.reference, &request(claim)))?;
        Ok(match granted {
            Some(true) => Claimed::Ours,
            Some(false) => Claimed::Theirs,
            None => Claimed::Unknown,
        })
    }

    fn release(&self, claim: &Claim, cancel: &CancelToken) -> Result<(), EngineError> {
        let network = self.engine.network()?;
        network.wait(cancel, network.client.release(&self.reference, &request(claim)))
    }

    fn name(&self) -> String {
        self.reference.familiar_repository()
    }

    fn repository(&self) -> Option<&Reference> {
        Some(&self.reference)
    }

    fn records(&self, keys: &[Key], cancel: &CancelToken) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        if keys.len() > 1
            && let Some(found) = self.records_at_once(keys, cancel)?
        {
            return Ok(found);
        }
        self.records_one_by_one(keys, cancel)
    }

    /// All records with one request; `None` when the registry does not know such requests, which is found out once.
    fn records_at_once(
        &self,
        keys: &[Key],
        cancel: &CancelToken,
    ) -> Result<Option<Vec<Option<Vec<u8>>>>, EngineError> {
        if self.one_by_one.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let network = self.engine.network()?;
        let tags: Vec<String> = keys.iter().map(|key| format!("{TAG}{}", key.hex())).collect();
        let found = network.wait(cancel, network.client.manifests(&self.reference, &tags))?;
        if found.is_none() {
            self.one_by_one.store(true, Ordering::Relaxed);
        }
        let record = |manifest: Option<Vec<u8>>| record_in(&manifest?);
        Ok(found.map(|found| found.into_iter().map(record).collect()))
    }

    fn note(&self, key: &Key, cancel: &CancelToken) -> Result<Option<Vec<u8>>, EngineError> {
        let network = self.engine.network()?;
        let reference = self.tagged(format!("{NOTE_TAG}{}", key.hex()));
        let client = &network.client;
        network.wait(cancel, async {
            let manifest = match client.resolve(&reference).await {
                Ok(resolved) => serde_json::from_slice::<Manifest>(&resolved.bytes).ok(),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(EngineError::from(error)),
            };
            let layers = manifest.map(|manifest| manifest.layers).unwrap_or_default();
            let Some(note) = layers.first().filter(|note| note.size <= record::MAX_NOTE_SIZE) else {
                return Ok(None);
            };
            Ok(Some(client.blob(&reference, note, None).await?.read_to_end().await?))
        })
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        copy_blob(self.engine.network()?, &self.reference, blob, to, cancel)
    }
}

impl Place for Repository<'_> {
    /// `lap registry serve` answers quickly, but what it takes in becomes an image of its store each time.
    fn wants_segments(&self) -> bool {
        true
    }

    fn add_record(
        &self,
        key: &Key,
        record: &NewRecord<'_>,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let network = self.engine.network()?;
        let reference = self.of_key(key);
        if !record.replaces {
            match network.wait(cancel, network.client.head(&reference)) {
                Ok(_) => return Ok(false),
                Err(EngineError::Registry(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let text = String::from_utf8_lossy(record.bytes).into_owned();
        let annotations = BTreeMap::from([(ANNOTATION.to_owned(), text)]);
        self.push(&reference, record.blobs.to_vec(), annotations, cancel)?;
        Ok(true)
    }

    fn put_note(&self, key: &Key, note: &[u8], cancel: &CancelToken) -> Result<(), EngineError> {
        let network = self.engine.network()?;
        let reference = self.tagged(format!("{NOTE_TAG}{}", key.hex()));
        let layer = Descriptor::new(NOTE_TYPE, Digest::of(note), note.len() as u64);
        let source = BlobSource::Bytes(note.to_vec().into());
        network.wait(cancel, network.client.push_blob(&reference, &layer, &source, None, None))?;
        self.push(&reference, vec![layer], BTreeMap::new(), cancel)
    }

    fn add_blob(
        &self,
        blob: &Descriptor,
        file: &Path,
        _anew: bool,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let network = self.engine.network()?;
        let source = BlobSource::file(file);
        let pushed = network.client.push_blob(&self.reference, blob, &source, None, None);
        network.wait(cancel, pushed)?;
        Ok(())
    }
}

/// Copies a blob of a repository to `to`; `false` if there is none.
pub(super) fn copy_blob(
    network: &Network,
    reference: &Reference,
    blob: &Descriptor,
    to: &mut BlobWriter,
    cancel: &CancelToken,
) -> Result<bool, EngineError> {
    let mut stream = match network.wait(cancel, network.client.blob(reference, blob, None)) {
        Err(EngineError::Registry(error)) if error.is_not_found() => return Ok(false),
        stream => stream?,
    };
    while let Some(chunk) = network.wait(cancel, stream.next())? {
        to.copy_from(&mut chunk.as_ref())?;
    }
    Ok(true)
}

fn request(claim: &Claim) -> ClaimRequest {
    let (key, holder) = (claim.key.hex(), claim.holder.clone());
    ClaimRequest { key, holder, seconds: claim.limit.as_secs().max(1) }
}

/// The record with this name, if there is one.
async fn record_of(client: &Client, reference: &Reference) -> Result<Option<Vec<u8>>, EngineError> {
    match client.resolve(reference).await {
        Ok(resolved) => Ok(record_in(&resolved.bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        // What somebody else has put there is no record.
        Err(error) if error.is_wrong_content() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The record in a manifest, if it is one that has a record.
fn record_in(manifest: &[u8]) -> Option<Vec<u8>> {
    let mut manifest: Manifest = serde_json::from_slice(manifest).ok()?;
    let record = manifest.annotations.remove(ANNOTATION)?.into_bytes();
    Some(record).filter(|record| record.len() as u64 <= record::MAX_SIZE)
}
