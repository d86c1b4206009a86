//! A Rust file as rules search it: its text, its code without comments and strings, and where its tests begin.

/// A Rust file.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to the workspace, with `/`.
    pub(super) path: String,
    /// As it is.
    pub(super) text: String,
    /// Its lines with comments and the insides of strings replaced by spaces.
    code: Vec<String>,
    /// How many lines come before the tests.
    shipped: usize,
}

impl Source {
    /// The file at `path` with this text.
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code: Vec<String> = without_comments_and_strings(text).lines().map(str::to_owned).collect();
        let is_test = path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs");
        let tests =
            if is_test { Some(0) } else { code.iter().position(|line| line.trim() == "#[cfg(test)]") };
        let shipped = tests.unwrap_or(code.len());
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    /// The number of lines before the tests.
    pub(super) fn shipped_lines(&self) -> usize {
        self.shipped
    }

    /// The code before the tests, with line numbers from 1. Tests are the rest of a file from its first
    /// `#[cfg(test)]`, and files in `tests`.
    pub(super) fn shipped_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().take(self.shipped)
    }

    /// The code of the tests, with line numbers from 1.
    pub(super) fn test_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().skip(self.shipped)
    }

    /// All code, with line numbers from 1.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }
}

/// Whether `code` holds `word`, and not merely as a part of a longer identifier.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    let is_identifier = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(is_identifier);
        let after = code[at + word.len()..].chars().next().is_some_and(is_identifier);
        let starts_inside = before && word.starts_with(is_identifier);
        let ends_inside = after && word.ends_with(is_identifier);
        !starts_inside && !ends_inside
    })
}

/// The text with every character of comments and strings, but for line ends, replaced by a space.
fn without_comments_and_strings(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    while !rest.is_empty() {
        let (length, keep) = next_piece(rest, code.chars().next_back());
        let (piece, after) = rest.split_at(length);
        if keep {
            code.push_str(piece);
        } else {
            code.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    code
}

/// The length of the comment, string, character or single other character at the start of `text`, and whether it
/// is code. `before` is the character in front of it.
fn next_piece(text: &str, before: Option<char>) -> (usize, bool) {
    if text.starts_with("//") {
        return (text.find('\n').unwrap_or(text.len()), false);
    }
    if text.starts_with("/*") {
        return (block_comment(text), false);
    }
    if text.starts_with('"') {
        return (string(text), false);
    }
    if text.starts_with('\'') {
        return character(text).map_or((1, true), |length| (length, false));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && let Some(length) = raw_string(text) {
        return (length, false);
    }
    (text.chars().next().map_or(1, char::len_utf8), true)
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character literal; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    match chars.next()?.1 {
        '\\' => text[3..].find('\'').map(|end| 3 + end + 1),
        _ => chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1),
    }
}

/// `r"…"`, `r#"…"#`, `br"…"` and so on.
fn raw_string(text: &str) -> Option<usize> {
    let after_r =
        text.strip_prefix('b').or_else(|| text.strip_prefix('c')).unwrap_or(text).strip_prefix('r')?;
    let hashes = after_r.bytes().take_while(|byte| *byte == b'#').count();
    let inside = after_r[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let opening = text.len() - inside.len();
    Some(inside.find(&close).map_or(text.len(), |end| opening + end + close.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let stripped = without_comments_and_strings(text);
        assert_eq!(stripped.lines().count(), text.lines().count(), "line numbers must stay");
        stripped.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(code("a // std::fs\nb"), "a b");
        assert_eq!(code("a /* x /* y */\n z */ b"), "a b");
        assert_eq!(code(r#"f("std::fs \" // ", x)"#), "f( , x)");
        assert_eq!(code("f(r#\"a \" b\"#, br\"\\\", c)"), "f( , , c)");
        assert_eq!(
            code("let c = '\"'; let d = '\\''; 'a: loop {} &'b str"),
            "let c = ; let d = ; 'a: loop {} &'b str"
        );
        assert_eq!(code("for r in r { var\"x\" }"), "for r in r { var }");
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("use std::fs;", "std::fs"));
        assert!(!has_word("use std::fsx;", "std::fs"));
        assert!(!has_word("my_todo!()", "todo!"));
        assert!(has_word("x(todo!())", "todo!"));
    }

    #[test]
    fn tests_begin_at_the_attribute() {
        let source = Source::new("a/src/b.rs", "fn a() {}\n#[cfg(test)]\nmod tests {}\n");
        assert_eq!(source.shipped_lines(), 1);
        assert_eq!(source.test_code().next(), Some((2, "#[cfg(test)]")));
        assert_eq!(Source::new("a/tests/b.rs", "fn a() {}\n").shipped_lines(), 0);
    }
}
