//! File name patterns: those of Go's `filepath.Match`, which COPY and ADD use for their sources.
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any characters except `/` |
//! | `?` | one character except `/` |
//! | `[a-z]`, `[^a-z]` | one character of the class, or not of it |
//! | `\c` | the character `c` |
//!
//! `.dockerignore` adds `**`; both languages compile to the [`Program`] in here, which runs in time
//! proportional to pattern times path, whatever the number of stars. Paths are bytes: a byte that is not
//! UTF-8 counts as one character, equal to itself only.

use std::str::FromStr;

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// `[` without `]`.
    #[error("[ is never closed in the pattern {0:?}")]
    UnclosedClass(String),
    /// `[]`, `[a-]` or `[-z]`.
    #[error("the pattern {0:?} has a [] class with a missing character (write \\] and \\- for themselves)")]
    BadClass(String),
    /// A backslash at the end.
    #[error("the pattern {0:?} ends in a backslash that escapes nothing")]
    TrailingBackslash(String),
}

impl base::Faulty for BadPattern {
    fn fault(&self) -> base::Fault {
        base::Fault::Input
    }
}

/// A compiled pattern with the meaning of Go's `filepath.Match` (on Unix).
#[derive(Debug, Clone)]
pub struct Pattern(Program);

impl Pattern {
    /// Compiles a pattern.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        Program::compile(pattern, Dialect::Match).map(Self)
    }

    /// Whether all of `path` matches.
    ///
    /// ```
    /// let pattern = parser::glob::Pattern::new("src/*.[ch]").unwrap();
    /// assert!(pattern.matches("src/main.c"));
    /// assert!(!pattern.matches("src/deep/main.c"));
    /// ```
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        self.0.run(path.as_ref()) == Outcome::Whole
    }

    /// Whether some path that begins with `directory` and a slash could match. A walk that looks for
    /// matches need not enter other directories.
    pub fn may_match_below(&self, directory: impl AsRef<[u8]>) -> bool {
        self.0.may_match_below(directory.as_ref())
    }

    /// The only path that matches, when the pattern has no wildcards; its escapes are undone.
    pub fn literal(&self) -> Option<&[u8]> {
        self.0.is_literal().then_some(&self.0.prefix)
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(pattern: &str) -> Result<Self, BadPattern> {
        Self::new(pattern)
    }
}

/// Which language a pattern is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `filepath.Match`.
    Match,
    /// The same with `**`.
    Ignore,
}

/// One step of a program. A character is a `u32`: a Unicode scalar, or above them a byte that is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// One character that is not `/`.
    One,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Any characters but `/`.
    Star,
    /// Any characters.
    Everything,
    /// Nothing, or any characters that end in `/`.
    Directories,
}

/// How far a program got with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not at all.
    No,
    /// The path's parent, or the parent of that, matches.
    Ancestor,
    /// The whole path matches.
    Whole,
}

/// A compiled pattern of either dialect: a nondeterministic automaton whose state is the index of the
/// next token.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    tokens: Vec<Token>,
    /// The literals at the beginning, as UTF-8, and their number.
    prefix: Vec<u8>,
    prefix_tokens: usize,
    /// Bytes that every match contains, see [`byte_mask`].
    required: u64,
}

impl Program {
    pub(crate) fn compile(pattern: &str, dialect: Dialect) -> Result<Self, BadPattern> {
        let tokens = Compiler { pattern, rest: pattern.chars().peekable(), dialect }.tokens()?;
        let literal = |token: &Token| match token {
            Token::Literal(character) => Some(*character),
            _ => None,
        };
        let prefix: String = tokens.iter().map_while(literal).collect();
        let required: String = tokens.iter().filter_map(literal).collect();
        Ok(Self {
            prefix_tokens: prefix.chars().count(),
            prefix: prefix.into_bytes(),
            required: byte_mask(required.as_bytes()),
            tokens,
        })
    }

    pub(crate) fn is_literal(&self) -> bool {
        self.prefix_tokens == self.tokens.len()
    }

    /// Whether a path with this [`byte_mask`] has a chance, for callers with many programs.
    pub(crate) fn may_match(&self, mask: u64) -> bool {
        self.required & !mask == 0
    }

    /// Matches `path` and its ancestors in one pass.
    pub(crate) fn run(&self, path: &[u8]) -> Outcome {
        let Some(rest) = path.strip_prefix(self.prefix.as_slice()) else { return Outcome::No };
        if self.is_literal() {
            return match rest.first() {
                None => Outcome::Whole,
                Some(b'/') => Outcome::Ancestor,
                Some(_) => Outcome::No,
            };
        }
        self.with_states(|states| self.run_automaton(states, rest))
    }

    /// Whether a path below `directory` could match, be it because an ancestor of it does.
    pub(crate) fn may_match_below(&self, directory: &[u8]) -> bool {
        let path: Vec<u8> = directory.iter().copied().chain([b'/']).collect();
        if self.prefix.starts_with(&path) {
            return true;
        }
        let Some(rest) = path.strip_prefix(self.prefix.as_slice()) else { return false };
        self.with_states(|states| self.run_automaton(states, rest) != Outcome::No || states.any())
    }

    fn run_automaton(&self, states: &mut States<'_>, path: &[u8]) -> Outcome {
        self.enter(states.current, self.prefix_tokens);
        let mut outcome = Outcome::No;
        let mut position = 0;
        while position < path.len() {
            let (character, width) = character_at(path, position);
            if character == u32::from('/') && has(states.current, self.tokens.len()) {
                outcome = Outcome::Ancestor;
            }
            self.step(states, character);
            if !states.any() {
                return outcome;
            }
            position += width;
        }
        if has(states.current, self.tokens.len()) { Outcome::Whole } else { outcome }
    }

