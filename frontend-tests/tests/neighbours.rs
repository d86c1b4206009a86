//! Containers in the namespaces of others: `--network container:`, `--pid container:` and `--ipc`.

mod common;

use common::containers::Containers;
use testkit::{OrdinaryUser, Ranges};

/// What a container with these flags prints.
fn says(env: &Containers, flags: &[&str], script: &str) -> String {
    let output = env.lap(["run", "--rm"]).args(flags).args(["busybox", "sh", "-c", script]).ok();
    output.stdout_text()
}

#[test]
fn the_network_of_another_container_is_joined() {
    let env = Containers::new();
    let flags =
        ["--name", "web", "--hostname", "web.example", "--add-host", "db:192.0.2.9", "--dns", "192.0.2.53"];
    let server = "echo hello > /tmp/index.html; httpd -p 127.0.0.1:80 -h /tmp && echo ready; sleep 1000";
    let id = env.detached(&[&flags[..], &["busybox", "sh", "-c", server]].concat());
    env.wait_for("web", "ready");
    let namespace = env.lap(["exec", "web", "readlink", "/proc/self/ns/net"]).ok().stdout_text();
    for name in ["web", &id, &id[..8]] {
        let joined = format!("container:{name}");
        assert_eq!(says(&env, &["--network", &joined], "readlink /proc/self/ns/net"), namespace);
    }
    let network = &["--network", "container:web"];
    assert_eq!(says(&env, network, "wget -qO- http://127.0.0.1/"), "hello\n");
    // Its names are those of the other one.
    let names = says(&env, network, "hostname; cat /etc/hosts /etc/resolv.conf");
    let own = env.lap(["exec", "web", "cat", "/etc/hosts", "/etc/resolv.conf"]).ok().stdout_text();
    assert_eq!(names, format!("web.example\n{own}"));
    assert!(own.contains("192.0.2.9\tdb") && own.contains("nameserver 192.0.2.53"), "{own}");
    env.detached(&["--name", "side", "--network", "container:web", "busybox", "sleep", "1000"]);
    assert_eq!(env.inspect("side", ".HostConfig.NetworkMode"), format!("container:{id}"));
    assert_eq!(env.lap(["port", "side"]).ok().stdout_text(), "");
}

#[test]
fn what_belongs_to_the_network_cannot_be_had_twice() {
    let env = Containers::new();
    env.detached(&["--name", "web", "busybox", "sleep", "1000"]);
    for (flags, said) in [
        (&["-p", "80"][..], "port publishing and the container type network mode"),
        (&["-P"], "port publishing and the container type network mode"),
        (&["--expose", "80"], "port exposing and the container type network mode"),
        (&["--hostname", "x"], "hostname and the network mode"),
        (&["--dns", "192.0.2.1"], "dns and the network mode"),
        (&["--add-host", "a:192.0.2.1"], "custom host-to-IP mapping and the network mode"),
        (&["--mac-address", "02:42:00:00:00:09"], "mac-address and the network mode"),
    ] {
        let refused = env.lap(["run", "--rm", "--network", "container:web"]).args(flags);
        let refused = refused.args(["busybox", "true"]).fails(125);
        refused.stderr_has(&[&format!("conflicting options: {said}")]);
    }
}

#[test]
fn who_does_not_run_cannot_be_joined() {
    let env = Containers::new();
    env.lap(["create", "--name", "web", "--ipc", "shareable", "busybox", "true"]).ok();
    for (flag, kind) in [("--network", "network"), ("--pid", "PID"), ("--ipc", "IPC")] {
        let refused = env.lap(["run", "--rm", flag, "container:web", "busybox", "true"]).fails(125);
        let said =
            format!("cannot join {kind} namespace of a non running container: container web is created");
        refused.stderr_has(&[&said]);
        let nobody = env.lap(["run", "--rm", flag, "container:nobody", "busybox", "true"]).fails(125);
        nobody.stderr_has(&["No such container: nobody"]);
        env.lap(["run", "--rm", flag, "container:", "busybox", "true"]).fails(125);
    }
    // Who was made before may be started afterwards.
    env.lap(["create", "--name", "side", "--network", "container:web", "busybox", "true"]).ok();
    env.lap(["start", "side"]).fails(1).stderr_has(&["container web is created"]);
    env.lap(["rm", "web"]).ok();
    env.lap(["start", "side"]).fails(1).stderr_has(&["No such container: web"]);
}

