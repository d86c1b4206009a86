//! Containers by Docker's API: made, listed, looked at, started, ended, changed and removed, by Docker's command and by Python's
//! library.

mod common;

use common::containers::Containers;
use common::docker::Docker;
use serde_json::{Value, json};

/// A daemon with `busybox`.
fn docker(env: &Containers) -> Option<Docker<'_>> {
    Docker::new(env)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_container_runs_to_its_end_and_goes() {
    let env = Containers::new();
    let Some(docker) = docker(&env) else { return };
    let output = docker.run(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]).run();
    assert_eq!(
        (output.code(), output.stdout_text().as_str(), output.stderr_text().as_str()),
        (Some(7), "out\n", "err\n")
    );
    assert_eq!(docker.text(&["ps", "-aq"]), "");
    let piped = docker.run(["run", "--rm", "-i", "busybox", "cat"]).stdin("one\ntwo\n").ok();
    assert_eq!(piped.stdout_text(), "one\ntwo\n");
    let Some(said) =
        docker.python("print(client.containers.run('busybox', ['echo', 'hello'], remove=True).decode())")
    else {
        return;
    };
    assert_eq!(said, "hello");
    let failed = docker.python(
        "try:\n    client.containers.run('busybox', ['sh', '-c', 'echo why >&2; exit 3'], remove=True)\nexcept docker.errors.ContainerError as error:\n    print(error.exit_status, error.stderr.decode())",
    );
    assert_eq!(failed.unwrap(), "3 why");
    assert_eq!(docker.text(&["ps", "-aq"]), "");
}

#[test]
fn what_is_asked_for_is_what_is_shown() {
    let env = Containers::new();
    let Some(docker) = docker(&env) else { return };
    docker.text(&["network", "create", "--subnet", "10.233.77.0/24", "front"]);
    docker.text(&["network", "create", "back"]);
    let body = json!({
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "Entrypoint": ["/bin/busybox"],
        "Env": ["A=1", "B=two words", "PATH"],
        "Labels": { "one": "1", "two": "x=y" },
        "WorkingDir": "/tmp",
        "User": "7:8",
        "Hostname": "box",
        "StopSignal": "SIGINT",
        "StopTimeout": 3,
        "OpenStdin": true,
        "StdinOnce": true,
        "AttachStdin": true,
        "ExposedPorts": { "81/udp": {} },
        "Volumes": { "/anon": {} },
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 2_000_000_000_i64 },
        "HostConfig": {
            "Binds": ["/etc:/host:ro", "named:/named"],
            "Memory": 67_108_864,
            "NanoCpus": 500_000_000,
            "PidsLimit": 50,
            "CapAdd": ["NET_ADMIN"],
            "CapDrop": ["CHOWN"],
            "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 2 },
            "ReadonlyRootfs": true,
            "Tmpfs": { "/run": "size=65536" },
            "Mounts": [{ "Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": { "SizeBytes": 65536 } }],
            "ExtraHosts": ["other:10.9.8.7"],
            "Ulimits": [{ "Name": "nofile", "Soft": 100, "Hard": 200 }],
            "Sysctls": { "net.core.somaxconn": "99" },
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } },
            "NetworkMode": "front",
            "SecurityOpt": ["no-new-privileges"],
            "ShmSize": 1_048_576,
            "Annotations": { "note": "x" },
        },
        "NetworkingConfig": { "EndpointsConfig": {
            "front": { "Aliases": ["web"], "IPAMConfig": { "IPv4Address": "10.233.77.9" } },
            "back": { "Aliases": ["db"] },
        } },
    });
    let (status, answer) = docker.call("POST", "/v1.51/containers/create?name=all", &body.to_string());
    assert_eq!(status, 201, "{answer}");
    let id = parsed(&answer)["Id"].as_str().unwrap().to_owned();
    let shown = parsed(&docker.call("GET", "/containers/all/json?size=1", "").1);
    for (path, expected) in [
        ("/Id", json!(id)),
        ("/Name", json!("/all")),
        ("/State/Status", json!("created")),
        ("/State/Running", json!(false)),
        ("/Path", json!("/bin/busybox")),
        ("/Args", json!(["sleep", "1000"])),
        ("/Config/Entrypoint", json!(["/bin/busybox"])),
        ("/Config/Cmd", json!(["sleep", "1000"])),
        ("/Config/Labels/two", json!("x=y")),
        ("/Config/User", json!("7:8")),
        ("/Config/WorkingDir", json!("/tmp")),
        ("/Config/Hostname", json!("box")),
        ("/Config/OpenStdin", json!(true)),
        ("/Config/StdinOnce", json!(true)),
        ("/Config/AttachStdin", json!(true)),
        ("/Config/AttachStdout", json!(false)),
        ("/Config/StopSignal", json!("SIGINT")),
        ("/Config/StopTimeout", json!(3)),
        ("/Config/Healthcheck/Interval", json!(2_000_000_000_i64)),
        ("/HostConfig/Memory", json!(67_108_864)),
        ("/HostConfig/NanoCpus", json!(500_000_000)),
        ("/HostConfig/PidsLimit", json!(50)),
        ("/HostConfig/CapAdd", json!(["NET_ADMIN"])),
        ("/HostConfig/RestartPolicy", json!({ "Name": "on-failure", "MaximumRetryCount": 2 })),
        ("/HostConfig/ReadonlyRootfs", json!(true)),
        ("/HostConfig/NetworkMode", json!("front")),
        ("/HostConfig/LogConfig", json!({ "Type": "json-file", "Config": { "max-size": "1m" } })),
        ("/HostConfig/ShmSize", json!(1_048_576)),
        ("/HostConfig/Annotations", json!({ "note": "x" })),
        ("/HostConfig/SecurityOpt", json!(["no-new-privileges"])),
        ("/NetworkSettings/Networks/front/IPAMConfig/IPv4Address", json!("10.233.77.9")),
        ("/NetworkSettings/Networks/front/Aliases", json!(["web"])),
        ("/NetworkSettings/Networks/back/Aliases", json!(["db"])),
    ] {
        assert_eq!(shown.pointer(path), Some(&expected), "{path} of {shown:#}");
    }
    assert!(shown["SizeRootFs"].as_u64().unwrap() > 0);
    let env_of = shown["Config"]["Env"].as_array().unwrap();
    assert!(env_of.contains(&json!("B=two words")) && env_of.contains(&json!("A=1")), "{env_of:?}");
    // A name alone takes the variable away.
    assert!(!env_of.iter().any(|entry| entry.as_str().unwrap().starts_with("PATH")), "{env_of:?}");
    docker.text(&["start", "all"]);
    let inside = |script: &str| docker.text(&["exec", "all", "/bin/busybox", "sh", "-c", script]);
    assert_eq!(
        inside(
            "/bin/busybox id -u; /bin/busybox hostname; /bin/busybox cat /proc/sys/net/core/somaxconn; ulimit -n"
        ),
        "7\nbox\n99\n100"
    );
    // One of older clients has one network.
    let (status, answer) = docker.call("POST", "/v1.43/containers/create", &body.to_string());
    assert_eq!((status, answer.contains("back, front")), (400, true), "{answer}");
    docker.text(&["rm", "-f", "-v", "all"]);
    docker.text(&["network", "rm", "front", "back"]);
}

