//! The log of a container that runs: files, a server, or both.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use base::Timestamp;
use base::event::Stream;
use sys::path_error::PathError;

use super::options::LogOptions;
use super::remote::carrier::{Carrier, Item, Target};
use super::remote::{Driver, Encrypt, Message, Origin, Part};
use super::splitter::Splitter;
use super::writer::LogWriter;

/// Where what a container writes goes.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    options: LogOptions,
    files: Option<LogWriter>,
    sender: Option<Sender>,
}

/// What is sent, cut into records.
#[derive(Debug)]
struct Sender {
    carrier: Carrier,
    stdout: Cutter,
    stderr: Cutter,
    number: u64,
}

/// The lines of one stream.
#[derive(Debug, Default)]
struct Cutter {
    splitter: Splitter,
    /// The line of which a piece was sent: its id, and how many pieces.
    line: Option<(String, u32)>,
}

impl Log {
    /// Goes on with the log in `directory`, or begins it; `None` when none is to be kept. Nothing is connected yet.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn open(directory: &Path, options: &LogOptions) -> Result<Option<Self>, PathError> {
        // Files that nobody is to wait for are written by another thread.
        let is_apart = options.remote.is_none() && options.dropping.is_some();
        let files = if is_apart { None } else { LogWriter::open(directory, options)? };
        let is_kept = files.is_some() || is_apart && options.has_files() || options.remote.is_some();
        let (directory, options) = (directory.to_owned(), options.clone());
        Ok(is_kept.then_some(Self { directory, options, files, sender: None }))
    }

    /// Connects with the server, unless that has happened.
    ///
    /// # Errors
    /// There is nobody, or the thread that sends cannot be started.
    pub fn connect(&mut self, encrypt: Encrypt) -> io::Result<()> {
        let is_apart = self.options.remote.is_none() && self.options.dropping.is_some();
        if self.sender.is_some() || !is_apart && self.options.remote.is_none() {
            return Ok(());
        }
        let target = match &self.options.remote {
            Some(remote) => {
                let origin = Origin::new(&self.options.source, &self.options.attributes);
                Target::Driver(Box::new(Driver::open(remote, origin, encrypt)?))
            }
            None => match LogWriter::open(&self.directory, &self.options).map_err(io::Error::other)? {
                Some(files) => Target::File(Box::new(files)),
                None => return Ok(()),
            },
        };
        let carrier = Carrier::start(target, self.options.dropping)?;
        let (stdout, stderr) = (Cutter::default(), Cutter::default());
        self.sender = Some(Sender { carrier, stdout, stderr, number: 0 });
        Ok(())
    }

    /// Records what a stream has written by `now`. What is no complete line yet waits for its end.
    ///
    /// # Errors
    /// A file cannot be written; records may be lost.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> Result<(), PathError> {
        if let Some(sender) = &mut self.sender {
            sender.write(stream, bytes, now);
        }
        self.files.as_mut().map_or(Ok(()), |files| files.write(stream, bytes, now))
    }

    /// The container has ended: records lines that have no end.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(&mut self, now: Timestamp) -> Result<(), PathError> {
        if let Some(sender) = &mut self.sender {
            sender.finish(now);
        }
        self.files.as_mut().map_or(Ok(()), |files| files.finish(now))
    }

    /// Whether the container has to wait until records have been sent. [`news`](Self::news) tells when.
    pub fn is_full(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.carrier.is_full())
    }

    /// Whether all records have been sent. [`news`](Self::news) tells when.
    pub fn is_idle(&self) -> bool {
        self.sender.as_ref().is_none_or(|sender| sender.carrier.is_idle())
    }

    /// Can be read when something has changed that was asked for.
    pub fn news(&self) -> Option<BorrowedFd<'_>> {
        self.sender.as_ref().map(|sender| sender.carrier.news())
    }

    /// Takes note of the news.
    pub fn clear_news(&self) {
        if let Some(sender) = &self.sender {
            sender.carrier.clear_news();
        }
    }

    /// Gives up what was not sent.
    pub fn abandon(&self) {
        if let Some(sender) = &self.sender {
            sender.carrier.abandon();
        }
    }

    /// What went wrong with sending since this was asked.
    pub fn take_failure(&self) -> Option<String> {
        self.sender.as_ref().and_then(|sender| sender.carrier.take_failure())
    }
}

impl Sender {
    fn cutter(&mut self, stream: Stream) -> &mut Cutter {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        let mut cutter = std::mem::take(self.cutter(stream));
        let mut splitter = std::mem::take(&mut cutter.splitter);
        splitter.feed(bytes, |record| self.send(stream, record, now, &mut cutter, false));
        cutter.splitter = splitter;
        *self.cutter(stream) = cutter;
    }

    fn finish(&mut self, now: Timestamp) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut cutter = std::mem::take(self.cutter(stream));
            let mut splitter = std::mem::take(&mut cutter.splitter);
            splitter.finish(|record| self.send(stream, record, now, &mut cutter, true));
        }
        self.carrier.push(Item::Finish(now));
    }

    fn send(&mut self, stream: Stream, record: &[u8], now: Timestamp, cutter: &mut Cutter, is_end: bool) {
        let line = record.strip_suffix(b"\n");
        let has_end = line.is_some();
        let text = line.unwrap_or(record).to_vec();
        self.number += 1;
        let part = cutter.part(has_end || is_end);
        let message = Message { stream, time: now, text, part, number: self.number };
        self.carrier.push(Item::Record(message, has_end));
    }
}

impl Cutter {
    /// Which piece of a line comes now; `None` for a line that is whole.
    fn part(&mut self, is_last: bool) -> Option<Part> {
        if is_last {
            let (id, count) = self.line.take()?;
            return Some(Part { id, number: count + 1, is_last });
        }
        let (id, count) = self.line.get_or_insert_with(|| (sys::random::hex(32).unwrap_or_default(), 0));
        *count += 1;
        Some(Part { id: id.clone(), number: *count, is_last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_line_are_numbered() {
        let mut cutter = Cutter::default();
        assert_eq!(cutter.part(true), None);
        let first = cutter.part(false).unwrap();
        let second = cutter.part(false).unwrap();
        let last = cutter.part(true).unwrap();
        assert!(first.id == second.id && second.id == last.id && first.id.len() == 64);
        assert_eq!((first.number, second.number, last.number), (1, 2, 3));
        assert_eq!((first.is_last, last.is_last), (false, true));
        assert_eq!(cutter.part(true), None);
        assert_ne!(cutter.part(false).unwrap().id, first.id);
    }
}