    fn step(&self, states: &mut States<'_>, character: u32) {
        states.next.fill(0);
        for word in 0..states.current.len() {
            let mut bits = states.current[word];
            while bits != 0 {
                let state = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                self.follow(states.next, state, character);
            }
        }
        std::mem::swap(&mut states.current, &mut states.next);
    }

    /// Adds the states that follow `state` when `character` is read.
    fn follow(&self, next: &mut [u64], state: usize, character: u32) {
        let is_slash = character == u32::from('/');
        match self.tokens.get(state) {
            Some(Token::Literal(literal)) if u32::from(*literal) == character => self.enter(next, state + 1),
            Some(Token::One) if !is_slash => self.enter(next, state + 1),
            Some(Token::Class { negated, ranges }) => {
                let inside =
                    |range: &(char, char)| (u32::from(range.0)..=u32::from(range.1)).contains(&character);
                if ranges.iter().any(inside) != *negated {
                    self.enter(next, state + 1);
                }
            }
            Some(Token::Star) if !is_slash => self.enter(next, state),
            Some(Token::Everything) => self.enter(next, state),
            Some(Token::Directories) => {
                insert(next, state);
                if is_slash {
                    self.enter(next, state + 1);
                }
            }
            _ => {}
        }
    }

    /// Adds a state, and those that it reaches without reading.
    fn enter(&self, states: &mut [u64], mut state: usize) {
        insert(states, state);
        while let Some(Token::Star | Token::Everything | Token::Directories) = self.tokens.get(state) {
            state += 1;
            insert(states, state);
        }
    }

    /// Runs `work` with room for the states, on the stack unless the pattern is very long.
    fn with_states<T>(&self, work: impl FnOnce(&mut States<'_>) -> T) -> T {
        let words = self.tokens.len() / 64 + 1;
        if words <= 2 {
            let (mut current, mut next) = ([0; 2], [0; 2]);
            work(&mut States { current: &mut current[..words], next: &mut next[..words] })
        } else {
            let (mut current, mut next) = (vec![0; words], vec![0; words]);
            work(&mut States { current: &mut current, next: &mut next })
        }
    }
}

/// Two sets of states as bits: before and after a character.
struct States<'a> {
    current: &'a mut [u64],
    next: &'a mut [u64],
}

impl States<'_> {
    fn any(&self) -> bool {
        self.current.iter().any(|word| *word != 0)
    }
}

fn insert(states: &mut [u64], state: usize) {
    states[state / 64] |= 1 << (state % 64);
}

fn has(states: &[u64], state: usize) -> bool {
    states[state / 64] & (1 << (state % 64)) != 0
}

/// A bit for every byte value that occurs, modulo 64. If a pattern's mask has a bit that a path's has
/// not, the path cannot match.
pub(crate) fn byte_mask(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |mask, byte| mask | 1 << (byte % 64))
}

/// The character at `position` and its length in bytes.
fn character_at(bytes: &[u8], position: usize) -> (u32, usize) {
    let first = bytes[position];
    if first.is_ascii() {
        return (u32::from(first), 1);
    }
    let rest = &bytes[position..bytes.len().min(position + 4)];
    let valid = match std::str::from_utf8(rest) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => (u32::from(character), character.len_utf8()),
        None => (u32::from(char::MAX) + 1 + u32::from(first), 1),
    }
}

struct Compiler<'a> {
    pattern: &'a str,
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    dialect: Dialect,
}

impl Compiler<'_> {
    fn tokens(mut self) -> Result<Vec<Token>, BadPattern> {
        let mut tokens = Vec::new();
        while let Some(character) = self.rest.next() {
            let token = match character {
                '*' if self.dialect == Dialect::Ignore && self.rest.next_if_eq(&'*').is_some() => {
                    self.double_star(tokens.is_empty())
                }
                '*' => Token::Star,
                '?' => Token::One,
                '[' => self.class()?,
                '\\' => Token::Literal(self.rest.next().ok_or_else(|| self.trailing_backslash())?),
                literal => Token::Literal(literal),
            };
            let repeats = token == Token::Star && tokens.last() == Some(&Token::Star);
            if !repeats {
                tokens.push(token);
            }
        }
        Ok(tokens)
    }

    /// `**` and the slash after it. At the end it is everything. Before other text it is any number of
    /// directories, except that at the start, directly before plain text, it is everything (`**.log`).
    fn double_star(&mut self, is_first: bool) -> Token {
        let has_slash = self.rest.next_if_eq(&'/').is_some();
        let is_last = self.rest.peek().is_none();
        let plain_rest =
            !self.rest.clone().any(|character| matches!(character, '*' | '?' | '[' | ']' | '\\'));
        if is_last || (is_first && !has_slash && plain_rest) { Token::Everything } else { Token::Directories }
    }

    fn class(&mut self) -> Result<Token, BadPattern> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        loop {
            if !ranges.is_empty() && self.rest.next_if_eq(&']').is_some() {
                return Ok(Token::Class { negated, ranges });
            }
            let low = self.class_character()?;
            let high = if self.rest.next_if_eq(&'-').is_some() { self.class_character()? } else { low };
            ranges.push((low, high));
        }
    }

    fn class_character(&mut self) -> Result<char, BadPattern> {
        match self.rest.next() {
            Some('\\') => self.rest.next().ok_or_else(|| self.trailing_backslash()),
            Some('-' | ']') => Err(BadPattern::BadClass(self.pattern.to_owned())),
            Some(character) => Ok(character),
            None => Err(BadPattern::UnclosedClass(self.pattern.to_owned())),
        }
    }

    fn trailing_backslash(&self) -> BadPattern {
        BadPattern::TrailingBackslash(self.pattern.to_owned())
    }
}