#[test]
fn lists_show_what_was_asked_for() {
    let env = Containers::new();
    let Some(docker) = docker(&env) else { return };
    docker.text(&[
        "run",
        "-d",
        "--name",
        "one",
        "-l",
        "kind=a",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sleep",
        "1000",
    ]);
    docker.text(&["create", "--name", "two", "-l", "kind=b", "busybox", "true"]);
    docker.run(["run", "--name", "three", "busybox", "false"]).fails(1);
    let names = |query: &str| {
        let (status, answer) = docker.call("GET", &format!("/containers/json{query}"), "");
        assert_eq!(status, 200, "{answer}");
        let all = parsed(&answer);
        let names = all.as_array().unwrap().iter().map(|one| one["Names"][0].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(""), "/one");
    assert_eq!(names("?all=1"), "/three /two /one");
    assert_eq!(names("?limit=2"), "/three /two");
    assert_eq!(names("?filters=%7B%22label%22:%5B%22kind=b%22%5D%7D&all=true"), "/two");
    assert_eq!(names("?filters=%7B%22exited%22:%5B%221%22%5D%7D"), "/three");
    assert_eq!(names("?all=1&filters=%7B%22before%22:%5B%22three%22%5D%7D"), "/two /one");
    let one = parsed(&docker.call("GET", "/containers/json?size=1", "").1)[0].take();
    assert_eq!(
        (one["State"].as_str(), one["HostConfig"]["NetworkMode"].as_str()),
        (Some("running"), Some("bridge"))
    );
    assert_eq!(
        (one["Ports"][0]["PrivatePort"].as_u64(), one["Ports"][0]["IP"].as_str()),
        (Some(80), Some("127.0.0.1"))
    );
    assert!(one["Status"].as_str().unwrap().starts_with("Up"), "{one}");
    assert!(
        one["SizeRw"].is_u64()
            && one["Created"].is_i64()
            && one["NetworkSettings"]["Networks"]["bridge"].is_object()
    );
    let port = docker.text(&["port", "one", "80"]);
    assert!(port.starts_with("127.0.0.1:"), "{port}");
    for bad in
        ["?filters=%7B", "?filters=%5B%5D", "?filters=%7B%22colour%22:%5B%22red%22%5D%7D", "?limit=many"]
    {
        assert_eq!(docker.call("GET", &format!("/containers/json{bad}"), "").0, 400, "{bad}");
    }
    let Some(listed) =
        docker.python("print(sorted(c.name + ' ' + c.status for c in client.containers.list(all=True)))")
    else {
        return;
    };
    assert_eq!(listed, "['one running', 'three exited', 'two created']");
    let pruned = docker.text(&["container", "prune", "-f", "--filter", "label=kind=b"]);
    assert!(pruned.contains("Total reclaimed space"), "{pruned}");
    assert_eq!(names("?all=1"), "/three /one");
    assert_eq!(docker.python("print(len(client.containers.prune()['ContainersDeleted']))").unwrap(), "1");
}

#[test]
fn a_container_lives_as_it_is_told() {
    let env = Containers::new();
    let Some(docker) = docker(&env) else { return };
    let status = |method: &str, path: &str| docker.call(method, &format!("/containers/{path}"), "").0;
    let state = || docker.text(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life"]);
    docker.text(&["create", "--name", "life", "busybox", "sleep", "1000"]);
    assert_eq!(status("POST", "life/stop"), 304);
    assert_eq!(status("POST", "life/kill"), 409);
    assert_eq!(status("POST", "life/pause"), 409);
    assert_eq!(status("POST", "life/start"), 204);
    assert_eq!(status("POST", "life/start"), 304);
    assert_eq!(status("POST", "life/pause"), 204);
    assert_eq!(state(), "paused 0");
    assert_eq!(status("POST", "life/pause"), 409);
    assert_eq!(status("POST", "life/start"), 409);
    assert_eq!(status("POST", "life/exec"), 400);
    assert_eq!(docker.call("POST", "/containers/life/exec", r#"{"Cmd":["true"]}"#).0, 409);
    assert_eq!(status("POST", "life/unpause"), 204);
    assert_eq!(status("POST", "life/unpause"), 409);
    assert_eq!(status("DELETE", "life"), 409);
    assert_eq!(status("POST", "life/kill?signal=NOPE"), 400);
    assert_eq!(status("POST", "life/kill?signal=0"), 400);
    assert_eq!(status("POST", "life/restart?t=0"), 204);
    assert_eq!(state(), "running 0");
    assert_eq!(status("POST", "life/resize?h=10&w=20"), 200);
    assert_eq!(status("POST", "life/resize?h=x&w=20"), 400);
    assert_eq!(status("POST", "life/rename"), 400);
    assert_eq!(status("POST", "life/rename?name=life"), 400);
    assert_eq!(status("POST", "life/rename?name=b%20d"), 400);
    docker.text(&["create", "--name", "other", "busybox", "true"]);
    assert_eq!(status("POST", "life/rename?name=other"), 409);
    assert_eq!(status("POST", "life/rename?name=life2"), 204);
    assert_eq!(status("POST", "life2/rename?name=life"), 204);
    assert_eq!(status("POST", "life/kill"), 204);
    // It has ended when the answer comes.
    assert_eq!(state(), "exited 137");
    assert_eq!(status("POST", "life/restart?t=0"), 204);
    assert_eq!(status("POST", "life/stop?t=0"), 204);
    assert_eq!(state(), "exited 137");
    assert_eq!(status("DELETE", "life"), 204);
    assert_eq!(status("DELETE", "life?force=1"), 404);
    let name = docker.call("POST", "/containers/create?name=other", r#"{"Image":"busybox"}"#);
    assert!(name.0 == 409 && name.1.contains("already in use by container"), "{name:?}");
    let Some(said) = docker.python(
        "c = client.containers.create('busybox', ['sleep', '1000'], name='py')\nc.start()\nc.pause()\nc.reload()\nprint(c.status)\nc.unpause()\nc.rename('py2')\nc.kill('SIGKILL')\nprint(c.wait()['StatusCode'])\nc.restart(timeout=0)\nc.stop(timeout=0)\nc.reload()\nprint(c.status, c.name)\nc.remove()",
    ) else {
        return;
    };
    assert_eq!(said, "paused\n137\nexited py2");
}

#[test]
fn paths_of_the_kernel_are_hidden_as_was_asked() {
    let env = Containers::new();
    let Some(docker) = docker(&env) else { return };
    let body = json!({
        "Image": "busybox",
        "Cmd": ["sh", "-c", "cat /etc/passwd | wc -c; touch /etc/x 2>/dev/null || echo refused; head -c 1 /proc/timer_list | wc -c"],
        "HostConfig": { "MaskedPaths": ["/etc/passwd"], "ReadonlyPaths": ["/etc"] },
    });
    let (status, answer) = docker.call("POST", "/containers/create?name=own", &body.to_string());
    assert_eq!(status, 201, "{answer}");
    assert_eq!(docker.text(&["start", "-a", "own"]), "0\nrefused\n1");
    let shown = docker.text(&[
        "inspect",
        "-f",
        "{{json .HostConfig.MaskedPaths}} {{json .HostConfig.ReadonlyPaths}}",
        "own",
    ]);
    assert_eq!(shown, "[\"/etc/passwd\"] [\"/etc\"]");
    let usual = docker.run(["run", "--rm", "busybox", "sh", "-c", "head -c 1 /proc/timer_list | wc -c"]);
    assert_eq!(usual.ok().stdout_text(), "0\n");
}

#[test]
fn programs_that_cannot_be_started_are_told() {
    let env = Containers::new();
    let Some(docker) = docker(&env) else { return };
    let missing = docker.run(["run", "--rm", "busybox", "no-such-program"]).fails(127);
    missing.stderr_has(&["no-such-program", "executable file not found in $PATH"]);
    docker.run(["run", "--rm", "busybox", "/etc"]).fails(126);
    docker.run(["run", "--name", "left", "busybox", "no-such-program"]).fails(127);
    assert_eq!(
        docker.text(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "left"]),
        "created 127"
    );
    let unknown = docker.call(
        "POST",
        "/containers/create",
        r#"{"Image":"busybox","HostConfig":{"CapAdd":["FLYING"]}}"#,
    );
    assert_eq!((unknown.0, unknown.1.contains("unknown capability")), (400, true), "{unknown:?}");
    let absent = docker.call("POST", "/containers/create", r#"{"Image":"no/such"}"#);
    assert_eq!((absent.0, absent.1.contains("No such image: no/such:latest")), (404, true), "{absent:?}");
    let Some(said) = docker.python(
        "try:\n    api.create_container('no/such')\nexcept docker.errors.ImageNotFound as error:\n    print(error.status_code)\ntry:\n    client.containers.get('nobody')\nexcept docker.errors.NotFound as error:\n    print(error.explanation)",
    ) else {
        return;
    };
    assert_eq!(said, "404\nNo such container: nobody");
}

#[test]
fn whoever_waits_is_told_the_end() {
    let env = Containers::new();
    let Some(docker) = docker(&env) else { return };
    // Of one that does not run, at once.
    docker.run(["run", "--name", "done", "busybox", "sh", "-c", "exit 4"]).fails(4);
    assert_eq!(docker.text(&["wait", "done"]), "4");
    docker.text(&["create", "--name", "later", "busybox", "sh", "-c", "read x; exit 5"]);
    assert_eq!(docker.text(&["wait", "later"]), "0");
    // The next end of one that has not begun; the header comes before.
    let mut waiting = waiter(&docker, "later", "next-exit");
    docker.text(&["start", "later"]);
    assert_eq!(rest(&mut waiting), json!({ "StatusCode": 5 }));
    let mut removed = waiter(&docker, "later", "removed");
    docker.text(&["rm", "later"]);
    assert_eq!(rest(&mut removed), json!({ "StatusCode": 5 }));
    docker.text(&["create", "--rm", "--name", "gone", "busybox", "sh", "-c", "exit 6"]);
    let mut removed = waiter(&docker, "gone", "removed");
    docker.text(&["start", "gone"]);
    assert_eq!(rest(&mut removed), json!({ "StatusCode": 6 }));
    assert_eq!(docker.call("GET", "/containers/gone/json", "").0, 404);
    assert_eq!(docker.call("POST", "/containers/done/wait?condition=never", "").0, 400);
    assert_eq!(docker.call("POST", "/containers/gone/wait", "").0, 404);
    let Some(said) = docker.python(
        "c = client.containers.run('busybox', ['sh', '-c', 'exit 9'], detach=True)\nprint(c.wait(condition='not-running')['StatusCode'])",
    ) else {
        return;
    };
    assert_eq!(said, "9");
}

/// A connection that waits for a container, and has got the header of its answer.
fn waiter(docker: &Docker<'_>, name: &str, condition: &str) -> std::os::unix::net::UnixStream {
    use std::io::{Read as _, Write as _};
    let address = docker.daemon.address();
    let mut stream = std::os::unix::net::UnixStream::connect(address.trim_start_matches("unix://")).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let path = format!("/v1.51/containers/{name}/wait?condition={condition}");
    write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// The document in the rest of an answer.
fn rest(stream: &mut std::os::unix::net::UnixStream) -> Value {
    use std::io::Read as _;
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (start, end) = (text.find('{').unwrap(), text.rfind('}').unwrap());
    parsed(&text[start..=end])
}

#[test]
fn figures_processes_and_changes_are_told() {
    let env = Containers::new();
    let Some(docker) = docker(&env) else { return };
    docker.text(&[
        "run",
        "-d",
        "--name",
        "busy",
        "-m",
        "64m",
        "busybox",
        "sh",
        "-c",
        "touch /new; rm /etc/passwd; exec sleep 1000",
    ]);
    env.wait_for_exec("busy", "test ! -e /etc/passwd");
    let top = docker.text(&["top", "busy", "-o", "pid,args"]);
    assert!(top.contains("sleep 1000"), "{top}");
    let mut changes: Vec<_> = parsed(&docker.call("GET", "/containers/busy/changes", "").1)
        .as_array()
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", change["Kind"], change["Path"].as_str().unwrap()))
        .collect();
    changes.sort();
    assert_eq!(changes, ["0 /etc", "1 /new", "2 /etc/passwd"]);
    let stats = parsed(&docker.call("GET", "/containers/busy/stats?stream=0", "").1);
    assert_eq!((stats["name"].as_str(), stats["os_type"].as_str()), (Some("/busy"), Some("linux")));
    for path in [
        "/cpu_stats/cpu_usage/total_usage",
        "/precpu_stats/system_cpu_usage",
        "/cpu_stats/online_cpus",
        "/memory_stats/usage",
        "/pids_stats/current",
    ] {
        assert!(
            stats.pointer(path).and_then(Value::as_u64).is_some_and(|number| number > 0),
            "{path} of {stats}"
        );
    }
    assert_eq!(stats["memory_stats"]["limit"], 64 << 20);
    let once = parsed(&docker.call("GET", "/containers/busy/stats?stream=0&one-shot=1", "").1);
    assert_eq!(once["preread"], "0001-01-01T00:00:00Z");
    assert_eq!(docker.call("GET", "/containers/busy/stats?stream=1&one-shot=1", "").0, 400);
    let shown = docker.text(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "busy"]);
    assert_eq!(shown, "busy 1");
    let Some(said) = docker.python(
        "c = client.containers.get('busy')\nfor n, s in zip(range(2), c.stats(decode=True)):\n    print(n, s['pids_stats']['current'], s['precpu_stats']['cpu_usage']['total_usage'] > 0)\nprint(c.top(ps_args='-o pid,args')['Titles'])\nprint(sorted(d['Path'] for d in c.diff()))\nprint(c.update(mem_limit='32m', memswap_limit='64m')['Warnings'])\nc.reload()\nprint(c.attrs['HostConfig']['Memory'])",
    ) else {
        return;
    };
    assert_eq!(
        said,
        "0 1 False\n1 1 True\n['PID', 'COMMAND']\n['/etc', '/etc/passwd', '/new']\nNone\n33554432"
    );
    docker.text(&["update", "--restart", "always", "busy"]);
    assert_eq!(docker.text(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "busy"]), "always");
    assert_eq!(docker.call("POST", "/containers/busy/update", r#"{"Memory":1}"#).0, 400);
    docker.text(&["update", "--restart", "no", "busy"]);
    docker.text(&["kill", "busy"]);
    assert_eq!(docker.call("GET", "/containers/busy/top", "").0, 409);
    let over = parsed(&docker.call("GET", "/containers/busy/stats?stream=0", "").1);
    assert_eq!(over["read"], "0001-01-01T00:00:00Z");
}
