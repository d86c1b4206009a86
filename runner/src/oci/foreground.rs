//! Staying with a process of ours until it ends: its terminal becomes ours, and signals are passed on to it.

use std::io;

use rustix::event::PollFlags;
use rustix::process::Signal;
use std::os::fd::AsFd as _;
use sys::ns::{Ending, PidFd};
use sys::signals::SignalPipe;

use super::create::Created;
use super::error::OciError;
use crate::error::RunError;
use crate::interactive::{Carrier, wait_for};
use crate::process::ExitStatus;

/// Signals that are passed on.
const FORWARDED: [Signal; 7] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2, Signal::WINCH];

/// Those that concern our own terminal besides.
const OF_THE_TERMINAL: [Signal; 2] = [Signal::TSTP, Signal::CONT];

/// Stays with a process that we have created, on our own streams, until it ends. It is started by `start` once
/// its terminal is connected to ours, so that nothing of what it says is lost. Our terminal is as it was before when
/// this returns, however it does.
///
/// # Errors
/// It cannot be started or followed.
pub fn attend(
    created: Created,
    start: impl FnOnce() -> Result<(), OciError>,
) -> Result<ExitStatus, OciError> {
    let failed = |source| RunError::Supervise { operation: "wait for the process", source };
    let Created { process, terminal } = created;
    let of_the_terminal = if terminal.is_some() { &OF_THE_TERMINAL[..] } else { &[] };
    let caught: Vec<i32> = FORWARDED.iter().chain(of_the_terminal).map(|signal| signal.as_raw()).collect();
    let signals = SignalPipe::new(&caught).map_err(failed)?;
    let mut carrier = terminal.map(Carrier::new).transpose().map_err(failed)?;
    start()?;
    match &mut carrier {
        Some(carrier) => carrier.run(&process, &signals),
        None => pass_on(&process, &signals),
    }
    .map_err(failed)?;
    let (ending, _) = process.wait().map_err(failed)?;
    Ok(match ending {
        Ending::Exited(code) => ExitStatus::Exited(code),
        Ending::Signaled(signal) => ExitStatus::Signaled(signal),
    })
}

/// Passes signals on until the process has ended.
fn pass_on(process: &PidFd, signals: &SignalPipe) -> io::Result<()> {
    loop {
        let [ended, _] =
            wait_for([Some((process.as_fd(), PollFlags::IN)), Some((signals.as_fd(), PollFlags::IN))])?;
        if ended {
            return Ok(());
        }
        while let Some(signal) = signals.next() {
            process.signal(signal)?;
        }
    }
}
