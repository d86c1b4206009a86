//! BuildGrid's server, which speaks the Remote Execution API, on a loopback port, with a cache in memory.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::certificates::Certificate;
use crate::python;

/// How long the server may take until it listens.
const START: Duration = Duration::from_secs(90);
/// How often a port may turn out to be taken by another program meanwhile.
const TRIES: u32 = 5;

/// A running server. Dropped, it ends.
pub struct BuildGrid {
    process: Child,
    port: u16,
    has_tls: bool,
    _dir: TempDir,
}

impl BuildGrid {
    /// Starts a server with an empty cache, and waits until it listens. None if it is not installed; see [`python::program`].
    pub fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// The same with TLS, if there is a certificate.
    pub fn start_with(certificate: Option<&Certificate>) -> Option<Self> {
        let program = python::program("bgd")?;
        let mut log = String::new();
        for _ in 0..TRIES {
            let dir =
                tempfile::Builder::new().prefix("lap-buildgrid-").tempdir().expect("a temporary directory");
            // It does not say which port it was given, so it is told one that the kernel gives to nobody meanwhile.
            let port = crate::ports::free_port();
            let config = dir.path().join("server.yml");
            std::fs::write(&config, configuration(port, certificate)).expect("a file in a new directory");
            let mut process = Command::new(&program)
                .args(["server", "start"])
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("an installed program starts");
            let lines = lines(&mut process);
            match wait(&mut process, &lines, port) {
                Ok(()) => return Some(Self { process, port, has_tls: certificate.is_some(), _dir: dir }),
                Err(said) => log = said,
            }
        }
        panic!("BuildGrid does not listen; it wrote:\n{log}")
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.has_tls { "grpcs" } else { "grpc" }, self.port)
    }
}

impl Drop for BuildGrid {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What it writes, line by line, read to the end so that the pipe never fills.
fn lines(process: &mut Child) -> Receiver<String> {
    let log = process.stderr.take().expect("the pipe was asked for");
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Waits until the port takes connections. The error is what was written when the process has ended instead, or takes too long.
fn wait(process: &mut Child, lines: &Receiver<String>, port: u16) -> Result<(), String> {
    let begun = Instant::now();
    let mut written = String::new();
    loop {
        // A line is as good a moment as any to look, and there may be none.
        if let Ok(line) = lines.recv_timeout(Duration::from_millis(100)) {
            written.push_str(&format!("{line}\n"));
        }
        let has_ended = process.try_wait().expect("a child can be waited for").is_some();
        if has_ended || begun.elapsed() > START {
            let _ = process.kill();
            let _ = process.wait();
            return Err(written);
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
    }
}

fn configuration(port: u16, certificate: Option<&Certificate>) -> String {
    let mode = match certificate {
        None => "insecure-mode: true".to_owned(),
        Some(Certificate { file, key }) => format!(
            "insecure-mode: false\n    credentials: {{tls-server-key: '{}', tls-server-cert: '{}'}}",
            key.display(),
            file.display()
        ),
    };
    format!(
        "server:\n  - !channel\n    address: '127.0.0.1:{port}'\n    {mode}\n\
         authorization: {{method: none}}\n\
         storages:\n  - !lru-storage &blobs\n    size: 2gb\n\
         caches:\n  - !lru-action-cache &results\n    storage: *blobs\n    max-cached-refs: 100000\n    \
         allow-updates: true\n    cache-failed-actions: true\n\
         instances:\n  - name: team\n    services:\n      - !action-cache\n        cache: *results\n      \
         - !cas\n        storage: *blobs\n      - !bytestream\n        storage: *blobs\n\
         thread-pool-size: 20\n"
    )
}
