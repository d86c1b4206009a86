//! `lap registry serve`

use std::process::ExitCode;
use std::sync::Arc;

use engine::serve::{Listening, RecordLimits, ServeRequest};

use super::{StoreChoice, open};
use crate::error::CliError;
use crate::registry_args::{RegistryCommand, ServeArgs};
use crate::retention::AutoCollect;
use crate::terminal::{complain, print_line};
use crate::{config_file, signals};

pub(crate) fn dispatch(store: &StoreChoice, command: RegistryCommand) -> Result<ExitCode, CliError> {
    match command {
        RegistryCommand::Serve(args) => serve(store, args),
    }
}

/// Serves until it is told to stop. The first line of output says where.
fn serve(store: &StoreChoice, args: ServeArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let automatic = AutoCollect::new(config_file::read()?.retention)?;
    let engine = open(store)?;
    let is_open = args.auth.is_none() && !args.read_only && !args.addr.ip().is_loopback();
    let request = ServeRequest {
        address: args.addr,
        name: args.name,
        read_only: args.read_only,
        accounts: args.auth,
        records: RecordLimits {
            unused: Some(args.cache_keep).filter(|time| !time.is_zero()),
            size: Some(args.cache_size).filter(|bytes| *bytes > 0),
        },
        tls: args.tls_cert.zip(args.tls_key),
        report: Arc::new(complain),
    };
    let listening = |listening: &Listening| {
        print_line(&format!("Listening on {} as {}", listening.url, listening.name));
        if is_open {
            complain("warning: everybody who reaches this address may push; see --auth and --read-only");
        }
    };
    engine.serve(&request, listening, || automatic.collect_if_due(&engine), &cancel)?;
    Ok(ExitCode::SUCCESS)
}
