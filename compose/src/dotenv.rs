//! Files of variables: `.env`, and those that `env_file` names.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::ComposeError;
use crate::interpolate::{Failure, Variables, interpolate};
use crate::yaml::Place;

/// The variables of a file; later lines win. A line with a name alone takes the value of `outer`, if it has one. Values
/// without single quotes are interpolated, with what stands above before `outer`, unless `outer` is to win.
///
/// # Errors
/// A line that makes no sense, or a variable that has to be set and is not.
pub fn parse(
    file: &Arc<str>,
    text: &str,
    outer: &dyn Variables,
) -> Result<BTreeMap<String, String>, ComposeError> {
    let known = Known { above: RefCell::default(), outer };
    let mut lines = Lines { rest: text.trim_start_matches('\u{feff}'), line: 1 };
    while let Some((line, entry)) = lines.entry() {
        let place = Place { file: file.clone(), line };
        let entry = entry.map_err(|why| ComposeError::Dotenv { place: place.clone(), why })?;
        let value = match entry.value {
            None => outer.get(&entry.name),
            Some((text, Quotes::Single)) => Some(text),
            Some((text, quotes)) => {
                let value = interpolate(&text, &known)
                    .map_err(|failure| failed(&place, &entry.name, &text, failure))?;
                Some(if quotes == Quotes::Double { unescaped(&value) } else { value })
            }
        };
        if let Some(value) = value {
            known.above.borrow_mut().insert(entry.name, value);
        }
    }
    Ok(known.above.into_inner())
}

fn failed(place: &Place, name: &str, text: &str, failure: Failure) -> ComposeError {
    let (place, path) = (place.clone(), name.to_owned());
    match failure {
        Failure::Format => ComposeError::Interpolation { place, path, text: text.to_owned() },
        Failure::Required { name, message } => ComposeError::RequiredVariable { place, path, name, message },
    }
}

struct Known<'a> {
    above: RefCell<BTreeMap<String, String>>,
    outer: &'a dyn Variables,
}

impl Variables for Known<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.outer.get(name).or_else(|| self.above.borrow().get(name).cloned())
    }

    fn missing(&self, name: &str) {
        self.outer.missing(name);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Single,
    Double,
}

struct Entry {
    name: String,
    value: Option<(String, Quotes)>,
}

struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl Lines<'_> {
    /// The next variable with its line.
    fn entry(&mut self) -> Option<(usize, Result<Entry, String>)> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            let text = self.rest[..end].trim();
            if !text.is_empty() && !text.starts_with('#') {
                let line = self.line;
                return Some((line, self.assignment()));
            }
            self.skip(end);
        }
    }

    /// Goes on after so many bytes and the line that they end in.
    fn skip(&mut self, bytes: usize) {
        let end = self.rest[bytes..].find('\n').map_or(self.rest.len(), |at| bytes + at + 1);
        self.line += self.rest[..end].matches('\n').count();
        self.rest = &self.rest[end..];
    }

    fn assignment(&mut self) -> Result<Entry, String> {
        let line_end = self.rest.find('\n').unwrap_or(self.rest.len());
        let line = &self.rest[..line_end];
        let equals = line.find(['=', ':']);
        let name = line[..equals.unwrap_or(line.len())].trim();
        let name = name.strip_prefix("export ").map_or(name, str::trim_start).to_owned();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '"' || c == '\'') {
            let shown = line.trim().to_owned();
            return Err(format!("unexpected characters in variable name near \"{shown}\""));
        }
        let Some(equals) = equals else {
            self.skip(line_end);
            return Ok(Entry { name, value: None });
        };
        let blanks = line[equals + 1..].len() - line[equals + 1..].trim_start().len();
        let start = equals + 1 + blanks;
        let value = &self.rest[start.min(line_end)..];
        let quote = value.chars().next().filter(|first| start < line_end && matches!(first, '"' | '\''));
        let Some(quote) = quote else {
            let plain = without_comment(&line[start..]).to_owned();
            self.skip(line_end);
            return Ok(Entry { name, value: Some((plain, Quotes::None)) });
        };
        let Some(length) = quoted_length(&value[1..], quote) else {
            return Err(format!("unterminated quoted value of {name}"));
        };
        let text = value[1..=length].to_owned();
        self.skip(start + length + 2);
        let quotes = if quote == '"' { Quotes::Double } else { Quotes::Single };
        Ok(Entry { name, value: Some((text, quotes)) })
    }
}

/// Where the quote closes.
fn quoted_length(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(index),
            _ => {}
        }
    }
    None
}

/// The value before a `#` that blanks stand before.
fn without_comment(text: &str) -> &str {
    let comment = text
        .char_indices()
        .find(|(index, c)| *c == '#' && (*index == 0 || text[..*index].ends_with(char::is_whitespace)));
    text[..comment.map_or(text.len(), |(index, _)| index)].trim_end()
}

fn unescaped(text: &str) -> String {
    let mut result = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            result.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => result.push('\n'),
            Some('r') => result.push('\r'),
            Some('t') => result.push('\t'),
            Some(c @ ('"' | '\\' | '$' | '\'')) => result.push(c),
            Some(other) => result.extend(['\\', other]),
            None => result.push('\\'),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Outer;

    impl Variables for Outer {
        fn get(&self, name: &str) -> Option<String> {
            (name == "OUTER").then(|| "outside".to_owned())
        }

        fn missing(&self, _: &str) {}
    }

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let read = parse(&"x.env".into(), text, &Outer);
        read.map(|map| map.into_iter().collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_plain_or_quoted() {
        for (text, expected) in [
            ("A=1", "1"),
            ("export A=1", "1"),
            ("A: 1", "1"),
            ("A =  two words  # comment", "two words"),
            ("A=a#b", "a#b"),
            ("A=", ""),
            ("A= # all comment", ""),
            ("A='$OUTER # x'", "$OUTER # x"),
            ("A=\"a\\nb $OUTER\" # x", "a\nb outside"),
            ("A=\"two\nlines\"\n", "two\nlines"),
            ("A=${OUTER}-$OUTER", "outside-outside"),
            ("A=http://x/?a=b", "http://x/?a=b"),
            ("A=\\n", "\\n"),
            ("# c\n\n  A=x\r\n", "x"),
        ] {
            assert_eq!(read(text), Ok(vec![("A".to_owned(), expected.to_owned())]), "{text:?}");
        }
    }

    #[test]
    fn lines_build_on_each_other() {
        let read = read("A=1\nB=${A}2\nOUTER\nNOWHERE\nA=3\n").unwrap();
        let expected = [("A", "3"), ("B", "12"), ("OUTER", "outside")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        assert_eq!(
            read("A=1\n\nB C=2").unwrap_err(),
            "x.env:3: unexpected characters in variable name near \"B C=2\""
        );
        assert_eq!(read("A='x\ny\n").unwrap_err(), "x.env:1: unterminated quoted value of A");
        assert!(read("A=1\nB=${").unwrap_err().starts_with("x.env:2: invalid interpolation format for B"));
        assert!(read("=1").unwrap_err().contains("variable name"));
    }
}
