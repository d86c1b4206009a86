//! What clients of a daemon are told of builds that they asked for, beside what is kept of every build.
//!
//! They go by the client's name, which is no id of ours: two builds may have the same, of which the newest is meant. What a
//! client sees of a build that failed before it had begun here is all that there is of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use base::image::Descriptor;
use base::{Digest, KeyHasher, Timestamp};
use serde::{Deserialize, Serialize};
use snapshotter::{Attachment, BuildContent, BuildRecord, BuildStatus, ClientBuild, StoreError};

use super::document::{BuildDocument, RequestDocument};
use super::read::BuildSummary;
use super::to_json;
use crate::Engine;
use crate::error::EngineError;
use crate::remote::without_credentials;

/// The form of [`ClientRecord`]. Others are not read.
const VERSION: u32 = 1;

/// What goes with a build is left out from this size on, in bytes after compression.
const MOST_ATTACHED: usize = 16 << 20;

/// Nothing that goes with a build is longer, in bytes before compression.
const LONGEST: u64 = 512 << 20;

/// What a client is told of a build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// The form of the document.
    pub version: u32,
    /// What the client calls it.
    pub name: String,
    /// The frontend, if it was named.
    pub frontend: String,
    /// What was asked of it.
    pub attributes: BTreeMap<String, String>,
    /// The outputs, each with its type.
    pub exporters: Vec<(String, BTreeMap<String, String>)>,
    /// What the outputs answered.
    pub response: BTreeMap<String, String>,
    /// Why it failed.
    pub error: Option<ClientError>,
    /// When it was asked for.
    pub started: Timestamp,
    /// When it was answered.
    pub ended: Timestamp,
    /// Its steps.
    pub steps: StepCounts,
    /// All that it said.
    pub logs: Option<Descriptor>,
    /// What it and its client did when.
    #[serde(default)]
    pub trace: Option<Descriptor>,
    /// The trace that was told before this one, which somebody may be about to read.
    #[serde(default)]
    pub earlier_trace: Option<Digest>,
    /// What came of it, for each platform.
    pub results: Vec<ClientResult>,
}

/// Why a build failed, as its client is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientError {
    /// The number of its kind.
    pub code: i32,
    /// In words.
    pub message: String,
    /// Further parts: the name of a type, and a text.
    pub details: Vec<(String, String)>,
}

/// How many steps there were, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCounts {
    /// All of them.
    pub total: usize,
    /// Those that ended.
    pub completed: usize,
    /// Those whose result was there.
    pub cached: usize,
    /// What was warned of.
    pub warnings: usize,
}

/// What came of a build for one platform, or for the one that it has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientResult {
    /// The platform.
    pub platform: String,
    /// What each output made, as far as it is content.
    pub images: BTreeMap<usize, Descriptor>,
    /// What is told of the result.
    pub attestations: Vec<Descriptor>,
}

/// A build of the history, as a client sees it.
#[derive(Debug, Clone)]
pub struct HistoryBuild {
    /// As in lists.
    pub summary: BuildSummary,
    /// What its client is told; `None` for a build without one.
    pub client: Option<ClientRecord>,
    /// Its record, where there is no client.
    pub document: Option<BuildDocument>,
}

/// How many builds are remembered, and for how long. One goes that is more than enough by both, and that nobody pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// How many stay, whatever their age.
    pub most: usize,
    /// For how long all stay, whatever their number.
    pub age: Duration,
}

impl ClientRecord {
    /// Leaves out names and passwords that URLs may have.
    fn without_secrets(mut self) -> Self {
        let clean = |texts: &mut BTreeMap<String, String>| {
            texts.values_mut().filter(|text| text.contains("://")).for_each(|text| {
                *text = without_credentials(text);
            });
        };
        clean(&mut self.attributes);
        self.exporters.iter_mut().for_each(|(_, attributes)| clean(attributes));
        Self { version: VERSION, ..self }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|record: &Self| record.version == VERSION)
    }

    fn status(&self) -> BuildStatus {
        /// gRPC's number of what was cancelled.
        const CANCELLED: i32 = 1;
        match &self.error {
            None => BuildStatus::Completed,
            Some(error) if error.code == CANCELLED => BuildStatus::Canceled,
            Some(_) => BuildStatus::Failed,
        }
    }
}

/// Something that goes with a build, if it is not too large.
fn packed(content: &[u8]) -> Option<Attachment> {
    // Writing to memory does not fail.
    let bytes = zstd::encode_all(content, 3).unwrap_or_default();
    let fits = !bytes.is_empty() && bytes.len() <= MOST_ATTACHED;
    fits.then(|| Attachment { digest: Digest::of(content), size: content.len() as u64, content: bytes })
}

