//! Clients of Docker's API who want different things of one container at once, and nonsense.

mod common;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use common::containers::Containers;
use common::docker::Docker;
use serde_json::Value;

/// What a call may answer, whatever the others do meanwhile.
fn allowed(call: &str) -> &'static [u16] {
    match call {
        "start" => &[204, 304, 404, 409],
        "stop" => &[204, 304, 404],
        // It may end, or go, between two looks.
        "restart" => &[204, 404, 409, 500],
        "kill" | "pause" | "unpause" => &[204, 404, 409],
        "remove" => &[204, 404, 409],
        "remove by force" => &[204, 404],
        "inspect" | "stats" | "archive" => &[200, 404, 409],
        "create" => &[201, 409],
        "rename" => &[204, 400, 404, 409],
        "exec" => &[201, 404, 409],
        other => panic!("{other}"),
    }
}

/// What a call answers over the socket of the daemon: the status, and the body.
fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(address.trim_start_matches("unix://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn call(address: &str, what: &str) -> (u16, String) {
    let of =
        |method: &str, path: &str, body: &str| ask(address, method, &format!("/containers/{path}"), body);
    match what {
        "create" => of("POST", "create?name=fought", r#"{"Image":"busybox","Cmd":["sleep","1000"]}"#),
        "remove" => of("DELETE", "fought", ""),
        "remove by force" => of("DELETE", "fought?force=1", ""),
        "inspect" => of("GET", "fought/json", ""),
        "stats" => of("GET", "fought/stats?stream=0&one-shot=1", ""),
        "archive" => of("GET", "fought/archive?path=/etc/passwd", ""),
        "rename" => of("POST", "fought/rename?name=fought", ""),
        "exec" => of("POST", "fought/exec", r#"{"Cmd":["true"]}"#),
        "stop" => of("POST", "fought/stop?t=0", ""),
        "restart" => of("POST", "fought/restart?t=0", ""),
        other => of("POST", &format!("fought/{other}"), ""),
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn of(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[test]
fn conflicting_calls_are_answered_by_the_rules() {
    const CALLS: [&str; 14] = [
        "create",
        "start",
        "stop",
        "restart",
        "kill",
        "pause",
        "unpause",
        "remove",
        "remove by force",
        "inspect",
        "stats",
        "archive",
        "rename",
        "exec",
    ];
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    let address = &docker.daemon.address();
    thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || {
                let mut dice = Dice(seed);
                for _ in 0..60 {
                    let what = CALLS[dice.of(CALLS.len())];
                    let (status, answer) = call(address, what);
                    assert!(allowed(what).contains(&status), "{what}: {status} {answer}");
                    if status >= 400 {
                        let error: Value = serde_json::from_str(&answer).unwrap();
                        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
                    }
                }
            });
        }
    });
    // Whatever came of it, it can be started or made, and be removed.
    let all = docker.call("GET", "/containers/json?all=1", "").1;
    let all: Value = serde_json::from_str(&all).unwrap();
    let names: BTreeSet<&str> =
        all.as_array().unwrap().iter().filter_map(|one| one["Names"][0].as_str()).collect();
    assert!(names.is_subset(&BTreeSet::from(["/fought"])), "{names:?}");
    call(address, "create");
    call(address, "unpause");
    assert!(matches!(call(address, "start").0, 204 | 304));
    assert_eq!(docker.text(&["exec", "fought", "echo", "well"]), "well");
    assert_eq!(call(address, "remove by force").0, 204);
    assert_eq!(docker.text(&["ps", "-aq"]), "");
}

#[test]
fn only_one_of_many_gets_a_name_and_only_one_starts() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    let address = &docker.daemon.address();
    let at_once = |what: &str| {
        let answers: Vec<u16> = thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| call(address, what).0)).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        answers
    };
    let made = at_once("create");
    assert_eq!(
        (
            made.iter().filter(|status| **status == 201).count(),
            made.iter().filter(|status| **status == 409).count()
        ),
        (1, 7)
    );
    let started = at_once("start");
    assert_eq!(
        (
            started.iter().filter(|status| **status == 204).count(),
            started.iter().filter(|status| **status == 304).count()
        ),
        (1, 7),
        "{started:?}"
    );
    let removed = at_once("remove by force");
    assert!(
        removed.contains(&204) && removed.iter().all(|status| matches!(status, 204 | 404)),
        "{removed:?}"
    );
    assert_eq!(call(address, "inspect").0, 404);
}

