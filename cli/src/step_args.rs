//! The flags of `lap build` that say how its steps are run.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use engine::request::{StepRule, StepRules};

use crate::units;

#[derive(Debug, Args)]
pub(crate) struct StepArgs {
    /// Add a line to /etc/hosts of every RUN
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub(crate) add_hosts: Vec<String>,

    /// Size of /dev/shm of every RUN, for example 256m
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) shm_size: Option<u64>,

    /// Limit what every RUN may use: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT")]
    pub(crate) ulimits: Vec<String>,

    /// Where devices for RUN --device are described [default: /etc/cdi, /var/run/cdi, /etc/buildkit/cdi]
    #[arg(long = "cdi-spec-dir", value_name = "DIR")]
    pub(crate) cdi_spec_dirs: Vec<PathBuf>,

    /// How long steps may take, as 10m, or 'PATTERN=10m' for those that fit; the last that fits counts
    ///
    /// A pattern is compared with the whole name of the stage, with the whole instruction ("RUN make") and with the
    /// step's whole name in the progress; * stands for any text and ? for any character. What takes longer is killed
    /// with all that it has started. Asking servers counts as well: what "ADD URL*" and "FROM image*" fit.
    #[arg(long = "timeout", value_name = "[PATTERN=]TIME", value_parser = rule_of_time, help_heading = STEPS)]
    pub(crate) timeouts: Vec<StepRule<Duration>>,

    /// How long steps may write nothing, and downloads receive nothing, as 5m or 'PATTERN=5m'
    #[arg(long = "idle-timeout", value_name = "[PATTERN=]TIME", value_parser = rule_of_time, help_heading = STEPS)]
    pub(crate) idle_timeouts: Vec<StepRule<Duration>>,

    /// How often steps that fail are tried again, as 2 or 'PATTERN=2'; each attempt begins with the same files
    #[arg(long = "retry", value_name = "[PATTERN=]COUNT", value_parser = rule_of_count, help_heading = STEPS)]
    pub(crate) retries: Vec<StepRule<u32>>,

    /// How many RUNs are at work at once [default: four for each core, at least eight]
    #[arg(long, value_name = "NUMBER", help_heading = STEPS)]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// When a step fails, still do all that does not depend on it, and tell all failures at the end
    #[arg(long, help_heading = STEPS)]
    pub(crate) keep_going: bool,
}

/// The heading over flags that say how steps are run.
const STEPS: &str = "Steps";

impl StepArgs {
    /// The rules for some of the steps.
    pub(crate) fn rules(&self) -> StepRules {
        StepRules {
            timeout: self.timeouts.clone(),
            idle_timeout: self.idle_timeouts.clone(),
            retry: self.retries.clone(),
        }
    }
}

fn rule_of_time(text: &str) -> Result<StepRule<Duration>, &'static str> {
    let value = |text: &str| base::time::parse_duration(text).filter(|time| !time.is_zero());
    rule(text, value).ok_or("write a time such as 30s or 1m30s, or PATTERN=30s")
}

fn rule_of_count(text: &str) -> Result<StepRule<u32>, &'static str> {
    rule(text, |text| text.parse().ok()).ok_or("write a number, or PATTERN=NUMBER")
}

/// A pattern may have an equals sign itself; a value has none.
fn rule<T>(text: &str, value: impl Fn(&str) -> Option<T>) -> Option<StepRule<T>> {
    let (pattern, text) = match text.rsplit_once('=') {
        Some((pattern, text)) => (Some(pattern.to_owned()), text),
        None => (None, text),
    };
    Some(StepRule { pattern, value: value(text)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_a_pattern_before_the_last_equals_sign() {
        let of = |text: &str| rule_of_time(text).ok().map(|rule| (rule.pattern, rule.value.as_secs()));
        assert_eq!(of("90s"), Some((None, 90)));
        assert_eq!(of("1m30s"), Some((None, 90)));
        assert_eq!(of("build=2m"), Some((Some("build".to_owned()), 120)));
        assert_eq!(of("RUN A=1 make*=1h"), Some((Some("RUN A=1 make*".to_owned()), 3600)));
        for bad in ["", "10", "0s", "build", "build=", "build=-1s", "1s=build"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(rule_of_count("test=3"), Ok(StepRule { pattern: Some("test".to_owned()), value: 3 }));
        assert!(rule_of_count("many").is_err() && rule_of_count("-1").is_err());
    }
}
