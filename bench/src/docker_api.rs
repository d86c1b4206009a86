//! `lap daemon` beside docker's daemon, both through the same `docker` command.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::builder::BASE;
use crate::daemon::Daemon;
use crate::docker::Docker;
use crate::engine::enter_network_namespace;
use crate::error::BenchError;
use crate::measure::{measure, output_of};
use crate::subject::{BASE_ARCHIVE, Subjects};
use crate::transfer;
use crate::work::{Samples, rebuilt, repeat};

/// The client of both.
const CLIENT: &str = "/usr/bin/docker";

/// How much a container says, in bytes, and how much is copied; and both where all is small.
const SAID: u64 = 100_000_000;
const COPIED: u64 = 1 << 30;
const SMALL: u64 = 1 << 20;

/// How many containers there are when they are listed.
const SHOWN: usize = 20;

/// Both daemons; docker's only if it is here.
struct Daemons {
    ours: Daemon,
    theirs: Option<Docker>,
    dir: PathBuf,
}

impl Daemons {
    fn start(subjects: &Subjects, dir: &Path) -> Result<Self, BenchError> {
        enter_network_namespace()?;
        let dir = dir.join("docker-api");
        let base = dir.with_file_name(BASE_ARCHIVE);
        std::fs::create_dir_all(&dir).map_err(|source| BenchError::File { path: dir.clone(), source })?;
        let archive = dir.join(BASE_ARCHIVE);
        std::fs::copy(&base, &archive).map_err(|source| BenchError::File { path: archive, source })?;
        let ours = Daemon::start(subjects, dir.join("lap"))?;
        let theirs = match subjects.has("dockerd") {
            true => Some(Docker::start_connected(dir.join("docker"), &base)?),
            false => None,
        };
        Ok(Self { ours, theirs, dir })
    }

    /// The same command for each of them, by name.
    fn commands(&self, words: &[&str]) -> Vec<(String, Command)> {
        let mut ours = Command::new(CLIENT);
        ours.env("DOCKER_HOST", self.ours.address()).env("DOCKER_CONFIG", self.dir.join("config"));
        ours.env("DOCKER_BUILDKIT", "1");
        let mut all = vec![("lap daemon".to_owned(), ours)];
        all.extend(self.theirs.iter().map(|docker| ("docker".to_owned(), docker.command())));
        for (_, command) in &mut all {
            command.args(words);
        }
        all
    }

    /// Words that are other words each time, by a shell: a file that is replaced waits for the disk that has not written it yet.
    fn anew(&self, words: &str) -> Vec<(String, Command)> {
        let mut all = self.commands(&[]);
        for (_, command) in &mut all {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {CLIENT} {words}")]);
            shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            *command = shell;
        }
        all
    }

    /// Does the same with each of them, and does not measure it.
    fn prepare(&self, words: &[&str]) -> Result<(), BenchError> {
        self.commands(words).iter_mut().try_for_each(|(_, command)| output_of(command).map(drop))
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for (name, mut command) in self.commands(&["ps", "-aq"]) {
            let ids = output_of(&mut command).unwrap_or_default();
            let ids: Vec<&str> = ids.split_whitespace().collect();
            let words = [&["rm", "-f"], ids.as_slice()].concat();
            for (other, mut command) in self.commands(&words) {
                if other == name && !ids.is_empty() {
                    let _ = output_of(&mut command);
                }
            }
        }
    }
}

/// From the command to its exit code, the container made and removed.
pub(crate) fn run(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemons = Daemons::start(subjects, dir)?;
    repeat(rounds, &daemons.commands(&["run", "--rm", BASE, "true"]))
}

pub(crate) fn exec(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemons = Daemons::start(subjects, dir)?;
    daemons.prepare(&["run", "-d", "--name", "waiting", BASE, "sleep", "100000"])?;
    repeat(rounds, &daemons.commands(&["exec", "waiting", "true"]))
}

pub(crate) fn ps(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemons = Daemons::start(subjects, dir)?;
    (0..SHOWN).try_for_each(|_| daemons.prepare(&["create", BASE, "true"]))?;
    repeat(rounds, &daemons.commands(&["ps", "-a"]))
}

/// What the client itself takes, which nobody who serves it can make shorter.
pub(crate) fn version(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemons = Daemons::start(subjects, dir)?;
    repeat(rounds, &daemons.commands(&["version"]))
}

pub(crate) fn logs(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemons = Daemons::start(subjects, dir)?;
    let said = subjects.of_size(SAID, SMALL);
    let script = format!(
        "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c {said}"
    );
    daemons.prepare(&["run", "-d", "--name", "said", BASE, "sh", "-c", &script])?;
    daemons.prepare(&["wait", "said"])?;
    repeat(rounds.min(3), &daemons.commands(&["logs", "said"]))
}

/// Twenty steps, all of them found.
pub(crate) fn build(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemons = Daemons::start(subjects, dir)?;
    let context = rebuilt(dir);
    let path = context.path().display().to_string();
    let words = ["build", "--quiet", "--network", "none", "--tag", "result", &path];
    daemons.prepare(&words)?;
    repeat(rounds, &daemons.commands(&words))
}

/// A file of a gibibyte out of a container.
pub(crate) fn copy_out(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemons = Daemons::start(subjects, dir)?;
    let copied = subjects.of_size(COPIED, SMALL);
    let script = format!("head -c {copied} /dev/urandom > /file");
    daemons.prepare(&["run", "--name", "full", BASE, "sh", "-c", &script])?;
    let to = daemons.dir.join("copied").display().to_string();
    repeat(rounds.min(3), &daemons.anew(&format!("cp full:/file {to}-$$")))
}

/// The same into one.
pub(crate) fn copy_in(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemons = Daemons::start(subjects, dir)?;
    daemons.prepare(&["create", "--name", "empty", BASE, "true"])?;
    let from = daemons.dir.join("file");
    let copied = subjects.of_size(COPIED, SMALL);
    output_of(
        Command::new("sh").args(["-c", &format!("head -c {copied} /dev/urandom > {}", from.display())]),
    )?;
    repeat(rounds.min(3), &daemons.anew(&format!("cp {} empty:/file-$$", from.display())))
}

/// An image of a gibibyte, which is not there before.
pub(crate) fn load(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemons = Daemons::start(subjects, dir)?;
    let archive = transfer::large_archive(subjects, dir)?.display().to_string();
    let commands = daemons.commands(&["load", "--input", &archive]);
    let mut samples: Samples = commands.iter().map(|(name, _)| (name.clone(), Vec::new())).collect();
    for _ in 0..rounds.min(3) {
        for ((_, command), (_, samples)) in commands.iter().zip(&mut samples) {
            nix::unistd::sync();
            samples.push(measure(command)?);
        }
        daemons.prepare(&["rmi", transfer::NAME])?;
    }
    Ok(samples)
}
