//! `lap debug diff`: what a failed step had changed, in the form of `docker diff`.

use std::fmt::Write as _;
use std::process::ExitCode;

use engine::failed::PathChangeKind;

use super::super::{StoreChoice, open};
use crate::debug_args::DebugDiffArgs;
use crate::error::CliError;
use crate::signals;
use crate::terminal::print;

/// Prints a line for each path.
pub(super) fn show(store: &StoreChoice, args: &DebugDiffArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let mut text = String::new();
    for change in open(store)?.failed_changes(args.build.as_deref(), &cancel)? {
        let letter = match change.kind {
            PathChangeKind::Added => 'A',
            PathChangeKind::Changed => 'C',
            PathChangeKind::Deleted => 'D',
        };
        let _ = writeln!(text, "{letter} /{}", change.path.display());
    }
    print(&text);
    Ok(ExitCode::SUCCESS)
}
