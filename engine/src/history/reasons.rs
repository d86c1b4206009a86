//! Reasons as people read them.

use std::collections::BTreeMap;

use solver::explain::{Reason, StepFacts};

use super::earlier::Explanation;

/// The root of a chain of reasons for `step`, in one line.
pub(super) fn in_one_line(
    step: usize,
    chain: &[(usize, Explanation)],
    steps: &[StepFacts],
    build_args: &BTreeMap<String, String>,
) -> String {
    let Some((root, explanation)) = chain.last() else { return Reason::NeverBuilt.to_string() };
    let reason = in_words(&explanation.reasons[0], build_args);
    match explanation.reasons[0] {
        // The paths say enough.
        Reason::Files { .. } => reason,
        _ if *root == step => reason,
        _ => format!("{}: {reason}", steps[*root].name),
    }
}

/// A reason, in which a variable that the user gave as a build argument is called one.
pub(super) fn in_words(reason: &Reason, build_args: &BTreeMap<String, String>) -> String {
    let Reason::Aspects { changes } = reason else { return reason.to_string() };
    let mut changes = changes.clone();
    for change in &mut changes {
        if let Some(name) = change.name.strip_prefix("env ").filter(|name| build_args.contains_key(*name)) {
            change.name = format!("build argument {name}");
        }
    }
    // What the user gave says more than what follows from it.
    changes.sort_by_key(|change| !change.name.starts_with("build argument "));
    Reason::Aspects { changes }.to_string()
}
