//! Processes over the results of a build: frontends, and what clients start to look around. They belong to no step, and what
//! they write goes with them, but for caches.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frontend::low_level::Container;
use llb::ExecOp;
use runner::Files;
use runner::{KeptLayers, Process, RunRequest, Stdio, TtySize};
use snapshotter::tree::TreeError;
use snapshotter::{ActiveSnapshot, Tree};

use super::{FoundFile, Session, Solved, found_at, read_names, read_range};
use crate::error::EngineError;
use crate::ops::{BuildGroup, Filesystem, StepMounts, Surroundings};
use crate::request::BuildRequest;

/// A running process. Dropping it ends it.
pub struct SessionProcess {
    process: Mutex<Process>,
    /// For those who wait, so that they keep nobody from starting others in its container.
    pidfd: OwnedFd,
    streams: Mutex<Streams>,
    /// What a further process of the same container begins with.
    request: RunRequest,
    /// The container's filesystems, which the first process keeps.
    _held: Option<Held>,
}

type Held = (StepMounts, ActiveSnapshot, BuildGroup);

/// Our ends of a process's streams.
#[derive(Debug, Default)]
pub struct Streams {
    /// What we write comes to its input.
    pub stdin: Option<OwnedFd>,
    /// What it writes.
    pub stdout: Option<OwnedFd>,
    /// Its errors.
    pub stderr: Option<OwnedFd>,
    /// All of them, of a process with a terminal.
    pub terminal: Option<OwnedFd>,
}

/// What a process has for its streams.
fn stdio(terminal: bool) -> Stdio {
    if terminal { Stdio::Terminal(crate::run::USUAL_SIZE) } else { Stdio::PIPED }
}

impl Session<'_> {
    /// Starts a process in a container of its own. `inputs` are what the container's inputs mean by their numbers, and
    /// `request` has the secrets and settings.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        &self,
        container: &Container,
        inputs: &[Option<(&Solved, usize)>],
        request: &BuildRequest,
        terminal: bool,
    ) -> Result<SessionProcess, EngineError> {
        let cancel = self.fetcher.cancel;
        let filesystem = |number: &i64| {
            let input =
                usize::try_from(*number).ok().and_then(|number| inputs.get(number)).copied().flatten();
            let root = input.and_then(|(solved, image)| solved.roots.get(image).copied().flatten());
            root.map(|root| self.sharing.here(root, cancel)).transpose()
        };
        let filesystems: Vec<Option<Filesystem>> =
            container.inputs.iter().map(filesystem).collect::<Result<_, _>>()?;
        let op = &container.op;
        let root = filesystems.first().copied().flatten().filter(|_| op.has_root);
        let engine = self.fetcher.engine;
        let active = engine.store.prepare(self.fetcher.lease, root.map(|root| root.snapshot))?;
        let group = BuildGroup::default();
        let surroundings = Surroundings {
            engine,
            lease: self.fetcher.lease,
            secrets: &request.secrets,
            ssh: &request.ssh,
            settings: &request.steps,
            group: &group,
            layers: KeptLayers::default(),
            portable: None,
        };
        let mounts = surroundings.mounts(op, &filesystems, cancel)?;
        let request = surroundings.process(op, root, &active, &mounts)?;
        let process = runner::start(&request, stdio(terminal))?;
        SessionProcess::of(process, request, Some((mounts, active, group)))
    }
}

impl SessionProcess {
    fn of(mut process: Process, request: RunRequest, held: Option<Held>) -> Result<Self, EngineError> {
        let pidfd = process.pidfd().try_clone_to_owned().map_err(EngineError::Wait)?;
        let streams = Streams {
            stdin: process.take_stdin(),
            stdout: process.take_stdout(),
            stderr: process.take_stderr(),
            terminal: process.take_terminal(),
        };
        Ok(Self { process: Mutex::new(process), pidfd, streams: Mutex::new(streams), request, _held: held })
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a further process in the container of this one. Of `op` only what concerns the process itself counts.
    ///
    /// # Errors
    /// The container has ended, or the process cannot be started.
    pub fn further(&self, op: &ExecOp, terminal: bool) -> Result<Self, EngineError> {
        let mut env = op.env.clone();
        if !env.iter().any(|entry| entry.starts_with("HOME=")) {
            env.extend(self.request.env.iter().filter(|entry| entry.starts_with("HOME=")).cloned());
        }
        let (args, cwd) = (op.args.clone(), op.cwd.clone());
        let request = RunRequest { args, env, cwd, ..self.request.clone() };
        let process = self.lock().exec(&request, stdio(terminal))?;
        Self::of(process, request, None)
    }

    /// Our ends of its streams, once.
    pub fn take_streams(&self) -> Streams {
        std::mem::take(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends it a signal, by its name with or without `SIG`.
    ///
    /// # Errors
    /// There is no such signal, or it cannot be sent.
    pub fn signal(&self, name: &str) -> Result<(), EngineError> {
        Ok(self.lock().signal(runner::signal::parse(name)?)?)
    }

    /// Ends it.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn kill(&self) -> Result<(), EngineError> {
        Ok(self.lock().kill()?)
    }

    /// Waits for its end, and answers its exit code: 128 and the signal's number, if one has ended it.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait(&self) -> Result<i32, EngineError> {
        runner::wait_for_end(&self.pidfd, None).map_err(EngineError::Wait)?;
        Ok(self.lock().wait()?.status.code())
    }

    /// The exit code, if it has ended or does so within `limit`.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait_for(&self, limit: Duration) -> Result<Option<i32>, EngineError> {
        runner::wait_for_end(&self.pidfd, Some(limit)).map_err(EngineError::Wait)?;
        self.try_wait()
    }

    /// The exit code, if it has ended.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn try_wait(&self) -> Result<Option<i32>, EngineError> {
        Ok(self.lock().try_wait()?.map(|finished| finished.status.code()))
    }

    /// The beginning of a file in its container, as for results.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub fn read_file(&self, path: &str, range: (u64, u64)) -> Result<Vec<u8>, EngineError> {
        self.look(|tree| read_range(tree, path, range))
    }

    /// What is in a directory of its container.
    ///
    /// # Errors
    /// There is no such directory, or it cannot be read.
    pub fn read_dir(&self, path: &str) -> Result<Vec<FoundFile>, EngineError> {
        self.look(|tree| read_names(tree, path))
    }

    /// What is known of a file in its container. A link in the last place is not followed.
    ///
    /// # Errors
    /// There is no such file.
    pub fn stat_file(&self, path: &str) -> Result<FoundFile, EngineError> {
        self.look(|tree| found_at(tree, path))
    }

    /// Looks at the files of its container: as its processes see them while it runs, and what they have left afterwards.
    fn look<T>(&self, look: impl FnOnce(&Tree) -> Result<T, EngineError>) -> Result<T, EngineError> {
        let running = if self.is_running() { Files::of_process(&self.lock())? } else { None };
        let files = match running {
            Some(files) => files,
            None => Files::of_stopped(&self.request)?,
        };
        let found = {
            let tree = Tree::of_open(files.root().open_dir("").map_err(TreeError::from)?);
            look(&tree)
        };
        files.close()?;
        found
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.try_wait().is_ok_and(|code| code.is_none())
    }
}

/// Gives a terminal another size.
///
/// # Errors
/// It is none.
pub fn resize(terminal: &OwnedFd, rows: u16, columns: u16) -> std::io::Result<()> {
    runner::resize(terminal, TtySize { rows, columns })
}
