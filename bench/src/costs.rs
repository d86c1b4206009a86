//! What this machine takes for the things that no program can avoid, measured in the same run: bytes, system calls, processes. From
//! them comes how fast a work could be at best.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::error::BenchError;
use crate::measure::start_error;
use crate::subject::Subjects;
use crate::work::{FEW, FILE_SIZE, LARGE_FILE, STEPS};

/// How many bytes and files are tried, and how many where all is small.
const BYTES: usize = 256 << 20;
const SMALL_BYTES: usize = 4 << 20;
const FILES: usize = 10_000;
const SMALL_FILES: usize = 200;

/// How often a process, a mount and namespaces are made.
const OFTEN: u32 = 50;

/// Mounts without which a container is none: its root, proc, sys, and what is in dev.
const MOUNTS: u32 = 7;

/// What one of each takes.
pub(crate) struct Costs {
    /// Writing a byte into a file, and copying one from a file to another.
    write: f64,
    copy: f64,
    /// Asking for the status of a file, reading a file of 4 KiB, removing it.
    status: f64,
    read: f64,
    /// Removing a byte of a large file.
    remove: f64,
    /// A process from start to end, a mount and its end, the namespaces of a container.
    process: f64,
    mount: f64,
    namespaces: f64,
    processors: f64,
    files: usize,
    large: usize,
    steps: usize,
}

/// How fast a work could be, and why.
pub(crate) struct Limit {
    pub(crate) time: Duration,
    pub(crate) words: String,
}

impl Costs {
    /// Tries each of them in a directory.
    pub(crate) fn measure(subjects: &Subjects, dir: &Path) -> Result<Self, BenchError> {
        let dir = dir.join("costs");
        let failed = |source| BenchError::File { path: dir.clone(), source };
        fs::create_dir(&dir).map_err(failed)?;
        nix::unistd::sync();
        let bytes = subjects.of_size(BYTES, SMALL_BYTES);
        let [write, copy, remove] = of_bytes(&dir, bytes).map_err(failed)?;
        let [status, read] = of_files(&dir, subjects.of_size(FILES, SMALL_FILES)).map_err(failed)?;
        let (place, busybox) = (dir.join("mount"), Path::new("/bin/busybox"));
        fs::create_dir(&place).map_err(failed)?;
        let [mount, namespaces] = std::thread::scope(|scope| {
            // The thread leaves the namespaces of the others for good.
            scope.spawn(|| of_namespaces(&place)).join().unwrap_or(Ok([0.0; 2]))
        })
        .map_err(|errno| failed(errno.into()))?;
        let costs = Self {
            write,
            copy,
            status,
            read,
            remove,
            process: of_process(busybox)?,
            mount,
            namespaces,
            #[expect(clippy::cast_precision_loss, reason = "machines have few processors")]
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64,
            files: subjects.many_files(),
            large: subjects.of_size(LARGE_FILE, SMALL_BYTES),
            steps: subjects.of_size(STEPS, FEW),
        };
        fs::remove_dir_all(&dir).map_err(failed)?;
        Ok(costs)
    }

    /// One line for each, for the results.
    pub(crate) fn describe(&self) -> Vec<String> {
        let rate = |cost: f64| format!("{:.1} GB/s", 1e-9 / cost);
        let micro = |cost: f64| format!("{:.1} µs", cost * 1e6);
        vec![
            format!("bytes: written {}, copied {}", rate(self.write), rate(self.copy)),
            format!(
                "system calls: status of a file {}, open, read and close one of 4 KiB {}, mount and unmount {}, namespaces of a container {}",
                micro(self.status),
                micro(self.read),
                micro(self.mount),
                micro(self.namespaces)
            ),
            format!("a process from start to end: {}", micro(self.process)),
        ]
    }

    /// A process that finds that there is nothing to do.
    pub(crate) fn nothing(&self) -> Limit {
        limit(self.process + 50.0 * self.status, "a process, 50 × status".to_owned())
    }

    /// The same, with many files to look at.
    pub(crate) fn look(&self) -> Limit {
        let look = count(self.files) * self.status / self.processors;
        limit(self.process + look, format!("a process, {} × status", self.files))
    }

    /// Many small files gathered in one.
    pub(crate) fn gather(&self) -> Limit {
        let read = count(self.files) * self.read / self.processors;
        let time = self.process + read + count(self.files * FILE_SIZE) * self.write;
        limit(time, format!("a process, {} × open, read, close, {}", self.files, self.written()))
    }

    /// The bytes of many small files, and a container.
    pub(crate) fn unpack(&self) -> Limit {
        let time = count(self.files * FILE_SIZE) * self.write + self.one_container();
        limit(time, format!("{}, a container", self.written()))
    }

