//! FROM: what a stage starts with.

use base::image::{ImageConfig, chain_id};
use base::{Fault, Platform, Reference};
use llb::{CopyAction, FileAction, FileOp, ImageSource, Input, Metadata, Op, SourceOp};
use parser::ast::Word;
use parser::span::Span;

use super::{Globals, Lowering, StageState, count_trigger_steps, source_range};
use crate::args::{DEFAULT_PATH, Environment, Expander, set_config_env};
use crate::contexts::{self, NamedContext};
use crate::error::LowerError;
use crate::names::StepNames;
use crate::options::Options;
use crate::ports::ResolvedImage;
use crate::stage::{Stage, Stages};

/// What the name in FROM means, after expansion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Base {
    /// Nothing at all.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(Reference),
    /// A named context.
    Context(String, NamedContext),
}

impl Base {
    pub(crate) fn stage(&self) -> Option<usize> {
        match self {
            Self::Stage(index) => Some(*index),
            _ => None,
        }
    }
}

/// What every stage starts with.
pub(crate) fn bases(
    stages: &Stages<'_>,
    options: &Options,
    platform: &Platform,
    globals: &Globals,
    expander: &Expander<'_>,
) -> Result<Vec<Base>, LowerError> {
    let context = |name: &str| contexts::find(&options.contexts, name, platform).map(context_base);
    let base = |stage: &Stage<'_>| match stage.name.as_deref().and_then(context) {
        Some(replaced) => Ok(replaced),
        None => base(stages, stage, globals, expander, &context),
    };
    stages.all.iter().map(base).collect()
}

fn context_base((name, context): (&str, &NamedContext)) -> Base {
    Base::Context(name.to_owned(), context.clone())
}

fn base(
    stages: &Stages<'_>,
    stage: &Stage<'_>,
    globals: &Globals,
    expander: &Expander<'_>,
    context: &dyn Fn(&str) -> Option<Base>,
) -> Result<Base, LowerError> {
    let written = &stage.from.image;
    let name = from_line_word(written, globals, expander)?;
    check_default(stages, stage, globals, expander);
    if name.is_empty() {
        let message = format!("base name ({}) is empty after expansion", written.text);
        let help = "give the ARG a default, or pass it with --build-arg";
        return Err(LowerError::with_help("empty-base-name", written.span, message, help));
    }
    if let Some(index) = stages.earlier(stage.index, &name) {
        return Ok(Base::Stage(index));
    }
    if let Some(replaced) = context(&name) {
        return Ok(replaced);
    }
    if name == "scratch" {
        return Ok(Base::Scratch);
    }
    reference(&name, written.span).map(Base::Image)
}

/// A word of a FROM line, which sees the arguments before the first FROM.
fn from_line_word(written: &Word, globals: &Globals, expander: &Expander<'_>) -> Result<String, LowerError> {
    let expanded = expander.silently(written, &globals.environment)?;
    expander.findings().undefined_in_from(&expanded.undefined, &globals.environment, written);
    Ok(expanded.value)
}

/// Checks what FROM means to those who give no build arguments.
fn check_default(stages: &Stages<'_>, stage: &Stage<'_>, globals: &Globals, expander: &Expander<'_>) {
    let written = &stage.from.image;
    if !written.text.contains('$') {
        return;
    }
    if let Ok(by_default) = expander.silently(written, &globals.defaults)
        && stages.earlier(stage.index, &by_default.value).is_none()
    {
        expander.findings().default_base(&by_default.value, written);
    }
}

fn reference(name: &str, span: Span) -> Result<Reference, LowerError> {
    name.parse().map_err(|error: base::reference::ReferenceError| {
        LowerError::at("invalid-reference", span, error.to_string())
    })
}

/// An error in a trigger, told where the trigger came from.
pub(super) fn at_from(error: LowerError, span: Span, trigger: &str) -> LowerError {
    match error {
        LowerError::Dockerfile(mut diagnostic) => {
            diagnostic.span = span;
            diagnostic.message =
                format!("in the base image's trigger \"ONBUILD {trigger}\": {}", diagnostic.message);
            LowerError::Dockerfile(diagnostic)
        }
        LowerError::Resolve { reference, source, fault, near, .. } => {
            LowerError::Resolve { reference, span, source, fault, near }
        }
        other @ LowerError::Graph(_) => other,
    }
}

