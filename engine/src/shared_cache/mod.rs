//! What builders share of their caches: results of steps, under the same keys as in the store.
//!
//! There are two kinds. In the one, each result is a record of its own, and any number of builders add to it; in the other, all
//! that a build knows is one document ([`documents`]), as in BuildKit. Of the first:
//!
//! A step's result is a [`Record`]: the content key of its files and the layers that they are in. Records and blobs
//! are kept in a [`Place`]. While a build runs, a result is looked up in the store first, then in the places that it
//! reads from ([`reading`]); what it makes is written to others in the background ([`writing`]).
//!
//! Nothing that a place does fails a build. A record that is missing, damaged or newer than this program is a miss.
//! When a blob turns out to be gone only after its record was taken for a hit, the plan is made anew without it:
//! what was done by then is in the store.

mod bringing;
mod bucket;
mod claims;
mod cluster;
mod directory;
mod documents;
mod inline;
mod layers;
mod mounts;
mod place;
mod policy;
mod reading;
mod record;
mod repository;
mod told;
mod transfer;
mod trust;
mod writing;

use std::sync::Arc;

use self::bucket::Bucket;
use self::cluster::Cluster;
use self::directory::Directory;
pub use self::documents::CacheDocumentError;
use self::documents::DocumentSource;
pub(crate) use self::documents::{INLINE, write as write_documents};
pub use self::mounts::ChunkError;
pub(crate) use self::mounts::PortableMounts;
use self::place::{Place, Source};
pub(crate) use self::reading::{SharedCache, SharedId};
use self::repository::Repository;
pub(crate) use self::repository::{RECORD_TYPE, is_tag_of_record};
pub(crate) use self::trust::Trust;
pub(crate) use self::writing::{Made, Writer, write_while};
use crate::Engine;
use crate::remote::Fetcher;
use crate::request::{CachePlace, CacheSource};

/// The place that is called so.
fn open<'a>(engine: &'a Engine, place: &CachePlace) -> Arc<dyn Place + 'a> {
    match place {
        CachePlace::Directory(path) => Arc::new(Directory::new(path.clone())),
        CachePlace::Bucket(place) => Arc::new(Bucket::new(engine, (**place).clone())),
        CachePlace::Cluster(options) => Arc::new(Cluster::new(engine, (**options).clone())),
        CachePlace::Repository(reference) => Arc::new(Repository::new(engine, reference.clone())),
    }
}

/// The place that is called so, for who only reads.
fn open_source<'a>(fetcher: &Fetcher<'a>, source: &CacheSource) -> Arc<dyn Source + 'a> {
    match source {
        CacheSource::Records(place) => open(fetcher.engine, place),
        CacheSource::Document(place) => {
            let store = documents::open(fetcher.engine, place);
            Arc::new(DocumentSource::new(store, fetcher.progress))
        }
    }
}
