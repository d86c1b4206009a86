//! Docker's API: what the daemon is and what happens, networks, volumes, and who may ask what. Docker's command and Python's library
//! are the judges.

mod common;

use common::docker::Docker;
use common::env;
use serde_json::Value;

/// So many connections at once are no trouble.
const CONNECTIONS: u64 = 10_000;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn clients_and_daemon_agree_on_a_version() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    docker.run(["version"]).ok().stdout_has(&["Server: Lapstrake", "1.51 (minimum version 1.24)"]);
    assert_eq!(
        docker
            .run(["version", "-f", "{{.Client.APIVersion}}"])
            .env("DOCKER_API_VERSION", "1.30")
            .ok()
            .stdout_text(),
        "1.30\n"
    );
    let (status, body) = docker.call("GET", "/_ping", "");
    assert_eq!((status, body.as_str()), (200, "OK"));
    assert_eq!(docker.call("GET", "/v1.24/_ping", "").0, 200);
    let (status, body) = docker.call("GET", "/v1.99/info", "");
    assert_eq!(status, 400);
    assert_eq!(
        json(&body)["message"],
        "client version 1.99 is too new. Maximum supported API version is 1.51"
    );
    assert_eq!(docker.call("GET", "/v1.12/info", "").0, 400);
    let answered = docker.raw(b"HEAD /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answered = String::from_utf8(answered).unwrap().to_lowercase();
    for header in [
        "api-version: 1.51",
        "builder-version: 2",
        "ostype: linux",
        "docker-experimental: false",
        "swarm: inactive",
    ] {
        assert!(answered.contains(header), "{header} in {answered}");
    }
}

#[test]
fn the_machine_is_shown() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let info = json(&docker.text(&["info", "-f", "json"]));
    assert_eq!(
        (&info["OSType"], &info["Images"], &info["Containers"]),
        (&"linux".into(), &1.into(), &0.into())
    );
    assert_eq!(info["DockerRootDir"], env.root().to_str().unwrap());
    assert!(info["MemTotal"].as_u64().unwrap() > 1 << 28 && info["NCPU"].as_u64().unwrap() > 0, "{info}");
    docker.run(["info"]).ok().stdout_has(&[
        "Swarm: inactive",
        "Logging Driver: json-file",
        "Server Version: ",
    ]);
    let Some(seen) = docker.python(
        "print(json.dumps([client.ping(), client.info()['Driver'], client.version()['ApiVersion']]))",
    ) else {
        return;
    };
    assert_eq!(json(&seen), serde_json::json!([true, info["Driver"], "1.51"]));
}

#[test]
fn networks_are_made_shown_and_removed() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let id = docker.text(&[
        "network",
        "create",
        "--subnet",
        "10.213.7.0/24",
        "--gateway",
        "10.213.7.9",
        "--label",
        "a=b",
        "--internal",
        "n1",
    ]);
    let shown = json(&docker.text(&["network", "inspect", "n1"]));
    assert_eq!((shown[0]["Id"].as_str(), shown[0]["Internal"].as_bool()), (Some(id.as_str()), Some(true)));
    assert_eq!(
        shown[0]["IPAM"]["Config"][0],
        serde_json::json!({"Subnet": "10.213.7.0/24", "Gateway": "10.213.7.9"})
    );
    // What lap says of it is the same, at once.
    assert_eq!(json(&env.lap(["network", "inspect", &id[..12]]).ok().stdout_text()), shown);
    assert_eq!(docker.text(&["network", "ls", "-qf", "label=a", "--no-trunc"]), id);
    assert_eq!(docker.text(&["network", "ls", "-qf", "name=nothing"]), "");
    for (args, expected) in [
        (&["network", "create", "n1"][..], "already exists"),
        (&["network", "create", "--subnet", "10.213.7.0/25", "n2"], "overlaps"),
        (&["network", "create", "-d", "overlay", "n2"], "overlay"),
        (&["network", "rm", "bridge"], "pre-defined"),
        (&["network", "rm", "nothing"], "not found"),
        (&["network", "inspect", "nothing"], "not found"),
    ] {
        let said = docker.refused(args);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    let script = "
n = client.networks.create('n3', labels={'x': 'y'}, check_duplicate=True)
assert [m.name for m in client.networks.list(filters={'label': 'x=y'})] == ['n3']
assert client.networks.get(n.id).attrs['Labels'] == {'x': 'y'}
try:
    client.networks.get('nothing'); assert False
except docker.errors.NotFound: pass
n.remove()
print(sorted(client.networks.prune()['NetworksDeleted']))";
    if let Some(pruned) = docker.python(script) {
        assert_eq!(pruned, "['n1']");
    }
}

