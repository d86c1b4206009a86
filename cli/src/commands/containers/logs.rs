//! `lap logs`

use std::process::ExitCode;

use engine::containers::{LogsRequest, Record, Stream};
use engine::request::Selection;

use super::super::{StoreChoice, now, open};
use crate::container_args::LogsArgs;
use crate::error::CliError;
use crate::filter::moment;
use crate::terminal::{print_bytes, print_error_bytes};

/// Prints what a container has written, each stream to ours.
pub(super) fn show(store: &StoreChoice, args: &LogsArgs) -> Result<ExitCode, CliError> {
    let time = |flag: &str, text: &Option<String>| {
        text.as_deref().map(|text| moment(&format!("{flag}={text}"), text, now())).transpose()
    };
    let selection = Selection {
        tail: tail(&args.tail)?,
        since: time("since", &args.since)?,
        until: time("until", &args.until)?,
    };
    let request = LogsRequest { container: args.container.clone(), selection, follow: args.follow };
    let mut logs = open(store)?.logs(&request)?;
    while let Some(record) = logs.read()? {
        let text = line(&record, args);
        let written = match record.stream {
            Stream::Stdout => print_bytes(text.as_bytes()),
            Stream::Stderr => print_error_bytes(text.as_bytes()),
        };
        if !written {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `all`, or how many lines; what is less than none is all, as in Docker.
pub(in crate::commands) fn tail(text: &str) -> Result<Option<u64>, CliError> {
    if text == "all" {
        return Ok(None);
    }
    let number = text.parse::<i64>();
    number.map(|number| u64::try_from(number).ok()).map_err(|_| {
        CliError::usage(format!("--tail: \"{text}\" is not a number of lines"), "write a number, or all")
    })
}

/// A record as it is shown. Times have nine digits, so that they are of one length.
fn line(record: &Record, args: &LogsArgs) -> String {
    let mut text = String::new();
    if args.timestamps {
        text.push_str(&format!("{:.9} ", record.time));
    }
    if args.details && !record.attributes.is_empty() {
        let attributes: Vec<String> =
            record.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        text.push_str(&attributes.join(","));
        text.push(' ');
    }
    text.push_str(&record.text);
    text
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
