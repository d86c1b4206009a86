//! What is wrong with a Dockerfile, as data, and how it is shown.
//!
//! A [`Diagnostic`] is a value with a stable code and a span. [`SourceFile`] turns it into text with an
//! excerpt. Nothing here prints, and whether a warning stops a build is for the caller to say.

use std::fmt::Write as _;
use std::ops::Range;

use crate::span::{Position, Span};

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The Dockerfile builds, but perhaps not as meant.
    Warning,
    /// The Dockerfile cannot be built.
    Error,
}

impl Level {
    /// The word that people read: `error` or `warning`.
    pub const fn label(self) -> &'static str {
        match self {
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of finding, for programs: `unknown-instruction`, or the name of a build check such as
    /// `StageNameCasing`. Stable between versions.
    pub code: &'static str,
    /// How bad it is.
    pub level: Level,
    /// Where.
    pub span: Span,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without help.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { code, level: Level::Error, span, message: message.into(), help: None }
    }

    /// A warning without help.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { code, level: Level::Warning, span, message: message.into(), help: None }
    }

    /// The same with help.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with the help "did you mean …?", if there is a near name.
    #[must_use]
    pub(crate) fn with_suggestion(self, near: Option<impl std::fmt::Display>) -> Self {
        match near {
            Some(near) => self.with_help(format!("did you mean {near}?")),
            None => self,
        }
    }
}

/// Lines of an excerpt before it is cut.
const MOST_LINES: usize = 8;
/// Characters of a line before it is cut.
const MOST_CHARACTERS: usize = 160;
/// Characters kept before the underlined part when a line is cut.
const CHARACTERS_BEFORE: usize = 40;

/// A named text that spans point into.
#[derive(Debug, Clone)]
pub struct SourceFile {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl SourceFile {
    /// `text` as the parser decoded it (`Parsed::text`); `name` is what messages call it.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(newlines.map(|(offset, _)| offset + 1)).collect();
        Self { name: name.into(), text, line_starts }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line and column of a byte. An offset past the end is the end; one inside a character is that
    /// character. The byte-order mark is not counted as a character.
    pub fn position(&self, offset: usize) -> Position {
        let offset = self.character_start(offset);
        let line = self.line_index(offset);
        let before = &self.text[self.line_starts[line]..offset];
        let column = before.chars().filter(|character| *character != '\u{feff}').count();
        Position { line: line + 1, column: column + 1 }
    }

    /// `Dockerfile:3:5: error: message`, an excerpt with the span underlined, and the help. Ends with a
    /// newline. Control characters of the text are replaced, so it is safe on a terminal.
    pub fn render(&self, diagnostic: &Diagnostic) -> String {
        let level = diagnostic.level.label();
        self.drawn(diagnostic, &format!(": {level}: {}", clean(&diagnostic.message)))
    }

    /// As [`Self::render`] without level and message, for those who have told them already.
    pub fn render_place(&self, diagnostic: &Diagnostic) -> String {
        self.drawn(diagnostic, "")
    }

    fn drawn(&self, diagnostic: &Diagnostic, headline: &str) -> String {
        let Position { line, column } = self.position(diagnostic.span.start);
        let mut out = format!("{}:{line}:{column}{headline}\n", self.name);
        out.push_str(&self.excerpt(diagnostic.span));
        if let Some(help) = &diagnostic.help {
            let _ = writeln!(out, "help: {}", clean(help));
        }
        out
    }

    /// The lines that `span` touches, numbered, with the span underlined. Long lines and long spans are
    /// cut. Ends with a newline.
    pub fn excerpt(&self, span: Span) -> String {
        let first = self.line_index(span.start.min(self.text.len()));
        let last =
            self.line_index(span.end.min(self.text.len()).saturating_sub(1).max(span.start)).max(first);
        let shown = last.min(first + MOST_LINES - 1);
        let width = (shown + 1).to_string().len();
        let mut out = String::new();
        for line in first..=shown {
            self.push_line(&mut out, line, span, width);
        }
        if shown < last {
            let _ = writeln!(out, "{:>width$} | … {} more lines", "", last - shown);
        }
        out
    }

