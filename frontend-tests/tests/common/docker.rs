//! Clients of Docker's API that are served by a daemon of ours.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use testkit::{Lap, TestEnv};

use super::daemon::{Daemon, client};

/// A daemon, and Docker's command for it.
pub(crate) struct Docker<'a> {
    pub(crate) daemon: Daemon<'a>,
    program: PathBuf,
}

impl<'a> Docker<'a> {
    /// Starts a daemon. None without Docker's command.
    pub(crate) fn new(env: &'a TestEnv) -> Option<Self> {
        Self::with(env, &[])
    }

    /// The same, with further flags of the daemon.
    pub(crate) fn with(env: &'a TestEnv, flags: &[&str]) -> Option<Self> {
        let program = program()?;
        Some(Self { daemon: Daemon::start_with(env, flags), program })
    }

    /// `docker ARGS…`, not started yet.
    pub(crate) fn run<I, S>(&self, args: I) -> Lap
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.at(&self.daemon.address(), args)
    }

    /// The same at another address.
    pub(crate) fn at<I, S>(&self, address: &str, args: I) -> Lap
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        client(self.daemon.env, &self.program).args(args).env("DOCKER_HOST", address)
    }

    /// What a command prints, which must succeed.
    pub(crate) fn text(&self, args: &[&str]) -> String {
        self.run(args).ok().stdout_text().trim().to_owned()
    }

    /// A command that must fail, and what it says.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args).run();
        assert_ne!(output.code(), Some(0), "{output}");
        output.stderr_text()
    }

    /// Runs a script with `client`, of Python's library for Docker, and answers what it prints. None without that library.
    pub(crate) fn python(&self, script: &str) -> Option<String> {
        let python = python()?;
        let script = format!(
            "import docker, docker.errors, json\nclient = docker.from_env(timeout=60)\napi = client.api\n{script}"
        );
        let run = Lap::new(&python).args(["-c", &script]).env("DOCKER_HOST", self.daemon.address());
        Some(run.ok().stdout_text().trim().to_owned())
    }

    /// Lets a plugin be found, such as buildx.
    pub(crate) fn plug_in(&self, plugin: &Path) {
        let plugins = self.daemon.env.home().join(".docker/cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        let link = plugins.join(plugin.file_name().unwrap());
        std::os::unix::fs::symlink(std::fs::canonicalize(plugin).unwrap(), link).unwrap();
    }

    /// What a call answers over the socket: the status, and the body.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.call_with(method, path, &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// The same with these headers.
    pub(crate) fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, String) {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        let answer = self.raw(&[request.as_bytes(), body].concat());
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// What the daemon says to these bytes, until it ends the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        self.raw_at(Path::new(self.daemon.address().trim_start_matches("unix://")), bytes)
    }

    /// The same at another of its sockets.
    pub(crate) fn raw_at(&self, socket: &Path, bytes: &[u8]) -> Vec<u8> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        // One that is refused may be cut off before it has said all.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }
}

/// `docker ARGS…` at an address, without a daemon of ours beside it.
pub(crate) fn command(env: &TestEnv, address: &str) -> Option<Lap> {
    Some(client(env, &program()?).env("DOCKER_HOST", address))
}

/// Docker's command: as fetched by `scripts/setup test`, or installed. Without it the calling test is skipped.
fn program() -> Option<PathBuf> {
    let fetched = testkit::binary::cache_dir().join("../clients/usr/bin/docker");
    let installed = ["/usr/bin/docker", "/usr/local/bin/docker"].map(PathBuf::from);
    let found = std::iter::once(fetched).chain(installed).find(|path| path.is_file());
    if found.is_none() {
        testkit::privilege::skip("docker is not there");
    }
    found
}

/// Python with Docker's library. Without it the calling test is skipped.
fn python() -> Option<PathBuf> {
    let python = testkit::binary::cache_dir().join("../python/bin/python");
    let has_library = std::process::Command::new(&python)
        .args(["-c", "import docker"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_library {
        testkit::privilege::skip("Python's library for Docker is not there");
        return None;
    }
    Some(python)
}
