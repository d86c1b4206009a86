//! What a supervisor is asked for, and its answers.

use std::os::fd::{AsFd as _, OwnedFd};

use base::event::Stream;
use rustix::process::Signal;

use super::super::config::Config;
use super::super::connection::ConnectionId;
use super::super::news::News;
use super::super::protocol::{Reply, Request, Update, send};
use super::super::state::Status;
use super::{Phase, Supervisor, failed};
use crate::cgroup::Changed;
use crate::request::Limits;
use crate::spec::resources;

/// Why a container in the foreground cannot be limited later.
const UNGROUPED: &str = "it has no control group: a container that runs in the foreground with --rm has one only for the limits that it was started with";

impl Supervisor {
    /// Deals with what has come over a connection.
    pub(super) fn take_requests(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        connection.flush();
        for (request, descriptors) in connection.requests() {
            if let Some(reply) = self.request(id, request, descriptors) {
                self.answer(id, &reply);
            }
        }
    }

    /// Does what was asked for. `None` when the answer comes later.
    fn request(&mut self, id: ConnectionId, request: Request, descriptors: Vec<OwnedFd>) -> Option<Reply> {
        match request {
            Request::Start => Some(match self.phase {
                Phase::Idle => self.start().map_or_else(|error| failed(&error), |_| Reply::Done),
                Phase::Ended => Reply::Ended(self.ended()),
                _ => Reply::Already,
            }),
            Request::Status => Some(Reply::State(Box::new(self.state.clone()))),
            Request::Settings => Some(Reply::Settings(Box::new(self.config.clone()))),
            Request::Wait => self.wait_for_end(id),
            Request::WaitNext => {
                if let Some(connection) = self.connections.get(id) {
                    connection.waits_next = true;
                }
                None
            }
            Request::Signal { signal } => Some(self.signal(signal)),
            Request::Stop { signal, timeout } => {
                self.state.stopped = true;
                self.stopping = !matches!(self.phase, Phase::Ended | Phase::Idle);
                self.stop(signal, timeout);
                self.wait_for_end(id)
            }
            Request::Restart { signal, timeout } => {
                self.restarter = Some(id);
                match self.phase {
                    Phase::Running(_) => self.stop(signal, timeout),
                    Phase::Idle => {
                        self.restarter = None;
                        return Some(self.start().map_or_else(|error| failed(&error), |_| Reply::Done));
                    }
                    // It is started at once.
                    _ => drop(self.run_ended(std::time::Duration::ZERO)),
                }
                None
            }
            Request::Attach { stdin, stdout, stderr, owner } => {
                Some(self.attach(id, [stdin, stdout, stderr], owner, descriptors))
            }
            Request::Detach => {
                self.streams.forget(id);
                self.leave_execs(id);
                if let Some(connection) = self.connections.get(id) {
                    connection.owner = false;
                    connection.waits = false;
                }
                self.teller.tell(News::Detached);
                Some(Reply::Done)
            }
            Request::Renamed { name } => {
                self.teller.renamed(name);
                Some(Reply::Done)
            }
            Request::Resize(size) if self.resize_exec(id, size) => Some(Reply::Done),
            Request::Resize(size) => {
                self.config.terminal = self.config.terminal.map(|_| size);
                self.resize(size);
                self.teller.tell(News::Resized(size));
                Some(Reply::Done)
            }
            Request::Pause => Some(self.freeze(true)),
            Request::Resume => Some(self.freeze(false)),
            Request::Halt => Some(self.halt(id)),
            Request::GoOn => {
                self.go_on(id);
                Some(Reply::Done)
            }
            Request::Update(update) => {
                Some(self.update(&update).map_or_else(|refusal| refused(&refusal), |()| Reply::Done))
            }
            Request::JoinNetwork(wanted) => Some(self.join_network(*wanted)),
            Request::LeaveNetwork { network, name } => Some(self.leave_network(&network, &name)),
            Request::RemoveLink { alias } => Some(self.remove_link(&alias)),
            Request::Files => Some(self.hand_files_over(&descriptors)),
            Request::Exec(execution) => self.exec(id, &execution, descriptors),
        }
    }

    /// Sends the root directory of the container over a socket that came with the request.
    fn hand_files_over(&self, descriptors: &[OwnedFd]) -> Reply {
        let Phase::Running(run) = &self.phase else { return refused("it is not running") };
        let [socket] = descriptors else { return refused("the descriptors do not fit the request") };
        let root = match run.process.pid() {
            Ok(Some(pid)) => crate::files::root_of(pid).map_err(|error| base::fault::chain(&error)),
            Ok(None) => Err("it is not running".to_owned()),
            Err(error) => Err(base::fault::chain(&error)),
        };
        // Who does not read is not waited for.
        let sent = root.and_then(|root| {
            let sent = rustix::io::ioctl_fionbio(socket, true).map_err(std::io::Error::from);
            sent.and_then(|()| send(socket, &Reply::Done, &[root.as_fd()])).map_err(|error| error.to_string())
        });
        sent.map_or_else(|why| refused(&why), |()| Reply::Done)
    }

