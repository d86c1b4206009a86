//! Here-documents: their markers in a logical line, and their bodies below it.
//!
//! A marker is a word of its own, `<<NAME`, `<<-NAME` or `3<<NAME`; with any quote or backslash in the name
//! the body does not expand. `cat<<EOF` and `<< EOF` are no markers, as in Docker. Bodies follow the
//! instruction in the order of their markers, and are kept as they are, comments and line ends included.

use crate::ast::Heredoc;
use crate::diagnostic::Diagnostic;
use crate::lines::{LogicalLine, PhysicalLines};
use crate::span::Span;

/// Instructions that take here-documents.
const KEYWORDS: [&str; 3] = ["run", "copy", "add"];

/// A here-document as announced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) name: String,
    expand: bool,
    strip_tabs: bool,
    descriptor: u32,
    /// Where the marker stands in the logical line.
    start: usize,
    end: usize,
}

/// Takes the bodies of the line's here-documents from the lines below it.
pub(crate) fn read_bodies(
    line: &mut LogicalLine,
    physical: &mut PhysicalLines<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if !line.text.contains("<<") || !may_have_heredocs(&line.text) {
        return;
    }
    for marker in markers(&line.text) {
        match read_body(&marker, physical) {
            Some((heredoc, end)) => {
                line.heredocs.push(heredoc);
                line.span.end = end;
            }
            None => {
                diagnostics.push(unterminated(&marker, line));
                line.is_broken = true;
                line.span.end = physical.offset();
            }
        }
    }
}

fn may_have_heredocs(text: &str) -> bool {
    let mut words = text.split_whitespace().map(str::to_ascii_lowercase);
    let mut first = words.next();
    if first.as_deref() == Some("onbuild") {
        first = words.next();
    }
    first.is_some_and(|keyword| KEYWORDS.contains(&keyword.as_str()))
}

/// The body, and where the line that ends it ends.
fn read_body(marker: &Marker, physical: &mut PhysicalLines<'_>) -> Option<(Heredoc, usize)> {
    let start = physical.offset();
    let mut content = String::new();
    loop {
        let end = physical.offset();
        let raw = physical.next_raw()?;
        let line = if marker.strip_tabs { raw.trim_start_matches('\t') } else { raw };
        if line.trim_end_matches(['\r', '\n']) == marker.name {
            let heredoc = Heredoc {
                name: marker.name.clone(),
                content,
                expand: marker.expand,
                descriptor: marker.descriptor,
                span: Span::new(start, end),
            };
            return Some((heredoc, end + raw.trim_end_matches(['\r', '\n']).len()));
        }
        content.push_str(line);
    }
}

fn unterminated(marker: &Marker, line: &LogicalLine) -> Diagnostic {
    let span = line.source_span(marker.start, marker.end);
    let message = format!("the here-document {} is never ended", marker.name);
    let help = format!("end it with a line that is exactly {}", marker.name);
    Diagnostic::error("unterminated-heredoc", span, message).with_help(help)
}

/// The markers in a logical line. A line whose quotes do not match has none.
fn markers(text: &str) -> Vec<Marker> {
    let mut markers = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|character: char| !character.is_whitespace()) {
        rest = &rest[start..];
        let Some(length) = word_length(rest) else { return Vec::new() };
        let offset = text.len() - rest.len();
        if let Some(marker) = marker(&rest[..length]) {
            markers.push(Marker { start: offset, end: offset + length, ..marker });
        }
        rest = &rest[length..];
    }
    markers
}

/// The length of the word at the start, in which quotes and backslashes protect blanks.
fn word_length(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((offset, character)) = characters.next() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => {
                characters.next();
            }
            (None, blank) if blank.is_whitespace() => return Some(offset),
            _ => {}
        }
    }
    quote.is_none().then_some(text.len())
}

/// Reads a word that is a marker and nothing else.
pub(crate) fn marker(word: &str) -> Option<Marker> {
    let (descriptor, rest) = word.split_once("<<")?;
    let is_number = descriptor.bytes().all(|byte| byte.is_ascii_digit());
    let (strip_tabs, quoted_name) = match rest.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, rest),
    };
    if !is_number || quoted_name.contains('<') {
        return None;
    }
    let descriptor = if descriptor.is_empty() { 0 } else { descriptor.parse().ok()? };
    let name = unquoted(quoted_name);
    let expand = name == quoted_name;
    let is_one_word = !name.is_empty() && (!expand || !name.contains(char::is_whitespace));
    is_one_word.then_some(Marker { name, expand, strip_tabs, descriptor, start: 0, end: 0 })
}

fn unquoted(word: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None, '\\') => out.extend(characters.next()),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[(&str, bool, bool, u32)]) {
        let found = markers(line);
        let found: Vec<_> =
            found.iter().map(|m| (m.name.as_str(), m.expand, m.strip_tabs, m.descriptor)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn markers_of_a_line() {
        check("RUN <<EOF", &[("EOF", true, false, 0)]);
        check("RUN 3<<-EOF cat", &[("EOF", true, true, 3)]);
        check(
            "COPY <<\"a\" <<'b' <<c\\d /x",
            &[("a", false, false, 0), ("b", false, false, 0), ("cd", false, false, 0)],
        );
        check("RUN <<'two words'", &[("two words", false, false, 0)]);
    }

    #[test]
    fn words_that_only_look_like_markers() {
        for line in
            ["cat<<EOF", "a << EOF", "a <<<word", "a <<", "a <<-", "a '<<EOF'", "a \"b <<EOF\"", "a \\<<EOF"]
        {
            check(line, &[]);
        }
        check("it's <<EOF", &[]);
    }

    #[test]
    fn only_some_instructions_have_them() {
        assert!(may_have_heredocs("run <<E") && may_have_heredocs("ONBUILD COPY <<E /"));
        assert!(
            !may_have_heredocs("CMD <<E") && !may_have_heredocs("ONBUILD CMD <<E") && !may_have_heredocs("")
        );
    }
}
