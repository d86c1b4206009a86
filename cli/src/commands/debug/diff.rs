//! `lap debug diff`: what a failed step had changed, in the form of `docker diff`.

use std::process::ExitCode;

use super::super::containers::print_changes;
use super::super::{StoreChoice, open};
use crate::debug_args::DebugDiffArgs;
use crate::error::CliError;
use crate::signals;

/// Prints a line for each path.
pub(super) fn show(store: &StoreChoice, args: &DebugDiffArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    print_changes(&open(store)?.failed_changes(args.build.as_deref(), &cancel)?);
    Ok(ExitCode::SUCCESS)
}
