//! Runs one command and says how long it took and how much memory it used.
//!
//! The command is started by a fresh copy of this program, since the kernel tells the peak memory of children only
//! as the largest of all a process ever had. Time is from before the start to after the end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::error::BenchError;

/// One run of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// From start to end.
    pub(crate) time: Duration,
    /// Peak resident memory of the largest process among the command and its descendants, in KiB. Daemons that do
    /// the work elsewhere are not counted.
    pub(crate) memory: u64,
}

/// Runs `command` to its end in a measuring process.
pub(crate) fn measure(command: &Command) -> Result<Sample, BenchError> {
    let program = std::env::current_exe().map_err(|source| start_error(command, source))?;
    let mut outer = Command::new(program);
    outer.arg("measure").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        outer.env(name, value.unwrap_or_default());
    }
    if let Some(dir) = command.get_current_dir() {
        outer.current_dir(dir);
    }
    let output = output_of(&mut outer)?;
    parse(&output).ok_or_else(|| BenchError::NoSample { command: line(command), output })
}

/// Runs a command that is not measured, and returns its standard output.
pub(crate) fn output_of(command: &mut Command) -> Result<String, BenchError> {
    let output = command.stdin(Stdio::null()).output().map_err(|source| start_error(command, source))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let last = if stderr.is_empty() { stdout } else { stderr };
    let last =
        last.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" / ");
    Err(BenchError::Failed { command: line(command), status: output.status.to_string(), output: last })
}

/// The measuring process: runs the command with its output thrown away and prints the figures.
pub(crate) fn run_as_child(words: &[String]) -> Result<(), BenchError> {
    let (program, args) =
        words.split_first().map_or(("", &[][..]), |(program, args)| (program.as_str(), args));
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().map_err(|source| start_error(&command, source))?;
    let time = start.elapsed();
    if !status.success() {
        let (command, status) = (line(&command), status.to_string());
        return Err(BenchError::Failed { command, status, output: String::new() });
    }
    let memory = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| usage.max_rss());
    println!("{} {memory}", time.as_nanos());
    Ok(())
}

fn parse(output: &str) -> Option<Sample> {
    let (nanoseconds, memory) = output.split_once(' ')?;
    Some(Sample { time: Duration::from_nanos(nanoseconds.parse().ok()?), memory: memory.parse().ok()? })
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn start_error(command: &Command, source: std::io::Error) -> BenchError {
    BenchError::Start { command: line(command), source }
}

/// The middle of the values in order, or the mean of the two in the middle. Zero for none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(vec![]).abs() < f64::EPSILON);
    }

    #[test]
    fn figures_are_read_back() {
        let sample = Sample { time: Duration::from_nanos(1500), memory: 42 };
        assert_eq!(parse("1500 42"), Some(sample));
        assert_eq!(parse("warning"), None);
    }

    #[test]
    fn a_failure_tells_the_last_lines() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "for i in 1 2 3 4 5; do echo $i >&2; done; exit 3"]);
        let error = output_of(&mut command).unwrap_err().to_string();
        assert!(error.ends_with("exit status: 3: 3 / 4 / 5"), "{error}");
    }
}
