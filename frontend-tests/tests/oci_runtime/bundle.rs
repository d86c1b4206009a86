//! A bundle to make containers of, and the runtime for it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Lap, Output};

/// A root filesystem with busybox, its configuration, and a runtime of its own.
pub(crate) struct Bundle {
    dir: TempDir,
    /// `config.json`, written by [`write`](Self::write).
    pub(crate) config: Value,
}

impl Bundle {
    /// One whose process is this shell script, without a terminal. `None` says why it cannot be tested here.
    pub(crate) fn new(script: &str) -> Option<Self> {
        testkit::privilege::root()?;
        let dir = tempfile::Builder::new().prefix("lap-oci-").tempdir().unwrap();
        let rootfs = dir.path().join("bundle/rootfs");
        std::fs::create_dir_all(&rootfs).unwrap();
        testkit::images::unpack_busybox(&rootfs);
        let mut bundle = Self { dir, config: Value::Null };
        bundle.runtime(&["spec", "--bundle", bundle.directory().to_str().unwrap()]).ok();
        let text = std::fs::read_to_string(bundle.directory().join("config.json")).unwrap();
        bundle.config = serde_json::from_str(&text).unwrap();
        bundle.config["process"]["terminal"] = json!(false);
        bundle.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        Some(bundle)
    }

    /// Where `config.json` is.
    pub(crate) fn directory(&self) -> PathBuf {
        self.path("bundle")
    }

    /// A path beside the bundle.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration.
    pub(crate) fn write(&self) {
        std::fs::write(self.directory().join("config.json"), self.config.to_string()).unwrap();
    }

    /// `lap oci-runtime --root … ARGS`.
    pub(crate) fn runtime(&self, args: &[&str]) -> Lap {
        let root = self.path("run");
        Lap::new(testkit::binary::lap())
            .args(["oci-runtime", "--root", root.to_str().unwrap()])
            .args(args)
            .current_dir(self.dir.path())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    }

    /// Creates container `id`, whose output goes to [`output`](Self::output). `more` are further flags.
    pub(crate) fn create(&self, id: &str, more: &[&str]) -> Output {
        self.write();
        let script = "exec \"$0\" \"$@\" >>output 2>&1 </dev/null";
        let root = self.path("run");
        let bundle = self.directory();
        let lap = testkit::binary::lap();
        Lap::new(Path::new("/bin/sh"))
            .args(["-c", script, lap.to_str().unwrap(), "oci-runtime", "--root", root.to_str().unwrap()])
            .args(["create", "--bundle", bundle.to_str().unwrap()])
            .args(more)
            .arg(id)
            .current_dir(self.dir.path())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .run()
    }

    /// Creates and starts container `id`.
    pub(crate) fn start(&self, id: &str) {
        let created = self.create(id, &[]);
        assert_eq!(created.code(), Some(0), "{}", self.output());
        self.runtime(&["start", id]).ok();
    }

    /// What the container and `create` have written.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.path("output")).unwrap_or_default()
    }

    /// The state of a container.
    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.runtime(&["state", id]).ok().stdout_text()).unwrap()
    }

    /// A FIFO beside the bundle that the container sees at `/fifo`.
    pub(crate) fn fifo(&mut self) -> Fifo {
        let path = self.path("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        let mounts = self.config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/fifo", "type": "bind", "source": path, "options": ["bind"] }));
        Fifo(path)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let listed = self.runtime(&["list", "--quiet"]).run().stdout_text();
        for id in listed.lines() {
            self.runtime(&["delete", "--force", id]).run();
        }
    }
}

/// Where a container says something.
pub(crate) struct Fifo(PathBuf);

impl Fifo {
    /// Waits until somebody has written and closed it.
    pub(crate) fn read(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.0).unwrap().read_to_string(&mut text).unwrap();
        text
    }
}
