//! What containers write, with their names in front of every line.

use std::io::IsTerminal as _;

use compose::Service;
use engine::Engine;
use engine::containers::{LogsRequest, Record, Stream};
use engine::error::EngineError;
use engine::following::Follow as _;
use engine::request::Selection;

use crate::terminal::{print_bytes, print_error_bytes};

/// The colours of names, as codes of a terminal: cyan, yellow, green, magenta, blue, and the same brighter.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// How lines of a container are shown.
#[derive(Debug, Clone)]
pub(super) struct Style {
    prefix: String,
    timestamps: bool,
}

/// Whether names have colours (`--ansi`, `--no-color`).
pub(super) fn coloured(ansi: &str, no_color: bool) -> bool {
    !no_color && (ansi == "always" || ansi == "auto" && std::io::stdout().is_terminal())
}

/// The style of the container with this index.
pub(super) fn style(
    name: &str,
    width: usize,
    index: usize,
    coloured: bool,
    (no_prefix, timestamps): (bool, bool),
) -> Style {
    let prefix = format!("{name:width$}  | ");
    let prefix = match coloured {
        false => prefix,
        true => format!("\u{1b}[{}m{prefix}\u{1b}[0m", COLOURS[index % COLOURS.len()]),
    };
    Style { prefix: if no_prefix { String::new() } else { prefix }, timestamps }
}

/// The width of the longest name that containers of services have.
pub(super) fn width(project: &str, services: &[&Service]) -> usize {
    let short = |service: &&Service| {
        let name = service.container_name();
        name.map_or_else(
            || format!("{}-{}", service.name, service.replicas),
            |name| name.strip_prefix(&format!("{project}-")).unwrap_or(&name).to_owned(),
        )
    };
    services.iter().map(|service| short(service).chars().count()).max().unwrap_or(0)
}

/// Shows what a container writes until it has ended for good, or nobody reads it any more.
pub(super) fn follow(
    engine: &Engine,
    id: &str,
    selection: Selection,
    style: &Style,
) -> Result<(), EngineError> {
    let request = LogsRequest { container: id.to_owned(), selection, follow: true };
    let mut logs = engine.logs(&request)?;
    let mut lines = Lines::new(style.clone());
    while let Some(record) = logs.next()? {
        if !lines.show(&record) {
            break;
        }
    }
    lines.finish();
    Ok(())
}

/// Pieces of lines, put together so that each line has one name in front.
pub(super) struct Lines {
    style: Style,
    /// What has been written of a line, of either stream.
    open: [String; 2],
}

impl Lines {
    pub(super) fn new(style: Style) -> Self {
        Self { style, open: Default::default() }
    }

    /// Shows the lines that a record ends; `false` when nobody reads them.
    pub(super) fn show(&mut self, record: &Record) -> bool {
        let is_error = record.stream == Stream::Stderr;
        let open = &mut self.open[usize::from(is_error)];
        if open.is_empty() {
            open.push_str(&self.style.prefix);
            if self.style.timestamps {
                open.push_str(&format!("{:.9} ", record.time));
            }
        }
        open.push_str(&record.text);
        if !open.ends_with('\n') {
            return true;
        }
        let line = std::mem::take(open);
        write(is_error, &line)
    }

    /// Shows what was not ended.
    pub(super) fn finish(self) {
        for (is_error, open) in [false, true].into_iter().zip(self.open) {
            if !open.is_empty() {
                write(is_error, &format!("{open}\n"));
            }
        }
    }
}

fn write(is_error: bool, line: &str) -> bool {
    match is_error {
        true => print_error_bytes(line.as_bytes()),
        false => print_bytes(line.as_bytes()),
    }
}
