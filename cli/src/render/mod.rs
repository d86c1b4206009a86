//! Draws the events of a build: for a terminal, as plain lines, or as JSON.

mod model;
mod plain;
mod rawjson;
mod tty;

use std::io::{IsTerminal as _, Write};
use std::sync::Arc;
use std::time::Duration;

use base::{Event, EventSink};
use engine::history::Timing;

pub(crate) use model::FailedStep;

/// `--progress`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// `tty` on a terminal, else `plain`.
    #[default]
    Auto,
    /// Running steps with their last lines, finished ones above.
    Tty,
    /// One line for each thing that happens, in BuildKit's form.
    Plain,
    /// BuildKit's status messages, one JSON document a line.
    Rawjson,
    /// Nothing.
    Quiet,
}

/// Draws events, and remembers what is told when the build fails.
pub(crate) trait Renderer: EventSink {
    /// Takes down what is drawn only while the build runs. Called once, at the end.
    fn finish(&self);

    /// The steps that failed, with the last lines of their output.
    fn failed_steps(&self) -> Vec<FailedStep>;
}

/// A renderer for standard error.
pub(crate) fn renderer(mode: Mode) -> Arc<dyn Renderer> {
    match mode {
        Mode::Tty => Arc::new(tty::TtyRenderer::new()),
        Mode::Auto if std::io::stderr().is_terminal() => Arc::new(tty::TtyRenderer::new()),
        mode => renderer_to(mode, Box::new(std::io::stderr())),
    }
}

/// A renderer that writes lines.
pub(crate) fn renderer_to(mode: Mode, out: Box<dyn Write + Send>) -> Arc<dyn Renderer> {
    match mode {
        Mode::Auto | Mode::Plain | Mode::Tty => Arc::new(plain::PlainRenderer::new(out)),
        Mode::Rawjson => Arc::new(rawjson::RawJsonRenderer::new(out)),
        Mode::Quiet => Arc::new(plain::PlainRenderer::new(Box::new(std::io::sink()))),
    }
}

/// Where the time of a build went, in one line.
pub(crate) fn timing(timing: &Timing) -> String {
    let mut longest: Vec<&(String, Duration)> =
        timing.critical.iter().filter(|(_, duration)| *duration >= WORTH_TELLING).collect();
    longest.sort_by_key(|(_, duration)| std::cmp::Reverse(*duration));
    let parts: Vec<String> = longest
        .iter()
        .take(TOLD)
        .map(|(name, duration)| format!("{:.1}s {name}", duration.as_secs_f64()))
        .collect();
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    let saved = match timing.saved {
        saved if saved >= WORTH_TELLING => format!("; the cache saved {:.1}s", saved.as_secs_f64()),
        _ => String::new(),
    };
    format!("{:.1}s{parts}{saved}", timing.total.as_secs_f64())
}

/// Less is not worth telling.
const WORTH_TELLING: Duration = Duration::from_millis(50);

/// How many parts of the critical path are told.
const TOLD: usize = 3;

/// A warning as people see it: what is wrong, where it is explained, and the place. Empty for other events.
fn warning(event: &Event) -> String {
    let Event::Warning { code, message, excerpt, url, .. } = event else { return String::new() };
    let url = url.as_ref().map_or_else(String::new, |url| format!(" - {url}"));
    format!("WARNING: {code}{url}\n{message}\n{excerpt}")
}
