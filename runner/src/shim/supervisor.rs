//! The supervisor of one container: a loop that waits for whatever happens next and deals with it.
//!
//! It is one thread. What it does per event is little and never waits for anybody: a process that does not end,
//! a reader that does not read or a client that does not answer is waited for by the loop as a whole.

mod exec;
mod requests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::event::Stream;
use base::time::Clock as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use sys::clock::SystemClock;
use sys::signals::SignalPipe;

use self::exec::{Exec, ExecId};
use super::config::{Config, STOP_TIMEOUT};
use super::connection::{ConnectionId, Connections};
use super::error::ShimError;
use super::health::Monitor;
use super::protocol::{Ended, Reply};
use super::restart::{Restarts, Run as Outcome};
use super::state::{State, Status};
use super::streams::{End, Streams};
use crate::logs::{LogDriver, LogWriter};
use crate::network::Attachment;
use crate::process::{Process, resize, start};
use crate::request::{Stdio, StreamTarget, TtySize};

/// The connection that stands for the process of the supervisor itself.
const LOCAL: ConnectionId = 0;

/// So many requests to end that somebody types make one to be killed.
const IMPATIENCE: u32 = 3;

/// How often memory is given back after the start, which took more than waiting does.
const SETTLING: u32 = 8;

/// What signals that the supervisor gets are for.
enum Signals {
    /// They stop the container: nobody else gets them.
    Stop(SignalPipe),
    /// They are passed on to the container.
    Forward(SignalPipe, fn() -> Option<TtySize>),
}

/// How a supervisor that is no process of its own is connected to the container.
pub struct Local {
    /// Signals that are passed on, but for changes of the window's size.
    pub signals: SignalPipe,
    /// Tells the size of our terminal.
    pub size: fn() -> Option<TtySize>,
    /// What the container reads.
    pub stdin: Option<OwnedFd>,
}

/// What is known of a container and what is done about it.
pub struct Supervisor {
    directory: PathBuf,
    config: Config,
    state: State,
    streams: Streams,
    connections: Connections,
    signals: Option<Signals>,
    phase: Phase,
    restarts: Restarts,
    /// When the process is killed that was asked to end.
    kill_at: Option<Instant>,
    /// Whether somebody asked for the end.
    stopped: bool,
    /// Who wants the container to be started again once it has ended.
    restarter: Option<ConnectionId>,
    /// How often somebody typed that it should end.
    interrupts: u32,
    /// Whether its output bypasses us.
    direct: bool,
    /// Further processes in the container.
    execs: Vec<Exec>,
    next_exec: ExecId,
}

enum Phase {
    /// Not started yet.
    Idle,
    Running(Box<Run>),
    /// To be started again then.
    Waiting(Instant),
    Ended,
}

/// The container's process.
struct Run {
    process: Process,
    terminal: Option<OwnedFd>,
    began: Instant,
    monitor: Option<Monitor>,
}

/// What happened.
#[derive(Clone, Copy)]
enum Event {
    NewConnection,
    Connection(ConnectionId),
    Stream(End),
    ProcessEnded,
    Exec(ExecId, End),
    ExecEnded(ExecId),
    Signal,
}

