//! Expansion of words: quotes, escapes, `$name` and `${name…}`.
//!
//! A word is parsed with `word.pest` and evaluated against a lookup of variables. The rules are those of
//! the Dockerfile reference ("Environment replacement"), a part of what POSIX shells do: no command
//! substitution, no arithmetic, no bracket expressions in patterns.
//!
//! The grammar sees a normalised text (see `crate::grammar`); what it finds is read from the text as
//! written, at the same places.

mod error;

use std::collections::HashSet;

use pest::Parser as _;
use pest::iterators::{Pair, Pairs};

pub use error::ExpandError;
use error::{SHOWN, shorten};

use crate::grammar::word::{Rule, WordParser};
use crate::grammar::{Quotes, normalise};
use crate::pattern::{BadEscape, Pattern};

/// How deep `${…}` may be nested in `${…}`.
pub const MAX_DEPTH: usize = 100;

/// How many bytes longer than the text its expansion may be. Without a limit, forty lines
/// `ENV a=$a$a` would fill any memory.
pub const MAX_GROWTH: usize = 16 << 20;

/// The result of an expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text, quotes removed.
    pub value: String,
    /// Variables that were used and not set, in order of use, each once. Uses that provide for an unset
    /// variable (`${v:-w}`, `${v:+w}`, `${v:?w}` and those without colon) do not count.
    pub undefined: Vec<String>,
}

/// The result of an expansion that splits into words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExpandedWords {
    /// The words, quotes removed; empty ones are dropped.
    pub words: Vec<String>,
    /// As in [`Expanded`].
    pub undefined: Vec<String>,
}

