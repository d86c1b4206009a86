//! `lap run` with networks: published ports, containers among each other, and what is left afterwards.

mod common;

use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use common::ports::{echo_inside, get};
use common::{build, env};
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::ports::free_port;
use testkit::wait::PATIENCE;
use testkit::{OrdinaryUser, Ranges, Running, TestEnv};

/// Serves a file with one line, and says when it does.
const SERVER: &str = "echo hello > /tmp/index.html; httpd -p 80 -h /tmp && echo ready; sleep 1000";

/// A container with a server on port 80, and these flags.
fn server(env: &TestEnv, flags: &[&str]) -> Running {
    let command = env.lap(["run", "--rm"]).args(flags).args(["busybox", "sh", "-c", SERVER]);
    let mut running = command.spawn();
    running.wait_for("ready");
    running
}

/// What is written down about the containers of an environment.
fn leases(env: &TestEnv) -> Vec<Value> {
    let directory = env.run().join("networks/default/leases");
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries
        .map(|entry| serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap())
        .collect()
}

#[test]
fn published_ports_lead_to_the_container() {
    let env = env();
    let port = free_port();
    let _server = server(&env, &["-p", &format!("{port}:80")]);
    for address in ["127.0.0.1", "[::1]"] {
        assert!(get(&format!("{address}:{port}")).unwrap().ends_with("hello\n"), "{address}");
    }
    // Another container: by the server's own address, and by the host's.
    let server = leases(&env)[0]["address"].as_str().unwrap().to_owned();
    let script = format!(
        "wget -qO- http://{server}/; host=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'); \
         wget -qO- http://$host:{port}/"
    );
    env.lap(["run", "--rm", "busybox", "sh", "-c", &script]).ok().stdout_has(&["hello\nhello\n"]);
    // The port is taken.
    let taken = env.lap(["run", "--rm", "-p", &format!("{port}:80"), "busybox", "true"]).fails(125);
    taken.stderr_has(&[&format!("0.0.0.0:{port}/tcp"), "already allocated", "by container"]);
}

#[test]
fn a_container_reaches_itself_by_the_host() {
    let env = env();
    let port = free_port();
    let script = format!(
        "echo hello > /tmp/index.html; httpd -p 80 -h /tmp; \
         host=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'); wget -qO- http://$host:{port}/"
    );
    let flags = ["run", "--rm", "-p", &format!("{port}:80"), "busybox", "sh", "-c", &script];
    env.lap(flags).ok().stdout_has(&["hello"]);
}

/// The network namespace of a container: that of a child of its `lap` that is not in ours.
fn namespace_of(running: &Running) -> OwnedFd {
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap();
    let children =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    let children = children.collect::<Vec<_>>().join(" ");
    let paths = children.split_whitespace().map(|pid| format!("/proc/{pid}/ns/net"));
    let mut others = paths.filter(|path| std::fs::read_link(path).is_ok_and(|namespace| namespace != ours));
    std::fs::File::open(others.next().expect("a process of the container")).unwrap().into()
}

#[test]
fn messages_are_carried_too() {
    let env = env();
    let port = free_port();
    let running = server(&env, &["-p", &format!("127.0.0.1:{port}:53/udp")]);
    echo_inside(namespace_of(&running), 53);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(b"hello").unwrap();
    let mut buffer = [0; 64];
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"hello");
}

#[test]
fn exposed_ports_get_any_port() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nEXPOSE 80\n");
    build(&env, &context, &["-t", "busybox"]);
    let _server = server(&env, &["-P", "--expose", "90/udp"]);
    let published = leases(&env)[0]["published"].as_array().unwrap().clone();
    let mut kinds: Vec<String> =
        published.iter().map(|one| format!("{}/{}", one["container_port"], one["transport"])).collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, ["80/\"tcp\"", "90/\"udp\""]);
    let host = published.iter().find(|one| one["container_port"] == 80).unwrap()["host"].as_str().unwrap();
    assert!(get(host).unwrap().ends_with("hello\n"));
}

#[test]
fn a_killed_lap_leaves_nothing_that_the_next_one_does_not_remove() {
    let env = env();
    let port = free_port();
    let ports = format!("{port}:80");
    let killed = server(&env, &["-p", &ports]);
    killed.signal(Signal::SIGKILL);
    killed.finish();
    assert_eq!(leases(&env).len(), 1);
    env.lap(["system", "doctor"]).run().stdout_has(&["addresses of killed containers: 1", "--fix"]);
    // The port is free at once, and the address is when the next one comes.
    let _next = server(&env, &["-p", &ports]);
    assert_eq!(leases(&env).len(), 1);
    assert!(get(&format!("127.0.0.1:{port}")).unwrap().ends_with("hello\n"));
}

