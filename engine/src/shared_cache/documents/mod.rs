//! Shared caches that are one document, as BuildKit's are: a file of all results that a build knows of, which names the blobs of
//! their layers. Each writer replaces it, so writers that know different things lose each other's hits; who does not want
//! that uses records of their own.
//!
//! A document is loaded at once and answers from memory ([`source`]). At the end of a build, what it knows of its steps is gathered
//! and written as a new one ([`writing`]). Where documents are kept is behind [`store::DocumentStore`].

mod actions;
mod azure;
mod bucket;
mod callers;
mod config;
mod envelope;
mod error;
mod layout;
mod registry;
mod source;
mod store;
mod writing;

use self::actions::ActionsDocument;
use self::azure::AzureDocument;
use self::bucket::BucketDocument;
use self::callers::CallersDocument;
pub(super) use self::config::{CacheConfig, CacheRecord};
pub(crate) use self::envelope::INLINE;
pub use self::error::CacheDocumentError;
use self::layout::LayoutDocument;
use self::registry::{Asker, RegistryDocument};
pub(super) use self::source::DocumentSource;
use self::store::DocumentStore;
pub(crate) use self::writing::write;
use crate::Engine;
use crate::request::DocumentPlace;

/// The place that is called so.
pub(super) fn open<'a>(engine: &'a Engine, place: &DocumentPlace) -> Box<dyn DocumentStore + 'a> {
    match place {
        DocumentPlace::Registry(reference) => {
            Box::new(RegistryDocument::new(Asker::Usual(engine), reference.clone()))
        }
        DocumentPlace::InsecureRegistry(reference) => {
            let engine = Asker::Own(Box::new(engine.trusting_registries()));
            Box::new(RegistryDocument::new(engine, reference.clone()))
        }
        DocumentPlace::Actions(place) => Box::new(ActionsDocument::new(engine, place.clone())),
        DocumentPlace::Bucket(place) => Box::new(BucketDocument::new(engine, (**place).clone())),
        DocumentPlace::Azure(place) => Box::new(AzureDocument::new(engine, (**place).clone())),
        DocumentPlace::Caller(place) => Box::new(CallersDocument::new(place.clone())),
        DocumentPlace::Layout(place) => Box::new(LayoutDocument::new(place.clone())),
    }
}
