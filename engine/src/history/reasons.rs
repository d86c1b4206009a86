//! Reasons as people read them.

use std::collections::BTreeMap;

use solver::explain::{Reason, StepFacts};

use super::earlier::Root;

/// The root of the reasons for `step`, in one line.
pub(super) fn in_one_line(
    step: usize,
    (root, reason): &Root,
    steps: &[StepFacts],
    build_args: &BTreeMap<String, String>,
) -> String {
    let told = in_words(reason, build_args);
    match reason {
        // The paths say enough.
        Reason::Files { .. } => told,
        _ if *root == step => told,
        _ => format!("{}: {told}", steps[*root].name),
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
