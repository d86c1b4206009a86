//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`.
//!
//! `*` is any text, `?` any character, `\*`, `\?` and `\\` are themselves; `\}` and `\/` are `}` and `/`.
//! There are no bracket expressions. A pattern is a list of segments between stars, and every operation
//! looks for the segments one after another, so it takes time in proportion to value times pattern.

/// A pattern, compiled.
pub(crate) struct Pattern {
    /// The parts between stars; a pattern without a star has one.
    segments: Vec<Vec<Token>>,
}

/// The pattern has a backslash before this character, which is no escape.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadEscape(pub(crate) char);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    Any,
}

impl Token {
    fn matches(self, character: char) -> bool {
        match self {
            Token::Literal(literal) => literal == character,
            Token::Any => true,
        }
    }
}

/// How much a star takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Shortest,
    Longest,
}

impl Pattern {
    pub(crate) fn new(pattern: &str) -> Result<Self, BadEscape> {
        let mut segments = vec![Vec::new()];
        let mut current = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            match character {
                '*' => {
                    segments.pop();
                    segments.push(std::mem::take(&mut current));
                    segments.push(Vec::new());
                }
                '?' => current.push(Token::Any),
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => current.push(Token::Literal(escaped)),
                    other => return Err(BadEscape(other.unwrap_or('\\'))),
                },
                literal => current.push(Token::Literal(literal)),
            }
        }
        segments.pop();
        segments.push(current);
        Ok(Self { segments })
    }

    pub(crate) fn without_shortest_prefix<'a>(&self, value: &'a str) -> &'a str {
        self.without_prefix(value, Extent::Shortest)
    }

    pub(crate) fn without_longest_prefix<'a>(&self, value: &'a str) -> &'a str {
        self.without_prefix(value, Extent::Longest)
    }

    pub(crate) fn without_shortest_suffix<'a>(&self, value: &'a str) -> &'a str {
        self.without_suffix(value, Extent::Shortest)
    }

    pub(crate) fn without_longest_suffix<'a>(&self, value: &'a str) -> &'a str {
        self.without_suffix(value, Extent::Longest)
    }

    /// The value with the first, longest match replaced.
    pub(crate) fn replaced_once(&self, value: &str, replacement: &str) -> String {
        let text: Vec<char> = value.chars().collect();
        match self.find(&text, 0) {
            Some((start, end)) => {
                let before = text[..start].iter();
                before.copied().chain(replacement.chars()).chain(text[end..].iter().copied()).collect()
            }
            None => value.to_owned(),
        }
    }

    /// The value with all longest matches replaced, from left to right. An empty match right after
    /// another match does not count. `None` if the result is longer than `longest` bytes.
    pub(crate) fn replaced(&self, value: &str, replacement: &str, longest: usize) -> Option<String> {
        let text: Vec<char> = value.chars().collect();
        let mut out = String::with_capacity(value.len());
        let (mut position, mut last_end) = (0, None);
        while let Some((start, end)) = self.find(&text, position) {
            out.extend(&text[position..start]);
            if end > start || last_end != Some(start) {
                out.push_str(replacement);
            }
            if out.len() > longest {
                return None;
            }
            last_end = Some(end);
            position = end;
            if end == start {
                let Some(character) = text.get(end) else { return Some(out) };
                out.push(*character);
                position += 1;
            }
        }
        out.extend(&text[position.min(text.len())..]);
        Some(out)
    }

    fn without_prefix<'a>(&self, value: &'a str, extent: Extent) -> &'a str {
        let text: Vec<char> = value.chars().collect();
        match end_of_match(&self.segments, &text, extent) {
            Some(end) => &value[byte_offset(value, end)..],
            None => value,
        }
    }

    /// As [`Self::without_prefix`] with everything read backwards.
    fn without_suffix<'a>(&self, value: &'a str, extent: Extent) -> &'a str {
        let text: Vec<char> = value.chars().rev().collect();
        let backwards = |segment: &Vec<Token>| segment.iter().rev().copied().collect::<Vec<_>>();
        let segments: Vec<Vec<Token>> = self.segments.iter().rev().map(backwards).collect();
        match end_of_match(&segments, &text, extent) {
            Some(end) => &value[..byte_offset(value, text.len() - end)],
            None => value,
        }
    }

    /// The first match that starts at `from` or later, as a range of characters.
    fn find(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        for start in from..=text.len() {
            if !starts_with(&text[start..], &self.segments[0]) {
                continue;
            }
            // If the rest is not found from here, it is not found further right either.
            let end = end_of_match(&self.segments, &text[start..], Extent::Longest)?;
            return Some((start, start + end));
        }
        None
    }
}

