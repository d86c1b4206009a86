//! Commands of Docker that Lapstrake does not have: whoever types one is told why, and what to do instead.

use clap::error::{ContextKind, ContextValue};

use crate::error::CliError;

/// The commands, why they are not here, and what is instead.
const ABSENT: [(&[&str], &str, &str); 5] = [
    (
        &["swarm", "service", "stack", "node", "secret", "config"],
        "this machine is not part of a swarm, and lap cannot make it one",
        "lap compose runs the services of a Compose file on this machine, with their secrets and configs",
    ),
    (
        &["context"],
        "there is no daemon, and so nothing to switch between: commands work on the store of this machine",
        "--root or LAPSTRAKE_ROOT names another store",
    ),
    (&["plugin"], "lap has no plugins", "volumes have the driver local, networks bridge, macvlan and ipvlan"),
    (
        &["checkpoint"],
        "the memory of a container cannot be kept: that needs CRIU",
        "lap pause stops a container where it is, and lap commit keeps its files",
    ),
    (
        &["trust"],
        "images are not signed that way",
        "lap key signs what builders share, and digests pin images: NAME@sha256:…",
    ),
];

/// What to tell about a command that there is not; `None` if Docker has none of this name either.
pub(crate) fn explain(error: &clap::Error) -> Option<CliError> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let (_, why, instead) = ABSENT.iter().find(|(names, ..)| names.contains(&typed.as_str()))?;
    Some(CliError::failed_with_hint(format!("lap has no command {typed}: {why}"), instead))
}
