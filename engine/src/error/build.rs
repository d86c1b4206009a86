//! Why a build failed: its Dockerfile, one of its steps, or the engine.

use base::{Digest, Fault, Faulty, FileChange};
use frontend::low_level::DefinitionError;
use parser::{Diagnostic, SourceFile};
use runner::Expired;
use solver::WaitGraph;
use solver::explain::Reason;

use super::EngineError;
use crate::call::Place;
use crate::failed::KeptStep;

/// How many findings are drawn: whoever has more is better served by the first ones.
const MOST_SHOWN: usize = 20;

/// Findings in a Dockerfile, with the text to draw them.
#[derive(Debug)]
pub struct DockerfileProblem {
    /// The text.
    pub source: SourceFile,
    /// The findings.
    pub diagnostics: Vec<Diagnostic>,
}

impl DockerfileProblem {
    fn render(&self) -> String {
        let shown = self.diagnostics.iter().take(MOST_SHOWN).map(|finding| self.source.render(finding));
        let mut parts: Vec<String> = shown.collect();
        match self.diagnostics.len().saturating_sub(MOST_SHOWN) {
            0 => {}
            1 => parts.push("and 1 more error\n".to_owned()),
            more => parts.push(format!("and {more} more errors\n")),
        }
        parts.join("\n")
    }

    /// The findings in one line each, with what helps.
    pub fn lines(&self) -> Vec<String> {
        let line = |finding: &Diagnostic| {
            let at = self.source.position(finding.span.start);
            let help = finding.help.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
            format!("{}:{}:{}: error: {}{help}", self.source.name(), at.line, at.column, finding.message)
        };
        self.diagnostics.iter().take(MOST_SHOWN).map(line).collect()
    }

    fn summary(&self) -> String {
        match self.diagnostics.as_slice() {
            [one] => format!("dockerfile error: {}", one.message),
            many => format!("{} errors in {}", many.len(), self.source.name()),
        }
    }
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is wrong.
    #[error("{}", .0.summary())]
    Dockerfile(Box<DockerfileProblem>),
    /// The build argument with the options of build checks is wrong.
    #[error("invalid build argument BUILDKIT_DOCKERFILE_CHECK")]
    CheckOptions(#[from] parser::lint::InvalidCheckOption),
    /// Build checks found something, and their options make that an error.
    #[error("lint violation found for rules: {}", rules.join(", "))]
    Findings {
        /// The names of the checks, in the order of the file.
        rules: Vec<String>,
    },
    /// A base image could not be resolved.
    #[error("failed to resolve source metadata for {reference}")]
    Resolve {
        /// Its name.
        reference: String,
        /// Where the Dockerfile names it.
        place: Box<Place>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        /// Whose fault it is.
        fault: Fault,
        /// The stage that was perhaps meant.
        near: Option<String>,
    },
    /// A step failed.
    #[error("failed to solve: {error}")]
    Step {
        /// Which step, as progress has it.
        vertex: Digest,
        /// The step's name, as in `[2/3] RUN make`.
        name: String,
        /// Its lines of the Dockerfile.
        place: Option<Box<Place>>,
        /// Why.
        #[source]
        error: Box<StepError>,
        /// What is kept of it.
        kept: Option<Box<KeptStep>>,
    },
    /// Several steps failed, in a build that went on after the first of them.
    #[error("failed to solve: {} steps failed", .0.len())]
    Steps(Vec<StepFailure>),
    /// Anything else.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The graph is invalid.
    #[error(transparent)]
    Graph(llb::GraphError),
    /// A definition of operations is none, or asks for what there is not.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// Whoever steers the build has given it up.
    #[error("{0}")]
    Steered(String),
    /// The plan came to a stop.
    #[error("the build plan stalled; what waits:{0}")]
    Stalled(WaitGraph),
    /// The user asked us to stop.
    #[error("build cancelled")]
    Cancelled,
}

/// One of several steps that failed.
#[derive(Debug)]
pub struct StepFailure {
    /// Which step, as progress has it.
    pub vertex: Digest,
    /// The step's name, as in `[2/3] RUN make`.
    pub name: String,
    /// Its lines of the Dockerfile.
    pub place: Option<Box<Place>>,
    /// Why.
    pub error: StepError,
    /// What is kept of it.
    pub kept: Option<Box<KeptStep>>,
}

/// Why one step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The user's command failed. Not a fault of ours.
    #[error("process \"{command}\" did not complete successfully: {status}")]
    Process {
        /// The command line.
        command: String,
        /// How it ended: `exit code: 7` or `killed by signal 9`.
        status: String,
        /// A likely reason that the command did not tell.
        hint: Option<String>,
    },
    /// The user's command took too long.
    #[error("process \"{command}\" {} and was killed", expired_in_words(*expired))]
    TimedOut {
        /// The command line.
        command: String,
        /// Which limit it reached.
        expired: Expired,
    },
    /// Something to copy is not there.
    #[error("failed to calculate checksum: \"{pattern}\": not found{place}")]
    NotFound {
        /// What was asked for.
        pattern: String,
        /// Where it was looked for, and why it may be missing.
        place: String,
        /// What to do.
        hint: String,
    },
    /// Files changed between finding the key of a copy and copying them.
    #[error("the build context changed while it was copied{}", in_words(files))]
    Changed {
        /// Which, as far as that is known.
        files: Vec<FileChange>,
    },
    /// Only copies and mounts select from an input: a defect of ours.
    #[error(
        "\"{0}\" selects from an input that it does not use; this is a bug in lapstrake, please report it"
    )]
    NoSelection(String),
    /// We could not run it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Changes of files after what they are about.
