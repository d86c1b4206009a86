//! Signals to a container, and its end when somebody asks for it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sys::signals::SignalPipe;

use super::super::config::STOP_TIMEOUT;
use super::super::news::News;
use super::super::state::Status;
use super::{PATIENCE, Phase, Supervisor};
use crate::isolation::Mode;
use crate::process::{Process, resize};
use crate::request::TtySize;

/// So many requests to end that somebody types make one to be killed.
const IMPATIENCE: u32 = 3;

/// What signals that the supervisor gets are for.
pub(super) enum Signals {
    /// They stop the container: nobody else gets them.
    Stop(SignalPipe),
    /// They are passed on to the container.
    Forward(SignalPipe, fn() -> Option<TtySize>),
}

impl Supervisor {
    /// Asks the container to end, and sees to it that it does.
    pub(super) fn stop(&mut self, signal: Option<i32>, timeout: Option<i64>) {
        self.stopped = true;
        self.thaw();
        match &self.phase {
            Phase::Running(run) => {
                let timeout = timeout.or(self.config.stop_timeout).unwrap_or(STOP_TIMEOUT);
                // It can only fail for a process that has ended, which is what was wanted.
                let signal = signal.unwrap_or(self.config.stop_signal);
                let _ = run.process.signal(signal);
                self.teller.tell(News::Killed(signal));
                let timeout = u64::try_from(timeout).ok().map(Duration::from_secs);
                self.kill_at = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            }
            Phase::Waiting(_) => self.give_up(),
            // Somebody wants the container itself, and only its last readers keep it.
            Phase::Ended => self.give_up_at = self.give_up_at.or(Some(Instant::now() + PATIENCE)),
            // Somebody wants the container itself, and those who wait for its start keep it.
            Phase::Idle => {
                self.phase = Phase::Ended;
                self.tell_the_end();
            }
        }
    }

    pub(super) fn kill(&mut self) {
        self.kill_at = None;
        self.stopped = true;
        self.thaw();
        match &self.phase {
            // As above.
            Phase::Running(run) => {
                let _ = run.process.kill();
                self.teller.tell(News::Killed(Signal::KILL.as_raw()));
            }
            Phase::Waiting(_) => self.give_up(),
            Phase::Idle | Phase::Ended => {}
        }
    }

    /// Does not start it again.
    fn give_up(&mut self) {
        self.phase = Phase::Ended;
        self.state.status = Status::Exited;
        if let Err(error) = self.state.write(&self.directory) {
            // Nobody to tell it to; the lock says that it does not run.
            self.state.error = error.to_string();
        }
        self.tell_the_end();
    }

    pub(super) fn take_signals(&mut self) {
        loop {
            let (signal, forward) = match &self.signals {
                Some(Signals::Stop(pipe)) => (pipe.next(), None),
                Some(Signals::Forward(pipe, size)) => (pipe.next(), Some(*size)),
                None => return,
            };
            let Some(signal) = signal else { return };
            match forward {
                _ if signal == Signal::CHILD.as_raw() => self.collect_orphans(),
                None => self.stop(None, None),
                Some(size) if signal == Signal::WINCH.as_raw() => {
                    size().into_iter().for_each(|size| self.resize(size));
                }
                Some(_) => self.forward(signal),
            }
        }
    }

    /// Collects processes of a container without process ids of its own that have become our children and have ended.
    fn collect_orphans(&self) {
        if self.config.request.isolation != Mode::Chroot {
            return;
        }
        let first = match &self.phase {
            Phase::Running(run) => Some(&run.process),
            _ => None,
        };
        let started = first.into_iter().chain(self.execs.iter().map(|exec| &exec.process));
        let started: Result<Vec<_>, _> = started.map(Process::pid).collect();
        if let Ok(started) = started {
            // What is not collected now is at the end of the container.
            let _ = sys::strays::collect(&started.into_iter().flatten().collect::<Vec<_>>());
        }
    }

    /// Passes a signal on. Who keeps asking in vain for the end gets it.
    fn forward(&mut self, signal: i32) {
        if signal == Signal::INT.as_raw() || signal == Signal::TERM.as_raw() {
            self.interrupts += 1;
        }
        match &self.phase {
            _ if self.interrupts >= IMPATIENCE => self.kill(),
            Phase::Running(run) => {
                let _ = run.process.signal(signal);
                self.teller.tell(News::Killed(signal));
            }
            _ => self.stop(None, None),
        }
    }

    pub(super) fn resize(&self, size: TtySize) {
        if let Phase::Running(run) = &self.phase
            && let Some(terminal) = &run.terminal
        {
            // The terminal exists for as long as we hold it.
            let _ = resize(terminal, size);
        }
    }
}
