//! `lap version` and `lap info`

use std::process::ExitCode;

use base::Platform;
use engine::report::Info;
use serde_json::{Value, json};

use super::{StoreChoice, open};
use crate::args::FormatArgs;
use crate::error::CliError;
use crate::terminal::{print, print_line};
use crate::{template, units};

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
