//! Flags of instructions: `--name=value` between the keyword and the arguments.
//!
//! Quotes and backslashes in flags are undone here and not when variables are expanded, as in Docker.
//! A backslash escapes whatever the `escape` directive says.

use pest::Parser as _;

use crate::ast::Word;
use crate::diagnostic::Diagnostic;
use crate::grammar::dockerfile::{DockerfileParser, Rule};
use crate::instruction::{Context, Fragment};
use crate::suggest;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `true` or `false`.
    Bool,
    /// A value, once.
    One,
    /// A value, any number of times.
    Many,
}

/// The flags of an instruction.
pub(crate) type Known = &'static [(&'static str, Takes)];

/// The flags of each instruction that has some.
pub(crate) const FROM: Known = &[("platform", Takes::One)];
pub(crate) const RUN: Known =
    &[("mount", Takes::Many), ("network", Takes::One), ("security", Takes::One), ("device", Takes::Many)];
pub(crate) const COPY: Known = &[
    ("from", Takes::One),
    ("chown", Takes::One),
    ("chmod", Takes::One),
    ("link", Takes::Bool),
    ("parents", Takes::Bool),
    ("exclude", Takes::Many),
];
pub(crate) const ADD: Known = &[
    ("chown", Takes::One),
    ("chmod", Takes::One),
    ("link", Takes::Bool),
    ("keep-git-dir", Takes::Bool),
    ("checksum", Takes::One),
    ("unpack", Takes::Bool),
    ("exclude", Takes::Many),
];
pub(crate) const HEALTHCHECK: Known = &[
    ("interval", Takes::One),
    ("timeout", Takes::One),
    ("start-period", Takes::One),
    ("start-interval", Takes::One),
    ("retries", Takes::One),
];
pub(crate) const NONE: Known = &[];

/// The flags of one instruction, checked.
#[derive(Debug, Default)]
pub(crate) struct Flags(Vec<Flag>);

#[derive(Debug)]
struct Flag {
    name: &'static str,
    /// The value; empty for a [`Takes::Bool`] without one.
    value: Word,
}

impl Flags {
    /// The value of a flag given at most once.
    pub(crate) fn one(&mut self, name: &str) -> Option<Word> {
        self.many(name).pop()
    }

    /// The values of a flag.
    pub(crate) fn many(&mut self, name: &str) -> Vec<Word> {
        let flags = self.0.extract_if(.., |flag| flag.name == name);
        flags.map(|flag| flag.value).collect()
    }

    /// The value of a [`Takes::Bool`], if it is given.
    pub(crate) fn bool(&mut self, name: &str) -> Option<bool> {
        self.one(name).map(|value| !value.text.eq_ignore_ascii_case("false"))
    }
}

/// Splits the flags off the front of an instruction's arguments, and checks them. Wrong ones are
/// reported and left out.
pub(crate) fn split<'a>(
    context: &mut Context<'_>,
    arguments: Fragment<'a>,
    known: Known,
) -> (Flags, Fragment<'a>) {
    let mut flags = Flags::default();
    // The grammar accepts every text and does not nest.
    let Ok(mut parsed) = DockerfileParser::parse(Rule::flags, arguments.text) else {
        return (flags, arguments);
    };
    let Some(all) = parsed.next() else { return (flags, arguments) };
    let end = all.as_span().end();
    for pair in all.into_inner().filter(|pair| pair.as_rule() == Rule::flag) {
        let span = pair.as_span();
        let written = arguments.part(span.start(), span.end());
        let unquoted: String =
            pair.into_inner().map(|piece| unescaped(piece.as_rule(), piece.as_str())).collect();
        match check(context, written, &unquoted, known, &flags) {
            Ok(flag) => flags.0.push(flag),
            Err(diagnostic) => context.report(diagnostic),
        }
    }
    (flags, arguments.part(end, arguments.text.len()))
}

fn unescaped(rule: Rule, text: &str) -> &str {
    let mut characters = text.chars();
    if rule == Rule::flag_escape {
        characters.next();
    }
    characters.as_str()
}

fn check(
    context: &Context<'_>,
    written: Fragment<'_>,
    unquoted: &str,
    known: Known,
    earlier: &Flags,
) -> Result<Flag, Diagnostic> {
    let body = unquoted.get(2..).unwrap_or_default();
    let (typed, value) = body.split_once('=').map_or((body, None), |(typed, value)| (typed, Some(value)));
    let value_start = written.text.find('=').map_or(written.text.len(), |equals| equals + 1);
    let name_span = context.span(written.part(0, value_start.saturating_sub(usize::from(value.is_some()))));
    let Some((name, takes)) = known.iter().find(|(name, _)| *name == typed) else {
        return Err(unknown(context, name_span, typed, known));
    };
    if *takes != Takes::Many && earlier.0.iter().any(|flag| flag.name == *name) {
        return Err(Diagnostic::error(
            "duplicate-flag",
            name_span,
            format!("the flag --{name} is given twice"),
        ));
    }
    let value_span = context.span(written.part(value_start, written.text.len()));
    let text = match (takes, value) {
        (Takes::Bool, None) => "",
        (Takes::Bool, Some(value)) if is_bool(value) => value,
        (Takes::Bool, Some(value)) => {
            let message = format!("the flag --{name} is either true or false, not {value:?}");
            return Err(Diagnostic::error("invalid-flag-value", value_span, message));
        }
        (_, Some(value)) => value,
        (_, None) => {
            let message = format!("the flag --{name} needs a value");
            let error = Diagnostic::error("missing-flag-value", name_span, message);
            return Err(error.with_help(format!("write --{name}=VALUE, without a space around =")));
        }
    };
    Ok(Flag { name, value: Word { text: text.to_owned(), span: value_span } })
}

fn is_bool(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

fn unknown(context: &Context<'_>, span: crate::span::Span, typed: &str, known: Known) -> Diagnostic {
    let keyword = context.keyword();
    let error = Diagnostic::error("unknown-flag", span, format!("{keyword} has no flag --{typed}"));
    let names = || known.iter().map(|(name, _)| *name);
    match suggest::nearest(typed, names()) {
        Some(near) => error.with_help(format!("did you mean --{near}?")),
        None if known.is_empty() => error.with_help(format!("{keyword} takes no flags; -- ends flags")),
        None => {
            let all: Vec<String> = names().map(|name| format!("--{name}")).collect();
            error.with_help(format!("the flags of {keyword} are {}", all.join(", ")))
        }
    }
}
