//! User-defined networks of an ordinary user, who has no bridge of the machine but a namespace for bridges of his own.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::ports::free_port;
use testkit::wait::until;
use testkit::{OrdinaryUser, Ranges};

/// A server of one word, that is ready before it says so.
const SERVER: &str =
    "mkdir -p /www && echo hello >/www/index.html && httpd -h /www && echo ready && exec sleep 1000";

/// A user with `busybox:latest` whose containers are removed at the end.
struct User(OrdinaryUser);

impl User {
    fn new(ranges: Ranges) -> Option<Self> {
        for program in ["pasta", "slirp4netns"] {
            testkit::judges::program(program)?;
        }
        if !Path::new("/dev/net/tun").exists() {
            testkit::privilege::skip("this kernel has no /dev/net/tun");
            return None;
        }
        let user = OrdinaryUser::new(ranges)?;
        user.load(&testkit::images::busybox());
        Some(Self(user))
    }

    fn says(&self, args: &[&str]) -> String {
        self.0.lap(args).ok().stdout_text()
    }

    /// A container that waits.
    fn sleeper(&self, name: &str, flags: &[&str]) -> String {
        let args = [&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat();
        self.says(&args).trim().to_owned()
    }

    /// What a script prints in a container, which must succeed.
    fn inside(&self, container: &str, script: &str) -> String {
        self.says(&["exec", container, "sh", "-c", script])
    }

    fn fails_inside(&self, container: &str, script: &str) -> bool {
        self.0.lap(["exec", container, "sh", "-c", script]).run().code() != Some(0)
    }

    fn inspect(&self, container: &str, field: &str) -> String {
        self.says(&["inspect", "-f", &format!("{{{{{field}}}}}"), container]).trim().to_owned()
    }

    /// His runtime directory.
    fn run(&self) -> PathBuf {
        self.0.work().with_file_name("home").join(".local/share/lapstrake/run")
    }

    /// The processes that serve his networks.
    fn keepers(&self) -> Vec<i32> {
        processes(&["network-hub", &self.run().display().to_string()])
    }

    /// The parents of his containers.
    fn shims(&self) -> Vec<i32> {
        let store = self.run().with_file_name("");
        processes(&["container-shim", &store.display().to_string()])
    }

    /// Waits until nothing of his networks is left.
    fn wait_until_gone(&self) {
        until("all is gone", || {
            self.keepers().is_empty()
                && std::fs::read_dir(self.run().join("networks")).unwrap().next().is_none()
        });
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let ids = self.0.lap(["ps", "-aq", "--no-trunc"]).run().stdout_text();
        for id in ids.lines() {
            self.0.lap(["rm", "-f", id]).run();
        }
    }
}

/// The processes whose command lines have all of these words. One that has ended has none.
fn processes(words: &[&str]) -> Vec<i32> {
    let numbers = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let fits = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        words.iter().all(|word| line.contains(word))
    };
    numbers.filter(fits).collect()
}

