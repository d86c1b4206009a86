//! What is told of a steered build and its results to those who ask later.

use std::sync::Arc;

use base::event::EventSink;
use base::{CancelToken, Platform};

use super::{Session, Solved};
use crate::Engine;
use crate::assemble::Assembly;
use crate::attest;

/// Where an image came from.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// The platform of the image.
    pub platform: Platform,
    /// The kind of document, as a URL.
    pub kind: &'static str,
    /// The document, as JSON.
    pub document: Vec<u8>,
}

impl Session<'_> {
    /// The engine that builds here.
    pub fn engine(&self) -> Engine {
        self.fetcher.engine.with_own_network()
    }

    /// Who stops the build.
    pub fn cancel(&self) -> &CancelToken {
        self.fetcher.cancel
    }

    /// Where events of the build go.
    pub fn events(&self) -> Arc<dyn EventSink> {
        self.fetcher.progress.sink()
    }

    /// The id under which the build is remembered, if it is.
    pub fn build_id(&self) -> Option<&str> {
        self.fetcher.progress.recorder().map(crate::history::Recorder::id)
    }

    /// Where the images of a result came from, in full: for the record of the build, which stays here.
    pub fn provenance(&self, solved: &Solved) -> Vec<Provenance> {
        let prepared = &solved.prepared;
        attest::of_record(&Assembly {
            engine: self.fetcher.engine,
            lease: self.fetcher.lease,
            request: &prepared.request,
            prepared,
            lowered: &prepared.lowered.images,
            first: 0,
            roots: &solved.roots,
            sharing: self.sharing,
            progress: self.fetcher.progress,
            cancel: self.fetcher.cancel,
        })
    }
}
