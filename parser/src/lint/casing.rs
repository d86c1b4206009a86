//! Checks about upper and lower case.

use super::{Findings, stages};
use crate::ast::{Dockerfile, Instruction};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    Lower,
    Mixed,
}

impl Case {
    fn of(text: &str) -> Self {
        if text == text.to_uppercase() {
            Case::Upper
        } else if text == text.to_lowercase() {
            Case::Lower
        } else {
            Case::Mixed
        }
    }
}

pub(super) fn consistent_instruction_casing(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    let case = |instruction: &Instruction| Case::of(&instruction.keyword.text);
    let count = |wanted| dockerfile.instructions.iter().filter(|found| case(found) == wanted).count();
    let is_lower = count(Case::Lower) > count(Case::Upper);
    let (wanted, name) = if is_lower { (Case::Lower, "lowercase") } else { (Case::Upper, "uppercase") };
    for instruction in dockerfile.instructions.iter().filter(|found| case(found) != wanted) {
        let keyword = &instruction.keyword;
        let message =
            format!("Command '{}' should match the case of the command majority ({name})", keyword.text);
        let written = if is_lower { keyword.text.to_lowercase() } else { keyword.text.to_uppercase() };
        findings.add(keyword.span, message, format!("write {written}"));
    }
}

pub(super) fn from_as_casing(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for stage in stages(dockerfile) {
        let Some(name) = &stage.from.name else { continue };
        let from = &stage.instruction.keyword.text;
        // The tree does not keep the keyword AS; it stands before the name, which is last.
        let Some(keyword) = stage.instruction.source.split_whitespace().nth_back(1) else { continue };
        let wanted = match Case::of(from) {
            Case::Upper => "AS",
            Case::Lower => "as",
            Case::Mixed => continue,
        };
        if keyword != wanted {
            let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
            findings.add(name.span, message, format!("write {from} … {wanted} {}", name.text));
        }
    }
}

pub(super) fn stage_name_casing(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    let names = stages(dockerfile).filter_map(|stage| stage.from.name.as_ref());
    for name in names.filter(|name| name.text != name.text.to_lowercase()) {
        let message = format!("Stage name '{}' should be lowercase", name.text);
        findings.add(name.span, message, format!("write {}", name.text.to_lowercase()));
    }
}