#[test]
fn volumes_are_made_shown_and_removed() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    assert_eq!(docker.text(&["volume", "create", "--label", "a=b", "v1"]), "v1");
    let shown = json(&docker.text(&["volume", "inspect", "v1"]));
    assert_eq!((&shown[0]["Labels"]["a"], &shown[0]["Driver"]), (&"b".into(), &"local".into()));
    assert_eq!(env.lap(["volume", "ls", "-q"]).ok().stdout_text(), "v1\n");
    env.lap(["volume", "create", "v2"]).ok();
    assert_eq!(docker.text(&["volume", "ls", "-q"]), "v1\nv2");
    assert_eq!(docker.text(&["volume", "ls", "-qf", "label=a=b"]), "v1");
    // The one that is there is the answer to making it again.
    assert_eq!(docker.text(&["volume", "create", "v1"]), "v1");
    for (args, expected) in [
        (&["volume", "inspect", "nothing"][..], "no such volume"),
        (&["volume", "rm", "nothing"], "no such volume"),
        (&["volume", "create", "-d", "nfs", "v3"], "nfs"),
        (&["volume", "create", "../v3"], "invalid"),
    ] {
        let said = docker.refused(args).to_lowercase();
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    docker.run(["volume", "rm", "-f", "nothing"]).ok();
    let script = "
v = client.volumes.create(labels={'x': 'y'})
assert len(v.name) == 64, v.name
assert client.volumes.get(v.name).attrs['Scope'] == 'local'
# Only those without a name go by themselves.
assert client.volumes.prune()['VolumesDeleted'] == [v.name]
assert sorted(client.volumes.prune(filters={'all': True})['VolumesDeleted']) == ['v1', 'v2']
print(client.volumes.list())";
    if let Some(left) = docker.python(script) {
        assert_eq!(left, "[]");
    }
}

#[test]
fn what_happens_is_told_as_it_happens() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let mut events = docker
        .run(["events", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.driver}}", "--since", "0"])
        .spawn();
    env.lap(["volume", "create", "v"]).ok();
    events.wait_for("volume create local");
    docker.text(&["volume", "rm", "v"]);
    events.wait_for("volume destroy local");
    events.signal(nix::sys::signal::Signal::SIGTERM);
    events.finish();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let filters = "filters=%7B%22event%22%3A%7B%22create%22%3Atrue%7D%2C%22type%22%3A%5B%22volume%22%5D%7D";
    let path = format!("/events?since=0&until={}.{:09}&{filters}", now.as_secs(), now.subsec_nanos());
    let (_, past) = docker.call("GET", &path, "");
    let past = past.lines().find(|line| line.starts_with('{')).unwrap();
    assert_eq!(json(past)["Actor"]["ID"], "v", "{past}");
    let (status, body) = docker.call_with("GET", &path, &[("Accept", "application/json-seq")], b"");
    assert_eq!(status, 200);
    assert!(body.contains("\u{1e}{"), "{body}");
    let (status, body) = docker.call("GET", "/events?filters=%7B%22nothing%22%3A%5B%22x%22%5D%7D", "");
    assert_eq!((status, json(&body)["message"].as_str().unwrap().contains("invalid filter")), (400, true));
}

#[test]
fn there_is_no_swarm_and_there_are_no_plugins() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    for args in
        [&["service", "ls"][..], &["node", "ls"], &["secret", "ls"], &["config", "ls"], &["stack", "ls"]]
    {
        let said = docker.refused(args);
        assert!(said.contains("This node is not a swarm manager"), "{args:?}: {said}");
    }
    assert_eq!(docker.call("GET", "/swarm", "").0, 503);
    assert_eq!(docker.text(&["plugin", "ls", "-q"]), "");
    assert!(docker.refused(&["plugin", "inspect", "nothing"]).contains("not found"));
}