impl Engine {
    /// Keeps what a client is told of its build, with what goes with it. `build` is the build's id, if it has come so far as to
    /// have one. Answers the id.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn keep_for_client(
        &self,
        build: Option<&str>,
        record: ClientRecord,
        attachments: &[Vec<u8>],
    ) -> Result<String, EngineError> {
        let record = record.without_secrets();
        let build = match build {
            Some(build) => build.to_owned(),
            None => self.remember_unbegun(&record)?,
        };
        let packed: Vec<Attachment> = attachments.iter().filter_map(|content| packed(content)).collect();
        let told =
            ClientBuild { build: build.clone(), name: record.name.clone(), document: to_json(&record) };
        self.store.put_client_build(&told, &packed)?;
        Ok(build)
    }

    /// Keeps another trace of a build that a client asked for.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn keep_trace(&self, build: &str, media_type: &str, trace: &[u8]) -> Result<(), EngineError> {
        let Some(known) = self.store.client_build(build)? else { return Ok(()) };
        let record = ClientRecord::decode(&known.document);
        let (Some(record), Some(attachment)) = (record, packed(trace)) else { return Ok(()) };
        let told = record.trace.as_ref().map(|trace| trace.digest);
        if told == Some(attachment.digest) {
            return Ok(());
        }
        let outdated = record.earlier_trace.filter(|earlier| *earlier != attachment.digest);
        let descriptor = Descriptor::new(media_type, attachment.digest, attachment.size);
        let record = ClientRecord { trace: Some(descriptor), earlier_trace: told, ..record };
        let told = ClientBuild { document: to_json(&record), ..known };
        Ok(self.store.amend_client_build(&told, outdated.as_ref(), &attachment)?)
    }

    /// Records a build that failed before it began.
    fn remember_unbegun(&self, record: &ClientRecord) -> Result<String, EngineError> {
        let id = super::new_id()?;
        let get = |name: &str| record.attributes.get(name).cloned();
        let request = RequestDocument {
            context: get("context").unwrap_or_default(),
            dockerfile: get("filename").unwrap_or_else(|| "Dockerfile".to_owned()),
            target: get("target"),
            builder: env!("CARGO_PKG_VERSION").to_owned(),
            ..RequestDocument::default()
        };
        let row = BuildRecord {
            id: id.clone(),
            project: KeyHasher::new("lapstrake/unbegun/v1").str(&record.name).finish(),
            name: super::build_name(&request),
            created: record.started,
            ended: Some(record.ended),
            status: record.status(),
            pinned: false,
        };
        let document = BuildDocument {
            version: BuildDocument::VERSION,
            id: id.clone(),
            request,
            started: record.started,
            ended: record.ended,
            isolation: String::new(),
            error: record.error.as_ref().map(|error| error.message.clone()),
            image: None,
            names: Vec::new(),
            graph: None,
            steps: Vec::new(),
            other: Vec::new(),
        };
        let content = BuildContent { record: to_json(&document), events: Vec::new() };
        self.store.insert_build(&row, &content)?;
        Ok(id)
    }

    /// The builds that are remembered, the oldest first, as clients see them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn build_history(&self) -> Result<Vec<HistoryBuild>, EngineError> {
        let told = self.store.client_builds()?.into_iter();
        let mut told: BTreeMap<String, Vec<u8>> =
            told.map(|client| (client.build, client.document)).collect();
        let builds = self.builds()?.into_iter().rev();
        builds.map(|summary| self.history_build_of(told.remove(&summary.id), summary)).collect()
    }

    /// The newest build that a client calls so, or the one of this id.
    ///
    /// # Errors
    /// The store cannot be read. That there is none is no error.
    pub fn history_build(&self, name: &str) -> Result<Option<HistoryBuild>, EngineError> {
        let id = self.store.build_named(name)?.unwrap_or_else(|| name.to_owned());
        let found = self.store.builds_beginning_with(&id)?.into_iter().find(|build| build.id == id);
        let Some(build) = found else { return Ok(None) };
        let told = self.store.client_build(&build.id)?.map(|client| client.document);
        let summary = self.build_summary(build)?;
        self.history_build_of(told, summary).map(Some)
    }

    /// What a client is told of the build of this id.
    pub(super) fn client_record(&self, build: &str) -> Result<Option<ClientRecord>, EngineError> {
        let client = self.store.client_build(build)?;
        Ok(client.and_then(|client| ClientRecord::decode(&client.document)))
    }

    fn history_build_of(
        &self,
        told: Option<Vec<u8>>,
        summary: BuildSummary,
    ) -> Result<HistoryBuild, EngineError> {
        let client = told.and_then(|document| ClientRecord::decode(&document));
        let document = match &client {
            Some(_) => None,
            None => {
                let record = super::read_record(&self.store, &summary.id)?;
                record.and_then(|bytes| BuildDocument::decode(&bytes))
            }
        };
        Ok(HistoryBuild { summary, client, document })
    }

    /// Something that goes with a build that is remembered.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn build_attachment(&self, digest: &Digest) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(attachment) = self.store.build_attachment(digest)? else { return Ok(None) };
        let mut content = Vec::new();
        let read = zstd::Decoder::new(attachment.content.as_slice())
            .and_then(|stream| stream.take(LONGEST).read_to_end(&mut content));
        Ok(read.ok().filter(|_| Digest::of(&content) == *digest).map(|_| content))
    }

    /// Digests and sizes of all that goes with builds.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn build_attachments(&self) -> Result<Vec<(Digest, u64)>, EngineError> {
        Ok(self.store.build_attachments()?)
    }

    /// Opens content of the store; `None` when it is not there.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open_content(&self, digest: &Digest) -> Result<Option<File>, EngineError> {
        match self.store.open_blob(digest) {
            Ok(file) => Ok(Some(file)),
            Err(StoreError::NoSuchBlob { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets builds of which there are more than enough.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn forget_builds(&self, limits: HistoryLimits) -> Result<(), EngineError> {
        // What is older than the calendar keeps everything.
        let before = self.clock.now().checked_sub(limits.age).unwrap_or(Timestamp::MIN);
        Ok(self.store.forget_builds(limits.most, before)?)
    }
}