    /// A file as large as many small ones is removed.
    pub(crate) fn forget(&self) -> Limit {
        let bytes = self.files * FILE_SIZE;
        let time = self.process + count(bytes) * self.remove;
        limit(time, format!("a process, a file of {} MB removed", bytes / 1_000_000))
    }

    /// One large file copied.
    pub(crate) fn large(&self) -> Limit {
        let time = self.process + count(self.large) * self.copy;
        limit(time, format!("a process, {} MB copied", self.large / 1_000_000))
    }

    /// The steps of a build of trivial ones.
    pub(crate) fn steps(&self) -> Limit {
        self.containers(self.steps)
    }

    /// Containers one after the other.
    pub(crate) fn containers(&self, number: usize) -> Limit {
        let words = format!("{number} × (a process, namespaces, {MOUNTS} × mount)");
        limit(count(number) * self.one_container(), words)
    }

    fn one_container(&self) -> f64 {
        self.process + self.namespaces + f64::from(MOUNTS) * self.mount
    }

    fn written(&self) -> String {
        format!("{} MB written", self.files * FILE_SIZE / 1_000_000)
    }
}

fn limit(seconds: f64, words: String) -> Limit {
    Limit { time: Duration::from_secs_f64(seconds.max(0.0)), words }
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Seconds since `begin` for each of so many.
fn each(begin: Instant, number: usize) -> f64 {
    begin.elapsed().as_secs_f64() / count(number)
}

/// Writing, copying and removing one byte.
fn of_bytes(dir: &Path, bytes: usize) -> std::io::Result<[f64; 3]> {
    let (from, to) = (dir.join("from"), dir.join("to"));
    let piece = vec![b'.'; 1 << 20];
    let begin = Instant::now();
    let mut file = File::create(&from)?;
    for _ in 0..bytes / piece.len() {
        file.write_all(&piece)?;
    }
    let write = each(begin, bytes);
    let begin = Instant::now();
    fs::copy(&from, &to)?;
    let copy = each(begin, bytes);
    let begin = Instant::now();
    fs::remove_file(&to)?;
    Ok([write, copy, each(begin, bytes)])
}

/// The status and the content of one small file.
fn of_files(dir: &Path, files: usize) -> std::io::Result<[f64; 2]> {
    let paths: Vec<PathBuf> = (0..files).map(|number| dir.join(format!("file{number}"))).collect();
    let mut content = vec![b'.'; FILE_SIZE];
    for path in &paths {
        fs::write(path, &content)?;
    }
    let begin = Instant::now();
    for path in &paths {
        fs::symlink_metadata(path)?;
    }
    let status = each(begin, files);
    let begin = Instant::now();
    for path in &paths {
        File::open(path)?.read_exact(&mut content)?;
    }
    Ok([status, each(begin, files)])
}

/// A small static program that does nothing.
fn of_process(busybox: &Path) -> Result<f64, BenchError> {
    let begin = Instant::now();
    for _ in 0..OFTEN {
        let mut command = Command::new(busybox);
        command.arg("true").status().map_err(|source| start_error(&command, source))?;
    }
    Ok(begin.elapsed().as_secs_f64() / f64::from(OFTEN))
}

/// One mount and its end, and the namespaces of one container. This thread has others from then on.
fn of_namespaces(place: &Path) -> nix::Result<[f64; 2]> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let begin = Instant::now();
    for _ in 0..OFTEN {
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        umount2(place, MntFlags::MNT_DETACH)?;
    }
    let mounted = begin.elapsed().as_secs_f64() / f64::from(OFTEN);
    let begin = Instant::now();
    for _ in 0..OFTEN {
        let kinds = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
        unshare(kinds | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
    }
    Ok([mounted, begin.elapsed().as_secs_f64() / f64::from(OFTEN)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_sums_of_what_was_measured() {
        let costs = Costs {
            write: 1e-9,
            copy: 2e-9,
            status: 1e-6,
            read: 4e-6,
            remove: 1e-10,
            process: 1e-3,
            mount: 1e-4,
            namespaces: 1e-3,
            processors: 2.0,
            files: 50_000,
            large: 1 << 30,
            steps: 100,
        };
        let ms = |limit: Limit| limit.time.as_millis();
        assert_eq!(ms(costs.nothing()), 1);
        assert_eq!(ms(costs.look()), 26);
        assert_eq!(ms(costs.gather()), 1 + 100 + 204);
        assert_eq!(ms(costs.forget()), 1 + 20);
        assert_eq!(ms(costs.large()), 1 + 2147);
        assert_eq!(ms(costs.containers(10)), 27);
        assert_eq!(costs.gather().words, "a process, 50000 × open, read, close, 204 MB written");
    }
}
