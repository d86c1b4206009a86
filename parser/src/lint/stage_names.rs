//! Checks about the names of stages.

use std::collections::HashSet;

use super::{Findings, stages};
use crate::ast::Dockerfile;

/// Names that mean something without a stage.
const RESERVED: [&str; 2] = ["scratch", "context"];

pub(super) fn duplicate_stage_name(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    let mut seen = HashSet::new();
    for name in stages(dockerfile).filter_map(|stage| stage.from.name.as_ref()) {
        if !seen.insert(name.text.to_lowercase()) {
            let message = format!("Duplicate stage name {:?}, stage names should be unique", name.text);
            findings.add(name.span, message, "this stage hides the earlier one: give each a name of its own");
        }
    }
}

pub(super) fn reserved_stage_name(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for name in stages(dockerfile).filter_map(|stage| stage.from.name.as_ref()) {
        if RESERVED.contains(&name.text.to_lowercase().as_str()) {
            let message =
                format!("Stage name should not use the same name as reserved stage {:?}", name.text);
            findings.add(name.span, message, "give the stage another name");
        }
    }
}