#[test]
fn who_only_watches_changes_nothing() {
    let env = env();
    let socket = env.work().join("watch.sock");
    let address = format!("unix://{}", socket.display());
    let Some(docker) = Docker::with(&env, &["--read-only-addr", &address]) else { return };
    docker.text(&["volume", "create", "v"]);
    let watch = |args: &[&str]| docker.at(&address, args).run();
    assert_eq!(watch(&["volume", "ls", "-q"]).stdout_text(), "v\n");
    assert_eq!(watch(&["version", "-f", "{{.Server.Version}}"]).code(), Some(0));
    for args in [
        &["volume", "create", "w"][..],
        &["volume", "rm", "v"],
        &["network", "create", "n"],
        &["pull", "busybox"],
        &["rmi", "busybox"],
        &["image", "save", "busybox", "-o", "x.tar"],
    ] {
        let output = watch(args);
        assert_ne!(output.code(), Some(0), "{args:?}\n{output}");
        assert!(output.stderr_text().contains("this socket is read-only"), "{args:?}\n{output}");
    }
    // Nor does who writes the path in another way, or sends much with what is refused.
    let watched = |request: &str, body: &str| {
        let head = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = docker.raw_at(&socket, &[head.as_bytes(), body.as_bytes()].concat());
        String::from_utf8_lossy(&answer).into_owned()
    };
    let much = format!("{{\"Name\":\"{}\"}}", "x".repeat(200_000));
    for (request, body) in [
        ("GET /images/busybox/get", ""),
        ("GET /images/busybox/g%65t", ""),
        ("GET /images/busybox%2Fget", ""),
        ("GET /v1.41/images/get?names=busybox", ""),
        ("POST /volumes/create", &much),
    ] {
        let answer = watched(request, body);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
        assert!(answer.contains("this socket is read-only"), "{request}: {answer}");
    }
    assert!(watched("GET /images/busybox/json", "").starts_with("HTTP/1.1 200 "));
    assert_eq!(docker.text(&["volume", "ls", "-q"]), "v");
}

#[test]
fn mistakes_are_answered_in_dockers_shape() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let long = format!("{{\"Name\":\"{}\"}}", "x".repeat(5 << 20));
    for (method, path, body, expected) in [
        ("GET", "/nothing", "", 404),
        ("GET", "/v1.41/nothing/../info", "", 404),
        ("DELETE", "/info", "", 404),
        ("POST", "/volumes/create", "{", 400),
        ("POST", "/volumes/create", "[1]", 400),
        ("POST", "/volumes/create", "{\"Name\":7}", 400),
        ("POST", "/volumes/create", &deep, 400),
        ("POST", "/volumes/create", &long, 400),
        ("POST", "/networks/create", "", 400),
        ("POST", "/networks/create", "{\"Name\":\"../x\"}", 400),
        (
            "POST",
            "/networks/create",
            "{\"Name\":\"x\",\"IPAM\":{\"Config\":[{\"Subnet\":\"10.0.0.0/99\"}]}}",
            400,
        ),
        ("GET", "/networks?filters=%5B", "", 400),
        ("GET", "/images/..%2f..%2fetc/json", "", 404),
        ("GET", "/images/json?filters=%7B%22since%22%3A%5B%22nothing%22%5D%7D", "", 400),
        ("GET", "/volumes/..%2f..%2fetc", "", 404),
        ("DELETE", "/networks/%00", "", 404),
        ("POST", "/images/create", "", 400),
        ("POST", "/images/create?fromImage=UPPER%20case", "", 400),
        ("POST", "/grpc", "", 400),
        ("POST", "/session", "", 400),
        ("POST", "/commit", "", 400),
        ("GET", "/system/df?type=nothing", "", 400),
        ("POST", "/auth", "{}", 400),
    ] {
        let (status, answer) = docker.call(method, path, body);
        let shown: String = path.chars().take(60).collect();
        assert_eq!(status, expected, "{method} {shown}: {answer}");
        assert!(json(&answer)["message"].is_string(), "{method} {shown}: {answer}");
    }
    // Unknown fields are passed over, as in Docker.
    assert_eq!(docker.call("POST", "/volumes/create", "{\"Name\":\"v\",\"Colour\":\"red\"}").0, 201);
    // Two lengths, or a length and pieces, are how requests are smuggled.
    for headers in [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
    ] {
        let request = format!(
            "POST /volumes/create HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{{}}GET /info HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let answer = String::from_utf8_lossy(&docker.raw(request.as_bytes())).into_owned();
        assert!(!answer.contains("\"Containers\""), "{headers}: {answer}");
    }
    assert_eq!(docker.call("GET", "/_ping", "").0, 200);
}

#[test]
fn clients_that_say_nothing_do_not_get_in_the_way() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let address = docker.daemon.address();
    let path = address.trim_start_matches("unix://");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).unwrap();
    let room = limit.maximum.unwrap_or(u64::MAX);
    if room < CONNECTIONS + 100 {
        return testkit::privilege::skip(&format!("only {room} files may be open here"));
    }
    let mut idle = Vec::new();
    for number in 0..CONNECTIONS {
        use std::io::Write as _;
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        // Every other one has begun to say something.
        if number % 2 == 1 {
            stream.write_all(b"GET /info HTT").unwrap();
        }
        idle.push(stream);
    }
    assert_eq!(docker.call("GET", "/_ping", "").0, 200);
    assert_eq!(docker.text(&["volume", "create", "v"]), "v");
    let threads = std::fs::read_dir(format!("/proc/{}/task", docker.daemon.pid())).unwrap().count();
    assert!(threads < 64, "{threads} threads");
}
