//! RUN, CMD, ENTRYPOINT, SHELL and HEALTHCHECK: command lines.

use super::{Context, Fragment, split_keyword};
use crate::ast::{Command, Healthcheck, InstructionKind, Run, Word};
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::flags::Flags;
use crate::mount;

/// The shortest duration of a health check that is not zero: one millisecond, in nanoseconds.
const SHORTEST_DURATION: i64 = 1_000_000;

pub(super) fn run(
    context: &mut Context<'_>,
    flags: &mut Flags,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    let mounts = flags.many("mount").into_iter().map(mount::read).collect::<Result<_, _>>()?;
    let command = command(context, arguments)?;
    if matches!(&command, Command::Exec { args, .. } if args.is_empty()) {
        return Err(missing_command(context));
    }
    Ok(InstructionKind::Run(Run {
        mounts,
        network: flags.one("network"),
        security: flags.one("security"),
        devices: flags.many("device"),
        command,
        heredocs: context.heredocs.drain(..).collect(),
    }))
}

/// The JSON form, or else a line for the shell.
pub(super) fn command(context: &mut Context<'_>, arguments: Fragment<'_>) -> Result<Command, Diagnostic> {
    if arguments.text.is_empty() {
        return Err(missing_command(context));
    }
    Ok(match context.json_strings(arguments)? {
        Some(args) => {
            let args = args.into_iter().map(|word| word.text).collect();
            Command::Exec { args, span: context.span(arguments) }
        }
        None => Command::Shell(context.word(arguments)),
    })
}

fn missing_command(context: &Context<'_>) -> Diagnostic {
    context.error("missing-argument", format!("{} needs a command", context.keyword))
}

/// The JSON form only.
pub(super) fn shell(
    context: &mut Context<'_>,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    let warnings_before = context.diagnostics.len();
    let args = context.json_strings(arguments)?;
    // What is a warning elsewhere is part of the error here.
    let hint = context.diagnostics.drain(warnings_before..).next().and_then(|warning| warning.help);
    match args {
        Some(args) if !args.is_empty() => {
            Ok(InstructionKind::Shell(args.into_iter().map(|word| word.text).collect()))
        }
        Some(_) => Err(context.error("missing-argument", "SHELL needs a program")),
        None => {
            let help = hint.unwrap_or("for example: SHELL [\"/bin/bash\", \"-c\"]".to_owned());
            Err(context.error("shell-not-json", "SHELL takes a JSON array of strings").with_help(help))
        }
    }
}

pub(super) fn healthcheck(
    context: &mut Context<'_>,
    flags: &mut Flags,
    arguments: Fragment<'_>,
) -> Result<InstructionKind, Diagnostic> {
    if arguments.text.is_empty() {
        let error = context.error("missing-argument", "HEALTHCHECK needs CMD and a command, or NONE");
        return Err(error);
    }
    let (kind, rest) = split_keyword(arguments);
    match kind.text.to_uppercase().as_str() {
        "NONE" if rest.text.is_empty() => Ok(InstructionKind::Healthcheck(Healthcheck::None)),
        "NONE" => {
            let span = context.span(rest);
            Err(Diagnostic::error("unexpected-argument", span, "nothing may follow HEALTHCHECK NONE"))
        }
        "CMD" => check(context, flags, rest.trimmed()).map(InstructionKind::Healthcheck),
        _ => {
            let message = format!("HEALTHCHECK expects CMD or NONE, not {:?}", kind.text);
            let error = Diagnostic::error("unknown-healthcheck", context.span(kind), message);
            Err(error.with_help(format!("write HEALTHCHECK CMD {}", arguments.text)))
        }
    }
}

fn check(
    context: &mut Context<'_>,
    flags: &mut Flags,
    command: Fragment<'_>,
) -> Result<Healthcheck, Diagnostic> {
    let command = self::command(context, command)?;
    if matches!(&command, Command::Exec { args, .. } if args.is_empty()) {
        return Err(missing_command(context));
    }
    Ok(Healthcheck::Check {
        interval: duration_of("interval", flags)?,
        timeout: duration_of("timeout", flags)?,
        start_period: duration_of("start-period", flags)?,
        start_interval: duration_of("start-interval", flags)?,
        retries: retries(flags)?,
        command,
    })
}

/// A flag's duration in nanoseconds.
fn duration_of(name: &str, flags: &mut Flags) -> Result<Option<i64>, Diagnostic> {
    let Some(value) = given(name, flags) else { return Ok(None) };
    let bad = |message: String| Diagnostic::error("invalid-duration", value.span, message);
    match duration::parse(&value.text) {
        None => {
            let error = bad(format!("{:?} is not a duration", value.text));
            Err(error.with_help("write a number with a unit, such as 30s, 1m30s or 500ms"))
        }
        Some(nanoseconds) if nanoseconds != 0 && nanoseconds < SHORTEST_DURATION => {
            Err(bad(format!("--{name} must be 0 or at least 1ms, not {}", value.text)))
        }
        some => Ok(some),
    }
}

fn retries(flags: &mut Flags) -> Result<Option<i64>, Diagnostic> {
    let Some(value) = given("retries", flags) else { return Ok(None) };
    let retries = value.text.parse::<i32>().ok().filter(|retries| *retries >= 0);
    retries.map(|retries| Some(retries.into())).ok_or_else(|| {
        let message = format!("--retries is a number of at least 0, not {:?}", value.text);
        Diagnostic::error("invalid-flag-value", value.span, message)
    })
}

/// A flag's value; an empty one is as good as none.
fn given(name: &str, flags: &mut Flags) -> Option<Word> {
    flags.one(name).filter(|value| !value.text.is_empty())
}
