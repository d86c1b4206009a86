//! Records and blobs in a Remote Execution API cache, which a team may have for Bazel.
//!
//! A record is the result of an action that nobody ever runs: its salt is made of the key, the record is in place of its standard
//! output, and its files are the result's layers. So the server keeps them together, and one that knows that a layer is
//! gone says that there is no result. A note is the same with one file.

use std::path::Path;
use std::sync::OnceLock;

use base::image::Descriptor;
use base::{CancelToken, Digest, Key};
use registry::BlobSource;
use registry::reapi::{ActionName, ActionResult, Reapi, ReapiOptions};
use snapshotter::BlobWriter;

use super::place::{NewRecord, Place, Source};
use super::record;
use super::transfer::{self, Incoming};
use crate::Engine;
use crate::error::EngineError;

/// How many records are asked for at once, over one connection.
const REQUESTS_AT_ONCE: usize = 64;

/// What the salt of a record begins with; the key follows.
const RECORD_SALT: &[u8] = b"lapstrake record v1\0";
/// What the salt of a note begins with.
const NOTE_SALT: &[u8] = b"lapstrake note v1\0";

/// A cache that builders share.
pub(crate) struct Cluster<'a> {
    engine: &'a Engine,
    options: ReapiOptions,
    cache: OnceLock<Reapi>,
}

impl<'a> Cluster<'a> {
    /// The cache at an endpoint.
    pub(crate) fn new(engine: &'a Engine, options: ReapiOptions) -> Self {
        Self { engine, options, cache: OnceLock::new() }
    }

    /// The cache with its connection.
    fn open(&self) -> Result<&Reapi, EngineError> {
        if let Some(cache) = self.cache.get() {
            return Ok(cache);
        }
        let cache = Reapi::new(self.options.clone())?;
        Ok(self.cache.get_or_init(|| cache))
    }

    fn result(&self, action: &ActionName, cancel: &CancelToken) -> Result<Option<ActionResult>, EngineError> {
        self.engine.network()?.wait(cancel, self.open()?.result(action))
    }
}

fn action(salt: &[u8], key: &Key) -> ActionName {
    ActionName::of(&[salt, key.as_bytes()].concat())
}

impl Source for Cluster<'_> {
    fn name(&self) -> String {
        let ReapiOptions { endpoint, instance, .. } = &self.options;
        if instance.is_empty() { endpoint.clone() } else { format!("{endpoint}/{instance}") }
    }

    fn records(&self, keys: &[Key], cancel: &CancelToken) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let cache = self.open()?.clone();
        let actions: Vec<ActionName> = keys.iter().map(|key| action(RECORD_SALT, key)).collect();
        let ask = move |action: ActionName| {
            let cache = cache.clone();
            async move { Ok(cache.result(&action).await?.map(|result| result.text)) }
        };
        let found = self.engine.network()?.wait(cancel, transfer::each(actions, REQUESTS_AT_ONCE, ask))?;
        let fits = |text: &Vec<u8>| text.len() as u64 <= record::MAX_SIZE;
        Ok(found.into_iter().map(|text| text.filter(fits)).collect())
    }

    fn note(&self, key: &Key, cancel: &CancelToken) -> Result<Option<Vec<u8>>, EngineError> {
        let result = self.result(&action(NOTE_SALT, key), cancel)?;
        let blob = result.and_then(|result| result.blobs.first().copied());
        let Some(blob) = blob.filter(|(_, size)| *size <= record::MAX_NOTE_SIZE) else { return Ok(None) };
        let cache = self.open()?;
        self.engine.network()?.wait(cancel, async {
            let Some(mut reader) = cache.blob(&blob).await? else { return Ok(None) };
            let mut note = Vec::new();
            while let Some(piece) = reader.next().await? {
                note.extend_from_slice(&piece);
                if note.len() as u64 > record::MAX_NOTE_SIZE {
                    return Ok(None);
                }
            }
            Ok::<_, EngineError>(Some(note))
        })
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let (network, cache) = (self.engine.network()?, self.open()?);
        let Some(mut reader) = network.wait(cancel, cache.blob(&(blob.digest, blob.size)))? else {
            return Ok(false);
        };
        let mut incoming = Incoming::new(blob, to);
        while let Some(piece) = network.wait(cancel, reader.next())? {
            if !incoming.take(&piece)? {
                break;
            }
        }
        Ok(true)
    }
}

impl Place for Cluster<'_> {
    fn add_record(
        &self,
        key: &Key,
        record: &NewRecord<'_>,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let action = action(RECORD_SALT, key);
        if !record.replaces && self.result(&action, cancel)?.is_some() {
            return Ok(false);
        }
        let blobs = record.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        let result = ActionResult { text: record.bytes.to_vec(), blobs };
        self.engine.network()?.wait(cancel, self.open()?.set_result(&action, &result))?;
        Ok(true)
    }

    fn put_note(&self, key: &Key, note: &[u8], cancel: &CancelToken) -> Result<(), EngineError> {
        let cache = self.open()?;
        let blob = (Digest::of(note), note.len() as u64);
        let result = ActionResult { text: Vec::new(), blobs: vec![blob] };
        self.engine.network()?.wait(cancel, async {
            cache.add_blob(&blob, BlobSource::Bytes(note.to_vec().into())).await?;
            cache.set_result(&action(NOTE_SALT, key), &result).await
        })
    }

    fn add_blob(
        &self,
        blob: &Descriptor,
        file: &Path,
        anew: bool,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let (cache, source) = (self.open()?, BlobSource::file(file));
        let name = (blob.digest, blob.size);
        self.engine.network()?.wait(cancel, async {
            if anew { cache.put_blob(&name, source).await } else { cache.add_blob(&name, source).await }
        })
    }
}
