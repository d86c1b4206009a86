//! Reading what is remembered of builds.

use std::time::Duration;

use base::Timestamp;
use snapshotter::{BuildRecord, BuildStatus};
use solver::explain::{Reason, StepFacts};

use super::clients::ClientRecord;
use super::document::{BuildDocument, GraphDocument, StepDocument, StepOutcome};
use super::log::Events;
use super::reasons::in_words;
use crate::Engine;
use crate::error::EngineError;

/// A build that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSummary {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// When it began.
    pub created: Timestamp,
    /// When it ended; `None` while it runs, and for one that was killed.
    pub ended: Option<Timestamp>,
    /// What became of it.
    pub status: Status,
    /// Whether it stays until somebody removes it.
    pub pinned: bool,
}

/// What became of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It runs.
    Running,
    /// It gave what was asked for.
    Completed,
    /// It failed.
    Failed,
    /// Its user stopped it.
    Canceled,
    /// Its process was killed.
    Interrupted,
}

impl Status {
    /// One word, BuildKit's where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Error",
            Self::Canceled => "Canceled",
            Self::Interrupted => "Interrupted",
        }
    }
}

/// All that is remembered of a build, but for its log.
#[derive(Debug, Clone)]
pub struct BuildDetails {
    /// As in lists.
    pub summary: BuildSummary,
    /// Its record; `None` while it runs, and for one that was killed.
    pub document: Option<BuildDocument>,
    /// What a client of the daemon is told of it, if one asked for it.
    pub client: Option<ClientRecord>,
    /// Its steps, as long as its graph is kept.
    pub steps: Vec<RememberedStep>,
}

/// A step of a build that is remembered.
#[derive(Debug, Clone)]
pub struct RememberedStep {
    /// As progress showed it.
    pub name: String,
    /// Whether it is a directory of the caller, which has no result.
    pub is_directory: bool,
    /// What became of it.
    pub document: StepDocument,
    /// The reasons why it ran, in words, the first difference first.
    pub reasons: Vec<String>,
    /// The step that is the first reason, by its place.
    pub because_of: Option<usize>,
}

impl RememberedStep {
    /// How long work on it took; `None` if there was none.
    pub fn duration(&self) -> Option<Duration> {
        let (started, ended) = (self.document.started?, self.document.ended?);
        Duration::try_from(ended.duration_since(started)).ok()
    }

    /// Whether it ran, to whatever end.
    pub fn ran(&self) -> bool {
        matches!(self.document.outcome, StepOutcome::Done | StepOutcome::Failed | StepOutcome::Canceled)
            && self.document.started.is_some()
    }
}

impl Engine {
    /// The builds that are remembered, the newest first.
    pub fn builds(&self) -> Result<Vec<BuildSummary>, EngineError> {
        self.store.builds()?.into_iter().map(|record| self.build_summary(record)).collect()
    }

    /// All that is remembered of a build: the one whose id begins with `id`, or the newest. `^1` is the build before the
    /// newest, `^2` the one before that, as in buildx.
    ///
    /// # Errors
    /// [`EngineError::NoSuchBuild`] and [`EngineError::AmbiguousBuild`].
    pub fn build_details(&self, id: Option<&str>) -> Result<BuildDetails, EngineError> {
        let summary = self.build_summary(self.find_build(id)?)?;
        let record = super::read_record(&self.store, &summary.id)?;
        let document = record.and_then(|bytes| BuildDocument::decode(&bytes));
        let steps =
            document.as_ref().map(|document| self.remembered_steps(&summary.id, document)).transpose()?;
        let client = self.client_record(&summary.id)?;
        Ok(BuildDetails { summary, document, client, steps: steps.unwrap_or_default() })
    }

    /// Everything that a build said; of one that runs, as far as it is written.
    ///
    /// # Errors
    /// [`EngineError::NoSuchBuild`] and [`EngineError::AmbiguousBuild`].
    pub fn build_log(&self, id: Option<&str>) -> Result<Events, EngineError> {
        let id = self.find_build(id)?.id;
        match self.store.build_content(&id)? {
            Some(content) => Ok(Events::of(content.events)),
            None => Events::open(&self.store.build_path(&id)),
        }
    }