/// Where a match that begins at the first character ends.
fn end_of_match(segments: &[Vec<Token>], text: &[char], extent: Extent) -> Option<usize> {
    let (first, rest) = segments.split_first()?;
    if !starts_with(text, first) {
        return None;
    }
    let mut end = first.len();
    for (index, segment) in rest.iter().enumerate() {
        let is_last = index + 1 == rest.len();
        let latest = is_last && extent == Extent::Longest;
        let found = if latest { rfind(&text[end..], segment) } else { find(&text[end..], segment) };
        end += found? + segment.len();
    }
    Some(end)
}

fn starts_with(text: &[char], segment: &[Token]) -> bool {
    text.len() >= segment.len()
        && segment.iter().zip(text).all(|(token, character)| token.matches(*character))
}

fn find(text: &[char], segment: &[Token]) -> Option<usize> {
    let last = text.len().checked_sub(segment.len())?;
    (0..=last).find(|start| starts_with(&text[*start..], segment))
}

fn rfind(text: &[char], segment: &[Token]) -> Option<usize> {
    let last = text.len().checked_sub(segment.len())?;
    (0..=last).rev().find(|start| starts_with(&text[*start..], segment))
}

fn byte_offset(text: &str, characters: usize) -> usize {
    text.char_indices().nth(characters).map_or(text.len(), |(offset, _)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, value: &str, expected: [&str; 4]) {
        let pattern = Pattern::new(pattern).unwrap();
        let found = [
            pattern.without_shortest_prefix(value),
            pattern.without_longest_prefix(value),
            pattern.without_shortest_suffix(value),
            pattern.without_longest_suffix(value),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn prefixes_and_suffixes() {
        check("*/", "a/b/c", ["b/c", "c", "a/b/c", "a/b/c"]);
        check("/*", "a/b/c", ["a/b/c", "a/b/c", "a/b", "a"]);
        check("a", "aba", ["ba", "ba", "ab", "ab"]);
        check("?", "été", ["té", "té", "ét", "ét"]);
        check("*", "abc", ["abc", "", "abc", ""]);
        check("", "abc", ["abc"; 4]);
        check("a*b*c", "a1b2c3c", ["3c", "", "", ""]);
        check("x*y", "abc", ["abc"; 4]);
        check(r"\*", "*a*", ["a*", "a*", "*a", "*a"]);
    }

    #[track_caller]
    fn check_replace(pattern: &str, value: &str, once: &str, all: &str) {
        let pattern = Pattern::new(pattern).unwrap();
        assert_eq!(pattern.replaced_once(value, "X"), once);
        assert_eq!(pattern.replaced(value, "X", 100).as_deref(), Some(all));
    }

    #[test]
    fn replacements() {
        check_replace("a", "banana", "bXnana", "bXnXnX");
        check_replace("a*n", "banana", "bXa", "bXa");
        check_replace("?", "ab", "Xb", "XX");
        check_replace("*", "abc", "X", "X");
        check_replace("", "ab", "Xab", "XaXbX");
        check_replace("z", "ab", "ab", "ab");
        check_replace(r"\/", "a/b", "aXb", "aXb");
    }

    #[test]
    fn replacing_stops_when_the_result_is_too_long() {
        assert_eq!(Pattern::new("a").unwrap().replaced("aaaa", "1234", 10), None);
    }

    #[test]
    fn escapes_that_are_not_needed_are_refused() {
        assert_eq!(Pattern::new(r"a\b").err(), Some(BadEscape('b')));
        assert_eq!(Pattern::new(r"a\").err(), Some(BadEscape('\\')));
    }

    #[test]
    fn a_hopeless_pattern_on_a_long_value_takes_one_pass() {
        let value = "a".repeat(200_000);
        let pattern = Pattern::new("a*b").unwrap();
        assert_eq!(pattern.replaced(&value, "X", value.len()), Some(value));
    }
}