impl Supervisor {
    /// A supervisor for the container of `directory`, whose lock we hold. It starts nothing yet.
    ///
    /// # Errors
    /// Log or socket cannot be made.
    pub fn new(directory: &Path, config: Config) -> Result<Self, ShimError> {
        let log = LogWriter::open(directory, &config.log)?;
        let streams = Streams::new(log, config.stdin_once);
        // What is known of earlier runs stays known.
        let state = State::read(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            state: State { restart_count: 0, health: None, ..state },
            streams,
            connections: Connections::listen(directory)?,
            signals: None,
            phase: Phase::Idle,
            restarts: Restarts::new(config.restart),
            kill_at: None,
            stopped: false,
            restarter: None,
            interrupts: 0,
            direct: false,
            execs: Vec::new(),
            next_exec: 0,
            config,
        })
    }

    /// Takes requests, first on `starter`, until the container has ended for good and everybody has got its
    /// output, or the starter has gone without starting it.
    pub(super) fn serve(&mut self, starter: OwnedFd) -> Result<(), ShimError> {
        let caught = [Signal::TERM, Signal::INT, Signal::QUIT].map(Signal::as_raw);
        let signals = SignalPipe::new(&caught).map_err(ShimError::system("catch the signals"))?;
        self.signals = Some(Signals::Stop(signals));
        let starter = self.connections.add(starter);
        let mut settling = SETTLING;
        loop {
            self.step()?;
            if settling > 0 && matches!(self.phase, Phase::Running(_)) {
                // From here on there is little to do, perhaps for months.
                sys::memory::release();
                settling -= 1;
            }
            let is_over = match self.phase {
                Phase::Idle => self.connections.get(starter).is_none(),
                Phase::Ended => self.streams.is_flushed(),
                Phase::Running(_) | Phase::Waiting(_) => false,
            };
            if is_over {
                return Ok(());
            }
        }
    }

    /// Starts the container as part of this process. Its output is to be copied from the descriptors that are
    /// answered.
    ///
    /// # Errors
    /// The container cannot be started.
    pub fn start_here(&mut self, local: Local) -> Result<Vec<(Stream, OwnedFd)>, ShimError> {
        self.signals = Some(Signals::Forward(local.signals, local.size));
        if let Some(stdin) = local.stdin {
            self.streams.add_source(LOCAL, stdin);
        }
        self.direct = self.config.terminal.is_none() && self.config.log.driver == LogDriver::None;
        if self.direct {
            return self.start();
        }
        let mut ends = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(ShimError::system("make a pipe"))?;
            self.streams.add_outlet(LOCAL, stream, write);
            ends.push((stream, read));
        }
        self.start()?;
        Ok(ends)
    }

    /// After [`start_here`](Self::start_here): goes on until the container has ended for good.
    ///
    /// # Errors
    /// Waiting failed.
    pub fn run_here(&mut self) -> Result<Ended, ShimError> {
        while !matches!(self.phase, Phase::Ended) || !self.streams.is_flushed() {
            self.step()?;
        }
        self.streams.forget(LOCAL);
        self.streams.sweep();
        Ok(self.ended())
    }

    /// Starts the process. Answers its outputs if they bypass us.
    fn start(&mut self) -> Result<Vec<(Stream, OwnedFd)>, ShimError> {
        match self.try_start() {
            Ok(outputs) => Ok(outputs),
            Err(error) => {
                self.state.error = base::fault::chain(&error);
                self.state.exit_code = i32::from(error.exit_code());
                self.phase = Phase::Ended;
                self.state.write(&self.directory)?;
                Err(error)
            }
        }
    }

    fn try_start(&mut self) -> Result<Vec<(Stream, OwnedFd)>, ShimError> {
        let mut process = start(&self.config.request, self.stdio())?;
        let terminal = process.take_terminal();
        let (outputs, input) = ends(&mut process, terminal.as_ref())?;
        let direct = match self.direct {
            true => outputs,
            false => {
                self.streams.connect(outputs);
                Vec::new()
            }
        };
        self.streams.set_input(input);
        self.state = State {
            status: Status::Running,
            pid: process.pid()?.unwrap_or(0),
            network: process.network().map(Attachment::endpoint),
            started_at: Some(SystemClock.now()),
            exit_code: 0,
            out_of_memory: false,
            error: String::new(),
            ..std::mem::take(&mut self.state)
        };
        self.stopped = false;
        let monitor = self.config.health.clone().map(Monitor::new);
        self.state.health = monitor.as_ref().map(|monitor| monitor.health().clone());
        self.phase = Phase::Running(Box::new(Run { process, terminal, began: Instant::now(), monitor }));
        self.state.write(&self.directory)?;
        Ok(direct)
    }

    fn stdio(&self) -> Stdio {
        let stdin = if self.config.open_stdin { StreamTarget::Piped } else { StreamTarget::Null };
        match self.config.terminal {
            Some(size) => Stdio::Terminal(size),
            None => Stdio::Streams { stdin, stdout: StreamTarget::Piped, stderr: StreamTarget::Piped },
        }
    }

    /// Waits for what happens next, and deals with it.
    fn step(&mut self) -> Result<(), ShimError> {
        for (event, flags) in self.wait().map_err(ShimError::system("wait for the container"))? {
            match event {
                Event::NewConnection => self.connections.accept(),
                Event::Connection(id) => self.take_requests(id),
                Event::Stream(end) => self.streams.ready(end, flags, SystemClock.now()),
                Event::ProcessEnded => self.process_ended()?,
                Event::Exec(id, end) => self.exec_ready(id, end, flags),
                Event::ExecEnded(id) => self.exec_ended(id)?,
                Event::Signal => self.take_signals(),
            }
        }
        self.streams.sweep();
        self.sweep_execs();
        for gone in self.connections.remove_closed() {
            self.streams.forget(gone.id);
            self.forget_execs(gone.id);
            if gone.owner {
                self.kill();
            }
        }
        self.tick()
    }

    /// Does what the time has come for.
    fn tick(&mut self) -> Result<(), ShimError> {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill();
        }
        self.probe(now)?;
        if matches!(self.phase, Phase::Waiting(until) if until <= now) {
            self.state.restart_count = self.restarts.count();
            if let Err(error) = self.try_start() {
                self.state.error = base::fault::chain(&error);
                self.state.exit_code = i32::from(error.exit_code());
                self.run_ended(Duration::ZERO)?;
            }
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<(Event, PollFlags)>> {
        let mut events = vec![(Event::NewConnection, self.connections.listener(), PollFlags::IN)];
        for connection in self.connections.iter() {
            let unsent = if connection.has_unsent() { PollFlags::OUT } else { PollFlags::empty() };
            events.push((Event::Connection(connection.id), connection.as_fd(), PollFlags::IN | unsent));
        }
        if let Some(Signals::Stop(pipe) | Signals::Forward(pipe, _)) = &self.signals {
            events.push((Event::Signal, pipe.as_fd(), PollFlags::IN));
        }
        let streams = self.streams.interests().into_iter();
        events.extend(streams.map(|(end, fd, flags)| (Event::Stream(end), fd, flags)));
        for exec in &self.execs {
            let streams = exec.streams.interests().into_iter();
            events.extend(streams.map(|(end, fd, flags)| (Event::Exec(exec.id, end), fd, flags)));
            if !exec.is_told() {
                events.push((Event::ExecEnded(exec.id), exec.process.pidfd(), PollFlags::IN));
            }
        }
        // The last one, so that its output is read first.
        if let Phase::Running(run) = &self.phase {
            events.push((Event::ProcessEnded, run.process.pidfd(), PollFlags::IN));
        }
        wait_for(&events, self.deadline())
    }

    /// When something is due even if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let restart = match self.phase {
            Phase::Waiting(until) => Some(until),
            _ => None,
        };
        [restart, self.kill_at, self.probe_deadline()].into_iter().flatten().min()
    }

    fn process_ended(&mut self) -> Result<(), ShimError> {
        let Phase::Running(mut run) = std::mem::replace(&mut self.phase, Phase::Ended) else { return Ok(()) };
        if !self.direct {
            self.streams.finish(SystemClock.now());
        }
        // An error is about cleaning up; how it ended is known by then.
        let problem = run.process.wait().err();
        let finished = run.process.wait()?;
        self.state.exit_code = finished.status.code();
        self.state.out_of_memory = finished.out_of_memory;
        self.state.error = problem.map(|error| base::fault::chain(&error)).unwrap_or_default();
        if let Some(failure) = self.streams.take_log_failure() {
            self.state.error = failure;
        }
        self.run_ended(run.began.elapsed())
    }

    /// Decides how it goes on after a run of that length.
    fn run_ended(&mut self, length: Duration) -> Result<(), ShimError> {
        self.state.pid = 0;
        self.state.network = None;
        self.state.finished_at = Some(SystemClock.now());
        self.kill_at = None;
        if let Some(restarter) = self.restarter.take() {
            let reply = match self.start() {
                Ok(_) => Reply::Done,
                Err(error) => failed(&error),
            };
            self.answer(restarter, &reply);
            return Ok(());
        }
        let outcome = Outcome { succeeded: self.state.exit_code == 0, length, stopped: self.stopped };
        match self.restarts.after(outcome) {
            Some(delay) => {
                self.phase = Phase::Waiting(Instant::now() + delay);
                self.state.status = Status::Restarting;
            }
            None => {
                self.phase = Phase::Ended;
                self.state.status = Status::Exited;
            }
        }
        self.state.write(&self.directory)?;
        if matches!(self.phase, Phase::Ended) {
            self.tell_the_end();
        }
        Ok(())
    }

    fn tell_the_end(&mut self) {
        let reply = Reply::Ended(self.ended());
        for connection in self.connections.iter_mut().filter(|connection| connection.waits) {
            connection.waits = false;
            connection.owner = false;
            connection.answer(&reply);
        }
    }

    fn ended(&self) -> Ended {
        Ended { code: self.state.exit_code, out_of_memory: self.state.out_of_memory }
    }

    /// Asks the container to end, and sees to it that it does.
    fn stop(&mut self, signal: Option<i32>, timeout: Option<i64>) {
        self.stopped = true;
        self.thaw();
        match &self.phase {
            Phase::Running(run) => {
                let timeout = timeout.or(self.config.stop_timeout).unwrap_or(STOP_TIMEOUT);
                // It can only fail for a process that has ended, which is what was wanted.
                let _ = run.process.signal(signal.unwrap_or(self.config.stop_signal));
                let timeout = u64::try_from(timeout).ok().map(Duration::from_secs);
                self.kill_at = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            }
            Phase::Waiting(_) => self.give_up(),
            Phase::Idle | Phase::Ended => {}
        }
    }

    fn kill(&mut self) {
        self.kill_at = None;
        self.stopped = true;
        self.thaw();
        match &self.phase {
            // As above.
            Phase::Running(run) => drop(run.process.kill()),
            Phase::Waiting(_) => self.give_up(),
            Phase::Idle | Phase::Ended => {}
        }
    }

    /// Does not start it again.
    fn give_up(&mut self) {
        self.phase = Phase::Ended;
        self.state.status = Status::Exited;
        if let Err(error) = self.state.write(&self.directory) {
            // Nobody to tell it to; the lock says that it does not run.
            self.state.error = error.to_string();
        }
        self.tell_the_end();
    }

    fn answer(&mut self, id: ConnectionId, reply: &Reply) {
        if let Some(connection) = self.connections.get(id) {
            connection.answer(reply);
        }
    }

    fn take_signals(&mut self) {
        loop {
            let (signal, forward) = match &self.signals {
                Some(Signals::Stop(pipe)) => (pipe.next(), None),
                Some(Signals::Forward(pipe, size)) => (pipe.next(), Some(*size)),
                None => return,
            };
            let Some(signal) = signal else { return };
            match forward {
                None => self.stop(None, None),
                Some(size) if signal == Signal::WINCH.as_raw() => {
                    size().into_iter().for_each(|size| self.resize(size));
                }
                Some(_) => self.forward(signal),
            }
        }
    }

    /// Passes a signal on. Who keeps asking in vain for the end gets it.
    fn forward(&mut self, signal: i32) {
        if signal == Signal::INT.as_raw() || signal == Signal::TERM.as_raw() {
            self.interrupts += 1;
        }
        match &self.phase {
            _ if self.interrupts >= IMPATIENCE => self.kill(),
            Phase::Running(run) => drop(run.process.signal(signal)),
            _ => self.stop(None, None),
        }
    }

    fn resize(&self, size: TtySize) {
        if let Phase::Running(run) = &self.phase
            && let Some(terminal) = &run.terminal
        {
            // The terminal exists for as long as we hold it.
            let _ = resize(terminal, size);
        }
    }
}

