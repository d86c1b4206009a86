//! `lap registry serve`

use std::process::ExitCode;
use std::sync::Arc;

use base::image::Descriptor;
use engine::serve::{Listening, RecordLimits, ServeRequest};

use serde_json::json;

use super::{StoreChoice, open};
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::registry_args::{RegistryCommand, RegistryReferrersArgs, RegistryRmArgs, ServeArgs};
use crate::retention::AutoCollect;
use crate::terminal::{complain, print_line};
use crate::{config_file, signals};

pub(crate) fn dispatch(store: &StoreChoice, command: RegistryCommand) -> Result<ExitCode, CliError> {
    match command {
        RegistryCommand::Serve(args) => serve(store, args),
        RegistryCommand::Tags(args) => {
            let tags = open(store)?.remote_tags(&args.repository, &signals::cancel_token())?;
            tags.iter().for_each(|tag| print_line(tag));
            Ok(ExitCode::SUCCESS)
        }
        RegistryCommand::Referrers(args) => referrers(store, &args),
        RegistryCommand::Rm(args) => remove(store, &args),
    }
}

/// What refers to an image.
fn referrers(store: &StoreChoice, args: &RegistryReferrersArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let found = open(store)?.remote_referrers(&args.image, args.artifact_type.as_deref(), &cancel)?;
    let row = |entry: &Descriptor| {
        json!({
            "Digest": entry.digest.to_string(),
            "ArtifactType": entry.artifact_type.clone().unwrap_or_default(),
            "MediaType": entry.media_type,
            "Size": entry.size,
            "Annotations": entry.annotations,
        })
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    let template = "{{.Digest}}\t{{.ArtifactType}}\t{{.Size}}";
    listing::show(
        &rows,
        args.format.as_deref(),
        &Columns { template, titles: &[("ArtifactType", "ARTIFACT TYPE")] },
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Takes names away, all that can be.
fn remove(store: &StoreChoice, args: &RegistryRmArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    if let Some(name) = args.names.iter().find(|name| !base::reference::has_tag(name)) {
        let hint = "say which: NAME:TAG, or NAME@sha256:… for a manifest and all its tags";
        return Err(CliError::usage(format!("{name} has neither tag nor digest"), hint));
    }
    let engine = open(store)?;
    super::containers::each(&args.names, |name| {
        engine.delete_remote(name, &cancel)?;
        print_line(name);
        Ok(())
    })
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
