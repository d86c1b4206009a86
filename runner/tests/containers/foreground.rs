//! Running in the foreground: streams, signals and terminal of the process that runs the container.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio as ProcessStdio};

use base::Mount;
use base::mount::OverlayUpper;
use nix::pty::openpty;
use runner::{Interactive, RunRequest, run_interactive};
use rustix::termios::{LocalModes, Termios, tcgetattr};

use crate::support::{Image, image};

/// The image and the script for [`foreground_process`]; set by the tests that start it.
const IMAGE: &str = "RUNNER_TEST_FOREGROUND_IMAGE";
const SCRIPT: &str = "RUNNER_TEST_FOREGROUND_SCRIPT";
/// Whether it has a terminal.
const TERMINAL: &str = "RUNNER_TEST_FOREGROUND_TERMINAL";

/// Not a test of its own: the process that the tests below start. It ends with the container's code.
#[test]
fn foreground_process() {
    let Some(directory) = std::env::var_os(IMAGE).map(PathBuf::from) else { return };
    let upper = OverlayUpper { upper: directory.join("upper"), work: directory.join("work") };
    let root = Mount::Overlay { lower: vec![directory.join("lower")], upper: Some(upper), userxattr: false };
    let script = std::env::var(SCRIPT).unwrap();
    let request = RunRequest::new(root, vec!["/bin/sh".to_owned(), "-c".to_owned(), script]);
    let mode = Interactive { stdin: true, terminal: std::env::var_os(TERMINAL).is_some() };
    let finished = run_interactive(&request, mode).unwrap();
    std::process::exit(finished.status.code());
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

fn is_raw(mode: &Termios) -> bool {
    !mode.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
}

#[test]
fn a_terminal_is_raw_meanwhile_and_restored() {
    let Some(image) = image() else { return };
    let size = nix::pty::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(Some(&size), None).unwrap();
    let (master, slave): (OwnedFd, OwnedFd) = (pair.master, pair.slave);
    assert!(!is_raw(&tcgetattr(&slave).unwrap()));
    let end = || ProcessStdio::from(slave.try_clone().unwrap());
    let script = "stty size; tty; read line; echo \"got $line\"; exit 6";
    let mut child =
        command(&image, script).env(TERMINAL, "1").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    let mut shown = BufReader::new(std::fs::File::from(master.try_clone().unwrap()));
    let mut lines = String::new();
    while !lines.contains("/dev/pts/0") {
        assert_ne!(shown.read_line(&mut lines).unwrap(), 0);
    }
    assert!(lines.contains("40 120\r\n"), "{lines}");
    assert!(is_raw(&tcgetattr(&slave).unwrap()), "our terminal is raw while the container runs");
    std::fs::File::from(master).write_all(b"typed\n").unwrap();
    while !lines.contains("got typed") {
        assert_ne!(shown.read_line(&mut lines).unwrap(), 0);
    }
    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert!(!is_raw(&tcgetattr(&slave).unwrap()), "our terminal is as it was");
}
