//! The build, on one screen.

use std::sync::Arc;

use base::event::{Event, EventSink};
use base::{CancelToken, Platform};
use frontend::{LowerError, Lowered, Options};
use parser::span::Span;
use parser::{Level, Parsed, SourceFile};
use snapshotter::Lease;
use solver::{Limits, SolveError};

use crate::context::{BuildContext, LoadedDockerfile};
use crate::error::{BuildError, EngineError, StepError};
use crate::ops::{BuildOps, Filesystem};
use crate::progress::Progress;
use crate::report::BuildReport;
use crate::request::{BuildRequest, Output};
use crate::resolve::ImageResolver;
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
        let context = BuildContext::open(&self.store, &lease, &request.context, self.clock.now())?;
        let dockerfile = progress.step("[internal] load build definition from Dockerfile", |_| {
            context.dockerfile(&request.dockerfile)
        })?;
        let context = context.with_ignore_file(&dockerfile)?;

        let parsed = parse(&dockerfile, &progress)?;
        let lowered = self.lower(request, &dockerfile, &parsed, &progress, cancel)?;
        let source = SourceFile::new(&dockerfile.name, &parsed.text);
        warn(&progress, &source, &lowered.warnings);

        let root = self.solve(&lowered, &context, &lease, &source, &progress, cancel)?;
        context.save_stat_cache()?;

        let image = progress.step("exporting to image", |vertex| {
            let image = assemble::image(self, &lease, request, &lowered, root, &progress, vertex, cancel)?;
            export::all(self, &lease, request, &image, cancel)?;
            Ok::<_, EngineError>(image)
        })?;
        self.store.sync().map_err(EngineError::from)?;
        Ok(image.report(request))
    }

    /// Makes the target's root filesystem available; `None` is an empty one. When files of the context
    /// change between finding a step's key and copying them, the keys are made anew: what was copied, not
    /// what was there before, is what a result is saved for.
    fn solve(
        &self,
        lowered: &Lowered,
        context: &BuildContext,
        lease: &Lease,
        source: &SourceFile,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Option<Filesystem>, BuildError> {
        for _ in 1..ATTEMPTS {
            let ops = BuildOps::new(self, &lowered.graph, context, lease, progress);
            match solve(lowered, &ops, source, cancel) {
                Err(BuildError::Step { error, name, .. }) if matches!(*error, StepError::Changed) => {
                    let message = format!("{name}: files changed while they were copied; looking again");
                    let code = "ContextChanged".to_owned();
                    progress.emit(Event::Warning { vertex: None, code, message, excerpt: String::new() });
                }
                result => return result,
            }
        }
        let ops = BuildOps::new(self, &lowered.graph, context, lease, progress);
        solve(lowered, &ops, source, cancel)
    }

    fn lower(
        &self,
        request: &BuildRequest,
        dockerfile: &LoadedDockerfile,
        parsed: &Parsed,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Lowered, BuildError> {
        let resolver = ImageResolver::new(self, request.pull, progress, cancel);
        let options = options(request);
        frontend::lower(&parsed.dockerfile, &options, &resolver).map_err(|error| match error {
            LowerError::Dockerfile(diagnostic) => {
                let source = SourceFile::new(&dockerfile.name, &parsed.text);
                BuildError::dockerfile(source, vec![*diagnostic])
            }
            LowerError::Resolve { reference, span, source, .. } => {
                let excerpt = place(&SourceFile::new(&dockerfile.name, &parsed.text), span);
                BuildError::resolve(reference, excerpt, source)
            }
            LowerError::Graph(error) => BuildError::Graph(error),
        })
    }
}

/// Parses, tells warnings, and stops at errors.
fn parse(dockerfile: &LoadedDockerfile, progress: &Progress) -> Result<Parsed, BuildError> {
    let parsed = parser::parse(&dockerfile.text);
    let source = SourceFile::new(&dockerfile.name, &parsed.text);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        parsed.diagnostics.iter().cloned().partition(|diagnostic| diagnostic.level == Level::Error);
    if !errors.is_empty() {
        return Err(BuildError::dockerfile(source, errors));
    }
    warn(progress, &source, &warnings);
    Ok(parsed)
}

fn warn(progress: &Progress, source: &SourceFile, warnings: &[parser::Diagnostic]) {
    for warning in warnings {
        progress.emit(Event::Warning {
            vertex: None,
            code: warning.code.to_owned(),
            message: warning.message.clone(),
            excerpt: source.excerpt(warning.span),
        });
    }
}

fn options(request: &BuildRequest) -> Options {
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
    }
}

/// Makes the target's root filesystem available; `None` is an empty one.
fn solve(
    lowered: &Lowered,
    ops: &BuildOps<'_>,
    source: &SourceFile,
    cancel: &CancelToken,
) -> Result<Option<Filesystem>, BuildError> {
    let Some(target) = lowered.target else { return Ok(None) };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let solved = solver::solve(&lowered.graph, &[target], Limits::for_cores(cores), ops, cancel);
    match solved {
        Ok(mut solved) => Ok(solved.outputs.pop()),
        Err(SolveError::Cancelled) => Err(BuildError::Cancelled),
        Err(SolveError::Stalled(name)) => Err(BuildError::Stalled(name)),
        Err(SolveError::Failed { vertex, error }) => {
            let metadata = &lowered.graph.vertex(vertex).metadata;
            let excerpt = metadata.source.map(|(start, end)| place(source, Span::new(start, end)));
            Err(BuildError::step(metadata.name.clone(), excerpt.unwrap_or_default(), error))
        }
    }
}

/// Where something stands: file and line, then the lines themselves.
fn place(source: &SourceFile, span: Span) -> String {
    format!("{}:{}\n{}", source.name(), source.position(span.start).line, source.excerpt(span))
}

/// Whether the result is wanted as an image in the store.
pub(crate) fn wants_store(request: &BuildRequest) -> bool {
    request.outputs.is_empty() || request.outputs.iter().any(|output| matches!(output, Output::Store))
}
