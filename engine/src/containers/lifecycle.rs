//! Stopping, killing, waiting for, restarting and starting containers that are there.

use std::time::{Duration, Instant};

use runner::Attach;
use runner::shim::{Attached, Client, Ended, Reply, Request, ShimError, State};
use snapshotter::{ContainerRecord, HeldDir, StoreError};

use super::remove::pause;
use super::streams::{SILENCE, Waiting};
use super::{Container, has_processes};
use crate::Engine;
use crate::error::EngineError;

/// How long a supervisor whose container does not run may have the container, before it is asked to let go of it.
const GRACE: Duration = Duration::from_millis(500);

/// How being attached to a container came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The container ended with this code, or 128 and the number of the signal that killed it.
    Ended {
        /// The code.
        code: i32,
        /// Whether the kernel killed a process of it for lack of memory.
        out_of_memory: bool,
    },
    /// We have left it.
    Detached,
    /// A signal has ended us.
    Interrupted,
}

impl From<Attached> for Exit {
    fn from(attached: Attached) -> Self {
        match attached {
            Attached::Ended(ended) => ended.into(),
            Attached::Detached => Self::Detached,
            Attached::Interrupted => Self::Interrupted,
        }
    }
}

impl From<Ended> for Exit {
    fn from(Ended { code, out_of_memory }: Ended) -> Self {
        Self::Ended { code, out_of_memory }
    }
}

impl Engine {
    /// A connection to whoever supervises a container; `None` when it does not run.
    pub(super) fn supervisor(&self, id: &str) -> Result<Option<Client>, EngineError> {
        Ok(Client::connect(&self.store.container_path(id))?)
    }

    /// The same, for a container that has to run.
    pub(crate) fn running(&self, name: &str) -> Result<(Container, Client), EngineError> {
        let container = self.container(name)?;
        let not_running = || EngineError::NotRunning(container.id.clone());
        if !has_processes(container.state.status) {
            return Err(not_running());
        }
        let client = self.supervisor(&container.id)?.ok_or_else(not_running)?;
        Ok((container, client))
    }

    /// Asks a container to end, by its signal or `signal`, and kills it after its time or `timeout` seconds. One
    /// that does not run is left as it is.
    ///
    /// # Errors
    /// There is no such container, or its supervisor cannot be reached.
    pub fn stop_container(
        &self,
        name: &str,
        signal: Option<i32>,
        timeout: Option<i64>,
    ) -> Result<(), EngineError> {
        let record = self.find_container(name)?;
        if let Some(mut client) = self.supervisor(&record.id)? {
            gone_is_fine(client.ask_for_end(&Request::Stop { signal, timeout }))?;
            client.wait_until_gone();
        }
        Ok(())
    }

    /// Sends a signal to a container's first process.
    ///
    /// # Errors
    /// There is no such container, or it does not run.
    pub fn kill_container(&self, name: &str, signal: i32) -> Result<(), EngineError> {
        let (_, mut client) = self.running(name)?;
        client.ask(&Request::Signal { signal })?;
        Ok(())
    }

    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// There is no such container, it does not run, or it is frozen.
    pub fn pause_container(&self, name: &str) -> Result<(), EngineError> {
        let (_, mut client) = self.running(name)?;
        client.ask(&Request::Pause)?;
        Ok(())
    }

    /// Lets the processes of a container go on.
    ///
    /// # Errors
    /// There is no such container, it does not run, or it is not frozen.
    pub fn unpause_container(&self, name: &str) -> Result<(), EngineError> {
        let (_, mut client) = self.running(name)?;
        client.ask(&Request::Resume)?;
        Ok(())
    }

