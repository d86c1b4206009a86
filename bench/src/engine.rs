//! What one does with containers all day: `lap` beside docker's daemon and podman.
//!
//! All of it happens in a network namespace of its own, so that the bridges and firewall rules of daemons do not touch those of this
//! machine. Docker and `lap` connect their containers with their default bridge. Podman's have no network: how it makes one depends on
//! programs that Debian installs apart.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::builder::BASE;
use crate::docker::Docker;
use crate::error::BenchError;
use crate::measure::{Sample, measure, output_of, start_error};
use crate::subject::{BASE_ARCHIVE, Subjects};
use crate::work::{Samples, repeat};

/// How many containers `ps` shows, and how many `stats` looks at; and how many there are in the small variant.
const SHOWN: usize = 100;
const WATCHED: usize = 50;
const SMALL: usize = 5;

/// How long `stats` is watched itself.
const WATCHING: Duration = Duration::from_secs(10);
const SMALL_WATCHING: Duration = Duration::from_secs(1);

/// How much goes through a published port, in bytes, and in the small variant.
const SENT: usize = 8 << 30;
const SMALL_SENT: usize = 64 << 20;

/// An address of this machine that is not on loopback's own network: packets to it take the way of those from outside.
const ADDRESS: &str = "198.51.100.1";

/// The port that a server in a container listens at.
const PORT: &str = "5000";

/// The engines that work here.
struct Engines {
    /// `lap` first.
    engines: Vec<Engine>,
    docker: Option<Docker>,
    /// Podman's files about what runs: their path must not be long.
    run: Option<tempfile::TempDir>,
}

/// One of them.
struct Engine {
    name: &'static str,
    program: PathBuf,
    /// What comes before every command.
    flags: Vec<String>,
    env: Vec<(String, String)>,
    /// What removing by force needs more, so that nobody waits for a process that does not end when asked to.
    remove: &'static [&'static str],
    /// What `run` says of the network, and of what else this machine needs.
    network: &'static [&'static str],
}

impl Engines {
    /// Starts them with stores below `dir`; each has the base image.
    fn start(subjects: &Subjects, dir: &Path) -> Result<Self, BenchError> {
        enter_network_namespace()?;
        let dir = dir.join("engines");
        let base = dir.with_file_name(BASE_ARCHIVE);
        std::fs::create_dir_all(&dir).map_err(|source| BenchError::File { path: dir.clone(), source })?;
        let path = |name: &str| dir.join(name).display().to_string();
        let lap = Engine {
            name: "lap",
            program: subjects.program().to_owned(),
            flags: vec!["--root".to_owned(), path("lap")],
            env: Vec::new(),
            remove: &[],
            network: &[],
        };
        let mut engines = vec![lap];
        let mut run = None;
        if subjects.has("podman") {
            let made =
                tempfile::tempdir().map_err(|source| BenchError::File { path: "/tmp".into(), source })?;
            let run_root = run.insert(made).path().display().to_string();
            let flags = [
                "--root",
                &path("podman"),
                "--runroot",
                &run_root,
                "--cgroup-manager",
                "cgroupfs",
                "--runtime",
                "runc",
            ];
            engines.push(Engine {
                name: "podman, no network",
                program: "podman".into(),
                flags: flags.map(str::to_owned).to_vec(),
                env: Vec::new(),
                // Its own limits are more than this machine may give.
                remove: &["-t", "0"],
                network: &[
                    "--network",
                    "none",
                    "--ulimit",
                    "nofile=1024:1024",
                    "--ulimit",
                    "nproc=1000:1000",
                ],
            });
        }
        for engine in &engines {
            output_of(engine.command(&["load", "-i"]).arg(&base))?;
        }
        let docker = if subjects.has("dockerd") {
            Some(Docker::start_connected(dir.join("docker"), &base)?)
        } else {
            None
        };
        if let Some(docker) = &docker {
            let client = docker.command();
            let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
            engines.push(Engine {
                name: "docker",
                program: client.get_program().into(),
                flags: Vec::new(),
                env: client.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect(),
                remove: &[],
                network: &[],
            });
        }
        Ok(Self { engines, docker, run })
    }

