//! The streams of containers for those who have no terminal to connect them with: as the ends of pipes.
//!
//! A container that does not run yet has nobody who could connect them. Its supervisor is started for that, and waits: it
//! starts the container when it is asked to, by whomever, and goes with the last who was waiting.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use base::event::Stream;
use runner::shim::{Client, Reply, Request, ShimError, Status};
use runner::{OurEnds, TtySize};

use super::remove::pause;
use crate::Engine;
use crate::error::EngineError;

/// How long somebody else may have a container who neither runs nor starts it.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// A process whose streams are pipes that end here. Dropped, they are closed, and the process goes on.
#[derive(Debug)]
pub struct Connected {
    /// Where its input is written to, if that was asked for.
    pub stdin: Option<OwnedFd>,
    /// Where its outputs are read from. A terminal has one.
    pub outputs: Vec<(Stream, OwnedFd)>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Its id as its supervisor sees it; 0 where that is not known.
    pub pid: u32,
    /// Who tells of it.
    pub teller: Told,
}

/// Who tells how a process goes on. Readable ([`AsFd`]) when there is something to be told.
#[derive(Debug)]
pub struct Told(Client);

/// What is told of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Nothing more by now.
    Nothing,
    /// What was asked for is done.
    Done,
    /// It has ended with this code.
    Ended(i32),
    /// What was asked for cannot be done, and why.
    Refused(String),
    /// Nobody tells any more.
    Gone,
}

/// What becomes of a container that is to be started by a supervisor who waits.
pub(super) enum Waiting {
    /// It runs.
    Started,
    /// Somebody else has started it.
    Already,
    /// It has run, and its supervisor is about to go.
    Ended,
    /// There is no such supervisor.
    Nobody,
}

impl Told {
    /// What is told next. Call it until it is [`Said::Nothing`] before waiting for more.
    pub fn said(&mut self) -> Said {
        let mut reply = self.0.received();
        loop {
            match reply {
                Ok(Some(Reply::Ended(ended))) => return Said::Ended(ended.code),
                Ok(Some(Reply::Done)) => return Said::Done,
                Ok(None) => match self.0.poll() {
                    Ok(None) => return Said::Nothing,
                    next => reply = next,
                },
                Ok(Some(_)) => reply = self.0.received(),
                Err(ShimError::Refused { message, .. }) => return Said::Refused(message),
                Err(_) => return Said::Gone,
            }
        }
    }

    /// Gives its terminal another size.
    ///
    /// # Errors
    /// Its supervisor has gone.
    pub fn resize(&self, size: TtySize) -> Result<(), EngineError> {
        Ok(self.0.tell(&Request::Resize(size))?)
    }

    /// Says that the streams are left on purpose.
    ///
    /// # Errors
    /// Its supervisor has gone.
    pub fn detach(&self) -> Result<(), EngineError> {
        Ok(self.0.tell(&Request::Detach)?)
    }

    /// The same, for those who only say something.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn another(&self) -> Result<Self, EngineError> {
        Ok(Self(self.0.another()?))
    }
}

