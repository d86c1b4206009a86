//! Stages: where they begin, what they are called, what they need, and which the target needs. Pure.

use std::collections::HashMap;

use parser::ast::{self, Dockerfile, Instruction, InstructionKind};
use parser::suggest;

use crate::error::LowerError;

/// A stage as written.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    /// Its place among the stages, from 0.
    pub(crate) index: usize,
    /// Its FROM instruction.
    pub(crate) instruction: &'a Instruction,
    /// The same, typed.
    pub(crate) from: &'a ast::From,
    /// Its name in lower case.
    pub(crate) name: Option<String>,
    /// What follows FROM.
    pub(crate) body: &'a [Instruction],
}

/// A Dockerfile cut into stages.
#[derive(Debug)]
pub(crate) struct Stages<'a> {
    /// ARG instructions before the first FROM.
    pub(crate) preamble: &'a [Instruction],
    /// The stages in order; never empty.
    pub(crate) all: Vec<Stage<'a>>,
    /// Their numbers by name, in order.
    by_name: HashMap<String, Vec<usize>>,
}

impl<'a> Stages<'a> {
    /// Cuts a Dockerfile into stages. Only ARG may stand before the first FROM.
    pub(crate) fn of(file: &'a Dockerfile) -> Result<Self, LowerError> {
        let instructions = &file.instructions;
        let starts: Vec<usize> = (0..instructions.len())
            .filter(|i| matches!(instructions[*i].kind, InstructionKind::From(_)))
            .collect();
        let preamble = &instructions[..starts.first().copied().unwrap_or(instructions.len())];
        if let Some(early) = preamble.iter().find(|i| !matches!(i.kind, InstructionKind::Arg(_))) {
            let message = format!("{} before the first FROM", early.keyword.text.to_uppercase());
            let help = "a Dockerfile starts with FROM; only ARG and comments may come before it";
            return Err(LowerError::with_help("no-build-stage", early.span, message, help));
        }
        let ends = starts.iter().skip(1).copied().chain([instructions.len()]);
        let bounds = starts.iter().copied().zip(ends).enumerate();
        let all: Vec<Stage<'a>> =
            bounds.filter_map(|(index, (start, end))| stage(index, &instructions[start..end])).collect();
        if all.is_empty() {
            let span = preamble.last().map(|i| i.span).unwrap_or_default();
            let help = "start it with FROM and the name of a base image, or FROM scratch";
            return Err(LowerError::with_help("no-build-stage", span, "the Dockerfile has no FROM", help));
        }
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for stage in &all {
            if let Some(name) = &stage.name {
                by_name.entry(name.clone()).or_default().push(stage.index);
            }
        }
        Ok(Self { preamble, all, by_name })
    }

