//! Terminal progress: finished steps scroll away above, running ones stay below with their elapsed time
//! and last lines.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::Digest;
use base::event::{Event, EventSink, Outcome};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Renderer;
use super::model::{FailedStep, Model, sanitised};

/// How many of the last lines of a running step are shown.
const SHOWN_LINES: usize = 5;

/// Draws on a terminal.
pub(crate) struct TtyRenderer {
    terminal: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    model: Model,
    running: HashMap<Digest, ProgressBar>,
}

impl TtyRenderer {
    pub(crate) fn new() -> Self {
        Self { terminal: MultiProgress::new(), state: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, state: &mut State, vertex: &Digest) {
        let Some(step) = state.model.step(vertex) else { return };
        let bar = self.terminal.add(ProgressBar::new_spinner().with_style(style()));
        bar.set_prefix(sanitised(&step.name));
        bar.enable_steady_tick(Duration::from_millis(100));
        state.running.insert(*vertex, bar);
    }

    fn log(state: &mut State, vertex: &Digest, data: &[u8]) {
        let Some(step) = state.model.step(vertex) else { return };
        step.log(data);
        let shown = step.lines.iter().rev().take(SHOWN_LINES).rev();
        let text: String = shown.map(|line| format!("\n   {}", sanitised(line))).collect();
        if let Some(bar) = state.running.get(vertex) {
            bar.set_message(text);
        }
    }

    fn complete(&self, state: &mut State, vertex: &Digest, end: &str) {
        if let Some(bar) = state.running.remove(vertex) {
            bar.finish_and_clear();
        }
        let Some(step) = state.model.step(vertex) else { return };
        let line = format!(" => {end} {}", sanitised(&step.title()));
        // A terminal that went away must not stop a build.
        let _ = self.terminal.println(line);
    }
}

impl EventSink for TtyRenderer {
    fn emit(&self, event: Event) {
        let mut state = self.lock();
        state.model.apply(&event);
        match &event {
            Event::VertexStarted { vertex, .. } => self.start(&mut state, vertex),
            Event::Log { vertex, data, .. } => Self::log(&mut state, vertex, data),
            Event::Status { vertex, id, current, total, .. } => {
                if let Some(bar) = state.running.get(vertex) {
                    let amount = crate::units::bytes(*current);
                    let of = if *total == 0 {
                        String::new()
                    } else {
                        format!(" / {}", crate::units::bytes(*total))
                    };
                    bar.set_message(format!("\n   {id} {amount}{of}"));
                }
            }
            Event::VertexCompleted { vertex, at, outcome } => {
                let seconds = state.model.step(vertex).map_or(0.0, |step| step.seconds_at(*at));
                let end = match outcome {
                    Outcome::Cached => "  CACHED".to_owned(),
                    Outcome::Done => format!("{seconds:>7.1}s"),
                    Outcome::Cancelled => "CANCELED".to_owned(),
                    Outcome::Failed(_) => "   ERROR".to_owned(),
                };
                self.complete(&mut state, vertex, &end);
            }
            Event::Warning { .. } => {
                let _ = self.terminal.println(super::warning(&event));
            }
            Event::BuildBegun { isolation } => {
                let _ = self.terminal.println(format!(" building with {isolation}"));
            }
            Event::VertexExplained { vertex, .. } => {
                if let (Some(bar), Some(step)) =
                    (state.running.get(vertex).cloned(), state.model.step(vertex))
                {
                    bar.set_prefix(sanitised(&step.title()));
                }
            }
            Event::VertexDeclared { .. } | Event::VertexGrouped { .. } => {}
        }
    }
}

impl Renderer for TtyRenderer {
    fn finish(&self) {
        for (_, bar) in self.lock().running.drain() {
            bar.finish_and_clear();
        }
    }

    fn failed_steps(&self) -> Vec<FailedStep> {
        self.lock().model.failed()
    }
}

fn style() -> ProgressStyle {
    let template = " => {elapsed:>8} {prefix}{msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
