//! Physical lines to logical lines.
//!
//! A logical line is one instruction on one line: comments and empty lines dropped, continuations joined,
//! the bodies of its here-documents taken out. Every byte of it knows its place in the Dockerfile.
//!
//! This stage is written by hand and not in the grammar, because the escape character is chosen at run
//! time and because several here-documents of one line end in the order in which they began.

use crate::ast::{Directives, Heredoc, Word};
use crate::diagnostic::Diagnostic;
use crate::directives;
use crate::heredoc;
use crate::span::Span;

/// The longest physical line that Docker reads, in bytes without its end.
const LONGEST_LINE: usize = 65_535;

/// The lines of a Dockerfile.
pub(crate) struct Lines {
    pub(crate) directives: Directives,
    pub(crate) logical: Vec<LogicalLine>,
}

/// One instruction on one line.
#[derive(Debug, Default)]
pub(crate) struct LogicalLine {
    /// The text, blanks at the ends included.
    pub(crate) text: String,
    /// All of it in the Dockerfile, here-documents included.
    pub(crate) span: Span,
    /// In the order of their markers.
    pub(crate) heredocs: Vec<Heredoc>,
    /// The comment lines above it.
    pub(crate) comments: Vec<Word>,
    /// There is an error about it already, and it means nothing.
    pub(crate) is_broken: bool,
    pieces: Vec<Piece>,
}

/// A part of a logical line that comes from one physical line.
#[derive(Debug)]
struct Piece {
    /// Where it begins in the logical line.
    logical: usize,
    /// Where it begins in the Dockerfile.
    source: usize,
}

impl LogicalLine {
    /// Where a part of the text, as a range of bytes, stands in the Dockerfile. The span covers the
    /// continuations between.
    pub(crate) fn source_span(&self, start: usize, end: usize) -> Span {
        let first = self.source_offset(start);
        let last = if end > start { self.source_offset(end - 1) + 1 } else { first };
        Span::new(first, last)
    }

    fn source_offset(&self, offset: usize) -> usize {
        let after = self.pieces.partition_point(|piece| piece.logical <= offset);
        let piece = &self.pieces[after.saturating_sub(1)];
        piece.source + (offset - piece.logical)
    }

    fn push(&mut self, text: &str, source: usize) {
        // An empty piece has no bytes to map, but a line needs at least one to place its start.
        if !text.is_empty() || self.pieces.is_empty() {
            self.pieces.push(Piece { logical: self.text.len(), source });
        }
        self.text.push_str(text);
    }
}

/// Cuts `text` into logical lines.
pub(crate) fn split(text: &str, diagnostics: &mut Vec<Diagnostic>) -> Lines {
    let mut physical = PhysicalLines::new(text);
    let directives = directives::read(&mut physical, diagnostics);
    let mut logical = Vec::new();
    let mut comments = Vec::new();
    while let Some(line) = physical.next_checked(diagnostics) {
        let trimmed = line.text.trim_start();
        if let Some(comment) = trimmed.strip_prefix('#') {
            note_comment(&mut comments, comment, line.end());
        } else if trimmed.is_empty() {
            comments.clear();
        } else {
            let first = Physical { start: line.end() - trimmed.len(), text: trimmed };
            let mut joined = join(first, &mut physical, directives.escape, diagnostics);
            heredoc::read_bodies(&mut joined, &mut physical, diagnostics);
            joined.comments = std::mem::take(&mut comments);
            logical.push(joined);
        }
    }
    Lines { directives, logical }
}

/// Remembers a comment for the instruction below; an empty one parts it from those above.
fn note_comment(comments: &mut Vec<Word>, comment: &str, end: usize) {
    let text = comment.trim();
    if text.is_empty() {
        comments.clear();
        return;
    }
    let start = end - comment.trim_start().len();
    comments.push(Word { text: text.to_owned(), span: Span::new(start, start + text.len()) });
}

/// Joins the lines that `first` continues on.
fn join(
    first: Physical<'_>,
    physical: &mut PhysicalLines<'_>,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> LogicalLine {
    let mut joined = LogicalLine { span: Span::new(first.start, first.end()), ..LogicalLine::default() };
    let mut empty_line = None;
    let mut current = first;
    loop {
        joined.span.end = current.end();
        let continued = without_continuation(current.text, escape);
        joined.push(continued.unwrap_or(current.text), current.start);
        if continued.is_none() {
            break;
        }
        let Some(next) = next_of_continuation(physical, &mut empty_line, diagnostics) else { break };
        current = next;
    }
    if let Some(offset) = empty_line {
        diagnostics.push(empty_continuation(offset));
    }
    joined
}

/// The next line that counts: comments are dropped, and so are empty lines, whose first is noted.
fn next_of_continuation<'a>(
    physical: &mut PhysicalLines<'a>,
    empty_line: &mut Option<usize>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Physical<'a>> {
    loop {
        let line = physical.next_checked(diagnostics)?;
        let trimmed = line.text.trim_start();
        if trimmed.is_empty() {
            empty_line.get_or_insert(line.start);
        } else if !trimmed.starts_with('#') {
            return Some(line);
        }
    }
}

/// The line without its escape character at the end, if it has one that is not escaped itself. Blanks
/// may follow it.
fn without_continuation(line: &str, escape: char) -> Option<&str> {
    line.trim_end_matches([' ', '\t']).strip_suffix(escape).filter(|rest| !rest.ends_with(escape))
}

fn empty_continuation(offset: usize) -> Diagnostic {
    Diagnostic::warning("NoEmptyContinuation", Span::new(offset, offset), "Empty continuation line")
        .with_help("remove the line, or make it a comment")
}

/// A physical line without its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Physical<'a> {
    pub(crate) start: usize,
    pub(crate) text: &'a str,
}

impl Physical<'_> {
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// The physical lines of a text, in order.
pub(crate) struct PhysicalLines<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> PhysicalLines<'a> {
    /// Starts after a byte-order mark.
    pub(crate) fn new(text: &'a str) -> Self {
        let offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, offset }
    }

    /// Where the next line begins.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// The next line without moving on.
    pub(crate) fn peek(&self) -> Option<Physical<'a>> {
        let rest = &self.text[self.offset..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').unwrap_or(rest.len());
        Some(Physical { start: self.offset, text: rest[..length].trim_end_matches('\r') })
    }

    /// The next line with its end.
    pub(crate) fn next_raw(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.offset..];
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        self.offset += length;
        (length > 0).then(|| &rest[..length])
    }

    /// The next line, with an error if it is longer than Docker reads.
    pub(crate) fn next_checked(&mut self, diagnostics: &mut Vec<Diagnostic>) -> Option<Physical<'a>> {
        let line = self.peek()?;
        self.next_raw();
        if line.text.len() > LONGEST_LINE {
            let span = Span::new(line.start, line.end());
            let message = format!("the line has {} bytes; the most is {LONGEST_LINE}", line.text.len());
            diagnostics.push(
                Diagnostic::error("line-too-long", span, message).with_help("continue it on further lines"),
            );
        }
        Some(line)
    }
}
