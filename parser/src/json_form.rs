//! The JSON form of arguments: `["program", "argument"]`.
//!
//! Docker takes arguments that are not valid JSON for the other form without a word, so `["a", 'b']` runs
//! in a shell. We do the same, and can tell why it was no JSON; an array of other things than strings is
//! an error, as in Docker.

use pest::Parser as _;
use pest::error::InputLocation;

use crate::grammar::dockerfile::{DockerfileParser, Rule};

/// What arguments are as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JsonForm {
    /// An array of strings, with the range of bytes of each.
    Strings(Vec<(String, usize, usize)>),
    /// An array with something else in it, which stands at these bytes.
    NotStrings(usize, usize),
    /// Not a JSON array. `broken_at` is set if it was surely meant as one, to the byte where it goes wrong.
    Other { broken_at: Option<usize> },
}

/// Reads `text` as a JSON array.
pub(crate) fn read(text: &str) -> JsonForm {
    if !text.starts_with('[') {
        return JsonForm::Other { broken_at: None };
    }
    let array = match DockerfileParser::parse(Rule::json_array, text) {
        Ok(array) => array,
        Err(error) => return JsonForm::Other { broken_at: looks_meant(text).then(|| offset(&error)) },
    };
    let mut strings = Vec::new();
    for item in array.flat_map(pest::iterators::Pair::into_inner) {
        let span = item.as_span();
        match item.as_rule() {
            Rule::json_string => match serde_json::from_str(item.as_str()) {
                Ok(string) => strings.push((string, span.start(), span.end())),
                // Valid by the grammar, but it names half of a surrogate pair.
                Err(_) => return JsonForm::Other { broken_at: Some(span.start()) },
            },
            Rule::json_other => return JsonForm::NotStrings(span.start(), span.end()),
            _ => {}
        }
    }
    JsonForm::Strings(strings)
}

fn offset(error: &pest::error::Error<Rule>) -> usize {
    match error.location {
        InputLocation::Pos(position) | InputLocation::Span((position, _)) => position,
    }
}

/// Whether a text that begins with `[` was meant as JSON and not as a shell's test: a quote follows at
/// once, or the first quoted text is followed by a comma.
fn looks_meant(text: &str) -> bool {
    let inside = &text[1..];
    let trimmed = inside.trim_start();
    let Some(quote) = trimmed.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return false;
    };
    let after_first = trimmed[1..].split_once(quote).map(|(_, rest)| rest.trim_start());
    inside.starts_with(quote) || after_first.is_some_and(|rest| rest.starts_with(','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_strings(text: &str, expected: &[&str]) {
        let JsonForm::Strings(found) = read(text) else { panic!("not strings: {text}") };
        assert_eq!(found.iter().map(|(string, ..)| string.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn arrays_of_strings() {
        check_strings("[]", &[]);
        check_strings("[ ]", &[]);
        check_strings(r#"["a", "b c" ,"\u00e9\n\"]"]"#, &["a", "b c", "é\n\"]"]);
    }

    #[test]
    fn arrays_of_other_things() {
        for text in ["[1]", "[\"a\", null]", "[true]", "[[\"a\"]]", "[{\"a\": -1.5e3}]", "[0]"] {
            assert!(matches!(read(text), JsonForm::NotStrings(..)), "{text}");
        }
    }

    #[test]
    fn arrays_that_are_none() {
        let broken_at = |text| match read(text) {
            JsonForm::Other { broken_at } => broken_at,
            other => panic!("{other:?}"),
        };
        assert_eq!(broken_at("['a']"), Some(1));
        assert_eq!(broken_at("[\"a\", 'b']"), Some(6));
        assert_eq!(broken_at("[ \"a\", ]"), Some(7));
        assert_eq!(broken_at("[\"a\"] && b"), Some(6));
        assert_eq!(broken_at("[ \"$x\" = 1 ] && b"), None);
        assert_eq!(broken_at("[ -f x ]"), None);
        assert_eq!(broken_at("echo"), None);
    }

    #[test]
    fn deep_nesting_is_refused_without_a_crash() {
        let text = "[".repeat(1_000_000);
        assert!(matches!(read(&text), JsonForm::Other { .. }));
    }
}
