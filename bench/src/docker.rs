//! Debian's `docker.io` as a subject: a daemon of its own, building with the BuildKit in it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::builder::{BASE, Builder, RESULT};
use crate::error::BenchError;
use crate::measure::{line, output_of, start_error};

/// How long the daemon may take between two lines of its log before it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon. Dropped, it ends.
pub(crate) struct Docker {
    daemon: Child,
    dir: PathBuf,
}

impl Docker {
    /// Starts a daemon with its data below `dir`, loads the base image and tries whether a RUN works here.
    pub(crate) fn start(dir: PathBuf, base: &Path, trial: &Path) -> Result<Self, BenchError> {
        // Nothing here needs a network, so the host's firewall and bridges are left alone.
        let network = ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bridge=none"];
        let docker = Self::start_with(dir, base, &network)?;
        output_of(&mut docker.build(trial))?;
        Ok(docker)
    }

    /// Starts a daemon that connects containers as daemons do, and loads the base image. The network namespace should be one that
    /// nobody else needs.
    pub(crate) fn start_connected(dir: PathBuf, base: &Path) -> Result<Self, BenchError> {
        Self::start_with(dir, base, &[])
    }

    fn start_with(dir: PathBuf, base: &Path, flags: &[&str]) -> Result<Self, BenchError> {
        std::fs::create_dir_all(&dir).map_err(|source| BenchError::File { path: dir.clone(), source })?;
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("--pidfile").arg(dir.join("pid")).arg("--host").arg(socket(&dir));
        command.args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let daemon = command.spawn().map_err(|source| start_error(&command, source))?;
        let mut docker = Self { daemon, dir };
        docker.wait_until_ready(&line(&command))?;
        output_of(docker.command().arg("load").arg("--input").arg(base))?;
        Ok(docker)
    }

    /// The daemon's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    fn wait_until_ready(&mut self, command: &str) -> Result<(), BenchError> {
        let (sender, lines) = mpsc::channel();
        if let Some(log) = self.daemon.stderr.take() {
            std::thread::spawn(move || {
                // Reads on when nobody listens any more, so that the pipe never fills.
                for line in BufReader::new(log).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let mut last = String::new();
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if line.contains("API listen on") {
                return Ok(());
            }
            last = line;
        }
        Err(BenchError::NotReady { command: command.to_owned(), output: last })
    }

    /// Debian's client, not another that may lie before it in `PATH` without the BuildKit plugin.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("/usr/bin/docker");
        command.env("DOCKER_HOST", socket(&self.dir)).env("DOCKER_CONFIG", self.dir.join("config"));
        command.env("DOCKER_BUILDKIT", "1");
        command
    }
}

impl Builder for Docker {
    fn name(&self) -> &str {
        "docker, BuildKit"
    }

    fn docker_client(&self) -> Option<Command> {
        Some(self.command())
    }

    fn build(&self, context: &Path) -> Command {
        let mut command = self.command();
        command.args(["build", "--quiet", "--network", "none", "--tag", RESULT]);
        command.arg(context);
        command
    }

    fn start_true(&self) -> Option<Command> {
        let mut command = self.command();
        command.args(["run", "--rm", "--network", "none", BASE, "true"]);
        Some(command)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Asked to end, the daemon also ends its containerd.
        if let Ok(pid) = i32::try_from(self.daemon.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.daemon.wait();
        testkit::env::unmount_below(&self.dir);
    }
}

fn socket(dir: &Path) -> String {
    format!("unix://{}", dir.join("docker.sock").display())
}