    /// The same command for each of them, by name.
    fn commands(&self, words: &[&str]) -> Vec<(String, Command)> {
        self.engines.iter().map(|engine| (engine.name.to_owned(), engine.command(words))).collect()
    }
}

impl Engine {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.flags).args(words).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `run` with these flags of a command.
    fn run(&self, flags: &[&str], command: &[&str]) -> Command {
        self.command(&[&["run"], self.network, flags, &[BASE], command].concat())
    }

    /// Starts containers that sleep.
    fn sleepers(&self, count: usize) -> Result<(), BenchError> {
        (0..count).try_for_each(|_| output_of(&mut self.run(&["-d"], &["sleep", "100000"])).map(drop))
    }

    fn remove_all(&self) -> Result<(), BenchError> {
        let ids = output_of(&mut self.command(&["ps", "-aq"]))?;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if ids.is_empty() {
            Ok(())
        } else {
            output_of(self.command(&["rm", "-f"]).args(self.remove).args(ids)).map(drop)
        }
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        for engine in &self.engines {
            if let Err(error) = engine.remove_all() {
                eprintln!("{}: {error}", engine.name);
            }
        }
        self.docker = None;
        if let Some(run) = self.run.take() {
            testkit::env::unmount_below(run.path());
        }
    }
}

/// From the command to its exit code, the container made and removed.
pub(crate) fn run(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let engines = Engines::start(subjects, dir)?;
    let mut commands: Vec<_> = engines
        .engines
        .iter()
        .map(|engine| (engine.name.to_owned(), engine.run(&["--rm"], &["true"])))
        .collect();
    let alone = engines.engines[0].run(&["--rm", "--network", "none"], &["true"]);
    commands.push(("lap, no network".to_owned(), alone));
    repeat(rounds, &commands)
}

pub(crate) fn exec(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let engines = Engines::start(subjects, dir)?;
    for engine in &engines.engines {
        output_of(&mut engine.run(&["-d", "--name", "waiting"], &["sleep", "100000"]))?;
    }
    repeat(rounds.saturating_mul(3), &engines.commands(&["exec", "waiting", "true"]))
}

pub(crate) fn ps(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let engines = Engines::start(subjects, dir)?;
    let count = if subjects.is_small() { SMALL } else { SHOWN };
    engines.engines.iter().try_for_each(|engine| engine.sleepers(count))?;
    repeat(rounds, &engines.commands(&["ps"]))
}

pub(crate) fn remove(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let engines = Engines::start(subjects, dir)?;
    let mut samples: Samples =
        engines.engines.iter().map(|engine| (engine.name.to_owned(), Vec::new())).collect();
    for _ in 0..rounds {
        for (engine, (_, samples)) in engines.engines.iter().zip(&mut samples) {
            output_of(&mut engine.run(&["-d", "--name", "sleeping"], &["sleep", "100000"]))?;
            samples.push(measure(engine.command(&["rm", "-f"]).args(engine.remove).arg("sleeping"))?);
        }
    }
    Ok(samples)
}

