//! User-defined networks: made and removed, names that resolve, several networks for one container, and what is left
//! when all is over.

mod common;

use std::io::Read as _;
use std::net::UdpSocket;

use common::containers::Containers;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn create(env: &Containers, name: &str, flags: &[&str]) -> String {
    env.lap(["network", "create"]).args(flags).args([name]).ok().stdout_text().trim().to_owned()
}

fn inspect(env: &Containers, network: &str) -> Value {
    let text = env.lap(["network", "inspect", network]).ok().stdout_text();
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

/// Numbers that no other test has at the same time.
fn random() -> [u8; 4] {
    let mut bytes = [0; 4];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// A private subnet that nobody else is likely to have, by its first three numbers.
fn random_subnet() -> String {
    let [one, two, ..] = random();
    format!("10.{}.{two}", 192 + one % 48)
}

/// A server of names on a loopback address of the host, which answers every question for an address with 192.0.2.77.
fn name_server() -> String {
    let [one, two, ..] = random();
    let address = format!("127.77.{one}.{two}");
    let socket = UdpSocket::bind((address.as_str(), 53)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..length];
            // The question section ends with kind and class after a name that ends with a zero byte.
            let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_address = question[end - 3] == 1;
            let mut reply = question[..end].to_vec();
            reply[2] |= 0x80;
            reply[4..12].copy_from_slice(&[0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
            if is_address {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
    address
}

#[test]
fn containers_find_each_other_by_name() {
    let env = Containers::new();
    create(&env, "net", &[]);
    create(&env, "other", &[]);
    let id = env.sleeper("web", &["--network", "net", "--network-alias", "site"]);
    env.sleeper("client", &["--network", "net"]);
    env.sleeper("stranger", &["--network", "other"]);
    for name in ["web", "site", &id[..12], "WEB", "web.net"] {
        env.inside("client", &format!("ping -c 1 -W 5 {name}"));
    }
    assert!(env.inside("client", "cat /etc/resolv.conf").contains("nameserver 127.0.0.11"));
    // Over a stream, too, and from an address to the name.
    let address = env.inspect("web", ".NetworkSettings.IPAddress");
    assert!(env.inside("client", &format!("nslookup {address}")).contains("web.net"));
    // Programs of the container may have port 53 for themselves.
    let script = "nc -l -p 53 -e true & for try in $(seq 1000); do nc 127.0.0.1 53 < /dev/null && exit 0; done; exit 1";
    env.inside("client", script);
    // Neither by name nor by address from another network.
    assert!(env.fails_inside("stranger", "ping -c 1 -W 1 web"));
    assert!(env.fails_inside("stranger", &format!("ping -c 1 -W 1 {address}")));
    // The one that is killed with its supervisor is nobody any more, and comes back by its name.
    kill(Pid::from_raw(env.shim_of(&id)), Signal::SIGKILL).unwrap();
    env.wait_until("web", ".State.Status", |status| status == "exited");
    assert!(env.fails_inside("client", "nslookup -type=a web"));
    env.lap(["start", "web"]).ok();
    env.inside("client", "ping -c 1 -W 5 web");
    // Another name is known from the next start on.
    env.lap(["rename", "web", "shop"]).ok();
    env.lap(["stop", "-t", "0", "shop"]).ok();
    env.lap(["start", "shop"]).ok();
    env.inside("client", "ping -c 1 -W 5 shop");
    assert!(env.fails_inside("client", "nslookup -type=a web"));
    // Who shares a container's network asks the same server.
    let shared =
        ["run", "--rm", "--network", "container:client", "busybox", "ping", "-c", "1", "-W", "5", "shop"];
    env.lap(shared).ok();
}

#[test]
fn other_names_are_asked_of_other_servers() {
    let env = Containers::new();
    create(&env, "net", &[]);
    let server = name_server();
    let asked = [
        "run",
        "--rm",
        "--network",
        "net",
        "--dns",
        &server,
        "busybox",
        "nslookup",
        "-type=a",
        "example.org",
    ];
    env.lap(asked).ok().stdout_has(&["192.0.2.77"]);
    // Who cannot get out does not get out by names either.
    create(&env, "inner", &["--internal"]);
    let asked = [
        "run",
        "--rm",
        "--network",
        "inner",
        "--dns",
        &server,
        "busybox",
        "nslookup",
        "-type=a",
        "example.org",
    ];
    assert!(!env.lap(asked).fails(1).stdout_text().contains("192.0.2.77"));
}

#[test]
fn an_internal_network_has_no_way_out() {
    let env = Containers::new();
    create(&env, "inner", &["--internal"]);
    create(&env, "net", &[]);
    env.sleeper("one", &["--network", "inner"]);
    env.sleeper("two", &["--network", "inner"]);
    env.sleeper("outer", &["--network", "net"]);
    env.inside("one", "ping -c 1 -W 5 two");
    assert_eq!(env.inside("one", "ip route | grep -c default || true").trim(), "0");
    // Not with a route of its own making, either.
    let gateway = inspect(&env, "inner")["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    let outer = env.inspect("outer", ".NetworkSettings.IPAddress");
    let script = format!("ip route add default via {gateway}; ping -c 1 -W 1 {outer}");
    let flags =
        ["run", "--rm", "--cap-add", "NET_ADMIN", "--network", "inner", "busybox", "sh", "-c", &script];
    env.lap(flags).fails(1);
    assert!(inspect(&env, "inner")["Internal"].as_bool().unwrap());
}

#[test]
fn addresses_are_as_asked_for() {
    let env = Containers::new();
    let base = random_subnet();
    let (subnet, gateway) = (format!("{base}.0/24"), format!("{base}.254"));
    let (range, reserved) = (format!("{base}.16/30"), format!("router={base}.16"));
    let flags =
        ["--subnet", &subnet, "--gateway", &gateway, "--ip-range", &range, "--aux-address", &reserved];
    create(&env, "net", &[&flags[..], &["--ipv6", "--label", "team=a"]].concat());
    let shown = inspect(&env, "net");
    assert_eq!(
        shown["IPAM"]["Config"][0],
        json!({
            "Subnet": subnet, "Gateway": gateway, "IPRange": range, "AuxiliaryAddresses": { "router": format!("{base}.16") },
        })
    );
    assert_eq!((&shown["EnableIPv6"], &shown["Labels"]), (&json!(true), &json!({ "team": "a" })));
    let chosen = env.sleeper("chosen", &["--network", "net"]);
    assert_eq!(env.inspect("chosen", ".NetworkSettings.IPAddress"), format!("{base}.17"));
    assert!(env.inside("chosen", "ip route").contains(&format!("default via {gateway}")));
    let wanted = format!("{base}.99");
    env.sleeper("fixed", &["--network", "net", "--ip", &wanted]);
    assert_eq!(env.inspect("fixed", ".NetworkSettings.IPAddress"), wanted);
    env.inside("chosen", "ping -c 1 -W 5 fixed && ping -6 -c 1 -W 5 fixed");
    let containers = &inspect(&env, "net")["Containers"];
    assert_eq!(containers[&chosen]["Name"], "chosen");
    assert_eq!(containers[&chosen]["IPv4Address"], format!("{base}.17/24"));
    // Refusals, with Docker's words.
    let run = |flags: &[&str]| env.lap(["run", "--rm"]).args(flags).args(["busybox", "true"]).fails(125);
    run(&["--network", "net", "--ip", "203.0.113.9"])
        .stderr_has(&["no configured subnet contains IP address"]);
    run(&["--network", "net", "--ip", &wanted]).stderr_has(&["taken by container"]);
    run(&["--network", "nowhere"]).stderr_has(&["network nowhere not found"]);
    run(&["--network", "net", "--network", "host"]).stderr_has(&["conflicting options"]);
    run(&["--network-alias", "x"]).stderr_has(&["only supported for user-defined networks"]);
    let refused = |args: &[&str]| env.lap(["network"]).args(args).fails(1);
    refused(&["create", "net"]).stderr_has(&["network with name net already exists"]);
    refused(&["create", "--subnet", &subnet, "again"])
        .stderr_has(&["Pool overlaps with other one on this address space"]);
    refused(&["create", "host"]).stderr_has(&["operation is not permitted on predefined host network"]);
    refused(&["rm", "bridge"]).stderr_has(&["bridge is a pre-defined network and cannot be removed"]);
    refused(&["rm", "nowhere"]).stderr_has(&["network nowhere not found"]);
    refused(&["inspect", "nowhere"]).stderr_has(&["network nowhere not found"]);
    refused(&["rm", "net"]).stderr_has(&["has active endpoints", "name:\"chosen\"", "name:\"fixed\""]);
    refused(&["create", "-d", "overlay", "far"]).stderr_has(&["plugin \"overlay\" not found"]);
}

#[test]
fn a_container_is_in_several_networks_and_changes_them() {
    let env = Containers::new();
    let ids = ["one", "two", "three"].map(|name| create(&env, name, &[]));
    env.sleeper("a", &["--network", "one"]);
    env.sleeper("b", &["--network", "two"]);
    env.sleeper("c", &["--network", "three"]);
    let both =
        env.sleeper("both", &["--network", "name=one,alias=first", "--network", "name=two,gw-priority=7"]);
    env.inside("both", "ping -c 1 -W 5 a && ping -c 1 -W 5 b");
    env.inside("a", "ping -c 1 -W 5 first && ping -c 1 -W 5 both");
    assert!(env.fails_inside("b", "ping -c 1 -W 1 first"));
    // Packets to elsewhere leave by the second, which has the higher priority.
    let gateway = inspect(&env, "two")["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    assert!(env.inside("both", "ip route").contains(&format!("default via {gateway}")));
    let shown = env.lap(["inspect", "-f", "{{json .NetworkSettings.Networks}}", "both"]).ok().stdout_text();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["one"]["NetworkID"], ids[0]);
    assert_eq!(shown["two"]["Gateway"], gateway);
    // While it runs.
    assert!(env.fails_inside("both", "ping -c 1 -W 1 c"));
    env.lap(["network", "connect", "--alias", "late", "three", "both"]).ok();
    env.inside("both", "ping -c 1 -W 5 c");
    env.inside("c", "ping -c 1 -W 5 late");
    let again = env.lap(["network", "connect", "three", "both"]).fails(1);
    again.stderr_has(&["endpoint with name both already exists in network three"]);
    env.lap(["network", "disconnect", "two", "both"]).ok();
    assert!(env.fails_inside("both", "ping -c 1 -W 1 b"));
    env.inside("both", "ping -c 1 -W 5 a && ip route | grep -q default");
    env.lap(["network", "disconnect", "two", "both"])
        .fails(1)
        .stderr_has(&["is not connected to network two"]);
    // What was changed stays when it is started again, and can be changed while it does not run.
    env.lap(["stop", "-t", "0", "both"]).ok();
    env.lap(["network", "disconnect", "three", "both"]).ok();
    env.lap(["network", "connect", "two", "both"]).ok();
    env.lap(["start", "both"]).ok();
    env.inside("both", "ping -c 1 -W 5 a && ping -c 1 -W 5 b");
    assert!(env.fails_inside("both", "ping -c 1 -W 1 c"));
    // One that is removed while a container does not run keeps it from starting.
    env.lap(["rm", "-f", "b"]).ok();
    env.lap(["stop", "-t", "0", "both"]).ok();
    env.lap(["network", "rm", "two"]).ok();
    env.lap(["start", "both"]).fails(1).stderr_has(&["network two not found"]);
    assert!(env.lap(["ps", "-aq", "--no-trunc"]).ok().stdout_text().contains(&both));
}

#[test]
fn nothing_is_left_of_a_network() {
    let env = Containers::new();
    let id = create(&env, "net", &[]);
    create(&env, "unused", &[]);
    create(&env, "kept", &["--label", "keep"]);
    let listed = env.lap(["network", "ls"]).ok().stdout_text();
    assert!(listed.starts_with("NETWORK ID "), "{listed}");
    for part in [&id[..12], "bridge", "host", "none", "null", "local"] {
        assert!(listed.contains(part), "{listed}");
    }
    let names = |flags: &[&str]| {
        let listed = env.lap(["network", "ls", "--format", "{{.Name}}"]).args(flags).ok().stdout_text();
        listed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["-f", "type=custom"]), ["kept", "net", "unused"]);
    assert_eq!(names(&["-f", "label=keep", "-f", "driver=bridge"]), ["kept"]);
    assert_eq!(names(&["-f", &format!("id={}", &id[..6]), "-f", "name=ne"]), ["net"]);
    env.sleeper("user", &["--network", &id[..10]]);
    assert_eq!(env.bridges().len(), 3);
    assert_eq!(names(&["-f", "dangling=true"]), ["kept", "unused"]);
    for network in ["net", &id] {
        let found = env.lap(["ps", "--format", "{{.Names}}", "--filter", &format!("network={network}")]).ok();
        assert_eq!(found.stdout_text(), "user\n");
    }
    // Nobody's is not what somebody made.
    env.lap(["system", "doctor", "--fix"]).ok();
    assert_eq!(env.bridges().len(), 3);
    let pruned = env.lap(["network", "prune", "-f", "--filter", "label!=keep"]).ok();
    assert_eq!(pruned.stdout_text(), "Deleted Networks:\nunused\n\n");
    assert_eq!(env.lap(["network", "rm", "kept"]).ok().stdout_text(), "kept\n");
    env.lap(["rm", "-f", "user"]).ok();
    env.lap(["network", "rm", "net"]).ok();
    env.lap(["network", "rm", "-f", "net"]).ok();
    assert_eq!(names(&["-f", "type=custom"]), [] as [String; 0]);
    assert_eq!(env.bridges(), [] as [String; 0]);
    let left: Vec<_> = std::fs::read_dir(env.run().join("networks")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn options_of_the_bridge_hold() {
    let env = Containers::new();
    let bridge = format!("brt{:08x}", u32::from_be_bytes(random()));
    let named = format!("com.docker.network.bridge.name={bridge}");
    let icc = "com.docker.network.bridge.enable_icc=false";
    create(&env, "apart", &["-o", &named, "-o", icc, "-o", "com.docker.network.driver.mtu=1300"]);
    assert!(std::path::Path::new("/sys/class/net").join(&bridge).exists());
    env.sleeper("one", &["--network", "apart"]);
    env.sleeper("two", &["--network", "apart"]);
    assert_eq!(env.inside("one", "cat /sys/class/net/eth0/mtu"), "1300\n");
    assert!(env.fails_inside("one", "ping -c 1 -W 1 two"));
    let gateway = inspect(&env, "apart")["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    env.inside("one", &format!("ping -c 1 -W 5 {gateway}"));
    let taken = env.lap(["network", "create", "-o", "com.docker.network.bridge.name=lo", "bad"]).fails(1);
    taken.stderr_has(&["there is an interface of that name"]);
    env.lap(["network", "create", "-o", "no.such=1", "bad"]).fails(1).stderr_has(&["no.such=1"]);
    env.lap(["rm", "-f", "one", "two"]).ok();
    env.lap(["network", "rm", "apart"]).ok();
    assert!(!std::path::Path::new("/sys/class/net").join(&bridge).exists());
}

#[test]
fn links_lead_one_way() {
    let env = Containers::new();
    env.detached(&["--name", "db", "--expose", "5432", "-e", "SECRET=x", "busybox", "sleep", "1000"]);
    let address = env.inspect("db", ".NetworkSettings.IPAddress");
    let script = "ping -c 1 -W 5 store >/dev/null && grep store /etc/hosts; env | grep ^STORE_ | sort";
    let flags = ["run", "--rm", "--name", "web", "--link", "db:store", "busybox", "sh", "-c", script];
    let printed = env.lap(flags).ok().stdout_text();
    let expected = [
        format!("{address}\tstore"),
        "STORE_ENV_SECRET=x".to_owned(),
        "STORE_NAME=/web/store".to_owned(),
        format!("STORE_PORT=tcp://{address}:5432"),
        format!("STORE_PORT_5432_TCP_ADDR={address}"),
    ];
    for line in &expected {
        assert!(printed.lines().any(|other| other == line), "{line}: {printed}");
    }
    assert!(!env.inside("db", "cat /etc/hosts").contains("web"));
    env.lap(["stop", "-t", "0", "db"]).ok();
    let stopped = env.lap(["run", "--rm", "--link", "db", "busybox", "true"]).fails(125);
    stopped.stderr_has(&["cannot link to a non running container: /db AS /db"]);
    env.lap(["run", "--rm", "--link", "nobody", "busybox", "true"]).fails(125);
    // In a network where names are served the further name is one of them.
    create(&env, "net", &[]);
    env.sleeper("cache", &["--network", "net"]);
    let linked = [
        "run",
        "--rm",
        "--network",
        "net",
        "--link",
        "cache:memory",
        "busybox",
        "ping",
        "-c",
        "1",
        "-W",
        "5",
        "memory",
    ];
    env.lap(linked).ok();
}

#[test]
fn links_are_shown_and_forgotten() {
    let env = Containers::new();
    env.sleeper("db", &[]);
    env.sleeper("web", &["--link", "db:store", "--link", "db"]);
    assert_eq!(env.inspect("web", "json .HostConfig.Links"), "[\"/db:/web/store\",\"/db:/web/db\"]");
    assert_eq!(env.lap(["rm", "--link", "/web/store"]).ok().stdout_text(), "/web/store\n");
    let hosts = env.inside("web", "cat /etc/hosts");
    assert!(!hosts.contains("store") && hosts.contains("\tdb\n"), "{hosts}");
    assert_eq!(env.inspect("web", "json .HostConfig.Links"), "[\"/db:/web/db\"]");
    env.inside("web", "ping -c 1 -W 5 db");
    let again = env.lap(["rm", "-l", "web/store"]).fails(1);
    again.stderr_has(&["no such link", "knows no container as store"]);
    let own = env.lap(["rm", "--link", "web"]).fails(1);
    own.stderr_has(&["cannot remove the default link name of the container web"]);
    env.lap(["rm", "--link", "nobody/store"]).fails(1).stderr_has(&["No such container: nobody"]);
    // Also of one that does not run, which keeps to it.
    env.lap(["stop", "-t", "0", "web"]).ok();
    env.lap(["rm", "--link", "web/db"]).ok();
    env.lap(["start", "web"]).ok();
    assert_eq!(env.inspect("web", "json .HostConfig.Links"), "null");
    assert!(!env.inside("web", "cat /etc/hosts").contains("\tdb\n"));
    // Where names are served, the name is not answered for any more.
    create(&env, "net", &[]);
    env.sleeper("cache", &["--network", "net"]);
    env.sleeper("asker", &["--network", "net", "--link", "cache:memory"]);
    assert_eq!(env.inspect("asker", "json .NetworkSettings.Networks.net.Links"), "[\"cache:memory\"]");
    env.inside("asker", "ping -c 1 -W 5 memory");
    env.lap(["rm", "--link", "asker/memory"]).ok();
    env.lap(["exec", "asker", "nslookup", "-type=a", "memory"]).fails(1);
    assert_eq!(env.inspect("asker", "json .NetworkSettings.Networks.net.Links"), "null");
    let all = env.lap(["ps", "-q"]).ok().stdout_text();
    assert_eq!(all.lines().count(), 4, "no container has gone");
}
