//! A registry over a store of its own, and what tests do with it over and over.

use std::sync::Mutex;

use base::Digest;
use serde_json::json;
use testkit::{Running, TestEnv};

use crate::http::{self, Answer, descriptor};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry that serves. Dropped, it is killed; [`stop`](Self::stop) asks it to end.
pub(crate) struct Server {
    pub(crate) env: TestEnv,
    /// Behind a lock, so that clients can be threads.
    running: Mutex<Running>,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// `localhost:PORT`, its name in the names of images.
    pub(crate) name: String,
}

impl Server {
    /// Serves an empty store.
    pub(crate) fn new() -> Self {
        Self::with(TestEnv::new(), &[])
    }

    /// Serves the store of `env`, with more flags.
    pub(crate) fn with(env: TestEnv, flags: &[&str]) -> Self {
        let mut running = env.lap(["registry", "serve", "--addr", "127.0.0.1:0"]).args(flags).spawn();
        let line = running.wait_for_line("Listening on ");
        let mut words = line["Listening on ".len()..].split(" as ");
        let url = words.next().expect("a URL");
        let address = url.split_once("://").expect("a scheme").1.to_owned();
        let name = words.next().expect("a name").to_owned();
        Self { env, running: Mutex::new(running), address, name }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> i32 {
        self.running.lock().expect("nobody panics with it").pid()
    }

    /// Asks it to end, expects that it does so in order, and gives the store back.
    pub(crate) fn stop(self) -> TestEnv {
        self.signal_to_end();
        self.stopped()
    }

    /// Asks it to end.
    pub(crate) fn signal_to_end(&self) {
        self.running.lock().expect("nobody panics with it").signal(nix::sys::signal::Signal::SIGTERM);
    }

    /// Expects that it ends in order after it was asked to, and gives the store back.
    pub(crate) fn stopped(self) -> TestEnv {
        let output = self.running.into_inner().expect("nobody panics with it").finish();
        assert_eq!(output.code(), Some(0), "{output}");
        self.env
    }

    /// Waits until it has ended in whatever way, and gives the store back.
    pub(crate) fn ended(self) -> TestEnv {
        self.running.into_inner().expect("nobody panics with it").finish();
        self.env
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        http::send(&self.address, method, path, headers, body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"")
    }

    /// Begins an upload; gives its path.
    pub(crate) fn begin(&self, repository: &str) -> String {
        let answer = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"").is(202);
        answer.header("location").expect("a location").to_owned()
    }

    /// Uploads a blob in one request.
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.send("POST", &path, &[("Content-Type", "application/octet-stream")], bytes).is(201);
        digest
    }

    pub(crate) fn has_blob(&self, repository: &str, digest: &Digest) -> bool {
        self.send("HEAD", &format!("/v2/{repository}/blobs/{digest}"), &[], b"").status == 200
    }

    pub(crate) fn put_manifest(&self, repository: &str, name: &str, kind: &str, manifest: &[u8]) -> Answer {
        let path = format!("/v2/{repository}/manifests/{name}");
        self.send("PUT", &path, &[("Content-Type", kind)], manifest)
    }

    /// Pushes an image with one layer of these bytes; gives its manifest.
    pub(crate) fn push_image(&self, repository: &str, tag: &str, layer: &[u8]) -> Vec<u8> {
        let manifest = image(layer);
        self.push_blob(repository, layer);
        self.push_blob(repository, CONFIG);
        self.put_manifest(repository, tag, OCI_MANIFEST, &manifest).is(201);
        manifest
    }
}

/// The config of images that are made here.
pub(crate) const CONFIG: &[u8] =
    b"{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";

/// The manifest of an image with one layer.
pub(crate) fn image(layer: &[u8]) -> Vec<u8> {
    let config = descriptor("application/vnd.oci.image.config.v1+json", CONFIG);
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar", layer);
    let manifest =
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
    manifest.to_string().into_bytes()
}

/// The names of files below a directory of the store.
pub(crate) fn files(env: &TestEnv, directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(env.root().join(directory)).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}