    /// Forgets a build. Its results stay in the cache.
    ///
    /// # Errors
    /// [`EngineError::NoSuchBuild`], [`EngineError::AmbiguousBuild`], and [`EngineError::BuildRuns`].
    pub fn remove_build(&self, id: &str) -> Result<String, EngineError> {
        let id = self.find_build(Some(id))?.id;
        match self.store.remove_build(&id)? {
            true => Ok(id),
            false => Err(EngineError::BuildRuns(id)),
        }
    }

    /// The whole id of a build.
    ///
    /// # Errors
    /// [`EngineError::NoSuchBuild`] and [`EngineError::AmbiguousBuild`].
    pub fn build_id(&self, id: Option<&str>) -> Result<String, EngineError> {
        Ok(self.find_build(id)?.id)
    }

    /// Keeps a build until somebody removes it, or no longer than others. Gives its id.
    ///
    /// # Errors
    /// [`EngineError::NoSuchBuild`] and [`EngineError::AmbiguousBuild`].
    pub fn pin_build(&self, id: &str, pinned: bool) -> Result<String, EngineError> {
        let id = self.find_build(Some(id))?.id;
        match self.store.pin_build(&id, pinned)? {
            true => Ok(id),
            false => Err(EngineError::NoSuchBuild(id)),
        }
    }

    /// The build whose id begins with `id`, the one that `^N` stands for, or the newest.
    pub(crate) fn find_build(&self, id: Option<&str>) -> Result<BuildRecord, EngineError> {
        let Some(id) = id else { return self.store.build_before_newest(0)?.ok_or(EngineError::NoBuilds) };
        if let Some(back) = id.strip_prefix('^').and_then(|back| back.parse::<u32>().ok()) {
            let found = self.store.build_before_newest(back)?;
            return found.ok_or_else(|| EngineError::NoSuchBuild(id.to_owned()));
        }
        let mut found = self.store.builds_beginning_with(id)?;
        if found.is_empty()
            && let Some(named) = self.store.build_named(id)?
        {
            // A client of the daemon calls it so.
            found = self.store.builds_beginning_with(&named)?;
        }
        match (found.pop(), found.pop()) {
            (None, _) => Err(EngineError::NoSuchBuild(id.to_owned())),
            (Some(build), None) => Ok(build),
            (Some(one), Some(other)) => {
                // A whole id is one, also if another begins with it.
                let exact = [one, other].into_iter().find(|build| build.id == id);
                exact.ok_or_else(|| EngineError::AmbiguousBuild(id.to_owned()))
            }
        }
    }

    pub(super) fn build_summary(&self, record: BuildRecord) -> Result<BuildSummary, EngineError> {
        let status = match record.status {
            BuildStatus::Running if self.store.is_building(&record.id)? => Status::Running,
            BuildStatus::Running => Status::Interrupted,
            BuildStatus::Completed => Status::Completed,
            BuildStatus::Failed => Status::Failed,
            BuildStatus::Canceled => Status::Canceled,
        };
        let BuildRecord { id, name, created, ended, pinned, .. } = record;
        Ok(BuildSummary { id, name, created, ended, status, pinned })
    }

    fn remembered_steps(
        &self,
        id: &str,
        document: &BuildDocument,
    ) -> Result<Vec<RememberedStep>, EngineError> {
        let bytes = super::read_graph(&self.store, id, document)?;
        let facts = bytes.and_then(|bytes| GraphDocument::decode(&bytes)).and_then(GraphDocument::facts);
        let Some(facts) = facts.filter(|facts| facts.len() == document.steps.len()) else {
            return Ok(Vec::new());
        };
        let steps = facts.iter().zip(&document.steps);
        Ok(steps.map(|(step, end)| remembered(step, end, &facts, document)).collect())
    }
}

fn remembered(
    facts: &StepFacts,
    end: &StepDocument,
    all: &[StepFacts],
    document: &BuildDocument,
) -> RememberedStep {
    let in_words = |reason: &Reason| match reason {
        Reason::Input { step, changes } => {
            let name = all.get(*step).map_or("an input", |step| step.name.as_str());
            match changes.is_empty() {
                true => format!("the result of {name} is another"),
                false => format!("{name} has other files: {reason}"),
            }
        }
        reason => in_words(reason, &document.request.build_args),
    };
    RememberedStep {
        name: facts.name.clone(),
        is_directory: facts.aspects.iter().any(|aspect| aspect.name == "directory"),
        document: end.clone(),
        reasons: end.refused.iter().cloned().chain(end.reasons.iter().map(in_words)).collect(),
        because_of: end.reasons.first().and_then(Reason::input).filter(|input| *input < all.len()),
    }
}
