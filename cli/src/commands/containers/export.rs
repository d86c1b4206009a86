//! `lap export`: all files of a container as an archive.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use engine::request::Destination;

use super::super::{StoreChoice, open};
use crate::container_args::files::ExportArgs;
use crate::error::CliError;
use crate::signals;

/// Writes the archive.
pub(super) fn write(store: &StoreChoice, args: &ExportArgs) -> Result<ExitCode, CliError> {
    let destination = match &args.output {
        Some(path) => Destination::File(path.clone()),
        None if std::io::stdout().is_terminal() => {
            let message = "cowardly refusing to save to a terminal".to_owned();
            return Err(CliError::failed_with_hint(message, "use the -o flag or redirect"));
        }
        None => Destination::Stream(Arc::new(Mutex::new(std::io::stdout()))),
    };
    let cancel = signals::cancel_token();
    open(store)?.export_container(&args.container, &destination, &cancel)?;
    let _ = std::io::stdout().flush();
    Ok(ExitCode::SUCCESS)
}
