//! Running in the foreground: streams and signals of the process that runs the container.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio as ProcessStdio};

use base::Mount;
use base::mount::OverlayUpper;
use runner::logs::{LogDriver, LogOptions};
use runner::shim::restart::RestartPolicy;
use runner::shim::{Config, Surroundings};
use runner::{RunRequest, run_foreground};

use crate::support::{Image, image};

/// The image and the script for [`foreground_process`]; set by the tests that start it.
const IMAGE: &str = "RUNNER_TEST_FOREGROUND_IMAGE";
const SCRIPT: &str = "RUNNER_TEST_FOREGROUND_SCRIPT";

/// Not a test of its own: the process that the tests below start. It ends with the container's code.
#[test]
fn foreground_process() {
    let Some(directory) = std::env::var_os(IMAGE).map(PathBuf::from) else { return };
    let upper = OverlayUpper { upper: directory.join("upper"), work: directory.join("work") };
    let root = Mount::Overlay { lower: vec![directory.join("lower")], upper: Some(upper), userxattr: false };
    let script = std::env::var(SCRIPT).unwrap();
    let request = RunRequest::new(root, vec!["/bin/sh".to_owned(), "-c".to_owned(), script]);
    let config = Config {
        request,
        terminal: None,
        open_stdin: true,
        stdin_once: true,
        log: LogOptions { driver: LogDriver::None, ..LogOptions::default() },
        restart: RestartPolicy::No,
        health: None,
        stop_signal: 15,
        stop_timeout: None,
        remove: true,
    };
    let surroundings =
        Surroundings { teller: Box::new(runner::shim::news::Silence), encrypt: runner::logs::remote::never };
    let (ended, supervisor) = run_foreground(&directory, config, surroundings).unwrap();
    drop(supervisor);
    std::process::exit(ended.code);
}

fn command(image: &Image, script: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["foreground::foreground_process", "--exact", "--nocapture", "--quiet"])
        .env(IMAGE, image.path(""))
        .env(SCRIPT, script);
    command
}

fn with_pipes(image: &Image, script: &str) -> Child {
    let piped = ProcessStdio::piped;
    command(image, script).stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap()
}

#[test]
fn streams_and_exit_code_pass_through() {
    let Some(image) = image() else { return };
    let mut child = with_pipes(&image, "cat; echo err >&2; exit 42");
    let typed = "x".repeat(300_000);
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(42));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(&typed));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
}

#[test]
fn signals_are_passed_on_and_do_not_end_us() {
    let Some(image) = image() else { return };
    let script = "trap 'echo got INT' INT; trap 'echo got TERM; exit 3' TERM; echo ready; while :; do sleep 60 & wait; done";
    let mut child = with_pipes(&image, script);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut wait_for = |wanted: &str| {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "no {wanted}");
        }
    };
    wait_for("ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    wait_for("got INT");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_for("got TERM");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn a_reader_that_goes_away_ends_the_writer() {
    let Some(image) = image() else { return };
    let mut child = with_pipes(&image, "while echo line; do :; done 2>/dev/null; exit 8");
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let status = child.wait().unwrap();
    // The shell sees a failed write or is killed by it.
    assert!(matches!(status.code(), Some(8 | 141)), "{status:?}");
    assert_eq!(status.signal(), None);
}
