//! Moving bytes between our streams and the container's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use base::event::Stream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

use super::detach_keys::KeyMatcher;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Bytes moved by one call between pipes.
const SPLICED: usize = 1 << 20;

/// Bytes that a pipe takes at once when it is ready for writing (`PIPE_BUF`, pipe(7)).
const SURE_ROOM: usize = 4096;

/// Lets a pipe hold more, so that its two ends take turns less often. What an ordinary user's pipes hold in all is
/// limited (`pipe-user-pages-soft`, pipe(7)); it stays as it is then.
pub(super) fn widen(pipe: &OwnedFd) {
    let _ = fcntl_setpipe_size(pipe, SPLICED);
}

/// Copies an output to its end. Where our side is closed the container's is closed too, so that the
/// process gets SIGPIPE as it would without us.
pub(super) fn copy_output(from: OwnedFd, stream: Stream) {
    let ours = match stream {
        Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
        Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
    };
    if let Ok(ours) = ours {
        widen(&ours);
        copy(&from, &ours);
    }
}

/// Copies to the end of either side, without the bytes passing through our memory where the kernel can.
///
/// Not into files: both outputs may go to one (`> file 2>&1`), at one position. Writes take turns to move that, and
/// `splice(2)` does not, so that each stream would overwrite what the other has just written.
fn copy(from: &OwnedFd, to: &OwnedFd) {
    while !is_file(to) {
        match splice(from, None, to, None, SPLICED, SpliceFlags::MOVE) {
            Ok(1..) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_room(to),
            // Not between these two, if one is a terminal.
            Err(Errno::INVAL) => break,
            Ok(0) | Err(_) => return,
        }
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        match read(from, &mut chunk[..]) {
            Ok(length @ 1..) if write_all(to, &chunk[..length]) => {}
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

fn is_file(fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// Our outputs do not block if others, whom we share them with, have made them so.
fn wait_for_room(to: &OwnedFd) {
    // What goes wrong here goes wrong again with the next writing.
    let _ = poll(&mut [PollFd::new(to, PollFlags::OUT)], None);
}

/// Whether all could be written.
fn write_all(to: &OwnedFd, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_room(to),
            Err(_) => return false,
        }
    }
    true
}

/// What a terminal shows on its way to our standard output: bytes read and not yet written. Our side is never
/// made non-blocking, because others use it, too: it gets no more at once than there is surely room for.
pub(super) struct Output {
    /// Where it comes from, without blocking; `None` once it has ended.
    from: Option<OwnedFd>,
    buffer: Vec<u8>,
}

impl Output {
    /// `from` must not block.
    pub(super) fn new(from: OwnedFd) -> Self {
        Self { from: Some(from), buffer: Vec::new() }
    }

    /// Where bytes should be read from now.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.from.as_ref().filter(|_| self.buffer.is_empty()).map(AsFd::as_fd)
    }

    /// Where bytes wait to be written to.
    pub(super) fn target(&self) -> Option<io::Stdout> {
        (!self.buffer.is_empty()).then(io::stdout)
    }

    /// Reads a piece.
    pub(super) fn fill(&mut self) {
        let Some(from) = &self.from else { return };
        let mut chunk = vec![0; CHUNK];
        match read(from, &mut chunk[..]) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The last closing of a terminal is told as an error.
            Ok(0) | Err(_) => self.from = None,
            Ok(length) => {
                chunk.truncate(length);
                self.buffer = chunk;
            }
        }
    }

    /// Writes what a pipe that is ready for writing takes without blocking.
    pub(super) fn write_some(&mut self) {
        let length = self.buffer.len().min(SURE_ROOM);
        match write(io::stdout(), &self.buffer[..length]) {
            Ok(length) => drop(self.buffer.drain(..length)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody looks any more.
            Err(_) => (self.from, self.buffer) = (None, Vec::new()),
        }
    }

    /// The process has ended: passes on what is left.
    pub(super) fn finish(&mut self) {
        self.write_all();
        while self.from.is_some() {
            self.fill();
            if self.buffer.is_empty() {
                return;
            }
            self.write_all();
        }
    }

    fn write_all(&mut self) {
        while !self.buffer.is_empty() {
            self.write_some();
        }
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

    /// Whether nothing more is passed on.
    pub(super) fn is_over(&self) -> bool {
        self.to.is_none()
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
pub(crate) fn wait_for<const N: usize>(
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
