//! What builders share of their caches: results of steps, under the same keys as in the store.
//!
//! There are two kinds. In the one, each result is a record of its own, and any number of builders add to it; in the other, all
//! that a build knows is one document ([`documents`]), as in BuildKit. Of the first:
//!
//! A step's result is a [`Record`]: the content key of its files and the layers that they are in. Records and blobs
//! are kept in a [`Place`]. While a build runs, a result is looked up in the store first, then in the places that it
//! reads from ([`reading`]); what it makes is written to others in the background ([`writing`]), together where requests are
//! costly ([`segments`]).
//!
//! Nothing that a place does fails a build. A record that is missing, damaged or newer than this program is a miss.
//! When a blob turns out to be gone only after its record was taken for a hit, the plan is made anew without it:
//! what was done by then is in the store.

mod bringing;
mod bucket;
mod bucket_keys;
mod claims;
mod cluster;
mod destination;
mod directory;
mod documents;
mod gathering;
mod inline;
mod layers;
mod mounts;
mod place;
mod policy;
mod reading;
mod record;
mod remote_layers;
mod repository;
mod segments;
mod told;
mod transfer;
mod trust;
mod writing;

use std::sync::Arc;

use self::bucket::Bucket;
pub use self::bucket_keys::BucketKeysError;
use self::cluster::Cluster;
use self::directory::Directory;
pub use self::documents::CacheDocumentError;
use self::documents::DocumentSource;
pub(crate) use self::documents::{INLINE, write as write_documents};
pub use self::mounts::ChunkError;
pub(crate) use self::mounts::PortableMounts;
use self::place::{Place, Source};
pub(crate) use self::reading::{SharedCache, SharedId};
pub(crate) use self::remote_layers::RemoteLayers;
use self::repository::Repository;
pub(crate) use self::repository::{RECORD_TYPE, is_tag_of_record};
use self::segments::Packed;
pub(crate) use self::trust::Trust;
pub(crate) use self::writing::{Made, Writer, write_while};
use crate::Engine;
use crate::remote::Fetcher;
use crate::request::{CachePlace, CacheSource, SharedCaches};

/// The place that is called so.
fn open<'a>(engine: &'a Engine, place: &CachePlace) -> Arc<dyn Place + 'a> {
    let place: Box<dyn Place + 'a> = match place {
        CachePlace::Directory(path) => Box::new(Directory::new(path.clone())),
        CachePlace::Bucket(place) => Box::new(Bucket::new(engine, (**place).clone())),
        CachePlace::Cluster(options) => Box::new(Cluster::new(engine, (**options).clone())),
        CachePlace::Repository(reference) => Box::new(Repository::new(engine, reference.clone())),
    };
    Arc::new(Packed::new(place))
}

/// The places of a build, each opened once: what one part of it finds out of a place, no other has to ask again.
struct Places<'a> {
    /// What results are read from, in the order in which it was given.
    sources: Vec<Arc<dyn Source + 'a>>,
    /// Those among them that keep records.
    read: Vec<Arc<dyn Place + 'a>>,
    /// What results are written to.
    written: Vec<Arc<dyn Place + 'a>>,
}

impl<'a> Places<'a> {
    fn open(fetcher: &Fetcher<'a>, caches: &SharedCaches) -> Self {
        let mut known: Vec<(CachePlace, Arc<dyn Place + 'a>)> = Vec::new();
        let mut once = |place: &CachePlace| {
            if let Some((_, opened)) = known.iter().find(|(known, _)| known == place) {
                return Arc::clone(opened);
            }
            let opened = open(fetcher.engine, place);
            known.push((place.clone(), Arc::clone(&opened)));
            opened
        };
        let (mut sources, mut read): (Vec<Arc<dyn Source + 'a>>, _) = (Vec::new(), Vec::new());
        for source in &caches.from {
            match source {
                CacheSource::Records(place) => {
                    let place = once(place);
                    read.push(Arc::clone(&place));
                    sources.push(place);
                }
                CacheSource::Document(input) => {
                    let store = documents::open(fetcher.engine, &input.place);
                    sources.push(Arc::new(DocumentSource::new(store, input.timeout, fetcher.progress)));
                }
            }
        }
        let written = caches.to.iter().map(once).collect();
        Self { sources, read, written }
    }
}