fn kill_all(processes: &[i32]) {
    assert!(!processes.is_empty());
    for pid in processes {
        // One of them may have ended with another.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

/// What a server of the host answers.
fn get(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A further address of this machine, which is not that of its way out: a program that leads out may have copied that one.
struct FurtherAddress {
    card: String,
    address: String,
}

impl FurtherAddress {
    fn new() -> Self {
        let mut bytes = [0; 4];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        let (card, address) =
            (format!("lt{:08x}", u32::from_be_bytes(bytes)), format!("198.18.{}.{}", bytes[0], bytes[1]));
        let further = Self { card, address };
        ip(&["link", "add", &further.card, "type", "bridge"]);
        ip(&["address", "add", &format!("{}/32", further.address), "dev", &further.card]);
        ip(&["link", "set", &further.card, "up"]);
        further
    }
}

impl Drop for FurtherAddress {
    fn drop(&mut self) {
        ip(&["link", "delete", &self.card]);
    }
}

fn ip(args: &[&str]) {
    let program = testkit::judges::program("ip").expect("the package iproute2");
    testkit::Lap::new(program.path()).args(args).ok();
}

/// Names, isolation, several networks and ports, with and without ids of his own.
fn containers_are_connected(ranges: Ranges) {
    let Some(user) = User::new(ranges) else { return };
    user.says(&["network", "create", "net"]);
    user.says(&["network", "create", "other"]);
    let port = free_port();
    let id = user.says(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "net",
        "--network-alias",
        "site",
        "-p",
        &format!("{port}:80"),
        "busybox",
        "sh",
        "-c",
        SERVER,
    ]);
    user.sleeper("client", &["--network", "net"]);
    user.sleeper("stranger", &["--network", "other"]);
    until("the server is ready", || user.says(&["logs", "web"]).contains("ready"));
    for name in ["web", "site", &id[..12], "web.net"] {
        user.inside("client", &format!("ping -c 1 -W 5 {name}"));
    }
    assert_eq!(user.inside("client", "wget -qO- http://web/"), "hello\n");
    assert!(get(&format!("127.0.0.1:{port}")).ends_with("hello\n"));
    assert_eq!(user.says(&["port", "web", "80"]).lines().next(), Some(&*format!("0.0.0.0:{port}")));
    // Neither by name nor by address from another network.
    let address = user.inspect("web", ".NetworkSettings.Networks.net.IPAddress");
    assert!(user.fails_inside("stranger", "ping -c 1 -W 1 web"));
    assert!(user.fails_inside("stranger", &format!("ping -c 1 -W 1 {address}")));
    // Who joins the network finds it, until it leaves.
    user.says(&["network", "connect", "--alias", "guest", "net", "stranger"]);
    user.inside("stranger", "ping -c 1 -W 5 web");
    user.inside("client", "ping -c 1 -W 5 guest");
    user.says(&["network", "disconnect", "net", "stranger"]);
    assert!(user.fails_inside("stranger", &format!("ping -c 1 -W 1 {address}")));
    // Also who was in the default network only.
    user.sleeper("late", &[]);
    user.says(&["network", "connect", "net", "late"]);
    user.inside("late", &format!("ping -c 1 -W 5 {address}"));
    user.says(&["network", "disconnect", "bridge", "late"]);
    user.inside("late", &format!("ping -c 1 -W 5 {address}"));
    assert_eq!(user.inside("late", "ls /sys/class/net | tr '\\n' ' '"), "eth1 lo ");
    let both =
        ["run", "--rm", "--network", "net", "--network", "other", "busybox", "ping", "-c", "1", "-W", "5"];
    user.says(&[&both[..], &["stranger"]].concat());
    user.says(&[&both[..], &["web"]].concat());
    // A network that is in use stays.
    user.0.lap(["network", "rm", "net"]).fails(1).stderr_has(&["has active endpoints"]);
    user.says(&["rm", "-f", "web", "client", "stranger", "late"]);
    user.wait_until_gone();
    user.says(&["network", "rm", "net", "other"]);
}

#[test]
fn containers_of_a_user_with_ids_are_connected() {
    containers_are_connected(Ranges::Usual);
}

#[test]
fn containers_of_a_user_without_ids_are_connected() {
    containers_are_connected(Ranges::None);
}

#[test]
fn networks_lead_out_unless_they_are_internal() {
    let Some(user) = User::new(Ranges::Usual) else { return };
    let further = FurtherAddress::new();
    let address = &further.address;
    let listener = TcpListener::bind((address.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"outside\n");
        }
    });
    // One line is enough: how a connection ends is a matter of the program that leads out.
    let script = format!(
        "rm -f /said; (nc -w 10 {address} {port} </dev/null; echo ended) >/said 2>/dev/null & \
         until [ -s /said ]; do :; done; killall nc 2>/dev/null; head -n 1 /said"
    );
    user.says(&["network", "create", "--subnet", "10.222.7.0/24", "net"]);
    user.says(&["network", "create", "--internal", "quiet"]);
    user.sleeper("out", &["--network", "net", "--ip", "10.222.7.77"]);
    assert_eq!(user.inside("out", &script), "outside\n");
    assert_eq!(user.inspect("out", ".NetworkSettings.Networks.net.IPAddress"), "10.222.7.77");
    user.sleeper("in", &["--network", "quiet"]);
    user.sleeper("in2", &["--network", "quiet"]);
    user.inside("in", "ping -c 1 -W 5 in2");
    assert_eq!(user.inside("in", "ip route | grep -c default || true"), "0\n");
    assert_eq!(user.inside("in", &script), "ended\n");
    // Both networks are in the one namespace, and that is no way from one to the other.
    let address = user.inspect("in", ".NetworkSettings.Networks.quiet.IPAddress");
    assert!(user.fails_inside("out", &format!("ping -c 1 -W 1 {address}")));
    // The keeper is killed: its networks stay, and the next container has the way out made anew.
    kill_all(&user.keepers());
    until("no keeper is left", || user.keepers().is_empty());
    user.inside("in", "ping -c 1 -W 5 in2");
    user.sleeper("next", &["--network", "net"]);
    user.inside("next", "ping -c 1 -W 5 out");
    assert_eq!(user.inside("out", &script), "outside\n");
    user.says(&["rm", "-f", "out", "in", "in2", "next"]);
    user.wait_until_gone();
}

