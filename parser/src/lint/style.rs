//! Checks about old forms and relative paths.

use std::collections::HashMap;

use super::{Findings, stages};
use crate::ast::{Dockerfile, InstructionKind};

pub(super) fn maintainer_deprecated(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for instruction in &dockerfile.instructions {
        if let InstructionKind::Maintainer(name) = &instruction.kind {
            let help = format!("write LABEL org.opencontainers.image.authors={:?}", name.text);
            findings.add(instruction.keyword.span, "MAINTAINER is deprecated in favour of a label", help);
        }
    }
}

pub(super) fn legacy_key_value_format(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for instruction in &dockerfile.instructions {
        let (InstructionKind::Env(pairs) | InstructionKind::Label(pairs)) = &instruction.kind else {
            continue;
        };
        for pair in pairs.iter().filter(|pair| pair.legacy) {
            let keyword = instruction.keyword.text.to_uppercase();
            let message = format!("\"{keyword} key value\" is the old form of \"{keyword} key=value\"");
            let help =
                format!("write {keyword} {}=\"{}\"", pair.key.text, pair.value.text.replace('"', "\\\""));
            findings.add(pair.key.span.to(pair.value.span), message, help);
        }
    }
}

pub(super) fn workdir_relative_path(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    let mut is_set = HashMap::new();
    for stage in stages(dockerfile) {
        let mut known = is_set.get(&stage.from.image.text.to_lowercase()).copied().unwrap_or(false);
        for instruction in stage.body {
            let InstructionKind::Workdir(path) = &instruction.kind else { continue };
            let written = path.text.trim_start_matches(['"', '\'']);
            // What a variable holds is not known here; the benefit of the doubt goes to it.
            if !known && !written.starts_with(['/', '$']) {
                let message =
                    format!("the directory {} is relative to whatever the base image chose", path.text);
                findings.add(path.span, message, "begin it with /");
            }
            known = true;
        }
        if let Some(name) = &stage.from.name {
            is_set.insert(name.text.to_lowercase(), known);
        }
    }
}
