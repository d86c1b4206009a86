//! What was asked on the command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str =
    "usage: bench --lap PATH [--alone] [--record] [--rounds N] [--only WORK] [--small]";

/// What this process is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Run the benchmarks.
    Bench(Options),
    /// Be the parent of one measured command; see [`crate::measure`].
    Measure(Vec<String>),
}

/// How to run the benchmarks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The binary to measure.
    pub(crate) lap: PathBuf,
    /// Whether to leave out every peer.
    pub(crate) alone: bool,
    /// Whether to write `RESULTS.md`.
    pub(crate) record: bool,
    /// How often each subject does each work.
    pub(crate) rounds: usize,
    /// Only works whose name holds this text.
    pub(crate) only: Option<String>,
    /// Whether contexts and images are small: to see that everything works, not how fast.
    pub(crate) small: bool,
}

impl Options {
    /// Whether a work is to be measured.
    pub(crate) fn wants(&self, work: &str) -> bool {
        self.only.as_deref().is_none_or(|only| work.contains(only))
    }
}

/// Reads the arguments, the program's name not among them.
pub(crate) fn parse(args: &[String]) -> Result<Mode, String> {
    if let [first, command @ ..] = args
        && first == "measure"
    {
        return Ok(Mode::Measure(command.to_vec()));
    }
    let (mut lap, mut alone, mut record, mut rounds, mut only) = (None, false, false, 7, None);
    let mut small = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--lap" => lap = Some(PathBuf::from(value()?)),
            "--alone" => alone = true,
            "--record" => record = true,
            "--small" => small = true,
            "--rounds" => rounds = value()?.parse().map_err(|_| "--rounds needs a number".to_owned())?,
            "--only" => only = Some(value()?),
            other => return Err(format!("unknown argument {other}")),
        }
    }
    let lap = lap.ok_or("--lap is missing")?;
    if rounds == 0 {
        return Err("--rounds must be at least 1".to_owned());
    }
    Ok(Mode::Bench(Options { lap, alone, record, rounds, only, small }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Mode, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_have_defaults_but_for_the_binary() {
        let expected =
            Options { lap: "/l".into(), alone: false, record: true, rounds: 7, only: None, small: false };
        assert_eq!(parse_words("--record --lap /l"), Ok(Mode::Bench(expected)));
        assert!(parse_words("").is_err());
        assert!(parse_words("--lap /l --rounds 0").is_err());
        assert!(parse_words("--lap").is_err());
    }

    #[test]
    fn a_measured_command_is_taken_whole() {
        assert_eq!(
            parse_words("measure a --lap"),
            Ok(Mode::Measure(vec!["a".to_owned(), "--lap".to_owned()]))
        );
    }
}