impl AsFd for Told {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Connected {
    pub(super) fn new(client: Client, (stdin, outputs): OurEnds, terminal: bool, pid: u32) -> Self {
        Self { stdin, outputs, terminal, pid, teller: Told(client) }
    }
}

impl Engine {
    /// Connects with those of a container's input, output and errors that are `wanted` and that it has. One that does not
    /// run is connected with before its next start.
    ///
    /// # Errors
    /// There is no such container, or its supervisor refuses.
    pub fn connect_container(&self, name: &str, wanted: [bool; 3]) -> Result<Connected, EngineError> {
        let container = self.container(name)?;
        let [stdin, stdout, stderr] = wanted;
        let terminal = container.document.tty;
        let outputs = if terminal { [stdout || stderr, false] } else { [stdout, stderr] };
        let [stdout, stderr] = outputs;
        let stdin = stdin && container.document.open_stdin;
        let request = Request::Attach { stdin, stdout, stderr, owner: false };
        let deadline = Instant::now() + SILENCE;
        loop {
            let mut client = self.supervisor_or_new(&container.id)?;
            match runner::connect(&mut client, [stdin, stdout, stderr], &request) {
                // Its supervisor is about to go.
                Ok((_, Reply::Ended(_))) | Err(ShimError::Gone) if Instant::now() < deadline => {
                    // Who does not read its last output may not keep it for ever.
                    let _ = client.tell(&Request::Stop { signal: None, timeout: None });
                    client.wait_until_gone();
                }
                Ok((ends, _)) => return Ok(Connected::new(client, ends, terminal, 0)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Who tells when a container ends the next time, and is gone when it has been removed at its end. One that does not run
    /// is waited for until it has been started and has ended.
    ///
    /// # Errors
    /// There is no such container.
    pub fn told_of_next_end(&self, name: &str) -> Result<Told, EngineError> {
        let record = self.find_container(name)?;
        let client = self.supervisor_or_new(&record.id)?;
        client.tell(&Request::WaitNext)?;
        Ok(Told(client))
    }

    /// Who tells when a container has ended for good; `None` of one that does not run.
    ///
    /// # Errors
    /// There is no such container.
    pub fn told_of_end(&self, name: &str) -> Result<Option<Told>, EngineError> {
        let container = self.container(name)?;
        if !container.state.status.is_live() {
            return Ok(None);
        }
        let Some(client) = self.supervisor(&container.id)? else { return Ok(None) };
        Ok(client.tell(&Request::Wait).ok().map(|()| Told(client)))
    }

    /// Asks a container to end, as [`stop_container`](Self::stop_container) does, and answers who tells when it has. `None` of
    /// one that does not run.
    ///
    /// # Errors
    /// There is no such container.
    pub fn begin_stop(
        &self,
        name: &str,
        signal: Option<i32>,
        timeout: Option<i64>,
    ) -> Result<Option<Told>, EngineError> {
        self.begin(name, &Request::Stop { signal, timeout })
    }

    /// Asks a container to end and to be started again, and answers who tells when it runs again. `None` of one that does
    /// not run.
    ///
    /// # Errors
    /// There is no such container.
    pub fn begin_restart(
        &self,
        name: &str,
        signal: Option<i32>,
        timeout: Option<i64>,
    ) -> Result<Option<Told>, EngineError> {
        self.begin(name, &Request::Restart { signal, timeout })
    }

    fn begin(&self, name: &str, request: &Request) -> Result<Option<Told>, EngineError> {
        let container = self.container(name)?;
        if !container.state.status.is_live() {
            return Ok(None);
        }
        let Some(client) = self.supervisor(&container.id)? else { return Ok(None) };
        Ok(client.tell(request).ok().map(|()| Told(client)))
    }

    /// Gives the terminal of a container that runs another size.
    ///
    /// # Errors
    /// There is no such container, or it does not run.
    pub fn resize_container(&self, name: &str, size: TtySize) -> Result<(), EngineError> {
        let (_, mut client) = self.running(name)?;
        client.ask(&Request::Resize(size))?;
        Ok(())
    }

    /// A connection to whoever supervises a container, or to one who waits for its start.
    fn supervisor_or_new(&self, id: &str) -> Result<Client, EngineError> {
        let deadline = Instant::now() + SILENCE;
        loop {
            if let Some(client) = self.supervisor(id)? {
                return Ok(client);
            }
            let record =
                self.store.container(id)?.ok_or_else(|| EngineError::NoSuchContainer(id.to_owned()))?;
            match self.store.lock_container(id)? {
                Some(dir) => return self.start_shim(id, &record.name, dir),
                // It is about to begin or to end.
                None if Instant::now() < deadline => pause(),
                None => {
                    let status = self.container(id).map_or(Status::Running, |found| found.state.status);
                    return Err(EngineError::ContainerInUse { id: id.to_owned(), status: status.name() });
                }
            }
        }
    }

    /// Starts a container through the supervisor that waits with those who are connected already.
    pub(super) fn start_waiting(&self, id: &str, name: &str) -> Result<Waiting, EngineError> {
        let Some(mut client) = self.supervisor(id)? else { return Ok(Waiting::Nobody) };
        self.check_networks(id, name)?;
        match client.ask(&Request::Start) {
            Ok(Reply::Done) => Ok(Waiting::Started),
            Ok(Reply::Already) => Ok(Waiting::Already),
            Ok(_) => Ok(Waiting::Ended),
            Err(ShimError::Gone) => Ok(Waiting::Nobody),
            Err(error) => Err(error.into()),
        }
    }
}