fn in_words(files: &[FileChange]) -> String {
    match files {
        [] => String::new(),
        files => format!(": {}", Reason::Files { directory: String::new(), changes: files.to_vec() }),
    }
}

fn expired_in_words(expired: Expired) -> String {
    match expired {
        Expired::Total(limit) => format!("did not end within {limit:?}"),
        Expired::Idle(limit) => format!("wrote nothing for {limit:?}"),
    }
}

impl StepError {
    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Process { hint, .. } => hint.clone(),
            Self::TimedOut { expired: Expired::Total(_), .. } => {
                Some("give it more time with --timeout".to_owned())
            }
            Self::TimedOut { expired: Expired::Idle(_), .. } => {
                Some("if it works in silence, give it more time with --idle-timeout".to_owned())
            }
            Self::NotFound { hint, .. } => Some(hint.clone()).filter(|hint| !hint.is_empty()),
            Self::Changed { .. } => Some("run the build again when nothing writes to the context".to_owned()),
            Self::NoSelection(_) => None,
            Self::Engine(error) => error.hint(),
        }
    }

    /// Whether the user's own command is the reason, so that it may go better another time.
    pub(crate) fn is_of_command(&self) -> bool {
        matches!(self, Self::Process { .. } | Self::TimedOut { .. })
    }

    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Process { .. } | Self::TimedOut { .. } | Self::NotFound { .. } => Fault::Input,
            Self::Changed { .. } => Fault::Environment,
            Self::NoSelection(_) => Fault::Bug,
            Self::Engine(error) => error.fault(),
        }
    }
}

impl BuildError {
    /// Findings in a Dockerfile or an ignore file.
    pub(crate) fn dockerfile(source: SourceFile, diagnostics: Vec<Diagnostic>) -> Self {
        Self::Dockerfile(Box::new(DockerfileProblem { source, diagnostics }))
    }

    pub(crate) fn resolve(
        reference: String,
        place: Place,
        source: Box<dyn std::error::Error + Send + Sync>,
        near: Option<String>,
    ) -> Self {
        let fault = source.downcast_ref::<EngineError>().map_or(Fault::Environment, Faulty::fault);
        if fault == Fault::Cancelled {
            return Self::Cancelled;
        }
        Self::Resolve { reference, place: Box::new(place), source, fault, near }
    }

    fn step(failure: StepFailure) -> Self {
        let StepFailure { vertex, name, place, error, kept } = failure;
        if error.fault() == Fault::Cancelled {
            return Self::Cancelled;
        }
        Self::Step { vertex, name, place, error: Box::new(error), kept }
    }

