//! Builds that are carried from one machine to another: an OCI image layout in a tar, with a manifest for each build.
//!
//! The config of a manifest is what lists show of the build; its layers are the record, the graph and the log. A layout
//! has digests for all of it, and everything that carries images to other places carries it.
//!
//! What an archive says is believed of its own builds alone. They never take the place of a build that is here, and
//! no step of a build made here is compared with theirs.

mod blobs;
mod incoming;

use std::collections::BTreeMap;
use std::io;

use base::image::{Descriptor, Manifest, media_type};
use base::{CancelToken, Fault, Faulty, Key, KeyHasher, Timestamp};
use registry::{ArchiveFormat, ExportedImage, WriteOptions, write_archive};
use serde::{Deserialize, Serialize};
use snapshotter::{BuildRecord, BuildStatus};

use self::blobs::Blobs;
use self::incoming::Incoming;
use super::document::BuildDocument;
use super::to_json;
use crate::Engine;
use crate::error::EngineError;
use crate::export;
use crate::request::{Destination, LoadSource};

/// What a build is called among OCI artifacts: the type of its config, a [`ListedDocument`].
const BUILD: &str = "application/vnd.lapstrake.build.v1+json";
/// The type of the layer with the record.
const RECORD: &str = "application/vnd.lapstrake.build.record.v1.json+zstd";
/// The type of the layer with the steps of the graph.
const GRAPH: &str = "application/vnd.lapstrake.build.graph.v1.json+zstd";
/// The type of the layer with the log.
const EVENTS: &str = "application/vnd.lapstrake.build.events.v1.jsonl+zstd";

/// The form of [`ListedDocument`].
const VERSION: u32 = 1;
/// The longest id.
const LONGEST_ID: usize = 64;

/// A build that was in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedBuild {
    /// Its id.
    pub id: String,
    /// Whether it is new here. One of this id that was here already is left as it is.
    pub is_new: bool,
}

/// Why the builds of an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BuildArchiveError {
    /// The archive has something else.
    #[error("archive {archive}: it has no build records, but something of the type \"{media_type}\"")]
    NoBuild {
        /// What the user calls the archive.
        archive: String,
        /// What it has.
        media_type: String,
    },
    /// A part cannot be unpacked.
    #[error("archive {archive}: cannot read the {part} of a build")]
    Damaged {
        /// What the user calls the archive.
        archive: String,
        /// Which part.
        part: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part is larger than any build makes it.
    #[error("archive {archive}: the {part} of a build is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What the user calls the archive.
        archive: String,
        /// Which part.
        part: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A part is not what it should be.
    #[error("archive {archive}: the {part} of a build {why}")]
    Invalid {
        /// What the user calls the archive.
        archive: String,
        /// Which part.
        part: &'static str,
        /// What is wrong, as in "the record …".
        why: &'static str,
    },
}

impl Faulty for BuildArchiveError {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

/// What lists show of a build.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ListedDocument {
    version: u32,
    id: String,
    project: Key,
    name: String,
    created: Timestamp,
    ended: Option<Timestamp>,
    status: String,
}

impl ListedDocument {
    fn of(build: &BuildRecord) -> Self {
        Self {
            version: VERSION,
            id: build.id.clone(),
            project: build.project,
            name: build.name.clone(),
            created: build.created,
            ended: build.ended,
            status: build.status.name().to_owned(),
        }
    }

    /// The row of a build that came from elsewhere. A clock that is ahead there does not make it the newest for long.
    fn row(self, now: Timestamp) -> BuildRecord {
        BuildRecord {
            id: self.id,
            project: KeyHasher::new("lapstrake/imported-project/v1").add(&self.project).finish(),
            name: self.name,
            created: self.created.min(now),
            ended: self.ended,
            status: BuildStatus::from_name(&self.status),
            pinned: false,
        }
    }

    /// Whether it is of our form, and its id could be one of ours.
    fn is_valid(&self) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        self.version == VERSION && (1..=LONGEST_ID).contains(&self.id.len()) && self.id.bytes().all(is_plain)
    }
}

