//! `lap commit`: an image of a container.

use std::process::ExitCode;

use engine::containers::files::{CommitRequest, Paused};

use super::super::{StoreChoice, open, reference};
use crate::container_args::files::CommitArgs;
use crate::error::{CliError, FAILED};
use crate::signals;
use crate::terminal::{complain, print_line};

/// Makes the image, and prints its id.
pub(super) fn commit(store: &StoreChoice, args: CommitArgs) -> Result<ExitCode, CliError> {
    let name = args.name.as_deref().map(reference).transpose().map_err(|error| error.with_code(FAILED))?;
    if name.as_ref().is_some_and(|name| name.digest.is_some()) {
        let hint = "a digest follows from the content; give a name and a tag";
        return Err(CliError::failed_with_hint("an image cannot be given a digest".to_owned(), hint));
    }
    let request = CommitRequest {
        container: args.container,
        name,
        author: args.author.unwrap_or_default(),
        message: args.message.unwrap_or_default(),
        changes: args.changes,
        pause: args.pause && !args.no_pause,
    };
    let cancel = signals::cancel_token();
    let made = open(store)?.commit_container(&request, &cancel)?;
    match made.pause {
        Paused::AsWanted => {}
        Paused::BySignals => complain(
            "the container has no control group that could be frozen; its processes were stopped by SIGSTOP meanwhile",
        ),
        Paused::NotAtAll(why) => complain(&format!(
            "WARNING: the container went on while its image was made, which may have files of different moments: {why}"
        )),
    }
    print_line(&made.id.to_string());
    Ok(ExitCode::SUCCESS)
}