    /// Freezes the container or lets it go on.
    fn freeze(&mut self, freeze: bool) -> Reply {
        let (from, to) = match freeze {
            true => (Status::Running, Status::Paused),
            false => (Status::Paused, Status::Running),
        };
        let Phase::Running(run) = &self.phase else { return refused("it is not running") };
        if self.state.status != from {
            return refused(if freeze { "it is already paused" } else { "it is not paused" });
        }
        let Some(group) = run.process.group() else {
            return refused("it has no control group that could be frozen");
        };
        if let Err(error) = if freeze { group.freeze() } else { group.thaw() } {
            return refused(&base::fault::chain(&error));
        }
        self.state.status = to;
        self.teller.tell(if freeze { News::Paused } else { News::Unpaused });
        match self.state.write(&self.directory) {
            Ok(()) => Reply::Done,
            Err(error) => failed(&error),
        }
    }

    /// Changes limits and the restart policy, or nothing.
    fn update(&mut self, update: &Update) -> Result<(), String> {
        let (config, told) = self.config.updated(update).map_err(|refusal| refusal.to_string())?;
        let resources = resources::of_limits(&told);
        let changed = match &self.phase {
            _ if told == Limits::default() => None,
            Phase::Running(run) => {
                let group = run.process.group().ok_or(UNGROUPED)?;
                Some(group.change(&resources).map_err(|error| base::fault::chain(&error))?)
            }
            // They hold from its next start on.
            Phase::Idle | Phase::Waiting(_) | Phase::Ended => None,
        };
        // A container that goes with its command has no file of it.
        let written = match Config::is_written(&self.directory) {
            Ok(true) => config.write(&self.directory),
            other => other.map(drop),
        };
        if let Err(error) = written {
            changed.into_iter().for_each(Changed::undo);
            return Err(base::fault::chain(&error));
        }
        self.restarts.set_policy(config.restart);
        self.config = config;
        self.teller.tell(News::Updated);
        Ok(())
    }

    /// Lets a frozen container go on, so that it can end.
    pub(super) fn thaw(&mut self) {
        if self.state.status == Status::Paused {
            // What fails here is told by whoever looks at the container, which is still paused.
            let _ = self.freeze(false);
        }
    }

    fn wait_for_end(&mut self, id: ConnectionId) -> Option<Reply> {
        if matches!(self.phase, Phase::Ended) {
            return Some(Reply::Ended(self.ended()));
        }
        if let Some(connection) = self.connections.get(id) {
            connection.waits = true;
        }
        None
    }

    fn signal(&mut self, signal: i32) -> Reply {
        let Phase::Running(run) = &self.phase else { return refused("it is not running") };
        // Who sends these wants it to end.
        if signal == self.config.stop_signal || signal == Signal::KILL.as_raw() {
            (self.stopped, self.state.stopped) = (true, true);
        }
        match run.process.signal(signal) {
            Ok(()) => {
                self.teller.tell(News::Killed(signal));
                Reply::Done
            }
            Err(error) => refused(&base::fault::chain(&error)),
        }
    }

    fn attach(
        &mut self,
        id: ConnectionId,
        wanted: [bool; 3],
        owner: bool,
        descriptors: Vec<OwnedFd>,
    ) -> Reply {
        if self.direct {
            return refused("its output goes to the command that runs it in the foreground");
        }
        if matches!(self.phase, Phase::Ended) {
            return Reply::Ended(self.ended());
        }
        if wanted.iter().filter(|wanted| **wanted).count() != descriptors.len() {
            return refused("the descriptors do not fit the request");
        }
        let Some(connection) = self.connections.get(id) else { return Reply::Done };
        connection.owner = owner;
        connection.waits = true;
        let [stdin, stdout, stderr] = wanted;
        let mut descriptors = descriptors.into_iter();
        if stdin && let Some(fd) = descriptors.next() {
            self.streams.add_source(id, fd);
        }
        for (wanted, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            if wanted && let Some(fd) = descriptors.next() {
                self.streams.add_outlet(id, stream, fd);
            }
        }
        self.teller.tell(News::Attached);
        Reply::Done
    }
}

pub(super) fn refused(message: &str) -> Reply {
    Reply::Failed { message: message.to_owned(), code: 1 }
}