    /// All failures of a build that kept going, the first one first.
    pub(crate) fn steps(mut failures: Vec<StepFailure>) -> Self {
        failures.retain(|failure| failure.error.fault() != Fault::Cancelled);
        match failures.len() {
            0 => Self::Cancelled,
            1 => Self::step(failures.swap_remove(0)),
            _ => Self::Steps(failures),
        }
    }

    /// The steps that found that files of the context changed while they were copied, and why each failed. Empty if none did.
    pub(crate) fn found_changes(&self) -> Vec<(&str, &StepError)> {
        let all: Vec<(&str, &StepError)> = match self {
            Self::Step { name, error, .. } => vec![(name, error)],
            Self::Steps(all) => all.iter().map(|failure| (failure.name.as_str(), &failure.error)).collect(),
            _ => Vec::new(),
        };
        all.into_iter().filter(|(_, error)| matches!(error, StepError::Changed { .. })).collect()
    }

    /// What of a shared cache turned out to be gone.
    pub(crate) fn lost_shared(&self) -> Option<String> {
        let lost = |error: &EngineError| {
            matches!(error, EngineError::SharedResultLost { .. }).then(|| error.to_string())
        };
        let of_step =
            |error: &StepError| if let StepError::Engine(error) = error { lost(error) } else { None };
        match self {
            Self::Step { error, .. } => of_step(error),
            Self::Steps(failures) => failures.iter().find_map(|failure| of_step(&failure.error)),
            Self::Engine(error) => lost(error),
            _ => None,
        }
    }

    /// The lines of the Dockerfile that the error is about; empty when there are none.
    pub fn excerpt(&self) -> String {
        match self {
            Self::Dockerfile(problem) => problem.render(),
            Self::Resolve { place, .. } | Self::Step { place: Some(place), .. } => place.excerpt(),
            _ => String::new(),
        }
    }

    /// The parts of the Dockerfile that the error is about.
    pub fn places(&self) -> Vec<Place> {
        match self {
            Self::Dockerfile(problem) => {
                let shown = problem.diagnostics.iter().take(MOST_SHOWN);
                shown.map(|finding| Place::new(&problem.source, finding.span)).collect()
            }
            Self::Resolve { place, .. } | Self::Step { place: Some(place), .. } => vec![(**place).clone()],
            Self::Steps(failures) => {
                failures.iter().filter_map(|failure| failure.place.as_deref().cloned()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The steps that failed, as progress has them.
    pub fn vertices(&self) -> Vec<Digest> {
        match self {
            Self::Step { vertex, .. } => vec![*vertex],
            Self::Steps(failures) => failures.iter().map(|failure| failure.vertex).collect(),
            _ => Vec::new(),
        }
    }

    /// The id of the build, if what its failed step left is kept and can be looked at.
    pub fn kept(&self) -> Option<&str> {
        match self {
            Self::Step { .. } | Self::Steps(_) => self.kept_step().map(|kept| kept.build.as_str()),
            _ => None,
        }
    }

    /// What is kept of the first step that failed.
    pub(crate) fn kept_step(&self) -> Option<&KeptStep> {
        match self {
            Self::Step { kept, .. } => kept.as_deref(),
            Self::Steps(failures) => failures.first()?.kept.as_deref(),
            _ => None,
        }
    }

    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Resolve { near: Some(near), .. } => Some(format!("did you mean the stage {near}?")),
            Self::Resolve { source, .. } => source.downcast_ref::<EngineError>().and_then(EngineError::hint),
            Self::Step { error, .. } => error.hint(),
            Self::Engine(error) => error.hint(),
            _ => None,
        }
    }
}

impl Faulty for BuildError {
    fn fault(&self) -> Fault {
        match self {
            Self::Dockerfile(_) | Self::CheckOptions(_) | Self::Findings { .. } | Self::Steered(_) => {
                Fault::Input
            }
            Self::Resolve { fault, .. } => *fault,
            Self::Step { error, .. } => error.fault(),
            Self::Steps(failures) => failures.first().map_or(Fault::Bug, |failure| failure.error.fault()),
            Self::Engine(error) => error.fault(),
            Self::Definition(error) => error.fault(),
            Self::Graph(_) | Self::Stalled(_) => Fault::Bug,
            Self::Cancelled => Fault::Cancelled,
        }
    }
}
