//! Lowering: walks the stages that the target needs, in order, and turns instructions into operations
//! and config. One file per group of instructions below `lower/`.

mod add;
pub(crate) mod base_image;
mod copy;
mod metadata;
mod mounts;
mod remote;
mod run;
mod scans;

use std::sync::Arc;

use ::base::image::ImageConfig;
use ::base::{Platform, Timestamp};
pub(crate) use copy::clean;
use llb::{Graph, GraphBuilder, Input, LocalSource, Metadata, Op, SourceOp, SourceRange};
use parser::Diagnostic;
use parser::ast::{ArgDeclaration, Dockerfile, Instruction, InstructionKind};
use parser::span::Span;
pub use scans::Scan;

use crate::args::{Environment, Expander, platform_args};
use crate::checks::Findings;
use crate::contexts::{self, NamedContext};
use crate::error::LowerError;
use crate::names::StepNames;
use crate::options::Options;
use crate::ports::MetaResolver;
use crate::stage::{Stage, Stages, count_steps};

/// The argument with the time of everything that is made
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The name of the local source that is the build context.
pub(crate) const CONTEXT: &str = "context";

/// Where a step stands in its Dockerfile.
pub(crate) fn source_range(span: Span) -> Option<SourceRange> {
    Some(SourceRange { file: 0, start: span.start, end: span.end })
}

/// What a Dockerfile becomes.
#[derive(Debug)]
pub struct Lowered {
    /// The operations, for all platforms.
    pub graph: Arc<Graph>,
    /// One image for each target and platform, in the order that was asked for: all platforms of the first target, then
    /// those of the next.
    pub images: Vec<LoweredImage>,
    /// `SOURCE_DATE_EPOCH`, from the options or a default in the Dockerfile.
    pub epoch: Option<Timestamp>,
    /// What the user should know.
    pub warnings: Vec<Diagnostic>,
}

/// The image for one platform.
#[derive(Debug, Clone)]
pub struct LoweredImage {
    /// The image's root filesystem; `None` for an empty one.
    pub target: Option<Input>,
    /// The config of the image with its history. The layers of the base are in `rootfs`; those of the
    /// build are not known yet.
    pub config: ImageConfig,
    /// The platform of the image.
    pub platform: Platform,
    /// What else is looked through if packages are asked for.
    pub scans: Vec<Scan>,
    /// The graph that `target` is in.
    pub graph: Arc<Graph>,
}

/// Lowers a Dockerfile. Base images are resolved through `resolver`.
pub fn lower(
    file: &Dockerfile,
    options: &Options,
    resolver: &dyn MetaResolver,
) -> Result<Lowered, LowerError> {
    let findings = Findings::default();
    let lowered = lower_stages(file, options, resolver, &findings, Extent::Needed)?;
    Ok(Lowered { warnings: findings.allowed(file, &options.checks), ..lowered })
}

/// What [`check`] found.
#[derive(Debug)]
pub struct Checked {
    /// The findings of the build checks that are made here.
    pub warnings: Vec<Diagnostic>,
    /// Why the Dockerfile cannot be built. Checks end there.
    pub error: Option<LowerError>,
}

/// Makes the build checks that need values, for the stages that the target needs, or for all stages if
/// the options name no target.
pub fn check(file: &Dockerfile, options: &Options, resolver: &dyn MetaResolver) -> Checked {
    let findings = Findings::default();
    let extent = if options.target.is_none() { Extent::All } else { Extent::Needed };
    let error = lower_stages(file, options, resolver, &findings, extent).err();
    Checked { warnings: findings.allowed(file, &options.checks), error }
}

/// Which stages are lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Those that the target needs.
    Needed,
    /// All of them.
    All,
}

fn lower_stages(
    file: &Dockerfile,
    options: &Options,
    resolver: &dyn MetaResolver,
    findings: &Findings,
    extent: Extent,
) -> Result<Lowered, LowerError> {
    let stages = Stages::of(file)?;
    let further = options.further_targets.iter().map(|target| Some(target.as_str()));
    let mut graph = GraphBuilder::new();
    let (mut images, mut epoch) = (Vec::new(), None);
    for name in std::iter::once(options.target.as_deref()).chain(further) {
        let target = stages.target(name)?.index;
        // What several targets need is lowered for each of them, and is the same in the graph.
        for platform in &options.platforms {
            let expander = Expander::new(file.directives.escape, findings);
            let target_name = name.and(stages.all[target].name.as_deref()).unwrap_or("default");
            let mut lowering =
                Lowering::new(&stages, options, resolver, platform, target_name, expander, graph)?;
            lowering.need(target)?;
            if extent == Extent::All {
                lowering.all()?;
            }
            let scans = lowering.scans(target);
            images.push((lowering.image(target), scans));
            epoch = lowering.epoch;
            graph = lowering.graph;
        }
    }
    let graph = Arc::new(graph.finish()?);
    let image = |((target, config, platform), scans)| LoweredImage {
        target,
        config,
        platform,
        scans,
        graph: Arc::clone(&graph),
    };
    let images = images.into_iter().map(image).collect();
    Ok(Lowered { graph: Arc::clone(&graph), images, epoch, warnings: Vec::new() })
}

