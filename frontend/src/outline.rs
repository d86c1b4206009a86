//! What a Dockerfile offers and asks for: its targets, and the arguments, secrets, agents and caches of
//! one of them. Base images are not looked at, so variables that they set are empty here.

use parser::ast::{ArgDeclaration, Dockerfile, Instruction, InstructionKind, Mount};
use parser::lint::description;
use parser::span::Span;

use crate::args::{Environment, Expander};
use crate::checks::Findings;
use crate::contexts;
use crate::error::LowerError;
use crate::lower::base_image::{self, Base};
use crate::lower::{Globals, argument_value};
use crate::options::Options;
use crate::stage::{Stage, Stages};

/// A stage that can be built by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name; only the last stage can be built without one.
    pub name: Option<String>,
    /// Whether it is built when no target is named.
    pub is_default: bool,
    /// What the comment above FROM says.
    pub description: Option<String>,
    /// What it starts with, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// Its FROM.
    pub span: Span,
}

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// The target's name.
    pub name: Option<String>,
    /// What the comment above its FROM says.
    pub description: Option<String>,
    /// Arguments in the order of the file, each once.
    pub args: Vec<Argument>,
    /// `RUN --mount=type=secret`, by id.
    pub secrets: Vec<Need>,
    /// `RUN --mount=type=ssh`, by id.
    pub ssh: Vec<Need>,
    /// `RUN --mount=type=cache`, by id; a cache is never required.
    pub caches: Vec<Need>,
}

/// An ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What the comment above ARG says.
    pub description: Option<String>,
    /// Its value in this build.
    pub value: Option<String>,
    /// Its declaration.
    pub span: Span,
}

/// Something that a step wants mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its id.
    pub id: String,
    /// Whether the build fails without it.
    pub is_required: bool,
    /// The mount.
    pub span: Span,
}

/// The stages of a Dockerfile that have a name, and the last.
pub fn targets(file: &Dockerfile) -> Result<Vec<Target>, LowerError> {
    let stages = Stages::of(file)?;
    let last = stages.all.len() - 1;
    let listed = stages.all.iter().filter(|stage| stage.name.is_some() || stage.index == last);
    let target = |stage: &Stage<'_>| Target {
        name: stage.from.name.as_ref().map(|name| name.text.clone()),
        is_default: stage.index == last,
        description: description_of(stage),
        base: stage.from.image.text.clone(),
        platform: stage.from.platform.as_ref().map(|platform| platform.text.clone()),
        span: stage.instruction.span,
    };
    Ok(listed.map(target).collect())
}

/// What the target of the options takes, with the stages that it needs.
pub fn outline(file: &Dockerfile, options: &Options) -> Result<Outline, LowerError> {
    let stages = Stages::of(file)?;
    let target = stages.target(options.target.as_deref())?;
    let target_name = target.name.clone().unwrap_or_else(|| "default".to_owned());
    let findings = Findings::default();
    let expander = Expander::new(file.directives.escape, &findings);
    let platform = options.platforms.first().unwrap_or(&options.build_platform);
    let globals = Globals::new(&stages, options, platform, &target_name, &expander)?;
    let bases = base_image::bases(&stages, options, platform, &globals, &expander)?;
    let replaced = |name: &str| contexts::find(&options.contexts, name, platform).is_some();
    let of_bases: Vec<Option<usize>> = bases.iter().map(Base::stage).collect();
    let needed = stages.needed(target.index, &of_bases, &replaced)?;
    let outline =
        Outline { name: target.name.clone(), description: description_of(target), ..Outline::default() };
    let mut reader = Reader { options, globals, expander, outline, after: Vec::new() };
    let from_lines: Vec<&Stage<'_>> = stages.all.iter().filter(|stage| needed[stage.index]).collect();
    for instruction in stages.preamble {
        reader.global(instruction, &from_lines)?;
    }
    for (stage, base) in stages.all.iter().zip(&bases) {
        let mut environment = match base {
            Base::Stage(index) => reader.after[*index].clone(),
            Base::Scratch | Base::Image(_) | Base::Context(..) => Environment::default(),
        };
        for instruction in stage.body.iter().filter(|_| needed[stage.index]) {
            reader.instruction(instruction, &mut environment)?;
        }
        reader.after.push(environment);
    }
    Ok(reader.outline)
}

fn description_of(stage: &Stage<'_>) -> Option<String> {
    let name = stage.from.name.as_ref()?;
    description(stage.instruction, &name.text).map(str::to_owned)
}

