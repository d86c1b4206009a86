//! The hidden commands that go on without us: the shim, the parent of a detached container, and the keeper of the network
//! namespace that holds an ordinary user's bridges.
//!
//! They are told apart before anything else happens, since they stay in memory for as long as containers run:
//! the definitions of the command line alone would take a third of what it has.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::error::FAILED;
use crate::places;

/// Runs one of them if that is what we were started as.
pub(crate) fn command() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let (command, args) = (args.next()?, args.collect::<Vec<OsString>>());
    // Nobody reads what we would print; the starter was told what concerns it.
    let is_well = if command == engine::containers::SHIM_COMMAND {
        if let Some(root) = args.get(1) {
            engine::isolation::share_users(&places::users(Path::new(root)));
        }
        engine::containers::run_shim(&args).is_ok()
    } else if command == engine::network::HUB_COMMAND {
        engine::network::run_hub(&args).is_ok()
    } else {
        return None;
    };
    Some(if is_well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
