//! Checks about CMD, ENTRYPOINT and HEALTHCHECK.

use std::collections::HashMap;

use super::{Findings, stages};
use crate::ast::{Command, Dockerfile, InstructionKind};

pub(super) fn json_args_recommended(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    let mut has_shell = HashMap::new();
    for stage in stages(dockerfile) {
        // Whoever chose the shell wants one.
        let mut chosen = has_shell.get(&stage.from.image.text.to_lowercase()).copied().unwrap_or(false);
        for instruction in stage.body {
            match &instruction.kind {
                InstructionKind::Shell(_) => chosen = true,
                InstructionKind::Cmd(Command::Shell(line))
                | InstructionKind::Entrypoint(Command::Shell(line))
                    if !chosen =>
                {
                    let keyword = instruction.keyword.text.to_uppercase();
                    let message = format!(
                        "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
                    );
                    findings.add(line.span, message, format!("write {keyword} [\"program\", \"argument\"]"));
                }
                _ => {}
            }
        }
        if let Some(name) = &stage.from.name {
            has_shell.insert(name.text.to_lowercase(), chosen);
        }
    }
}

pub(super) fn multiple_instructions_disallowed(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for stage in stages(dockerfile) {
        let mut last = HashMap::new();
        for instruction in stage.body {
            let keyword = match instruction.kind {
                InstructionKind::Cmd(_) => "CMD",
                InstructionKind::Entrypoint(_) => "ENTRYPOINT",
                InstructionKind::Healthcheck(_) => "HEALTHCHECK",
                _ => continue,
            };
            if let Some(ignored) = last.insert(keyword, instruction.keyword.span) {
                let message = format!(
                    "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
                );
                findings.add(ignored, message, "remove this one: a later one replaces it");
            }
        }
    }
}
