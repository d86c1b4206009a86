//! `lap volume`: directories that outlive containers.

use std::process::ExitCode;

use engine::request::VolumeSettings;
use engine::volumes::{DRIVER, VolumeUsage};
use serde_json::{Value, json};

use super::containers::{each, show};
use super::{StoreChoice, now, open, prune};
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::mount_args;
use crate::pairs::pairs;
use crate::terminal::{print, print_line};
use crate::volume_args::{
    VolumeCommand, VolumeCreateArgs, VolumeInspectArgs, VolumeLsArgs, VolumePruneArgs, VolumeRmArgs,
};
use crate::{table, units};
use docker::documents;
use docker::filters::Filters;
use docker::filters::volumes::VolumeFilters;

const ANONYMOUS: &str =
    "WARNING! This will remove anonymous local volumes not used by at least one container.\n";
const ALL: &str = "WARNING! This will remove all local volumes not used by at least one container.\n";

/// Carries out a command.
pub(crate) fn dispatch(store: &StoreChoice, command: &VolumeCommand) -> Result<ExitCode, CliError> {
    match command {
        VolumeCommand::Create(args) => create(store, args),
        VolumeCommand::Ls(args) => list(store, args),
        VolumeCommand::Inspect(args) => inspect(store, args),
        VolumeCommand::Rm(args) => remove(store, args),
        VolumeCommand::Prune(args) => prune_volumes(store, args),
    }
}

fn create(store: &StoreChoice, args: &VolumeCreateArgs) -> Result<ExitCode, CliError> {
    let settings = settings(args)?;
    let volume = open(store)?.create_volume(args.name.as_deref(), &settings)?;
    print_line(&volume.name);
    Ok(ExitCode::SUCCESS)
}

/// What the flags mean.
pub(super) fn settings(args: &VolumeCreateArgs) -> Result<VolumeSettings, CliError> {
    mount_args::driver(&args.driver).map_err(CliError::failed)?;
    Ok(VolumeSettings { labels: pairs(&args.labels), options: pairs(&args.options) })
}

fn list(store: &StoreChoice, args: &VolumeLsArgs) -> Result<ExitCode, CliError> {
    let filters = VolumeFilters::parse(&args.filters)?;
    let engine = open(store)?;
    let mut volumes = Vec::new();
    for volume in engine.volumes()? {
        if filters.fit(&engine, &volume)? {
            volumes.push(volume);
        }
    }
    if args.quiet {
        volumes.iter().for_each(|volume| print_line(&volume.name));
    } else if let Some(format) = args.format.as_deref().filter(|format| *format != "table") {
        let rows = volumes.iter().map(|volume| Ok(row(&engine.volume_usage(volume)?)));
        let columns = Columns { template: "{{.Driver}}\t{{.Name}}", titles: &[("Name", "VOLUME NAME")] };
        listing::show(&rows.collect::<Result<Vec<_>, CliError>>()?, Some(format), &columns)?;
    } else {
        let rows: Vec<Vec<String>> =
            volumes.into_iter().map(|volume| vec![DRIVER.to_owned(), volume.name]).collect();
        print(&table::render(&["DRIVER", "VOLUME NAME"], &rows));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a format can use, with Docker's names.
fn row(usage: &VolumeUsage) -> Value {
    let VolumeUsage { volume, users, bytes } = usage;
    let labels: Vec<String> = volume.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "Availability": "N/A",
        "Driver": DRIVER,
        "Group": "N/A",
        "Label": volume.labels,
        "Labels": labels.join(","),
        "Links": users.len().to_string(),
        "Mountpoint": volume.mountpoint.display().to_string(),
        "Name": volume.name,
        "Scope": "local",
        "Size": units::bytes(*bytes),
        "Status": "N/A",
    })
}

fn inspect(store: &StoreChoice, args: &VolumeInspectArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    show(&args.volumes, args.format.as_deref(), |name| {
        Ok(documents::volumes::document(&engine.volume(name)?))
    })
}

fn remove(store: &StoreChoice, args: &VolumeRmArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    each(&args.volumes, |name| match engine.remove_volume(name) {
        Err(error) if args.force && error.is_missing_volume() => Ok(()),
        result => result,
    })
}

fn prune_volumes(store: &StoreChoice, args: &VolumePruneArgs) -> Result<ExitCode, CliError> {
    // Docker's older way to say --all.
    let (all, filters): (Vec<String>, Vec<String>) = args
        .common
        .filters
        .iter()
        .cloned()
        .partition(|filter| matches!(filter.as_str(), "all=true" | "all=1"));
    let filters = Filters::parse_for_images(&filters, now())?;
    let all = args.all || !all.is_empty();
    prune::confirm(if all { ALL } else { ANONYMOUS }, &args.common, "volume prune")?;
    let (removed, bytes) = open(store)?.prune_volumes(|volume| {
        (all || volume.anonymous) && filters.labels.iter().all(|label| label.fits(&volume.labels))
    })?;
    prune::show_names("Deleted Volumes:", &removed);
    print_line(&format!("Total reclaimed space: {}", units::bytes(bytes)));
    Ok(ExitCode::SUCCESS)
}
