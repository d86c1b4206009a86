//! Further processes in the container: for those who ask for one, and for health checks.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use base::Timestamp;
use base::event::Stream;
use base::time::Clock as _;
use sys::clock::SystemClock;

use super::super::connection::ConnectionId;
use super::super::error::ShimError;
use super::super::health::{MAX_OUTPUT, Monitor, Outcome, TIMED_OUT};
use super::super::news::News;
use super::super::protocol::{Ended, Execution, Reply};
use super::super::state::Status;
use super::super::streams::{End, Streams};
use super::life::ends;
use super::requests::refused;
use super::{LOCAL, Phase, Supervisor, failed};
use crate::process::{Process, resize};
use crate::request::{RunRequest, Stdio, StreamTarget, TtySize};

/// A number for a further process, never used twice.
pub(super) type ExecId = u64;

/// A further process.
pub(super) struct Exec {
    pub(super) id: ExecId,
    /// Who asked for it; [`LOCAL`] for a health check and for what nobody waits for.
    of: ConnectionId,
    pub(super) process: Process,
    terminal: Option<OwnedFd>,
    pub(super) streams: Streams,
    /// What it is for, if it is a health check.
    probe: Option<Probe>,
    /// What it is called in news.
    name: Option<String>,
    /// Whether it goes on when who asked for it has gone.
    lingers: bool,
    /// Whether its end was told.
    told: bool,
}

/// A health check that runs.
struct Probe {
    began: Duration,
    start: Timestamp,
    kill_at: Instant,
    timed_out: bool,
}

impl Exec {
    /// Whether its end was told.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }
}

impl Supervisor {
    /// Starts what somebody asked for. `None` when the answer comes with its end.
    pub(super) fn exec(
        &mut self,
        of: ConnectionId,
        execution: &Execution,
        descriptors: Vec<OwnedFd>,
    ) -> Option<Reply> {
        if self.state.status == Status::Paused {
            return Some(refused("the container is paused, unpause it before exec"));
        }
        let mut streams = Streams::new(None, true);
        let [stdin, stdout, stderr] = execution.streams;
        if execution.streams.iter().filter(|wanted| **wanted).count() != descriptors.len() {
            return Some(refused("the descriptors do not fit the request"));
        }
        let mut descriptors = descriptors.into_iter();
        if stdin && let Some(fd) = descriptors.next() {
            streams.add_source(of, fd);
        }
        for (wanted, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            if wanted && let Some(fd) = descriptors.next() {
                streams.add_outlet(of, stream, fd);
            }
        }
        let request = execution.request(&self.config.request);
        let stdin = if stdin { StreamTarget::Piped } else { StreamTarget::Null };
        let stdio = match execution.terminal {
            Some(size) => Stdio::Terminal(size),
            None => Stdio::Streams { stdin, stdout: StreamTarget::Piped, stderr: StreamTarget::Piped },
        };
        let owner = if execution.detach { LOCAL } else { of };
        match self.start_exec(owner, &request, stdio, streams, None) {
            Ok(()) => {
                self.tell_exec(execution.id.clone(), &execution.args);
                let exec = self.execs.last_mut()?;
                exec.lingers = execution.lingers;
                Some(Reply::Executing { pid: exec.process.pid().ok().flatten().unwrap_or(0) })
            }
            Err(error) => Some(failed(&error)),
        }
    }

    /// Tells of the further process that was started last.
    fn tell_exec(&mut self, id: Option<String>, args: &[String]) {
        let id = id.map_or_else(|| sys::random::hex(32), Ok);
        if let (Some(exec), Ok(id)) = (self.execs.last_mut(), id) {
            exec.name = Some(id.clone());
            self.teller.tell(News::ExecStarted { id, command: args.join(" ") });
        }
    }

    fn start_exec(
        &mut self,
        of: ConnectionId,
        request: &RunRequest,
        stdio: Stdio,
        mut streams: Streams,
        probe: Option<Probe>,
    ) -> Result<(), ShimError> {
        let Phase::Running(run) = &self.phase else {
            return Err(crate::error::RunError::NotRunning.into());
        };
        let mut process = run.process.exec(request, stdio)?;
        let terminal = process.take_terminal();
        let (outputs, input) = ends(&mut process, terminal.as_ref())?;
        streams.connect(outputs);
        streams.set_input(input);
        self.next_exec += 1;
        let id = self.next_exec;
        let (name, lingers) = (None, false);
        self.execs.push(Exec { id, of, process, terminal, streams, probe, name, lingers, told: false });
        Ok(())
    }