/// Arguments from before the first FROM, and those that every Dockerfile knows.
pub(crate) struct Globals {
    /// All of them, for FROM lines.
    pub(crate) environment: Environment,
    /// What they would be if the user gave no build arguments.
    pub(crate) defaults: Environment,
}

impl Globals {
    pub(crate) fn new(
        stages: &Stages<'_>,
        options: &Options,
        platform: &Platform,
        target: &str,
        expander: &Expander<'_>,
    ) -> Result<Self, LowerError> {
        let mut globals = Self { environment: Environment::default(), defaults: Environment::default() };
        for (name, value) in platform_args(&options.build_platform, platform, target) {
            globals.environment.set(&name, options.build_args.get(&name).unwrap_or(&value));
            globals.defaults.set(&name, &value);
        }
        for instruction in stages.preamble {
            let InstructionKind::Arg(declarations) = &instruction.kind else { continue };
            for declaration in declarations {
                globals.declare(declaration, options, expander)?;
            }
        }
        Ok(globals)
    }

    fn declare(
        &mut self,
        declaration: &ArgDeclaration,
        options: &Options,
        expander: &Expander<'_>,
    ) -> Result<(), LowerError> {
        let name = expander.word(&declaration.name, &self.environment)?;
        if let Some(Ok(default)) =
            declaration.default.as_ref().map(|default| expander.silently(default, &self.defaults))
        {
            self.defaults.set(&name, &default.value);
        }
        match argument_value(declaration, &name, options, &self.environment, expander)? {
            Some(value) => self.environment.set(&name, &value),
            None => self.environment.declare(&name),
        }
        Ok(())
    }
}

/// The epoch that an ARG before the first FROM sets.
fn default_epoch(stages: &Stages<'_>, globals: &Globals) -> Result<Option<Timestamp>, LowerError> {
    let Some(text) = globals.environment.get(EPOCH).filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.parse::<i64>().ok().and_then(::base::time::from_epoch_seconds);
    seconds.map(Some).ok_or_else(|| {
        let span = stages.preamble.last().map(|instruction| instruction.span).unwrap_or_default();
        let message = format!("{EPOCH} is a number of seconds since 1970, not \"{text}\"");
        LowerError::at("invalid-epoch", span, message)
    })
}

/// The value of an ARG: what the user gave, else its default.
pub(crate) fn argument_value(
    declaration: &ArgDeclaration,
    name: &str,
    options: &Options,
    environment: &Environment,
    expander: &Expander<'_>,
) -> Result<Option<String>, LowerError> {
    if let Some(given) = options.build_args.get(name) {
        return Ok(Some(given.clone()));
    }
    declaration.default.as_ref().map(|default| expander.word(default, environment)).transpose()
}

/// The lowering for one platform. Stages are finished one after the other, earlier ones first.
pub(crate) struct Lowering<'a> {
    pub(crate) stages: &'a Stages<'a>,
    pub(crate) options: &'a Options,
    pub(crate) resolver: &'a dyn MetaResolver,
    /// The platform to build for.
    pub(crate) platform: &'a Platform,
    pub(crate) globals: Globals,
    /// The time of everything that is made.
    pub(crate) epoch: Option<Timestamp>,
    pub(crate) expander: Expander<'a>,
    pub(crate) graph: GraphBuilder,
    /// What each stage starts with.
    bases: Vec<base_image::Base>,
    /// How many stages are still to start from each stage.
    children: Vec<usize>,
    /// What each stage became; `None` for one that nobody needed so far.
    done: Vec<Option<StageState>>,
}

