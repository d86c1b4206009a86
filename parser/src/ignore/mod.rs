//! `.dockerignore` files, and the pattern lists of `COPY --exclude`, which mean the same.
//!
//! A line is a comment if its first character is `#`; otherwise blanks around it are dropped, the path is
//! cleaned (`./`, `//`, `x/..`, slashes at both ends) and compiled. The last line that matches a path or
//! one of its parents decides: it excludes the path, or with `!` keeps it. `**` is any number of
//! directories. Source: the Docker documentation, ".dockerignore files".
//!
//! Reading the file, and choosing which one applies, is for the caller.

mod automaton;
mod components;

use automaton::{Automaton, Steps};
use components::ComponentPattern;

use crate::diagnostic::Diagnostic;
use crate::glob::{BadPattern, Dialect, Outcome, Program, byte_mask};
use crate::span::Span;

/// A compiled list of patterns.
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    rules: Vec<Rule>,
    /// The rules of the usual kind.
    usual: Automaton,
    /// The others, by number.
    unusual: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Rule {
    is_exception: bool,
    /// For what the automaton of the usual rules does not know.
    program: Program,
}

/// What the rules say about a directory, and what they wait for below it. Asking about the entries of a
/// directory by way of this takes less time than asking about their paths.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Its path and a slash; empty for the root.
    path: Vec<u8>,
    waiting: Steps,
    /// The last rule that matches it or a directory above.
    decided: Option<usize>,
}

/// Why a pattern of a list is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A line `!` without a pattern.
    #[error("\"!\" names nothing to keep")]
    EmptyException,
    /// The pattern has a syntax error.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
}

impl base::Faulty for IgnoreError {
    fn fault(&self) -> base::Fault {
        base::Fault::Input
    }
}

impl IgnoreFile {
    /// Compiles the text of a file. Lines that are wrong are left out, and there is an error for each.
    pub fn parse(text: &str) -> (Self, Vec<Diagnostic>) {
        let mut file = Self::default();
        let mut diagnostics = Vec::new();
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            let start = offset;
            offset += line.len();
            let mark = if start == 0 && line.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
            let line = line[mark..].trim_end_matches(['\r', '\n']);
            if line.starts_with('#') {
                continue;
            }
            if let Err(error) = file.add(line) {
                let span = Span::new(start + mark, start + mark + line.len());
                diagnostics.push(Diagnostic::error("ignore-bad-pattern", span, error.to_string()));
            }
        }
        (file, diagnostics)
    }

    /// Compiles patterns that are already apart. `#` has no meaning in them.
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        let mut file = Self::default();
        for pattern in patterns {
            file.add(pattern)?;
        }
        Ok(file)
    }

    fn add(&mut self, line: &str) -> Result<(), IgnoreError> {
        let line = line.trim();
        let (is_exception, pattern) = match line.strip_prefix('!') {
            Some(pattern) => (true, pattern.trim()),
            None => (false, line),
        };
        if pattern.is_empty() {
            return if is_exception { Err(IgnoreError::EmptyException) } else { Ok(()) };
        }
        let cleaned = clean(pattern);
        let relative = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
        let program = Program::compile(relative, Dialect::Ignore)?;
        match ComponentPattern::compile(relative)? {
            Some(usual) => self.usual.add(self.rules.len(), usual),
            None => self.unusual.push(self.rules.len()),
        }
        self.rules.push(Rule { is_exception, program });
        Ok(())
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `path` is excluded, by itself or because a directory above it is. The path is relative to
    /// the root, with `/` between its parts and none at its ends.
    ///
    /// ```
    /// let (file, _) = parser::ignore::IgnoreFile::parse("target\n!target/keep\n**/*.log");
    /// assert!(file.excludes("target/debug/lap"));
    /// assert!(!file.excludes("target/keep/this"));
    /// assert!(file.excludes("a/b/c.log"));
    /// ```
    pub fn excludes(&self, path: impl AsRef<[u8]>) -> bool {
        let (parent, name) = split(path.as_ref());
        self.excludes_in(&self.directory(parent), name)
    }

    /// The directory with this path, empty for the root.
    pub fn directory(&self, path: &[u8]) -> Directory {
        let root = Directory { path: Vec::new(), waiting: self.usual.start.clone(), decided: None };
        if path.is_empty() {
            return root;
        }
        path.split(|byte| *byte == b'/').fold(root, |directory, name| self.enter(directory, name))
    }

    fn enter(&self, directory: Directory, name: &[u8]) -> Directory {
        let (decided, waiting) = self.usual.enter(&directory.waiting, name);
        let mut path = directory.path;
        path.extend_from_slice(name);
        path.push(b'/');
        Directory { path, waiting, decided: directory.decided.max(decided) }
    }

    /// Whether the entry `name` of a directory is excluded.
    pub fn excludes_in(&self, directory: &Directory, name: &[u8]) -> bool {
        let decided = directory.decided.max(self.usual.decided(&directory.waiting, name));
        let later = self.unusual.iter().rev().take_while(|rule| decided < Some(**rule));
        let decided = match self.first_match(later, directory, name) {
            None => decided,
            unusual => unusual,
        };
        decided.is_some_and(|rule| !self.rules[rule].is_exception)
    }

    /// The first of some unusual rules that matches an entry or what is above it.
    fn first_match<'a>(
        &self,
        mut rules: impl Iterator<Item = &'a usize>,
        directory: &Directory,
        name: &[u8],
    ) -> Option<usize> {
        if self.unusual.is_empty() {
            return None;
        }
        let path = [directory.path.as_slice(), name].concat();
        let mask = byte_mask(&path);
        let matches = |rule: &Rule| rule.program.may_match(mask) && rule.program.run(&path) != Outcome::No;
        rules.find(|rule| matches(&self.rules[**rule])).copied()
    }

    /// Whether something below `directory` could be kept by a `!` line. If not, and the directory is
    /// excluded, a scan need not enter it.
    pub fn may_contain_exceptions(&self, directory: impl AsRef<[u8]>) -> bool {
        let directory = directory.as_ref();
        self.rules.iter().any(|rule| rule.is_exception && rule.program.may_match_below(directory))
    }

    /// Whether there is a `!` line.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.is_exception)
    }
}

/// The directory of a path, empty for the root, and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    }
}

/// The shortest path with the same meaning, as Go's `filepath.Clean` finds it without looking at files.
fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (is_absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}