    /// The stage to build: by name, whatever its case; the last without a name.
    pub(crate) fn target(&self, name: Option<&str>) -> Result<&Stage<'a>, LowerError> {
        let last = &self.all[self.all.len() - 1];
        let Some(name) = name else { return Ok(last) };
        let wanted = name.to_lowercase();
        if let Some(stage) = self.all.iter().rev().find(|s| s.name.as_deref() == Some(wanted.as_str())) {
            return Ok(stage);
        }
        let message = format!("target stage \"{name}\" could not be found");
        let help = match self.nearest(name) {
            Some(near) => format!("did you mean {near}?"),
            None => self.names_help(),
        };
        Err(LowerError::with_help("unknown-stage", last.instruction.span, message, help))
    }

    /// The stage before `index` that `name` means, the latest of equals.
    pub(crate) fn earlier(&self, index: usize, name: &str) -> Option<usize> {
        let named = self.by_name.get(&name.to_lowercase())?;
        named.iter().rev().find(|number| **number < index).copied()
    }

    /// The stage that `RUN --mount=from=name` in stage `index` means: by name only.
    pub(crate) fn mount_source(&self, index: usize, from: &ast::Word) -> Result<Option<usize>, LowerError> {
        match from.text.parse::<usize>() {
            Ok(_) => Ok(None),
            Err(_) => self.copy_source(index, from),
        }
    }

    /// The stage that `COPY --from=name` in stage `index` means: a name, or a number. `None` when it can
    /// only be an image. A stage that is the same or comes later is refused.
    pub(crate) fn copy_source(&self, index: usize, from: &ast::Word) -> Result<Option<usize>, LowerError> {
        let name = from.text.to_lowercase();
        if let Some(found) = self.earlier(index, &name) {
            return Ok(Some(found));
        }
        let number = name.parse::<usize>().ok();
        if let Some(number) = number.filter(|number| *number < index) {
            return Ok(Some(number));
        }
        let later = self.by_name.get(&name).and_then(|named| named.iter().find(|later| **later >= index));
        let later = later.copied().or(number.filter(|number| *number < self.all.len()));
        match (later, number) {
            (Some(later), _) if later == index => {
                let message =
                    format!("circular dependency: the stage copies from itself (--from={})", from.text);
                let help = "copy from an earlier stage, or move this step into a stage of its own";
                Err(LowerError::with_help("circular-stage", from.span, message, help))
            }
            (Some(_), _) => {
                let message =
                    format!("stage \"{}\" is defined after the stage that copies from it", from.text);
                let help =
                    "a stage can only use stages above it: move it up, or break the cycle between them";
                Err(LowerError::with_help("circular-stage", from.span, message, help))
            }
            (None, Some(number)) => {
                let message = format!("there is no stage {number}; this Dockerfile has {}", self.all.len());
                Err(LowerError::with_help("unknown-stage", from.span, message, "stages are numbered from 0"))
            }
            (None, None) => Ok(None),
        }
    }

    /// Which stages `target` needs, itself included. `base` tells the stage that a FROM means; a name
    /// that is `replaced` by a named context needs no stage. A stage that uses itself or a later one is refused even if it is
    /// not needed.
    pub(crate) fn needed(
        &self,
        target: usize,
        base: &[Option<usize>],
        replaced: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<bool>, LowerError> {
        let uses: Vec<Vec<Option<usize>>> =
            (0..self.all.len()).map(|index| self.uses(index, replaced)).collect::<Result<_, _>>()?;
        let mut needed = vec![false; self.all.len()];
        needed[target] = true;
        for index in (0..=target).rev() {
            if needed[index] {
                for from in uses[index].iter().chain([&base[index]]).flatten() {
                    needed[*from] = true;
                }
            }
        }
        Ok(needed)
    }

    /// The stages that the steps of a stage name.
    fn uses(&self, index: usize, replaced: &dyn Fn(&str) -> bool) -> Result<Vec<Option<usize>>, LowerError> {
        if self.all[index].name.as_ref().is_some_and(|name| replaced(name)) {
            return Ok(Vec::new());
        }
        let mut uses = Vec::new();
        for instruction in self.all[index].body {
            match &instruction.kind {
                InstructionKind::Copy(copy) => {
                    if let Some(from) = copy.from.as_ref().filter(|from| !replaced(&from.text)) {
                        uses.push(self.copy_source(index, from)?);
                    }
                }
                InstructionKind::Run(run) => {
                    for from in run.mounts.iter().filter_map(mount_from).filter(|from| !replaced(&from.text))
                    {
                        uses.push(self.mount_source(index, &from)?);
                    }
                }
                _ => {}
            }
        }
        Ok(uses)
    }

    /// How many steps progress counts for a stage, without those of triggers.
    pub(crate) fn step_count(&self, index: usize, has_image: bool) -> usize {
        usize::from(has_image) + count_steps(self.all[index].body)
    }

    /// What progress calls a stage: nothing if it is alone, else its name or number.
    pub(crate) fn display_name(&self, index: usize) -> String {
        if self.all.len() == 1 {
            return String::new();
        }
        self.all[index].name.clone().unwrap_or_else(|| format!("stage-{index}"))
    }

    /// The name of a stage that a name is perhaps meant to be.
    pub(crate) fn nearest(&self, name: &str) -> Option<&str> {
        suggest::nearest(name, self.all.iter().filter_map(|stage| stage.name.as_deref()))
    }

    fn names_help(&self) -> String {
        let names: Vec<&str> = self.all.iter().filter_map(|stage| stage.name.as_deref()).collect();
        if names.is_empty() {
            return "no stage has a name: give it one with FROM … AS name".to_owned();
        }
        format!("the stages are: {}", names.join(", "))
    }
}

/// How many of some instructions are steps for progress: all that make a vertex.
pub(crate) fn count_steps(instructions: &[Instruction]) -> usize {
    let makes_vertex = |instruction: &&Instruction| {
        matches!(
            instruction.kind,
            InstructionKind::Run(_)
                | InstructionKind::Copy(_)
                | InstructionKind::Add(_)
                | InstructionKind::Workdir(_)
        )
    };
    instructions.iter().filter(makes_vertex).count()
}

/// What `from=` of a mount names, with the place of the mount.
pub(crate) fn mount_from(mount: &ast::Mount) -> Option<ast::Word> {
    let (_, name) = mount.options.iter().rev().find(|(key, _)| key == "from")?;
    name.as_ref()
        .filter(|name| !name.is_empty())
        .map(|name| ast::Word { text: name.clone(), span: mount.raw.span })
}

fn stage<'a>(index: usize, instructions: &'a [Instruction]) -> Option<Stage<'a>> {
    let (first, body) = instructions.split_first()?;
    let InstructionKind::From(from) = &first.kind else { return None };
    let name = from.name.as_ref().map(|name| name.text.to_lowercase());
    Some(Stage { index, instruction: first, from, name, body })
}
