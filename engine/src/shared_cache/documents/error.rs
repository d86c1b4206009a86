//! Why a cache document cannot be used or written.

use std::time::Duration;

use base::{Digest, Fault, Faulty};

use crate::error::EngineError;

/// What is wrong with a cache document.
#[derive(Debug, thiserror::Error)]
pub enum CacheDocumentError {
    /// There is none.
    #[error("there is no cache yet")]
    Missing,
    /// What is there is an image without cache metadata, or something else.
    #[error("what is there has no cache metadata")]
    NoCache,
    /// Another program has written it, or a newer version of this one.
    #[error(
        "none of its {results} results is of a kind that is understood here: another builder has written it"
    )]
    Foreign {
        /// How many results it has.
        results: usize,
    },
    /// It is not the JSON that it should be.
    #[error("the document {digest} is damaged")]
    Json {
        /// Its digest.
        digest: Digest,
        /// In what way.
        #[source]
        source: serde_json::Error,
    },
    /// A document is larger than any should be.
    #[error("the document {digest} has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// How many bytes are read.
        limit: u64,
    },
    /// A document is longer than any should be, and was not read to its end.
    #[error("{name} has more than the {limit} bytes that are read")]
    TooLong {
        /// What it is called.
        name: String,
        /// How many bytes are read.
        limit: u64,
    },
    /// A document that another one names is not there, or has another content.
    #[error("the document {digest} is missing or damaged")]
    Damaged {
        /// Its digest.
        digest: Digest,
    },
    /// A request took longer than the user wants to wait.
    #[error("the service did not answer within {} s", timeout.as_secs_f32())]
    TimedOut {
        /// How long was waited.
        timeout: Duration,
    },
    /// The content of an entry of a service cannot be had.
    #[error("the entry {key} cannot be read: {why}")]
    Entry {
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },
    /// A service's token is for reading only.
    #[error("the token of this job may not write to the cache")]
    MayNotWrite,
    /// Other builders were faster each time.
    #[error("other builders write to the same cache all the time")]
    Taken,
    /// It could not be written.
    #[error("cannot export the cache to {name} (ignore-error=true builds all the same)")]
    Write {
        /// What the place is called.
        name: String,
        /// Why.
        #[source]
        source: Box<EngineError>,
    },
}

impl Faulty for CacheDocumentError {
    fn fault(&self) -> Fault {
        match self {
            Self::Write { source, .. } => source.fault(),
            Self::TimedOut { .. } | Self::Entry { .. } => Fault::Environment,
            _ => Fault::Input,
        }
    }
}
