//! The supervisor of one container: a loop that waits for whatever happens next and deals with it.
//!
//! It is one thread. What it does per event is little and never waits for anybody: a process that does not end,
//! a reader that does not read or a client that does not answer is waited for by the loop as a whole.

mod ending;
mod exec;
mod halting;
mod life;
mod memory;
mod networks;
mod requests;
mod waiting;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::event::Stream;
use base::time::Clock as _;
use rustix::process::Signal;
use sys::clock::SystemClock;
use sys::signals::SignalPipe;

use self::ending::Signals;
use self::exec::{Exec, ExecId};
use self::halting::Halted;
use self::memory::Kills;
use self::waiting::Event;
use super::config::Config;
use super::connection::{ConnectionId, Connections, Waiters};
use super::error::ShimError;
use super::health::Monitor;
use super::news::Teller;
use super::protocol::{Ended, Reply};
use super::restart::Restarts;
use super::state::State;
use super::streams::Streams;
use crate::logs::remote::Encrypt;
use crate::logs::{Log, LogDriver};
use crate::process::Process;
use crate::request::TtySize;

/// The connection that stands for the process of the supervisor itself.
const LOCAL: ConnectionId = 0;

/// How long somebody may leave the last output of a container unread that others want to have.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often memory is given back after the start, which took more than waiting does.
const SETTLING: u32 = 8;

/// How a supervisor that is no process of its own is connected to the container.
pub struct Local {
    /// Signals that are passed on, but for changes of the window's size.
    pub signals: SignalPipe,
    /// Tells the size of our terminal.
    pub size: fn() -> Option<TtySize>,
    /// What the container reads.
    pub stdin: Option<OwnedFd>,
}

/// What a supervisor has of whoever starts it.
pub struct Surroundings {
    /// Who hears what happens.
    pub teller: Box<dyn Teller>,
    /// How the log is encrypted on its way, if it is.
    pub encrypt: Encrypt,
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
    /// When those who are attached to a container that has ended are given up.
    give_up_at: Option<Instant>,
    /// Whether it was started, or that was tried.
    started: bool,
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
    /// Processes that somebody has stopped for a moment.
    halted: Option<Halted>,
    /// Who hears what happens.
    teller: Box<dyn Teller>,
    /// Whether somebody wants to hear that it has stopped.
    stopping: bool,
    /// How the log is encrypted on its way.
    encrypt: Encrypt,
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
    /// What the kernel kills for lack of memory.
    kills: Kills,
}

impl Supervisor {
    /// A supervisor for the container of `directory`, whose lock we hold. It starts nothing yet.
    ///
    /// # Errors
    /// Log or socket cannot be made.
    pub fn new(directory: &Path, config: Config, surroundings: Surroundings) -> Result<Self, ShimError> {
        let log = Log::open(directory, &config.log)?;
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
            give_up_at: None,
            started: false,
            stopped: false,
            restarter: None,
            interrupts: 0,
            direct: false,
            execs: Vec::new(),
            next_exec: 0,
            halted: None,
            teller: surroundings.teller,
            stopping: false,
            encrypt: surroundings.encrypt,
            config,
        })
    }

    /// Ends all that it does, up to the last file of the log, and leaves those who wait to be told of it.
    pub fn into_waiters(self) -> Waiters {
        Waiters(self.connections)
    }

    /// Takes requests, first on `starter`, until the container has ended for good and everybody has got its
    /// output, or the starter and all others have gone without starting it.
    pub(super) fn serve(&mut self, starter: OwnedFd) -> Result<(), ShimError> {
        let caught = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::CHILD].map(Signal::as_raw);
        let signals = SignalPipe::new(&caught).map_err(ShimError::system("catch the signals"))?;
        self.signals = Some(Signals::Stop(signals));
        self.connections.add(starter);
        let mut settling = SETTLING;
        loop {
            self.step()?;
            if settling > 0 && matches!(self.phase, Phase::Running(_)) {
                // From here on there is little to do, perhaps for months.
                sys::memory::release();
                settling -= 1;
            }
            let is_over = match self.phase {
                Phase::Idle => self.connections.is_empty(),
                Phase::Ended => self.streams.is_flushed(),
                Phase::Running(_) | Phase::Waiting(_) => false,
            };
            if is_over {
                return self.tell_of_lost_records();
            }
        }
    }

    /// Whether the container was started, or that was tried.
    pub(super) fn was_started(&self) -> bool {
        self.started
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
        self.tell_of_lost_records()?;
        self.streams.forget(LOCAL);
        self.streams.sweep();
        Ok(self.ended())
    }

    /// Notes that records did not get where they were to go. What was not sent by now is not.
    fn tell_of_lost_records(&mut self) -> Result<(), ShimError> {
        match self.streams.abandon_log() {
            Some(failure) if matches!(self.phase, Phase::Ended) => {
                self.state.error = failure;
                Ok(self.state.write(&self.directory)?)
            }
            _ => Ok(()),
        }
    }

    /// Waits for what happens next, and deals with it.
    fn step(&mut self) -> Result<(), ShimError> {
        for (event, flags) in self.wait().map_err(ShimError::system("wait for the container"))? {
            match event {
                Event::NewConnection => self.connections.accept(),
                Event::Connection(id) => self.take_requests(id),
                Event::Stream(end) => self.streams.ready(end, flags, SystemClock.now()),
                Event::Shortage => self.memory_ran_out()?,
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
            self.go_on(gone.id);
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
        if self.give_up_at.is_some_and(|at| at <= now) {
            self.streams.give_up();
        }
        self.probe(now)?;
        self.look_for_kills(now)?;
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

    fn answer(&mut self, id: ConnectionId, reply: &Reply) {
        if let Some(connection) = self.connections.get(id) {
            connection.answer(reply);
        }
    }
}

/// The answer that something failed.
fn failed(error: &ShimError) -> Reply {
    Reply::Failed { message: base::fault::chain(error), code: error.exit_code() }
}