/// A stage while it is lowered, and what others see of it afterwards.
#[derive(Debug, Clone)]
pub(crate) struct StageState {
    /// The filesystem so far; `None` is empty.
    pub(crate) root: Option<Input>,
    /// The platform of this stage.
    pub(crate) platform: Platform,
    /// Variables that expand and that processes see: ENV and ARG, the later one wins.
    pub(crate) environment: Environment,
    /// ARGs declared so far with their values, as history shows them: each declaration, also one without a value.
    pub(crate) build_args: Vec<(String, String)>,
    /// The image config so far.
    pub(crate) config: ImageConfig,
    /// Whether a WORKDIR of this file has set the working directory.
    pub(crate) workdir_set: bool,
    /// Whether this stage has a CMD of its own.
    pub(crate) cmd_set: bool,
    /// Names of the steps.
    pub(crate) names: StepNames,
    /// Whether the steps of this stage run again whatever the cache has.
    pub(crate) ignore_cache: bool,
}

impl StageState {
    /// The working directory, absolute.
    pub(crate) fn workdir(&self) -> &str {
        let dir = self.config.config.working_dir.as_str();
        if dir.is_empty() { "/" } else { dir }
    }

    /// The shell of the shell form.
    pub(crate) fn shell(&self) -> Vec<String> {
        if self.config.config.shell.is_empty() {
            return vec!["/bin/sh".to_owned(), "-c".to_owned()];
        }
        self.config.config.shell.clone()
    }
}

impl<'a> Lowering<'a> {
    fn new(
        stages: &'a Stages<'a>,
        options: &'a Options,
        resolver: &'a dyn MetaResolver,
        platform: &'a Platform,
        target: &str,
        expander: Expander<'a>,
        graph: GraphBuilder,
    ) -> Result<Self, LowerError> {
        let globals = Globals::new(stages, options, platform, target, &expander)?;
        let bases = base_image::bases(stages, options, platform, &globals, &expander)?;
        let mut children = vec![0; stages.all.len()];
        bases.iter().filter_map(base_image::Base::stage).for_each(|base| children[base] += 1);
        let done = stages.all.iter().map(|_| None).collect();
        let epoch = options.epoch.map_or_else(|| default_epoch(stages, &globals), |epoch| Ok(Some(epoch)))?;
        Ok(Self {
            stages,
            options,
            resolver,
            platform,
            globals,
            epoch,
            expander,
            graph,
            bases,
            children,
            done,
        })
    }

    /// Lowers a stage and those that it needs, unless that has been done. Nearly all are known from the
    /// text; a trigger of a base image may ask for one more.
    pub(crate) fn need(&mut self, index: usize) -> Result<(), LowerError> {
        if self.done[index].is_some() {
            return Ok(());
        }
        let bases: Vec<Option<usize>> = self.bases.iter().map(base_image::Base::stage).collect();
        let replaced = |name: &str| self.named_context(name).is_some();
        let needed = self.stages.needed(index, &bases, &replaced)?;
        for (stage, _) in self.stages.all.iter().zip(needed).filter(|(_, needed)| *needed) {
            if self.done[stage.index].is_none() {
                self.done[stage.index] = Some(self.stage(stage)?);
            }
        }
        Ok(())
    }

    /// Lowers what is left. A stage needs only those above it, else [`Self::need`] would have failed.
    fn all(&mut self) -> Result<(), LowerError> {
        for stage in &self.stages.all {
            if self.done[stage.index].is_none() {
                self.done[stage.index] = Some(self.stage(stage)?);
            }
        }
        Ok(())
    }

    /// The named context that stands for `name`, with the name it was given under.
    pub(crate) fn named_context(&self, name: &str) -> Option<(&'a str, &'a NamedContext)> {
        contexts::find(&self.options.contexts, name, self.platform)
    }

    /// The filesystem of a stage; `None` is an empty one.
    pub(crate) fn stage_root(&mut self, index: usize) -> Result<Option<Input>, LowerError> {
        self.need(index)?;
        Ok(self.done[index].as_ref().and_then(|done| done.root))
    }

    fn stage(&mut self, stage: &Stage<'a>) -> Result<StageState, LowerError> {
        let mut state = self.base(stage)?;
        if stage.name.as_ref().is_some_and(|name| self.named_context(name).is_some()) {
            return Ok(state);
        }
        for trigger in std::mem::take(&mut state.config.config.on_build) {
            self.trigger(&mut state, stage, &trigger)?;
        }
        for instruction in stage.body {
            self.instruction(&mut state, stage, instruction)?;
        }
        Ok(state)
    }

