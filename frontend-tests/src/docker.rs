//! Docker with BuildKit as a judge of the cases: a daemon of its own, with its own data and socket.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use testkit::{Lap as Program, LayerTar, Output};

use crate::lap::base_images;
use crate::subject::Subject;

/// How long the daemon may take between two lines of its log before it is ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon. Dropped, it ends.
pub struct Docker {
    daemon: Child,
    dir: TempDir,
    /// `/`, or where Debian packages of another release were unpacked.
    programs: PathBuf,
    /// The daemon's version.
    pub version: String,
}

impl Docker {
    /// Starts the `dockerd` below `programs` and loads the base images. The error says what is missing.
    pub fn start(programs: &Path) -> Result<Self, String> {
        Self::start_with(programs, &[])
    }

    /// As [`start`](Self::start), with further flags of the daemon.
    pub fn start_with(programs: &Path, flags: &[&str]) -> Result<Self, String> {
        let dir =
            tempfile::Builder::new().prefix("lap-judge-").tempdir().map_err(|error| error.to_string())?;
        let version = version_of(&programs.join("usr/sbin/dockerd"))?;
        let daemon = start_daemon(programs, dir.path(), flags)?;
        let mut docker = Self { daemon, dir, programs: programs.to_owned(), version };
        docker.wait_until_ready()?;
        std::fs::create_dir_all(docker.dir.path().join("config/cli-plugins"))
            .map_err(|error| error.to_string())?;
        let plugin = programs.join("usr/libexec/docker/cli-plugins/docker-buildx");
        if plugin.is_file() {
            let link = docker.dir.path().join("config/cli-plugins/docker-buildx");
            std::os::unix::fs::symlink(plugin, link).map_err(|error| error.to_string())?;
        }
        docker.load_base_images()?;
        Ok(docker)
    }

    /// Forgets all images and cached steps but the base images, so that a case sees nothing of another.
    pub fn reset(&self) -> Result<(), String> {
        for args in [["builder", "prune", "--all", "--force"], ["image", "rm", "--force", "case"]] {
            self.command().args(args).run();
        }
        Ok(())
    }

    /// The version of the Dockerfile frontend that the daemon's BuildKit has built in.
    pub fn frontend(&self) -> &'static str {
        match self.version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(..=20) => "1.2",
            Some(21..=23) => "1.4",
            Some(24..=25) => "1.6",
            Some(26) => "1.7",
            Some(27) => "1.9",
            _ => "1.14",
        }
    }

    fn load_base_images(&self) -> Result<(), String> {
        for image in base_images() {
            let archive = self.dir.path().join("base.tar");
            image.write_archive(&archive);
            let output = self.command().args(["load", "--input"]).arg(&archive).run();
            if output.code() != Some(0) {
                return Err(format!("the judge cannot load {}\n{output}", image.name()));
            }
        }
        Ok(())
    }

    /// Writes the archive of an image that has no layers.
    fn save_config(&self, image: &str, to: &Path) -> Output {
        let output = self.command().args(["image", "inspect", "--format", "{{.Id}}", image]).run();
        let id = output.stdout_text().trim().replace("sha256:", "");
        let path = self.dir.path().join("data/image/overlay2/imagedb/content/sha256").join(&id);
        let config = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let manifest = r#"[{"Config":"config.json","Layers":[]}]"#;
        let archive =
            LayerTar::new().file("manifest.json", 0o644, manifest).file("config.json", 0o644, config);
        std::fs::write(to, archive.finish()).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
        output
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let log = self.daemon.stderr.take().expect("the pipe was asked for");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads on when nobody listens any more, so that the pipe never fills.
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut last = String::new();
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if line.contains("API listen on") {
                return Ok(());
            }
            last = line;
        }
        Err(format!("dockerd is not ready; its last line was: {last}"))
    }

    /// The `docker` command for this daemon.
    pub fn command(&self) -> Program {
        Program::new(&self.programs.join("usr/bin/docker"))
            .env("PATH", path(&self.programs))
            .env("HOME", self.dir.path())
            .env("DOCKER_HOST", socket(self.dir.path()))
            .env("DOCKER_CONFIG", self.dir.path().join("config"))
            .env("DOCKER_BUILDKIT", "1")
            .deadline(Duration::from_secs(60))
    }
}

impl Subject for Docker {
    fn build(&self, args: &[String], env: &BTreeMap<String, String>, stdin: Vec<u8>) -> Output {
        let command = self
            .command()
            .args(["build", "--progress", "plain", "--network", "host"])
            .args(args)
            .stdin(stdin);
        env.iter().fold(command, |command, (name, value)| command.env(name, value)).run()
    }

    fn prune(&self, args: &[String]) -> Output {
        self.command().args(["builder", "prune", "--force"]).args(args).run()
    }

    fn why(&self, _: &str) -> Option<String> {
        None
    }

    fn save(&self, image: &str, to: &Path) -> Output {
        let output = self.command().args(["save", image, "-o"]).arg(to).run();
        // Docker refuses to save an image without layers; its config is among the daemon's own files.
        if output.stderr_text().contains("empty export") { self.save_config(image, to) } else { output }
    }

    fn run(&self, args: &[String]) -> Output {
        self.command().args(["run", "--rm", "--network", "none"]).args(args).run()
    }

    fn is_lap(&self) -> bool {
        false
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Asked to end, the daemon also ends its containerd.
        if let Ok(pid) = i32::try_from(self.daemon.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.daemon.wait();
        testkit::env::unmount_below(self.dir.path());
    }
}

fn version_of(dockerd: &Path) -> Result<String, String> {
    let output = Command::new(dockerd).arg("--version").output();
    let output =
        output.map_err(|error| format!("{}: {error}; apt-get install docker.io", dockerd.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split(' ').nth(2).and_then(|word| word.split(['+', ',']).next());
    version
        .map(str::to_owned)
        .ok_or_else(|| format!("{} does not tell its version: {text}", dockerd.display()))
}

fn start_daemon(programs: &Path, dir: &Path, flags: &[&str]) -> Result<Child, String> {
    let mut command = Command::new(programs.join("usr/sbin/dockerd"));
    command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
    command.arg("--pidfile").arg(dir.join("pid")).arg("--host").arg(socket(dir));
    // Nothing here needs a network, so the host's firewall and bridges are left alone.
    command.args(["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bridge=none"]);
    command.args(flags).env("PATH", path(programs));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(|error| format!("start dockerd: {error}"))
}

/// The usual directories, those below `programs` first. Its `runc` is left out: one of a newer release may need a
/// newer C library, and the machine's own does.
fn path(programs: &Path) -> String {
    let own = programs.join("usr/bin");
    format!("{}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", own.display())
}

fn socket(dir: &Path) -> String {
    format!("unix://{}", dir.join("docker.sock").display())
}
