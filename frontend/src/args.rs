//! Variables: which are in scope, where their values come from, and expansion with their help.
//!
//! Source: Dockerfile reference, "ARG" (scope, predefined and platform arguments) and "Environment
//! replacement".

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base::Platform;
use parser::ast::Word;
use parser::span::Span;
use parser::word;

use crate::checks::Findings;
use crate::error::LowerError;

/// The search path that an image without one gets.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Heredoc bodies escape with a backslash whatever the directive says, as in BuildKit.
const HEREDOC_ESCAPE: char = '\\';

/// Proxy arguments: known without ARG, given to processes, kept out of keys and history.
const PROXY_NAMES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Variables in the order they were set; setting one again moves it to the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    values: HashMap<String, (usize, String)>,
    /// The names by when they were set.
    order: BTreeMap<usize, String>,
    /// When the next is set.
    next: usize,
    /// ARGs without a value: they expand to nothing, and their use is no mistake.
    declared: BTreeSet<String>,
}

impl Environment {
    /// Reads `NAME=value` entries of an image config.
    pub(crate) fn from_entries(entries: &[String]) -> Self {
        let mut environment = Self::default();
        for entry in entries {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            environment.set(name, value);
        }
        environment
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        if let Some((before, _)) = self.values.insert(name.to_owned(), (self.next, value.to_owned())) {
            self.order.remove(&before);
        }
        self.order.insert(self.next, name.to_owned());
        self.next += 1;
    }

    /// Notes an ARG that has no value.
    pub(crate) fn declare(&mut self, name: &str) {
        self.declared.insert(name.to_owned());
    }

    /// Whether a name is set, or at least declared.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.declared.contains(name)
    }

    /// The names that are set or declared.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.order.values().chain(&self.declared).map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }

    /// As `NAME=value` entries.
    pub(crate) fn entries(&self) -> Vec<String> {
        let value = |name: &String| self.get(name).unwrap_or_default().to_owned();
        self.order.values().map(|name| format!("{name}={}", value(name))).collect()
    }
}

/// Sets `NAME=value` in an image config: in place if the name is there, else at the end.
pub(crate) fn set_config_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let is_name = |known: &String| known.split_once('=').map_or(known.as_str(), |(n, _)| n) == name;
    match env.iter_mut().find(|known| is_name(known)) {
        Some(known) => *known = entry,
        None => env.push(entry),
    }
}

/// The proxy variables among the build arguments, unless `declared` says that ARG made them ordinary.
pub(crate) fn proxy_env(
    build_args: &BTreeMap<String, String>,
    declared: impl Fn(&str) -> bool,
) -> Vec<String> {
    let given = build_args.iter().filter(|(name, _)| PROXY_NAMES.contains(&name.as_str()) && !declared(name));
    given.map(|(name, value)| format!("{name}={value}")).collect()
}

/// The arguments that every Dockerfile knows before its first FROM.
pub(crate) fn platform_args(
    build: &Platform,
    target: &Platform,
    target_stage: &str,
) -> Vec<(String, String)> {
    let mut args = Vec::new();
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        let Platform { architecture, os, os_version, variant, .. } = platform;
        let mut add = |name: &str, value: &str| args.push((format!("{prefix}{name}"), value.to_owned()));
        add("PLATFORM", &platform.to_string());
        add("OS", os);
        add("OSVERSION", os_version);
        add("ARCH", architecture);
        add("VARIANT", variant);
    }
    args.push(("TARGETSTAGE".to_owned(), target_stage.to_owned()));
    args
}

/// Expands words of one Dockerfile, and reports the use of variables that nobody set.
pub(crate) struct Expander<'a> {
    escape: char,
    findings: &'a Findings,
}

impl<'a> Expander<'a> {
    pub(crate) fn new(escape: char, findings: &'a Findings) -> Self {
        Self { escape, findings }
    }

    /// Where checks put what they find.
    pub(crate) fn findings(&self) -> &'a Findings {
        self.findings
    }

    /// The value of a word, and the variables in it that are not set, which are not reported.
    pub(crate) fn silently(
        &self,
        written: &Word,
        environment: &Environment,
    ) -> Result<word::Expanded, LowerError> {
        let lookup = |name: &str| environment.get(name).map(str::to_owned);
        word::expand(&written.text, self.escape, &lookup)
            .map_err(|error| expansion_error(&error, written.span))
    }

    /// One word: variables replaced, quotes removed.
    pub(crate) fn word(&self, written: &Word, environment: &Environment) -> Result<String, LowerError> {
        let expanded = self.silently(written, environment)?;
        self.findings.undefined_variables(&expanded.undefined, environment, written.span);
        Ok(expanded.value)
    }

    /// A word that may become several, split at unquoted blanks.
    pub(crate) fn words(&self, written: &Word, environment: &Environment) -> Result<Vec<String>, LowerError> {
        let lookup = |name: &str| environment.get(name).map(str::to_owned);
        let expanded = word::expand_words(&written.text, self.escape, &lookup)
            .map_err(|error| expansion_error(&error, written.span))?;
        self.findings.undefined_variables(&expanded.undefined, environment, written.span);
        Ok(expanded.words)
    }

    /// The body of a heredoc: variables replaced, quotes kept.
    pub(crate) fn heredoc(
        &self,
        content: &str,
        span: Span,
        environment: &Environment,
    ) -> Result<String, LowerError> {
        let lookup = |name: &str| environment.get(name).map(str::to_owned);
        let expanded = word::expand_heredoc(content, HEREDOC_ESCAPE, &lookup)
            .map_err(|error| expansion_error(&error, span))?;
        Ok(expanded.value)
    }

    /// Text for people: variables that are set replaced, all else as written. A shell's own variables are
    /// none of ours.
    pub(crate) fn display(&self, text: &str, environment: &Environment) -> String {
        let lookup =
            |name: &str| Some(environment.get(name).map_or_else(|| format!("${name}"), str::to_owned));
        word::expand_heredoc(text, self.escape, &lookup).map_or_else(|_| text.to_owned(), |done| done.value)
    }
}

fn expansion_error(error: &word::ExpandError, span: Span) -> LowerError {
    LowerError::at("bad-substitution", span, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_again_moves_to_the_end() {
        let mut environment = Environment::from_entries(&["A=1".to_owned(), "B=2".to_owned()]);
        environment.set("A", "3");
        assert_eq!(environment.entries(), ["B=2", "A=3"]);
    }

    #[test]
    fn config_entries_are_replaced_in_place() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned()];
        set_config_env(&mut env, "A", "3");
        set_config_env(&mut env, "C", "4");
        assert_eq!(env, ["A=3", "AB=2", "C=4"]);
    }

    #[test]
    fn declared_proxies_are_ordinary() {
        let args =
            BTreeMap::from([("http_proxy".to_owned(), "p".to_owned()), ("X".to_owned(), "y".to_owned())]);
        assert_eq!(proxy_env(&args, |_| false), ["http_proxy=p"]);
        assert!(proxy_env(&args, |name| name == "http_proxy").is_empty());
    }
}
