//! moto's server, which speaks S3, on a loopback port of its own, with buckets that go away with it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::python;

/// How long the server may take to say that it listens.
const START: Duration = Duration::from_secs(60);

/// A signature, which the server wants to see and does not check.
const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=0";

/// A running server. Dropped, it ends.
pub struct MotoServer {
    process: Child,
    address: String,
}

impl MotoServer {
    /// Starts a server with one empty bucket, `cache`, and waits until it listens. None if it is not installed;
    /// see [`python::program`].
    pub fn start() -> Option<Self> {
        let program = python::program("moto_server")?;
        let mut process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("an installed program starts");
        let log = process.stderr.take().expect("the pipe was asked for");
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
                panic!("moto_server does not listen after {START:?}; it wrote:\n{read}");
            };
            if let Some((_, address)) = line.split_once("Running on http://") {
                break address.trim().to_owned();
            }
            read.push_str(&format!("{line}\n"));
        };
        let server = Self { process, address };
        server.request("PUT", "/cache");
        Some(server)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request without body, and gives the status and the body.
    pub fn request(&self, method: &str, path: &str) -> (u16, String) {
        self.send(method, path, b"")
    }

    /// Writes an object.
    pub fn put(&self, path: &str, content: &[u8]) {
        let (status, answer) = self.send("PUT", path, content);
        assert_eq!(status, 200, "{answer}");
    }

    fn send(&self, method: &str, path: &str, content: &[u8]) -> (u16, String) {
        let (address, length) = (&self.address, content.len());
        let mut stream = TcpStream::connect(address).expect("the server listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nAuthorization: {SIGNED}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), content].concat()).expect("a short request is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer of text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
    }
}

impl Drop for MotoServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