impl<'a> Lowering<'a> {
    pub(super) fn base(&mut self, stage: &Stage<'a>) -> Result<StageState, LowerError> {
        let platform = self.stage_platform(stage)?;
        let base = self.bases[stage.index].clone();
        let total = self.stages.step_count(stage.index, matches!(base, Base::Image(_)));
        let shown = if self.options.platforms.len() > 1 { platform.to_string() } else { String::new() };
        let names = StepNames::new(&shown, &self.stages.display_name(stage.index), total);
        let mut state = match base {
            Base::Stage(index) => self.start_from_stage(index, names),
            Base::Scratch => fresh(ImageConfig::scratch(&platform), platform, names),
            Base::Image(reference) => self.start_from_image(stage, &reference, platform, names)?,
            Base::Context(_, NamedContext::Image(reference)) => {
                self.start_from_image(stage, &reference, platform, names)?
            }
            Base::Context(name, NamedContext::Local) => {
                let root = Some(self.local_copy(&name, "/"));
                StageState { root, ..fresh(ImageConfig::scratch(&platform), platform, names) }
            }
        };
        let filtered = |name: &String| {
            self.options.no_cache_filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        state.ignore_cache = self.options.no_cache || stage.name.as_ref().is_some_and(filtered);
        Ok(state)
    }

    fn stage_platform(&self, stage: &Stage<'_>) -> Result<Platform, LowerError> {
        let Some(written) = &stage.from.platform else { return Ok(self.platform.clone()) };
        let text = from_line_word(written, &self.globals, &self.expander)?;
        if text.is_empty() {
            let message = format!("the platform ({}) is empty after expansion", written.text);
            return Err(LowerError::at("invalid-platform", written.span, message));
        }
        text.parse().map_err(|error: base::platform::PlatformError| {
            LowerError::at("invalid-platform", written.span, error.to_string())
        })
    }

    /// What `path` of a local source holds, as a filesystem of its own with the same paths.
    pub(super) fn local_copy(&mut self, name: &str, path: &str) -> Input {
        let local = self.local(name);
        let copy = CopyAction { parents: path != "/", ..CopyAction::new(0, vec![path.to_owned()], "/") };
        let op = Op::File(FileOp { has_base: false, actions: vec![FileAction::Copy(copy)] });
        let name = format!("[context {name}] {path}");
        let metadata = Metadata { name, ..Metadata::default() };
        self.graph.add(op, &self.options.build_platform, &[local], metadata)
    }

    fn start_from_stage(&mut self, index: usize, mut names: StepNames) -> StageState {
        let Some(Some(base)) = self.done.get_mut(index) else {
            unreachable!("a stage that is needed is lowered before those that need it")
        };
        names.expect(count_trigger_steps(&base.config.config.on_build));
        self.children[index] = self.children[index].saturating_sub(1);
        if self.children[index] > 0 {
            return StageState { names, cmd_set: false, ..base.clone() };
        }
        // Nobody else starts from it: copies are made of its filesystem only, and a long chain of stages
        // need not keep the history of each.
        let rest = StageState {
            root: base.root,
            ..fresh(ImageConfig::scratch(&base.platform), base.platform.clone(), names.clone())
        };
        StageState { names, cmd_set: false, ..std::mem::replace(base, rest) }
    }

    fn start_from_image(
        &mut self,
        stage: &Stage<'a>,
        reference: &Reference,
        platform: Platform,
        mut names: StepNames,
    ) -> Result<StageState, LowerError> {
        let image = self.resolve(reference, &platform, stage.from.image.span)?;
        let found = image.config.platform();
        self.expander.findings().base_platform(reference, &found, &platform, &stage.from.image);
        names.expect(count_trigger_steps(&image.config.config.on_build));
        let name = names.next(&format!("FROM {}", image.reference));
        let source = source_range(stage.instruction.span);
        let stage = names.stage().to_owned();
        let metadata = Metadata { name, stage, source, ..Metadata::default() };
        let root = self.image_source(&image, &platform, metadata);
        Ok(StageState { root, ..fresh(image.config, platform, names) })
    }

    pub(super) fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        span: Span,
    ) -> Result<ResolvedImage, LowerError> {
        self.resolver.resolve(reference, platform).map_err(|source| LowerError::Resolve {
            reference: reference.familiar(),
            span,
            fault: Fault::Environment,
            source,
            near: self.near_stage(reference),
        })
    }

    /// The stage that somebody who wrote the name of an image perhaps meant.
    fn near_stage(&self, reference: &Reference) -> Option<String> {
        let name = reference.familiar_repository();
        self.stages.nearest(&name).filter(|near| *near != name).map(str::to_owned)
    }

    /// The vertex of an image's root filesystem; none for an image without layers.
    pub(super) fn image_source(
        &mut self,
        image: &ResolvedImage,
        platform: &Platform,
        metadata: Metadata,
    ) -> Option<Input> {
        let chain_id = chain_id(&image.config.rootfs.diff_ids)?;
        let reference = image.reference.to_string();
        let op = Op::Source(SourceOp::Image(ImageSource {
            reference,
            manifest: image.manifest,
            chain_id,
            layers: None,
        }));
        Some(self.graph.add(op, platform, &[], metadata))
    }

    /// What `--from=` names when it is no stage: a named context or an image, from which `path` is taken.
    pub(super) fn content_by_name(
        &mut self,
        from: &Word,
        platform: &Platform,
    ) -> Result<Option<Content>, LowerError> {
        let reference = match self.named_context(&from.text) {
            Some((name, NamedContext::Local)) => return Ok(Some(Content::Local(name.to_owned()))),
            Some((_, NamedContext::Image(reference))) => reference.clone(),
            None => reference(&from.text, from.span)?,
        };
        let image = self.resolve(&reference, platform, from.span)?;
        let metadata = Metadata { name: format!("FROM {}", image.reference), ..Metadata::default() };
        Ok(self.image_source(&image, platform, metadata).map(Content::Filesystem))
    }
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// The local source of a name.
    Local(String),
    /// The result of a vertex.
    Filesystem(Input),
}

/// A stage that starts with `config` and no layers of its own.
fn fresh(mut config: ImageConfig, platform: Platform, names: StepNames) -> StageState {
    let environment = &mut Environment::from_entries(&config.config.env);
    if environment.get("PATH").is_none() {
        environment.set("PATH", DEFAULT_PATH);
        set_config_env(&mut config.config.env, "PATH", DEFAULT_PATH);
    }
    if config.config.working_dir.is_empty() {
        config.config.working_dir = "/".to_owned();
    }
    let environment = environment.clone();
    StageState {
        root: None,
        platform,
        environment,
        build_args: Vec::new(),
        config,
        workdir_set: false,
        cmd_set: false,
        names,
        ignore_cache: false,
    }
}