#[test]
fn doctor_removes_an_idle_network() {
    let env = env();
    env.lap(["run", "--rm", "busybox", "true"]).ok();
    assert!(leases(&env).is_empty());
    let bridge = env.lap(["system", "doctor"]).run().stdout_text();
    let bridge = bridge.split("(bridge ").nth(1).unwrap().split(')').next().unwrap().to_owned();
    let exists = || std::path::Path::new("/sys/class/net").join(&bridge).exists();
    assert!(exists());
    env.lap(["system", "doctor", "--fix"]).run().stdout_has(&["removed: network \"default\""]);
    assert!(!exists());
    assert!(!env.lap(["system", "doctor"]).run().stdout_text().contains(&bridge));
}

#[test]
fn modes_give_what_they_are_called() {
    let env = env();
    let links = |flags: &[&str]| {
        let output = env.lap(["run", "--rm"]).args(flags).args(["busybox", "ls", "/sys/class/net"]).ok();
        output.stdout_text().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(links(&[]), ["eth0", "lo"]);
    assert_eq!(links(&["--network", "bridge"]), ["eth0", "lo"]);
    assert_eq!(links(&["--network", "none"]), ["lo"]);
    let ours = std::fs::read_dir("/sys/class/net").unwrap().count();
    // Others make interfaces meanwhile, but never the first ones.
    assert!(links(&["--net", "host"]).len() > 1 || ours == 1);
    let nowhere = env.lap(["run", "--rm", "--network", "nowhere", "busybox", "true"]).fails(125);
    nowhere.stderr_has(&["network nowhere not found"]);
    env.lap(["run", "--rm", "-p", "x:80", "busybox", "true"])
        .fails(125)
        .stderr_has(&["\"x\"", "for example"]);
    let host = env.lap(["run", "--rm", "--network", "host", "-p", "8080:80", "busybox", "true"]).ok();
    host.stderr_has(&["no port is published"]);
}

#[test]
fn a_container_knows_its_names_and_addresses() {
    let env = env();
    let script = "cat /etc/hosts; ip -o address show eth0; cat /sys/class/net/eth0/address";
    let flags =
        ["run", "--rm", "-h", "web", "--mac-address", "02:42:00:00:00:09", "--add-host", "db:192.0.2.9"];
    let text = env.lap(flags).args(["busybox", "sh", "-c", script]).ok().stdout_text();
    let own = text.lines().find(|line| line.ends_with("\tweb")).unwrap_or_else(|| panic!("{text}"));
    let address = own.split('\t').next().unwrap();
    assert!(text.contains(&format!("inet {address}/22")), "{text}");
    assert!(text.contains("127.0.0.1\tlocalhost\n") && text.contains("192.0.2.9\tdb\n"), "{text}");
    assert!(text.ends_with("02:42:00:00:00:09\n"), "{text}");
    let outside = env.lap(["run", "--rm", "--ip", "192.0.2.1", "busybox", "true"]).fails(125);
    outside.stderr_has(&["192.0.2.1 cannot be had", "/22"]);
}

#[test]
fn steps_of_a_build_have_a_network_of_their_own_if_asked() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN ls /sys/class/net | tr '\\n' ' '\nRUN --network=none ls /sys/class/net\n",
    );
    let output = build(&env, &context, &["--network", "bridge"]).stderr_text();
    assert!(output.contains(" eth0 lo"), "{output}");
    assert!(leases(&env).is_empty());
}

#[test]
fn an_ordinary_user_publishes_ports() {
    let Some(user) = OrdinaryUser::new(Ranges::Usual) else { return };
    for program in ["pasta", "slirp4netns"] {
        if testkit::judges::program(program).is_none() {
            return;
        }
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return testkit::privilege::skip("this kernel has no /dev/net/tun");
    }
    user.load(&testkit::images::busybox());
    let port = free_port();
    let command = user.lap(["run", "--rm", "-p", &format!("{port}:80"), "busybox", "sh", "-c", SERVER]);
    let mut running = command.spawn();
    running.wait_for("ready");
    for address in ["127.0.0.1", "[::1]"] {
        assert!(get(&format!("{address}:{port}")).unwrap().ends_with("hello\n"), "{address}");
    }
    running.signal_group(Signal::SIGKILL);
}
