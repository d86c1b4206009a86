//! Cache mounts that travel: what `RUN --mount=type=cache` leaves on one builder, another one begins with.
//!
//! A cache mount is kept in a place as chunks of a tar of its files ([`chunks`]), and a list of them ([`list`]), under its
//! id and a scope, usually a branch. Only chunks that are not there yet are sent. The newest list stays: unlike results,
//! there is no right one.
//!
//! A builder that has a cache mount keeps its own. One that has none looks in each scope that it was told of, when a
//! step first wants it. Nothing of this fails a build: a cache mount may be empty at any time.

mod chunks;
mod list;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};

use base::image::Descriptor;
use base::{CancelToken, Digest};
use snapshotter::diff::{DiffOptions, LayerSource, write_layer};
use snapshotter::{CacheMount, CacheMountRequest, Layering};

pub use self::chunks::ChunkError;
use self::chunks::{Joined, average, cut, pack};
use self::list::{Chunk, ChunkList, MountRecord};
use super::SharedCache;
use super::bringing::fetch_from;
use super::place::{NewRecord, Place};
use crate::error::EngineError;
use crate::parallel::each_at_once;
use crate::remote::Fetcher;

/// How many chunks are sent at once.
const SENT_AT_ONCE: usize = 4;

/// The cache mounts that a build shares with other builders.
pub(crate) struct PortableMounts<'a> {
    shared: &'a SharedCache<'a>,
    /// Where cache mounts are looked for; they are written to the first one. None of them is shared without any.
    scopes: &'a [String],
    /// Those that steps have wanted, by id. Held while one is looked for.
    wanted: Mutex<HashMap<String, Arc<Mutex<Wanted>>>>,
}

/// What is known of a cache mount that was wanted.
#[derive(Default)]
struct Wanted {
    was_looked_for: bool,
    /// What is elsewhere turned out to be damaged, so that nothing of it is relied on.
    is_damaged: bool,
}

impl<'a> PortableMounts<'a> {
    /// Those of the build that `shared` is for, in these scopes.
    pub(crate) fn new(shared: &'a SharedCache<'a>, scopes: &'a [String]) -> Self {
        Self { shared, scopes, wanted: Mutex::default() }
    }

