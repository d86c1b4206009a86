//! Draws the events of a build: for a terminal, as plain lines, or as JSON.

mod model;
mod plain;
mod rawjson;
mod tty;

use std::io::IsTerminal as _;
use std::sync::Arc;

use base::{Event, EventSink};

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

    /// The step that failed, with the last lines of its output.
    fn failed_step(&self) -> Option<FailedStep>;
}

/// A renderer for standard error.
pub(crate) fn renderer(mode: Mode) -> Arc<dyn Renderer> {
    match mode {
        Mode::Tty => Arc::new(tty::TtyRenderer::new()),
        Mode::Auto if std::io::stderr().is_terminal() => Arc::new(tty::TtyRenderer::new()),
        Mode::Auto | Mode::Plain => Arc::new(plain::PlainRenderer::new(Box::new(std::io::stderr()))),
        Mode::Rawjson => Arc::new(rawjson::RawJsonRenderer::new(Box::new(std::io::stderr()))),
        Mode::Quiet => Arc::new(plain::PlainRenderer::new(Box::new(std::io::sink()))),
    }
}

/// A warning as people see it: what is wrong, where it is explained, and the place. Empty for other events.
fn warning(event: &Event) -> String {
    let Event::Warning { code, message, excerpt, url, .. } = event else { return String::new() };
    let url = url.as_ref().map_or_else(String::new, |url| format!(" - {url}"));
    format!("WARNING: {code}{url}\n{message}\n{excerpt}")
}
