//! Which lines of logs are shown, as typed: the same for a container and for the services of a project.

use base::Timestamp;
use clap::Args;
use engine::request::Selection;

use crate::error::CliError;
use docker::filters::moment;

#[derive(Debug, Args)]
pub(crate) struct LogLinesArgs {
    /// Go on with what is written, until the end
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Only so many lines from the end of each log, or all
    #[arg(short = 'n', long, default_value = "all", value_name = "LINES")]
    tail: String,

    /// Only from then on: an age such as 10m, or a date such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only up to then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Show when each line was written
    #[arg(short, long)]
    pub(crate) timestamps: bool,
}

impl LogLinesArgs {
    /// What the flags mean at a moment.
    pub(crate) fn selection(&self, now: Timestamp) -> Result<Selection, CliError> {
        let time = |flag: &str, text: &Option<String>| {
            text.as_deref().map(|text| moment(&format!("{flag}={text}"), text, now)).transpose()
        };
        Ok(Selection {
            tail: tail(&self.tail)?,
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
        })
    }
}

/// `all`, or how many lines; what is less than none is all, as in Docker.
fn tail(text: &str) -> Result<Option<u64>, CliError> {
    if text == "all" {
        return Ok(None);
    }
    let number = text.parse::<i64>();
    number.map(|number| u64::try_from(number).ok()).map_err(|_| {
        CliError::usage(format!("--tail: \"{text}\" is not a number of lines"), "write a number, or all")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_numbers_or_all() {
        assert_eq!((tail("all").unwrap(), tail("3").unwrap(), tail("-1").unwrap()), (None, Some(3), None));
        assert!(tail("some").is_err());
    }
}