    /// Has a cache mount that is wanted now begin with what another builder left, if there is none here.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`]; everything else is a warning.
    pub(crate) fn bring(
        &self,
        request: &CacheMountRequest<'_>,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        if self.scopes.is_empty() {
            return Ok(());
        }
        let wanted = self.wanted(request.id);
        let mut wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut wanted.was_looked_for, true) {
            return Ok(());
        }
        match self.look_for(request, cancel) {
            Err(EngineError::Cancelled) => Err(EngineError::Cancelled),
            Err(error) => {
                wanted.is_damaged = true;
                self.warn(&format!("the cache mount {} begins empty", request.id), &error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn wanted(&self, id: &str) -> Arc<Mutex<Wanted>> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.entry(id.to_owned()).or_default().clone()
    }

    fn look_for(&self, request: &CacheMountRequest<'_>, cancel: &CancelToken) -> Result<(), EngineError> {
        if !self.shared.fetcher().engine.store.cache_mounts_of(request.id)?.is_empty() {
            return Ok(());
        }
        for (scope, place) in
            self.scopes.iter().flat_map(|scope| self.shared.read.iter().map(move |p| (scope, p)))
        {
            let Some(list) = self.list(&**place, scope, request.id, cancel)? else { continue };
            let name = format!("importing cache mount {} ({scope}) from {}", request.id, place.name());
            return self
                .shared
                .fetcher()
                .progress
                .step(&name, |vertex| self.unpack(&**place, &list, request, vertex, cancel));
        }
        Ok(())
    }

    /// The list that is found under `id`.
    fn list(
        &self,
        place: &dyn Place,
        scope: &str,
        id: &str,
        cancel: &CancelToken,
    ) -> Result<Option<ChunkList>, EngineError> {
        let Fetcher { engine, lease, .. } = *self.shared.fetcher();
        let key = list::key(scope, id);
        let Some(found) = place.records(&[key], cancel)?.pop().flatten() else { return Ok(None) };
        let record = match self.shared.trust().open(&place.name(), &key, &found) {
            Ok(record) => MountRecord::read(record, id),
            Err(why) => {
                let message = format!("the cache mount {id} in {} is not trusted: {why}", place.name());
                self.shared.fetcher().progress.warn("SharedCache", message);
                None
            }
        };
        let Some(record) = record else { return Ok(None) };
        let blob = record.list();
        if !fetch_from(engine, lease, place, &blob, cancel)? {
            return Ok(None);
        }
        let bytes = engine.store.read_blob(&blob.digest, blob.size)?;
        Ok(bytes.and_then(|bytes| ChunkList::read(&bytes)))
    }

    /// Makes a cache mount of chunks, fetching those that are not here.
    fn unpack(
        &self,
        place: &dyn Place,
        list: &ChunkList,
        request: &CacheMountRequest<'_>,
        vertex: Digest,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let Fetcher { engine, lease, progress, .. } = *self.shared.fetcher();
        let options = engine.store.apply_options(Layering::Plain);
        let (size, limit) = (list.size(), options.limits.max_bytes);
        if size > limit {
            return Err(ChunkError::TooLarge { size, limit }.into());
        }
        let blobs = list.blobs();
        engine.fetch_each(
            lease,
            &blobs.iter().collect::<Vec<_>>(),
            cancel,
            |blob, stop| match fetch_from(engine, lease, place, blob, stop)? {
                true => Ok(()),
                false => Err(EngineError::SharedResultLost {
                    what: format!("blob {}", blob.digest),
                    why: format!("{} does not have it any more", place.name()),
                }),
            },
        )?;
        progress.status(vertex, "importing files", size, size, true);
        engine.store.add_cache_mount(lease, request.id, |directory| {
            let files = Joined::new(&engine.store, &list.chunks);
            snapshotter::archive::extract_archive(files, directory, &options, cancel)?;
            let root = sys::fs::open(directory)?;
            sys::rootdir::set_owner_of(root.as_fd(), directory, request.uid, request.gid)?;
            Ok(sys::rootdir::set_mode_of(root.as_fd(), directory, request.mode)?)
        })
    }

    /// Writes the cache mounts that steps have used to every place that the build writes to.
    pub(crate) fn write(&self) {
        let mut wanted: Vec<_> =
            self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone().into_iter().collect();
        if wanted.is_empty() || self.shared.written.is_empty() || !self.shared.may_tell() {
            return;
        }
        wanted.sort_by(|(one, _), (other, _)| one.cmp(other));
        let ids: Vec<&str> = wanted.iter().map(|(id, _)| id.as_str()).collect();
        self.shared.fetcher().progress.run(&format!("exporting cache mounts {}", ids.join(", ")), || {
            for (id, wanted) in &wanted {
                let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
                for place in &self.shared.written {
                    match self.write_one(&**place, id, wanted.is_damaged) {
                        Ok(()) | Err(EngineError::Cancelled) => {}
                        Err(error) => {
                            let what = format!("the cache mount {id} is not written to {}", place.name());
                            self.warn(&what, &error);
                        }
                    }
                }
            }
        });
    }

    fn write_one(&self, place: &dyn Place, id: &str, anew: bool) -> Result<(), EngineError> {
        let Fetcher { engine, lease, cancel, .. } = *self.shared.fetcher();
        let Some(scope) = self.scopes.first() else { return Ok(()) };
        let known = if anew { Ok(None) } else { self.list(place, scope, id, cancel) };
        let (before, anew) = match known {
            Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
            // What cannot be read is of no use to others either.
            Err(_) => (None, true),
            Ok(before) => (before, anew),
        };
        let Some((list, new)) = self.cut(id, &before.clone().unwrap_or_default())? else { return Ok(()) };
        if before.as_ref() == Some(&list) {
            return Ok(());
        }
        let blob = engine.store.put_blob(lease, &list.to_blob())?;
        let document = list::list_blob(blob.digest, blob.size);
        let add = |blob: &Descriptor, stop: &CancelToken| {
            place.add_blob(blob, &engine.store.blob_path(&blob.digest), anew, stop)
        };
        each_at_once(&new, SENT_AT_ONCE, cancel, add)?;
        add(&document, cancel)?;
        let key = list::key(scope, id);
        let bytes = self.shared.trust().sign(&key, MountRecord::new(id, &document).to_bytes());
        let blobs = [vec![document], list.blobs()].concat();
        place.add_record(&key, &NewRecord { bytes: &bytes, blobs: &blobs, replaces: true }, cancel)?;
        Ok(())
    }

    /// Cuts what is in a cache mount; `None` when nobody else may read it now. Chunks that are not in `before` become blobs
    /// of the store, and are listed beside.
    fn cut(&self, id: &str, before: &ChunkList) -> Result<Option<(ChunkList, Vec<Descriptor>)>, EngineError> {
        let Fetcher { engine, lease, cancel, .. } = *self.shared.fetcher();
        let Some(held) = self.hold(id)? else { return Ok(None) };
        let mut known: HashMap<Digest, Chunk> =
            before.chunks.iter().map(|chunk| (chunk.content, *chunk)).collect();
        let (mut chunks, mut new) = (Vec::new(), Vec::new());
        let mut add = |content: &[u8]| -> Result<(), EngineError> {
            let digest = Digest::of(content);
            let chunk = match known.entry(digest) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(unknown) => {
                    let blob = engine.store.put_blob(lease, &pack(content)?)?;
                    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
                    let chunk = Chunk::new(digest, length, blob.digest, blob.size);
                    new.push(chunk.blob());
                    *unknown.insert(chunk)
                }
            };
            chunks.push(chunk);
            Ok(())
        };
        let average = average(held.size()?);
        let (read, write) = io::pipe().map_err(ChunkError::Pipe)?;
        std::thread::scope(|scope| {
            let source = LayerSource::TwoTrees { lower: None, upper: held.dir() };
            let files =
                scope.spawn(move || write_layer(source, DiffOptions { clamp_mtime: None }, write, cancel));
            let cut = cut(read, average, &mut add);
            let read = files.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // If cutting failed, nobody has read what came then.
            cut?;
            Ok::<_, EngineError>(read.map(drop)?)
        })?;
        Ok(Some((ChunkList::new(chunks), new)))
    }

    /// The cache mount that a step would get, for reading.
    fn hold(&self, id: &str) -> Result<Option<CacheMount>, EngineError> {
        let store = &self.shared.fetcher().engine.store;
        for directory in store.cache_mounts_of(id)? {
            if let Some(held) = store.read_cache_mount(&directory)? {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    fn warn(&self, what: &str, error: &EngineError) {
        self.shared.fetcher().progress.warn("SharedCache", format!("{what}: {}", base::fault::chain(error)));
    }
}
