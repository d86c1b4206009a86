//! What is read while it is written, by those who have no thread to wait with.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::EngineError;

/// What is there to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready<T> {
    /// The next one.
    One(T),
    /// Nothing until something has changed, or this time has passed.
    Later(Duration),
    /// There will be no more.
    Over,
}

/// Something that is read while it is written.
pub trait Follow {
    /// What it is made of.
    type Item;

    /// The next one, if it is there.
    ///
    /// # Errors
    /// It cannot be read.
    fn ready(&mut self) -> Result<Ready<Self::Item>, EngineError>;

    /// What is readable when something has changed; nothing where nothing is waited for.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Waits until something has changed, or for as long as `time`.
    ///
    /// # Errors
    /// It cannot be watched any more.
    fn wait(&self, time: Duration) -> Result<(), EngineError>;

    /// The next one; waits for it. `None` when there will be no more.
    ///
    /// # Errors
    /// It cannot be read.
    fn next(&mut self) -> Result<Option<Self::Item>, EngineError> {
        loop {
            match self.ready()? {
                Ready::One(item) => return Ok(Some(item)),
                Ready::Over => return Ok(None),
                Ready::Later(time) => self.wait(time)?,
            }
        }
    }
}
