//! Processes over the results of a build: frontends, and what clients start to look around. They belong to no step, and what
//! they write goes with them, but for caches.

use std::os::fd::OwnedFd;

use base::CancelToken;
use frontend::low_level::Container;
use llb::ExecOp;
use runner::{Process, RunRequest, Stdio, TtySize};
use snapshotter::ActiveSnapshot;

use super::{Session, Solved};
use crate::error::EngineError;
use crate::ops::{BuildGroup, Filesystem, StepMounts, Surroundings};
use crate::request::BuildRequest;

/// A running process. Dropping it ends it.
pub struct SessionProcess {
    process: Process,
    /// What a further process of the same container begins with.
    request: RunRequest,
    /// The container's filesystems, which the first process keeps.
    _held: Option<(StepMounts, ActiveSnapshot, BuildGroup)>,
}

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
            portable: None,
        };
        let mounts = surroundings.mounts(op, &filesystems, &CancelToken::new())?;
        let request = surroundings.process(op, root, &active, &mounts)?;
        let process = runner::start(&request, stdio(terminal))?;
        Ok(SessionProcess { process, request, _held: Some((mounts, active, group)) })
    }
}

impl SessionProcess {
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
        let process = self.process.exec(&request, stdio(terminal))?;
        Ok(Self { process, request, _held: None })
    }

    /// Our ends of its streams, once.
    pub fn take_streams(&mut self) -> Streams {
        Streams {
            stdin: self.process.take_stdin(),
            stdout: self.process.take_stdout(),
            stderr: self.process.take_stderr(),
            terminal: self.process.take_terminal(),
        }
    }

    /// Sends it a signal, by its name with or without `SIG`.
    ///
    /// # Errors
    /// There is no such signal, or it cannot be sent.
    pub fn signal(&self, name: &str) -> Result<(), EngineError> {
        Ok(self.process.signal(runner::signal::parse(name)?)?)
    }

    /// Waits for its end, and answers its exit code: 128 and the signal's number, if one has ended it.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait(&mut self) -> Result<i32, EngineError> {
        Ok(self.process.wait()?.status.code())
    }

    /// The exit code, if it has ended.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn try_wait(&mut self) -> Result<Option<i32>, EngineError> {
        Ok(self.process.try_wait()?.map(|finished| finished.status.code()))
    }
}

/// Gives a terminal another size.
///
/// # Errors
/// It is none.
pub fn resize(terminal: &OwnedFd, rows: u16, columns: u16) -> std::io::Result<()> {
    runner::resize(terminal, TtySize { rows, columns })
}
