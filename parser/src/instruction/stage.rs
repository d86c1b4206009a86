//! FROM and ONBUILD, and the instructions whose argument is the rest of the line.

use super::{Context, Fragment, instruction, split_keyword};
use crate::ast::{From, InstructionKind, Word};
use crate::diagnostic::Diagnostic;
use crate::flags::Flags;

/// `image`, or `image AS name`.
pub(super) fn from(
    context: &mut Context<'_>,
    flags: &mut Flags,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    let words = context.words(arguments);
    let name = match words.as_slice() {
        [] => {
            let error = context.error("missing-argument", "FROM needs a base image");
            return Err(error.with_help("name an image, an earlier stage, or scratch"));
        }
        [_] => None,
        [_, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => Some(stage_name(context, *name)?),
        [_, keyword] if keyword.text.eq_ignore_ascii_case("as") => {
            let span = context.span(*keyword);
            return Err(Diagnostic::error("missing-argument", span, "AS needs the name of the stage"));
        }
        [_, keyword, _, unexpected, ..] if keyword.text.eq_ignore_ascii_case("as") => {
            let message = format!("unexpected {:?} after the name of the stage", unexpected.text);
            return Err(Diagnostic::error("unexpected-argument", context.span(*unexpected), message));
        }
        [_, unexpected, ..] => {
            let message = format!("unexpected {:?} after the base image", unexpected.text);
            let error = Diagnostic::error("unexpected-argument", context.span(*unexpected), message);
            return Err(error.with_help("write FROM image, or FROM image AS name"));
        }
    };
    let image = context.word(words[0]);
    Ok(InstructionKind::From(From { platform: flags.one("platform"), image, name }))
}

fn stage_name(context: &Context<'_>, name: Fragment<'_>) -> Result<Word, Diagnostic> {
    let lower = name.text.to_lowercase();
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let may_follow = |byte: u8| is_letter(byte) || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if lower.bytes().next().is_some_and(is_letter) && lower.bytes().all(may_follow) {
        return Ok(context.word(name));
    }
    let message = format!("{:?} cannot be the name of a stage", name.text);
    let error = Diagnostic::error("invalid-stage-name", context.span(name), message);
    Err(error.with_help("a name begins with a letter and goes on with letters, digits, - _ and ."))
}

/// Another instruction.
pub(super) fn on_build(
    context: &mut Context<'_>,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    if arguments.text.is_empty() {
        let error = context.error("missing-argument", "ONBUILD needs an instruction");
        return Err(error.with_help("for example: ONBUILD COPY . /src"));
    }
    let (keyword, _) = split_keyword(arguments);
    let upper = keyword.text.to_uppercase();
    if ["FROM", "MAINTAINER", "ONBUILD"].contains(&upper.as_str()) {
        let message = format!("{upper} cannot be triggered by ONBUILD");
        return Err(Diagnostic::error("invalid-onbuild", context.span(keyword), message));
    }
    let mut text = arguments.text.to_owned();
    for heredoc in &context.heredocs {
        text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
    }
    let trigger = instruction(context, arguments);
    if trigger.kind == InstructionKind::Invalid {
        return Ok(InstructionKind::Invalid);
    }
    Ok(InstructionKind::OnBuild { trigger: Box::new(trigger), text })
}

/// The rest of the line as one value, blanks included.
pub(super) fn one_value(context: &Context<'_>, arguments: Fragment<'_>) -> Result<Word, Diagnostic> {
    if arguments.text.is_empty() {
        let what = match context.keyword {
            "WORKDIR" => "a directory",
            "USER" => "a user",
            "STOPSIGNAL" => "a signal",
            _ => "a name",
        };
        return Err(context.error("missing-argument", format!("{} needs {what}", context.keyword)));
    }
    Ok(context.word(arguments))
}