    /// Does what has become possible for a further process.
    pub(super) fn exec_ready(&mut self, id: ExecId, end: End, flags: rustix::event::PollFlags) {
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.id == id) {
            exec.streams.ready(end, flags, SystemClock.now());
        }
    }

    /// A further process has ended.
    pub(super) fn exec_ended(&mut self, id: ExecId) -> Result<(), ShimError> {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.id == id && !exec.told) else {
            return Ok(());
        };
        exec.told = true;
        exec.streams.finish(SystemClock.now());
        let finished = exec.process.wait()?;
        let ended = Ended { code: finished.status.code(), out_of_memory: false };
        let (of, probe, output) = (exec.of, exec.probe.take(), exec.streams.take_captured());
        if let Some(id) = exec.name.take() {
            self.teller.tell(News::ExecDied { id, code: ended.code });
        }
        if of != LOCAL {
            self.answer(of, &Reply::Ended(ended));
        }
        match probe {
            Some(probe) => self.probe_ended(&probe, ended.code, output),
            None => Ok(()),
        }
    }

    /// The container has ended, and its further processes with it. Those without a process id namespace to end them
    /// are ended here.
    pub(super) fn end_execs(&mut self) -> Result<(), ShimError> {
        let left: Vec<ExecId> = self.execs.iter().filter(|exec| !exec.told).map(|exec| exec.id).collect();
        for id in left {
            if let Some(exec) = self.execs.iter().find(|exec| exec.id == id) {
                // It can only fail for a process that has ended, which is what was wanted.
                let _ = exec.process.kill();
            }
            self.exec_ended(id)?;
        }
        Ok(())
    }

    /// Forgets further processes that have ended and whose output was taken.
    pub(super) fn sweep_execs(&mut self) {
        self.execs.iter_mut().for_each(|exec| exec.streams.sweep());
        self.execs.retain(|exec| !exec.told || !exec.streams.is_flushed());
    }

    /// Lets go on alone what somebody asked for who leaves it.
    pub(super) fn leave_execs(&mut self, of: ConnectionId) {
        for exec in self.execs.iter_mut().filter(|exec| exec.of == of) {
            exec.streams.forget(of);
            exec.of = LOCAL;
        }
    }

    /// Ends what somebody asked for who has gone.
    pub(super) fn forget_execs(&mut self, of: ConnectionId) {
        for exec in self.execs.iter_mut().filter(|exec| exec.of == of) {
            exec.streams.forget(of);
            if exec.lingers {
                exec.of = LOCAL;
            } else {
                // It can only fail for a process that has ended, which is what was wanted.
                let _ = exec.process.kill();
            }
        }
    }

    /// Changes the size of the terminal that somebody has asked for. `false` when there is none.
    pub(super) fn resize_exec(&self, of: ConnectionId, size: TtySize) -> bool {
        let found = self.execs.iter().find(|exec| exec.of == of);
        if let Some(terminal) = found.and_then(|exec| exec.terminal.as_ref()) {
            // The terminal exists for as long as we hold it.
            let _ = resize(terminal, size);
        }
        found.is_some()
    }

    /// When the next health check is due, or the one that runs has taken too long.
    pub(super) fn probe_deadline(&self) -> Option<Instant> {
        let Phase::Running(run) = &self.phase else { return None };
        let monitor = run.monitor.as_ref()?;
        match self.execs.iter().find_map(|exec| exec.probe.as_ref()) {
            Some(probe) if probe.timed_out => None,
            Some(probe) => Some(probe.kill_at),
            None if self.state.status == Status::Paused => None,
            None => run.began.checked_add(monitor.next()),
        }
    }

    /// Begins or ends a health check, the time for which has come.
    pub(super) fn probe(&mut self, now: Instant) -> Result<(), ShimError> {
        if self.probe_deadline().is_none_or(|due| due > now) {
            return Ok(());
        }
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.probe.is_some()) {
            if let Some(probe) = &mut exec.probe {
                probe.timed_out = true;
            }
            // As above.
            let _ = exec.process.kill();
            return Ok(());
        }
        self.begin_probe(now)
    }

    fn begin_probe(&mut self, now: Instant) -> Result<(), ShimError> {
        let Phase::Running(run) = &self.phase else { return Ok(()) };
        let Some(check) = run.monitor.as_ref().map(Monitor::check) else { return Ok(()) };
        let probe = Probe {
            began: now.duration_since(run.began),
            start: SystemClock.now(),
            kill_at: now + check.timeout,
            timed_out: false,
        };
        let mut request = self.config.request.clone();
        request.args.clone_from(&check.command);
        let stdio = Stdio::CAPTURED;
        let command = check.command.clone();
        let (began, start, kill_at) = (probe.began, probe.start, probe.kill_at);
        match self.start_exec(LOCAL, &request, stdio, Streams::capturing(MAX_OUTPUT), Some(probe)) {
            Ok(()) => {
                self.tell_exec(None, &command);
                Ok(())
            }
            Err(error) => {
                let probe = Probe { began, start, kill_at, timed_out: false };
                let output = base::fault::chain(&error).into_bytes();
                self.probe_ended(&probe, i32::from(error.exit_code()), output)
            }
        }
    }

    fn probe_ended(&mut self, probe: &Probe, code: i32, output: Vec<u8>) -> Result<(), ShimError> {
        let Phase::Running(run) = &mut self.phase else { return Ok(()) };
        let ended = run.began.elapsed();
        let Some(monitor) = &mut run.monitor else { return Ok(()) };
        let mut output = String::from_utf8_lossy(&output).into_owned();
        if probe.timed_out {
            output = format!("health check exceeded timeout ({:?})", monitor.check().timeout);
        }
        let exit_code = if probe.timed_out { TIMED_OUT } else { code };
        let outcome = Outcome { start: probe.start, end: SystemClock.now(), exit_code, output };
        let before = monitor.health().status;
        monitor.finished(probe.began, ended, outcome);
        let now = monitor.health().status;
        self.state.health = Some(monitor.health().clone());
        if now != before {
            self.teller.tell(News::Health(now));
        }
        self.state.write(&self.directory)
    }
}
