//! What every renderer keeps of a build: the vertices in the order they were declared, their names,
//! their start, and the last lines they wrote.

use std::collections::{HashMap, VecDeque};

use base::event::{Event, Outcome};
use base::{Digest, Timestamp};

/// How many lines of a step's output are kept for the message when it fails.
const KEPT_LINES: usize = 20;

/// A longer line is cut, so that a step which never ends its line cannot fill the memory.
const LONGEST_LINE: usize = 8 * 1024;

/// Of how many failed steps the last lines are remembered.
const MOST_FAILED: usize = 50;

/// A step that failed, with what people need to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedStep {
    /// Its name, as in `[2/3] RUN make`.
    pub(crate) name: String,
    /// The last lines that it wrote.
    pub(crate) last_lines: Vec<String>,
}

/// One vertex.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) started: Option<Timestamp>,
    /// Why it was not found in the cache.
    pub(crate) reason: Option<String>,
    /// Complete lines, the newest last.
    pub(crate) lines: VecDeque<String>,
    /// The beginning of a line that has not ended.
    partial: Vec<u8>,
}

impl Step {
    /// Its name, and why it was not found in the cache.
    pub(crate) fn title(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{} (not cached: {reason})", self.name),
            None => self.name.clone(),
        }
    }

    /// Seconds from the start to `at`.
    pub(crate) fn seconds_at(&self, at: Timestamp) -> f64 {
        self.started.map_or(0.0, |start| seconds_between(start, at))
    }

    /// Adds output and gives the lines that it completes.
    pub(crate) fn log(&mut self, data: &[u8]) -> Vec<String> {
        let mut complete = Vec::new();
        for byte in data {
            if *byte == b'\n' || self.partial.len() >= LONGEST_LINE {
                complete.push(self.take_partial());
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
        }
        self.keep(&complete);
        complete
    }

    /// The last line, if the output did not end with a newline.
    pub(crate) fn flush(&mut self) -> Option<String> {
        if self.partial.is_empty() {
            return None;
        }
        let line = self.take_partial();
        self.keep(std::slice::from_ref(&line));
        Some(line)
    }

    /// The last lines, one that has not ended among them.
    fn last_lines(&self) -> Vec<String> {
        let partial = (!self.partial.is_empty()).then(|| line_text(&self.partial));
        self.lines.iter().cloned().chain(partial).collect()
    }

    fn take_partial(&mut self) -> String {
        line_text(&std::mem::take(&mut self.partial))
    }

    fn keep(&mut self, lines: &[String]) {
        self.lines.extend(lines.iter().cloned());
        let surplus = self.lines.len().saturating_sub(KEPT_LINES);
        self.lines.drain(..surplus);
    }
}

/// The bytes of a line as text, without the carriage return of a terminal's line end.
fn line_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.strip_suffix('\r').unwrap_or(&text).to_owned()
}

/// All vertices of a build.
#[derive(Debug, Default)]
pub(crate) struct Model {
    steps: HashMap<Digest, Step>,
    failed: Vec<FailedStep>,
}

impl Model {
    /// Takes what an event says about the state; drawing is the renderer's.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::VertexDeclared { vertex, name, .. } => {
                let number = self.steps.len() + 1;
                self.steps.entry(*vertex).or_insert_with(|| Step {
                    number,
                    name: name.clone(),
                    ..Step::default()
                });
            }
            Event::VertexStarted { vertex, at } => {
                if let Some(step) = self.steps.get_mut(vertex) {
                    step.started.get_or_insert(*at);
                }
            }
            Event::VertexExplained { vertex, reason } => {
                if let Some(step) = self.steps.get_mut(vertex) {
                    step.reason = Some(reason.clone());
                }
            }
            Event::VertexCompleted { vertex, outcome: Outcome::Failed(_), .. } => {
                if let Some(step) = self.steps.get_mut(vertex)
                    && self.failed.len() < MOST_FAILED
                {
                    let last_lines = step.last_lines();
                    self.failed.push(FailedStep { name: step.name.clone(), last_lines });
                }
            }
            _ => {}
        }
    }

    pub(crate) fn step(&mut self, vertex: &Digest) -> Option<&mut Step> {
        self.steps.get_mut(vertex)
    }

    /// The first steps that failed, in their order.
    pub(crate) fn failed(&self) -> Vec<FailedStep> {
        self.failed.clone()
    }
}

/// Seconds between two moments, never negative.
pub(crate) fn seconds_between(start: Timestamp, end: Timestamp) -> f64 {
    end.duration_since(start).as_secs_f64().max(0.0)
}

/// Text from a container made safe for a terminal: control characters go, colours stay.
pub(crate) fn sanitised(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match colour_sequence(rest) {
            Some(length) => {
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            }
            None => rest = skip_control(rest),
        }
    }
    out.push_str(rest);
    out
}

/// The length of a "select graphic rendition" sequence at the start, such as `ESC [ 1 ; 31 m`.
fn colour_sequence(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\u{1b}[")?;
    let end = body.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    body[end..].starts_with('m').then_some(2 + end + 1)
}

/// The text after one control character, and after the sequence it starts if it is an escape.
fn skip_control(text: &str) -> &str {
    let mut characters = text.chars();
    let first = characters.next();
    let rest = characters.as_str();
    if first != Some('\u{1b}') {
        return rest;
    }
    match rest.strip_prefix('[') {
        Some(body) => body.find(|c: char| ('@'..='~').contains(&c)).map_or("", |end| &body[end + 1..]),
        None => rest.get(1..).unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_into_lines_across_chunks() {
        let mut step = Step::default();
        assert!(step.log(b"ab").is_empty());
        assert_eq!(step.log(b"c\r\nd\ne"), ["abc", "d"]);
        assert_eq!(step.flush().as_deref(), Some("e"));
        assert_eq!(step.flush(), None);
        assert_eq!(step.lines, ["abc", "d", "e"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut step = Step::default();
        let lines = step.log(&vec![b'x'; LONGEST_LINE * 2 + 1]);
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn terminals_are_safe_from_output() {
        assert_eq!(sanitised("a\u{1b}[31mred\u{1b}[0m"), "a\u{1b}[31mred\u{1b}[0m");
        assert_eq!(sanitised("a\u{1b}[2Jb\u{7}c\u{1b}]0;title"), "abc0;title");
        assert_eq!(sanitised("\u{1b}["), "");
        assert_eq!(sanitised("\u{1b}é"), "");
    }
}
