//! The flags of `lap run` that say what is done about a container while it runs. Names and meanings are Docker's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use engine::request::{HealthChoice, RestartPolicy, Supervision};

use crate::container_args::DetachKeysArg;
use crate::error::CliError;
use crate::log_driver_args::{self, Known};
use crate::pairs::pair;

#[derive(Debug, Args)]
#[command(next_help_heading = "Supervision")]
pub(crate) struct SupervisionArgs {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Connect only to stdin, stdout or stderr; may be given more than once
    #[arg(short, long, value_name = "STREAM", conflicts_with = "detach", ignore_case = true,
          value_parser = ["stdin", "stdout", "stderr"])]
    attach: Vec<String>,

    #[command(flatten)]
    detach_keys: DetachKeysArg,

    /// Pass signals on to the container
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,

    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,

    /// Add a label to the container
    #[arg(short, long = "label", value_name = "NAME[=VALUE]")]
    labels: Vec<String>,

    /// Add labels from a file of NAME=VALUE lines
    #[arg(long = "label-file", value_name = "FILE")]
    label_files: Vec<PathBuf>,

    /// Where output goes: json-file, local, syslog, journald, gelf, fluentd or none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,

    /// An option of the driver, such as max-size=10m, tag={{.Name}} or syslog-address=udp://HOST
    #[arg(long = "log-opt", value_name = "NAME=VALUE")]
    log_options: Vec<String>,

    /// When to start the container again: no, on-failure[:count], always or unless-stopped
    #[arg(long, default_value = "no", value_name = "POLICY")]
    restart: RestartPolicy,

    /// Have a first process that passes signals on and collects processes that nobody waits for
    #[arg(long)]
    init: bool,

    /// The signal that asks the container to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,

    /// Seconds until the container is killed that was asked to end; -1 is never
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,

    /// A command that finds out whether the container is well
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,

    /// Time between two checks
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_interval: Option<Duration>,

    /// How many failures in a row make the container unhealthy
    #[arg(long, value_name = "COUNT")]
    health_retries: Option<u32>,

    /// Time after the start in which failures do not count
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_start_period: Option<Duration>,

    /// Time between two checks in that time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_start_interval: Option<Duration>,

    /// Time that a check may take
    #[arg(long, value_name = "TIME", value_parser = duration)]
    health_timeout: Option<Duration>,

    /// Do not check the container's health, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    base::time::parse_duration(text).ok_or("write a time such as 30s or 1m30s")
}

impl SupervisionArgs {
    /// What the flags mean. `env` is what the container's variables are, for `--log-opt env`.
    pub(crate) fn supervision(self, remove: bool, env: &[String]) -> Result<Supervision, CliError> {
        if remove && self.restart != RestartPolicy::No {
            let message = "conflicting options: cannot specify both --restart and --rm".to_owned();
            return Err(CliError::usage(message, "leave one of them out"));
        }
        let labels = self.labels()?;
        Ok(Supervision {
            log: log_driver_args::parse(
                self.log_driver.as_deref(),
                &self.log_options,
                &Known { labels: &labels, env },
            )?,
            labels,
            annotations: BTreeMap::new(),
            detach: self.detach,
            attach: self.attached(),
            detach_keys: self.detach_keys.keys()?,
            forward_signals: self.sig_proxy,
            restart: self.restart,
            init: self.init,
            health: HealthChoice {
                disabled: self.no_healthcheck,
                test: self.health_cmd.map(|line| vec!["CMD-SHELL".to_owned(), line]),
                interval: self.health_interval,
                timeout: self.health_timeout,
                start_period: self.health_start_period,
                start_interval: self.health_start_interval,
                retries: self.health_retries,
            },
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            streams: None,
        })
    }

    fn attached(&self) -> Option<[bool; 3]> {
        let named = |name: &str| self.attach.iter().any(|stream| stream.eq_ignore_ascii_case(name));
        (!self.attach.is_empty()).then(|| ["stdin", "stdout", "stderr"].map(named))
    }

    fn labels(&self) -> Result<BTreeMap<String, String>, CliError> {
        let mut labels = BTreeMap::new();
        for file in &self.label_files {
            labels.extend(label_file(file)?);
        }
        labels.extend(self.labels.iter().map(|text| pair(text)));
        Ok(labels)
    }
}

fn label_file(path: &Path) -> Result<Vec<(String, String)>, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = "give the path of a text file with NAME=VALUE lines";
        CliError::usage(format!("cannot read the label file {}: {error}", path.display()), hint)
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use engine::request::LogDriver;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: SupervisionArgs,
    }

    fn parse(args: &[&str]) -> Result<Supervision, CliError> {
        let command = Command::parse_from(["run"].iter().chain(args));
        command.args.supervision(false, &["A=1".to_owned(), "B=2".to_owned()])
    }

    #[test]
    fn log_options_are_dockers() {
        assert_eq!(parse(&[]).unwrap().log, None);
        let args = ["--log-opt", "max-size=10m", "--log-opt", "max-file=3", "--log-opt", "env=A,C"];
        let log = parse(&args).unwrap().log.unwrap();
        assert_eq!((log.driver, log.max_size, log.max_files), (LogDriver::JsonFile, Some(10 << 20), 3));
        assert_eq!(log.attributes, BTreeMap::from([("A".to_owned(), "1".to_owned())]));
        for bad in ["max-size=x", "max-size=0", "max-file=0", "max-file=2", "colour=red"] {
            assert!(parse(&["--log-opt", bad]).is_err(), "{bad}");
        }
        assert_eq!(parse(&["--log-driver", "none"]).unwrap().log.unwrap().driver, LogDriver::None);
    }

    #[test]
    fn what_ends_for_good_is_not_started_again() {
        let command = Command::parse_from(["run", "--restart", "always"]);
        assert!(command.args.supervision(true, &[]).is_err());
        let kept =
            parse(&["--restart", "on-failure:3", "--stop-timeout", "-1", "-l", "a=b", "-l", "c"]).unwrap();
        assert_eq!((kept.restart, kept.stop_timeout), (RestartPolicy::OnFailure { most: 3 }, Some(-1)));
        assert_eq!(kept.labels.len(), 2);
    }
}
