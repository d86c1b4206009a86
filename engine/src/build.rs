//! The build, on one screen.

use std::sync::Arc;

use base::event::{Event, EventSink};
use base::{CancelToken, Platform};
use frontend::{Lowered, Options};
use parser::span::Span;
use solver::{Limits, SolveError};

use crate::context::BuildContext;
use crate::definition::Definition;
use crate::error::{BuildError, EngineError, StepError};
use crate::ops::{BuildOps, Filesystem};
use crate::progress::Progress;
use crate::remote::{Access, Fetcher};
use crate::report::BuildReport;
use crate::request::{BuildRequest, Output};
use crate::resolve::SourceResolver;
use crate::{Engine, assemble, export};

/// How often a build looks at its context again when files keep changing.
const ATTEMPTS: usize = 3;

impl Engine {
    /// Builds `request` and puts the result where it asks.
    ///
    /// # Errors
    /// [`BuildError`] says whose fault it is; nothing half-made is left in the store or at an output.
    pub fn build(
        &self,
        request: &BuildRequest,
        events: Arc<dyn EventSink>,
        cancel: &CancelToken,
    ) -> Result<BuildReport, BuildError> {
        let progress = Progress::new(events, self.clock.clone());
        let lease = self.store.lease("build").map_err(EngineError::from)?;
        let access = Access::of(request);
        let fetcher = Fetcher { engine: self, lease: &lease, access: &access, progress: &progress, cancel };
        let (context, definition) = self.definition(request, &fetcher)?;
        understood(&definition, &progress)?;
        let request = &dated(request, &context)?;
        let lowered = lower(request, &definition, &context, &fetcher)?;

        let root = solve(&lowered, &context, &definition, &fetcher)?;
        context.save_stat_cache()?;

        let image = progress.step("exporting to image", |vertex| {
            let image = assemble::image(self, &lease, request, &lowered, root, &progress, vertex, cancel)?;
            export::all(self, &lease, request, &image, cancel)?;
            Ok::<_, EngineError>(image)
        })?;
        self.store.sync().map_err(EngineError::from)?;
        Ok(image.report(request))
    }

    /// Opens the context and reads the Dockerfile and the ignore file.
    pub(crate) fn definition(
        &self,
        request: &BuildRequest,
        fetcher: &Fetcher<'_>,
    ) -> Result<(BuildContext, Definition), BuildError> {
        let context = BuildContext::open(fetcher, request)?;
        let dockerfile = fetcher.progress.step("[internal] load build definition from Dockerfile", |_| {
            context.dockerfile(&request.dockerfile, fetcher)
        })?;
        let context = context.with_ignore_file(&dockerfile)?;
        let definition = Definition::parse(&dockerfile, request)?;
        Ok((context, definition))
    }
}

/// The request with the time that it leaves to the context.
fn dated(request: &BuildRequest, context: &BuildContext) -> Result<BuildRequest, EngineError> {
    let mut request = request.clone();
    if request.epoch_of_context {
        let epoch = context.epoch()?;
        request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.as_second().to_string());
        request.epoch = Some(epoch);
    }
    Ok(request)
}

/// Lowers, tells what the checks found, and stops there if they are to be obeyed.
fn lower(
    request: &BuildRequest,
    definition: &Definition,
    context: &BuildContext,
    fetcher: &Fetcher<'_>,
) -> Result<Lowered, BuildError> {
    let resolver = SourceResolver::new(*fetcher, request.pull);
    let options = options(request, definition, context);
    let lowered = frontend::lower(&definition.parsed.dockerfile, &options, &resolver)
        .map_err(|error| definition.error(error))?;
    definition.warn(fetcher.progress, &lowered.warnings);
    definition.refuse_findings(&[definition.warnings(), lowered.warnings.clone()].concat())?;
    Ok(lowered)
}

/// Makes the target's root filesystem available; `None` is an empty one. When files of the context
/// change between finding a step's key and copying them, the keys are made anew: what was copied, not
/// what was there before, is what a result is saved for.
fn solve(
    lowered: &Lowered,
    context: &BuildContext,
    definition: &Definition,
    fetcher: &Fetcher<'_>,
) -> Result<Option<Filesystem>, BuildError> {
    for _ in 1..ATTEMPTS {
        match solve_once(lowered, context, definition, fetcher) {
            Err(BuildError::Step { error, name, .. }) if matches!(*error, StepError::Changed) => {
                let message = format!("{name}: files changed while they were copied; looking again");
                let (code, excerpt) = ("ContextChanged".to_owned(), String::new());
                fetcher.progress.emit(Event::Warning { vertex: None, code, message, excerpt, url: None });
            }
            result => return result,
        }
    }
    solve_once(lowered, context, definition, fetcher)
}

/// Stops at mistakes, and tells what the checks of the text found.
fn understood(definition: &Definition, progress: &Progress) -> Result<(), BuildError> {
    if let Some(error) = definition.mistakes() {
        return Err(error);
    }
    definition.warn(progress, &definition.warnings());
    Ok(())
}

/// What the frontend needs to know of a request.
pub(crate) fn options(request: &BuildRequest, definition: &Definition, context: &BuildContext) -> Options {
    let host = Platform::host();
    Options {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        platform: request.platform.clone().unwrap_or_else(|| host.clone()),
        build_platform: host,
        no_cache: request.no_cache,
        labels: request.labels.clone(),
        network: request.network,
        epoch: request.epoch,
        checks: definition.parsed.checks.clone(),
        ignored: context.ignored.clone(),
    }
}

fn solve_once(
    lowered: &Lowered,
    context: &BuildContext,
    definition: &Definition,
    fetcher: &Fetcher<'_>,
) -> Result<Option<Filesystem>, BuildError> {
    let Some(target) = lowered.target else { return Ok(None) };
    let ops = BuildOps::new(&lowered.graph, context, fetcher);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let solved = solver::solve(&lowered.graph, &[target], Limits::for_cores(cores), &ops, fetcher.cancel);
    match solved {
        Ok(mut solved) => Ok(solved.outputs.pop()),
        Err(SolveError::Cancelled) => Err(BuildError::Cancelled),
        Err(SolveError::Stalled(name)) => Err(BuildError::Stalled(name)),
        Err(SolveError::Failed { vertex, error }) => {
            let metadata = &lowered.graph.vertex(vertex).metadata;
            let excerpt = metadata.source.map(|(start, end)| definition.place(Span::new(start, end)));
            Err(BuildError::step(metadata.name.clone(), excerpt.unwrap_or_default(), error))
        }
    }
}

/// Whether the result is wanted as an image in the store.
pub(crate) fn wants_store(request: &BuildRequest) -> bool {
    request.outputs.is_empty() || request.outputs.iter().any(|output| matches!(output, Output::Store))
}
