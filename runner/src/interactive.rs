//! Running a process in the foreground, and being attached to one that runs elsewhere: what `lap run`,
//! `lap attach` and `lap start -a` need.
//!
//! The process's streams are connected to ours, signals that we get are passed on, and a terminal of ours
//! is raw meanwhile and restored on every way out. Output always passes through a pipe or a terminal of
//! the container's: given our own terminal as its output, a process could read from it.
//!
//! Signals go to the container's first process, which ignores those that it has no handler for, as with
//! `docker run`; who asks for the end three times gets it.

mod carrier;
pub(crate) mod detach_keys;
mod hidden;
mod raw_mode;
mod relay;
mod session;

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use rustix::process::Signal;
use rustix::termios::{isatty, tcgetwinsize};
use sys::signals::SignalPipe;

pub(crate) use self::carrier::Carrier;
pub use self::hidden::HiddenInput;
use self::raw_mode::RawMode;
pub(crate) use self::relay::wait_for;
pub use self::session::{Attach, OurEnds, attach, connect, exec};
use crate::request::TtySize;
use crate::shim::Surroundings;
use crate::shim::{Config, Ended, Local, ShimError, Supervisor, Waiters};

/// Signals that are passed on.
const FORWARDED: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// Runs a container in the foreground, as part of this process, on our own streams. Call it on the main thread:
/// it is the one that the kernel prefers to deliver signals to.
///
/// The caller holds the lock of `directory`. Answers how the container ended, and those who wait for that or for its removal.
///
/// # Errors
/// The container cannot be started or followed.
pub fn run_foreground(
    directory: &Path,
    config: Config,
    surroundings: Surroundings,
) -> Result<(Ended, Waiters), ShimError> {
    let mut caught: Vec<i32> = FORWARDED.iter().map(|signal| signal.as_raw()).collect();
    caught.extend([Signal::WINCH, Signal::CHILD].map(Signal::as_raw));
    // Caught before the start, so that no signal ends us while the container lives.
    let signals = SignalPipe::new(&caught).map_err(ShimError::system("catch the signals"))?;
    let stdin = config.open_stdin.then(|| io::stdin().as_fd().try_clone_to_owned()).transpose();
    let stdin = stdin.map_err(ShimError::system("duplicate a descriptor"))?;
    // What lies in a pipe counts as the memory of who wrote it.
    let wide = config.request.limits.memory.is_none();
    let is_typed_into = config.terminal.is_some() && config.open_stdin;
    let _raw = is_typed_into.then(|| RawMode::enter(None, io::stdin().as_fd())).flatten();
    let mut supervisor = Supervisor::new(directory, config, surroundings)?;
    let outputs = supervisor.start_here(Local { signals, size: own_size, stdin })?;
    let ended = thread::scope(|scope| {
        for (stream, from) in outputs {
            if wide {
                relay::widen(&from);
            }
            let copy = move || relay::copy_output(from, stream);
            thread::Builder::new()
                .name("lap-output".to_owned())
                .spawn_scoped(scope, copy)
                .map_err(ShimError::system("copy the output"))?;
        }
        supervisor.run_here()
        // Leaving the scope waits until all output has been copied.
    })?;
    Ok((ended, supervisor.into_waiters()))
}

/// Whether somebody at a terminal types what we read, and so could type the keys to detach.
pub fn is_typed() -> bool {
    isatty(io::stdin())
}

/// The size of our terminal, if one of our streams is one.
pub fn own_size() -> Option<TtySize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(TtySize { rows: size.ws_row, columns: size.ws_col })
}
