//! `lap daemon` in an environment, and Docker's clients that are served by it.

use std::path::{Path, PathBuf};

use testkit::{Lap, Running, TestEnv};

use super::terminal::Terminal;

/// Where Debian has the plugins of Docker's client.
const PLUGINS: &str = "usr/libexec/docker/cli-plugins";

/// A daemon with a client's configuration. Dropped, it is stopped.
pub(crate) struct Daemon<'a> {
    pub(crate) env: &'a TestEnv,
    running: Option<Running>,
    socket: PathBuf,
}

impl<'a> Daemon<'a> {
    /// Starts a daemon and waits until it listens.
    pub(crate) fn start(env: &'a TestEnv) -> Self {
        Self::start_with(env, &[])
    }

    /// The same, with further flags.
    pub(crate) fn start_with(env: &'a TestEnv, flags: &[&str]) -> Self {
        let socket = env.work().join("buildkit.sock");
        let mut daemon = Self { env, running: None, socket };
        daemon.start_again(flags);
        daemon
    }

    /// Starts it anew, after it has ended.
    pub(crate) fn start_again(&mut self, flags: &[&str]) {
        let address = self.address();
        let mut running = self.env.lap(["daemon", "--addr", &address]).args(flags).spawn();
        running.wait_for("listening on");
        self.running = Some(running);
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.running.as_ref().expect("it runs").pid()
    }

    /// The most memory that it has taken so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes << 10
    }

    /// Ends it with a signal, and answers how it went.
    pub(crate) fn end(&mut self, signal: nix::sys::signal::Signal) -> testkit::Output {
        let running = self.running.take().expect("it runs");
        running.signal(signal);
        running.finish()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(nix::sys::signal::Signal::SIGTERM);
            let output = running.finish();
            assert!(std::thread::panicking() || output.code() == Some(0), "the daemon ends well\n{output}");
        }
    }
}

/// A plugin of Docker's client: as fetched by `scripts/setup test`, or installed. Without it the calling test is skipped.
pub(crate) fn plugin(name: &str) -> Option<PathBuf> {
    let fetched = testkit::binary::cache_dir().join("../clients").join(PLUGINS).join(name);
    let found = [fetched, Path::new("/").join(PLUGINS).join(name)].into_iter().find(|path| path.is_file());
    if found.is_none() {
        testkit::privilege::skip(&format!("{name} is not there"));
    }
    found
}

/// buildx with a builder that is a daemon of ours.
pub(crate) struct Buildx<'a> {
    pub(crate) daemon: Daemon<'a>,
    program: PathBuf,
}

impl<'a> Buildx<'a> {
    /// Starts a daemon, and makes it a builder. None without buildx.
    pub(crate) fn new(env: &'a TestEnv) -> Option<Self> {
        Self::with(env, &[])
    }

    /// The same, with further flags of the daemon.
    pub(crate) fn with(env: &'a TestEnv, flags: &[&str]) -> Option<Self> {
        let program = plugin("docker-buildx")?;
        let daemon = Daemon::start_with(env, flags);
        let buildx = Self { daemon, program };
        let address = buildx.daemon.address();
        buildx.run(["create", "--name", "lap", "--driver", "remote", &address, "--use"]).ok();
        Some(buildx)
    }

    /// `docker buildx ARGS…`, not started yet.
    pub(crate) fn run<I, S>(&self, args: I) -> Lap
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        client(self.daemon.env, &self.program).args(args).env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")
    }

    /// buildx on a terminal, with what its authors try out.
    pub(crate) fn on_terminal(&self, args: &[&str]) -> Terminal {
        let home = self.daemon.env.home();
        let mut command = std::process::Command::new(&self.program);
        command.args(args).env_clear().env("HOME", &home).env("TERM", "dumb").env("BUILDX_EXPERIMENTAL", "1");
        command.env("DOCKER_CONFIG", home.join(".docker")).env("BUILDX_CONFIG", home.join("buildx"));
        Terminal::of(command)
    }

    /// `docker buildx build --progress plain ARGS CONTEXT`
    pub(crate) fn build(&self, context: &Path, args: &[&str]) -> Lap {
        self.run(["build", "--progress", "plain"]).args(args).arg(context)
    }
}

/// A client whose own files are the test's.
pub(crate) fn client(env: &TestEnv, program: &Path) -> Lap {
    let home = env.home();
    Lap::new(program)
        .current_dir(&env.work())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", &home)
        .env("DOCKER_CONFIG", home.join(".docker"))
        .env("BUILDX_CONFIG", home.join("buildx"))
}
