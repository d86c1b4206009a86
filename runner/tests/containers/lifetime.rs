//! How containers end, and that they do.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::thread;

use base::mount::OverlayUpper;
use base::{CancelToken, Mount};
use runner::{ExitStatus, RunError, RunRequest, Stdio, User, run_logged, start};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::support::image;

#[test]
fn exit_codes_and_signals_are_told() {
    let Some(image) = image() else { return };
    for code in [0, 1, 7, 255] {
        assert_eq!(image.shell(&format!("exit {code}")).status, ExitStatus::Exited(code));
    }
    // The first process of a namespace is immune to its own signals, so the kernel must send this one.
    let mut process = start(&image.command(&["/bin/sleep", "60"]), Stdio::CAPTURED).unwrap();
    process.kill().unwrap();
    let status = process.wait().unwrap().status;
    assert_eq!((status, status.code()), (ExitStatus::Signaled(9), 137));
    assert!(process.kill().is_ok(), "killing what has ended is no error");
}

#[test]
fn signals_reach_a_process_that_handles_them() {
    let Some(image) = image() else { return };
    let script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 60 & wait; done";
    let mut process = start(&image.script(script), Stdio::CAPTURED).unwrap();
    let mut output = BufReader::new(fs::File::from(process.take_stdout().unwrap()));
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    // Without a handler a signal is dropped, as with docker run.
    process.signal(10).unwrap();
    process.signal(15).unwrap();
    output.read_to_string(&mut line).unwrap();
    assert_eq!(line, "ready\ncaught\n");
    assert_eq!(process.wait().unwrap().status, ExitStatus::Exited(5));
}

#[test]
fn cancelling_kills_the_whole_tree() {
    let Some(image) = image() else { return };
    let script =
        "trap '' TERM INT; for i in 1 2 3; do (trap '' TERM INT; sleep 777) & done; echo ready; wait";
    let cancel = CancelToken::new();
    let token = cancel.clone();
    let mut pids = Vec::new();
    let mut sink = |_, _: &[u8]| {
        pids = sleeping_children();
        token.cancel();
    };
    let result = run_logged(&image.script(script), &mut sink, &cancel);
    assert!(matches!(result, Err(RunError::Cancelled(_))), "{result:?}");
    // run_logged has collected the first process, which ends only after all others have.
    assert!(pids.iter().all(|pid| !pid.exists()), "{pids:?}");
    assert!(matches!(
        run_logged(&image.script("exit 0"), &mut |_, _| (), &cancel),
        Err(RunError::Cancelled(_))
    ));
}

/// `/proc` entries of processes that belong to the test above.
fn sleeping_children() -> Vec<PathBuf> {
    let is_sleep =
        |entry: &Path| fs::read(entry.join("cmdline")).is_ok_and(|line| line == b"sleep\x00777\x00");
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_sleep(path))
        .collect()
}

#[test]
fn dropping_a_process_ends_its_container() {
    let Some(image) = image() else { return };
    let process = start(&image.command(&["/bin/sleep", "60"]), Stdio::CAPTURED).unwrap();
    let pid = process.pid().unwrap().unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    drop(process);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn a_process_outlives_the_thread_that_started_it() {
    let Some(image) = image() else { return };
    let mut process = thread::scope(|scope| {
        scope
            .spawn(|| start(&image.script("read line; echo got $line"), Stdio::PIPED).unwrap())
            .join()
            .unwrap()
    });
    assert!(process.try_wait().unwrap().is_none());
    fs::File::from(process.take_stdin().unwrap()).write_all(b"it\n").unwrap();
    let mut text = String::new();
    fs::File::from(process.take_stdout().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "got it\n");
    assert!(process.wait().unwrap().status.is_success());
}

#[test]
fn many_start_at_once() {
    let Some(first) = image() else { return };
    drop(first);
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let Some(image) = image() else { return };
                for round in 0..4 {
                    let output = image.shell(&format!("echo {number} {round}"));
                    assert_eq!(output.stdout, format!("{number} {round}\n"));
                }
            });
        }
    });
}