    /// Runs an ONBUILD trigger that the base image or stage left.
    fn trigger(&mut self, state: &mut StageState, stage: &Stage<'a>, text: &str) -> Result<(), LowerError> {
        let span = stage.from.image.span;
        let parsed = parser::parse(text.as_bytes());
        let broken = parsed.diagnostics.iter().find(|d| d.level == parser::Level::Error);
        if let Some(diagnostic) = broken {
            let message =
                format!("the base image's trigger \"ONBUILD {text}\" is invalid: {}", diagnostic.message);
            return Err(LowerError::at("invalid-onbuild", span, message));
        }
        let found_before = self.expander.findings().count();
        for mut instruction in parsed.dockerfile.instructions {
            // Places in the trigger's text are not places in this Dockerfile; FROM is where it comes from.
            instruction.span = span;
            self.instruction(state, stage, &instruction)
                .map_err(|error| base_image::at_from(error, span, text))?;
        }
        self.expander.findings().move_to(span, found_before);
        Ok(())
    }

    fn instruction(
        &mut self,
        state: &mut StageState,
        stage: &Stage<'a>,
        instruction: &Instruction,
    ) -> Result<(), LowerError> {
        match &instruction.kind {
            InstructionKind::Run(run) => self.run(state, stage, instruction, run),
            InstructionKind::Copy(copy) => self.copy(state, stage, instruction, copy),
            InstructionKind::Add(add) => self.add(state, instruction, add),
            InstructionKind::Workdir(path) => self.workdir(state, instruction, path),
            InstructionKind::Arg(declarations) => self.arg(state, declarations),
            InstructionKind::From(_) | InstructionKind::Invalid => Err(LowerError::at(
                "unexpected-instruction",
                instruction.span,
                "this instruction cannot stand here",
            )),
            other => self.metadata(state, instruction, other),
        }
    }

    fn arg(&mut self, state: &mut StageState, declarations: &[ArgDeclaration]) -> Result<(), LowerError> {
        let mut shown = Vec::new();
        let mut values = Vec::new();
        // All of them see the variables from before the instruction.
        let before = &state.environment;
        for declaration in declarations {
            let name = self.expander.word(&declaration.name, before)?;
            let value = argument_value(declaration, &name, self.options, before, &self.expander)?;
            let default = declaration.default.as_ref().map(|word| self.expander.display(&word.text, before));
            shown.push(default.map_or_else(|| name.clone(), |default| format!("{name}={default}")));
            let value = value.or_else(|| self.globals.environment.get(&name).map(str::to_owned));
            values.push((name, value));
        }
        for (name, value) in values {
            match &value {
                Some(value) => state.environment.set(&name, value),
                None => state.environment.declare(&name),
            }
            let value = value.unwrap_or_default();
            // Declared twice, it is shown twice, and both times with the value that holds now.
            for (_, older) in state.build_args.iter_mut().filter(|(known, _)| *known == name) {
                older.clone_from(&value);
            }
            state.build_args.push((name, value));
        }
        let text = format!("ARG {}", shown.join(" "));
        crate::history::metadata(&mut state.config, text, self.epoch);
        Ok(())
    }

    /// A vertex's metadata for a step of the Dockerfile.
    pub(crate) fn step(&self, state: &mut StageState, instruction: &Instruction) -> Metadata {
        let text = self.expander.display(&instruction.source, &state.environment);
        let text = uppercase_keyword(&text);
        Metadata {
            name: state.names.next(&text),
            stage: state.names.stage().to_owned(),
            source: source_range(instruction.span),
            ignore_cache: state.ignore_cache,
            group: None,
        }
    }

    /// The local source of a name.
    pub(crate) fn local(&mut self, name: &str) -> Input {
        let op = Op::Source(SourceOp::Local(LocalSource { name: name.to_owned() }));
        let name = match name {
            CONTEXT => "[internal] load build context".to_owned(),
            other => format!("[context {other}] load from client"),
        };
        let metadata = Metadata { name, ..Metadata::default() };
        self.graph.add(op, &self.options.build_platform, &[], metadata)
    }

    fn image(&mut self, target: usize) -> (Option<Input>, ImageConfig, Platform) {
        let Some(state) = self.done.swap_remove(target) else {
            unreachable!("the target was asked for and is done")
        };
        let mut config = state.config;
        for (name, value) in &self.options.labels {
            config.config.labels.insert(name.clone(), value.clone());
        }
        (state.root, config, state.platform)
    }
}

/// How many steps progress counts for triggers. What is no instruction is refused when it is its turn.
fn count_trigger_steps(triggers: &[String]) -> usize {
    let steps = |trigger: &String| count_steps(&parser::parse(trigger.as_bytes()).dockerfile.instructions);
    triggers.iter().map(steps).sum()
}

/// `run make` becomes `RUN make`.
fn uppercase_keyword(text: &str) -> String {
    let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let keyword = keyword.to_uppercase();
    if rest.is_empty() { keyword } else { format!("{keyword} {rest}") }
}