/// The container's outputs and its input.
type Ends = (Vec<(Stream, OwnedFd)>, Option<OwnedFd>);

fn ends(process: &mut Process, terminal: Option<&OwnedFd>) -> Result<Ends, ShimError> {
    let Some(terminal) = terminal else {
        let outputs = [(Stream::Stdout, process.take_stdout()), (Stream::Stderr, process.take_stderr())];
        let outputs = outputs.into_iter().filter_map(|(stream, fd)| Some((stream, fd?))).collect();
        return Ok((outputs, process.take_stdin()));
    };
    let copy = || terminal.try_clone().map_err(ShimError::system("duplicate a descriptor"));
    Ok((vec![(Stream::Stdout, copy()?)], Some(copy()?)))
}

/// The answer that something failed.
fn failed(error: &ShimError) -> Reply {
    Reply::Failed { message: base::fault::chain(error), code: error.exit_code() }
}

/// Waits until something happens or the deadline comes.
fn wait_for<E: Copy>(
    events: &[(E, BorrowedFd<'_>, PollFlags)],
    deadline: Option<Instant>,
) -> io::Result<Vec<(E, PollFlags)>> {
    let mut polled: Vec<PollFd<'_>> =
        events.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let timeout = timeout.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let flags = polled.iter().map(PollFd::revents);
    let happened = events.iter().zip(flags).filter(|(_, flags)| !flags.is_empty());
    Ok(happened.map(|((event, ..), flags)| (*event, flags)).collect())
}
