//! `lap exec`, `pause` and `unpause`: what is done with a container that runs.

mod common;

use common::containers::Containers;
use common::terminal::Terminal;
use nix::sys::signal::Signal;

#[test]
fn a_further_command_runs_in_the_container() {
    let env = Containers::new();
    env.detached(&["--name", "c", "-e", "A=image", "-e", "B=kept", "-w", "/w", "busybox", "sleep", "1000"]);
    let exec = |args: &[&str]| env.lap(["exec"]).args(args).ok().stdout_text();
    assert_eq!(exec(&["c", "sh", "-c", "cat /proc/1/comm; pwd; echo $A $B"]), "sleep\n/w\nimage kept\n");
    assert_eq!(
        exec(&["-e", "A=exec", "-w", "/tmp", "c", "sh", "-c", "pwd; echo $A $B"]),
        "/tmp\nexec kept\n"
    );
    assert_eq!(exec(&["-u", "1000:1001", "c", "sh", "-c", "id -u; id -g"]), "1000\n1001\n");
    assert_eq!(exec(&["-u", "nobody", "c", "id", "-u"]), "65534\n");
    let upper = env.lap(["exec", "-i", "c", "tr", "a-z", "A-Z"]).stdin("piped\n").ok();
    assert_eq!(upper.stdout_text(), "PIPED\n");
    let both = env.lap(["exec", "c", "sh", "-c", "echo out; echo err >&2; exit 7"]).fails(7);
    assert_eq!((both.stdout_text(), both.stderr_text()), ("out\n".to_owned(), "err\n".to_owned()));
    env.lap(["exec", "c", "no-such-program"]).fails(127).stderr_has(&["no-such-program"]);
    env.lap(["exec", "c", "/etc/passwd"]).fails(126);
    env.lap(["exec", "nobody", "true"]).fails(1).stderr_has(&["No such container: nobody"]);
    // What it wrote is the container's.
    exec(&["-d", "c", "sh", "-c", "echo x > /written"]);
    env.wait_for_exec("c", "test -s /written");
    env.lap(["stop", "-t", "0", "c"]).ok();
    env.lap(["exec", "c", "true"]).fails(1).stderr_has(&["is not running"]);
}

#[test]
fn a_command_has_fewer_rights_unless_it_is_given_all() {
    let env = Containers::new();
    env.detached(&["--name", "c", "--cap-drop", "ALL", "busybox", "sleep", "1000"]);
    let rights = |args: &[&str]| {
        env.lap(["exec"]).args(args).args(["c", "grep", "CapEff", "/proc/self/status"]).ok().stdout_text()
    };
    assert_eq!(rights(&[]), "CapEff:\t0000000000000000\n");
    assert!(!rights(&["--privileged"]).contains("0000000000000000"));
}

#[test]
fn a_command_ends_with_who_asked_for_it() {
    let env = Containers::new();
    env.detached(&["--name", "c", "busybox", "sleep", "1000"]);
    let mut exec = env.lap(["exec", "c", "sh", "-c", "echo ready; exec sleep 999"]).spawn();
    exec.wait_for("ready");
    exec.signal(Signal::SIGKILL);
    exec.finish();
    env.wait_for_exec("c", "test \"$(pidof sleep)\" = 1");
    let mut exec = env.lap(["exec", "c", "sh", "-c", "echo ready; exec sleep 999"]).spawn();
    exec.wait_for("ready");
    env.lap(["kill", "c"]).ok();
    assert_eq!(exec.finish().code(), Some(137), "with the container");
}

#[test]
fn a_command_may_have_a_terminal() {
    let env = Containers::new();
    env.detached(&["--name", "c", "busybox", "sleep", "1000"]);
    let script = "stty size; read line; echo \"got $line\"; exit 5";
    let mut terminal = Terminal::start(&env, &["exec", "-it", "c", "sh", "-c", script]);
    terminal.wait_for("40 120");
    assert!(terminal.is_raw());
    terminal.write("typed\n");
    terminal.wait_for("got typed");
    assert_eq!(terminal.finish(), Some(5));
    assert!(!terminal.is_raw());
    env.lap(["exec", "-it", "c", "sh"]).fails(1).stderr_has(&["not a TTY"]);
}

#[test]
fn a_paused_container_stands_still() {
    let env = Containers::new();
    let script = "i=0; while :; do echo $((i=i+1)); done > /count";
    env.detached(&["--name", "c", "busybox", "sh", "-c", script]);
    let pid = env.inspect("c", ".State.Pid");
    let time = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split(' ').filter_map(|f| f.parse().ok()).collect();
        fields[10] + fields[11]
    };
    env.lap(["pause", "c"]).ok();
    assert_eq!(env.inspect("c", ".State.Status"), "paused");
    assert!(env.lap(["ps"]).ok().stdout_text().contains("(Paused)"));
    env.lap(["pause", "c"]).fails(1).stderr_has(&["already paused"]);
    env.lap(["exec", "c", "true"]).fails(1).stderr_has(&["is paused"]);
    let before = time();
    env.lap(["ps"]).ok();
    assert_eq!(time(), before);
    env.lap(["unpause", "c"]).ok();
    env.wait_until("c", ".State.Status", |_| time() > before);
    env.lap(["pause", "c"]).ok();
    env.lap(["stop", "-t", "0", "c"]).ok();
    assert_eq!(env.inspect("c", ".State.ExitCode"), "137", "what is paused can be stopped");
}

#[test]
fn keys_leave_a_command_running() {
    let env = Containers::new();
    env.detached(&["--name", "c", "busybox", "sleep", "1000"]);
    for (flags, keys) in [(&[][..], "\x10\x11"), (&["--detach-keys", "ctrl-a,d"], "\x01d")] {
        let args = [&["exec", "-it"], flags, &["c", "sh", "-c", "echo rea''dy; exec sleep 999"]].concat();
        let mut terminal = Terminal::start(&env, &args);
        terminal.wait_for("ready");
        terminal.write(keys);
        assert_eq!(terminal.finish(), Some(0));
        assert!(!terminal.is_raw());
        // It runs on, with nobody at its terminal.
        env.wait_for_exec("c", "test $(pidof sleep | wc -w) = 2");
        env.lap(["exec", "c", "sh", "-c", "kill -9 $(pidof sleep | tr ' ' '\\n' | grep -vx 1)"]).ok();
        env.wait_for_exec("c", "test \"$(pidof sleep)\" = 1");
    }
    env.lap(["exec", "--detach-keys", "ctrl-1", "c", "true"]).fails(2).stderr_has(&["ctrl-1"]);
}

#[test]
fn variables_come_from_flags_files_and_ours() {
    let env = Containers::new();
    env.detached(&["--name", "c", "-e", "A=container", "busybox", "sleep", "1000"]);
    let file = env.work().join("variables");
    std::fs::write(&file, "# a comment\nA=file\nB=file\nOURS\n").unwrap();
    let flags = ["--env-file", file.to_str().unwrap(), "-e", "B=flag", "-e", "MISSING"];
    let exec = env.lap(["exec"]).args(flags).args(["c", "sh", "-c", "echo $A $B $OURS ${MISSING-none}"]);
    assert_eq!(exec.env("OURS", "ours").ok().stdout_text(), "file flag ours none\n");
}
