//! Parser directives: `# syntax=…`, `# escape=…`, `# check=…`.
//!
//! They stand at the very top; the first line that is not one ends them, be it empty, a comment or an
//! instruction. Names are case-insensitive, each may occur once. An unknown name makes a line a comment.

use crate::ast::{Directives, Word};
use crate::diagnostic::Diagnostic;
use crate::lines::{Physical, PhysicalLines};
use crate::span::Span;

/// One line of the form `# name=value`.
struct Directive<'a> {
    /// In lower case.
    name: String,
    value: &'a str,
    /// Where the value stands.
    span: Span,
}

/// Takes the directives off the top of a file.
pub(crate) fn read(lines: &mut PhysicalLines<'_>, diagnostics: &mut Vec<Diagnostic>) -> Directives {
    let mut directives = Directives::default();
    // In a file that starts like a script, Docker looks for `syntax` alone.
    let is_script = lines.peek().is_some_and(|line| line.text.starts_with("#!"));
    if is_script {
        lines.next_raw();
    }
    let mut seen = Vec::new();
    while let Some(directive) = lines.peek().and_then(|line| directive(line, "#")) {
        lines.next_raw();
        if seen.contains(&directive.name) {
            let message = format!("the directive {} is given twice", directive.name);
            diagnostics.push(Diagnostic::error("duplicate-directive", directive.span, message));
            continue;
        }
        seen.push(directive.name.clone());
        if !is_script || directive.name == "syntax" {
            apply(&mut directives, directive, diagnostics);
        }
    }
    directives
}

fn apply(directives: &mut Directives, directive: Directive<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let word = Word { text: directive.value.to_owned(), span: directive.span };
    match (directive.name.as_str(), directive.value) {
        ("syntax", _) => directives.syntax = Some(word),
        ("check", _) => directives.check = Some(word),
        (_, "\\") => directives.escape = '\\',
        (_, "`") => directives.escape = '`',
        (_, other) => {
            let message = format!("{other:?} cannot be the escape character");
            let error = Diagnostic::error("invalid-escape", directive.span, message);
            diagnostics.push(error.with_help("write # escape=\\ or # escape=`"));
        }
    }
}

/// Reads `# name=value` with one of the known names.
fn directive<'a>(line: Physical<'a>, comment: &str) -> Option<Directive<'a>> {
    let body = line.text.trim_start().strip_prefix(comment)?;
    let (name, value) = body.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let start = line.end() - value.trim_start().len();
    let value = value.trim();
    let is_known = matches!(name.as_str(), "syntax" | "escape" | "check");
    (is_known && !value.is_empty()).then(|| Directive {
        name,
        value,
        span: Span::new(start, start + value.len()),
    })
}

/// The `syntax` of a file in any language, as Docker finds it: a `# syntax=` directive, the same behind
/// `//`, or the member `syntax` of a JSON object. A first line `#!…` is skipped.
pub fn detect_syntax(text: &str) -> Option<String> {
    let text = text.trim_start_matches('\u{feff}');
    let body = match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("#!") => rest,
        _ => text,
    };
    ["#", "//"].into_iter().find_map(|comment| syntax_behind(body, comment)).or_else(|| {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).ok()?;
        object.get("syntax")?.as_str().map(str::to_owned)
    })
}

fn syntax_behind(text: &str, comment: &str) -> Option<String> {
    let mut lines = PhysicalLines::new(text);
    loop {
        let directive = directive(lines.peek()?, comment)?;
        lines.next_raw();
        if directive.name == "syntax" {
            return Some(directive.value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, syntax: Option<&str>, escape: char, errors: usize) {
        let mut diagnostics = Vec::new();
        let directives = read(&mut PhysicalLines::new(text), &mut diagnostics);
        let found = directives.syntax.map(|word| word.text);
        assert_eq!((found.as_deref(), directives.escape, diagnostics.len()), (syntax, escape, errors));
    }

    #[test]
    fn directives_end_at_the_first_other_line() {
        check("# syntax=a\n#ESCAPE = `\r\nFROM x", Some("a"), '`', 0);
        check("# syntax=a\n\n# escape=`", Some("a"), '\\', 0);
        check("# hello\n# syntax=a", None, '\\', 0);
        check("# unknown=1\n# syntax=a", None, '\\', 0);
        check("\u{feff}# syntax=a", Some("a"), '\\', 0);
    }

    #[test]
    fn directives_that_are_wrong() {
        check("# syntax=a\n# syntax=b", Some("a"), '\\', 1);
        check("# escape=x", None, '\\', 1);
        check("# escape=", None, '\\', 0);
    }

    #[test]
    fn a_script_has_only_a_syntax() {
        check("#!/usr/bin/lap\n# escape=`\n# syntax=a", Some("a"), '\\', 0);
    }

    #[test]
    fn syntax_of_any_language() {
        assert_eq!(detect_syntax("# syntax=a b").as_deref(), Some("a b"));
        assert_eq!(detect_syntax("// syntax = a\n").as_deref(), Some("a"));
        assert_eq!(detect_syntax("{\"syntax\": \"a\", \"x\": [1]}").as_deref(), Some("a"));
        assert_eq!(detect_syntax("#!/bin/x\n# syntax=a").as_deref(), Some("a"));
        assert_eq!(detect_syntax("FROM x\n# syntax=a"), None);
    }
}