#[test]
fn nonsense_is_refused_and_makes_nothing() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!(r#"{{"Image":"busybox","Env":["A={}"]}}"#, "x".repeat(5 << 20));
    for body in [
        "",
        "{",
        "[]",
        "null",
        "7",
        "\"x\"",
        "{}",
        "\u{feff}{}",
        &deep,
        &long,
        r#"{"Image":""}"#,
        r#"{"Image":7}"#,
        r#"{"Image":"busybox","Cmd":{"a":1}}"#,
        r#"{"Image":"busybox","Env":"A=1"}"#,
        r#"{"Image":"busybox","Env":["=x"]}"#,
        r#"{"Image":"busybox","HostConfig":[]}"#,
        r#"{"Image":"busybox","HostConfig":{"Memory":"much"}}"#,
        r#"{"Image":"busybox","HostConfig":{"Memory":1}}"#,
        r#"{"Image":"busybox","HostConfig":{"Memory":-5}}"#,
        r#"{"Image":"busybox","HostConfig":{"Memory":99999999999999999999999}}"#,
        r#"{"Image":"busybox","HostConfig":{"Binds":["../x:/y"]}}"#,
        r#"{"Image":"busybox","HostConfig":{"Binds":["a:b:c:d"]}}"#,
        r#"{"Image":"busybox","HostConfig":{"Binds":["x/../../y:/z"]}}"#,
        r#"{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"/no/such/path","Target":"/x"}]}}"#,
        r#"{"Image":"busybox","HostConfig":{"NetworkMode":"no-such-network"}}"#,
        r#"{"Image":"busybox","HostConfig":{"PortBindings":{"x/tcp":[{}]}}}"#,
        r#"{"Image":"busybox","HostConfig":{"Runtime":"kata"}}"#,
        r#"{"Image":"busybox","HostConfig":{"SecurityOpt":["seccomp=/etc/passwd"]}}"#,
        r#"{"Image":"busybox","HostConfig":{"SecurityOpt":["seccomp={\"defaultAction\":7}"]}}"#,
        r#"{"Image":"busybox","HostConfig":{"LogConfig":{"Type":"teletype"}}}"#,
        r#"{"Image":"busybox","HostConfig":{"StorageOpt":{"size":"1g"}}}"#,
        r#"{"Image":"busybox","StopSignal":"SIGNONSENSE"}"#,
        r#"{"Image":"busybox","Healthcheck":{"Interval":5}}"#,
        r#"{"Image":"busybox","User":"nobody-of-that-name"}"#,
    ] {
        let (status, answer) = docker.call("POST", "/containers/create", body);
        let shown = &body[..body.len().min(80)];
        assert!(matches!(status, 400 | 404 | 413), "{shown}: {status} {answer}");
        let error: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert!(error["message"].is_string(), "{shown}: {answer}");
    }
    for name in ["a b", "-x", "%2e%2e%2fetc", "a%2fb", "%00"] {
        let answer =
            docker.call("POST", &format!("/containers/create?name={name}"), r#"{"Image":"busybox"}"#);
        assert_eq!(answer.0, 400, "{name}: {answer:?}");
    }
    assert_eq!(
        docker.call("POST", "/containers/create?platform=nonsense/x/y/z", r#"{"Image":"busybox"}"#).0,
        400
    );
    assert_eq!(docker.text(&["ps", "-aq"]), "");
    // What nobody knows is passed over, as in Docker.
    let (status, answer) = docker.call(
        "POST",
        "/containers/create?name=x&colour=red",
        r#"{"Image":"busybox","Colour":"red","HostConfig":{"Taste":7}}"#,
    );
    assert_eq!(status, 201, "{answer}");
    docker.text(&["rm", "x"]);
}
