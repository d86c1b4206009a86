//! Containers on terminals: sizes, modes, keys and signals, as somebody at a terminal sees them.

mod common;

use common::containers::Containers;
use common::terminal::Terminal;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// The keys that leave a container running: ctrl-p, ctrl-q.
const DETACH: &str = "\x10\x11";

#[test]
fn a_terminal_is_raw_meanwhile_and_restored() {
    let env = Containers::new();
    let script = "stty size; tty; read line; echo \"got $line\"; exit 6";
    let mut terminal = Terminal::start(&env, &["run", "--rm", "-it", "busybox", "sh", "-c", script]);
    terminal.wait_for("40 120\r\n/dev/pts/0\r\n");
    assert!(terminal.is_raw(), "our terminal is raw while the container runs");
    terminal.resize(50, 132);
    terminal.write("typed\n");
    terminal.wait_for("got typed");
    assert_eq!(terminal.finish(), Some(6));
    assert!(!terminal.is_raw(), "our terminal is as it was");
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text(), "");
}

#[test]
fn the_containers_terminal_follows_the_size_of_ours() {
    let env = Containers::new();
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut terminal =
        Terminal::start(&env, &["run", "--rm", "-it", "--name", "c", "busybox", "sh", "-c", script]);
    terminal.wait_for("ready");
    terminal.resize(51, 133);
    terminal.wait_for("51 133");
    env.lap(["kill", "c"]).ok();
    assert_eq!(terminal.finish(), Some(137));
    assert!(!terminal.is_raw());
}

#[test]
fn keys_leave_a_container_running_and_one_comes_back() {
    let env = Containers::new();
    let mut terminal = Terminal::start(&env, &["run", "-it", "--name", "c", "busybox", "sh"]);
    terminal.write("x=kept; echo rea''dy\n");
    terminal.wait_for("ready");
    terminal.write(DETACH);
    assert_eq!(terminal.finish(), Some(0));
    assert!(!terminal.is_raw());
    assert_eq!(env.inspect("c", ".State.Status"), "running");
    let mut again = Terminal::start(&env, &["attach", "--detach-keys", "ctrl-a,d", "c"]);
    again.write("echo \"<$x>\"\n");
    again.wait_for("<kept>");
    again.write("\x01d");
    assert_eq!(again.finish(), Some(0));
    let mut last = Terminal::start(&env, &["attach", "c"]);
    last.write("exit 3\n");
    assert_eq!(last.finish(), Some(3));
    assert_eq!(env.inspect("c", ".State.ExitCode"), "3");
    // The keys are not the container's, all others are.
    let logs = env.lap(["logs", "c"]).ok().stdout_text();
    assert!(logs.contains("<kept>"), "{logs}");
}

#[test]
fn every_way_out_restores_the_terminal() {
    let env = Containers::new();
    let shell = [
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done",
    ];
    let mut terminal = Terminal::start(&env, &shell);
    terminal.wait_for("ready");
    terminal.signal(Signal::SIGTERM);
    assert_eq!(terminal.finish(), Some(9));
    assert!(!terminal.is_raw(), "after SIGTERM");

    let mut terminal = Terminal::start(
        &env,
        &["run", "--rm", "-it", "--name", "c", "busybox", "sh", "-c", "echo ready; exec sleep 1000"],
    );
    terminal.wait_for("ready");
    env.lap(["kill", "c"]).ok();
    assert_eq!(terminal.finish(), Some(137));
    assert!(!terminal.is_raw(), "after the container was killed");

    let mut terminal = Terminal::start(&env, &["run", "--rm", "-it", "busybox", "no-such-program"]);
    terminal.wait_for("no-such-program");
    assert_eq!(terminal.finish(), Some(127));
    assert!(!terminal.is_raw(), "after a failed start");
}

#[test]
fn stopping_lap_gives_the_terminal_back_meanwhile() {
    let env = Containers::new();
    let mut terminal = Terminal::start(
        &env,
        &["run", "--rm", "-it", "busybox", "sh", "-c", "echo ready; read line; echo got $line"],
    );
    terminal.wait_for("ready");
    terminal.signal(Signal::SIGTSTP);
    let stopped = waitpid(terminal.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    assert!(!terminal.is_raw());
    terminal.signal(Signal::SIGCONT);
    terminal.write("on\n");
    terminal.wait_for("got on");
    assert_eq!(terminal.finish(), Some(0));
}

#[test]
fn a_person_whose_lap_is_killed_leaves_no_container() {
    let env = Containers::new();
    let mut terminal = Terminal::start(
        &env,
        &[
            "run",
            "-it",
            "--name",
            "c",
            "busybox",
            "sh",
            "-c",
            "trap '' HUP; echo ready; while :; do sleep 0.1; done",
        ],
    );
    terminal.wait_for("ready");
    terminal.signal(Signal::SIGKILL);
    terminal.finish();
    assert_eq!(env.wait_until("c", ".State.Status", |status| status == "exited"), "exited");
}

#[test]
fn a_terminal_needs_a_terminal() {
    let env = Containers::new();
    env.lap(["run", "--rm", "-it", "busybox", "true"])
        .fails(125)
        .stderr_has(&["the input device is not a TTY"]);
    assert_eq!(env.lap(["run", "--rm", "-t", "busybox", "tty"]).ok().stdout_text(), "/dev/pts/0\r\n");
    // Detached, one has a terminal that nobody looks at.
    env.detached(&["-it", "--name", "c", "busybox", "sh"]);
    let mut terminal = Terminal::start(&env, &["attach", "c"]);
    terminal.write("tty; exit\n");
    terminal.wait_for("/dev/pts/0");
    assert_eq!(terminal.finish(), Some(0));
    env.lap(["run", "-it", "--detach-keys", "ctrl-1", "busybox", "true"]).fails(2).stderr_has(&["ctrl-1"]);
}
