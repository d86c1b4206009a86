//! Running a process to its end and handing its output on: what RUN needs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use base::CancelToken;
use base::event::Stream;
use rustix::event::{PollFd, PollFlags, poll};

use crate::error::RunError;
use crate::process::{Finished, Process, start};
use crate::request::{RunRequest, Stdio};

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
    cancel.check()?;
    let mut process = start(request, Stdio::CAPTURED)?;
    let guard = cancel.on_cancel(process.killer());
    forward(&mut process, sink)?;
    let finished = process.wait()?;
    drop(guard);
    cancel.check()?;
    Ok(finished)
}

/// An output of the process that has not ended.
struct Output {
    stream: Stream,
    fd: OwnedFd,
}

/// Forwards until both outputs have ended, or the process has and nothing is left to read. (An output may
/// outlive the process: its descriptor can be passed to somebody outside the container.)
fn forward(process: &mut Process, sink: &mut dyn FnMut(Stream, &[u8])) -> Result<(), RunError> {
    let failed = |source: io::Error| RunError::Supervise { operation: "read the output", source };
    let mut outputs: Vec<Output> =
        [(Stream::Stdout, process.take_stdout()), (Stream::Stderr, process.take_stderr())]
            .into_iter()
            .filter_map(|(stream, fd)| Some(Output { stream, fd: fd? }))
            .collect();
    let mut buffer = vec![0; CHUNK];
    while !outputs.is_empty() {
        let (ready, ended) = wait_for_output(&outputs, process).map_err(failed)?;
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

/// Waits until an output can be read or the process has ended: which outputs, and whether it has.
fn wait_for_output(outputs: &[Output], process: &Process) -> io::Result<(Vec<bool>, bool)> {
    let fds = outputs.iter().map(|output| output.fd.as_fd()).chain([process.pidfd()]);
    let mut polled: Vec<PollFd<'_>> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    loop {
        match poll(&mut polled, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
    let ended = ready.pop().unwrap_or(false);
    Ok((ready, ended))
}
