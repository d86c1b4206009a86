//! What goes into a container and comes out of it, and where to.
//!
//! All descriptors towards those attached are pipes that do not block. What one of them cannot take yet is kept,
//! and until it can, the container's output is not read: a slow reader slows the container down, and nothing
//! is lost.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use base::Timestamp;
use base::event::Stream;
use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::pipe::{SpliceFlags, splice};

use super::connection::ConnectionId;
use crate::logs::Log;
use crate::logs::remote::Encrypt;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// How long a server may take for the last records of a container that has ended, as in Docker.
const LAST_RECORDS: Duration = Duration::from_secs(10);

/// Bytes thrown away at once.
const DISCARDED: usize = 1 << 20;

/// Which descriptor of the streams is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// An output of the container.
    Output(usize),
    /// The container's input.
    Input,
    /// Somebody's reading end.
    Outlet(usize),
    /// Somebody's writing end.
    Source(usize),
    /// What tells that records have been sent.
    Log,
}

/// An output of the container.
#[derive(Debug)]
struct Output {
    stream: Stream,
    fd: OwnedFd,
    ended: bool,
}

/// The container's input.
#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    pending: Vec<u8>,
    /// Whether it ends when all of `pending` is written.
    ending: bool,
}

/// Where an output of the container goes to.
#[derive(Debug)]
struct Outlet {
    of: ConnectionId,
    stream: Stream,
    fd: OwnedFd,
    pending: Vec<u8>,
    closed: bool,
}

/// Where input comes from.
#[derive(Debug)]
struct Source {
    of: ConnectionId,
    fd: OwnedFd,
    ended: bool,
}

/// All streams of a container.
#[derive(Debug, Default)]
pub(super) struct Streams {
    outputs: Vec<Output>,
    input: Option<Input>,
    outlets: Vec<Outlet>,
    sources: Vec<Source>,
    log: Option<Log>,
    /// Until when the last records are waited for.
    unsent_until: Option<Instant>,
    /// The first failure to write the log.
    log_failure: Option<String>,
    /// The container's input ends with the first source's.
    input_once: bool,
    /// What the outputs begin with, and how many bytes of that are wanted.
    captured: Vec<u8>,
    capture: usize,
    /// What is read last, kept so that its memory is.
    chunk: Vec<u8>,
    /// Where goes what nobody wants, once there was such.
    nowhere: Option<File>,
}

impl Streams {
    /// Nothing is connected.
    pub(super) fn new(log: Option<Log>, input_once: bool) -> Self {
        Self { log, input_once, ..Self::default() }
    }

    /// Connects with whoever gets the log, before a process is started.
    pub(super) fn connect_log(&mut self, encrypt: Encrypt) -> std::io::Result<()> {
        self.unsent_until = None;
        self.log.as_mut().map_or(Ok(()), |log| log.connect(encrypt))
    }

    /// Streams whose beginning is kept to be looked at.
    pub(super) fn capturing(bytes: usize) -> Self {
        Self { capture: bytes, ..Self::default() }
    }

