//! `lap cache-mount`: the directories of `RUN --mount=type=cache`.

use std::process::ExitCode;

use engine::cache_mounts::{CacheMountImport, CacheMountInfo};
use serde_json::{Value, json};

use super::{StoreChoice, now, open, transfer};
use crate::cache_mount_args::{
    CacheMountCommand, CacheMountExportArgs, CacheMountImportArgs, CacheMountLsArgs, CacheMountNames,
    CacheMountRmArgs,
};
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::terminal::{print, print_line};
use crate::{signals, table, units};

/// How much of a name is shown, in characters.
const SHORT: usize = 12;

/// Carries out a command.
pub(crate) fn dispatch(store: &StoreChoice, command: &CacheMountCommand) -> Result<ExitCode, CliError> {
    match command {
        CacheMountCommand::Ls(args) => list(store, args),
        CacheMountCommand::Inspect(args) => inspect(store, args),
        CacheMountCommand::Rm(args) => remove(store, args),
        CacheMountCommand::Export(args) => export(store, args),
        CacheMountCommand::Import(args) => import(store, args),
    }
}

fn list(store: &StoreChoice, args: &CacheMountLsArgs) -> Result<ExitCode, CliError> {
    let mounts = open(store)?.cache_mounts()?;
    if args.quiet {
        mounts.iter().for_each(|mount| print_line(&mount.directory));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(format) = &args.format {
        let columns = Columns { template: "{{.ID}}\t{{.Name}}\t{{.Size}}", titles: &[] };
        listing::show(&mounts.iter().map(fields).collect::<Vec<_>>(), Some(format), &columns)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |mount: &CacheMountInfo| {
        vec![
            mount.id.clone(),
            mount.directory.chars().take(SHORT).collect(),
            units::bytes(mount.size),
            format!("{} ago", units::age(mount.created_at, now())),
            format!("{} ago", units::age(mount.last_used, now())),
            mount.in_use.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = mounts.iter().map(row).collect();
    print(&table::render(&["ID", "NAME", "SIZE", "CREATED", "LAST USED", "IN USE"], &rows));
    Ok(ExitCode::SUCCESS)
}

fn fields(mount: &CacheMountInfo) -> Value {
    json!({
        "ID": mount.id,
        "Name": mount.directory,
        "Size": units::bytes(mount.size),
        "Bytes": mount.size,
        "CreatedAt": mount.created_at,
        "LastUsedAt": mount.last_used,
        "InUse": mount.in_use,
    })
}

fn inspect(store: &StoreChoice, args: &CacheMountNames) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let mut found = Vec::new();
    for name in &args.mounts {
        found.extend(engine.find_cache_mounts(name)?.iter().map(fields));
    }
    print_line(&serde_json::to_string_pretty(&found).unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}

fn remove(store: &StoreChoice, args: &CacheMountRmArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let mut mounts = Vec::new();
    if args.all {
        mounts.extend(engine.cache_mounts()?.into_iter().filter(|mount| !mount.in_use));
    }
    for name in &args.mounts {
        mounts.extend(engine.find_cache_mounts(name)?);
    }
    for mount in mounts {
        engine.remove_cache_mount(&mount)?;
        print_line(&mount.id);
    }
    Ok(ExitCode::SUCCESS)
}

fn export(store: &StoreChoice, args: &CacheMountExportArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let destination = transfer::destination(args.output.as_deref())?;
    let engine = open(store)?;
    let mounts = engine.find_cache_mounts(&args.mount)?;
    let [mount] = &mounts[..] else {
        let message = format!("there are {} cache mounts {}", mounts.len(), args.mount);
        return Err(CliError::usage(message, "say which by its name, as lap cache-mount ls prints it"));
    };
    engine.export_cache_mount(mount, &destination, &cancel)?;
    Ok(ExitCode::SUCCESS)
}

fn import(store: &StoreChoice, args: &CacheMountImportArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let CacheMountImportArgs { archive, id, uid, gid, mode } = args;
    let request =
        CacheMountImport { id: id.clone(), archive: archive.clone(), uid: *uid, gid: *gid, mode: *mode };
    open(store)?.import_cache_mount(&request, &cancel)?;
    print_line(id);
    Ok(ExitCode::SUCCESS)
}