/// The directory of an image for [`parent_that_will_be_killed`]; set by the tests that start it.
const PARENT_IMAGE: &str = "RUNNER_TEST_PARENT_IMAGE";
/// The script that it runs.
const PARENT_SCRIPT: &str = "RUNNER_TEST_PARENT_SCRIPT";
/// The score by which the kernel chooses whom to end, for which its container has a copy of its memory.
const PARENT_SCORE: &str = "RUNNER_TEST_PARENT_SCORE";
/// In the environment of a container's processes: the directory of its image.
const MARK: &str = "MARK";

/// Not a test of its own: the process that the next tests start and kill. It runs a container that never
/// ends, and prints its output.
#[test]
fn parent_that_will_be_killed() {
    let Some(directory) = std::env::var_os(PARENT_IMAGE).map(PathBuf::from) else { return };
    let upper = OverlayUpper { upper: directory.join("upper"), work: directory.join("work") };
    let root = Mount::Overlay { lower: vec![directory.join("lower")], upper: Some(upper), userxattr: false };
    let script = std::env::var(PARENT_SCRIPT).unwrap();
    let mut request = RunRequest::new(root, vec!["/bin/sh".to_owned(), "-c".to_owned(), script]);
    request.user = User { uid: 1000, gid: 1000, additional_gids: vec![] };
    request.oom_score_adjustment = std::env::var(PARENT_SCORE).ok().map(|score| score.parse().unwrap());
    request.env.push(format!("{MARK}={}", directory.display()));
    let mut sink = |_, bytes: &[u8]| std::io::stderr().write_all(bytes).unwrap();
    panic!("the container ended: {:?}", run_logged(&request, &mut sink, &CancelToken::new()));
}

fn start_parent(directory: &Path, script: &str, score: Option<&str>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["lifetime::parent_that_will_be_killed", "--exact", "--nocapture"])
        .env(PARENT_IMAGE, directory)
        .env(PARENT_SCRIPT, script)
        .envs(score.map(|score| (PARENT_SCORE, score)))
        .stdout(ProcessStdio::null())
        .stderr(ProcessStdio::piped())
        .spawn()
        .unwrap()
}

/// Kills a parent with SIGKILL once its container says that it is ready, and waits for the container's end.
fn container_ends_with_its_parent(script: &str, score: Option<&str>) {
    let Some(image) = image() else { return };
    let setuid = image.path("lower/setuid/sh");
    fs::create_dir(image.path("lower/setuid")).unwrap();
    fs::copy(image.path("lower/bin/busybox"), &setuid).unwrap();
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();

    let mut parent = start_parent(&image.path(""), script, score);
    let mut said = BufReader::new(parent.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "the parent ended early");
    }
    let containers = marked_processes(&image.path(""));
    assert!(!containers.is_empty());
    parent.kill().unwrap();
    parent.wait().unwrap();
    for pidfd in containers {
        // Readable when the process has ended; a survivor makes this time out.
        let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1, "a process outlived its parent");
    }
}

/// Handles of the processes that have the mark of `directory` in their environment.
fn marked_processes(directory: &Path) -> Vec<OwnedFd> {
    let mark = format!("\0{MARK}={}\0", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let marked = environment.windows(mark.len()).any(|window| window == mark.as_bytes());
        let pid = entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if let (true, Some(pid)) = (marked, pid) {
            found.extend(pidfd_open(pid, PidfdFlags::empty()));
        }
    }
    found
}

#[test]
fn a_container_ends_with_a_killed_parent() {
    container_ends_with_its_parent("trap '' TERM HUP INT; sleep 600 & echo ready; wait", None);
}

/// Executing a setuid program makes the kernel forget that a process is to die with its parent.
#[test]
fn a_setuid_program_ends_with_a_killed_parent() {
    // The same for a process that shares our memory and one that has a copy.
    for score in [None, Some("999")] {
        container_ends_with_its_parent(
            "exec /setuid/sh -c 'trap \"\" TERM HUP; echo ready; sleep 600; sleep 600'",
            score,
        );
    }
}
