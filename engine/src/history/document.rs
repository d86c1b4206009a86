//! What is written of a build, as JSON: one document for the build, and one for its graph, which several builds
//! share.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{Digest, Key, KeyHasher, Timestamp};
use llb::{Graph, Op, SourceOp};
use runner::Usage;
use serde::{Deserialize, Serialize};
use solver::explain::{InputFacts, Reason, StepEnd, StepFacts, StepKeys};

/// The form of both documents. A document of another form is not read.
const VERSION: u32 = 1;

/// What is kept of a build.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildDocument {
    /// The form of the document.
    pub version: u32,
    /// The build's id.
    pub id: String,
    /// What was asked for.
    pub request: RequestDocument,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How its steps were isolated.
    pub isolation: String,
    /// Why it failed, in one line.
    pub error: Option<String>,
    /// The id of the image that it made; of several targets, that of the first.
    pub image: Option<Digest>,
    /// Complete names that the image was given.
    pub names: Vec<String>,
    /// The steps of its graph, if it came so far: the name of a [`GraphDocument`].
    pub graph: Option<Key>,
    /// What became of the steps, in the order of the graph.
    pub steps: Vec<StepDocument>,
    /// What the build did beside its steps: loading, pulling, exporting.
    pub other: Vec<OtherDocument>,
}

impl BuildDocument {
    /// The form of documents that this program writes.
    pub(crate) const VERSION: u32 = VERSION;

    /// Reads a document; `None` for what is none, or of another form.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|document: &Self| document.version == VERSION)
    }
}

/// What was asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RequestDocument {
    /// The context: a directory, or a URL without credentials.
    pub context: String,
    /// The Dockerfile, as errors call it.
    pub dockerfile: String,
    /// `--target`, several with commas.
    pub target: Option<String>,
    /// `--platform`
    pub platforms: Vec<String>,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// `--no-cache`
    pub no_cache: bool,
    /// `--no-cache-filter`
    pub no_cache_filter: Vec<String>,
    /// Who built: the version of this program.
    pub builder: String,
}

/// What became of a step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StepDocument {
    /// Its definition key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Key>,
    /// The content keys of what it uses of its inputs, by slot, as far as they were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Option<Key>>,
    /// Whether the cache was not to be asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_asked: bool,
    /// How it ended.
    pub outcome: StepOutcome,
    /// When work on it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How long making its result took, now or when it was made, in milliseconds; `None` where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_ms: Option<u64>,
    /// How long the longest chain of steps took that led to its result, now or when it was made, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_ms: Option<u64>,
    /// Why it had no result that could be found; the first difference first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Why a result in a shared cache was not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The build that it was compared with for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<String>,
    /// Why it failed, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What its processes used; `None` if none ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageDocument>,
}

/// What the processes of a step used, in its last attempt if there were several. Where the step has a control group,
/// that counted it; else it is what the step's first process and those that it waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageDocument {
    /// How often it was tried.
    pub attempts: u32,
    /// Processor time in user mode, in milliseconds.
    pub cpu_user_ms: u64,
    /// Processor time in the kernel, in milliseconds.
    pub cpu_system_ms: u64,
    /// The most memory in use at once, in bytes: of the whole step in a control group, else of its largest process.
    pub peak_memory: u64,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
}

impl UsageDocument {
    /// What an attempt used, which was this one.
    pub(crate) fn new(attempts: u32, usage: &Usage) -> Self {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            attempts,
            cpu_user_ms: milliseconds(usage.user),
            cpu_system_ms: milliseconds(usage.system),
            peak_memory: usage.peak_memory,
            read_bytes: usage.read_bytes,
            written_bytes: usage.written_bytes,
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// The build ended before, or nothing needed it.
    #[default]
    NotReached,
    /// Its result was there, or that of a step above it.
    Cached,
    /// It ran.
    Done,
    /// It failed.
    Failed,
    /// It was stopped.
    Canceled,
}

impl StepDocument {
    /// As the explanation takes it.
    pub(crate) fn keys(&self) -> StepKeys {
        StepKeys {
            definition: self.definition,
            inputs: self.inputs.clone(),
            not_asked: self.not_asked,
            end: match self.outcome {
                StepOutcome::NotReached => StepEnd::NotReached,
                StepOutcome::Cached | StepOutcome::Done => StepEnd::Result,
                StepOutcome::Failed | StepOutcome::Canceled => StepEnd::NoResult,
            },
        }
    }
}

/// Work of a build that is no step of its graph.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OtherDocument {
    /// Its name.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
}

/// The steps of a graph.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GraphDocument {
    version: u32,
    steps: Vec<StepFacts>,
}

impl GraphDocument {
    /// The name of the document of `graph`, made without making the document.
    pub(crate) fn key(graph: &Graph) -> Key {
        let mut hasher = KeyHasher::new("lapstrake/graph-document/v1");
        for index in graph.topological() {
            let vertex = graph.vertex(*index);
            let (name, stage) = (&vertex.metadata.name, &vertex.metadata.stage);
            hasher.add(&vertex.id).str(name).str(stage);
            // What an image is called is shown, and is no part of the vertex's identity.
            if let Op::Source(SourceOp::Image(image)) = &vertex.op {
                hasher.str(&image.reference);
            }
        }
        hasher.finish()
    }

    /// The document with these steps.
    pub(crate) fn of(steps: &[StepFacts]) -> Self {
        Self { version: VERSION, steps: steps.to_vec() }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|document: &Self| document.version == VERSION)
    }

    /// As the explanation takes it. `None` when an input is none of the steps before it.
    pub(crate) fn facts(self) -> Option<Vec<StepFacts>> {
        let is_sound = |(index, step): (usize, &StepFacts)| {
            step.inputs.iter().all(|input| !matches!(input, InputFacts::Step(input) if *input >= index))
        };
        self.steps.iter().enumerate().all(is_sound).then_some(self.steps)
    }
}

/// The facts of a graph: what each vertex is.
pub(crate) fn facts_of(graph: &Graph) -> Vec<StepFacts> {
    let facts = |index: &llb::VertexIndex| {
        let vertex = graph.vertex(*index);
        let input = |input: llb::Input| match &graph.vertex(input.vertex).op {
            Op::Source(SourceOp::Local(local)) => InputFacts::Directory(local.name.clone()),
            _ => InputFacts::Step(input.vertex.index()),
        };
        StepFacts {
            name: vertex.metadata.name.clone(),
            stage: vertex.metadata.stage.clone(),
            aspects: llb::aspects(&vertex.op, &vertex.platform),
            inputs: graph.inputs(*index).into_iter().map(input).collect(),
        }
    };
    graph.topological().iter().map(facts).collect()
}
