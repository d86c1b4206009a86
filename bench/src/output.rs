//! Much output of a container in the foreground, read through a pipe.

use std::path::Path;
use std::process::Command;

use crate::error::BenchError;
use crate::subject::Subjects;
use crate::work::{Samples, repeat};

/// What writes four gibibytes, in pieces as large as a pipe.
fn write(subjects: &Subjects) -> String {
    format!("dd if=/dev/zero bs=65536 count={} 2>/dev/null", subjects.of_size(65536, 64))
}

/// How many rounds are enough: each takes seconds.
const ROUNDS: usize = 5;

/// Every runner of images, and the same two programs without a container, which nobody can be faster than.
pub(crate) fn piped(subjects: &Subjects, _dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let write = write(subjects);
    let builders = subjects.builders.iter();
    let runs = builders.filter_map(|builder| {
        Some((builder.name().to_owned(), through_pipe(&builder.start_true()?, &write)))
    });
    let without = ("dd | cat".to_owned(), shell(&format!("{write} | cat >/dev/null")));
    repeat(rounds.min(ROUNDS), &runs.chain([without]).collect::<Vec<_>>())
}

/// The command that runs `true` in a container, with more to say and somebody who reads it.
fn through_pipe(start_true: &Command, write: &str) -> Command {
    let words = [start_true.get_program()].into_iter().chain(start_true.get_args());
    let mut words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
    words.pop();
    let mut command = shell(&format!("{} sh -c {} | cat >/dev/null", words.join(" "), quoted(write)));
    command.envs(start_true.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    command
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
