//! Plain progress: BuildKit's `#N` lines, one for each thing that happens.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use base::event::{Event, EventSink, Outcome};
use base::{Digest, Timestamp};

use super::Renderer;
use super::model::{FailedStep, Model, sanitised};

/// Writes plain lines.
pub(crate) struct PlainRenderer(Mutex<State>);

struct State {
    model: Model,
    out: Box<dyn Write + Send>,
    /// The step that wrote last; a blank line separates steps.
    last: Option<Digest>,
}

impl PlainRenderer {
    pub(crate) fn new(out: Box<dyn Write + Send>) -> Self {
        Self(Mutex::new(State { model: Model::default(), out, last: None }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for PlainRenderer {
    fn emit(&self, event: Event) {
        let mut state = self.lock();
        state.model.apply(&event);
        // A closed standard error must not stop a build.
        let _ = state.draw(&event);
    }
}

impl Renderer for PlainRenderer {
    fn finish(&self) {
        let _ = self.lock().out.flush();
    }

    fn failed_steps(&self) -> Vec<FailedStep> {
        self.lock().model.failed()
    }
}

impl State {
    fn draw(&mut self, event: &Event) -> std::io::Result<()> {
        match event {
            Event::BuildBegun { isolation } => writeln!(self.out, "#0 building with {isolation}\n"),
            Event::VertexDeclared { .. } | Event::VertexGrouped { .. } => Ok(()),
            Event::VertexStarted { vertex, .. } => self.header(vertex),
            Event::Log { vertex, data, at, .. } => self.log(vertex, data, *at),
            Event::Status { vertex, id, current, total, completed, .. } => {
                self.status(vertex, id, *current, *total, *completed)
            }
            Event::VertexCompleted { vertex, at, outcome } => self.completed(vertex, *at, outcome),
            // It may tell of a build of somebody else.
            Event::VertexExplained { vertex, reason } => {
                self.line(vertex, &format!("not cached: {}", sanitised(reason)))
            }
            Event::Warning { .. } => {
                self.last = None;
                writeln!(self.out, "\n{}", super::warning(event))
            }
        }
    }

    /// Names the step, when another one wrote in between.
    fn header(&mut self, vertex: &Digest) -> std::io::Result<()> {
        if self.last == Some(*vertex) {
            return Ok(());
        }
        let blank = self.last.replace(*vertex).is_some();
        let Some(step) = self.model.step(vertex) else { return Ok(()) };
        if blank {
            writeln!(self.out)?;
        }
        writeln!(self.out, "#{} {}", step.number, step.name)
    }

    fn log(&mut self, vertex: &Digest, data: &[u8], at: Timestamp) -> std::io::Result<()> {
        let Some(step) = self.model.step(vertex) else { return Ok(()) };
        let lines = step.log(data);
        let seconds = step.seconds_at(at);
        for line in lines {
            self.line(vertex, &format!("{seconds:.3} {line}"))?;
        }
        Ok(())
    }

    fn line(&mut self, vertex: &Digest, text: &str) -> std::io::Result<()> {
        self.header(vertex)?;
        let Some(step) = self.model.step(vertex) else { return Ok(()) };
        let number = step.number;
        writeln!(self.out, "#{number} {text}")
    }

    /// Only ends are told: a line for every few bytes helps nobody.
    fn status(
        &mut self,
        vertex: &Digest,
        id: &str,
        current: u64,
        total: u64,
        completed: bool,
    ) -> std::io::Result<()> {
        if !completed {
            return Ok(());
        }
        let amount = match (current, total) {
            (0, 0) => String::new(),
            (current, 0) => format!(" {}", crate::units::bytes(current)),
            (current, total) => format!(" {} / {}", crate::units::bytes(current), crate::units::bytes(total)),
        };
        self.line(vertex, &format!("{id}{amount} done"))
    }

    fn completed(&mut self, vertex: &Digest, at: Timestamp, outcome: &Outcome) -> std::io::Result<()> {
        let Some(step) = self.model.step(vertex) else { return Ok(()) };
        let seconds = step.seconds_at(at);
        if let Some(line) = step.flush() {
            self.line(vertex, &format!("{seconds:.3} {line}"))?;
        }
        match outcome {
            Outcome::Cached => self.line(vertex, "CACHED")?,
            Outcome::Done => self.line(vertex, &format!("DONE {seconds:.1}s"))?,
            Outcome::Cancelled => self.line(vertex, "CANCELED")?,
            Outcome::Failed(message) => self.line(vertex, &format!("ERROR: {message}"))?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::event::Stream;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn interleaved_steps_name_themselves_again() {
        let out = Shared::default();
        let renderer = PlainRenderer::new(Box::new(out.clone()));
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let declare =
            |vertex, name: &str| Event::VertexDeclared { vertex, name: name.to_owned(), inputs: vec![] };
        let log = |vertex, text: &str, when| Event::Log {
            vertex,
            stream: Stream::Stdout,
            data: text.as_bytes().to_vec(),
            at: at(when),
        };
        for event in [
            declare(a, "[1/2] RUN a"),
            declare(b, "[2/2] RUN b"),
            Event::VertexStarted { vertex: a, at: at(10) },
            log(a, "one\n", 11),
            Event::VertexCompleted { vertex: b, at: at(11), outcome: Outcome::Cached },
            log(a, "two", 12),
            Event::VertexCompleted {
                vertex: a,
                at: at(12),
                outcome: Outcome::Failed("exit code: 7".to_owned()),
            },
        ] {
            renderer.emit(event);
        }
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let expected = "#1 [1/2] RUN a\n#1 1.000 one\n\n#2 [2/2] RUN b\n#2 CACHED\n\n#1 [1/2] RUN a\n#1 2.000 two\n#1 ERROR: exit code: 7\n";
        assert_eq!(text, expected);
        let failed = renderer.failed_steps().swap_remove(0);
        assert_eq!(failed.last_lines, ["one", "two"]);
    }
}