#[test]
fn process_ids_of_another_container_are_seen() {
    let env = Containers::new();
    env.detached(&["--name", "web", "busybox", "sleep", "1234"]);
    let seen = says(
        &env,
        &["--pid", "container:web"],
        "cat /proc/1/cmdline | tr '\\0' ' '; echo; kill -0 1 && echo ok",
    );
    assert_eq!(seen, "sleep 1234 \nok\n");
    // What is left of one that ended does not stay in the other one.
    says(&env, &["--pid", "container:web"], "(trap '' HUP TERM; exec sleep 4321) > /dev/null 2>&1 &");
    let left = env.lap(["exec", "web", "ps"]).ok().stdout_text();
    assert!(!left.contains("4321"), "{left}");
    // All end with the first one.
    env.detached(&["--name", "side", "--pid", "container:web", "busybox", "sleep", "1000"]);
    env.lap(["kill", "web"]).ok();
    assert_eq!(env.lap(["wait", "side"]).ok().stdout_text(), "137\n");
}

#[test]
fn shared_memory_is_shared_by_consent() {
    let env = Containers::new();
    env.detached(&["--name", "private", "busybox", "sleep", "1000"]);
    let refused = env.lap(["run", "--rm", "--ipc", "container:private", "busybox", "true"]).fails(125);
    refused.stderr_has(&["can't join IPC of container", "non-shareable IPC"]);
    let flags = ["--name", "shared", "--ipc", "shareable", "--shm-size", "1m"];
    env.detached(&[&flags[..], &["busybox", "sleep", "1000"]].concat());
    env.lap(["exec", "shared", "sh", "-c", "echo hello > /dev/shm/note"]).ok();
    let joined = &["--ipc", "container:shared"];
    let script = "cat /dev/shm/note; readlink /proc/self/ns/ipc; echo back > /dev/shm/answer; df -k /dev/shm | tail -1";
    let said = says(&env, joined, script);
    let namespace = env.lap(["exec", "shared", "readlink", "/proc/self/ns/ipc"]).ok().stdout_text();
    assert!(said.starts_with(&format!("hello\n{namespace}")), "{said}");
    assert_eq!(said.lines().last().unwrap().split_whitespace().nth(1), Some("1024"), "{said}");
    assert_eq!(env.lap(["exec", "shared", "cat", "/dev/shm/answer"]).ok().stdout_text(), "back\n");
    // The mount is as restricted there as here.
    let mounts = says(&env, joined, "grep ' /dev/shm ' /proc/mounts");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(mounts.contains(option), "{mounts}");
    }
    let none = says(&env, &["--ipc", "none"], "test -e /dev/shm || echo missing; readlink /proc/self/ns/ipc");
    assert!(none.starts_with("missing\nipc:"), "{none}");
    env.lap(["run", "--rm", "--ipc", "theirs", "busybox", "true"]).fails(125).stderr_has(&["theirs"]);
}

#[test]
fn an_ordinary_user_joins_namespaces_too() {
    let Some(user) = OrdinaryUser::new(Ranges::Usual) else { return };
    user.load(&testkit::images::busybox());
    let flags = ["run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "1000"];
    user.lap(flags).ok();
    let joined = ["run", "--rm", "--pid", "container:web", "--network", "container:web", "--ipc", "host"];
    let seen = user.lap(joined).args(["busybox", "sh", "-c", "ps; ls /sys/class/net"]).ok().stdout_text();
    assert!(seen.contains("sleep 1000") && seen.ends_with("lo\n"), "{seen}");
    user.lap(["rm", "-f", "web"]).ok();
}
