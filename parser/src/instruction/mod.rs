//! Logical lines to nodes of the tree.
//!
//! Each instruction has a function that reads its arguments with the grammar. One that cannot be
//! understood becomes [`InstructionKind::Invalid`] and a diagnostic; the next one is read as if nothing
//! had happened.

mod command;
mod copy_add;
mod key_value;
mod stage;

use std::collections::VecDeque;

use pest::Parser as _;

use crate::ast::{Heredoc, Instruction, InstructionKind, Word};
use crate::diagnostic::Diagnostic;
use crate::flags;
use crate::grammar::dockerfile::{DockerfileParser, Rule};
use crate::grammar::{Quotes, normalise};
use crate::json_form::{self, JsonForm};
use crate::lines::LogicalLine;
use crate::lint;
use crate::span::Span;
use crate::suggest;

/// The instructions of the language.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A part of a logical line that knows where it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fragment<'a> {
    /// Where it begins in the logical line.
    start: usize,
    /// The text.
    pub(crate) text: &'a str,
}

impl<'a> Fragment<'a> {
    /// A part of this fragment, by bytes.
    pub(crate) fn part(self, start: usize, end: usize) -> Self {
        Self { start: self.start + start, text: &self.text[start..end] }
    }

    fn trimmed(self) -> Self {
        let skipped = self.text.len() - self.text.trim_start().len();
        self.part(skipped, skipped + self.text.trim().len())
    }

    /// The fragments before and after the first `separator`.
    fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let at = self.text.find(separator)?;
        Some((self.part(0, at), self.part(at + separator.len_utf8(), self.text.len())))
    }
}

/// What the functions for single instructions share.
pub(crate) struct Context<'a> {
    line: &'a LogicalLine,
    escape: char,
    /// The instruction in upper case, for messages.
    keyword: &'static str,
    /// Here-documents that no argument has claimed.
    heredocs: VecDeque<Heredoc>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Context<'_> {
    pub(crate) fn keyword(&self) -> &'static str {
        self.keyword
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub(crate) fn span(&self, fragment: Fragment<'_>) -> Span {
        self.line.source_span(fragment.start, fragment.start + fragment.text.len())
    }

    fn word(&self, fragment: Fragment<'_>) -> Word {
        Word { text: fragment.text.to_owned(), span: self.span(fragment) }
    }

    /// Words between blanks.
    fn words<'f>(&self, fragment: Fragment<'f>) -> Vec<Fragment<'f>> {
        split_by(Rule::words, fragment, fragment.text)
    }

    /// Words between white space that is not quoted; the quotes stay.
    fn quoted_words<'f>(&self, fragment: Fragment<'f>) -> Vec<Fragment<'f>> {
        split_by(Rule::quoted_words, fragment, &normalise(fragment.text, self.escape, Quotes::Special))
    }

    /// An error about the whole instruction.
    fn error(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        let text = &self.line.text;
        let whole = Fragment { start: 0, text }.trimmed();
        Diagnostic::error(code, self.span(whole), message)
    }

    /// Arguments as a JSON array of strings, if they are one. Reports a text that was meant as one.
    fn json_strings(&mut self, arguments: Fragment<'_>) -> Result<Option<Vec<Word>>, Diagnostic> {
        match json_form::read(arguments.text) {
            JsonForm::Strings(strings) => {
                let word = |(text, start, end)| Word { text, span: self.span(arguments.part(start, end)) };
                Ok(Some(strings.into_iter().map(word).collect()))
            }
            JsonForm::NotStrings(start, end) => {
                let span = self.span(arguments.part(start, end));
                let message = format!("the JSON form of {} takes strings only", self.keyword);
                Err(Diagnostic::error("json-not-strings", span, message)
                    .with_help("write it in double quotes"))
            }
            JsonForm::Other { broken_at } => {
                if let Some(offset) = broken_at {
                    let warning = self.broken_json(arguments, offset);
                    self.report(warning);
                }
                Ok(None)
            }
        }
    }

    fn broken_json(&self, arguments: Fragment<'_>, offset: usize) -> Diagnostic {
        let rest = &arguments.text[offset..];
        let length = rest.chars().next().map_or(0, char::len_utf8);
        let span = self.span(arguments.part(offset, offset + length));
        let instead = match self.keyword {
            "ADD" | "COPY" | "VOLUME" => "is taken as paths between blanks",
            _ => "is run by a shell",
        };
        let message = format!("this looks like a JSON array but is none, so it {instead}");
        let help = match rest.chars().next() {
            Some('\'') => "JSON strings are in double quotes",
            Some(']') => "there is a comma too many",
            Some('"') if !rest[1..].contains('"') => "this string is never closed",
            Some('"') => "JSON knows only the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX",
            None => "the closing ] is missing",
            _ => "JSON has a comma or ] between strings, and nothing after ]",
        };
        Diagnostic::warning(lint::BROKEN_JSON, span, message).with_help(help)
    }
}

