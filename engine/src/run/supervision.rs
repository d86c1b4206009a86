//! What is done about a container while it runs, and what is remembered of how it was asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use base::image::{ContainerConfig, Healthcheck};
use runner::TtySize;
use runner::logs::{LogDriver, LogOptions};
use runner::request::GroupPlace;
use runner::shim::Config;
use runner::shim::health::HealthCheck;
use runner::shim::restart::RestartPolicy;

use crate::containers::{ContainerDocument, MountPoint};
use crate::error::EngineError;
use crate::manifest::Image;
use crate::network::exposed_ports;
use crate::request::{HealthChoice, RunRequest, VolumesFrom};
use crate::run::surroundings::Surroundings;

/// The signal that asks a container to end when nobody says otherwise.
const STOP_SIGNAL: &str = "SIGTERM";

/// A terminal whose size nobody knows.
pub(crate) const USUAL_SIZE: TtySize = TtySize { rows: 24, columns: 80 };

/// How often a check is made, and how long it may take, when nobody says (Docker).
const USUAL_PAUSE: Duration = Duration::from_secs(30);

/// How often a check is made in the start period when nobody says (Docker).
const USUAL_START_INTERVAL: Duration = Duration::from_secs(5);

/// How many failures are too many when nobody says (Docker).
const USUAL_RETRIES: u32 = 3;

/// What the supervisor is to run, and how.
pub(super) fn config(
    request: &RunRequest,
    image: &Image,
    process: runner::RunRequest,
    document: &ContainerDocument,
) -> Result<Config, EngineError> {
    let supervision = &request.supervision;
    let said = supervision.streams;
    let console = said.and_then(|said| said.console).map(|(rows, columns)| TtySize { rows, columns });
    let terminal = request.tty.then(|| console.or_else(runner::own_size).unwrap_or(USUAL_SIZE));
    // What is mounted once needs no care for its next mount.
    let once = request.remove && supervision.restart == RestartPolicy::No;
    // What goes on without us can be frozen and counted by others.
    let place = match process.group.clone() {
        GroupPlace::WhereLimited if !request.remove || supervision.detach => GroupPlace::Everywhere,
        place => place,
    };
    Ok(Config {
        request: runner::RunRequest { volatile_root: once, transient_root: once, group: place, ..process },
        terminal,
        open_stdin: request.interactive,
        stdin_once: request.interactive
            && said.map_or(!request.tty && !supervision.detach, |said| said.once && !request.tty),
        log: document.log.clone(),
        restart: supervision.restart,
        health: health(&image.config.config, &supervision.health),
        stop_signal: runner::signal::parse(&document.stop_signal)?,
        stop_timeout: supervision.stop_timeout,
        remove: request.remove,
    })
}

/// How the container was asked for.
pub(super) fn document(
    request: &RunRequest,
    image: &Image,
    process: &runner::RunRequest,
    surroundings: &Surroundings,
    mounts: Vec<MountPoint>,
    starts_at_once: bool,
) -> ContainerDocument {
    let supervision = &request.supervision;
    let config = &image.config.config;
    let stop_signal = supervision.stop_signal.clone().unwrap_or_else(|| config.stop_signal.clone());
    ContainerDocument {
        image: request.image.clone(),
        command: process.args.get(usize::from(supervision.init)..).unwrap_or_default().to_vec(),
        entrypoint: request.entrypoint.clone().or_else(|| config.entrypoint.clone()),
        env: process.env.clone(),
        user: request.user.clone().unwrap_or_else(|| config.user.clone()),
        working_dir: process.cwd.clone(),
        hostname: process.hostname.clone().unwrap_or_default(),
        domainname: process.domainname.clone().unwrap_or_default(),
        labels: labels(config, &supervision.labels),
        annotations: supervision.annotations.clone(),
        tty: request.tty,
        open_stdin: request.interactive,
        network: surroundings.network_mode.clone(),
        pid_mode: surroundings.pid_mode.clone(),
        ipc_mode: surroundings.ipc_mode.clone(),
        hosts: surroundings.hosts.clone(),
        resolver: surroundings.resolver.clone(),
        publish: request.network.publish.clone(),
        exposed: exposed_ports(&request.network, config),
        publish_all: request.network.publish_exposed,
        volumes_from: request.volumes_from.iter().map(volumes_from).collect(),
        attached: !supervision.detach,
        streams: supervision.streams,
        mounts,
        remove: request.remove,
        starts_at_once,
        privileged: process.privileged,
        read_only: process.read_only_root,
        log: log(request),
        stop_signal: if stop_signal.is_empty() { STOP_SIGNAL.to_owned() } else { stop_signal },
        stop_timeout: supervision.stop_timeout,
        platform: image.config.platform().to_string(),
    }
}