impl Engine {
    /// Writes builds that are over as one archive, which [`import_builds`](Self::import_builds) reads.
    ///
    /// # Errors
    /// [`EngineError::NoSuchBuild`], [`EngineError::AmbiguousBuild`], [`EngineError::BuildRuns`], or the archive cannot
    /// be written; a file is then left as it was.
    pub fn export_builds(
        &self,
        builds: &[String],
        destination: &Destination,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let mut blobs = Blobs::in_directory(self.store.scratch_dir());
        let mut images: Vec<ExportedImage> = Vec::new();
        for build in builds {
            cancel.check()?;
            let image = self.exported_build(build, &mut blobs)?;
            if images.iter().all(|known| known.root.digest != image.root.digest) {
                images.push(image);
            }
        }
        let (format, name) = (ArchiveFormat::Oci, format!("{destination:?}"));
        let options = WriteOptions { format, mtime: 0, created: None, name };
        export::archive::to(destination, |out| {
            Ok(write_archive(out, &images, &options, &mut |digest| blobs.open(digest))?)
        })
    }

    fn exported_build(&self, id: &str, blobs: &mut Blobs) -> Result<ExportedImage, EngineError> {
        let build = self.find_build(Some(id))?;
        if build.status == BuildStatus::Running && self.store.is_building(&build.id)? {
            return Err(EngineError::BuildRuns(build.id));
        }
        let record = super::read_record(&self.store, &build.id)?;
        let document = record.as_deref().and_then(BuildDocument::decode);
        let graph =
            document.map(|document| super::read_graph(&self.store, &build.id, &document)).transpose()?;
        let mut layers = Vec::new();
        for (media_type, content) in [(RECORD, record), (GRAPH, graph.flatten())] {
            if let Some(content) = content {
                layers.push(blobs.add_compressed(media_type, |out| out.write_all(&content))?);
            }
        }
        let mut events = self.build_log(Some(&build.id))?;
        layers.push(blobs.add_compressed(EVENTS, |out| {
            events.try_for_each(|event| {
                out.write_all(&to_json(&event))?;
                out.write_all(b"\n")
            })
        })?);
        let listed = to_json(&ListedDocument::of(&build));
        let manifest = Manifest {
            artifact_type: None,
            subject: None,
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config: blobs.add(BUILD, |out| out.write_all(&listed))?,
            layers,
            annotations: BTreeMap::new(),
        };
        let root = blobs.add(media_type::OCI_MANIFEST, |out| out.write_all(&to_json(&manifest)))?;
        let root = Descriptor { artifact_type: Some(BUILD.to_owned()), ..root };
        let manifests = vec![(root.clone(), manifest)];
        Ok(ExportedImage { names: Vec::new(), root, indexes: Vec::new(), manifests })
    }

    /// Remembers the builds of an archive as if they had been made here, but for one thing: the steps of builds that
    /// are made here are not compared with theirs. All of the archive is looked at before anything is kept.
    ///
    /// # Errors
    /// When the archive is damaged or hostile, or has no builds.
    pub fn import_builds(
        &self,
        source: LoadSource,
        cancel: &CancelToken,
    ) -> Result<Vec<ImportedBuild>, EngineError> {
        let lease = self.store.lease("import builds")?;
        let archive = self.open_archive(source, &lease)?;
        let read = |entry| Incoming::read(&archive, entry);
        let builds: Vec<Incoming<'_>> = archive.images().iter().map(read).collect::<Result<_, _>>()?;
        for build in &builds {
            cancel.check()?;
            build.check()?;
        }
        builds.into_iter().map(|build| self.keep_build(build)).collect()
    }

    fn keep_build(&self, build: Incoming<'_>) -> Result<ImportedBuild, EngineError> {
        let id = build.listed.id.clone();
        if self.store.builds_beginning_with(&id)?.iter().any(|known| known.id == id) {
            return Ok(ImportedBuild { id, is_new: false });
        }
        // Without a row it is garbage.
        let directory = self.store.create_build_dir(&id)?;
        build.write(directory.path())?;
        self.store.put_foreign_build(&build.listed.row(self.clock.now()))?;
        Ok(ImportedBuild { id, is_new: true })
    }
}
