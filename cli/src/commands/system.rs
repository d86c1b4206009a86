//! `lap version`, `lap info` and `lap system df`

use std::process::ExitCode;

use base::Platform;
use engine::report::{Info, UsageLine};
use serde_json::{Value, json};

use super::{StoreChoice, open};
use crate::args::FormatArgs;
use crate::error::CliError;
use crate::terminal::{print, print_line};
use crate::{table, template, units};

/// Shows the version.
pub(crate) fn version(args: &FormatArgs) -> Result<ExitCode, CliError> {
    let platform = Platform::host();
    let version = env!("CARGO_PKG_VERSION");
    let client = json!({"Version": version, "Os": platform.os, "Arch": platform.architecture});
    let value = json!({"Client": client, "Server": client});
    match &args.format {
        Some(format) => print_line(&template::fill(format, &value)?),
        None => print_line(&format!(
            "Lapstrake\n Version:    {version}\n OS/Arch:    {platform}\n Daemon:     none needed"
        )),
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the machine and the store.
pub(crate) fn info(store: &StoreChoice, args: &FormatArgs) -> Result<ExitCode, CliError> {
    let info = open(store)?.info()?;
    match &args.format {
        Some(format) => print_line(&template::fill(format, &info_json(&info))?),
        None => print(&info_text(&info)),
    }
    Ok(ExitCode::SUCCESS)
}

fn info_json(info: &Info) -> Value {
    json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "DockerRootDir": info.root,
        "Driver": info.driver,
        "Images": info.images,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "OSType": info.platform.os,
        "Architecture": info.platform.architecture,
        "NCPU": info.cpus,
        "MemTotal": info.memory,
        "Name": info.hostname,
    })
}

fn info_text(info: &Info) -> String {
    let rights = if info.root_user { "root" } else { "an ordinary user" };
    let rows = [
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("Store", info.root.display().to_string()),
        ("Storage Driver", info.driver.clone()),
        ("Images", info.images.to_string()),
        ("Running as", rights.to_owned()),
        ("Kernel Version", info.kernel.clone()),
        ("Operating System", info.operating_system.clone()),
        ("OSType", info.platform.os.clone()),
        ("Architecture", info.platform.architecture.clone()),
        ("CPUs", info.cpus.to_string()),
        ("Total Memory", units::bytes(info.memory)),
        ("Name", info.hostname.clone()),
    ];
    rows.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}

/// Shows how much space is used.
pub(crate) fn df(store: &StoreChoice, args: &FormatArgs) -> Result<ExitCode, CliError> {
    let usage = open(store)?.usage()?;
    let kinds = [
        ("Images", usage.images),
        ("Containers", usage.containers),
        ("Build Cache", usage.build_cache),
        ("Cache Mounts", usage.cache_mounts),
    ];
    if let Some(format) = &args.format {
        for (name, line) in &kinds {
            print_line(&template::fill(format, &usage_json(name, line))?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = kinds.iter().map(|(name, line)| usage_row(name, line)).collect();
    print(&table::render(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], &rows));
    Ok(ExitCode::SUCCESS)
}

fn usage_row(name: &str, line: &UsageLine) -> Vec<String> {
    vec![
        name.to_owned(),
        line.total.to_string(),
        line.active.to_string(),
        units::bytes(line.size),
        reclaimable(line),
    ]
}

fn reclaimable(line: &UsageLine) -> String {
    let amount = units::bytes(line.reclaimable);
    match line.size {
        0 => amount,
        size => format!("{amount} ({}%)", line.reclaimable * 100 / size),
    }
}

fn usage_json(name: &str, line: &UsageLine) -> Value {
    json!({
        "Type": name,
        "TotalCount": line.total.to_string(),
        "Active": line.active.to_string(),
        "Size": units::bytes(line.size),
        "Reclaimable": reclaimable(line),
    })
}
