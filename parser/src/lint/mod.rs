//! Build checks: what is allowed in a Dockerfile, but unwise.
//!
//! [`RULES`] names all of them. Only those that need nothing but the text are made here; those that need
//! values of variables, base images or the context are the frontend's. Every finding is a warning whose
//! code is the name of its check, and goes through [`filter`] before anyone sees it.

mod casing;
mod commands;
mod descriptions;
mod options;
mod platforms;
mod rules;
mod secrets;
mod stage_names;
mod style;

pub use descriptions::description;
pub use options::{CheckOptions, InvalidCheckOption};
pub use rules::{BROKEN_JSON, RULES, Rule, UNKNOWN_CHECK, find};

use crate::ast::{Dockerfile, From, Instruction, InstructionKind};
use crate::diagnostic::{Diagnostic, Level};
use crate::span::Span;

/// What looks for the findings of one check.
type Look = fn(&Dockerfile, &mut Findings<'_>);

/// The checks of this crate. `NoEmptyContinuation` and [`BROKEN_JSON`] are found while the text is read.
const CHECKS: [(&str, Look); 13] = [
    ("ConsistentInstructionCasing", casing::consistent_instruction_casing),
    ("DuplicateStageName", stage_names::duplicate_stage_name),
    ("FromAsCasing", casing::from_as_casing),
    ("FromPlatformFlagConstDisallowed", platforms::from_platform_flag_const_disallowed),
    ("InvalidDefinitionDescription", descriptions::invalid_definition_description),
    ("JSONArgsRecommended", commands::json_args_recommended),
    ("LegacyKeyValueFormat", style::legacy_key_value_format),
    ("MaintainerDeprecated", style::maintainer_deprecated),
    ("MultipleInstructionsDisallowed", commands::multiple_instructions_disallowed),
    ("RedundantTargetPlatform", platforms::redundant_target_platform),
    ("ReservedStageName", stage_names::reserved_stage_name),
    ("SecretsUsedInArgOrEnv", secrets::secrets_used_in_arg_or_env),
    ("StageNameCasing", casing::stage_name_casing),
];

/// Collects what one check finds.
struct Findings<'a> {
    name: &'static str,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Findings<'_> {
    fn add(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(self.name, span, message).with_help(help));
    }
}

/// Runs all checks of this crate.
pub(crate) fn run(dockerfile: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    for (name, look) in &CHECKS {
        look(dockerfile, &mut Findings { name, diagnostics });
    }
}

/// Drops the warnings that the options, or a comment above the instruction, switch off, and those of
/// experimental checks that nobody asked for. Errors stay.
pub fn filter(dockerfile: &Dockerfile, options: &CheckOptions, diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.retain(|diagnostic| {
        let instruction = instruction_at(dockerfile, diagnostic.span.start);
        diagnostic.level == Level::Error || options.allows(diagnostic.code, instruction)
    });
}

fn instruction_at(dockerfile: &Dockerfile, offset: usize) -> Option<&Instruction> {
    let after = dockerfile.instructions.partition_point(|instruction| instruction.span.start <= offset);
    dockerfile.instructions[..after].last().filter(|instruction| offset <= instruction.span.end)
}

/// A FROM and what follows it.
struct Stage<'a> {
    from: &'a From,
    instruction: &'a Instruction,
    body: &'a [Instruction],
}

fn stages(dockerfile: &Dockerfile) -> impl Iterator<Item = Stage<'_>> {
    let is_from = |instruction: &Instruction| matches!(instruction.kind, InstructionKind::From(_));
    let starts = dockerfile.instructions.iter().enumerate().filter(move |(_, found)| is_from(found));
    starts.filter_map(move |(index, instruction)| {
        let InstructionKind::From(from) = &instruction.kind else { return None };
        let rest = &dockerfile.instructions[index + 1..];
        let length = rest.iter().position(is_from).unwrap_or(rest.len());
        Some(Stage { from, instruction, body: &rest[..length] })
    })
}
