//! `lap update`

use std::process::ExitCode;

use super::super::{StoreChoice, open, run};
use super::each;
use crate::error::CliError;
use crate::live_args::UpdateArgs;

/// Changes what containers may use, and when they are started again.
pub(super) fn update(store: &StoreChoice, args: &UpdateArgs) -> Result<ExitCode, CliError> {
    let update = args.changes.update()?;
    let engine = open(store)?;
    run::warn_of_limits(&engine, &update.limits);
    each(&args.containers, |name| engine.update_container(name, &update))
}
