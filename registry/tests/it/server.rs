//! The server's patience: clients that stop in the middle, and such that say nothing.

use std::fs::File;
use std::io::{PipeReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::Digest;
use base::image::Descriptor;
use registry::server::{
    BlobRemoval, ManifestName, PushedManifest, Repository, ServeError, ServedBlob, ServedManifest,
    ServedStore, ServerOptions, Upload, serve,
};
use tokio::net::TcpListener;

/// A store that has one blob, which is a pipe, and fails to take anything.
#[derive(Default)]
struct Odd {
    pipe: Mutex<Option<PipeReader>>,
}

struct Refusing;

impl Upload for Refusing {
    fn write(&mut self, _: &[u8]) -> Result<(), ServeError> {
        Err(ServeError::Failed("the disk is on fire".into()))
    }

    fn finish(self: Box<Self>, _: &Digest) -> Result<(), ServeError> {
        Ok(())
    }
}

impl ServedStore for Odd {
    fn repositories(&self) -> Result<Vec<String>, ServeError> {
        panic!("a store that panics")
    }
    fn tags(&self, _: &Repository) -> Result<Option<Vec<String>>, ServeError> {
        Ok(None)
    }
    fn manifest(&self, _: &Repository, _: &ManifestName) -> Result<Option<ServedManifest>, ServeError> {
        Ok(None)
    }
    fn put_manifest(&self, _: &Repository, _: &ManifestName, _: &PushedManifest) -> Result<(), ServeError> {
        Ok(())
    }
    fn delete_manifest(&self, _: &Repository, _: &ManifestName) -> Result<bool, ServeError> {
        Ok(false)
    }
    fn referrers(&self, _: &Repository, _: &Digest) -> Result<Vec<Descriptor>, ServeError> {
        Ok(Vec::new())
    }
    fn blob_size(&self, _: &Digest) -> Result<Option<u64>, ServeError> {
        Ok(None)
    }
    fn open_blob(&self, _: &Digest) -> Result<Option<ServedBlob>, ServeError> {
        let pipe = self.pipe.lock().unwrap().take();
        Ok(pipe.map(|pipe| ServedBlob { file: File::from(OwnedFd::from(pipe)), size: 1 << 40 }))
    }
    fn delete_blob(&self, _: &Digest) -> Result<BlobRemoval, ServeError> {
        Ok(BlobRemoval::Unknown)
    }
    fn upload(&self) -> Result<Box<dyn Upload>, ServeError> {
        Ok(Box::new(Refusing))
    }
}

/// How long is waited for a client that is not to be waited for.
const SHORT: Duration = Duration::from_millis(300);

/// A server that waits only so long for its clients.
struct Fixture {
    address: String,
    incidents: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

fn start(store: Odd, patience: Duration) -> Fixture {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let incidents = Arc::new(Mutex::new(Vec::new()));
    let told = incidents.clone();
    let report = Arc::new(move |incident: &str| told.lock().unwrap().push(incident.to_owned()));
    let options = ServerOptions { patience, ..ServerOptions::new(report) };
    runtime.spawn(serve(listener, Arc::new(store), options, std::future::pending()));
    Fixture { address, incidents, _runtime: runtime }
}

impl Fixture {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// What comes after `bytes` until the server closes the connection, though this side does not.
    fn exchange(&self, bytes: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[test]
fn who_stops_in_the_middle_of_a_request_is_told_so() {
    let server = start(Odd::default(), Duration::from_secs(3));
    let answer = server.exchange("PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // Who has not said what he wants is not answered.
    let server = start(Odd::default(), SHORT);
    for start in ["", "GET /v2/ HTT", "GET /v2/ HTTP/1.1\r\nHost: x\r\n"] {
        let answer = server.exchange(start);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[test]
fn who_reads_nothing_is_given_up() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let server = start(Odd { pipe: Mutex::new(Some(reader)) }, Duration::from_secs(3));
    let mut stream = server.connect();
    let path = format!("/v2/a/blobs/{}", Digest::of(b"endless"));
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    // It never ends, unless the server closes its end of the pipe.
    let error = (0..).find_map(|_| writer.write_all(&[0; 1 << 16]).err()).unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    drop(stream);
}

#[test]
fn failures_of_the_store_are_the_owners_to_know() {
    let server = start(Odd::default(), Duration::from_secs(60));
    let answer = server.exchange("GET /v2/_catalog HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("the store did not answer"), "{answer}");
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"x"));
    let answer = server.exchange(&format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    ));
    assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("fire"), "{answer}");
    let incidents = server.incidents.lock().unwrap().join("\n");
    assert!(
        incidents.contains("POST /v2/a/blobs/uploads/: the store failed: the disk is on fire"),
        "{incidents}"
    );
    assert!(
        server
            .exchange("GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .starts_with("HTTP/1.1 200")
    );
}
