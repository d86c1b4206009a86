//! ENV, LABEL and ARG: names with values.

use super::{Context, Fragment};
use crate::ast::{ArgDeclaration, KeyValue, Word};
use crate::diagnostic::Diagnostic;

/// `key=value …`, or the old form `key value`, whose value is the rest of the line.
pub(super) fn pairs(context: &Context<'_>, arguments: Fragment<'_>) -> Result<Vec<KeyValue>, Diagnostic> {
    let words = context.quoted_words(arguments);
    let Some(first) = words.first() else { return Err(missing(context, "key=value")) };
    if !first.text.contains('=') {
        return legacy_pair(context, arguments).map(|pair| vec![pair]);
    }
    words.into_iter().map(|word| pair(context, word)).collect()
}

fn pair(context: &Context<'_>, word: Fragment<'_>) -> Result<KeyValue, Diagnostic> {
    let Some((key, value)) = word.split_once('=') else {
        let message = format!("expected key=value, found {:?}", word.text);
        let error = Diagnostic::error("missing-equals", context.span(word), message);
        return Err(error.with_help("quote a value that contains blanks: key=\"a b\""));
    };
    Ok(KeyValue { key: named(context, word, key)?, value: context.word(value), legacy: false })
}

fn legacy_pair(context: &Context<'_>, arguments: Fragment<'_>) -> Result<KeyValue, Diagnostic> {
    let words = context.words(arguments);
    let [key, value, ..] = words.as_slice() else {
        let message = format!("{} needs a value for {:?}", context.keyword, arguments.text);
        let error = Diagnostic::error("missing-value", context.span(arguments), message);
        return Err(error.with_help(format!("write {} {}=value", context.keyword, arguments.text)));
    };
    let rest = arguments.part(value.start - arguments.start, arguments.text.len());
    Ok(KeyValue { key: context.word(*key), value: context.word(rest), legacy: true })
}

/// `name`, `name=default`, several of them.
pub(super) fn declarations(
    context: &Context<'_>,
    arguments: Fragment<'_>,
) -> Result<Vec<ArgDeclaration>, Diagnostic> {
    let words = context.quoted_words(arguments);
    if words.is_empty() {
        return Err(missing(context, "a name"));
    }
    let declaration = |word: Fragment<'_>| match word.split_once('=') {
        Some((name, default)) => {
            Ok(ArgDeclaration { name: named(context, word, name)?, default: Some(context.word(default)) })
        }
        None => Ok(ArgDeclaration { name: context.word(word), default: None }),
    };
    words.into_iter().map(declaration).collect()
}

/// The part before `=`, which must not be empty.
fn named(context: &Context<'_>, word: Fragment<'_>, name: Fragment<'_>) -> Result<Word, Diagnostic> {
    if name.text.is_empty() {
        let message = format!("there is no name before the = in {:?}", word.text);
        return Err(Diagnostic::error("missing-name", context.span(word), message));
    }
    Ok(context.word(name))
}

fn missing(context: &Context<'_>, what: &str) -> Diagnostic {
    context.error("missing-argument", format!("{} needs {what}", context.keyword))
}
