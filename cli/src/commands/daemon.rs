//! `lap daemon`

use std::process::ExitCode;

use daemon::{Address, Options};
use nix::unistd::Group;

use super::{StoreChoice, open};
use crate::daemon_args::DaemonArgs;
use crate::error::CliError;
use crate::terminal::complain;
use crate::{build_flags, signals};

/// Serves until a signal.
pub(super) fn run(store: &StoreChoice, args: &DaemonArgs) -> Result<ExitCode, CliError> {
    let stop = signals::cancel_token();
    let parse = |text: &String| {
        let hint = "for example unix:///run/lapstrake/buildkit.sock";
        text.parse().map_err(|error: daemon::AddressError| CliError::usage(error.to_string(), hint))
    };
    let mut addresses: Vec<Address> = args.addresses.iter().map(parse).collect::<Result<_, _>>()?;
    if let Some(address) = addresses.iter().find(|address| matches!(address, Address::Tcp(_)))
        && !args.insecure_tcp
    {
        let hint =
            "say --insecure-tcp if only those reach the port who may build here, or listen on a unix socket";
        return Err(CliError::usage(format!("anybody who reaches {address} could build as this user"), hint));
    }
    let group = args.group.as_deref().map(group).transpose()?;
    let allowed = build_flags::entitlements(&args.allow)?.into_iter().collect();
    let engine = open(store)?;
    if addresses.is_empty() {
        addresses.push(Address::Unix(engine.info()?.runtime_directory.join("buildkit.sock")));
    }
    let listening = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let options = Options { addresses, group, allowed };
    let served = daemon::serve(engine, &options, &stop, || complain(&format!("listening on {listening}")));
    served.map_err(|error| {
        let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
        CliError::failed(format!("{error}{why}"))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A group of this machine.
fn group(name: &str) -> Result<u32, CliError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = Group::from_name(name).ok().flatten();
    let missing = || {
        CliError::usage(format!("there is no group {name}"), "give a group of this machine, or its number")
    };
    found.map(|group| group.gid.as_raw()).ok_or_else(missing)
}