#[test]
fn killed_supervisors_leave_nothing() {
    let Some(user) = User::new(Ranges::Usual) else { return };
    user.says(&["network", "create", "net"]);
    let port = format!("{}:80", free_port());
    let (one, two) = (["--network", "net", "-p", &port], ["--network", "net"]);
    let id = user.sleeper("one", &one);
    user.sleeper("two", &two);
    // One of them: its address and its port are somebody else's then.
    let address = user.inspect("one", ".NetworkSettings.Networks.net.IPAddress");
    kill_all(&processes(&["container-shim", &id]));
    until("it has ended", || user.inspect("one", ".State.Status") == "exited");
    assert!(user.fails_inside("two", "nslookup -type=a one"));
    user.sleeper("three", &["--network", "net", "--ip", &address, "-p", &port]);
    user.inside("two", "ping -c 1 -W 5 three");
    // All of them: the namespace goes, with the program and the records.
    kill_all(&user.shims());
    user.wait_until_gone();
    user.says(&["start", "one", "two"]);
    user.inside("two", "ping -c 1 -W 5 one");
}

#[test]
fn commands_at_the_same_time_share_one_namespace() {
    let Some(user) = User::new(Ranges::Usual) else { return };
    user.says(&["network", "create", "net"]);
    let names = ["a", "b", "c", "d"];
    let running = names.map(|name| {
        let run = user.0.lap(["run", "-d", "--name", name, "--network", "net", "busybox", "sleep", "1000"]);
        run.spawn()
    });
    for run in running {
        let ended = run.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr_text());
    }
    for name in names {
        user.inside("a", &format!("ping -c 1 -W 5 {name}"));
    }
}

#[test]
fn a_compose_project_runs() {
    let Some(user) = User::new(Ranges::Usual) else { return };
    let port = free_port();
    let text = format!(
        "services:\n\
         \x20 web: {{image: busybox, command: [sh, -c, '{SERVER}'], ports: ['{port}:80'], networks: [front], \
         healthcheck: {{test: 'wget -qO- http://127.0.0.1/', interval: 100ms, retries: 600}}}}\n\
         \x20 app: {{image: busybox, command: sleep 1000, networks: [front, back], \
         depends_on: {{web: {{condition: service_healthy}}}}}}\n\
         \x20 db: {{image: busybox, command: sleep 1000, networks: [back]}}\n\
         networks: {{front: , back: {{internal: true}}}}\n"
    );
    let file = user.0.file("compose.yaml", text).display().to_string();
    let compose = |args: &[&str]| user.says(&[&["compose", "-p", "shop", "-f", &file], args].concat());
    compose(&["up", "-d"]);
    assert_eq!(compose(&["exec", "app", "wget", "-qO-", "http://web/"]), "hello\n");
    compose(&["exec", "app", "ping", "-c", "1", "-W", "5", "db"]);
    assert!(get(&format!("127.0.0.1:{port}")).ends_with("hello\n"));
    let apart =
        user.0.lap(["compose", "-p", "shop", "-f", &file, "exec", "db", "ping", "-c", "1", "-W", "1", "web"]);
    assert_ne!(apart.run().code(), Some(0));
    compose(&["down"]);
    user.wait_until_gone();
    assert_eq!(user.says(&["network", "ls", "--format", "{{.Name}}"]), "bridge\nhost\nnone\n");
}