    /// What the outputs began with.
    pub(super) fn take_captured(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.captured)
    }

    /// Connects the outputs of a new process.
    pub(super) fn connect(&mut self, outputs: Vec<(Stream, OwnedFd)>) {
        let output = |(stream, fd)| Output { stream, fd, ended: false };
        self.outputs = outputs.into_iter().map(output).collect();
    }

    /// Connects the input of a new process, if it has one.
    pub(super) fn set_input(&mut self, input: Option<OwnedFd>) {
        self.input = input.filter(|fd| ioctl_fionbio(fd, true).is_ok()).map(|fd| Input {
            fd,
            pending: Vec::new(),
            ending: false,
        });
    }

    /// Sends an output of the container to `fd`, too. A terminal has one output only.
    pub(super) fn add_outlet(&mut self, of: ConnectionId, stream: Stream, fd: OwnedFd) {
        if ioctl_fionbio(&fd, true).is_ok() {
            self.outlets.push(Outlet { of, stream, fd, pending: Vec::new(), closed: false });
        }
    }

    /// Takes input from `fd`, too.
    pub(super) fn add_source(&mut self, of: ConnectionId, fd: OwnedFd) {
        self.sources.push(Source { of, fd, ended: false });
    }

    /// Disconnects what belongs to a connection, with the next [`sweep`](Self::sweep). What somebody has said before he
    /// left is still passed on, to its end.
    pub(super) fn forget(&mut self, of: ConnectionId) {
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.of == of) {
            outlet.closed = true;
            outlet.pending.clear();
        }
        for source in self.sources.iter_mut().filter(|source| source.of == of) {
            source.ended |= !has_more(&source.fd);
        }
    }

    /// What to wait for.
    pub(super) fn interests(&self) -> Vec<(End, BorrowedFd<'_>, PollFlags)> {
        let mut interests = Vec::new();
        if let Some(news) = self.log.as_ref().and_then(Log::news) {
            interests.push((End::Log, news, PollFlags::IN));
        }
        let is_full = self.log.as_ref().is_some_and(Log::is_full);
        for (index, output) in self.outputs.iter().enumerate() {
            if !output.ended && !is_full && !self.is_blocked(output.stream) {
                interests.push((End::Output(index), output.fd.as_fd(), PollFlags::IN));
            }
        }
        for (index, outlet) in self.outlets.iter().enumerate() {
            // Without flags, it is told when nobody reads any more.
            let flags = if outlet.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            interests.push((End::Outlet(index), outlet.fd.as_fd(), flags));
        }
        let Some(input) = &self.input else { return interests };
        if !input.pending.is_empty() {
            interests.push((End::Input, input.fd.as_fd(), PollFlags::OUT));
        } else if !input.ending {
            let sources = self.sources.iter().enumerate();
            interests.extend(
                sources.map(|(index, source)| (End::Source(index), source.fd.as_fd(), PollFlags::IN)),
            );
        }
        interests
    }

    /// Does what has become possible.
    pub(super) fn ready(&mut self, end: End, flags: PollFlags, now: Timestamp) {
        match end {
            End::Output(index) => {
                self.read_output(index, now);
            }
            End::Input => self.write_input(),
            End::Outlet(index) => {
                if let Some(outlet) = self.outlets.get_mut(index) {
                    outlet.flush();
                    outlet.closed |= flags.intersects(PollFlags::ERR | PollFlags::HUP);
                }
            }
            End::Source(index) => self.read_source(index),
            End::Log => {
                if let Some(log) = &self.log {
                    log.clear_news();
                }
            }
        }
    }

    /// Forgets what has ended. To be called when no [`End`] is in use.
    pub(super) fn sweep(&mut self) {
        self.outputs.retain(|output| !output.ended);
        self.outlets.retain(|outlet| !outlet.closed);
        self.sources.retain(|source| !source.ended);
        if self.input.as_ref().is_some_and(|input| input.ending && input.pending.is_empty()) {
            self.input = None;
        }
    }

    /// The process has ended: takes what it has left, and disconnects it.
    pub(super) fn finish(&mut self, now: Timestamp) {
        for index in 0..self.outputs.len() {
            let is_open = |output: &Output| ioctl_fionbio(&output.fd, true).is_ok();
            // What it has left is no more than a pipe holds, unless somebody outside still writes to it.
            while is_open(&self.outputs[index]) && self.read_output(index, now) {}
        }
        self.outputs.clear();
        self.input = None;
        if let Some(log) = &mut self.log {
            let result = log.finish(now);
            self.note(result);
            self.unsent_until = Some(Instant::now() + LAST_RECORDS);
        }
    }

    /// Whether those attached, and whoever gets the log, have got everything.
    pub(super) fn is_flushed(&self) -> bool {
        let is_over = self.unsent_until.is_some_and(|until| until <= Instant::now());
        let is_sent = is_over || self.log.as_ref().is_none_or(Log::is_idle);
        is_sent && self.outlets.iter().all(|outlet| outlet.pending.is_empty())
    }

    /// Until when the last records are waited for.
    pub(super) fn patience(&self) -> Option<Instant> {
        self.unsent_until.filter(|_| self.log.as_ref().is_some_and(|log| !log.is_idle()))
    }

    /// Lets go of those who have not read everything.
    pub(super) fn give_up(&mut self) {
        self.outlets.iter_mut().for_each(|outlet| outlet.pending.clear());
        self.unsent_until = Some(Instant::now());
    }

    /// The first failure to write the log, once.
    pub(super) fn take_log_failure(&mut self) -> Option<String> {
        self.log_failure.take().or_else(|| self.log.as_ref().and_then(Log::take_failure))
    }

    /// Gives up what was not sent, and tells what went wrong since that was asked.
    pub(super) fn abandon_log(&mut self) -> Option<String> {
        let log = self.log.as_ref()?;
        log.abandon();
        log.take_failure()
    }

    fn is_blocked(&self, stream: Stream) -> bool {
        self.outlets.iter().any(|outlet| outlet.stream == stream && !outlet.pending.is_empty())
    }

    /// Reads a piece of an output and passes it on. `false` when there is nothing to read now.
    fn read_output(&mut self, index: usize, now: Timestamp) -> bool {
        let Some(stream) = self.outputs.get(index).map(|output| output.stream) else { return false };
        if let Some(discarded) = self.discard(index, stream) {
            return self.has_read(index, discarded).is_some();
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(CHUNK, 0);
        let read = read(&self.outputs[index].fd, &mut chunk[..]);
        let read = self.has_read(index, read);
        if let Some(Some(length)) = read {
            self.pass_on(stream, &chunk[..length], now);
        }
        self.chunk = chunk;
        read.is_some()
    }

    /// Takes a piece of an output that nobody wants out of its pipe without reading it. `None` where somebody wants
    /// it, or that cannot be done.
    fn discard(&mut self, index: usize, stream: Stream) -> Option<rustix::io::Result<usize>> {
        let is_wanted = self.log.is_some()
            || self.captured.len() < self.capture
            || self.outlets.iter().any(|outlet| outlet.stream == stream);
        if is_wanted {
            return None;
        }
        if self.nowhere.is_none() {
            self.nowhere = Some(File::options().write(true).open("/dev/null").ok()?);
        }
        let (from, to) = (&self.outputs.get(index)?.fd, self.nowhere.as_ref()?);
        match splice(from, None, to, None, DISCARDED, SpliceFlags::NONBLOCK) {
            // A terminal is no pipe.
            Err(Errno::INVAL) => None,
            taken => Some(taken),
        }
    }

    /// What came of reading an output: how many bytes, or none yet; `None` when there is nothing to read now.
    fn has_read(&mut self, index: usize, read: rustix::io::Result<usize>) -> Option<Option<usize>> {
        match read {
            Ok(length @ 1..) => Some(Some(length)),
            Err(Errno::INTR) => Some(None),
            Err(Errno::AGAIN) => None,
            // The last closing of a terminal is told as an error.
            Ok(0) | Err(_) => {
                self.outputs[index].ended = true;
                None
            }
        }
    }

    fn pass_on(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        if let Some(log) = &mut self.log {
            let result = log.write(stream, bytes, now);
            self.note(result);
        }
        let wanted = self.capture.saturating_sub(self.captured.len()).min(bytes.len());
        self.captured.extend_from_slice(&bytes[..wanted]);
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.stream == stream) {
            outlet.write(bytes);
        }
    }

    fn note(&mut self, result: Result<(), sys::path_error::PathError>) {
        if let Err(error) = result {
            self.log_failure.get_or_insert_with(|| format!("{error}: {}", error.source));
        }
    }

    fn read_source(&mut self, index: usize) {
        let (Some(input), Some(source)) = (&mut self.input, self.sources.get_mut(index)) else { return };
        if source.ended || !input.pending.is_empty() {
            return;
        }
        let mut chunk = vec![0; CHUNK];
        match read(&source.fd, &mut chunk[..]) {
            Ok(0) | Err(Errno::IO) => {
                source.ended = true;
                input.ending |= self.input_once;
            }
            Ok(length) => {
                chunk.truncate(length);
                input.pending = chunk;
                self.write_input();
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => source.ended = true,
        }
    }

    fn write_input(&mut self) {
        let Some(input) = &mut self.input else { return };
        while !input.pending.is_empty() {
            match write(&input.fd, &input.pending) {
                Ok(length) => drop(input.pending.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The container does not read any more.
                Err(_) => {
                    self.input = None;
                    return;
                }
            }
        }
    }
}

/// Whether something can be read, which may be the end.
fn has_more(source: &OwnedFd) -> bool {
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(source, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

impl Outlet {
    /// Passes bytes on, now as far as there is room.
    fn write(&mut self, bytes: &[u8]) {
        let written = if self.pending.is_empty() { self.write_now(bytes) } else { 0 };
        self.pending.extend_from_slice(&bytes[written..]);
    }

    /// Writes what there is room for, and tells how much that was. Who has gone takes all.
    fn write_now(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match write(&self.fd, &bytes[written..]) {
                Ok(length) => written += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.closed = true;
                    return bytes.len();
                }
            }
        }
        written
    }

    fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let written = self.write_now(&pending);
        self.pending = pending;
        self.pending.drain(..written);
        if self.pending.is_empty() {
            // Idle, it takes no memory.
            self.pending = Vec::new();
        }
    }
}
