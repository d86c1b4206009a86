//! Running a process to its end and handing its output on: what RUN needs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use base::CancelToken;
use base::event::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::RunError;
use crate::process::{Finished, Process, start};
use crate::request::{RunRequest, Stdio};

/// A longer time is waited for in several parts.
const LONGEST_WAIT: Timespec = Timespec { tv_sec: 86_400, tv_nsec: 0 };

/// Bytes read at once: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Runs the process of a request without input. Its output is handed to `sink` as it comes, in pieces that
/// need be neither lines nor text; a slow sink slows the process down and loses nothing. Cancelling kills
/// the whole container at once.
pub fn run_logged(
    request: &RunRequest,
    sink: &mut dyn FnMut(Stream, &[u8]),
    cancel: &CancelToken,
) -> Result<Finished, RunError> {
    Ok(run_watched(request, TimeLimits::default(), sink, cancel)?.finished)
}

/// How long a process may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeLimits {
    /// From its start to its end.
    pub total: Option<Duration>,
    /// Without writing anything.
    pub idle: Option<Duration>,
}

/// Why a process was not left to its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// It took longer than this in all.
    Total(Duration),
    /// It wrote nothing for this long.
    Idle(Duration),
}

/// How a watched run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// How the first process ended, and what the container used.
    pub finished: Finished,
    /// The limit for which the container was killed, if it was.
    pub expired: Option<Expired>,
}

/// Like [`run_logged`], but kills the whole container when it takes longer than `limits` allow.
pub fn run_watched(
    request: &RunRequest,
    limits: TimeLimits,
    sink: &mut dyn FnMut(Stream, &[u8]),
    cancel: &CancelToken,
) -> Result<Watched, RunError> {
    cancel.check()?;
    let mut process = start(request, Stdio::CAPTURED)?;
    let guard = cancel.on_cancel(process.killer());
    let mut watch = Watch::new(limits);
    forward(&mut process, sink, &mut watch)?;
    let finished = process.wait()?;
    drop(guard);
    cancel.check()?;
    Ok(Watched { finished, expired: watch.expired })
}

/// Looks at the clock for a process.
struct Watch {
    limits: TimeLimits,
    started: Instant,
    last_output: Instant,
    expired: Option<Expired>,
}

impl Watch {
    fn new(limits: TimeLimits) -> Self {
        let now = Instant::now();
        Self { limits, started: now, last_output: now, expired: None }
    }

    /// Whether anything can still expire.
    fn is_needed(&self) -> bool {
        self.limits != TimeLimits::default() && self.expired.is_none()
    }

    /// The limit that is reached first, and how much of it is left.
    fn next(&self) -> Option<(Duration, Expired)> {
        if self.expired.is_some() {
            return None;
        }
        let total = self
            .limits
            .total
            .map(|limit| (limit.saturating_sub(self.started.elapsed()), Expired::Total(limit)));
        let idle = self
            .limits
            .idle
            .map(|limit| (limit.saturating_sub(self.last_output.elapsed()), Expired::Idle(limit)));
        total.into_iter().chain(idle).min_by_key(|(left, _)| *left)
    }

    /// Kills the container if a limit is reached.
    fn look(&mut self, process: &Process) -> Result<(), RunError> {
        if let Some((left, expired)) = self.next()
            && left.is_zero()
        {
            self.expired = Some(expired);
            process.kill()?;
        }
        Ok(())
    }
}

/// An output of the process that has not ended.
struct Output {
    stream: Stream,
    fd: OwnedFd,
}

/// Forwards until both outputs have ended, or the process has and nothing is left to read. (An output may
/// outlive the process: its descriptor can be passed to somebody outside the container.)
///
/// A process that has closed its outputs is waited for here as long as it can expire.
fn forward(
    process: &mut Process,
    sink: &mut dyn FnMut(Stream, &[u8]),
    watch: &mut Watch,
) -> Result<(), RunError> {
    let failed = |source: io::Error| RunError::Supervise { operation: "read the output", source };
    let mut outputs: Vec<Output> =
        [(Stream::Stdout, process.take_stdout()), (Stream::Stderr, process.take_stderr())]
            .into_iter()
            .filter_map(|(stream, fd)| Some(Output { stream, fd: fd? }))
            .collect();
    let mut buffer = vec![0; CHUNK];
    while !outputs.is_empty() || watch.is_needed() {
        let left = watch.next().map(|(left, _)| left);
        let (ready, ended) = wait_for_output(&outputs, process, left).map_err(failed)?;
        if ready.contains(&true) {
            watch.last_output = Instant::now();
        }
        if !ended {
            watch.look(process)?;
        }
        if ended && !ready.contains(&true) {
            break;
        }
        let mut ready = ready.into_iter();
        let mut error = None;
        outputs.retain(|output| {
            if !ready.next().unwrap_or(false) || error.is_some() {
                return true;
            }
            match rustix::io::read(&output.fd, &mut buffer[..]) {
                Ok(0) => false,
                Ok(length) => {
                    sink(output.stream, &buffer[..length]);
                    true
                }
                Err(rustix::io::Errno::INTR) => true,
                Err(errno) => {
                    error = Some(io::Error::from(errno));
                    true
                }
            }
        });
        if let Some(error) = error {
            return Err(failed(error));
        }
    }
    Ok(())
}

/// Waits until an output can be read, the process has ended, or the time is over: which outputs, and whether it has.
fn wait_for_output(
    outputs: &[Output],
    process: &Process,
    time: Option<Duration>,
) -> io::Result<(Vec<bool>, bool)> {
    // The process is looked at first. What is looked at after its end has all that it wrote; the other way round, what it wrote between
    // the two looks would be lost.
    let fds = [process.pidfd()].into_iter().chain(outputs.iter().map(|output| output.fd.as_fd()));
    let mut polled: Vec<PollFd<'_>> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let time = time.map(|time| Timespec::try_from(time).unwrap_or(LONGEST_WAIT));
    match poll(&mut polled, time.as_ref()) {
        // The caller looks at the clock.
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = polled.iter().map(|one| !one.revents().is_empty());
    let ended = ready.next().unwrap_or(false);
    Ok((ready.collect(), ended))
}
