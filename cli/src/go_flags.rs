//! Flags as Go's programs take them: `--rm=true` and `-d=false` for flags without a value, which scripts for Docker write.
//!
//! What the usual parser refuses for that reason is rewritten and read again, so that a command line without them costs nothing.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

use crate::error::CliError;

/// Reads a command line.
pub(crate) fn parse(
    command: impl Fn() -> Command,
    mut words: Vec<OsString>,
) -> Result<ArgMatches, (clap::Error, Vec<OsString>)> {
    loop {
        match command().try_get_matches_from(words.clone()) {
            Ok(matches) => return Ok(matches),
            Err(error) => match rewritten(&words, &error) {
                Some(again) => words = again,
                None => return Err((error, words)),
            },
        }
    }
}

/// The words without the first value that is too many, if it is a boolean; with `false`, without the flag.
fn rewritten(words: &[OsString], error: &clap::Error) -> Option<Vec<OsString>> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let place = match (error.kind(), text(ContextKind::InvalidArg)?) {
        (ErrorKind::TooManyValues, flag) => {
            let long = flag.split([' ', ',', '[', '=']).find(|part| part.starts_with("--"))?;
            let is_it = |word: &OsString| boolean(word).is_some_and(|(name, _)| name == long);
            words.iter().position(is_it)?
        }
        // Of a group of short flags, the parser sees the sign as one of them.
        (ErrorKind::UnknownArgument, "-=") => words.iter().position(|word| {
            let short = |name: &str| name.len() > 1 && name.starts_with('-') && !name.starts_with("--");
            boolean(word).is_some_and(|(name, _)| short(&name))
        })?,
        _ => return None,
    };
    let (name, value) = boolean(words.get(place)?)?;
    let mut words = words.to_vec();
    match (value, name.starts_with("--")) {
        (true, _) => *words.get_mut(place)? = name.into(),
        (false, true) => drop(words.remove(place)),
        // The others of the group hold.
        (false, false) => match &name[..name.len() - 1] {
            "-" => drop(words.remove(place)),
            others => *words.get_mut(place)? = others.into(),
        },
    }
    Some(words)
}

/// `FLAG=BOOLEAN`, with the words for it that Go knows.
fn boolean(word: &OsString) -> Option<(String, bool)> {
    let (name, value) = word.to_str()?.split_once('=')?;
    let is_name =
        name.starts_with('-') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let value = match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => return None,
    };
    is_name.then(|| (name.to_owned(), value))
}

/// What to tell about `-dns=ADDRESS`, as Docker took it long ago: a long flag needs two hyphens.
pub(crate) fn explain(
    command: impl Fn() -> Command,
    error: &clap::Error,
    words: &[OsString],
) -> Option<CliError> {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return None };
    if error.kind() != ErrorKind::UnknownArgument || unknown.len() != 2 {
        return None;
    }
    let is_old = |word: &&str| {
        let name = word.split('=').next().unwrap_or_default();
        name.len() > 3 && name.starts_with('-') && !name.starts_with("--") && name.contains(&unknown[1..])
    };
    let old = words.iter().filter_map(|word| word.to_str()).find(is_old)?;
    let mut again = words.to_vec();
    *again.iter_mut().find(|word| *word == old)? = format!("-{old}").into();
    match command().try_get_matches_from(again) {
        Err(error) if error.kind() == ErrorKind::UnknownArgument => return None,
        _ => {}
    }
    // Docker's words.
    let message = format!("unknown shorthand flag: '{}' in {old}", &unknown[1..]);
    Some(CliError::usage(message, &format!("a long flag begins with two hyphens: -{old}")))
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    fn command() -> Command {
        let flag =
            |name: &'static str, short| Arg::new(name).long(name).short(short).action(ArgAction::SetTrue);
        let rest = Arg::new("rest").num_args(0..).trailing_var_arg(true);
        Command::new("lap").args([flag("detach", 'd'), flag("rm", 'r'), flag("tty", 't')]).args([
            Arg::new("dns").long("dns").num_args(1),
            Arg::new("env").long("env").short('e').num_args(1),
            rest,
        ])
    }

    fn parsed(line: &str) -> Result<String, String> {
        let words = ["lap"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
        let matches = parse(command, words).map_err(|(error, words)| {
            explain(command, &error, &words)
                .map_or_else(|| error.kind().to_string(), |error| error.message().to_owned())
        })?;
        let set = ["detach", "rm", "tty"].into_iter().filter(|name| matches.get_flag(name));
        let rest = matches.get_many::<String>("rest").into_iter().flatten().map(String::as_str);
        Ok(set.chain(rest).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn booleans_may_have_values() {
        for (line, expected) in [
            ("--rm=true -d=1 x", "detach rm x"),
            ("--rm=false -d x", "detach x"),
            ("--rm=0 --detach=False -t=t x", "tty x"),
            ("-dt=false x", "detach x"),
            ("-dt=true x", "detach tty x"),
            ("-e A=true --rm x --rm=true -d=false", "rm x --rm=true -d=false"),
        ] {
            assert_eq!(parsed(line).as_deref(), Ok(expected), "{line}");
        }
        for line in ["--rm=maybe x", "-d=maybe x"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn long_flags_of_long_ago_are_known_again() {
        let told = "unknown shorthand flag: 'n' in -dns=1.2.3.4";
        assert_eq!(parsed("-dns=1.2.3.4 x"), Err(told.to_owned()));
        assert!(!parsed("-qns=1.2.3.4 x").unwrap_err().contains("shorthand"));
    }
}
