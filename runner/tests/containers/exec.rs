//! A further process in a running container.

use std::io::Read as _;
use std::os::fd::OwnedFd;

use runner::{ExitStatus, Network, Process, RunError, RunRequest, Stdio, StreamTarget, TtySize, User, start};

use crate::support::{Image, explain, image};

/// Streams that are pipes.
const PIPES: Stdio =
    Stdio::Streams { stdin: StreamTarget::Piped, stdout: StreamTarget::Piped, stderr: StreamTarget::Piped };

/// A container that waits until its standard input ends.
fn waiting(image: &Image) -> Process {
    waiting_as(image, |_| {})
}

fn waiting_as(image: &Image, change: impl FnOnce(&mut RunRequest)) -> Process {
    let mut request = image.command(&["/bin/cat"]);
    request.hostname = Some("inside".to_owned());
    change(&mut request);
    start(&request, PIPES).unwrap_or_else(|error| panic!("{}", explain(&error)))
}

fn exec(container: &Process, request: &RunRequest) -> (ExitStatus, String) {
    let mut process = container.exec(request, PIPES).unwrap_or_else(|error| panic!("{}", explain(&error)));
    drop(process.take_stdin());
    let output = read(process.take_stdout().unwrap()) + &read(process.take_stderr().unwrap());
    (process.wait().unwrap().status, output)
}

fn read(fd: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn it_is_inside_and_alone_with_the_container() {
    let Some(image) = image() else { return };
    let container = waiting(&image);
    let (status, output) =
        exec(&container, &image.script("hostname; cat /proc/1/comm; ps -o comm > /list; cat /list; exit 7"));
    assert_eq!(status, ExitStatus::Exited(7));
    // The header, the container's process, the shell and ps: nothing of ours.
    assert_eq!(output, "inside\ncat\nCOMMAND\ncat\nsh\nps\n");
}

#[test]
fn it_has_the_container_s_namespaces() {
    let Some(image) = image() else { return };
    let container = waiting(&image);
    let script = "for n in cgroup ipc mnt net pid uts; do
        [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n differs; done";
    assert_eq!(exec(&container, &image.script(script)), (ExitStatus::Exited(0), String::new()));
}

#[test]
fn its_rights_are_those_of_the_request() {
    let Some(image) = image() else { return };
    let container = waiting(&image);
    let mut request =
        image.script("id -u; id -g; grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/self/status");
    request.user = User { uid: 1000, gid: 1001, additional_gids: Vec::new() };
    request.no_new_privileges = true;
    let (_, output) = exec(&container, &request);
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words[..4], ["1000", "1001", "CapEff:", "0000000000000000"], "{output}");
    assert!(output.contains("NoNewPrivs:\t1") && output.contains("Seccomp:\t2"), "{output}");
    assert!(output.contains("CapBnd:\t00000000a80425fb"), "{output}");
}

#[test]
fn what_it_writes_lands_in_the_container() {
    let Some(image) = image() else { return };
    let container = waiting(&image);
    exec(&container, &image.script("echo hello > /tmp/file"));
    assert_eq!(exec(&container, &image.script("cat /tmp/file")).1, "hello\n");
    drop(container);
    assert_eq!(std::fs::read_to_string(image.path("upper/tmp/file")).unwrap(), "hello\n");
}

#[test]
fn it_ends_with_the_container() {
    let Some(image) = image() else { return };
    let mut container = waiting(&image);
    let mut process = container.exec(&image.command(&["/bin/cat"]), PIPES).unwrap();
    container.kill().unwrap();
    assert_eq!(process.wait().unwrap().status, ExitStatus::Signaled(9));
    container.wait().unwrap();
    let error = container.exec(&image.script("true"), PIPES).unwrap_err();
    assert!(matches!(error, RunError::NotRunning), "{}", explain(&error));
}

#[test]
fn dropping_it_ends_it_and_not_the_container() {
    let Some(image) = image() else { return };
    let mut container = waiting(&image);
    drop(container.exec(&image.command(&["/bin/cat"]), PIPES).unwrap());
    assert_eq!(exec(&container, &image.script("ps -o comm | grep -c cat")).1, "1\n");
    assert!(container.try_wait().unwrap().is_none());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let Some(image) = image() else { return };
    let container = waiting(&image);
    let error = container.exec(&image.command(&["nothing"]), PIPES).unwrap_err();
    assert_eq!(error.exit_code(), 127, "{}", explain(&error));
    let mut request = image.command(&["/bin/true"]);
    request.cwd = "/nowhere".to_owned();
    let error = explain(&container.exec(&request, PIPES).unwrap_err());
    assert!(error.contains("/nowhere"), "{error}");
}

#[test]
fn it_has_a_terminal_that_controls_it() {
    let Some(image) = image() else { return };
    let container = waiting(&image);
    let stdio = Stdio::Terminal(TtySize { rows: 30, columns: 90 });
    let mut process = container.exec(&image.script("tty; stty size < /dev/tty"), stdio).unwrap();
    let terminal = process.take_terminal().unwrap();
    process.wait().unwrap();
    let mut output = Vec::new();
    // The end of a terminal whose other side is closed is an error (EIO).
    std::fs::File::from(terminal).read_to_end(&mut output).unwrap_err();
    let output = String::from_utf8_lossy(&output);
    assert_eq!(output.lines().collect::<Vec<_>>(), ["/dev/pts/0", "30 90"]);
}

#[test]
fn a_container_joins_a_network_that_is_there() {
    let Some(image) = image() else { return };
    let first = waiting(&image);
    let pid = first.pid().unwrap().unwrap();
    let Some(other) = crate::support::image() else { return };
    let second = waiting_as(&other, |request| {
        request.network = Network::Namespace(format!("/proc/{pid}/ns/net").into());
    });
    let link = |process: &Process| {
        let pid = process.pid().unwrap().unwrap();
        std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
    };
    assert_eq!(link(&first), link(&second));
    let mut missing = image.script("true");
    missing.network = Network::Namespace("/nowhere/net".into());
    let error = explain(&start(&missing, PIPES).unwrap_err());
    assert!(error.contains("/nowhere/net"), "{error}");
}