    /// Waits until a container has ended, and answers its exit code.
    ///
    /// # Errors
    /// There is no such container.
    pub fn wait_container(&self, name: &str) -> Result<i32, EngineError> {
        let container = self.container(name)?;
        let Some(mut client) = self.supervisor(&container.id)? else {
            return Ok(container.state.exit_code);
        };
        match client.ask_for_end(&Request::Wait) {
            Ok(ended) => Ok(ended.code),
            // Between our two looks it may have ended, or its supervisor was killed.
            Err(ShimError::Gone) => Ok(self.container(name)?.state.exit_code),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a container as [`stop_container`](Self::stop_container) does, and starts it.
    ///
    /// # Errors
    /// There is no such container, or it cannot be started.
    pub fn restart_container(
        &self,
        name: &str,
        signal: Option<i32>,
        timeout: Option<i64>,
    ) -> Result<(), EngineError> {
        let record = self.find_container(name)?;
        match self.supervisor(&record.id)? {
            Some(mut client) => client.ask(&Request::Restart { signal, timeout }).map(drop)?,
            None => self.start_container(name)?,
        }
        Ok(())
    }

    /// Starts a container that does not run.
    ///
    /// # Errors
    /// There is no such container, or its program cannot be started.
    pub fn start_container(&self, name: &str) -> Result<(), EngineError> {
        self.start_stopped(name).map(drop)
    }

    /// The same, and answers whether it was started here rather than running already.
    ///
    /// # Errors
    /// As for [`start_container`](Self::start_container).
    pub fn start_stopped(&self, name: &str) -> Result<bool, EngineError> {
        let record = self.find_container(name)?;
        let is_live =
            || State::read(&self.store.container_path(&record.id)).map(|state| state.status.is_live());
        let deadline = Instant::now() + SILENCE;
        loop {
            if is_live()? {
                return Ok(false);
            }
            match self.start_waiting(&record.id, &record.name) {
                Ok(Waiting::Started) => return Ok(true),
                Ok(Waiting::Already) => return Ok(false),
                Ok(Waiting::Ended) => break,
                Ok(Waiting::Nobody) => {}
                Err(error) => return Err(error),
            }
            match self.store.lock_container(&record.id) {
                Ok(Some(dir)) => return self.start_claimed(&record, dir),
                // Its supervisor is about to begin or to end.
                Ok(None) if Instant::now() < deadline => pause(),
                Ok(None) => break,
                Err(StoreError::NoSuchContainer { id }) => return Err(EngineError::NoSuchContainer(id)),
                Err(error) => return Err(error.into()),
            }
        }
        let Some(dir) = self.claim(&record.id)? else { return Ok(false) };
        self.start_claimed(&record, dir)
    }

    fn start_claimed(&self, record: &ContainerRecord, dir: HeldDir) -> Result<bool, EngineError> {
        self.check_networks(&record.id, &record.name)?;
        let reply = self.start_shim(&record.id, &record.name, dir)?.ask(&Request::Start)?;
        // Who found its socket in the meantime may have been first.
        Ok(!matches!(reply, Reply::Already))
    }

    /// Starts a container that does not run, attached to it.
    ///
    /// # Errors
    /// There is no such container, it runs, or its program cannot be started.
    pub fn start_attached(&self, name: &str, how: &Attach) -> Result<Exit, EngineError> {
        let container = self.container(name)?;
        let Some(dir) = self.claim(&container.id)? else { return self.attach_container(name, how) };
        self.check_networks(&container.id, &container.name)?;
        let mut client = self.start_shim(&container.id, &container.name, dir)?;
        let terminal = container.document.tty;
        let stdin = how.stdin && container.document.open_stdin;
        let how = Attach { start: true, terminal, stdin, ..how.clone() };
        let attached = runner::attach(&mut client, &how)?;
        Ok(attached.into())
    }

    /// Connects our streams to those of a container that runs.
    ///
    /// # Errors
    /// There is no such container, or it does not run.
    pub fn attach_container(&self, name: &str, how: &Attach) -> Result<Exit, EngineError> {
        let (container, mut client) = self.running(name)?;
        let terminal = container.document.tty;
        let stdin = how.stdin && container.document.open_stdin;
        let how = Attach { start: false, terminal, stdin, ..how.clone() };
        Ok(runner::attach(&mut client, &how)?.into())
    }

    /// The container for us alone; `None` when somebody runs it. A supervisor whose container has ended is about
    /// to let go of it, and is waited for.
    pub(crate) fn claim(&self, id: &str) -> Result<Option<HeldDir>, EngineError> {
        let begin = Instant::now();
        loop {
            match self.store.lock_container(id) {
                Ok(None) if !State::read(&self.store.container_path(id))?.status.is_live() => {}
                Err(StoreError::NoSuchContainer { id }) => return Err(EngineError::NoSuchContainer(id)),
                claimed => return Ok(claimed?),
            }
            // One that has just begun is about to be told to start; it must not be ended before.
            if begin.elapsed() < GRACE {
                pause();
                continue;
            }
            match self.supervisor(id)? {
                // Who is attached and does not read, or waits for the next start, may not keep it for ever.
                Some(mut client) => {
                    gone_is_fine(client.ask_for_end(&Request::Stop { signal: None, timeout: None }))?;
                    client.wait_until_gone();
                }
                None => pause(),
            }
        }
    }
}

/// A supervisor that has just ended has done what was asked of it.
fn gone_is_fine(result: Result<Ended, ShimError>) -> Result<(), EngineError> {
    match result {
        Ok(_) | Err(ShimError::Gone) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
