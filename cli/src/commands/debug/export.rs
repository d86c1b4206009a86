//! `lap debug export`: a failed step as an image, for another machine.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use engine::request::Destination;

use super::super::{StoreChoice, open};
use crate::debug_args::DebugExportArgs;
use crate::error::CliError;
use crate::signals;
use crate::terminal::complain;

/// Writes the archive, and tells what to do with it.
pub(super) fn write(store: &StoreChoice, args: &DebugExportArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let destination = match &args.output {
        Some(path) => Destination::File(path.clone()),
        None if std::io::stdout().is_terminal() => {
            let message = "refusing to write an archive to a terminal".to_owned();
            return Err(CliError::failed_with_hint(message, "name a file with -o, or redirect the output"));
        }
        None => Destination::Stream(Arc::new(Mutex::new(std::io::stdout()))),
    };
    let name = open(store)?.export_failed(args.build.as_deref(), &destination, &cancel)?.familiar();
    let _ = std::io::stdout().flush();
    complain(&format!("On the other machine: lap load, then lap run --rm -it {name}"));
    Ok(ExitCode::SUCCESS)
}
