//! `lap version`, `lap info`, `lap system doctor` and `lap doctor REGISTRY`

use std::process::ExitCode;

use base::Platform;
use docker::documents;
use engine::containers::{Container, Status};
use engine::doctor::{Finding, Level};
use engine::report::Info;
use serde_json::json;

use super::{StoreChoice, login, open};
use crate::args::FormatArgs;
use crate::error::{CliError, FAILED};
use crate::registry_args::DoctorArgs;
use crate::signals;
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
    let engine = open(store)?;
    let info = engine.info()?;
    let containers = engine.containers()?;
    match &args.format {
        Some(format) => {
            let mut value = documents::system::info(&info, &containers);
            // Docker's is about Windows.
            value["Isolation"] = value["IsolationOfContainers"].take();
            print_line(&template::fill(format, &value)?);
        }
        None => print(&info_text(&info, &containers)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells what could be better, and how. The exit status is 1 if something does not work. With `fix`, what networks
/// left behind is removed.
pub(crate) fn doctor(store: &StoreChoice, fix: bool) -> Result<ExitCode, CliError> {
    let mut findings = engine::doctor::examine(store.isolation.as_ref().map_err(AsRef::as_ref));
    match open(store) {
        Ok(engine) => {
            findings.push(Finding::fine(format!("the store is {}", engine.root().display())));
            findings.extend(engine.examine_networks(fix));
        }
        Err(error) => findings.push(Finding::broken(error.message(), "choose another directory with --root")),
    }
    findings.iter().for_each(|finding| print(&finding_text(finding)));
    let broken = findings.iter().any(|finding| finding.level == Level::Broken);
    Ok(if broken { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// Looks at a registry, or at the machine. The exit status is 1 if something does not work.
pub(crate) fn doctor_of(store: &StoreChoice, args: &DoctorArgs) -> Result<ExitCode, CliError> {
    let Some(registry) = &args.registry else { return doctor(store, args.fix) };
    let cancel = signals::cancel_token();
    let registry = login::registry_name(Some(registry))?;
    let findings = open(store)?.examine_registry(&registry, &cancel)?;
    findings.iter().for_each(|finding| print(&finding_text(finding)));
    let broken = findings.iter().any(|finding| finding.level == Level::Broken);
    Ok(if broken { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn finding_text(finding: &Finding) -> String {
    let mark = match finding.level {
        Level::Fine => "ok     ",
        Level::Better => "better ",
        Level::Broken => "BROKEN ",
    };
    let remedy: String = finding.remedy.lines().map(|line| format!("         {line}\n")).collect();
    format!("{mark}{}\n{remedy}", finding.what)
}

/// How many containers are in a status that fits.
fn count(containers: &[Container], fits: impl Fn(Status) -> bool) -> usize {
    containers.iter().filter(|container| fits(container.state.status)).count()
}

fn info_text(info: &Info, containers: &[Container]) -> String {
    let limits = if info.limits.is_empty() { "none".to_owned() } else { info.limits.join(", ") };
    let mut rows = vec![
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("Store", info.root.display().to_string()),
        ("Storage Driver", info.driver.clone()),
        ("Containers", containers.len().to_string()),
        (" Running", count(containers, |status| status == Status::Running).to_string()),
        (" Paused", count(containers, |status| status == Status::Paused).to_string()),
        (" Stopped", count(containers, |status| !status.is_live()).to_string()),
        ("Images", info.images.to_string()),
        ("Runtime Directory", info.runtime_directory.display().to_string()),
        ("Isolation", info.isolation.as_ref().map_or_else(|why| why.clone(), |found| found.mode.to_string())),
        ("Kernel Version", info.kernel.clone()),
        ("Operating System", info.operating_system.clone()),
        ("OSType", info.platform.os.clone()),
        ("Architecture", info.platform.architecture.clone()),
        ("CPUs", info.cpus.to_string()),
        ("Total Memory", units::bytes(info.memory)),
        ("Name", info.hostname.clone()),
        ("User Ids", info.user_ids.to_string()),
        ("Cgroup Version", info.cgroup_version.to_owned()),
        ("Limits", limits),
    ];
    let gaps = info.isolation.iter().flat_map(|isolation| &isolation.gaps);
    rows.extend(gaps.map(|gap| ("Missing", format!("{} ({})", gap.what(), gap.why()))));
    rows.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}
