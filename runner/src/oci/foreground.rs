//! Waiting for a process of ours while passing signals on to it.

use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use sys::ns::{Ending, PidFd};
use sys::signals::SignalPipe;

use super::error::OciError;
use crate::error::RunError;
use crate::process::ExitStatus;

/// Signals that are passed on.
const FORWARDED: [Signal; 7] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2, Signal::WINCH];

/// Waits for a process that we have started, and passes our signals on to it meanwhile.
pub fn attend(process: &PidFd) -> Result<ExitStatus, OciError> {
    let failed = |source| RunError::Supervise { operation: "wait for the process", source };
    let signals = SignalPipe::new(&FORWARDED.map(Signal::as_raw)).map_err(failed)?;
    relay(process, &signals).map_err(failed)?;
    let (ending, _) = process.wait().map_err(failed)?;
    Ok(match ending {
        Ending::Exited(code) => ExitStatus::Exited(code),
        Ending::Signaled(signal) => ExitStatus::Signaled(signal),
    })
}

fn relay(process: &PidFd, signals: &SignalPipe) -> io::Result<()> {
    loop {
        let mut ready = [PollFd::new(process, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !ready[0].revents().is_empty() {
            return Ok(());
        }
        while let Some(signal) = signals.next() {
            process.signal(signal)?;
        }
    }
}
