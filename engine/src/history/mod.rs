//! What is remembered of builds: the complete log, what became of each step, and why it ran.
//!
//! [`recorder`] takes down a build while it runs; the rest reads what it wrote, and [`archive`] carries it to another
//! machine. `docs/design/0013` says what is kept and what is compared.

mod archive;
mod clients;
pub mod document;
mod earlier;
mod log;
pub(crate) mod note;
mod read;
mod reasons;
mod recorder;
mod timing;
pub mod trace;

use std::path::Path;

use base::{Key, KeyHasher};
use snapshotter::{HintKind, Store};

pub use self::archive::{BuildArchiveError, ImportedBuild};
pub use self::clients::{ClientError, ClientRecord, ClientResult, HistoryBuild, HistoryLimits, StepCounts};
pub use self::document::UsageDocument;
use self::document::{BuildDocument, RequestDocument};
pub(crate) use self::earlier::file_changes;
pub use self::log::Events;
pub use self::read::{BuildDetails, BuildSummary, RememberedStep, Status};
pub(crate) use self::recorder::Recorder;
pub use self::timing::Timing;
use crate::error::EngineError;
use crate::remote::without_credentials;
use crate::request::{BuildRequest, ContextSource};

/// The document in a build's directory.
const RECORD_FILE: &str = "record.json";

/// The steps of a build that came from another machine; those of builds made here are kept once for each graph.
const GRAPH_FILE: &str = "graph.json";

/// What a request asks for, and what it is a build of.
pub(crate) fn subject(request: &BuildRequest) -> (Key, RequestDocument) {
    let context = match &request.context {
        ContextSource::Directory(path) | ContextSource::Archive(path) => {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
        }
        ContextSource::Selected(files) => files.directory.display().to_string(),
        ContextSource::Git(url) => url.shown(),
        ContextSource::Url(url) => without_credentials(url),
        ContextSource::Empty => String::new(),
    };
    let dockerfile = request.dockerfile.shown_name().to_owned();
    let project = KeyHasher::new("lapstrake/project/v1").str(&context).str(&dockerfile).finish();
    let document = RequestDocument {
        context,
        dockerfile,
        target: Some(request.target_names().join(", ")).filter(|names| !names.is_empty()),
        platforms: request.platforms.iter().map(ToString::to_string).collect(),
        build_args: request.build_args.iter().map(without_secrets).collect(),
        no_cache: request.no_cache,
        no_cache_filter: request.no_cache_filter.clone(),
        builder: env!("CARGO_PKG_VERSION").to_owned(),
    };
    (project, document)
}

/// A build argument without the name and password that a URL in it may have.
pub(crate) fn without_secrets((name, value): (&String, &String)) -> (String, String) {
    let value = if value.contains("://") { without_credentials(value) } else { value.clone() };
    (name.clone(), value)
}

/// What people call a build, after buildx: the last part of its context, and the target.
pub(crate) fn build_name(request: &RequestDocument) -> String {
    let trimmed = request.context.trim_end_matches('/');
    let last = trimmed.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or("build");
    match &request.target {
        Some(target) => format!("{last} ({target})"),
        None => last.to_owned(),
    }
}

/// A name for a build: 25 hexadecimal digits.
fn new_id() -> Result<String, EngineError> {
    Ok(sys::random::hex(13)?.split_off(1))
}

fn to_json(document: &impl serde::Serialize) -> Vec<u8> {
    // These documents have no maps whose keys are not texts, which is all that could fail.
    serde_json::to_vec(document).unwrap_or_default()
}

fn write_record(directory: &Path, document: &BuildDocument) -> Result<(), EngineError> {
    let durability = sys::fs::Durability::Cached;
    Ok(sys::fs::write_atomic(&directory.join(RECORD_FILE), &to_json(document), 0o600, durability)?)
}

/// The record of a build, if it has one already.
fn read_record(store: &Store, id: &str) -> Result<Option<Vec<u8>>, EngineError> {
    if let Some(content) = store.build_content(id)? {
        return Ok(Some(content.record));
    }
    read_file(&store.build_path(id).join(RECORD_FILE))
}

/// The steps of a build, as they are kept, as long as they are.
fn read_graph(store: &Store, id: &str, document: &BuildDocument) -> Result<Option<Vec<u8>>, EngineError> {
    match (read_file(&store.build_path(id).join(GRAPH_FILE))?, &document.graph) {
        (Some(bytes), _) => Ok(Some(bytes)),
        (None, Some(key)) => Ok(store.hint(HintKind::Graph, key)?),
        (None, None) => Ok(None),
    }
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, EngineError> {
    match sys::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
