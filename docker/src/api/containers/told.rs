//! Waiting for what supervisors tell, without a thread for each who waits.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;

use engine::containers::{Said, Told};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::super::ApiError;

/// Something that a supervisor tells.
pub(super) struct Listener {
    told: Told,
    /// The same connection, for waiting.
    socket: UnixStream,
    /// The exit code, once it was told.
    code: Option<i32>,
}

impl Listener {
    /// # Errors
    /// There are too many open files.
    pub(super) fn new(told: Told) -> Result<Self, ApiError> {
        let socket = || {
            let socket = std::os::unix::net::UnixStream::from(told.as_fd().try_clone_to_owned()?);
            socket.set_nonblocking(true)?;
            UnixStream::from_std(socket)
        };
        match socket() {
            Ok(socket) => Ok(Self { told, socket, code: None }),
            Err(error) => Err(ApiError::internal(format!("cannot wait for the container: {error}"))),
        }
    }

    /// What is told next; never nothing.
    pub(super) async fn next(&mut self) -> Said {
        let Self { told, socket, .. } = self;
        loop {
            // It may have come together with what was told before.
            match told.said() {
                Said::Nothing if socket.readable().await.is_err() => return Said::Gone,
                Said::Nothing => {}
                said => return said,
            }
            let said = socket.try_io(Interest::READABLE, || match told.said() {
                Said::Nothing => Err(io::Error::from(ErrorKind::WouldBlock)),
                said => Ok(said),
            });
            if let Ok(said) = said {
                return said;
            }
        }
    }

    /// The exit code, once the container has ended; nothing where nobody could tell it.
    pub(super) async fn ended(&mut self) -> Option<i32> {
        while self.code.is_none() {
            match self.next().await {
                Said::Ended(code) => self.code = Some(code),
                Said::Gone => break,
                _ => {}
            }
        }
        self.code
    }

    /// Waits until the supervisor has gone.
    pub(super) async fn gone(&mut self) {
        while self.next().await != Said::Gone {}
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }
}

/// Waits for the end.
pub(super) async fn ended(told: Told) -> Result<Option<i32>, ApiError> {
    Ok(Listener::new(told)?.ended().await)
}

/// Waits for the end, and until all that belongs to it is done.
pub(super) async fn finished(told: Told) -> Result<(), ApiError> {
    let mut listener = Listener::new(told)?;
    listener.ended().await;
    listener.gone().await;
    Ok(())
}

/// Waits until what was asked for is done.
pub(super) async fn done(told: Told) -> Result<(), ApiError> {
    let mut listener = Listener::new(told)?;
    loop {
        match listener.next().await {
            Said::Done => return Ok(()),
            Said::Refused(message) => return Err(super::cannot_start(&message, 0)),
            Said::Gone => {
                return Err(ApiError::internal(
                    "the supervisor of the container has ended without an answer",
                ));
            }
            Said::Ended(_) | Said::Nothing => {}
        }
    }
}
