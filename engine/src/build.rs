//! The build, on one screen.

use std::sync::Arc;

use base::event::{Event, EventSink};
use base::image::ImageConfig;
use base::{CancelToken, Platform};
use frontend::low_level::{self, DefinitionOptions, LoweredDefinition, SourceText, pb};
use frontend::{Lowered, LoweredImage, Options};
use llb::{Input, Metadata, VertexIndex};
use parser::SourceFile;
use parser::span::Span;
use solver::{Failure, Limits, Schedule, SolveError};

use crate::assemble::{Assembly, BuiltImage};
use crate::attest::Scanned;
use crate::call::Place;
use crate::context::{BuildContext, LoadedDockerfile};
use crate::contexts::Contexts;
use crate::definition::Definition;
use crate::error::{BuildError, EngineError, StepError, StepFailure};
use crate::history::{self, Recorder};
use crate::layouts::Layouts;
use crate::ops::{BuildOps, Sharing, StepResult};
use crate::progress::Progress;
use crate::remote::{Access, Fetcher};
use crate::report::{BuildReport, RecordReport, TargetReport};
use crate::request::{BuildRequest, ContextSource, NamedContext};
use crate::resolve::SourceResolver;
use crate::shared_cache::{PortableMounts, SharedCache, Trust, write_documents, write_while};
use crate::source_policy::{Governed, git_identifier};
use crate::{Engine, export, failed};

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
        request.of_each_target().iter().try_for_each(export::check)?;
        self.recorded(request, events, |progress| self.build_told(request, progress, cancel))
    }

    /// Does what a build does, and takes it down if the request says so.
    pub(crate) fn recorded(
        &self,
        request: &BuildRequest,
        events: Arc<dyn EventSink>,
        build: impl FnOnce(&Progress) -> Result<BuildReport, BuildError>,
    ) -> Result<BuildReport, BuildError> {
        let mut progress = Progress::new(events, self.clock.clone());
        if request.remembered {
            progress = progress.recorded(self.record_of(request)?);
        }
        progress.emit(Event::BuildBegun { isolation: self.isolation_line() });
        let result = build(&progress);
        if let Some(recorder) = progress.recorder()
            && let Err(error) = recorder.finish(&result, self.clock.now())
        {
            progress.emit(no_record(&error));
        }
        result
    }

    /// Begins the record of a build.
    fn record_of(&self, request: &BuildRequest) -> Result<Arc<Recorder>, EngineError> {
        let (project, subject) = history::subject(request);
        let name = history::build_name(&subject);
        Recorder::new(&self.store, project, name, subject, self.isolation_line(), self.clock.now())
    }

    fn build_told(
        &self,
        request: &BuildRequest,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<BuildReport, BuildError> {
        let lease = self.store.lease("build").map_err(EngineError::from)?;
        let access = Access::of(request)?;
        let rules = &request.steps.rules;
        let fetcher = Fetcher { engine: self, lease: &lease, access: &access, progress, rules, cancel };
        let opened = self.opened(request, &fetcher)?;
        if let Some((frontends, asked)) = self.asked_frontend(&opened, request) {
            return self.built_by_frontend(fetcher, request, &opened.0, (frontends, &asked));
        }
        let prepared = Prepared::of(&fetcher, request, opened)?;
        self.with_caches(fetcher, &prepared.request, |sharing| {
            loop {
                let roots = prepared.solve(sharing)?;
                let request = &prepared.request;
                let exported = self.export_built(sharing, request, (&prepared, &roots));
                match exported.as_ref().err().and_then(BuildError::lost_shared) {
                    // It was to be pushed from where it is. Each time there is less that can be lost.
                    Some(lost) => progress.warn("SharedCache", lost),
                    None => return Ok((roots, exported?)),
                }
            }
        })
    }

    /// Does `work` with the caches that `request` shares with other builders, and tells them of what it answers: the roots of
    /// what was built.
    pub(crate) fn with_caches<T>(
        &self,
        fetcher: Fetcher<'_>,
        request: &BuildRequest,
        work: impl FnOnce(Sharing<'_>) -> Result<(Vec<Option<StepResult>>, T), BuildError>,
    ) -> Result<T, BuildError> {
        let trust = Trust::of(&request.caches, request.repositories())?;
        let shared = SharedCache::new(fetcher, &request.caches, trust)?;
        let mounts = PortableMounts::new(&shared, &request.caches.mounts);
        let worked = write_while(&shared, |writer| work(Sharing { cache: &shared, writer, mounts: &mounts }));
        shared.release_all();
        let (roots, result) = worked?;
        mounts.write();
        write_documents(&shared, &request.caches.documents, &roots)?;
        Ok(result)
    }

    /// Puts what was built where it is asked for.
    pub(crate) fn export_built(
        &self,
        sharing: Sharing<'_>,
        request: &BuildRequest,
        all: (&Prepared, &[Option<StepResult>]),
    ) -> Result<BuildReport, BuildError> {
        let progress = sharing.cache.fetcher().progress;
        let targets = progress.step("exporting to image", |vertex| {
            self.export_targets(sharing, request, all, |image| {
                let id = image.manifest.config.digest;
                progress.status(vertex, "exporting layers", 0, 0, true);
                progress.status(vertex, &format!("writing image {id}"), 0, 0, true);
            })
        })?;
        self.store.sync().map_err(EngineError::from)?;
        let record = progress.recorder().map(|recorder| {
            let (build, timing) = (recorder.id().to_owned(), recorder.timing(self.clock.now()));
            RecordReport { build, timing }
        });
        Ok(BuildReport { targets, record })
    }

    /// Puts what was built of each target where it is asked for. `roots` are the root filesystems, the
    /// platforms of one target after those of another.
    fn export_targets(
        &self,
        sharing: Sharing<'_>,
        request: &BuildRequest,
        (prepared, roots): (&Prepared, &[Option<StepResult>]),
        mut made: impl FnMut(&BuiltImage),
    ) -> Result<Vec<TargetReport>, EngineError> {
        let Fetcher { lease, progress, cancel, .. } = *sharing.cache.fetcher();
        let requests = request.of_each_target();
        let all = &prepared.lowered.images;
        let platforms = (all.len() / requests.len()).max(1);
        let images = all.chunks(platforms).zip(roots.chunks(platforms));
        let one = |(number, (request, (lowered, roots))): (usize, (&BuildRequest, _))| {
            let first = number * platforms;
            let assembly = Assembly {
                engine: self,
                lease,
                request,
                prepared,
                lowered,
                first,
                roots,
                sharing,
                progress,
                cancel,
            };
            Ok(export::all(&assembly, &mut made)?.report(request))
        };
        requests.iter().zip(images).enumerate().map(one).collect()
    }

    /// Opens the context and reads the Dockerfile and the ignore file.
    pub(crate) fn definition(
        &self,
        request: &BuildRequest,
        fetcher: &Fetcher<'_>,
    ) -> Result<(BuildContext, Definition), BuildError> {
        parsed(self.opened(request, fetcher)?, request)
    }

    /// Opens the context and reads the Dockerfile.
    fn opened(&self, request: &BuildRequest, fetcher: &Fetcher<'_>) -> Result<Opened, BuildError> {
        check_contexts(request)?;
        let context = BuildContext::open(fetcher, request, &request.context)?;
        let step = format!("[internal] load build definition from {}", request.dockerfile.shown_name());
        let dockerfile =
            fetcher.progress.step(&step, |_| context.dockerfile(&request.dockerfile, fetcher))?;
        Ok((context, dockerfile))
    }
}

/// A context with the Dockerfile that was found.
type Opened = (BuildContext, LoadedDockerfile);

/// Reads the ignore file, and parses the Dockerfile.
fn parsed(
    (context, dockerfile): Opened,
    request: &BuildRequest,
) -> Result<(BuildContext, Definition), BuildError> {
    let context = context.with_ignore_file(&dockerfile)?;
    let definition = Definition::parse(&dockerfile, request)?;
    Ok((context, definition))
}

/// A build whose definition is understood and whose files are at hand.
pub(crate) struct Prepared {
    /// The request, with what its files say of times.
    pub(crate) request: BuildRequest,
    /// The texts that its steps came from.
    pub(crate) files: Vec<DefinitionFile>,
    pub(crate) lowered: Lowered,
    pub(crate) contexts: Contexts,
    pub(crate) scanned: Scanned,
}

impl Prepared {
    /// Reads the Dockerfile and opens everything that it may use.
    pub(crate) fn new(fetcher: &Fetcher<'_>, request: &BuildRequest) -> Result<Self, BuildError> {
        Self::of(fetcher, request, fetcher.engine.opened(request, fetcher)?)
    }

    /// The same with what has been read.
    fn of(fetcher: &Fetcher<'_>, request: &BuildRequest, opened: Opened) -> Result<Self, BuildError> {
        let engine = fetcher.engine;
        let (context, definition) = parsed(opened, request)?;
        understood(&definition, fetcher.progress)?;
        let mut request = dated(request, &context)?;
        let layouts = engine.import_layouts(fetcher.lease, &request, fetcher.cancel)?;
        let lowered = lower(&request, &definition, &context, &layouts, fetcher)?;
        request.epoch = lowered.epoch;
        let contexts = Contexts::open(fetcher, &request, context)?;
        let files = vec![DefinitionFile { source: definition.source, language: "Dockerfile".to_owned() }];
        Ok(Self { request, files, lowered, contexts, scanned: Scanned::default() })
    }

    /// Makes a graph of a definition of operations. The named contexts of the request are its local sources that are files, and
    /// its sources that are images of the store.
    pub(crate) fn of_definition(
        fetcher: &Fetcher<'_>,
        request: &BuildRequest,
        definition: &pb::Definition,
    ) -> Result<Self, BuildError> {
        let layouts = fetcher.engine.import_layouts(fetcher.lease, request, fetcher.cancel)?;
        let resolver = SourceResolver::new(*fetcher, &layouts, request.pull);
        let resolver = Governed { policies: &request.policies, resolver: &resolver };
        let options = DefinitionOptions {
            allow: request.allow.clone(),
            no_cache: request.no_cache,
            images: layouts.references(),
            nested: request.nested.clone(),
        };
        let LoweredDefinition { graph, target, platform, files } =
            low_level::lower(definition, &options, &resolver)?;
        let platform = platform.unwrap_or_else(Platform::host);
        let config = ImageConfig::scratch(&platform);
        let image = LoweredImage { target, config, platform, scans: Vec::new(), graph: Arc::clone(&graph) };
        let file = |SourceText { name, language, text }: SourceText| DefinitionFile {
            source: SourceFile::new(name, text),
            language,
        };
        let lowered = Lowered { graph, images: vec![image], epoch: request.epoch, warnings: Vec::new() };
        let contexts = Contexts::of_definition(fetcher, request)?;
        let files = files.into_iter().map(file).collect();
        Ok(Self { request: request.clone(), files, lowered, contexts, scanned: Scanned::default() })
    }

    /// Makes the root filesystems of all images.
    pub(crate) fn solve(&self, sharing: Sharing<'_>) -> Result<Vec<Option<StepResult>>, BuildError> {
        let roots = self.solved(sharing)?;
        self.contexts.save_stat_caches()?;
        if let Some(recorder) = sharing.cache.fetcher().progress.recorder() {
            sharing.writer.note(recorder);
        }
        Ok(roots)
    }

    /// Makes the root filesystems of all images available; `None` is an empty one. Those that a shared cache has stay there
    /// if they are only pushed. When files of a context
    /// change between finding a step's key and copying them, the keys are made anew: what was copied, not
    /// what was there before, is what a result is saved for.
    fn solved(&self, sharing: Sharing<'_>) -> Result<Vec<Option<StepResult>>, BuildError> {
        let fetcher = sharing.cache.fetcher();
        let warn = |code, message: String| fetcher.progress.warn(code, message);
        let mut attempt = 1;
        loop {
            let error = match self.solve_once(sharing) {
                Ok(roots) => return Ok(roots),
                Err(error) => error,
            };
            let changed = error.found_changes();
            if let Some(lost) = error.lost_shared() {
                // Each time there is less that can be lost.
                warn("SharedCache", lost);
            } else if attempt < ATTEMPTS && !changed.is_empty() {
                attempt += 1;
                changed
                    .iter()
                    .for_each(|(step, why)| warn("ContextChanged", format!("{step}: {why}; looking again")));
            } else {
                return Err(error);
            }
        }
    }

    fn solve_once(&self, sharing: Sharing<'_>) -> Result<Vec<Option<StepResult>>, BuildError> {
        let Self { request, lowered, contexts, .. } = self;
        let fetcher = sharing.cache.fetcher();
        let scans = || Scanned::wanted(request, &lowered.images);
        let targets = lowered.images.iter().filter_map(|image| image.target).chain(scans());
        let targets: Vec<VertexIndex> = targets.map(|target| target.vertex).collect();
        let is_recorded =
            fetcher.progress.recorder().is_none_or(|recorder| recorder.begin_graph(&lowered.graph));
        let progress = if is_recorded { fetcher.progress.clone() } else { fetcher.progress.aside() };
        let fetcher = &Fetcher { progress: &progress, ..*fetcher };
        let ops = BuildOps::new(&lowered.graph, contexts, request, fetcher, sharing);
        let schedule = Schedule { limits: limits(request), keep_going: request.keep_going };
        let solved = solver::solve(&lowered.graph, &targets, schedule, &ops, fetcher.cancel);
        match solved {
            Ok(solved) => {
                let mut outputs = solved.outputs.into_iter();
                let mut root = |target: Input| Some(outputs.next()?.part(target.output));
                let roots = lowered.images.iter().map(|image| root(image.target?)).collect();
                self.scanned.set(scans().filter_map(root).collect(), request, &lowered.images);
                Ok(available(roots, request, sharing)?)
            }
            Err(SolveError::Cancelled) => Err(BuildError::Cancelled),
            Err(SolveError::Stalled(waiting)) => Err(BuildError::Stalled(waiting)),
            Err(SolveError::Failed { first, others }) => {
                let kept = ops.kept();
                if let Some(kept) = kept {
                    failed::export_on_failure(fetcher, kept, &request.on_failure);
                }
                let failure = |Failure { vertex, error }: Failure<StepError>| {
                    let vertex = lowered.graph.vertex(vertex);
                    let (metadata, kept) = (&vertex.metadata, kept.cloned().map(Box::new));
                    let place = self.place(metadata).map(Box::new);
                    StepFailure { vertex: vertex.id, name: metadata.name.clone(), place, error, kept }
                };
                Err(BuildError::steps(std::iter::once(first).chain(others).map(failure).collect()))
            }
        }
    }

    /// Where a step stands in its file.
    fn place(&self, metadata: &Metadata) -> Option<Place> {
        let range = metadata.source?;
        let file = self.files.get(range.file)?;
        Some(Place::new(&file.source, Span::new(range.start, range.end)))
    }
}

/// A text that steps came from: a Dockerfile, or what a frontend has read.
#[derive(Debug, Clone)]
pub(crate) struct DefinitionFile {
    pub(crate) source: SourceFile,
    /// What it is written in: `Dockerfile`.
    pub(crate) language: String,
}

/// Refuses contexts that a policy denies.
fn check_contexts(request: &BuildRequest) -> Result<(), EngineError> {
    let named = request.named_contexts.iter().filter_map(|(name, context)| match context {
        NamedContext::Files(source) => Some((name.as_str(), source)),
        _ => None,
    });
    for (name, source) in std::iter::once(("context", &request.context)).chain(named) {
        let identifier = match source {
            ContextSource::Directory(_) | ContextSource::Selected(_) | ContextSource::Archive(_) => {
                format!("local://{name}")
            }
            ContextSource::Git(url) => git_identifier(url),
            ContextSource::Url(url) => url.clone(),
            ContextSource::Empty => continue,
        };
        request.policies.check(&identifier)?;
    }
    Ok(())
}

/// That a build goes well is worth more than its record.
fn no_record(error: &EngineError) -> Event {
    let message = format!("the record of this build is not complete: {error}");
    Event::Warning {
        vertex: None,
        code: "BuildRecord".to_owned(),
        message,
        excerpt: String::new(),
        url: None,
        place: None,
    }
}

/// The request with the time that it leaves to the context.
pub(crate) fn dated(request: &BuildRequest, context: &BuildContext) -> Result<BuildRequest, EngineError> {
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
    layouts: &Layouts,
    fetcher: &Fetcher<'_>,
) -> Result<Lowered, BuildError> {
    let resolver = SourceResolver::new(*fetcher, layouts, request.pull);
    let resolver = Governed { policies: &request.policies, resolver: &resolver };
    let options = options(request, definition, context, layouts);
    let lowered = frontend::lower(&definition.parsed.dockerfile, &options, &resolver)
        .map_err(|error| definition.error(error))?;
    definition.warn(fetcher.progress, &lowered.warnings);
    definition.refuse_findings(&[definition.warnings(), lowered.warnings.clone()].concat())?;
    Ok(lowered)
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
pub(crate) fn options(
    request: &BuildRequest,
    definition: &Definition,
    context: &BuildContext,
    layouts: &Layouts,
) -> Options {
    let host = Platform::host();
    let platforms = if request.platforms.is_empty() { vec![host.clone()] } else { request.platforms.clone() };
    let named = |(name, context): (&String, &NamedContext)| {
        let context = match context {
            NamedContext::Files(_) => frontend::NamedContext::Local,
            NamedContext::Image(reference) => frontend::NamedContext::Image(reference.clone()),
            NamedContext::Layout { .. } | NamedContext::Stored(_) => {
                frontend::NamedContext::Image(layouts.reference(name)?.clone())
            }
        };
        Some((name.clone(), context))
    };
    Options {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        further_targets: request.further_targets.iter().map(|target| target.stage.clone()).collect(),
        platforms,
        build_platform: host,
        no_cache: request.no_cache,
        no_cache_filter: request.no_cache_filter.clone(),
        contexts: request.named_contexts.iter().filter_map(named).collect(),
        allow: request.allow.clone(),
        labels: request.labels.clone(),
        network: request.network,
        epoch: request.epoch,
        checks: definition.parsed.checks.clone(),
        scans: request.attestations.sbom,
        ignored: context.ignored.clone(),
    }
}

/// Brings root filesystems here, but for those that need not come. `roots` are the platforms of one target after those of another.
fn available(
    roots: Vec<Option<StepResult>>,
    request: &BuildRequest,
    sharing: Sharing<'_>,
) -> Result<Vec<Option<StepResult>>, EngineError> {
    let requests = request.of_each_target();
    let platforms = (roots.len() / requests.len()).max(1);
    let available = |(index, root): (usize, Option<StepResult>)| match root {
        Some(root) if !export::only_pushes(&requests[index / platforms]) => {
            Ok(Some(StepResult::Here(sharing.here(root, sharing.cache.fetcher().cancel)?)))
        }
        root => Ok(root),
    };
    roots.into_iter().enumerate().map(available).collect()
}

/// How much of a build runs at once on this machine.
fn limits(request: &BuildRequest) -> Limits {
    let limits = Limits::for_cores(std::thread::available_parallelism().map_or(1, usize::from));
    request.jobs.map_or(limits, |jobs| limits.with_processes(jobs.get()))
}