/// What variables are worth.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Expands one word: of ENV, LABEL, WORKDIR, USER, a COPY path, a flag's value.
///
/// `escape` is the Dockerfile's escape character. Spaces are kept, the result is one value.
///
/// ```
/// let lookup = |name: &str| (name == "v").then(|| "1 2".to_owned());
/// let expanded = parser::word::expand("\"$v\"/${w:-x}'$v'", '\\', &lookup).unwrap();
/// assert_eq!(expanded.value, "1 2/x$v");
/// ```
pub fn expand(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<Expanded, ExpandError> {
    Expander::new(text, lookup).whole(&normalise(text, escape, Quotes::Special))
}

/// Expands and splits at white space that is not quoted, also at that which came from variables: the
/// ports of EXPOSE.
pub fn expand_words(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<ExpandedWords, ExpandError> {
    Expander::new(text, lookup).words(&normalise(text, escape, Quotes::Special))
}

/// Expands the body of a here-document: quotes are ordinary characters; an escape character disappears
/// before any character. BuildKit takes `\` for `escape` here whatever the Dockerfile says.
pub fn expand_heredoc(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<Expanded, ExpandError> {
    Expander::new(text, lookup).whole(&normalise(text, escape, Quotes::Ordinary))
}

/// Whether escape characters survive: they do in patterns, which have escapes of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Removed,
    Kept,
}

struct Expander<'a> {
    /// The text as written; spans of the normalised text are valid in it.
    text: &'a str,
    lookup: &'a Lookup<'a>,
    undefined: Vec<String>,
    /// The names in `undefined`.
    seen: HashSet<String>,
    depth: usize,
}

impl<'a> Expander<'a> {
    fn new(text: &'a str, lookup: &'a Lookup<'a>) -> Self {
        Self { text, lookup, undefined: Vec::new(), seen: HashSet::new(), depth: 0 }
    }

    fn whole(mut self, normalised: &str) -> Result<Expanded, ExpandError> {
        if !normalised.contains(['$', '\\', '\'', '"']) {
            return Ok(Expanded { value: self.text.to_owned(), undefined: Vec::new() });
        }
        let mut value = String::with_capacity(self.text.len());
        for part in parts_of(normalised)? {
            self.part(part, Escapes::Removed, &mut value)?;
        }
        Ok(Expanded { value, undefined: self.undefined })
    }

    fn words(mut self, normalised: &str) -> Result<ExpandedWords, ExpandError> {
        let mut splitter = Splitter::default();
        let mut length = 0;
        for part in parts_of(normalised)? {
            let splits = matches!(part.as_rule(), Rule::plain | Rule::loose | Rule::variable);
            let mut text = String::new();
            self.part(part, Escapes::Removed, &mut text)?;
            length += text.len();
            self.check_length(length)?;
            if splits { splitter.push_splitting(&text) } else { splitter.current.push_str(&text) }
        }
        Ok(ExpandedWords { words: splitter.finish(), undefined: self.undefined })
    }

    /// Appends what one part of a word stands for.
    fn part(&mut self, part: Pair<'_, Rule>, escapes: Escapes, out: &mut String) -> Result<(), ExpandError> {
        match part.as_rule() {
            Rule::variable => self.variable(part, out)?,
            Rule::single => self.single(part, out)?,
            Rule::double => self.double(part, escapes, out)?,
            Rule::escaped => out.push_str(self.unescaped(&part, escapes)),
            _ => out.push_str(self.written(&part)),
        }
        Ok(())
    }

    /// The text of a pair as written, which the normalised text may differ from.
    fn written(&self, pair: &Pair<'_, Rule>) -> &'a str {
        let span = pair.as_span();
        &self.text[span.start()..span.end()]
    }

    fn unescaped(&self, pair: &Pair<'_, Rule>, escapes: Escapes) -> &'a str {
        let written = self.written(pair);
        let mut characters = written.chars();
        if escapes == Escapes::Removed {
            characters.next();
        }
        characters.as_str()
    }

    fn single(&self, part: Pair<'_, Rule>, out: &mut String) -> Result<(), ExpandError> {
        let construct = shorten(self.written(&part));
        let mut closed = false;
        for piece in part.into_inner() {
            match piece.as_rule() {
                Rule::single_close => closed = true,
                _ => out.push_str(self.written(&piece)),
            }
        }
        if closed { Ok(()) } else { Err(ExpandError::UnclosedQuote { quote: '\'', construct }) }
    }

    fn double(
        &mut self,
        part: Pair<'_, Rule>,
        escapes: Escapes,
        out: &mut String,
    ) -> Result<(), ExpandError> {
        let construct = shorten(self.written(&part));
        let mut closed = false;
        for piece in part.into_inner() {
            match piece.as_rule() {
                Rule::double_close => closed = true,
                Rule::variable => self.variable(piece, out)?,
                Rule::double_escaped => out.push_str(self.unescaped(&piece, escapes)),
                _ => out.push_str(self.written(&piece)),
            }
        }
        if closed { Ok(()) } else { Err(ExpandError::UnclosedQuote { quote: '"', construct }) }
    }

    fn variable(&mut self, part: Pair<'_, Rule>, out: &mut String) -> Result<(), ExpandError> {
        let end = part.as_span().end();
        let written = self.written(&part);
        let Some(inner) = part.into_inner().next() else {
            out.push('$');
            return Ok(());
        };
        if inner.as_rule() == Rule::name {
            out.push_str(&self.value_or_empty(self.written(&inner)));
            return self.check_length(out.len());
        }
        if self.depth == MAX_DEPTH {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        self.braced(inner, written, end, out)?;
        self.depth -= 1;
        self.check_length(out.len())
    }

    fn check_length(&self, length: usize) -> Result<(), ExpandError> {
        if length > self.longest() { Err(ExpandError::TooLong) } else { Ok(()) }
    }

    fn longest(&self) -> usize {
        self.text.len().saturating_add(MAX_GROWTH)
    }

    /// `${…}`: `written` is all of it, `end` where it ends in the text.
    fn braced(
        &mut self,
        braced: Pair<'_, Rule>,
        written: &str,
        end: usize,
        out: &mut String,
    ) -> Result<(), ExpandError> {
        let construct = shorten(written);
        let (mut name, mut operation, mut closed) = ("", None, false);
        for piece in braced.into_inner() {
            match piece.as_rule() {
                Rule::name => name = self.written(&piece),
                Rule::brace_close => closed = true,
                _ => operation = Some(piece),
            }
        }
        if let Some(replacement) = operation.as_ref().filter(|found| found.as_rule() == Rule::replacement) {
            let is_complete = replacement.clone().into_inner().any(|piece| piece.as_rule() == Rule::operand);
            if !is_complete {
                return Err(ExpandError::NoReplacement { construct });
            }
        }
        if !closed {
            return Err(self.unclosed(written, name, operation.is_some(), end));
        }
        if name.is_empty() {
            return Err(ExpandError::NoName { construct });
        }
        match operation {
            None => out.push_str(&self.value_or_empty(name)),
            Some(operation) => self.operation(operation, name, &construct, out)?,
        }
        Ok(())
    }

    /// What is wrong with a `${` that has no `}` where one was expected.
    fn unclosed(&self, written: &str, name: &str, has_operation: bool, end: usize) -> ExpandError {
        let rest = &self.text[end..];
        let construct = shorten(&format!("{written}{}", rest.chars().take(SHOWN).collect::<String>()));
        if rest.is_empty() || has_operation {
            ExpandError::UnclosedBrace { construct }
        } else if name.is_empty() {
            ExpandError::NoName { construct }
        } else {
            ExpandError::UnsupportedOperator { construct }
        }
    }

    fn operation(
        &mut self,
        operation: Pair<'_, Rule>,
        name: &str,
        construct: &str,
        out: &mut String,
    ) -> Result<(), ExpandError> {
        let (mut operator, mut pattern, mut operand) = ("", None, None);
        for piece in operation.into_inner() {
            match piece.as_rule() {
                Rule::operator | Rule::replace_operator => operator = self.written(&piece),
                Rule::pattern => pattern = Some(piece.into_inner()),
                Rule::operand => operand = Some(piece.into_inner()),
                _ => {}
            }
        }
        let takes_pattern = matches!(operator, "#" | "##" | "%" | "%%");
        let escapes = if takes_pattern || pattern.is_some() { Escapes::Kept } else { Escapes::Removed };
        let pattern = pattern.map(|pieces| self.concatenated(pieces, Escapes::Kept)).transpose()?;
        let word = operand.map(|pieces| self.concatenated(pieces, escapes)).transpose()?.unwrap_or_default();
        if !takes_pattern && pattern.is_none() {
            return self.conditional(name, operator, word, out);
        }
        let value = self.value_or_empty(name);
        let (pattern, replacement) =
            pattern.as_deref().map_or((word.as_str(), ""), |text| (text, word.as_str()));
        self.substitution(&value, operator, pattern, replacement, construct, out)
    }

    fn concatenated(&mut self, pieces: Pairs<'_, Rule>, escapes: Escapes) -> Result<String, ExpandError> {
        let mut out = String::new();
        for piece in pieces {
            self.part(piece, escapes, &mut out)?;
        }
        Ok(out)
    }

    /// The operators that look at whether the variable is set.
    fn conditional(
        &self,
        name: &str,
        operator: &str,
        word: String,
        out: &mut String,
    ) -> Result<(), ExpandError> {
        let set = (self.lookup)(name);
        let usable = set.as_ref().is_some_and(|value| !operator.starts_with(':') || !value.is_empty());
        match (operator.trim_start_matches(':'), set) {
            ("+", _) => out.push_str(if usable { &word } else { "" }),
            (_, Some(value)) if usable => out.push_str(&value),
            ("-", _) => out.push_str(&word),
            (_, set) => {
                let trouble = if set.is_some() { "must not be empty" } else { "must be set" };
                let message = if word.is_empty() { trouble.to_owned() } else { word };
                return Err(ExpandError::Required { name: name.to_owned(), message });
            }
        }
        Ok(())
    }

    /// The operators that cut or replace parts of the value.
    fn substitution(
        &self,
        value: &str,
        operator: &str,
        pattern: &str,
        replacement: &str,
        construct: &str,
        out: &mut String,
    ) -> Result<(), ExpandError> {
        let compiled = Pattern::new(pattern).map_err(|BadEscape(escaped)| ExpandError::BadPattern {
            construct: construct.to_owned(),
            pattern: shorten(pattern),
            escaped,
        })?;
        match operator {
            "#" => out.push_str(compiled.without_shortest_prefix(value)),
            "##" => out.push_str(compiled.without_longest_prefix(value)),
            "%" => out.push_str(compiled.without_shortest_suffix(value)),
            "%%" => out.push_str(compiled.without_longest_suffix(value)),
            "/" => out.push_str(&compiled.replaced_once(value, replacement)),
            _ => {
                let replaced = compiled.replaced(value, replacement, self.longest());
                out.push_str(&replaced.ok_or(ExpandError::TooLong)?);
            }
        }
        Ok(())
    }

    fn value_or_empty(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            if self.seen.insert(name.to_owned()) {
                self.undefined.push(name.to_owned());
            }
            String::new()
        })
    }
}

/// The parts of a normalised word. The grammar accepts every text, so the only failure is that the
/// parser ran out of stack in nested braces.
fn parts_of(normalised: &str) -> Result<impl Iterator<Item = Pair<'_, Rule>>, ExpandError> {
    let word = WordParser::parse(Rule::word, normalised).map_err(|_| ExpandError::TooDeep)?;
    Ok(word.flat_map(Pair::into_inner).filter(|part| part.as_rule() != Rule::EOI))
}

/// Collects words from pieces of text.
#[derive(Default)]
struct Splitter {
    words: Vec<String>,
    current: String,
}

impl Splitter {
    fn push_splitting(&mut self, text: &str) {
        for character in text.chars() {
            if character.is_whitespace() { self.end_word() } else { self.current.push(character) }
        }
    }

    fn end_word(&mut self) {
        if !self.current.is_empty() {
            self.words.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end_word();
        self.words
    }
}
