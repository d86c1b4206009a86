//! Published ports of detached containers: reached, shown, kept through restarts, and free afterwards.

mod common;

use std::fs::File;
use std::net::{TcpListener, UdpSocket};

use common::build;
use common::containers::Containers;
use common::ports::{assert_free, echo_inside, get};
use testkit::ports::{free_port, free_ports_in_a_row};
use testkit::wait::{PATIENCE, until};

/// Serves a file with one line on port 80.
const SERVER: &str = "echo hello > /tmp/index.html; trap 'exit 0' TERM; httpd -p 80 -h /tmp && echo ready; \
                      while :; do sleep 0.1; done";

fn server(env: &Containers, name: &str, flags: &[&str]) {
    env.detached(&[&["--name", name], flags, &["busybox", "sh", "-c", SERVER]].concat());
    env.wait_for(name, "ready");
}

/// Asks until the server answers: a container that has just been started may not listen yet.
fn assert_served(address: &str) {
    until(&format!("somebody answers at {address}"), || {
        get(address).is_ok_and(|text| text.ends_with("hello\n"))
    });
}

fn ports(env: &Containers, name: &str) -> String {
    env.lap(["port", name]).ok().stdout_text()
}

#[test]
fn a_detached_container_answers_until_it_is_stopped() {
    let env = Containers::new();
    let port = free_port();
    server(&env, "web", &["-p", &format!("{port}:80")]);
    for address in ["127.0.0.1", "[::1]"] {
        assert_served(&format!("{address}:{port}"));
    }
    assert_eq!(ports(&env, "web"), format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}\n"));
    env.lap(["stop", "web"]).ok();
    assert_eq!(ports(&env, "web"), "");
    // It is anybody's now.
    assert_free(port);
    env.lap(["start", "web"]).ok();
    assert_served(&format!("127.0.0.1:{port}"));
    env.lap(["restart", "web"]).ok();
    assert_served(&format!("127.0.0.1:{port}"));
    env.lap(["rm", "-f", "web"]).ok();
    assert_free(port);
}

#[test]
fn a_restart_policy_keeps_the_port() {
    let env = Containers::new();
    let port = free_port();
    // The third process stays.
    let script = format!("{SERVER} & echo x >> /runs; [ $(wc -l < /runs) -gt 2 ] && sleep 1000; exit 1");
    let flags = ["--name", "web", "--restart", "always", "-p", &format!("{port}:80")];
    env.detached(&[&flags[..], &["busybox", "sh", "-c", &script]].concat());
    env.wait_until("web", ".RestartCount", |count| count.parse::<u32>().unwrap() >= 2);
    assert_served(&format!("127.0.0.1:{port}"));
    env.lap(["stop", "-t", "0", "web"]).ok();
    assert_free(port);
}

#[test]
fn what_is_published_is_shown() {
    let env = Containers::new();
    let context = env.context();
    context.dockerfile("FROM busybox\nEXPOSE 80 443 70/sctp\n");
    build(&env, &context, &["-t", "busybox"]);
    let flags = ["-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp", "--mac-address", "02:42:00:00:00:07"];
    server(&env, "web", &flags);
    let shown = ports(&env, "web");
    let lines: Vec<&str> = shown.lines().collect();
    let [udp, tcp] = lines[..] else { panic!("{shown}") };
    let tcp = tcp.strip_prefix("80/tcp -> 127.0.0.1:").unwrap_or_else(|| panic!("{shown}"));
    let udp = udp.strip_prefix("53/udp -> 127.0.0.1:").unwrap_or_else(|| panic!("{shown}"));
    assert_served(&format!("127.0.0.1:{tcp}"));
    for port in ["80", "80/tcp"] {
        assert_eq!(env.lap(["port", "web", port]).ok().stdout_text(), format!("127.0.0.1:{tcp}\n"));
    }
    let missing = env.lap(["port", "web", "81"]).fails(1);
    missing.stderr_has(&["no public port '81/tcp' published for web"]);
    env.lap(["port", "web", "x"]).fails(2).stderr_has(&["invalid port"]);
    env.lap(["port", "nobody"]).fails(1).stderr_has(&["No such container: nobody"]);
    let column = env.lap(["ps", "--format", "{{.Ports}}"]).ok().stdout_text();
    assert_eq!(column, format!("443/tcp, 127.0.0.1:{udp}->53/udp, 127.0.0.1:{tcp}->80/tcp\n"));
    let json = env.lap(["inspect", "web"]).ok().stdout_text();
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    let settings = &document[0]["NetworkSettings"];
    assert_eq!(settings["Ports"]["80/tcp"][0]["HostIp"], "127.0.0.1");
    assert_eq!(settings["Ports"]["80/tcp"][0]["HostPort"], tcp);
    assert!(settings["Ports"]["443/tcp"].is_null() && settings["Ports"].get("443/tcp").is_some());
    assert_eq!(settings["MacAddress"], "02:42:00:00:00:07");
    assert_eq!(settings["Networks"]["bridge"]["IPAddress"], settings["IPAddress"]);
    assert_eq!(document[0]["HostConfig"]["PortBindings"]["80/tcp"][0]["HostIp"], "127.0.0.1");
    // What is shown is what the container has.
    let inside =
        env.lap(["exec", "web", "sh", "-c", "ip -o -4 address show eth0; ip route"]).ok().stdout_text();
    let address = settings["IPAddress"].as_str().unwrap();
    assert!(inside.contains(&format!("inet {address}/{}", settings["IPPrefixLen"])), "{inside}");
    assert!(inside.contains(&format!("default via {}", settings["Gateway"].as_str().unwrap())), "{inside}");
    assert_eq!(get(&format!("{address}:80")).unwrap().lines().last(), Some("hello"));
    env.lap(["stop", "web"]).ok();
    assert_eq!(env.inspect("web", ".NetworkSettings.IPAddress"), "");
}

#[test]
fn ranges_and_messages_are_published() {
    let env = Containers::new();
    let first = free_ports_in_a_row();
    let range = format!("{first}-{}:7000-7001/udp", first + 1);
    env.detached(&["--name", "echo", "-p", &range, "busybox", "sleep", "1000"]);
    let shown = ports(&env, "echo");
    assert!(shown.contains(&format!("7001/udp -> 0.0.0.0:{}\n", first + 1)), "{shown}");
    let pid = env.inspect("echo", ".State.Pid");
    echo_inside(File::open(format!("/proc/{pid}/ns/net")).unwrap().into(), 7001);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", first + 1)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(b"hello\n").unwrap();
    let mut buffer = [0; 64];
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"hello\n");
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let env = Containers::new();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let flags = ["--name", "web", "-p", &format!("{port}:80"), "busybox", "sleep", "1000"];
    let refused = env.lap(["run", "-d"]).args(flags).fails(125);
    refused.stderr_has(&[&format!("bind for 0.0.0.0:{port}/tcp failed: port is already allocated")]);
    assert_eq!(env.inspect("web", ".State.Status"), "created");
    drop(listener);
    assert_free(port);
    env.lap(["start", "web"]).ok();
    let id = env.inspect("web", ".Id");
    let again = env.lap(["run", "--rm", "-p", &format!("{port}:80"), "busybox", "true"]).fails(125);
    again.stderr_has(&["port is already allocated by container", &id[..12]]);
    let sctp = env.lap(["run", "--rm", "-p", "80:80/sctp", "busybox", "true"]).fails(125);
    sctp.stderr_has(&["protocol \"sctp\"", "use tcp or udp"]);
}
