//! Checks about old forms.

use super::Findings;
use crate::ast::{Dockerfile, InstructionKind};

pub(super) fn maintainer_deprecated(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for instruction in &dockerfile.instructions {
        if let InstructionKind::Maintainer(name) = &instruction.kind {
            let help = format!("write LABEL org.opencontainers.image.authors={:?}", name.text);
            let message = "Maintainer instruction is deprecated in favor of using label";
            findings.add(instruction.keyword.span, message, help);
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
            let message = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            let help =
                format!("write {keyword} {}=\"{}\"", pair.key.text, pair.value.text.replace('"', "\\\""));
            findings.add(pair.key.span.to(pair.value.span), message, help);
        }
    }
}
