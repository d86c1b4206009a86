//! Build checks: what is allowed in a Dockerfile, but unwise.
//!
//! Names are BuildKit's, so that `# check=skip=…` in existing files keeps working. Only checks that need
//! nothing but the text are here; those that need values of variables, base images or the context are the
//! frontend's, which asks [`CheckOptions::allows`] whether to report.

mod casing;
mod commands;
mod options;
mod stage_names;
mod style;

pub use options::{CheckOptions, InvalidCheckOption};

use crate::ast::{Dockerfile, From, Instruction, InstructionKind};
use crate::diagnostic::{Diagnostic, Level};
use crate::span::Span;

/// One check.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name, the code of its diagnostics.
    pub name: &'static str,
    /// What it says to do, in one sentence.
    pub description: &'static str,
    run: fn(&Dockerfile, &mut Findings<'_>),
}

/// The checks of this crate, in alphabetical order.
pub const CHECKS: [Check; 11] = [
    Check {
        name: "ConsistentInstructionCasing",
        description: "instructions should all be written in upper case, or all in lower case",
        run: casing::consistent_instruction_casing,
    },
    Check {
        name: "DuplicateStageName",
        description: "each stage should have a name of its own",
        run: stage_names::duplicate_stage_name,
    },
    Check {
        name: "FromAsCasing",
        description: "AS should be written in the case of FROM",
        run: casing::from_as_casing,
    },
    Check {
        name: "JSONArgsRecommended",
        description: "CMD and ENTRYPOINT should use the JSON form, so that the program gets the signals",
        run: commands::json_args_recommended,
    },
    Check {
        name: "LegacyKeyValueFormat",
        description: "ENV and LABEL should be written with key=value",
        run: style::legacy_key_value_format,
    },
    Check {
        name: "MaintainerDeprecated",
        description: "a label should name the author instead of MAINTAINER",
        run: style::maintainer_deprecated,
    },
    Check {
        name: "MultipleInstructionsDisallowed",
        description: "a stage should have one CMD, one ENTRYPOINT and one HEALTHCHECK, since the last one counts",
        run: commands::multiple_instructions_disallowed,
    },
    Check {
        name: "NoEmptyContinuation",
        description: "an instruction should not continue over an empty line",
        // Found while lines are joined; afterwards the empty line is gone.
        run: |_, _| {},
    },
    Check {
        name: "ReservedStageName",
        description: "a stage should not have a name that means something else",
        run: stage_names::reserved_stage_name,
    },
    Check {
        name: "StageNameCasing",
        description: "names of stages should be in lower case",
        run: casing::stage_name_casing,
    },
    Check {
        name: "WorkdirRelativePath",
        description: "the first WORKDIR of a stage should be an absolute path, since base images change",
        run: style::workdir_relative_path,
    },
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

/// Runs all checks.
pub(crate) fn run(dockerfile: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    for check in &CHECKS {
        (check.run)(dockerfile, &mut Findings { name: check.name, diagnostics });
    }
}

/// Drops the warnings that the options, or a comment above the instruction, switch off.
pub(crate) fn filter(dockerfile: &Dockerfile, options: &CheckOptions, diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.retain(|diagnostic| {
        let instruction = instruction_at(dockerfile, diagnostic.span.start);
        diagnostic.level == Level::Error || options.allows(diagnostic.code, instruction)
    });
}

fn instruction_at(dockerfile: &Dockerfile, offset: usize) -> Option<&Instruction> {
    let after = dockerfile.instructions.partition_point(|instruction| instruction.span.start <= offset);
    dockerfile.instructions[..after].last().filter(|instruction| offset <= instruction.span.end)
}

/// Where Docker's documentation explains a check:
/// `https://docs.docker.com/go/dockerfile/rule/stage-name-casing/`.
pub fn documentation(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let after_lower = index > 0 && letters[index - 1].is_lowercase();
        let before_lower = index > 0 && letters.get(index + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_lower || before_lower) {
            kebab.push('-');
        }
        kebab.extend(letter.to_lowercase());
    }
    format!("https://docs.docker.com/go/dockerfile/rule/{kebab}/")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_has_the_name_in_kebab_case() {
        assert!(documentation("StageNameCasing").ends_with("/rule/stage-name-casing/"));
        assert!(documentation("JSONArgsRecommended").ends_with("/rule/json-args-recommended/"));
        assert!(documentation("SecretsUsedInArgOrEnv").ends_with("/rule/secrets-used-in-arg-or-env/"));
    }
}
