//! Processes with a terminal that a command in the foreground carries to its own, as somebody there sees it.

use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::json;

use crate::bundle::Bundle;
use crate::person::Terminal;

/// A bundle whose process is this shell script on a terminal.
fn bundle(script: &str) -> Option<Bundle> {
    let mut bundle = Bundle::new(script)?;
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write();
    Some(bundle)
}

/// Runs a command of the runtime on a terminal.
fn on_terminal(bundle: &Bundle, args: &[&str]) -> Terminal {
    let mut command = Command::new(testkit::binary::lap());
    command.args(["oci-runtime", "--root"]).arg(bundle.path("run")).args(args);
    command.current_dir(bundle.directory()).env_clear();
    Terminal::of(command)
}

#[test]
fn run_carries_the_terminal_and_gives_ours_back() {
    let Some(bundle) = bundle("stty size; tty; read line; echo \"got $line\"; exit 6") else { return };
    let mut terminal = on_terminal(&bundle, &["run", "terminal-run"]);
    terminal.wait_for("40 120\r\n/dev/pts/0\r\n");
    assert!(terminal.is_raw(), "our terminal is raw while the container runs");
    terminal.write("typed\n");
    terminal.wait_for("got typed");
    assert_eq!(terminal.finish(), Some(6));
    assert!(!terminal.is_raw(), "our terminal is as it was");
    bundle.runtime(&["state", "terminal-run"]).fails(1);
}

#[test]
fn sizes_keys_and_signals_are_passed_on() {
    let script = "trap 'stty size' WINCH; trap 'echo interrupted' INT; trap 'exit 9' TERM
        echo ready; while :; do sleep 0.1; done";
    let Some(bundle) = bundle(script) else { return };
    let mut terminal = on_terminal(&bundle, &["run", "terminal-sizes"]);
    terminal.wait_for("ready");
    terminal.resize(51, 133);
    terminal.wait_for("51 133");
    terminal.write("\x03");
    terminal.wait_for("interrupted");
    terminal.signal(Signal::SIGTSTP);
    let stopped = waitpid(terminal.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    assert!(!terminal.is_raw(), "while it is stopped");
    terminal.signal(Signal::SIGCONT);
    terminal.wait_until_raw();
    terminal.write("\x03");
    terminal.wait_for("interrupted");
    terminal.signal(Signal::SIGTERM);
    assert_eq!(terminal.finish(), Some(9));
    assert!(!terminal.is_raw());
}

#[test]
fn every_way_out_gives_the_terminal_back() {
    let Some(mut bundle) = bundle("echo ready; exec sleep 1000") else { return };
    let mut terminal = on_terminal(&bundle, &["run", "terminal-killed"]);
    terminal.wait_for("ready");
    bundle.runtime(&["kill", "terminal-killed", "KILL"]).ok();
    assert_eq!(terminal.finish(), Some(137));
    assert!(!terminal.is_raw(), "after the container was killed");

    let mut terminal = on_terminal(&bundle, &["run", "terminal-hung-up"]);
    terminal.wait_for("ready");
    let mut further =
        on_terminal(&bundle, &["exec", "-t", "terminal-hung-up", "sh", "-c", "echo $$; exec sleep 999"]);
    further.wait_for("\r\n");
    further.signal(Signal::SIGHUP);
    assert_eq!(further.finish(), Some(129));
    assert!(!further.is_raw(), "after SIGHUP");
    bundle.runtime(&["delete", "--force", "terminal-hung-up"]).ok();
    terminal.finish();

    bundle.config["process"]["args"] = json!(["no-such-program"]);
    bundle.write();
    let mut terminal = on_terminal(&bundle, &["run", "terminal-missing"]);
    terminal.wait_for("no-such-program");
    assert_eq!(terminal.finish(), Some(1));
    assert!(!terminal.is_raw(), "after a failed start");
    bundle.runtime(&["state", "terminal-missing"]).fails(1);
}

#[test]
fn a_further_process_has_a_terminal_of_its_own() {
    let Some(mut bundle) = Bundle::new("echo >/fifo; read line </fifo") else { return };
    let fifo = bundle.fifo();
    bundle.start("terminal-exec");
    fifo.read();
    let script = "stty size; test -t 0 && test -t 2 && echo terminal; read line; echo \"got $line\"; exit 5";
    let mut terminal = on_terminal(&bundle, &["exec", "--tty", "terminal-exec", "/bin/sh", "-c", script]);
    terminal.wait_for("40 120\r\nterminal\r\n");
    assert!(terminal.is_raw());
    terminal.write("typed\n");
    terminal.wait_for("got typed");
    assert_eq!(terminal.finish(), Some(5));
    assert!(!terminal.is_raw());
    let detached = bundle.runtime(&["exec", "--tty", "--detach", "terminal-exec", "/bin/true"]).fails(1);
    detached.stderr_has(&["give --console-socket"]);
}

#[test]
fn what_a_terminal_says_arrives_whole_where_there_is_none() {
    let Some(bundle) = bundle("stty -opost; i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
    else {
        return;
    };
    let directory = bundle.directory();
    let output = bundle.runtime(&["run", "--bundle", directory.to_str().unwrap(), "terminal-piped"]).ok();
    let expected: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(output.stdout_text(), expected);
}

#[test]
fn a_terminal_has_one_taker() {
    let Some(mut bundle) = bundle("true") else { return };
    let socket = bundle.path("console");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap().to_owned();
    let directory = bundle.directory().to_str().unwrap().to_owned();
    let refused = |bundle: &Bundle, args: &[&str], why: &str| {
        let args = [args, &["--bundle", &directory, "terminal-refused"]].concat();
        bundle.runtime(&args).fails(1).stderr_has(&[why]);
        assert!(!bundle.path("run/terminal-refused").exists());
    };
    refused(&bundle, &["create"], "nobody takes it: give --console-socket");
    refused(&bundle, &["run", "--detach"], "nobody takes it: give --console-socket");
    refused(&bundle, &["run", "--console-socket", &socket], "takes the terminal itself");
    bundle.config["process"]["terminal"] = json!(false);
    bundle.write();
    refused(&bundle, &["create", "--console-socket", &socket], "has no terminal");
    refused(&bundle, &["run", "--console-socket", &socket], "has no terminal");
}
