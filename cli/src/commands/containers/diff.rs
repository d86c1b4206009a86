//! `lap diff`: what a container has changed.

use std::fmt::Write as _;
use std::process::ExitCode;

use engine::failed::{PathChange, PathChangeKind};

use super::super::{StoreChoice, open};
use crate::container_args::files::DiffArgs;
use crate::error::CliError;
use crate::signals;
use crate::terminal::print;

/// Prints a line for each path.
pub(super) fn show(store: &StoreChoice, args: &DiffArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    print_changes(&open(store)?.container_changes(&args.container, &cancel)?);
    Ok(ExitCode::SUCCESS)
}

/// Prints a letter and a path for each change: added, changed, deleted.
pub(crate) fn print_changes(changes: &[PathChange]) {
    let mut text = String::new();
    for change in changes {
        let letter = match change.kind {
            PathChangeKind::Added => 'A',
            PathChangeKind::Changed => 'C',
            PathChangeKind::Deleted => 'D',
        };
        let _ = writeln!(text, "{letter} /{}", change.path.display());
    }
    print(&text);
}
