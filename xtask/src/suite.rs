//! `cargo xtask test`: runs `cargo test` on the workspace and ends with one line that sums up every binary's.
//!
//! A test that skips itself because the machine lacks something counts as passed for cargo; it says so on a line
//! of its own (see `testkit::privilege`), and is counted as skipped here.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Mutex;

/// Runs the tests, passing their output through, and compares counts of instructions. Fails if a test, a count, or cargo itself did.
pub(crate) fn run(workspace: &Path, args: &[&str]) -> ExitCode {
    let total = Mutex::new(Summary::default());
    let mut success = run_tests(workspace, args, &total);
    success &= crate::instructions::run(workspace, false);
    let total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for line in &total.failures {
        println!("{line}");
    }
    println!("{}", total.line());
    if success && total.failed == 0 && total.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the tests could be run and passed.
fn run_tests(workspace: &Path, args: &[&str], total: &Mutex<Summary>) -> bool {
    let mut command = testkit::binary::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(args).current_dir(workspace);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("start {command:?}: {error}");
            return false;
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(|| follow(stdout, total, |line| println!("{line}")));
        scope.spawn(|| follow(stderr, total, |line| eprintln!("{line}")));
    });
    child.wait().is_ok_and(|status| status.success())
}

/// Shows each line and adds what it says to the total.
fn follow(pipe: Option<impl Read>, total: &Mutex<Summary>, show: impl Fn(&str)) {
    for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')).map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        show(&line);
        total.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&line);
    }
}

/// How many tests did what, and what is to be told again at the end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    /// The lines that name a test that failed, or a binary that was ended before it could sum up.
    failures: Vec<String>,

    passed: usize,
    failed: usize,
    ignored: usize,
    skipped: usize,
}

impl Summary {
    /// Adds a line of output, if it is a test binary's last line or tells of a skipped or failed test.
    fn add(&mut self, line: &str) {
        if line.starts_with("skipped: ") {
            self.skipped += 1;
        } else if line.starts_with("test ") && line.ends_with(" ... FAILED")
            || line.contains("didn't exit successfully")
        {
            self.failures.push(line.trim().to_owned());
        } else if let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        {
            for count in counts.split("; ") {
                match count.split_once(' ').map(|(number, what)| (number.parse::<usize>(), what)) {
                    Some((Ok(number), "passed")) => self.passed += number,
                    Some((Ok(number), "failed")) => self.failed += number,
                    Some((Ok(number), "ignored")) => self.ignored += number,
                    _ => {}
                }
            }
        }
    }

    fn line(&self) -> String {
        let passed = self.passed.saturating_sub(self.skipped);
        format!("{passed} passed, {} failed, {} skipped", self.failed, self.ignored + self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_counts_every_binary_and_every_skipped_test() {
        let mut total = Summary::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test c::d ... FAILED",
            "  process didn't exit successfully: `target/debug/deps/e` (signal: 9, SIGKILL: kill)",
            "skipped: a::b: umoci is not installed",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1s",
        ] {
            total.add(line);
        }
        assert_eq!(total.line(), "3 passed, 2 failed, 2 skipped");
        assert_eq!(total.failures.len(), 2);
        assert!(total.failures[1].starts_with("process didn't") && total.failures[1].ends_with("kill)"));
    }

    #[test]
    fn other_output_counts_nothing() {
        let mut total = Summary::default();
        total.add("test result: what is this");
        total.add("12 passed; 1 failed");
        assert_eq!(total, Summary::default());
    }
}
