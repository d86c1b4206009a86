//! What a network's bridge and a container's card can be like, and networks without a bridge.

mod common;

use std::io::Read as _;
use std::path::Path;

use common::containers::Containers;
use serde_json::{Value, json};
use testkit::Lap;

fn create(env: &Containers, name: &str, flags: &[&str]) {
    env.lap(["network", "create"]).args(flags).args([name]).ok();
}

fn inspect(env: &Containers, network: &str) -> Value {
    let text = env.lap(["network", "inspect", network]).ok().stdout_text();
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

/// Digits that no other test has at the same time.
fn random() -> String {
    let mut bytes = [0; 4];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    format!("{:08x}", u32::from_be_bytes(bytes))
}

/// A private subnet that nobody else is likely to have, by its first three numbers.
fn random_subnet() -> String {
    let number = u32::from_str_radix(&random(), 16).unwrap();
    format!("10.{}.{}", 192 + number % 48, number >> 24)
}

fn ip(args: &[&str]) -> Lap {
    let program = testkit::judges::program("ip").expect("the package iproute2");
    Lap::new(program.path()).args(args)
}

/// A cable of this machine, one end of which is an interface for containers' cards.
struct Cable {
    parent: String,
    far: String,
}

impl Cable {
    fn new() -> Self {
        let digits = random();
        let (parent, far) = (format!("lp{digits}"), format!("lf{digits}"));
        ip(&["link", "add", &parent, "type", "veth", "peer", "name", &far]).ok();
        let cable = Self { parent, far };
        for end in [&cable.parent, &cable.far] {
            ip(&["link", "set", end, "up"]).ok();
        }
        cable
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        ip(&["link", "delete", &self.parent]).run();
    }
}

#[test]
fn a_card_is_as_it_was_asked_for() {
    let env = Containers::new();
    create(&env, "net", &[]);
    create(&env, "other", &["-o", "com.docker.network.container_iface_prefix=wan"]);
    let options = "name=net,link-local-ip=169.254.7.7,link-local-ip=fe80::77,\
        driver-opt=com.docker.network.endpoint.ifname=front,\
        \"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0\"";
    env.sleeper("web", &["--network", options]);
    let shown = env.inside("web", "ip addr show dev front; cat /proc/sys/net/ipv4/conf/front/log_martians");
    for text in ["inet 169.254.7.7/16", "inet6 fe80::77/64"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(shown.ends_with("\n1\n"), "{shown}");
    let asked = |container: &str, field: &str| -> Value {
        let shown = env.inspect(container, &format!("json .NetworkSettings.Networks.{field}"));
        serde_json::from_str(&shown).unwrap()
    };
    assert_eq!(asked("web", "net.IPAMConfig"), json!({ "LinkLocalIPs": ["169.254.7.7", "fe80::77"] }));
    assert_eq!(asked("web", "net.DriverOpts")["com.docker.network.endpoint.ifname"], "front");
    assert_eq!(asked("web", "net.Links"), Value::Null);
    // The same for a network that is joined later, where another container has a name that only this one knows.
    let id = env.sleeper("db", &["--network", "other"]);
    env.sleeper("third", &["--network", "other"]);
    let join = ["network", "connect", "--link", "db:store", "--link-local-ip", "169.254.8.8"];
    let mac = "com.docker.network.endpoint.macaddress=02:00:00:00:00:99";
    env.lap(join).args(["--driver-opt", mac, "other", "web"]).ok();
    env.inside("web", "ping -c 1 -W 5 store");
    env.inside("web", &format!("ping -c 1 -W 5 {}", &id[..12]));
    assert!(env.fails_inside("third", "nslookup -type=a store"));
    let shown = env.inside("web", "ip addr show dev wan0");
    assert!(shown.contains("02:00:00:00:00:99") && shown.contains("169.254.8.8/16"), "{shown}");
    assert_eq!(asked("web", "other.Links"), json!(["db:store"]));
    // A container that does not run shows what it will be like.
    env.lap(["stop", "-t", "0", "web"]).ok();
    assert_eq!(asked("web", "other.IPAMConfig"), json!({ "LinkLocalIPs": ["169.254.8.8"] }));
    assert_eq!(
        asked("web", "other.DriverOpts"),
        json!({ "com.docker.network.endpoint.macaddress": "02:00:00:00:00:99" })
    );
    assert_eq!(asked("web", "net.IPAddress"), "");
    env.lap(["start", "web"]).ok();
    // It is all there again after a restart, and gone with the network.
    env.lap(["restart", "-t", "0", "web"]).ok();
    env.inside("web", "ping -c 1 -W 5 store && ip addr show dev front");
    env.lap(["network", "disconnect", "other", "web"]).ok();
    assert!(env.fails_inside("web", "nslookup -type=a store"));
    for (flag, value, words) in [
        ("--driver-opt", "colour=red", "invalid endpoint option colour=red"),
        ("--driver-opt", "com.docker.network.endpoint.sysctls=net.ipv4.ip_forward=1", "with the word IFNAME"),
        ("--link-local-ip", "10.1.2.3", "invalid link-local IP address: 10.1.2.3"),
        ("--link", "nobody:x", "nobody"),
    ] {
        let refused = env.lap(["network", "connect", flag, value, "other", "web"]).fails(1);
        refused.stderr_has(&[words]);
    }
    let missing = "name=net,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.no_such=1";
    let refused = env.lap(["run", "--rm", "--network", missing, "busybox", "true"]).fails(125);
    refused.stderr_has(&["there is no setting net.ipv4.conf.eth0.no_such"]);
    env.lap([
        "run",
        "--rm",
        "--link-local-ip",
        "169.254.9.9",
        "busybox",
        "sh",
        "-c",
        "ip addr | grep 169.254.9.9",
    ])
    .ok();
}

#[test]
fn a_bridge_leads_as_far_as_it_was_asked_to() {
    let env = Containers::new();
    let mode = |mode: &str| format!("com.docker.network.bridge.gateway_mode_ipv4={mode}");
    create(&env, "routed", &["-o", &mode("routed")]);
    create(&env, "open", &["-o", &mode("nat-unprotected")]);
    create(&env, "usual", &["-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1"]);
    create(&env, "isolated", &["--internal", "-o", &mode("isolated")]);
    create(&env, "bare", &["-o", "com.docker.network.bridge.inhibit_ipv4=true"]);
    // Another network of the machine is elsewhere, as far as these are concerned.
    env.sleeper("elsewhere", &["--network", "usual"]);
    let server = "httpd -h / -p 80; httpd -h / -p 81; echo yes >/f; exec sleep 1000";
    for network in ["routed", "open", "usual"] {
        let name = format!("in_{network}");
        env.detached(&["--name", &name, "--network", network, "-p", "80", "busybox", "sh", "-c", server]);
    }
    let address = |name: &str, network: &str| {
        env.inspect(name, &format!(".NetworkSettings.Networks.{network}.IPAddress"))
    };
    let get = |name: &str, network: &str, port: u16| {
        let request = "printf 'GET /f HTTP/1.0\\r\\n\\r\\n'";
        format!("{request} | nc -w 2 {} {port} | grep -x yes", address(name, network))
    };
    for (network, port) in [("routed", 80), ("open", 80), ("open", 81)] {
        let script = get(&format!("in_{network}"), network, port);
        env.wait_for_exec(&format!("in_{network}"), "test -e /f");
        assert_eq!(env.inside("elsewhere", &script), "yes\n", "{network} {port}");
    }
    assert!(env.fails_inside("elsewhere", &get("in_routed", "routed", 81)));
    env.sleeper("outside", &["--network", "open"]);
    assert!(env.fails_inside("outside", &get("in_usual", "usual", 80)));
    assert!(env.lap(["port", "in_usual", "80"]).ok().stdout_text().starts_with("127.0.0.1:"));
    // A bridge without an address answers nobody, and its containers reach each other.
    for network in ["isolated", "bare"] {
        let (one, two) = (format!("{network}1"), format!("{network}2"));
        env.sleeper(&one, &["--network", network]);
        env.sleeper(&two, &["--network", network]);
        env.inside(&one, &format!("ping -c 1 -W 5 {two}"));
        let gateway = inspect(&env, network)["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
        assert!(env.fails_inside(&one, &format!("ping -c 1 -W 1 {gateway}")), "{network}");
    }
    let refused = env.lap(["network", "create", "-o", &mode("isolated"), "bad"]).fails(1);
    refused.stderr_has(&["can only be used for an internal network"]);
}

#[test]
fn cards_are_put_on_an_interface() {
    let env = Containers::new();
    let cable = Cable::new();
    let (net, parent) = (random_subnet(), format!("parent={}", cable.parent));
    let (subnet, gateway) = (format!("{net}.0/24"), format!("{net}.254"));
    // The router of the network is at the cable's far end.
    ip(&["address", "add", &format!("{gateway}/24"), "dev", &cable.far]).ok();
    create(
        &env,
        "lan",
        &[
            "-d",
            "macvlan",
            "-o",
            &parent,
            "--subnet",
            &subnet,
            "--gateway",
            &gateway,
            "--ip-range",
            &format!("{net}.128/25"),
            "--aux-address",
            &format!("printer={net}.128"),
        ],
    );
    assert_eq!(inspect(&env, "lan")["Driver"], "macvlan");
    let listed =
        env.lap(["network", "ls", "--filter", "driver=macvlan", "--format", "{{.Name}} {{.Driver}}"]);
    assert_eq!(listed.ok().stdout_text(), "lan macvlan\n");
    env.sleeper("one", &["--network", "lan", "--mac-address", "02:00:00:00:00:11"]);
    env.sleeper("two", &["--network", "lan", "--ip", &format!("{net}.7")]);
    let shown = env.inside("one", "ip addr show dev eth0; ip route");
    for text in [&*format!("{net}.129/24"), "02:00:00:00:00:11", &*format!("default via {gateway} dev eth0")]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    env.inside("one", "ping -c 1 -W 5 two");
    env.inside("two", &format!("ping -c 1 -W 5 {gateway}"));
    // Another network is joined and left, and the interface outlives all of it.
    create(&env, "net", &[]);
    env.lap(["network", "connect", "net", "one"]).ok();
    env.lap(["network", "disconnect", "lan", "one"]).ok();
    assert_eq!(env.inside("one", "ls /sys/class/net | tr '\\n' ' '"), "eth1 lo ");
    env.lap(["network", "connect", "lan", "one"]).ok();
    env.inside("one", "ping -c 1 -W 5 two");
    let used = env.lap(["network", "rm", "lan"]).fails(1);
    used.stderr_has(&["has active endpoints"]);
    env.lap(["rm", "-f", "one", "two"]).ok();
    env.lap(["network", "rm", "lan", "net"]).ok();
    assert!(Path::new("/sys/class/net").join(&cable.parent).exists());
}

#[test]
fn cards_without_an_interface_are_among_themselves() {
    let env = Containers::new();
    create(&env, "alone", &["-d", "macvlan"]);
    assert_eq!(inspect(&env, "alone")["Internal"], true);
    env.sleeper("one", &["--network", "alone"]);
    env.sleeper("two", &["--network", "alone"]);
    env.inside("one", "ping -c 1 -W 5 two");
    assert_eq!(env.inside("one", "ip route | grep -c default || true"), "0\n");
    env.lap(["rm", "-f", "one", "two"]).ok();
    env.lap(["network", "rm", "alone"]).ok();
    let format = "{{.Action}} {{.Actor.Attributes.type}}";
    let events =
        ["events", "--since", "1h", "--until", "0s", "--filter", "network=alone", "--format", format];
    let told = env.lap(events).ok().stdout_text();
    let told: std::collections::BTreeSet<&str> = told.lines().collect();
    let expected = ["create macvlan", "connect macvlan", "disconnect macvlan", "destroy macvlan"];
    assert_eq!(told, expected.into());
    // In private mode they do not even see each other.
    let cable = Cable::new();
    let parent = format!("parent={}", cable.parent);
    let subnet = format!("{}.0/24", random_subnet());
    let private = ["-d", "macvlan", "-o", &parent, "-o", "macvlan_mode=private", "--subnet", &subnet];
    create(&env, "private", &private);
    env.sleeper("three", &["--network", "private"]);
    env.sleeper("four", &["--network", "private"]);
    assert!(env.fails_inside("three", "ping -c 1 -W 1 four"));
    // Drivers and interfaces that there are not.
    let refused =
        |flags: &[&str]| env.lap(["network", "create"]).args(flags).args(["bad"]).fails(1).stderr_text();
    assert!(refused(&["-d", "overlay"]).contains("overlay connects the machines of a cluster"));
    assert!(refused(&["-d", "weave"]).contains("plugin \"weave\" not found"));
    assert!(refused(&["-d", "macvlan", "-o", "parent=no0such"]).contains("there is no such interface"));
    assert!(refused(&["-d", "macvlan", "-o", "macvlan_mode=l2"]).contains("macvlan_mode=l2"));
    assert!(refused(&["-d", "ipvlan", "-o", "ipvlan_mode=l4"]).contains("ipvlan_mode=l4"));
    assert_eq!(env.lap(["network", "ls", "-q", "--filter", "name=bad"]).ok().stdout_text(), "");
}

#[test]
fn cards_share_the_address_of_an_interface_or_the_kernel_has_none() {
    let env = Containers::new();
    let cable = Cable::new();
    let (net, parent) = (random_subnet(), format!("parent={}", cable.parent));
    let (subnet, gateway) = (format!("{net}.0/24"), format!("{net}.1"));
    ip(&["address", "add", &format!("{gateway}/24"), "dev", &cable.far]).ok();
    create(&env, "lan", &["-d", "ipvlan", "-o", &parent, "-o", "ipvlan_mode=l2", "--subnet", &subnet]);
    assert_eq!(inspect(&env, "lan")["Driver"], "ipvlan");
    let probe =
        ip(&["link", "add", "link", &cable.parent, "name", &cable.far.replace("lf", "li"), "type", "ipvlan"]);
    if probe.run().code() != Some(0) {
        let refused = env.lap(["run", "--rm", "--network", "lan", "busybox", "true"]).fails(125);
        refused.stderr_has(&["this kernel has no ipvlan"]);
        env.lap(["network", "rm", "lan"]).ok();
        return;
    }
    env.sleeper("one", &["--network", "lan"]);
    env.sleeper("two", &["--network", "lan"]);
    env.inside("one", "ping -c 1 -W 5 two");
    env.inside("one", &format!("ping -c 1 -W 5 {gateway}"));
    let address = |path: &str| std::fs::read_to_string(path).unwrap();
    let ours = address(&format!("/sys/class/net/{}/address", cable.parent));
    assert_eq!(env.inside("one", "cat /sys/class/net/eth0/address"), ours);
}
