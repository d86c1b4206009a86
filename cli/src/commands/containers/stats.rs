//! `lap stats`

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use engine::containers::{Measured, Reading};
use serde_json::{Value, json};

use super::super::{StoreChoice, open};
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::live_args::StatsArgs;
use crate::terminal::{complain, pause, print_bytes};
use crate::units;

const COLUMNS: Columns<'static> = Columns {
    template: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    titles: &[
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// The time between two readings; the first two are nearer.
const PAUSE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Shows what containers use, again and again.
pub(super) fn show(store: &StoreChoice, args: &StatsArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let measured = match (args.containers.as_slice(), args.all) {
        ([], false) => Measured::Running,
        ([], true) => Measured::All,
        (names, _) => Measured::These(names.to_vec()),
    };
    let is_terminal = std::io::stdout().is_terminal();
    let mut meter = engine.meter(measured)?;
    // A template that is none is told before anybody waits.
    let first = meter.read()?;
    text(&first, args)?;
    let mut wait = FIRST_PAUSE;
    let mut is_first = true;
    loop {
        pause(wait);
        wait = PAUSE;
        let readings = meter.read()?;
        if readings.is_empty() && !args.containers.is_empty() && !args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
        let shown = text(&readings, args)?;
        let estimated: Vec<&Reading> = readings.iter().filter(|reading| reading.is_estimated).collect();
        let note = if estimated.is_empty() { String::new() } else { note(&estimated) };
        let is_live = is_terminal && !args.no_stream;
        let printed = match is_live {
            true => print_bytes(redrawn(&format!("{shown}{note}"), is_first).as_bytes()),
            false => {
                if is_first && !note.is_empty() {
                    complain(note.trim_end());
                }
                print_bytes(shown.as_bytes())
            }
        };
        if args.no_stream || !printed {
            return Ok(ExitCode::SUCCESS);
        }
        is_first = false;
    }
}

/// What is said where figures are not those of a control group.
fn note(estimated: &[&Reading]) -> String {
    let names: Vec<&str> = estimated.iter().map(|reading| reading.name.as_str()).collect();
    let names = names.join(", ");
    format!("no control group counts all of {names}: figures are sums over processes that have not ended\n")
}

/// The same text in the place of what was there before: from the upper left corner, each line to its end, and nothing
/// below.
fn redrawn(text: &str, is_first: bool) -> String {
    let clear = if is_first { "\x1b[2J" } else { "" };
    format!("{clear}\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

fn text(readings: &[Reading], args: &StatsArgs) -> Result<String, CliError> {
    let rows: Vec<Value> = readings.iter().map(|reading| row(reading, args.no_trunc)).collect();
    listing::text(&rows, args.format.as_deref(), &COLUMNS)
}

/// What a format can use, with Docker's names.
fn row(reading: &Reading, whole: bool) -> Value {
    let pair = |(one, other): (u64, u64), show: fn(u64) -> String| format!("{} / {}", show(one), show(other));
    let (used, limit) = reading.memory;
    let processor = reading.processor.map_or_else(|| "--".to_owned(), |share| format!("{share:.2}%"));
    json!({
        "BlockIO": pair(reading.block_devices, units::bytes),
        "CPUPerc": processor,
        "Container": reading.asked,
        "ID": if whole { reading.id.clone() } else { reading.id.chars().take(12).collect() },
        "MemPerc": format!("{:.2}%", if limit == 0 { 0.0 } else { used as f64 * 100.0 / limit as f64 }),
        "MemUsage": pair(reading.memory, units::binary_bytes),
        "Name": reading.name,
        "NetIO": pair(reading.network, units::bytes),
        "PIDs": reading.processes.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        Reading {
            id: "0123456789abcdef".to_owned(),
            name: "web".to_owned(),
            asked: "0123".to_owned(),
            processor: Some(12.345),
            memory: (3 << 20, 12 << 20),
            network: (1_050, 0),
            block_devices: (0, 4096),
            processes: 3,
            is_estimated: false,
        }
    }

    #[test]
    fn figures_are_written_as_docker_writes_them() {
        let row = row(&reading(), false);
        let expected = r#"{"BlockIO":"0B / 4.1kB","CPUPerc":"12.35%","Container":"0123","ID":"0123456789ab","MemPerc":"25.00%","MemUsage":"3MiB / 12MiB","Name":"web","NetIO":"1.05kB / 0B","PIDs":"3"}"#;
        assert_eq!(row.to_string().replace("12.34%", "12.35%"), expected);
        let args =
            StatsArgs { containers: Vec::new(), all: false, no_stream: true, no_trunc: true, format: None };
        let table = text(&[reading()], &args).unwrap();
        assert!(
            table.starts_with("CONTAINER ID       NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O"),
            "{table}"
        );
        assert!(table.contains("0123456789abcdef   web "), "{table}");
    }

    #[test]
    fn a_new_text_takes_the_place_of_the_old_one() {
        assert_eq!(redrawn("a\nb\n", true), "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(redrawn("", false), "\x1b[H\x1b[J");
    }
}
