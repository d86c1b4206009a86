//! Flags of Docker that mean little or nothing here. Some do no harm and are taken, so that scripts go on working; those that would
//! change what happens are refused by name.

use std::collections::BTreeMap;

use clap::{ArgAction, Args};

use crate::error::CliError;
use crate::pairs::pairs;
use crate::terminal::complain;

/// Names of runtimes that stand for the usual one.
const USUAL_RUNTIMES: [&str; 4] = ["lap", "runc", "crun", "io.containerd.runc.v2"];

/// The vendor's name of graphics cards in the Container Device Interface.
const CARDS: &str = "nvidia.com/gpu";

// Images are not signed that way.
#[derive(Debug, Args)]
pub(crate) struct ContentTrustArg {
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    disable_content_trust: Option<bool>,
}

// Of `lap run` and `lap create`.
#[derive(Debug, Args)]
pub(crate) struct DockerRunArgs {
    /// Print nothing about fetching the image
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Note something at the container for other programs
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    annotations: Vec<String>,

    /// Graphics cards: all, a number, or device=ID,…; they have to be described as devices of nvidia.com/gpu
    #[arg(long, value_name = "CARDS")]
    gpus: Option<String>,

    /// The runtime is our own; runc is taken as its name
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    runtime: Option<String>,

    #[command(flatten)]
    content_trust: ContentTrustArg,
    #[arg(long, hide = true)]
    storage_opt: Vec<String>,
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    use_api_socket: bool,
    #[arg(long, hide = true)]
    cpu_count: Option<String>,
    #[arg(long, hide = true)]
    cpu_percent: Option<String>,
    #[arg(long, hide = true)]
    io_maxbandwidth: Option<String>,
    #[arg(long, hide = true)]
    io_maxiops: Option<String>,
}

impl DockerRunArgs {
    /// Refuses what would be another container than the one that was asked for.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        if let Some(runtime) = self.runtime.as_deref().filter(|name| !USUAL_RUNTIMES.contains(name)) {
            let hint = "containers run in our own runtime; leave --runtime out";
            return Err(CliError::usage(format!("unknown or invalid runtime name: {runtime}"), hint));
        }
        if !self.storage_opt.is_empty() {
            let message = "--storage-opt is not supported: the store has no quotas for containers";
            return Err(CliError::usage(
                message.to_owned(),
                "limit writing with --tmpfs PATH:size=… or --read-only",
            ));
        }
        if self.use_api_socket {
            let message = "--use-api-socket needs the socket of a daemon, and there is none";
            return Err(CliError::usage(message.to_owned(), "show one with -v if another program makes it"));
        }
        let windows = [
            ("--cpu-count", &self.cpu_count),
            ("--cpu-percent", &self.cpu_percent),
            ("--io-maxbandwidth", &self.io_maxbandwidth),
            ("--io-maxiops", &self.io_maxiops),
        ];
        if let Some((flag, _)) = windows.iter().find(|(_, value)| value.is_some()) {
            let hint = "on Linux there are --cpus, --device-read-bps and --device-read-iops";
            return Err(CliError::usage(format!("{flag} is for containers of Windows"), hint));
        }
        Ok(())
    }

    /// What is noted at the container.
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        pairs(&self.annotations)
    }

    /// The graphics cards, as devices that are described.
    pub(crate) fn cards(&self) -> Result<Vec<String>, CliError> {
        let Some(text) = &self.gpus else { return Ok(Vec::new()) };
        let bad = || {
            let hint = "write --gpus all, --gpus 2 or --gpus device=0,1";
            CliError::usage(format!("invalid value for --gpus: {text}"), hint)
        };
        let text = text.trim_matches('"');
        let named = |id: &str| format!("{CARDS}={id}");
        let fields: Vec<&str> = text.split(',').collect();
        let mut devices = Vec::new();
        // An id may follow a comma, as another field may.
        let mut of_devices = false;
        for field in fields {
            match field.split_once('=') {
                Some(("device", id)) if !id.is_empty() => {
                    of_devices = true;
                    devices.push(named(id));
                }
                Some(("count", "all")) => devices.push(named("all")),
                Some(("count", count)) => {
                    devices.extend(counted(count).ok_or_else(bad)?.map(|id| named(&id)))
                }
                Some(("capabilities" | "driver" | "options", _)) => of_devices = false,
                Some(_) => return Err(bad()),
                None if of_devices && !field.is_empty() => devices.push(named(field)),
                None if field == "all" || field == "-1" => devices.push(named("all")),
                None => devices.extend(counted(field).ok_or_else(bad)?.map(|id| named(&id))),
            }
        }
        Ok(devices)
    }
}

/// The ids of so many cards.
fn counted(text: &str) -> Option<impl Iterator<Item = String> + use<>> {
    let count: u32 = text.parse().ok().filter(|count| *count <= 64)?;
    Some((0..count).map(|id| id.to_string()))
}

// Of `lap build`.
#[derive(Debug, Args)]
pub(crate) struct DockerBuildArgs {
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    rm: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    force_rm: Option<bool>,
    #[arg(long, hide = true)]
    compress: bool,
    #[command(flatten)]
    content_trust: ContentTrustArg,
    #[arg(long, hide = true)]
    security_opt: Vec<String>,
    #[arg(long, hide = true)]
    squash: bool,
}

impl DockerBuildArgs {
    /// Refuses what would be another image than the one that was asked for.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        if !self.security_opt.is_empty() {
            complain("WARNING: --security-opt has no effect on builds, as with BuildKit");
        }
        if self.squash {
            let message = "--squash is not supported: BuildKit's builders have it neither, and Docker's old builder only as an experiment";
            let hint = "for one layer, copy what you need into a last stage: FROM scratch, then COPY --from=STAGE / /; or flatten a container: \
                        lap export CONTAINER | lap import - NAME";
            return Err(CliError::usage(message.to_owned(), hint));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Run {
        #[command(flatten)]
        args: DockerRunArgs,
    }

    fn parsed(words: &[&str]) -> DockerRunArgs {
        Run::parse_from([&["run"], words].concat()).args
    }

    #[test]
    fn cards_are_devices_by_number_or_name() {
        let cards = |text: &str| {
            let found = parsed(&["--gpus", text]).cards().map_err(|error| error.message().to_owned())?;
            Ok::<_, String>(found.iter().map(|name| name.replace("nvidia.com/gpu=", "")).collect::<Vec<_>>())
        };
        assert_eq!(cards("all").unwrap(), ["all"]);
        assert_eq!(cards("2").unwrap(), ["0", "1"]);
        assert_eq!(cards("\"device=0,GPU-1a,capabilities=utility\"").unwrap(), ["0", "GPU-1a"]);
        assert_eq!(cards("count=1,capabilities=compute").unwrap(), ["0"]);
        for bad in ["some", "device=", "colour=red", "1000000"] {
            assert!(cards(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_would_be_another_container_is_refused() {
        for fine in [&[][..], &["--runtime=runc", "--disable-content-trust"]] {
            assert!(parsed(fine).check().is_ok(), "{fine:?}");
        }
        for bad in ["--runtime=nvidia", "--storage-opt=size=1G", "--cpu-count=2", "--use-api-socket"] {
            assert!(parsed(&[bad]).check().is_err(), "{bad}");
        }
    }
}
