//! Azurite, Microsoft's server that speaks Azure Blob Storage, on a loopback port of its own. It checks signatures.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::python;

/// How long the server may take to say that it listens.
const START: Duration = Duration::from_secs(60);

/// A running server. Dropped, it ends.
pub struct Azurite {
    process: Child,
    address: String,
    _files: TempDir,
}

impl Azurite {
    /// The account that every such server has.
    pub const ACCOUNT: &'static str = "devstoreaccount1";

    /// The key of that account, which is the same everywhere.
    pub const KEY: &'static str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    /// Starts a server without containers, and waits until it listens. None if it is not installed; see
    /// [`python::node_program`].
    pub fn start() -> Option<Self> {
        let program = python::node_program("azurite-blob")?;
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        let mut process = Command::new(program)
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--disableTelemetry", "--location"])
            .arg(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("an installed program starts");
        let log = process.stdout.take().expect("the pipe was asked for");
        let (sender, lines) = mpsc::channel();
        // Reads to the end, so that the pipe never fills.
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut read = String::new();
        let address = loop {
            let Ok(line) = lines.recv_timeout(START) else {
                let _ = process.kill();
                let _ = process.wait();
                panic!("azurite-blob does not listen after {START:?}; it wrote:\n{read}");
            };
            if let Some((_, address)) = line.split_once("successfully listens on http://") {
                break address.trim().to_owned();
            }
            if let Some((_, address)) = line.split_once("successfully listening at http://") {
                break address.trim().to_owned();
            }
            read.push_str(&format!("{line}\n"));
        };
        Some(Self { process, address, _files: files })
    }

    /// The URL of the account's blobs.
    pub fn account_url(&self) -> String {
        format!("http://{}/{}", self.address, Self::ACCOUNT)
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
