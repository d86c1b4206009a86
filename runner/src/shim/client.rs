//! Asking a supervisor for something, and being attached to its container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::config::Config;
use super::connection::connect_to;
use super::error::ShimError;
use super::protocol::{Ended, Incoming, Reply, Request, send};

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    incoming: Incoming,
}

/// How a connection to a container's streams came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// The container has ended.
    Ended(Ended),
    /// We have left it.
    Detached,
    /// A signal has ended us.
    Interrupted,
}

impl Client {
    /// Connects to whoever supervises the container of a directory; `None` when nobody does.
    ///
    /// # Errors
    /// There is a supervisor, but it cannot be reached.
    pub fn connect(directory: &Path) -> Result<Option<Self>, ShimError> {
        Ok(connect_to(directory)?.map(Self::over))
    }

    /// Speaks over a connection that is there.
    pub fn over(socket: OwnedFd) -> Self {
        Self { socket, incoming: Incoming::default() }
    }

    /// Asks for something, and waits for the answer.
    ///
    /// # Errors
    /// [`ShimError::Refused`], with the supervisor's words, or it cannot be reached any more.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ShimError> {
        self.ask_with(request, &[])
    }

    /// The same, handing descriptors over.
    ///
    /// # Errors
    /// As there.
    pub fn ask_with(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Reply, ShimError> {
        send(&self.socket, request, descriptors).map_err(|_| ShimError::Gone)?;
        self.receive()
    }

    /// Asks for something whose answer is that the container has ended.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub fn ask_for_end(&mut self, request: &Request) -> Result<Ended, ShimError> {
        match self.ask(request)? {
            Reply::Ended(ended) => Ok(ended),
            _ => Err(ShimError::Malformed),
        }
    }

    /// Asks how the container is run.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub fn settings(&mut self) -> Result<Config, ShimError> {
        match self.ask(&Request::Settings)? {
            Reply::Settings(config) => Ok(*config),
            _ => Err(ShimError::Malformed),
        }
    }

    /// Asks for something without waiting for the answer.
    ///
    /// # Errors
    /// [`ShimError::Gone`].
    pub fn tell(&self, request: &Request) -> Result<(), ShimError> {
        send(&self.socket, request, &[]).map_err(|_| ShimError::Gone)
    }

    /// Leaves what goes on without us, and waits until the supervisor knows that. Who just went would be gone, terminal and
    /// all, before it has read why.
    ///
    /// # Errors
    /// [`ShimError::Gone`].
    pub(crate) fn leave(&mut self) -> Result<(), ShimError> {
        self.tell(&Request::Detach)?;
        // It closes its end when it has read all of ours.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        loop {
            match self.incoming.receive(&self.socket, true) {
                Ok(true) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(false) | Err(_) => return Ok(()),
            }
        }
    }

    /// Ends the connection, as dropping does.
    pub(crate) fn hang_up(&self) {
        // One that has ended already is what is wanted.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Waits for an answer.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub fn receive(&mut self) -> Result<Reply, ShimError> {
        loop {
            if let Some(reply) = self.received()? {
                return Ok(reply);
            }
            match self.incoming.receive(&self.socket, true) {
                Ok(true) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(false) | Err(_) => return Err(ShimError::Gone),
            }
        }
    }

    /// Waits for an answer with a descriptor.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub(crate) fn receive_descriptor(&mut self) -> Result<OwnedFd, ShimError> {
        loop {
            if let Some((_, descriptors)) = self.incoming.next::<Reply>().map_err(|_| ShimError::Malformed)? {
                return descriptors.into_iter().next().ok_or(ShimError::Malformed);
            }
            match self.incoming.receive(&self.socket, true) {
                Ok(true) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(false) | Err(_) => return Err(ShimError::Gone),
            }
        }
    }

    /// The same connection, to say more on it from elsewhere. Answers come to one of the two.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn another(&self) -> Result<Self, ShimError> {
        let socket = self.socket.try_clone().map_err(ShimError::system("duplicate a descriptor"))?;
        Ok(Self::over(socket))
    }

    /// Waits until the supervisor has gone: everything that it had to do is done then.
    pub fn wait_until_gone(&mut self) {
        while self.incoming.receive(&self.socket, true).is_ok_and(|more| more) {}
    }

    /// An answer, if one has come.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub fn poll(&mut self) -> Result<Option<Reply>, ShimError> {
        match self.incoming.receive(&self.socket, false) {
            Ok(true) => self.received(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Ok(false) | Err(_) => Err(ShimError::Gone),
        }
    }

    /// An answer that has come with another.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub fn received(&mut self) -> Result<Option<Reply>, ShimError> {
        match self.incoming.next().map_err(|_| ShimError::Malformed)? {
            Some((Reply::Failed { message, code }, _)) => Err(ShimError::Refused { message, code }),
            Some((reply, _)) => Ok(Some(reply)),
            None => Ok(None),
        }
    }
}

impl AsFd for Client {
    /// Readable when an answer has come, or the supervisor has gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
