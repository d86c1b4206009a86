//! What a container has instead of a daemon: whoever supervises it, as its parent.
//!
//! For a detached container that is a small process of its own, the *shim*; a container in the foreground that
//! nobody can detach from is supervised by the command that started it. Both run the same [`Supervisor`]: it
//! starts the container's process, keeps the log, passes input and output to those attached, restarts, and
//! ends the container when told to.
//!
//! Everything that others have to know lies in the container's directory:
//!
//! ```text
//! lock         held for as long as the container is supervised; what is not locked does not run
//! shim.json    what to run and how ([`Config`]), written once
//! state.json   what is known of it ([`State`]), written by the supervisor only, always as a whole
//! control      a socket that takes requests ([`Request`])
//! json.log     the log ([`crate::logs`])
//! ```
//!
//! A process number in a file proves nothing; the lock does. When a supervisor is killed, the kernel frees its
//! lock and ends the container with it.

mod client;
mod config;
mod connection;
mod error;
pub mod health;
pub mod news;
mod protocol;
pub mod restart;
mod state;
mod streams;
mod supervisor;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use sys::erofs::Way;
use sys::lock::FileLock;

pub use client::{Attached, Client};
pub use config::{Config, UpdateRefusal};
pub use connection::Waiters;
pub use error::ShimError;
pub use protocol::{Ended, Execution, Reply, Request, Update};
pub use state::{State, Status};
pub use supervisor::{Local, Supervisor, Surroundings};

/// The lock of a container's directory.
pub fn lock_path(directory: &Path) -> PathBuf {
    directory.join("lock")
}

/// The life of a shim: takes the requests on `starter`, of which one is to start the container whose directory
/// this is and whose lock is `lock`, and supervises the container to its end. Packed layers are mounted in the way `layers`.
///
/// Answers the lock, whether the container is to be removed, and those who wait for that or for the end.
///
/// # Errors
/// The directory cannot be used, or somebody else supervises the container.
pub fn run(
    directory: &Path,
    starter: OwnedFd,
    lock: OwnedFd,
    layers: Way,
    surroundings: Surroundings,
) -> Result<(FileLock, bool, Waiters), ShimError> {
    let held = || ShimError::Busy { directory: directory.to_owned() };
    let lock = FileLock::handed_over(lock.into(), &lock_path(directory))?.ok_or_else(held)?;
    let mut config = Config::read(directory)?;
    config.request.layer_way = layers;
    let remove = config.remove;
    let mut supervisor = Supervisor::new(directory, config, surroundings)?;
    supervisor.serve(starter)?;
    // One that was never started is still to be.
    let remove = remove && supervisor.was_started();
    Ok((lock, remove, supervisor.into_waiters()))
}