fn split_by<'f>(rule: Rule, fragment: Fragment<'f>, normalised: &str) -> Vec<Fragment<'f>> {
    // The grammar accepts every text and does not nest.
    let Ok(parsed) = DockerfileParser::parse(rule, normalised) else { return Vec::new() };
    let words = parsed.flat_map(pest::iterators::Pair::into_inner).filter(|pair| pair.as_rule() != Rule::EOI);
    words.map(|pair| fragment.part(pair.as_span().start(), pair.as_span().end())).collect()
}

/// Reads one logical line, or nothing if it is empty.
pub(crate) fn read(
    line: &mut LogicalLine,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    let heredocs = std::mem::take(&mut line.heredocs).into();
    let comments = std::mem::take(&mut line.comments);
    let line = &*line;
    let whole = Fragment { start: 0, text: &line.text }.trimmed();
    if whole.text.is_empty() {
        return None;
    }
    let mut context = Context { line, escape, keyword: "", heredocs, diagnostics };
    let mut instruction = instruction(&mut context, whole);
    instruction.span = line.span;
    instruction.comments = comments;
    if line.is_broken {
        instruction.kind = InstructionKind::Invalid;
    }
    Some(instruction)
}

/// Reads an instruction: a whole line, or what follows ONBUILD.
fn instruction(context: &mut Context<'_>, whole: Fragment<'_>) -> Instruction {
    let (keyword, arguments) = split_keyword(whole);
    let kind = match kind(context, keyword, arguments) {
        Ok(kind) => kind,
        Err(diagnostic) => {
            context.report(diagnostic);
            InstructionKind::Invalid
        }
    };
    Instruction {
        span: Span::new(context.span(whole).start, context.line.span.end),
        keyword: context.word(keyword),
        source: whole.text.to_owned(),
        comments: Vec::new(),
        kind,
    }
}

/// The keyword, and what follows the blanks behind it.
fn split_keyword(whole: Fragment<'_>) -> (Fragment<'_>, Fragment<'_>) {
    let length = whole.text.len();
    let parsed = DockerfileParser::parse(Rule::head, whole.text).ok().and_then(|mut pairs| pairs.next());
    let Some(head) = parsed else { return (whole, whole.part(length, length)) };
    let end = head.as_span().end();
    let keyword_end = head.into_inner().next().map_or(end, |keyword| keyword.as_span().end());
    (whole.part(0, keyword_end), whole.part(end, length))
}

fn kind(
    context: &mut Context<'_>,
    keyword: Fragment<'_>,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    let upper = keyword.text.to_uppercase();
    let Some(known) = KEYWORDS.into_iter().find(|known| *known == upper) else {
        let message = format!("unknown instruction {:?}", keyword.text);
        let error = Diagnostic::error("unknown-instruction", context.span(keyword), message);
        return Err(error.with_suggestion(suggest::nearest(keyword.text, KEYWORDS)));
    };
    context.keyword = known;
    let errors_before = context.diagnostics.len();
    let (mut flags, arguments) = flags::split(context, arguments, known_flags(known));
    if context.diagnostics.len() > errors_before {
        return Ok(InstructionKind::Invalid);
    }
    by_keyword(context, &mut flags, arguments.trimmed())
}

fn known_flags(keyword: &str) -> flags::Known {
    match keyword {
        "FROM" => flags::FROM,
        "RUN" => flags::RUN,
        "COPY" => flags::COPY,
        "ADD" => flags::ADD,
        "HEALTHCHECK" => flags::HEALTHCHECK,
        _ => flags::NONE,
    }
}

fn by_keyword(
    context: &mut Context<'_>,
    flags: &mut flags::Flags,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    match context.keyword {
        "FROM" => stage::from(context, flags, arguments),
        "ONBUILD" => stage::on_build(context, arguments),
        "RUN" => command::run(context, flags, arguments),
        "CMD" => command::command(context, arguments).map(InstructionKind::Cmd),
        "ENTRYPOINT" => command::command(context, arguments).map(InstructionKind::Entrypoint),
        "SHELL" => command::shell(context, arguments),
        "HEALTHCHECK" => command::healthcheck(context, flags, arguments),
        "COPY" => copy_add::copy(context, flags, arguments),
        "ADD" => copy_add::add(context, flags, arguments),
        "VOLUME" => copy_add::volume(context, arguments),
        "EXPOSE" => copy_add::expose(context, arguments),
        "ENV" => key_value::pairs(context, arguments).map(InstructionKind::Env),
        "LABEL" => key_value::pairs(context, arguments).map(InstructionKind::Label),
        "ARG" => key_value::declarations(context, arguments).map(InstructionKind::Arg),
        "WORKDIR" => stage::one_value(context, arguments).map(InstructionKind::Workdir),
        "USER" => stage::one_value(context, arguments).map(InstructionKind::User),
        "STOPSIGNAL" => stage::one_value(context, arguments).map(InstructionKind::StopSignal),
        _ => stage::one_value(context, arguments).map(InstructionKind::Maintainer),
    }
}