/// The time is that which processors spend on watching for ten seconds: that of the client, and of docker's daemon.
pub(crate) fn stats(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let engines = Engines::start(subjects, dir)?;
    let count = if subjects.is_small() { SMALL } else { WATCHED };
    let mut all = Samples::new();
    for engine in engines.engines.iter().filter(|engine| !engine.name.starts_with("podman")) {
        engine.sleepers(count)?;
        let daemon = engines.docker.as_ref().filter(|_| engine.name == "docker").map(Docker::pid);
        let mut samples = Vec::new();
        for _ in 0..rounds.min(3) {
            let mut command = engine.command(&["stats"]);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let mut client = Stopped(command.spawn().map_err(|source| start_error(&command, source))?);
            let before = daemon.map_or(Duration::ZERO, processor_time);
            std::thread::sleep(subjects.of_size(WATCHING, SMALL_WATCHING));
            let time = processor_time(client.0.id()) + daemon.map_or(Duration::ZERO, processor_time) - before;
            let ended = client.0.try_wait().map_err(|source| start_error(&command, source))?;
            if let Some(status) = ended {
                let (command, status) = (crate::measure::line(&command), status.to_string());
                return Err(BenchError::Failed { command, status, output: "it ended by itself".to_owned() });
            }
            samples.push(Sample { time, memory: peak_memory(client.0.id()) });
        }
        all.push((engine.name.to_owned(), samples));
    }
    Ok(all)
}

/// Much data from this machine to a server in a container, by its published port: to the machine's own address, as others reach it, and to
/// loopback.
pub(crate) fn port(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let engines = Engines::start(subjects, dir)?;
    let amount = if subjects.is_small() { SMALL_SENT } else { SENT };
    let mut all: Samples = Vec::new();
    for round in 0..rounds.min(5) {
        for engine in engines.engines.iter().filter(|engine| !engine.name.starts_with("podman")) {
            for (kind, address) in [("", ADDRESS), (", by loopback", "127.0.0.1")] {
                let name = format!("{}{kind}", engine.name);
                // The server ends after one client, so there is one for each.
                let server = format!("nc -l -p {PORT} >/dev/null");
                let publish = format!("{address}::{PORT}");
                let id = output_of(&mut engine.run(&["-d", "-p", &publish], &["sh", "-c", &server]))?;
                let published = output_of(&mut engine.command(&["port", &id, PORT]))?;
                let sample = send(published.trim(), amount)?;
                output_of(&mut engine.command(&["rm", "-f", &id]))?;
                match all.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, samples)) => samples.push(sample),
                    None => all.push((name, vec![sample])),
                }
            }
        }
        eprintln!("  round {}", round + 1);
    }
    Ok(all)
}

/// Sends so many bytes, and waits until the server has closed the connection.
fn send(address: &str, amount: usize) -> Result<Sample, BenchError> {
    let failed = |source| BenchError::File { path: address.into(), source };
    let to: SocketAddr = address.parse().map_err(|_| failed(std::io::ErrorKind::InvalidInput.into()))?;
    let buffer = vec![b'.'; 1 << 20];
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // The server may not listen yet; what forwards to it accepts and closes, or refuses.
        let begin = Instant::now();
        let sent = TcpStream::connect(to).and_then(|mut stream| {
            for _ in 0..amount / buffer.len() {
                stream.write_all(&buffer)?;
            }
            stream.shutdown(std::net::Shutdown::Write)?;
            std::io::Read::read(&mut stream, &mut [0])
        });
        match sent {
            Ok(_) => return Ok(Sample { time: begin.elapsed(), memory: 0 }),
            Err(error) if Instant::now() > deadline => return Err(failed(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A process that is ended with this value.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What processors have spent on a process so far; zero if it is gone (`proc_pid_stat(5)`).
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    // `utime` and `stime` are the fields 14 and 15, of which the first three begin the line; ticks are hundredths of a second.
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The most resident memory that a process had, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or_default()
}

/// Gives this thread, and so what it starts from now on, a network of its own, once.
pub(crate) fn enter_network_namespace() -> Result<(), BenchError> {
    static ENTERED: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    if ENTERED.get().is_some() {
        return Ok(());
    }
    let failed =
        |errno: nix::Error| BenchError::File { path: "/proc/self/ns/net".into(), source: errno.into() };
    unshare(CloneFlags::CLONE_NEWNET).map_err(failed)?;
    output_of(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    output_of(Command::new("ip").args(["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]))?;
    let _ = ENTERED.set(());
    Ok(())
}
