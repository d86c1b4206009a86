//! COPY, ADD, VOLUME and EXPOSE: lists of words, most of them also in the JSON form.

use super::{Context, Fragment};
use crate::ast::{Add, Copy, CopySource, InstructionKind, Word};
use crate::diagnostic::Diagnostic;
use crate::flags::Flags;
use crate::heredoc;

pub(super) fn copy(
    context: &mut Context<'_>,
    flags: &mut Flags,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    let (sources, destination) = sources_and_destination(context, arguments)?;
    Ok(InstructionKind::Copy(Copy {
        from: flags.one("from"),
        chown: flags.one("chown"),
        chmod: flags.one("chmod"),
        link: flags.bool("link").unwrap_or(false),
        parents: flags.bool("parents").unwrap_or(false),
        excludes: flags.many("exclude"),
        sources,
        destination,
    }))
}

pub(super) fn add(
    context: &mut Context<'_>,
    flags: &mut Flags,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    let (sources, destination) = sources_and_destination(context, arguments)?;
    Ok(InstructionKind::Add(Add {
        chown: flags.one("chown"),
        chmod: flags.one("chmod"),
        link: flags.bool("link").unwrap_or(false),
        keep_git_dir: flags.bool("keep-git-dir"),
        checksum: flags.one("checksum"),
        unpack: flags.bool("unpack"),
        excludes: flags.many("exclude"),
        sources,
        destination,
    }))
}

fn sources_and_destination(
    context: &mut Context<'_>,
    arguments: Fragment<'_>,
) -> Result<(Vec<CopySource>, Word), Diagnostic> {
    let json = context.json_strings(arguments)?;
    let is_json = json.is_some();
    let mut words = json.unwrap_or_else(|| plain_words(context, arguments));
    let keyword = context.keyword;
    let destination = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| {
        let message = format!("{keyword} needs at least one source and a destination");
        context.error("missing-argument", message).with_help(format!("write {keyword} source… destination"))
    })?;
    let is_heredoc = |word: &Word| !is_json && heredoc::marker(&word.text).is_some();
    if is_heredoc(&destination) {
        let message = format!("the destination of {keyword} cannot be a here-document");
        return Err(Diagnostic::error("heredoc-destination", destination.span, message));
    }
    let mut source = |word: Word| match is_heredoc(&word).then(|| context.heredocs.pop_front()).flatten() {
        Some(heredoc) => CopySource::Heredoc(heredoc),
        None => CopySource::Path(word),
    };
    Ok((words.into_iter().map(&mut source).collect(), destination))
}

fn plain_words(context: &Context<'_>, arguments: Fragment<'_>) -> Vec<Word> {
    context.words(arguments).into_iter().map(|word| context.word(word)).collect()
}

pub(super) fn volume(
    context: &mut Context<'_>,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    let words = match context.json_strings(arguments)? {
        Some(words) => words,
        None => plain_words(context, arguments),
    };
    if words.is_empty() {
        return Err(context.error("missing-argument", "VOLUME needs a path"));
    }
    if let Some(empty) = words.iter().find(|word| word.text.trim().is_empty()) {
        return Err(Diagnostic::error("empty-argument", empty.span, "the path of a volume cannot be empty"));
    }
    Ok(InstructionKind::Volume(words))
}

pub(super) fn expose(context: &Context<'_>, arguments: Fragment<'_>) -> Result<InstructionKind, Diagnostic> {
    let words = plain_words(context, arguments);
    if words.is_empty() {
        let error = context.error("missing-argument", "EXPOSE needs a port");
        return Err(error.with_help("for example: EXPOSE 80/tcp"));
    }
    Ok(InstructionKind::Expose(words))
}
