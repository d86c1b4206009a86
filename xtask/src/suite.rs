//! `cargo xtask test`: runs `cargo test` on the workspace and ends with one line that sums up every binary's.
//!
//! A test that skips itself because the machine lacks something counts as passed for cargo; it says so on a line
//! of its own (see `testkit::privilege`), and is counted as skipped here.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;

/// The packages, in two runs. Tests of the store want points of failure in `sys`. In one run, cargo would compile every other crate with
/// them, and all once more without them for the `lap` that tests drive.
const RUNS: [&[&str]; 2] = [&["--workspace", "--exclude", "snapshotter"], &["--package", "snapshotter"]];

/// Names the `lap` that tests drive; see `testkit::binary`.
const BINARY: &str = "LAP_BINARY";

/// Runs the tests, passing their output through, and compares counts of instructions. Fails if a test, a count, or cargo itself did.
pub(crate) fn run(workspace: &Path, args: &[&str]) -> ExitCode {
    let total = Mutex::new(Summary::default());
    let mut success = true;
    let Some(lap) = std::env::var_os(BINARY).or_else(|| build(workspace, args)) else {
        return ExitCode::FAILURE;
    };
    for packages in RUNS {
        success &= run_packages(workspace, packages, args, &lap, &total);
    }
    success &= crate::instructions::run(workspace, false);
    let total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{}", total.line());
    if success && total.failed == 0 && total.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds what the first run needs, and `lap` with it: built alone it would want other features of other people's crates, and with them all
/// of ours once more.
fn build(workspace: &Path, args: &[&str]) -> Option<OsString> {
    let mut command = cargo(workspace, "build", RUNS[0]);
    command.args(["--bins", "--tests", "--message-format", "json-render-diagnostics"]).args(args);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.inspect_err(|error| eprintln!("start {command:?}: {error}")).ok()?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let lap = messages.lines().find_map(executable).filter(|_| output.status.success());
    if lap.is_none() {
        eprintln!("{command:?} has built no lap: {}", output.status);
    }
    lap
}

/// Where `lap` is, if one line of cargo's messages tells it.
fn executable(line: &str) -> Option<OsString> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_lap = message["target"]["name"] == "lap" && message["profile"]["test"] == false;
    message["executable"].as_str().filter(|_| is_lap).map(OsString::from)
}

fn cargo(workspace: &Path, what: &str, packages: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(what).args(packages).current_dir(workspace);
    command
}

/// Whether the tests of some packages could be run and passed.
fn run_packages(
    workspace: &Path,
    packages: &[&str],
    args: &[&str],
    lap: &OsStr,
    total: &Mutex<Summary>,
) -> bool {
    let mut command = cargo(workspace, "test", packages);
    command.arg("--no-fail-fast").args(args).env(BINARY, lap);
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

/// How many tests did what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Summary {
    passed: usize,
    failed: usize,
    ignored: usize,
    skipped: usize,
}

impl Summary {
    /// Adds a line of output, if it is a test binary's last line or tells of a skipped test.
    fn add(&mut self, line: &str) {
        if line.starts_with("skipped: ") {
            self.skipped += 1;
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
            "skipped: a::b: umoci is not installed",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1s",
        ] {
            total.add(line);
        }
        assert_eq!(total.line(), "3 passed, 2 failed, 2 skipped");
    }

    #[test]
    fn other_output_counts_nothing() {
        let mut total = Summary::default();
        total.add("test result: what is this");
        total.add("12 passed; 1 failed");
        assert_eq!(total, Summary::default());
    }
}
