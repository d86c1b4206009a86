//! Moving bytes between our streams and the container's.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use sys::signals::SignalPipe;

use super::pass_signals;
use crate::process::{Process, resize};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Which of our streams output goes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Stdout,
    Stderr,
}

impl Target {
    fn open(self) -> io::Result<File> {
        let fd = match self {
            Self::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Self::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        };
        fd.map(File::from)
    }
}

/// Copies an output to its end. Where our side is closed the container's is closed too, so that the
/// process gets SIGPIPE as it would without us.
pub(super) fn copy_output(from: OwnedFd, target: Target) {
    if let Ok(mut to) = target.open() {
        // Between files and pipes this does not pass through our memory. An error is the closing.
        let _ = io::copy(&mut File::from(from), &mut to);
    }
}

/// Input on its way to the container: bytes read and not yet written.
struct Input {
    /// Where it goes; `None` once the container does not read it any more or it has ended.
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    ended: bool,
}

impl Input {
    /// The descriptor is made non-blocking: a container that does not read must not stop us.
    fn new(to: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(to) = &to {
            ioctl_fionbio(to, true)?;
        }
        Ok(Self { ended: to.is_none(), to, buffer: Vec::new() })
    }

    fn wants_more(&self) -> bool {
        self.to.is_some() && !self.ended && self.buffer.is_empty()
    }

    /// Reads a piece of our standard input.
    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        match read(io::stdin(), &mut chunk[..]) {
            Ok(0) | Err(Errno::IO) => self.ended = true,
            Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Writes what the container takes now.
    fn drain(&mut self) -> io::Result<()> {
        let Some(to) = &self.to else { return Ok(()) };
        while !self.buffer.is_empty() {
            match write(to, &self.buffer) {
                Ok(length) => drop(self.buffer.drain(..length)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::IO) => {
                    self.buffer.clear();
                    self.to = None;
                    return Ok(());
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        if self.ended {
            self.to = None;
        }
        Ok(())
    }
}

/// Passes on signals, and input if there is a pipe for it, until the process ends.
pub(super) fn input(process: &Process, stdin: Option<OwnedFd>, signals: &SignalPipe) -> io::Result<()> {
    let mut input = Input::new(stdin)?;
    loop {
        let own_stdin = input.wants_more().then_some(io::stdin());
        let pending = input.to.as_ref().filter(|_| !input.buffer.is_empty());
        let [ended, signalled, readable, _] = wait_for([
            Some((process.pidfd(), PollFlags::IN)),
            Some((signals.as_fd(), PollFlags::IN)),
            own_stdin.as_ref().map(|stdin| (stdin.as_fd(), PollFlags::IN)),
            pending.map(|to| (to.as_fd(), PollFlags::OUT)),
        ])?;
        if ended {
            return Ok(());
        }
        if signalled {
            pass_signals(process, signals, |_| ())?;
        }
        if readable {
            input.fill()?;
        }
        input.drain()?;
    }
}

/// Connects our terminal and the container's until the container's has no more output.
pub(super) fn terminal(
    process: &Process,
    terminal: &OwnedFd,
    with_stdin: bool,
    signals: &SignalPipe,
) -> io::Result<()> {
    let mut input = Input::new(with_stdin.then(|| terminal.try_clone()).transpose()?)?;
    ioctl_fionbio(terminal, true)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let own_stdin = input.wants_more().then_some(io::stdin());
        let writable = if input.buffer.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let [output, signalled, readable, ended] = wait_for([
            Some((terminal.as_fd(), PollFlags::IN | writable)),
            Some((signals.as_fd(), PollFlags::IN)),
            own_stdin.as_ref().map(|stdin| (stdin.as_fd(), PollFlags::IN)),
            Some((process.pidfd(), PollFlags::IN)),
        ])?;
        if signalled {
            pass_signals(process, signals, |size| {
                // The terminal exists for as long as we hold it; what could fail is not ours to mend.
                let _ = resize(terminal, size);
            })?;
        }
        if readable {
            input.fill()?;
        }
        input.drain()?;
        if output && !copy_terminal(terminal, &mut chunk)? || ended && !output {
            return Ok(());
        }
    }
}

/// Copies what the container's terminal shows now; `false` when it has been closed for good.
fn copy_terminal(terminal: &OwnedFd, chunk: &mut [u8]) -> io::Result<bool> {
    match read(terminal, &mut *chunk) {
        // The kernel reports the last closing of the container's side as an error.
        Ok(0) | Err(Errno::IO) => Ok(false),
        Ok(length) => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&chunk[..length])?;
            stdout.flush()?;
            Ok(true)
        }
        Err(Errno::INTR | Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until something happens on one of the descriptors, and tells on which.
fn wait_for<const N: usize>(wanted: [Option<(BorrowedFd<'_>, PollFlags)>; N]) -> io::Result<[bool; N]> {
    let present = wanted.iter().flatten();
    let mut polled: Vec<PollFd<'_>> =
        present.map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    loop {
        match poll(&mut polled, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut results = polled.iter().map(|one| !one.revents().is_empty());
    Ok(wanted.map(|one| one.is_some() && results.next().unwrap_or(false)))
}
