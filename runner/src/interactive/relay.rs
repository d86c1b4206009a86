//! Moving bytes between our streams and the container's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use base::event::Stream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};

use super::detach_keys::KeyMatcher;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Copies an output to its end. Where our side is closed the container's is closed too, so that the
/// process gets SIGPIPE as it would without us.
pub(super) fn copy_output(from: OwnedFd, stream: Stream) {
    let ours = match stream {
        Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
        Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
    };
    if let Ok(ours) = ours {
        // Between files and pipes this does not pass through our memory. An error is the closing.
        let _ = io::copy(&mut File::from(from), &mut File::from(ours));
    }
}

/// Our input on its way to the container: bytes read and not yet written.
pub(super) struct Input {
    /// Where it goes; `None` once the container does not read it any more or it has ended.
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    ended: bool,
    keys: Option<KeyMatcher>,
}

impl Input {
    /// The descriptor is made non-blocking: a container that does not read must not stop us.
    pub(super) fn new(to: Option<OwnedFd>, keys: Option<KeyMatcher>) -> io::Result<Self> {
        if let Some(to) = &to {
            ioctl_fionbio(to, true)?;
        }
        Ok(Self { ended: to.is_none(), to, buffer: Vec::new(), keys })
    }

    /// Whether our input should be read now.
    pub(super) fn wants_more(&self) -> bool {
        self.to.is_some() && !self.ended && self.buffer.is_empty()
    }

    /// Where bytes wait to be written to.
    pub(super) fn pending(&self) -> Option<BorrowedFd<'_>> {
        self.to.as_ref().filter(|_| !self.buffer.is_empty()).map(AsFd::as_fd)
    }

    /// Reads a piece of our standard input. `true` when it has the keys to detach in it.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = vec![0; CHUNK];
        match read(io::stdin(), &mut chunk[..]) {
            Ok(0) | Err(Errno::IO) => self.ended = true,
            Ok(length) => match &mut self.keys {
                Some(keys) => return Ok(keys.feed(&chunk[..length], &mut self.buffer)),
                None => self.buffer.extend_from_slice(&chunk[..length]),
            },
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(false)
    }

    /// Writes what the container takes now.
    pub(super) fn drain(&mut self) -> io::Result<()> {
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

/// Waits until something happens on one of the descriptors, and tells on which.
pub(super) fn wait_for<const N: usize>(
    wanted: [Option<(BorrowedFd<'_>, PollFlags)>; N],
) -> io::Result<[bool; N]> {
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