/// As it is typed.
fn volumes_from(other: &VolumesFrom) -> String {
    match other.read_only {
        None => other.container.clone(),
        Some(true) => format!("{}:ro", other.container),
        Some(false) => format!("{}:rw", other.container),
    }
}

fn labels(config: &ContainerConfig, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    labels.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
    labels
}

/// A container in the foreground that goes at its end has somebody who reads its output, and nobody who could ask
/// for its log afterwards: it keeps none unless that was asked for.
fn log(request: &RunRequest) -> LogOptions {
    let supervision = &request.supervision;
    let unread = supervision.detach || supervision.attach.is_some() || !request.remove;
    let driver = if unread { LogDriver::JsonFile } else { LogDriver::None };
    supervision.log.clone().unwrap_or(LogOptions { driver, max_files: 1, ..LogOptions::default() })
}

/// The image's health check, changed as asked for.
fn health(config: &ContainerConfig, choice: &HealthChoice) -> Option<HealthCheck> {
    let image = config.healthcheck.clone().unwrap_or_default();
    let test = match &choice.test {
        _ if choice.disabled => return None,
        Some(test) => test.clone(),
        None => image.test.clone(),
    };
    let command = command(&test, &config.shell)?;
    let time = |given: Option<Duration>, nanoseconds: i64, usual: Duration| {
        let of_image = u64::try_from(nanoseconds).ok().filter(|count| *count > 0).map(Duration::from_nanos);
        given.filter(|given| !given.is_zero()).or(of_image).unwrap_or(usual)
    };
    let Healthcheck { interval, timeout, start_period, start_interval, retries, .. } = image;
    let retries = u32::try_from(retries).ok().filter(|count| *count > 0);
    Some(HealthCheck {
        command,
        interval: time(choice.interval, interval, USUAL_PAUSE),
        timeout: time(choice.timeout, timeout, USUAL_PAUSE),
        start_period: time(choice.start_period, start_period, Duration::ZERO),
        start_interval: time(choice.start_interval, start_interval, USUAL_START_INTERVAL),
        retries: choice.retries.filter(|count| *count > 0).or(retries).unwrap_or(USUAL_RETRIES),
    })
}

/// What a check's words execute, if anything (image-spec of Docker: `NONE`, `CMD …`, `CMD-SHELL line`).
fn command(test: &[String], shell: &[String]) -> Option<Vec<String>> {
    match test.split_first()? {
        (kind, words) if kind == "CMD" && !words.is_empty() => Some(words.to_vec()),
        (kind, [line, ..]) if kind == "CMD-SHELL" => {
            let usual = ["/bin/sh".to_owned(), "-c".to_owned()];
            let shell = if shell.is_empty() { &usual[..] } else { shell };
            Some(shell.iter().chain([line]).cloned().collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn checks_come_from_the_image_and_from_flags() {
        let check = Healthcheck {
            test: words(&["CMD", "check", "it"]),
            interval: 1_000_000_000,
            retries: 7,
            ..Healthcheck::default()
        };
        let config = ContainerConfig { healthcheck: Some(check), ..ContainerConfig::default() };
        let choice = HealthChoice { timeout: Some(Duration::from_secs(2)), ..HealthChoice::default() };
        let found = health(&config, &choice).unwrap();
        assert_eq!(found.command, ["check", "it"]);
        assert_eq!((found.interval.as_secs(), found.timeout.as_secs(), found.retries), (1, 2, 7));
        assert_eq!((found.start_period, found.start_interval), (Duration::ZERO, USUAL_START_INTERVAL));
        let line = HealthChoice { test: Some(words(&["CMD-SHELL", "a | b"])), ..HealthChoice::default() };
        assert_eq!(health(&config, &line).unwrap().command, ["/bin/sh", "-c", "a | b"]);
        assert_eq!(health(&config, &HealthChoice { disabled: true, ..line }), None);
    }

    #[test]
    fn an_image_may_have_no_check() {
        assert_eq!(health(&ContainerConfig::default(), &HealthChoice::default()), None);
        for test in [&["NONE"][..], &["CMD"], &["CMD-SHELL"], &[]] {
            assert_eq!(command(&words(test), &[]), None);
        }
        let shell = words(&["/bin/bash", "-ec"]);
        assert_eq!(command(&words(&["CMD-SHELL", "x"]), &shell).unwrap(), ["/bin/bash", "-ec", "x"]);
    }
}