    fn push_line(&self, out: &mut String, line: usize, span: Span, width: usize) {
        let range = self.line_range(line);
        let marked = self.marked_part(&range, span);
        let (text, marked) = cut(&self.text[range], marked);
        let _ = writeln!(out, "{:>width$} | {}", line + 1, clean(&text));
        let Some(marked) = marked else { return };
        let indent: String = text[..marked.start]
            .chars()
            .map(|character| if character == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = text[marked].chars().count().max(1);
        let _ = writeln!(out, "{:>width$} | {indent}{}", "", "^".repeat(carets));
    }

    /// The part of a line that is underlined, relative to the line: blanks around it are left out.
    fn marked_part(&self, line: &Range<usize>, span: Span) -> Option<Range<usize>> {
        let start = self.character_start(span.start.clamp(line.start, line.end));
        let end = self.character_start(span.end.clamp(start, line.end));
        let text = &self.text[start..end];
        let trimmed = text.trim();
        if trimmed.is_empty() {
            let is_start = line.contains(&span.start) || span.start == line.end;
            return is_start.then(|| start - line.start..start - line.start);
        }
        let skipped = text.len() - text.trim_start().len();
        let start = start - line.start + skipped;
        Some(start..start + trimmed.len())
    }

    /// The start of the character that the byte at `offset` belongs to, or the end of the text.
    fn character_start(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        (0..=offset).rev().find(|start| self.text.is_char_boundary(*start)).unwrap_or(0)
    }

    fn line_index(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The bytes of a line without its line end and without a byte-order mark.
    fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.line_starts[line];
        let end = self.line_starts.get(line + 1).copied().unwrap_or(self.text.len());
        let text = self.text[start..end].trim_end_matches(['\r', '\n']);
        let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        start + mark..start + text.len()
    }
}

/// Cuts a long line around its marked part.
fn cut(text: &str, marked: Option<Range<usize>>) -> (String, Option<Range<usize>>) {
    if text.len() <= MOST_CHARACTERS {
        return (text.to_owned(), marked);
    }
    let mark = marked.clone().unwrap_or(0..0);
    let from = text[..mark.start].char_indices().rev().nth(CHARACTERS_BEFORE).map_or(0, |(offset, _)| offset);
    let length = text[from..].char_indices().nth(MOST_CHARACTERS).map(|(offset, _)| offset);
    let to = length.map_or(text.len(), |length| from + length);
    let (head, tail) = (if from > 0 { "…" } else { "" }, if to < text.len() { "…" } else { "" });
    let shift = |offset: usize| offset.clamp(from, to) - from + head.len();
    let cut = format!("{head}{}{tail}", &text[from..to]);
    (cut, marked.map(|range| shift(range.start)..shift(range.end)))
}

/// Replaces control characters, so that a hostile text cannot steer a terminal.
fn clean(text: &str) -> String {
    let replace = |character: char| match character {
        '\t' => '\t',
        control if control.is_control() => '\u{fffd}',
        other => other,
    };
    text.chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let file = SourceFile::new("f", "\u{feff}añb\ncd");
        let at = |offset| (file.position(offset).line, file.position(offset).column);
        assert_eq!(at(3), (1, 1));
        assert_eq!(at(6), (1, 3));
        assert_eq!(at(5), (1, 2));
        assert_eq!(at(8), (2, 1));
        assert_eq!(at(99), (2, 3));
    }

    #[test]
    fn one_line_is_underlined() {
        let file = SourceFile::new("Dockerfile", "FROM scratch\nRUN\techo hi\n");
        let diagnostic = Diagnostic::error("code", Span::new(17, 21), "bad").with_help("do better");
        let expected = "Dockerfile:2:5: error: bad\n2 | RUN\techo hi\n  |    \t^^^^\nhelp: do better\n";
        assert_eq!(file.render(&diagnostic), expected);
    }

    #[test]
    fn several_lines_are_underlined_without_their_indent() {
        let file = SourceFile::new("D", "RUN a \\\n    b\nRUN c\n");
        assert_eq!(file.excerpt(Span::new(0, 13)), "1 | RUN a \\\n  | ^^^^^^^\n2 |     b\n  |     ^\n");
    }

    #[test]
    fn an_empty_span_still_points_somewhere() {
        let file = SourceFile::new("D", "a\n\nb");
        assert_eq!(file.excerpt(Span::new(2, 2)), "2 | \n  | ^\n");
        assert_eq!(file.excerpt(Span::new(4, 4)), "3 | b\n  |  ^\n");
        assert_eq!(SourceFile::new("D", "").excerpt(Span::new(0, 0)), "1 | \n  | ^\n");
    }

    #[test]
    fn long_lines_and_spans_are_cut() {
        let file = SourceFile::new("D", format!("{}X{}", "a".repeat(500), "b".repeat(500)));
        let excerpt = file.excerpt(Span::new(500, 501));
        let mut lines = excerpt.lines().map(|line| line.chars().position(|c| c == 'X' || c == '^'));
        assert_eq!(lines.next(), lines.next());
        assert!(excerpt.chars().count() < 300);
        let many = SourceFile::new("D", "x\n".repeat(100));
        assert!(many.excerpt(Span::new(0, 200)).ends_with("… 92 more lines\n"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let file = SourceFile::new("D", "RUN \u{1b}[2J\u{0}");
        assert!(!file.excerpt(Span::new(0, 9)).contains(['\u{1b}', '\u{0}']));
    }
}
