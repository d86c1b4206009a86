//! The runs of a container: its process is started, and when that has ended it is decided how it goes on.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use base::event::Stream;
use base::time::Clock as _;
use sys::clock::SystemClock;

use super::super::error::ShimError;
use super::super::health::Monitor;
use super::super::news::News;
use super::super::protocol::{Ended, Reply};
use super::super::restart::Run as Outcome;
use super::super::state::{State, Status};
use super::memory::Kills;
use super::{Phase, Run, Supervisor, failed};
use crate::network::Attachment;
use crate::network::endpoint::NetworkName;
use crate::process::{Process, start};
use crate::request::{Stdio, StreamTarget};

impl Supervisor {
    /// Starts the process. Answers its outputs if they bypass us.
    pub(super) fn start(&mut self) -> Result<Vec<(Stream, OwnedFd)>, ShimError> {
        self.started = true;
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

    pub(super) fn try_start(&mut self) -> Result<Vec<(Stream, OwnedFd)>, ShimError> {
        self.streams
            .connect_log(self.encrypt)
            .map_err(|source| ShimError::Log { driver: self.config.log.driver.name(), source })?;
        let mut process = start(&self.config.request, self.stdio())?;
        process.share_layers();
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
            further_networks: process.network().map(Attachment::further_endpoints).unwrap_or_default(),
            group: process.group().map(|group| group.directories().to_vec()).unwrap_or_default(),
            started_at: Some(SystemClock.now()),
            exit_code: 0,
            out_of_memory: false,
            error: String::new(),
            stopped: false,
            ..std::mem::take(&mut self.state)
        };
        self.stopped = false;
        self.give_up_at = None;
        let monitor = self.config.health.clone().map(Monitor::new);
        self.state.health = monitor.as_ref().map(|monitor| monitor.health().clone());
        let kills = Kills::watch(process.group());
        let run = Run { process, terminal, began: Instant::now(), monitor, kills };
        self.phase = Phase::Running(Box::new(run));
        self.state.write(&self.directory)?;
        self.tell_networks(&[]);
        self.teller.tell(News::Started);
        Ok(direct)
    }

    fn stdio(&self) -> Stdio {
        let stdin = if self.config.open_stdin { StreamTarget::Piped } else { StreamTarget::Null };
        match self.config.terminal {
            Some(size) => Stdio::Terminal(size),
            None => Stdio::Streams { stdin, stdout: StreamTarget::Piped, stderr: StreamTarget::Piped },
        }
    }

    pub(super) fn process_ended(&mut self) -> Result<(), ShimError> {
        let Phase::Running(mut run) = std::mem::replace(&mut self.phase, Phase::Ended) else { return Ok(()) };
        if !self.direct {
            self.streams.finish(SystemClock.now());
        }
        // An error is about cleaning up; how it ended is known by then.
        let problem = run.process.wait().err();
        let finished = run.process.wait()?;
        self.end_execs()?;
        if run.kills.untold(finished.memory_kills) > 0 {
            self.teller.tell(News::OutOfMemory);
        }
        self.teller.tell(News::Died { code: finished.status.code(), ran: run.began.elapsed() });
        self.state.exit_code = finished.status.code();
        self.state.out_of_memory = finished.out_of_memory();
        self.state.error = problem.map(|error| base::fault::chain(&error)).unwrap_or_default();
        if let Some(failure) = self.streams.take_log_failure() {
            self.state.error = failure;
        }
        self.run_ended(run.began.elapsed())
    }

    /// Decides how it goes on after a run of that length.
    pub(super) fn run_ended(&mut self, length: Duration) -> Result<(), ShimError> {
        self.state.pid = 0;
        let networks = networks_of(&self.state);
        self.state.network = None;
        self.state.further_networks.clear();
        self.state.group.clear();
        self.tell_networks(&networks);
        self.state.finished_at = Some(SystemClock.now());
        self.kill_at = None;
        if let Some(restarter) = self.restarter.take() {
            let reply = match self.start() {
                Ok(_) => {
                    self.teller.tell(News::Restarted);
                    Reply::Done
                }
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
                let reply = Reply::Ended(self.ended());
                for connection in self.connections.iter_mut().filter(|connection| connection.waits_next) {
                    connection.waits_next = false;
                    connection.answer(&reply);
                }
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

    /// Tells which networks the container has joined or left since it was in those.
    pub(super) fn tell_networks(&mut self, before: &[Option<NetworkName>]) {
        let now = networks_of(&self.state);
        for joined in now.iter().filter(|network| !before.contains(network)) {
            self.teller.tell(News::JoinedNetwork(joined.clone()));
        }
        for left in before.iter().filter(|network| !now.contains(network)) {
            self.teller.tell(News::LeftNetwork(left.clone()));
        }
    }

    pub(super) fn tell_the_end(&mut self) {
        if std::mem::take(&mut self.stopping) {
            self.teller.tell(News::Stopped);
        }
        let reply = Reply::Ended(self.ended());
        for connection in self.connections.iter_mut().filter(|one| one.waits || one.waits_next) {
            connection.waits = false;
            connection.waits_next = false;
            connection.owner = false;
            connection.answer(&reply);
        }
    }

    pub(super) fn ended(&self) -> Ended {
        Ended { code: self.state.exit_code, out_of_memory: self.state.out_of_memory }
    }
}

/// The networks that a container is in; the default one has no name.
pub(super) fn networks_of(state: &State) -> Vec<Option<NetworkName>> {
    state.network.iter().chain(&state.further_networks).map(|endpoint| endpoint.network.clone()).collect()
}

/// The container's outputs and its input.
pub(super) type Ends = (Vec<(Stream, OwnedFd)>, Option<OwnedFd>);

pub(super) fn ends(process: &mut Process, terminal: Option<&OwnedFd>) -> Result<Ends, ShimError> {
    let Some(terminal) = terminal else {
        let outputs = [(Stream::Stdout, process.take_stdout()), (Stream::Stderr, process.take_stderr())];
        let outputs = outputs.into_iter().filter_map(|(stream, fd)| Some((stream, fd?))).collect();
        return Ok((outputs, process.take_stdin()));
    };
    let copy = || terminal.try_clone().map_err(ShimError::system("duplicate a descriptor"));
    Ok((vec![(Stream::Stdout, copy()?)], Some(copy()?)))
}
