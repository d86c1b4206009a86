//! Streams of containers by Docker's API: attached, executed, followed; by Docker's command, by Python's library, and by hand.

mod common;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::containers::Containers;
use common::docker::Docker;
use rustix::net::RecvFlags;
use serde_json::{Value, json};
use testkit::wait::{PATIENCE, until};

/// A connection to the daemon.
fn connect(docker: &Docker<'_>) -> UnixStream {
    let address = docker.daemon.address();
    let stream = UnixStream::connect(address.trim_start_matches("unix://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks for a connection of one's own, and answers it with the header of the answer.
fn hijack(docker: &Docker<'_>, path: &str, body: &str) -> (UnixStream, String) {
    let mut stream = asked(docker, path, body);
    let head = head(&mut stream);
    (stream, head)
}

/// A connection on which one of one's own was asked for.
fn asked(docker: &Docker<'_>, path: &str, body: &str) -> UnixStream {
    let mut stream = connect(docker);
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

fn head(stream: &mut UnixStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// The frames of a stream up to its end: what each stream has said.
fn frames(stream: &mut UnixStream) -> [String; 3] {
    let mut all: [Vec<u8>; 3] = Default::default();
    let mut header = [0; 8];
    while stream.read_exact(&mut header).is_ok() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        assert_eq!(header[1..4], [0, 0, 0]);
        let mut piece = vec![0; length];
        stream.read_exact(&mut piece).unwrap();
        all[usize::from(header[0])].extend(piece);
    }
    all.map(|bytes| String::from_utf8(bytes).unwrap())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The id of a further process that was described.
fn described(docker: &Docker<'_>, container: &str, body: &Value) -> String {
    let (status, answer) = docker.call("POST", &format!("/containers/{container}/exec"), &body.to_string());
    assert_eq!(status, 201, "{answer}");
    parsed(&answer)["Id"].as_str().unwrap().to_owned()
}

#[test]
fn attaching_gives_all_that_is_said_in_frames() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    let script = "read line; echo got $line; echo bad >&2; cat; echo end";
    docker.text(&["create", "-i", "--name", "talk", "busybox", "sh", "-c", script]);
    let (mut stream, head) =
        hijack(&docker, "/v1.51/containers/talk/attach?stream=1&stdin=1&stdout=1&stderr=1", "");
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("content-type: application/vnd.docker.multiplexed-stream"), "{head}");
    assert!(head.contains("upgrade: tcp"), "{head}");
    docker.text(&["start", "talk"]);
    stream.write_all(b"hello\nmore\n").unwrap();
    // Who says no more still hears the rest.
    stream.shutdown(Shutdown::Write).unwrap();
    let [_, out, err] = frames(&mut stream);
    assert_eq!((out.as_str(), err.as_str()), ("got hello\nmore\nend\n", "bad\n"));
    // An older client is not told of frames, and without asking for the connection gets a body.
    let (_, head) = hijack(&docker, "/v1.41/containers/talk/attach?logs=1&stdout=1&stderr=1", "");
    assert!(head.contains("content-type: application/vnd.docker.raw-stream"), "{head}");
    let (mut logs, _) = hijack(&docker, "/containers/talk/attach?logs=1&stdout=1", "");
    assert_eq!(frames(&mut logs)[1], "got hello\nmore\nend\n");
    let (status, body) = docker.call("POST", "/containers/talk/attach?logs=1&stderr=1", "");
    assert_eq!(status, 200);
    assert!(body.contains("bad\n") && !body.contains("got"), "{body:?}");
    for (path, expected) in [
        ("talk/attach?stdout=1", 400),
        ("nobody/attach?stream=1", 404),
        ("talk/attach?stream=1&detachKeys=nonsense", 400),
    ] {
        assert_eq!(docker.call("POST", &format!("/containers/{path}"), "").0, expected, "{path}");
    }
    docker.text(&["run", "-d", "--name", "still", "busybox", "sleep", "1000"]);
    docker.text(&["pause", "still"]);
    assert_eq!(docker.call("POST", "/containers/still/attach?stream=1&stdout=1", "").0, 409);
    docker.text(&["unpause", "still"]);
    let Some(said) = docker.python(
        "c = client.containers.create('busybox', ['sh', '-c', 'read x; echo \"<$x>\"; echo e >&2'], stdin_open=True)\ns = c.attach_socket(params={'stdin': 1, 'stream': 1, 'stdout': 1})\nc.start()\ns._sock.sendall(b'py\\n')\nprint(c.wait()['StatusCode'], c.logs(stderr=False).decode(), end='')\nprint(c.attach(logs=True, stdout=False).decode())",
    ) else {
        return;
    };
    assert_eq!(said, "0 <py>\ne");
}

/// Python's library forgets what it reads together with the header.
#[test]
fn what_follows_a_header_comes_when_that_was_read() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.text(&["run", "--name", "said", "busybox", "echo", "hello"]);
    let mut stream = asked(&docker, "/containers/said/attach?logs=1&stdout=1", "");
    // A client that does not come to read for a while: what it could read then does not get more than the header.
    let mut seen = [0; 4096];
    let mut most = 0;
    let late = std::time::Instant::now() + Duration::from_millis(100);
    while most == 0 || std::time::Instant::now() < late {
        most = rustix::net::recv(&stream, &mut seen, RecvFlags::PEEK).unwrap().0;
    }
    let seen = String::from_utf8_lossy(&seen[..most]).into_owned();
    assert!(seen.starts_with("HTTP/1.1 101") && seen.ends_with("\r\n\r\n"), "{seen:?}");
    assert_eq!(head(&mut stream), seen.to_lowercase());
    assert_eq!(frames(&mut stream)[1], "hello\n");
    // Who never reads it gets everything nevertheless.
    let mut stream = asked(&docker, "/containers/said/attach?logs=1&stdout=1", "");
    until("all of it is there", || {
        let (length, _) = rustix::net::recv(&stream, &mut [0; 4096], RecvFlags::PEEK).unwrap();
        length > seen.len()
    });
    head(&mut stream);
    assert_eq!(frames(&mut stream)[1], "hello\n");
}

#[test]
fn a_terminal_is_raw_has_a_size_and_is_left_by_keys() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.text(&["create", "-it", "--name", "tty", "busybox", "sh"]);
    let path = "/containers/tty/attach?stream=1&stdin=1&stdout=1&detachKeys=a,b";
    let (mut stream, head) = hijack(&docker, path, "");
    assert!(head.contains("application/vnd.docker.raw-stream"), "{head}");
    docker.text(&["start", "tty"]);
    assert_eq!(docker.call("POST", "/containers/tty/resize?h=33&w=77", "").0, 200);
    stream.write_all(b"stty size\n").unwrap();
    read_until(&mut stream, "33 77");
    stream.write_all(b"ab").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(docker.text(&["inspect", "-f", "{{.State.Status}}", "tty"]), "running");
    let exec = described(
        &docker,
        "tty",
        &json!({ "Cmd": ["sh"], "Tty": true, "AttachStdin": true, "AttachStdout": true, "ConsoleSize": [20, 30] }),
    );
    assert_eq!(docker.call("POST", &format!("/exec/{exec}/resize?h=1&w=1"), "").0, 409);
    let (mut stream, head) = hijack(&docker, &format!("/exec/{exec}/start"), r#"{"Tty":true}"#);
    assert!(head.contains("101") && head.contains("raw-stream"), "{head}");
    stream.write_all(b"stty size\n").unwrap();
    read_until(&mut stream, "20 30");
    assert_eq!(docker.call("POST", &format!("/exec/{exec}/resize?h=44&w=55"), "").0, 200);
    stream.write_all(b"stty size; exit 9\n").unwrap();
    read_until(&mut stream, "44 55");
    stream.read_to_end(&mut rest).unwrap();
    let shown = parsed(&docker.call("GET", &format!("/exec/{exec}/json"), "").1);
    assert_eq!((&shown["ExitCode"], &shown["Running"]), (&json!(9), &json!(false)));
}

/// Reads until a text has come.
fn read_until(stream: &mut UnixStream, wanted: &str) {
    let (mut seen, mut chunk) = (String::new(), [0; 1024]);
    while !seen.contains(wanted) {
        let length = stream.read(&mut chunk).unwrap_or_else(|error| panic!("{error} after {seen:?}"));
        assert_ne!(length, 0, "it ends after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&chunk[..length]));
    }
}

#[test]
fn further_processes_are_described_started_and_asked_about() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.text(&["run", "-d", "--name", "host", "busybox", "sleep", "1000"]);
    assert_eq!(
        docker.text(&[
            "exec",
            "-e",
            "A=7",
            "-w",
            "/tmp",
            "-u",
            "5:6",
            "host",
            "sh",
            "-c",
            "echo $A $PWD; id -u"
        ]),
        "7 /tmp\n5"
    );
    assert_eq!(
        docker.run(["exec", "-i", "host", "cat"]).stdin("to and fro").ok().stdout_text(),
        "to and fro"
    );
    docker.run(["exec", "host", "sh", "-c", "exit 42"]).fails(42);
    docker
        .run(["exec", "host", "no-such-program"])
        .fails(127)
        .stdout_has(&["executable file not found in $PATH"]);
    let split = docker.run(["exec", "host", "sh", "-c", "echo o; echo e >&2"]).ok();
    assert_eq!((split.stdout_text().as_str(), split.stderr_text().as_str()), ("o\n", "e\n"));
    docker.text(&["exec", "-d", "host", "sh", "-c", "sleep 0; touch /ran; exec sleep 1000"]);
    env.wait_for_exec("host", "test -e /ran");
    let exec = described(
        &docker,
        "host",
        &json!({ "Cmd": ["sh", "-c", "read x; exit 3"], "AttachStdin": true, "User": "9", "Privileged": true }),
    );
    let asked = || parsed(&docker.call("GET", &format!("/exec/{exec}/json"), "").1);
    let before = asked();
    assert_eq!(
        (&before["Running"], &before["ExitCode"], &before["Pid"]),
        (&json!(false), &Value::Null, &json!(0))
    );
    assert_eq!(
        before["ProcessConfig"],
        json!({ "entrypoint": "sh", "arguments": ["-c", "read x; exit 3"], "tty": false, "privileged": true, "user": "9" })
    );
    let (mut stream, _) = hijack(&docker, &format!("/exec/{exec}/start"), "{}");
    until("it has a process", || asked()["Pid"].as_u64().unwrap() > 0);
    assert_eq!(asked()["Running"], json!(true));
    let known = docker.text(&["inspect", "-f", "{{.ExecIDs}}", "host"]);
    assert!(known.contains(&exec), "{known}");
    assert_eq!(docker.call("POST", &format!("/exec/{exec}/start"), "{}").0, 409);
    stream.write_all(b"\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!((&asked()["Running"], &asked()["ExitCode"]), (&json!(false), &json!(3)));
    for (path, body, expected) in [
        ("/exec/nothing/start", "{}", 404),
        ("/containers/host/exec", "{}", 400),
        ("/containers/host/exec", r#"{"Cmd":["x"],"DetachKeys":"what"}"#, 400),
        ("/containers/host/exec", r#"{"Cmd":7}"#, 400),
        ("/containers/nobody/exec", r#"{"Cmd":["x"]}"#, 404),
    ] {
        assert_eq!(docker.call("POST", path, body).0, expected, "{path} {body}");
    }
    assert_eq!(docker.call("GET", "/exec/nothing/json", "").0, 404);
    let Some(said) = docker.python(
        "c = client.containers.get('host')\nr = c.exec_run(['sh', '-c', 'echo o; echo e >&2; exit 6'], demux=True)\nprint(r.exit_code, r.output)\nprint(c.exec_run('env', environment={'Q': 'w'}, workdir='/').output.decode().count('Q=w'))",
    ) else {
        return;
    };
    assert_eq!(said, "6 (b'o\\n', b'e\\n')\n1");
    docker.text(&["stop", "-t", "0", "host"]);
    assert_eq!(docker.call("POST", "/containers/host/exec", r#"{"Cmd":["x"]}"#).0, 409);
}

#[test]
fn logs_are_selected_and_followed() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.run(["run", "--name", "both", "busybox", "sh", "-c", "echo one; echo two >&2"]).ok();
    let both = docker.run(["logs", "both"]).ok();
    assert_eq!((both.stdout_text().as_str(), both.stderr_text().as_str()), ("one\n", "two\n"));
    docker.run(["run", "--name", "said", "busybox", "sh", "-c", "echo one; echo two; echo three"]).ok();
    assert_eq!(docker.text(&["logs", "-n", "1", "said"]), "three");
    let stamped = docker.text(&["logs", "-t", "-n", "1", "said"]);
    let (time, text) = stamped.split_once(' ').unwrap();
    assert_eq!((text, time.len()), ("three", "2026-01-31T12:00:00.123456789Z".len()));
    assert_eq!(docker.text(&["logs", "--until", "1h", "said"]), "");
    assert_eq!(docker.text(&["logs", "--since", "2000-01-01T00:00:00", "-n", "1", "said"]), "three");
    assert_eq!(docker.text(&["logs", "--since", "4000000000.5", "said"]), "");
    assert_eq!(docker.call("GET", "/containers/said/logs", "").0, 400);
    assert_eq!(docker.call("GET", "/containers/said/logs?stdout=1&since=soon", "").0, 400);
    assert_eq!(docker.call("GET", "/containers/nobody/logs?stdout=1", "").0, 404);
    docker.text(&["create", "--log-driver", "none", "--name", "mute", "busybox", "true"]);
    assert_eq!(docker.call("GET", "/containers/mute/logs?stdout=1", "").0, 501);
    docker.text(&["create", "-i", "--name", "going", "busybox", "cat"]);
    docker.text(&["start", "going"]);
    let mut followed = docker.run(["logs", "-f", "going"]).spawn();
    let (mut input, _) = hijack(&docker, "/containers/going/attach?stream=1&stdin=1", "");
    input.write_all(b"first line\n").unwrap();
    followed.wait_for("first line");
    input.write_all(b"second line\n").unwrap();
    input.shutdown(Shutdown::Write).unwrap();
    let Some(lines) = docker.python(
        "print(b''.join(client.containers.get('going').logs(stream=True, follow=True, stderr=False)).decode().split('\\n')[:2])",
    ) else {
        docker.text(&["kill", "going"]);
        return;
    };
    assert_eq!(lines, "['first line', 'second line']");
    assert!(followed.finish().stdout_text().contains("second line"));
}

#[test]
fn a_web_socket_is_attached() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.text(&["create", "-i", "--name", "web", "busybox", "sh", "-c", "read x; echo got $x"]);
    let mut stream = connect(&docker);
    write!(stream, "GET /v1.51/containers/web/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").unwrap();
    let head = head(&mut stream);
    assert!(head.starts_with("http/1.1 101") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    docker.text(&["start", "web"]);
    // A text of four letters, under a mask of zeros.
    stream.write_all(&[&[0x81, 0x80 | 4, 0, 0, 0, 0][..], b"yes\n"].concat()).unwrap();
    let mut header = [0; 2];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[0], 0x82, "a binary message");
    let mut text = vec![0; usize::from(header[1])];
    stream.read_exact(&mut text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "got yes\n");
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[0], 0x88, "the end");
    assert_eq!(docker.call("GET", "/containers/web/attach/ws?stream=1", "").0, 400);
}

/// What a daemon has open, and its threads.
fn held(pid: i32) -> (usize, usize) {
    let count =
        |name: &str| std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join(name)).unwrap().count();
    (count("fd"), count("task"))
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    docker.text(&["run", "-d", "-i", "--name", "quiet", "busybox", "sh", "-c", "sleep 1000"]);
    docker.text(&["create", "--name", "never", "busybox", "true"]);
    let pid = docker.daemon.pid();
    let (files, threads) = held(pid);
    let mut clients = Vec::new();
    for _ in 0..150 {
        clients.push(hijack(&docker, "/containers/quiet/attach?stream=1&stdout=1&stderr=1&stdin=1", "").0);
        for request in [
            "GET /containers/quiet/logs?follow=1&stdout=1",
            "POST /containers/quiet/wait",
            "POST /containers/never/wait?condition=next-exit",
            "GET /containers/quiet/stats?stream=1",
        ] {
            let mut stream = connect(&docker);
            write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
            assert!(head(&mut stream).starts_with("http/1.1 200"), "{request}");
            clients.push(stream);
        }
    }
    // A machine that stood still has much to tell at once.
    until("threads are for work, not for those who wait", || held(pid).1 < threads + 100);
    for (index, client) in clients.iter().enumerate() {
        // Some say first that they say no more.
        if index % 3 == 0 {
            client.shutdown(Shutdown::Write).unwrap();
        }
    }
    drop(clients);
    until("no descriptors are left", || held(pid).0 <= files + 8);
    until("no supervisor of a container that nobody waits for is left", || {
        docker.call("DELETE", "/containers/never", "").0 == 204
    });
    assert_eq!(docker.text(&["inspect", "-f", "{{.State.Status}}", "quiet"]), "running");
}

#[test]
fn a_daemon_that_is_killed_leaves_containers_running() {
    let env = Containers::new();
    let Some(mut docker) = Docker::new(&env) else { return };
    docker.text(&[
        "run",
        "-d",
        "-i",
        "--name",
        "on",
        "busybox",
        "sh",
        "-c",
        "while read x; do echo $x; test $x = end && exit 33; done",
    ]);
    let (mut input, _) = hijack(&docker, "/containers/on/attach?stream=1&stdin=1&stdout=1", "");
    input.write_all(b"before\n").unwrap();
    read_until(&mut input, "before");
    let exec = described(
        &docker,
        "on",
        &json!({ "Cmd": ["sh", "-c", "echo $$ > /pid; exec sleep 1000"], "AttachStdout": true }),
    );
    let (_stream, _) = hijack(&docker, &format!("/exec/{exec}/start"), "{}");
    env.wait_for_exec("on", "test -s /pid");
    docker.daemon.end(nix::sys::signal::Signal::SIGKILL);
    docker.daemon.start_again(&[]);
    assert_eq!(docker.text(&["inspect", "-f", "{{.State.Status}}", "on"]), "running");
    // What was executed goes on as well.
    assert_eq!(docker.text(&["exec", "on", "sh", "-c", "kill -0 $(cat /pid) && echo alive"]), "alive");
    let (mut input, _) = hijack(&docker, "/containers/on/attach?stream=1&stdin=1&stdout=1", "");
    input.write_all(b"after\nend\n").unwrap();
    assert_eq!(frames(&mut input)[1], "after\nend\n");
    assert_eq!(docker.text(&["wait", "on"]), "33");
    assert_eq!(docker.text(&["logs", "on"]), "before\nafter\nend");
}
