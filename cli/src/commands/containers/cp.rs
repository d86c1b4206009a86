//! `lap cp`: files between a container and this machine.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use engine::containers::files::{Copied, CopyRequest, Source};
use engine::request::Destination;

use super::super::{StoreChoice, open};
use crate::container_args::files::CpArgs;
use crate::error::CliError;
use crate::signals;
use crate::terminal::complain;
use crate::units;

/// Copies into a container or out of one.
pub(super) fn copy(store: &StoreChoice, args: &CpArgs) -> Result<ExitCode, CliError> {
    let (from, to) = (place(&args.source), place(&args.destination));
    match (from, to) {
        ((Some(_), _), (Some(_), _)) => {
            Err(CliError::failed("copying between containers is not supported".to_owned()))
        }
        ((None, _), (None, _)) => {
            let message = "must specify at least one container source".to_owned();
            Err(CliError::failed_with_hint(message, "write a path in a container as CONTAINER:PATH"))
        }
        ((Some(container), path), (None, "-")) => archive_out(store, &request(args, container, path)),
        ((Some(container), path), (None, to)) => {
            let cancel = signals::cancel_token();
            let copied = open(store)?.copy_out(&request(args, container, path), to, &cancel)?;
            tell(args, copied);
            Ok(ExitCode::SUCCESS)
        }
        ((None, from), (Some(container), path)) => {
            let cancel = signals::cancel_token();
            let source = match from {
                "-" => Source::Archive(Box::new(std::io::stdin())),
                path => Source::Path(path.to_owned()),
            };
            let copied = open(store)?.copy_in(&request(args, container, path), source, &cancel)?;
            if from != "-" {
                tell(args, copied);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn request(args: &CpArgs, container: &str, path: &str) -> CopyRequest {
    CopyRequest {
        container: container.to_owned(),
        path: path.to_owned(),
        archive: args.archive,
        follow: args.follow_link,
        ..CopyRequest::default()
    }
}

fn archive_out(store: &StoreChoice, request: &CopyRequest) -> Result<ExitCode, CliError> {
    if std::io::stdout().is_terminal() {
        let message = "refusing to write an archive to a terminal".to_owned();
        return Err(CliError::failed_with_hint(message, "redirect the output"));
    }
    let cancel = signals::cancel_token();
    let out = Destination::Stream(Arc::new(Mutex::new(std::io::stdout())));
    open(store)?.copy_out_as_archive(request, &out, &cancel)?;
    let _ = std::io::stdout().flush();
    Ok(ExitCode::SUCCESS)
}

/// Tells what was copied, if somebody reads it.
fn tell(args: &CpArgs, copied: Copied) {
    if copied.skipped_devices > 0 {
        complain(&format!("{} devices were left out; --archive copies them, too", copied.skipped_devices));
    }
    if !args.quiet && std::io::stderr().is_terminal() {
        complain(&format!("Successfully copied {} to {}", units::bytes(copied.bytes), args.destination));
    }
}

/// `CONTAINER:PATH`, or a path of this machine: one that begins with a slash or a dot, or has no colon.
fn place(text: &str) -> (Option<&str>, &str) {
    match text.split_once(':') {
        Some((container, path)) if !text.starts_with(['/', '.']) => (Some(container), path),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_in_a_container_or_not() {
        assert_eq!(place("web:/a:b"), (Some("web"), "/a:b"));
        assert_eq!(place("web:"), (Some("web"), ""));
        for local in ["/a:b", "./a:b", "../a:b", "a", "-", "."] {
            assert_eq!(place(local), (None, local));
        }
    }
}
