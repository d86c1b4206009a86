//! `lap daemon` as a subject, with a store of its own that has the base image.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::BenchError;
use crate::measure::{output_of, start_error};
use crate::subject::{BASE_ARCHIVE, Subjects};

/// How long a daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running daemon. Dropped, it ends.
pub(crate) struct Daemon {
    process: Child,
    dir: PathBuf,
    program: PathBuf,
}

impl Daemon {
    /// Starts one with its store below `dir`, which is made, beside the archive of the base image.
    pub(crate) fn start(subjects: &Subjects, dir: PathBuf) -> Result<Self, BenchError> {
        std::fs::create_dir_all(&dir).map_err(|source| BenchError::File { path: dir.clone(), source })?;
        let mut command = Command::new(subjects.program());
        command.arg("--root").arg(dir.join("store"));
        command.args(["daemon", "--addr", &address(&dir)]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|source| start_error(&command, source))?;
        let daemon = Self { process, dir, program: subjects.program().to_owned() };
        output_of(daemon.lap().arg("load").arg("--input").arg(daemon.dir.with_file_name(BASE_ARCHIVE)))?;
        let begin = Instant::now();
        while !daemon.dir.join("daemon.sock").exists() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        address(&self.dir)
    }

    /// `lap` with the same store.
    pub(crate) fn lap(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.dir.join("store"));
        command
    }

    /// The resident memory of the daemon, in KiB (`proc_pid_smaps_rollup(5)`).
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.process.id());
        let rollup = std::fs::read_to_string(path).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.process.wait();
        testkit::env::unmount_below(&self.dir);
    }
}

fn address(dir: &Path) -> String {
    format!("unix://{}", dir.join("daemon.sock").display())
}
