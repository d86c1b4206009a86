//! Builds that come in an archive: everything about them is looked at before anything is believed.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use base::image::{Descriptor, Manifest};
use registry::{Archive, LoadedImage};
use sys::fs::Durability;
use sys::path_error::PathContext as _;

use super::{BUILD, BuildArchiveError, EVENTS, GRAPH, ListedDocument, RECORD};
use crate::error::EngineError;
use crate::history::document::{BuildDocument, GraphDocument};
use crate::history::{GRAPH_FILE, RECORD_FILE, log};

/// The largest document with what lists show, in bytes.
const LARGEST_LISTED: u64 = 64 << 10;
/// The largest record or graph, in bytes. A build of 100,000 steps has less than half of it.
const LARGEST_DOCUMENT: u64 = 128 << 20;

/// A build in an archive.
pub(super) struct Incoming<'a> {
    archive: &'a Archive,
    pub(super) listed: ListedDocument,
    record: Option<Part>,
    graph: Option<Part>,
    events: Option<Part>,
}

/// A part of a build in an archive.
struct Part {
    /// What errors call it.
    name: &'static str,
    blob: Descriptor,
}

impl<'a> Incoming<'a> {
    /// Finds the parts of the build that a manifest has.
    pub(super) fn read(archive: &'a Archive, entry: &LoadedImage) -> Result<Self, EngineError> {
        let Manifest { config, layers, .. } = archive.artifact(entry)?.value;
        if config.media_type != BUILD {
            let (archive, media_type) = (archive.name().to_owned(), config.media_type);
            return Err(BuildArchiveError::NoBuild { archive, media_type }.into());
        }
        let part = |name, media_type: &str| {
            let blob = layers.iter().find(|layer| layer.media_type == media_type)?;
            Some(Part { name, blob: blob.clone() })
        };
        let listed = serde_json::from_slice(&archive.small_blob(&config, LARGEST_LISTED)?).ok();
        let listed = listed.filter(|listed: &ListedDocument| listed.is_valid());
        let (record, graph, events) = (part("record", RECORD), part("graph", GRAPH), part("log", EVENTS));
        match listed {
            Some(listed) => Ok(Self { archive, listed, record, graph, events }),
            None => Err(invalid(archive, "description", "is not one, or of a later version")),
        }
    }

    /// Reads everything once, and keeps nothing.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let of_record = |why| invalid(self.archive, "record", why);
        let of_graph = |why| invalid(self.archive, "graph", why);
        if let Some(record) = &self.record {
            let document = BuildDocument::decode(&self.text(record)?);
            let document = document.ok_or_else(|| of_record("is not one, or of a later version"))?;
            if document.id != self.listed.id {
                return Err(of_record("is that of another build"));
            }
            if let Some(graph) = &self.graph {
                let facts = GraphDocument::decode(&self.text(graph)?).and_then(GraphDocument::facts);
                let facts = facts.ok_or_else(|| of_graph("is not one, or of a later version"))?;
                if facts.len() != document.steps.len() {
                    return Err(of_graph("has other steps than its record"));
                }
            }
        } else if self.graph.is_some() {
            return Err(of_graph("has no record"));
        }
        match &self.events {
            Some(events) => self.unpack(events, log::LONGEST, &mut io::sink()),
            None => Ok(()),
        }
    }

    /// Writes all parts into the directory of a build.
    pub(super) fn write(&self, directory: &Path) -> Result<(), EngineError> {
        for (name, part) in [(RECORD_FILE, &self.record), (GRAPH_FILE, &self.graph)] {
            if let Some(part) = part {
                let path = directory.join(name);
                sys::fs::write_atomic(&path, &self.text(part)?, 0o600, Durability::Cached)?;
            }
        }
        match &self.events {
            Some(events) => self.copy_blob(events, &directory.join(log::FILE)),
            None => Ok(()),
        }
    }

    /// A document.
    fn text(&self, part: &Part) -> Result<Vec<u8>, EngineError> {
        let mut text = Vec::new();
        self.unpack(part, LARGEST_DOCUMENT, &mut text)?;
        Ok(text)
    }

    /// Decompresses a part, of which no more than `limit` bytes are accepted.
    fn unpack(&self, part: &Part, limit: u64, out: &mut dyn Write) -> Result<(), EngineError> {
        let archive = || self.archive.name().to_owned();
        let damaged = |source| BuildArchiveError::Damaged { archive: archive(), part: part.name, source };
        let plain = zstd::Decoder::new(self.archive.blob(&part.blob)?).map_err(damaged)?;
        let copied = io::copy(&mut plain.take(limit + 1), out).map_err(damaged)?;
        if copied > limit {
            return Err(BuildArchiveError::TooLarge { archive: archive(), part: part.name, limit }.into());
        }
        Ok(())
    }

    /// Writes a part as it is to a file.
    fn copy_blob(&self, part: &Part, path: &Path) -> Result<(), EngineError> {
        let mut file = File::create(path).at("create", path)?;
        io::copy(&mut self.archive.blob(&part.blob)?, &mut file).at("write", path)?;
        Ok(())
    }
}

fn invalid(archive: &Archive, part: &'static str, why: &'static str) -> EngineError {
    BuildArchiveError::Invalid { archive: archive.name().to_owned(), part, why }.into()
}
