//! `lap logs`

use std::process::ExitCode;

use engine::containers::{LogsRequest, Record, Stream};
use engine::following::Follow as _;

use super::super::{StoreChoice, now, open};
use crate::container_args::LogsArgs;
use crate::error::CliError;
use crate::terminal::{print_bytes, print_error_bytes};

/// Prints what a container has written, each stream to ours.
pub(super) fn show(store: &StoreChoice, args: &LogsArgs) -> Result<ExitCode, CliError> {
    let selection = args.lines.selection(now())?;
    let request = LogsRequest { container: args.container.clone(), selection, follow: args.lines.follow };
    let mut logs = open(store)?.logs(&request)?;
    while let Some(record) = logs.next()? {
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

/// A record as it is shown. Times have nine digits, so that they are of one length.
fn line(record: &Record, args: &LogsArgs) -> String {
    let mut text = String::new();
    if args.lines.timestamps {
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
