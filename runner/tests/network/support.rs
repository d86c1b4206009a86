//! A machine of its own for a test: it runs again in a new network namespace, with a way to "the internet".

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use runner::network::error::NetworkError;
use runner::network::publish::Publish;
use runner::network::{Attachment, Connect, publish};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// Says that this process is in the namespace already.
const INSIDE: &str = "LAP_TEST_INSIDE";
/// How long an answer may take. It is only ever used up by failures.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// The address of the machine towards the internet, and that of a server there (RFC 5737).
pub(crate) const OUR_ADDRESS: &str = "198.51.100.1";
pub(crate) const THEIR_ADDRESS: &str = "198.51.100.2";
/// The same of IPv6 (RFC 3849).
pub(crate) const OUR_ADDRESS_6: &str = "2001:db8::1";
pub(crate) const THEIR_ADDRESS_6: &str = "2001:db8::2";

/// Runs the rest of the calling test in a new network namespace: `true` there. Elsewhere the test of this name has run
/// when this returns `false`, or could not.
pub(crate) fn in_own_network(test: &str, programs: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return true;
    }
    let needed = ["unshare", "ip"].iter().chain(programs);
    if testkit::privilege::root().is_none()
        || needed.into_iter().any(|name| testkit::judges::program(name).is_none())
    {
        return false;
    }
    let output = Command::new("unshare")
        // Mounts too, so that a test may put a device in place of the machine's.
        .args(["--net", "--mount", "--"])
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("unshare starts");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}{}", text[0], text[1]);
    assert!(text[0].contains("1 passed"), "no test is called {test}:\n{}", text[0]);
    false
}

/// Runs a program that must succeed and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("an installed program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {stderr}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A namespace that something lives in, by a path.
pub(crate) trait Place {
    /// The namespace; `None` is the one that we are in.
    fn path(&self) -> Option<PathBuf>;

    /// Does something on a thread inside of it.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        std::thread::scope(|scope| {
            let work = || {
                enter(path.as_deref());
                work()
            };
            scope.spawn(work).join().expect("the work inside succeeds")
        })
    }

    /// Serves one stream after another on a port of all addresses: says who connected, and sends a line back.
    /// Listens when this returns.
    fn serve(&self, port: u16) {
        let path = self.path();
        let (ready, is_ready) = channel();
        std::thread::spawn(move || {
            enter(path.as_deref());
            let listener = TcpListener::bind(("::", port)).expect("a free port");
            ready.send(()).expect("the test waits");
            while let Ok((client, from)) = listener.accept() {
                let mut line = String::new();
                let from = from.ip().to_canonical();
                let read = BufReader::new(&client).read_line(&mut line);
                // A client that goes away is the client's matter.
                drop(read.and_then(|_| (&client).write_all(format!("{from} {}", line.trim()).as_bytes())));
            }
        });
        is_ready.recv().expect("the server starts");
    }

    /// The same with messages.
    fn serve_messages(&self, port: u16) {
        let path = self.path();
        let (ready, is_ready) = channel();
        std::thread::spawn(move || {
            enter(path.as_deref());
            let socket = UdpSocket::bind(("0.0.0.0", port)).expect("a free port");
            ready.send(()).expect("the test waits");
            let mut buffer = [0; 1024];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let text = format!("{} {}", from.ip(), String::from_utf8_lossy(&buffer[..length]));
                drop(socket.send_to(text.as_bytes(), from));
            }
        });
        is_ready.recv().expect("the server starts");
    }

    /// What a server answers: the address that it saw, and "hi".
    fn ask(&self, address: &str) -> String {
        let address: SocketAddr = address.parse().expect("an address");
        self.inside(|| ask(address))
    }

    /// The same with messages.
    fn ask_by_message(&self, address: &str) -> String {
        let address: SocketAddr = address.parse().expect("an address");
        self.inside(|| {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).expect("a free port");
            socket.connect(address).expect("a route");
            socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
            socket.send(b"hi").expect("a message leaves");
            let mut buffer = [0; 1024];
            let length = socket.recv(&mut buffer).expect("an answer comes");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        })
    }

    /// Whether nobody answers at an address.
    fn cannot_reach(&self, address: &str) -> bool {
        let address: SocketAddr = address.parse().expect("an address");
        self.inside(|| TcpStream::connect_timeout(&address, SILENCE).is_err())
    }
}

fn ask(address: SocketAddr) -> String {
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a stream");
    stream.write_all(b"hi\n").expect("the server reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap_or_else(|error| panic!("{address}: {error}"));
    text
}

fn enter(path: Option<&Path>) {
    let Some(path) = path else { return };
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let file = file.expect("the namespace exists");
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
        .expect("root");
}

impl Place for Attachment {
    fn path(&self) -> Option<PathBuf> {
        Some(self.namespace())
    }
}

/// The machine that the test runs on.
pub(crate) struct Host;

impl Place for Host {
    fn path(&self) -> Option<PathBuf> {
        None
    }
}

/// Another machine, which is connected with ours and knows nothing of containers.
pub(crate) struct Internet {
    holder: Child,
}

impl Internet {
    /// Connects it, with a default route to it.
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo made; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        let stdout = holder.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line, "made\n");
        let internet = Self { holder };
        let id = internet.holder.id().to_string();
        let ip = |arguments: &str| run("ip", &arguments.split(' ').collect::<Vec<_>>());
        ip(&format!("link add wan0 mtu 1400 type veth peer name wan1 netns {id}"));
        ip(&format!("address add {OUR_ADDRESS}/24 dev wan0"));
        ip(&format!("address add {OUR_ADDRESS_6}/64 dev wan0 nodad"));
        ip("link set wan0 up");
        internet.ip("link set lo up");
        internet.ip(&format!("address add {THEIR_ADDRESS}/24 dev wan1"));
        internet.ip(&format!("address add {THEIR_ADDRESS_6}/64 dev wan1 nodad"));
        internet.ip("link set wan1 up");
        ip(&format!("route add default via {THEIR_ADDRESS}"));
        ip(&format!("-6 route add default via {THEIR_ADDRESS_6}"));
        internet
    }

    fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// Configures it.
    pub(crate) fn ip(&self, arguments: &str) {
        let namespace = format!("--net={}", self.namespace().display());
        let arguments: Vec<&str> =
            [namespace.as_str(), "ip"].into_iter().chain(arguments.split(' ')).collect();
        run("nsenter", &arguments);
    }
}

impl Place for Internet {
    fn path(&self) -> Option<PathBuf> {
        Some(self.namespace())
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// A runtime directory of its own.
pub(crate) struct Runtime(TempDir);

impl Runtime {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Connects a container with these `-p`.
    pub(crate) fn publish(&self, ports: &[&str]) -> Attachment {
        self.connect(&Connect { publish: wishes(ports), ..Connect::new("c0ffee") }).expect("a connection")
    }

    /// Connects a container.
    pub(crate) fn connect(&self, wanted: &Connect) -> Result<Attachment, NetworkError> {
        let preparation = runner::network::prepare(self.path(), wanted)?;
        runner::network::connect(self.path(), wanted, preparation)
    }
}

/// What some `-p` mean.
pub(crate) fn wishes(ports: &[&str]) -> Vec<Publish> {
    ports.iter().flat_map(|text| publish::parse(text).expect("a valid -p")).collect()
}

/// The container's IPv4 and IPv6 addresses.
pub(crate) fn addresses(container: &Attachment) -> (String, String) {
    match container.addresses()[..] {
        [IpAddr::V4(first), IpAddr::V6(second)] => (first.to_string(), second.to_string()),
        ref other => panic!("not one address of each family: {other:?}"),
    }
}
