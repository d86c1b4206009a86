//! The hidden command that is a shim: the parent of a detached container.
//!
//! It is told apart before anything else happens, since it stays in memory for as long as the container runs:
//! the definitions of the command line alone would take a third of what it has.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::error::FAILED;

/// Runs the shim if that is what we were started as.
pub(crate) fn command() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != engine::containers::SHIM_COMMAND {
        return None;
    }
    let args: Vec<OsString> = args.collect();
    // Nobody reads what we would print; the starter was told what concerns it.
    let ended = engine::containers::run_shim(&args);
    Some(ended.map_or(ExitCode::from(FAILED), |()| ExitCode::SUCCESS))
}
