//! Carrying the terminal of a process of ours to our own terminal, where nobody supervises the process between
//! the two: what an OCI runtime in the foreground does.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::PollFlags;
use rustix::process::Signal;
use sys::ns::PidFd;
use sys::signals::SignalPipe;

use super::own_size;
use super::raw_mode::RawMode;
use super::relay::{Input, Output, wait_for};
use crate::process::resize;

/// A process's terminal, connected to our streams. Our own terminal is raw for as long as this lives.
pub(crate) struct Carrier {
    terminal: OwnedFd,
    input: Input,
    output: Output,
    raw: Option<RawMode>,
}

impl Carrier {
    /// Connects the terminal that `terminal` is the other end of. Ours becomes raw, and the process's as large.
    pub(crate) fn new(terminal: OwnedFd) -> io::Result<Self> {
        let input = Input::new(Some(terminal.try_clone()?), None)?;
        let output = Output::new(terminal.try_clone()?);
        let mut carrier = Self { terminal, input, output, raw: None };
        carrier.enter();
        Ok(carrier)
    }

    /// Carries bytes both ways until the process has ended and what it has said is out. Signals are passed on to it,
    /// but for those that concern our terminal.
    pub(crate) fn run(&mut self, process: &PidFd, signals: &SignalPipe) -> io::Result<()> {
        loop {
            let stdin = self.input.wants_more().then(io::stdin);
            let (source, target) = (self.output.source(), self.output.target());
            let [ended, signalled, typed, _, said, room] = wait_for([
                Some((process.as_fd(), PollFlags::IN)),
                Some((signals.as_fd(), PollFlags::IN)),
                stdin.as_ref().map(|stdin| (stdin.as_fd(), PollFlags::IN)),
                self.input.pending().map(|to| (to, PollFlags::OUT)),
                source.map(|from| (from, PollFlags::IN)),
                target.as_ref().map(|to| (to.as_fd(), PollFlags::OUT)),
            ])?;
            if signalled {
                self.take_signals(process, signals)?;
            }
            if typed {
                self.input.fill()?;
            }
            self.input.drain()?;
            if said {
                self.output.fill();
            }
            if room {
                self.output.write_some();
            }
            if ended {
                self.output.finish();
                return Ok(());
            }
        }
    }

    fn take_signals(&mut self, process: &PidFd, signals: &SignalPipe) -> io::Result<()> {
        while let Some(signal) = signals.next() {
            if signal == Signal::WINCH.as_raw() {
                self.resize();
            } else if signal == Signal::TSTP.as_raw() {
                self.raw = None;
                sys::signals::stop_self();
            } else if signal == Signal::CONT.as_raw() {
                self.enter();
            } else {
                process.signal(signal)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self) {
        self.raw = RawMode::enter(self.raw.take(), io::stdin().as_fd());
        self.resize();
    }

    fn resize(&self) {
        if let Some(size) = own_size() {
            // The terminal exists for as long as we hold it.
            let _ = resize(&self.terminal, size);
        }
    }
}