/// Reads the stages in order.
struct Reader<'a> {
    options: &'a Options,
    globals: Globals,
    expander: Expander<'a>,
    outline: Outline,
    /// The variables at the end of each stage so far.
    after: Vec<Environment>,
}

impl Reader<'_> {
    /// An ARG before the first FROM counts if a FROM line uses it.
    fn global(&mut self, instruction: &Instruction, stages: &[&Stage<'_>]) -> Result<(), LowerError> {
        let InstructionKind::Arg(declarations) = &instruction.kind else { return Ok(()) };
        for declaration in declarations {
            let name = &declaration.name.text;
            let uses =
                |text: &str| text.contains(&format!("${name}")) || text.contains(&format!("${{{name}"));
            let is_used = stages.iter().any(|stage| {
                let platform = stage.from.platform.as_ref();
                uses(&stage.from.image.text) || platform.is_some_and(|platform| uses(&platform.text))
            });
            if is_used {
                let value = self.globals.environment.get(name).map(str::to_owned);
                self.add_argument(instruction, declaration, name.clone(), value);
            }
        }
        Ok(())
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        environment: &mut Environment,
    ) -> Result<(), LowerError> {
        match &instruction.kind {
            InstructionKind::Arg(declarations) => {
                for declaration in declarations {
                    self.argument(instruction, declaration, environment)?;
                }
            }
            InstructionKind::Env(pairs) => {
                let before = environment.clone();
                for pair in pairs {
                    let name = self.expander.silently(&pair.key, &before)?.value;
                    environment.set(&name, &self.expander.silently(&pair.value, &before)?.value);
                }
            }
            InstructionKind::Run(run) => {
                for mount in &run.mounts {
                    self.mount(mount, environment)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn argument(
        &mut self,
        instruction: &Instruction,
        declaration: &ArgDeclaration,
        environment: &mut Environment,
    ) -> Result<(), LowerError> {
        let name = self.expander.silently(&declaration.name, environment)?.value;
        let own = argument_value(declaration, &name, self.options, environment, &self.expander)?;
        let value = own.or_else(|| self.globals.environment.get(&name).map(str::to_owned));
        match &value {
            Some(value) => environment.set(&name, value),
            None => environment.declare(&name),
        }
        self.add_argument(instruction, declaration, name, value);
        Ok(())
    }

    /// Adds an argument, or what a second declaration of it knows better.
    fn add_argument(
        &mut self,
        instruction: &Instruction,
        declaration: &ArgDeclaration,
        name: String,
        value: Option<String>,
    ) {
        let described = description(instruction, &name).map(str::to_owned);
        if let Some(known) = self.outline.args.iter_mut().find(|known| known.name == name) {
            known.value = known.value.take().or(value);
            known.description = known.description.take().or(described);
            return;
        }
        let span = declaration
            .default
            .as_ref()
            .map_or(declaration.name.span, |default| declaration.name.span.to(default.span));
        self.outline.args.push(Argument { name, description: described, value, span });
    }

    fn mount(&mut self, mount: &Mount, environment: &Environment) -> Result<(), LowerError> {
        let option = |names: &[&str]| {
            let found = mount.options.iter().find(|(name, _)| names.contains(&name.as_str()));
            let value = found.map(|(_, value)| value.clone().unwrap_or_default());
            let word = |text: String| parser::ast::Word { text, span: mount.raw.span };
            value.map(|text| self.expander.silently(&word(text), environment)).transpose()
        };
        let id = option(&["id"])?.map(|id| id.value).filter(|id| !id.is_empty());
        let target = option(&["target", "dst", "destination"])?.map(|target| target.value);
        let is_required = option(&["required"])?.is_some_and(|value| {
            value.value.is_empty() || (base::boolean::parse(&value.value) == Some(true))
        });
        let (list, default_id) = match option(&["type"])?.map(|kind| kind.value.to_lowercase()).as_deref() {
            Some("secret") => {
                let name = target.as_deref().and_then(|target| target.rsplit('/').next().map(str::to_owned));
                (&mut self.outline.secrets, name)
            }
            Some("ssh") => (&mut self.outline.ssh, Some("default".to_owned())),
            Some("cache") => (&mut self.outline.caches, target),
            _ => return Ok(()),
        };
        let Some(id) = id.or(default_id) else { return Ok(()) };
        match list.iter_mut().find(|need| need.id == id) {
            Some(known) => known.is_required |= is_required,
            None => list.push(Need { id, is_required, span: mount.raw.span }),
        }
        Ok(())
    }
}
