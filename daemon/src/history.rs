//! The history of builds: those that run here, and those that the store remembers, whoever built them.

mod filter;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use base::image::Descriptor;
use base::{Digest, Timestamp};
use engine::error::EngineError;
use engine::history::{ClientRecord, ClientResult, HistoryBuild, Status as BuildStatus};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use self::filter::Filters;
use crate::builds::{Build, Builds};
use crate::proto::control::{
    self, BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, BuildResultInfo,
    Exporter, StatusResponse, UpdateBuildHistoryRequest,
};
use crate::proto::rpc;
use crate::status::{Said, timestamp};
use crate::{record, waiting};

/// How many events wait for a listener that is slow, and for one that does not take them at all.
pub(crate) const QUEUE: usize = 64;

/// Something that happened to the history.
#[derive(Clone)]
pub(crate) enum Change {
    /// A build began.
    Begun(Arc<Build>),
    /// A build of this name ended, or what is kept of it is another.
    Kept(String),
    /// The build of this name is forgotten.
    Forgotten(String),
}

type Events = ReceiverStream<Result<BuildHistoryEvent, Status>>;

/// The builds that fit `request`, the oldest first, and then those that come, unless it wants no more than there is.
///
/// # Errors
/// A filter is none, or the store cannot be read.
pub(crate) async fn listen(builds: Arc<Builds>, request: BuildHistoryRequest) -> Result<Events, Status> {
    let filters = Filters::parse(&request.filter, engine::now()).map_err(Status::invalid_argument)?;
    let listener = Listener { filters, request };
    // From here on nothing is missed.
    let mut changes = builds.changes.subscribe();
    let known = listener.known(&builds).await?;
    let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut told = Told::default();
        for event in known {
            if !pass(&sender, &mut told, event).await {
                return;
            }
        }
        if listener.request.early_exit {
            return;
        }
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = sender.closed() => return,
            };
            let events = match change {
                Ok(change) => listener.event(&builds, change).await.map(Vec::from_iter),
                // Those that it missed are in the history.
                Err(RecvError::Lagged(_)) => listener
                    .known(&builds)
                    .await
                    .map(|known| known.into_iter().filter(|event| !told.contains(&key(event))).collect()),
                Err(RecvError::Closed) => return,
            };
            for event in events.unwrap_or_default() {
                if !pass(&sender, &mut told, event).await {
                    return;
                }
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// The builds that were told, each by its name, and whether as one that runs.
type Told = HashSet<(Digest, bool)>;

/// Tells an event that was not told when the listener came. False when it has gone.
async fn pass(
    sender: &Sender<Result<BuildHistoryEvent, Status>>,
    told: &mut Told,
    event: BuildHistoryEvent,
) -> bool {
    let (name, runs) = key(&event);
    // It was told as one that runs, between our asking for changes and for what there is.
    if !told.insert((name, runs)) && runs {
        return true;
    }
    if !runs {
        // Another build may have its name.
        told.remove(&(name, true));
    }
    sender.send(Ok(event)).await.is_ok()
}

fn key(event: &BuildHistoryEvent) -> (Digest, bool) {
    let name = event.record.as_ref().map(|record| record.r#ref.as_bytes()).unwrap_or_default();
    (Digest::of(name), event.r#type() == BuildHistoryEventType::Started)
}

/// What somebody wants to know.
struct Listener {
    filters: Filters,
    request: BuildHistoryRequest,
}

impl Listener {
    fn wants(&self, name: &str) -> bool {
        self.request.r#ref.is_empty() || self.request.r#ref == name
    }

    /// What there is.
    async fn known(&self, builds: &Arc<Builds>) -> Result<Vec<BuildHistoryEvent>, Status> {
        let running: Vec<Arc<Build>> = builds.running();
        let here: HashSet<String> = running.iter().filter_map(|build| build.remembered_as()).collect();
        let mut events: Vec<BuildHistoryEvent> = running
            .iter()
            .filter(|build| !build.request.internal && self.wants(&build.id))
            .map(|build| started(build))
            .collect();
        let name = self.request.r#ref.clone();
        if !self.request.active_only || name.is_empty() {
            let engine = Arc::clone(&builds.engine);
            let remembered = waiting(move || match name.as_str() {
                "" => engine.build_history(),
                name => Ok(engine.history_build(name)?.into_iter().collect()),
            })
            .await?;
            let elsewhere = remembered.into_iter().filter(|build| !here.contains(&build.summary.id));
            let elsewhere = elsewhere
                .filter(|build| !self.request.active_only || build.summary.status == BuildStatus::Running);
            events.extend(elsewhere.map(|build| of_history(&build)));
        }
        events.retain(|event| self.filters.fit(event));
        events.sort_by_key(|event| event.record.as_ref().map(began));
        let limit = usize::try_from(self.request.limit).unwrap_or(0);
        if limit > 0 && events.len() > limit {
            events.drain(..events.len() - limit);
        }
        Ok(events)
    }

    /// What is told of a change.
    async fn event(&self, builds: &Arc<Builds>, change: Change) -> Result<Option<BuildHistoryEvent>, Status> {
        let event = match change {
            Change::Begun(build) if self.wants(&build.id) => Some(started(&build)),
            Change::Kept(name) if self.wants(&name) => {
                let engine = Arc::clone(&builds.engine);
                let found = waiting(move || engine.history_build(&name)).await?;
                found.map(|build| of_history(&build))
            }
            Change::Forgotten(name) if self.wants(&name) => {
                let record = BuildHistoryRecord { r#ref: name, ..BuildHistoryRecord::default() };
                let event =
                    BuildHistoryEvent { r#type: BuildHistoryEventType::Deleted.into(), record: Some(record) };
                return Ok(Some(event));
            }
            _ => None,
        };
        Ok(event.filter(|event| self.filters.fit(event)))
    }
}

fn began(record: &BuildHistoryRecord) -> (i64, i32) {
    record.created_at.as_ref().map(|at| (at.seconds, at.nanos)).unwrap_or_default()
}

/// A build that runs here.
fn started(build: &Build) -> BuildHistoryEvent {
    // It has no end yet, and nobody reads the one that is said here.
    let outcome = crate::builds::Outcome { completed: build.created, response: Ok(HashMap::new()) };
    let record = of_client(&record::record(build, &outcome));
    let record = BuildHistoryRecord { completed_at: None, ..record };
    BuildHistoryEvent { r#type: BuildHistoryEventType::Started.into(), record: Some(record) }
}

/// A build of the store.
fn of_history(build: &HistoryBuild) -> BuildHistoryEvent {
    let summary = &build.summary;
    let record = match (&build.client, &build.document) {
        (Some(client), _) => of_client(client),
        (None, document) => {
            let mut record = BuildHistoryRecord {
                r#ref: summary.id.clone(),
                frontend: "dockerfile.v0".to_owned(),
                created_at: Some(timestamp(summary.created)),
                completed_at: summary.ended.map(timestamp),
                ..BuildHistoryRecord::default()
            };
            if let Some(document) = document {
                of_document(&mut record, document);
            }
            record
        }
    };
    let is_over = summary.status != BuildStatus::Running;
    let why = || match summary.status {
        BuildStatus::Canceled => Some((Code::Cancelled, "context canceled")),
        BuildStatus::Interrupted => Some((Code::Aborted, "the builder was killed during the build")),
        BuildStatus::Failed => Some((Code::Unknown, "the build failed")),
        BuildStatus::Running | BuildStatus::Completed => None,
    };
    let error = record.error.or_else(|| {
        let (code, message) = why()?;
        Some(rpc::Status { code: code.into(), message: message.to_owned(), details: Vec::new() })
    });
    let completed_at = record.completed_at.or_else(|| is_over.then(|| timestamp(summary.created)));
    let record = BuildHistoryRecord { error, completed_at, pinned: summary.pinned, ..record };
    let kind = if is_over { BuildHistoryEventType::Complete } else { BuildHistoryEventType::Started };
    BuildHistoryEvent { r#type: kind.into(), record: Some(record) }
}

/// A build of the command line, in the words of the frontend.
fn of_document(record: &mut BuildHistoryRecord, document: &engine::history::document::BuildDocument) {
    use engine::history::document::StepOutcome;
    let request = &document.request;
    let mut attributes = HashMap::from([("filename".to_owned(), request.dockerfile.clone())]);
    if request.context.contains("://") {
        attributes.insert("context".to_owned(), request.context.clone());
    }
    attributes.extend(request.target.clone().map(|target| ("target".to_owned(), target)));
    if !request.platforms.is_empty() {
        attributes.insert("platform".to_owned(), request.platforms.join(","));
    }
    let arguments = request.build_args.iter();
    attributes.extend(arguments.map(|(name, value)| (format!("build-arg:{name}"), value.clone())));
    record.frontend_attrs = attributes;
    record.error = document.error.as_ref().map(|message| rpc::Status {
        code: Code::Unknown.into(),
        message: message.clone(),
        details: Vec::new(),
    });
    let ended = |cached: bool| {
        let fits = |outcome: StepOutcome| match outcome {
            StepOutcome::NotReached => false,
            StepOutcome::Cached => true,
            StepOutcome::Done | StepOutcome::Failed | StepOutcome::Canceled => !cached,
        };
        count(document.steps.iter().filter(|step| fits(step.outcome)).count())
    };
    record.num_completed_steps = ended(false);
    // Directories of the caller are steps that nobody reaches.
    record.num_total_steps =
        if document.error.is_none() { record.num_completed_steps } else { count(document.steps.len()) };
    record.num_cached_steps = ended(true);
}

fn of_client(client: &ClientRecord) -> BuildHistoryRecord {
    let exporter = |(kind, attrs): &(String, _)| Exporter { r#type: kind.clone(), attrs: unsorted(attrs) };
    let error = client.error.as_ref().map(|error| rpc::Status {
        code: error.code,
        message: error.message.clone(),
        details: error
            .details
            .iter()
            .map(|(kind, value)| bollard_buildkit_proto::google::protobuf::Any {
                type_url: kind.clone(),
                value: value.clone().into_bytes(),
            })
            .collect(),
    });
    let (whole, parts): (Vec<_>, Vec<_>) =
        client.results.iter().partition(|result| result.platform.is_empty());
    BuildHistoryRecord {
        r#ref: client.name.clone(),
        frontend: client.frontend.clone(),
        frontend_attrs: unsorted(&client.attributes),
        exporters: client.exporters.iter().map(exporter).collect(),
        error,
        created_at: Some(timestamp(client.started)),
        completed_at: Some(timestamp(client.ended)),
        logs: client.logs.as_ref().map(descriptor),
        trace: client.trace.as_ref().map(descriptor),
        exporter_response: unsorted(&client.response),
        result: whole.first().map(|result| result_info(result)),
        results: parts.iter().map(|result| (result.platform.clone(), result_info(result))).collect(),
        num_cached_steps: count(client.steps.cached),
        num_total_steps: count(client.steps.total),
        num_completed_steps: count(client.steps.completed),
        num_warnings: count(client.steps.warnings),
        ..BuildHistoryRecord::default()
    }
}

fn result_info(result: &ClientResult) -> BuildResultInfo {
    let number = |number: &usize| i64::try_from(*number).unwrap_or(i64::MAX);
    BuildResultInfo {
        result_deprecated: result.images.values().next().map(descriptor),
        attestations: result.attestations.iter().map(descriptor).collect(),
        results: result.images.iter().map(|(output, image)| (number(output), descriptor(image))).collect(),
    }
}

fn descriptor(descriptor: &Descriptor) -> control::Descriptor {
    control::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: unsorted(&descriptor.annotations),
    }
}

fn unsorted(texts: &BTreeMap<String, String>) -> HashMap<String, String> {
    texts.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Pins a build, or forgets it. There is nothing to finalize: a record is complete when its build is answered.
///
/// # Errors
/// There is no such build, or it runs.
pub(crate) async fn update(builds: &Builds, request: UpdateBuildHistoryRequest) -> Result<(), Status> {
    let UpdateBuildHistoryRequest { r#ref: name, pinned, delete, finalize } = request;
    if builds.running().iter().any(|build| build.id == name) {
        return if finalize { Ok(()) } else { Err(runs(&name)) };
    }
    let engine = Arc::clone(&builds.engine);
    let wanted = name.clone();
    let done = tokio::task::spawn_blocking(move || {
        let Some(build) = engine.history_build(&wanted)? else { return Ok(false) };
        match (delete, finalize) {
            (true, _) => engine.remove_build(&build.summary.id)?,
            (_, true) => build.summary.id,
            _ => engine.pin_build(&build.summary.id, pinned)?,
        };
        Ok(true)
    });
    match done.await {
        Ok(Ok(true)) => {}
        Ok(Ok(false) | Err(EngineError::NoSuchBuild(_))) => {
            return Err(Status::not_found(format!("there is no build {name} in the history")));
        }
        Ok(Err(EngineError::BuildRuns(_))) => return Err(runs(&name)),
        Ok(Err(error)) => return Err(crate::failed(&error)),
        Err(_) => return Err(Status::internal("the work was stopped")),
    }
    if delete {
        builds.tell(Change::Forgotten(name));
    } else if !finalize {
        builds.tell(Change::Kept(name));
    }
    Ok(())
}

fn runs(name: &str) -> Status {
    Status::failed_precondition(format!("the build {name} runs: wait for its end"))
}

type Messages = ReceiverStream<Result<StatusResponse, Status>>;

/// All that a build of the store said; `None` when there is no such build.
///
/// # Errors
/// The store cannot be read.
pub(crate) async fn replay(builds: &Builds, name: &str) -> Result<Option<Messages>, Status> {
    let (engine, name) = (Arc::clone(&builds.engine), name.to_owned());
    let found = {
        let engine = Arc::clone(&engine);
        waiting(move || engine.history_build(&name)).await?
    };
    let Some(build) = found else { return Ok(None) };
    let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let logs = build.client.and_then(|client| client.logs);
        let kept = logs.and_then(|logs| engine.build_attachment(&logs.digest).ok().flatten());
        let send = |message| sender.blocking_send(Ok(message)).is_ok();
        match kept {
            Some(log) => _ = record::unpacked(&log).all(send),
            None => {
                let Ok(events) = engine.build_log(Some(&build.summary.id)) else { return };
                let mut said = Said::default();
                _ = events.filter_map(|event| said.message(event)).all(send);
            }
        }
    });
    Ok(Some(ReceiverStream::new(receiver)))
}

impl Builds {
    /// The builds that run.
    pub(crate) fn running(&self) -> Vec<Arc<Build>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Tells those who listen to the history. There may be none.
    pub(crate) fn tell(&self, change: Change) {
        let _ = self.changes.send(change);
    }
}

/// When something was, in messages.
pub(crate) fn from_message(time: &bollard_buildkit_proto::google::protobuf::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}
