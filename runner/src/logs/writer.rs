//! Writing a container's log.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use base::Timestamp;
use base::event::Stream;
use sys::path_error::{PathContext as _, PathError};

use super::options::LogOptions;
use super::pack;
use super::record::{LineEnd, encode};
use super::splitter::Splitter;
use super::{current, older, packed};

/// The log of a container that runs. There is one writer at a time.
#[derive(Debug)]
pub struct LogWriter {
    directory: PathBuf,
    options: LogOptions,
    file: File,
    size: u64,
    stdout: Splitter,
    stderr: Splitter,
    /// Records that are not in the file yet.
    pending: Vec<u8>,
    /// Compresses the file before the one that is written to.
    packing: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Goes on with the log in `directory`, or begins it; `None` when none is to be kept.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(directory: &Path, options: &LogOptions) -> Result<Option<Self>, PathError> {
        if !options.has_files() {
            return Ok(None);
        }
        let file = open(&current(directory))?;
        let size = file.metadata().at("inspect", &current(directory))?.len();
        Ok(Some(Self {
            directory: directory.to_owned(),
            options: options.clone(),
            file,
            size,
            stdout: Splitter::default(),
            stderr: Splitter::default(),
            pending: Vec::new(),
            packing: None,
        }))
    }

    /// Records what a stream has written by `now`. What is no complete line yet waits for its end.
    ///
    /// # Errors
    /// The file cannot be written; records may be lost.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> Result<(), PathError> {
        let mut splitter = std::mem::take(self.splitter(stream));
        let end = LineEnd::new(stream, now, &self.options.attributes);
        let mut result = Ok(());
        splitter.feed(bytes, |record| {
            if result.is_ok() {
                result = self.add(record, &end);
            }
        });
        *self.splitter(stream) = splitter;
        result.and_then(|()| self.flush())
    }

    /// The container has ended: records lines that have no end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&mut self, now: Timestamp) -> Result<(), PathError> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut splitter = std::mem::take(self.splitter(stream));
            let end = LineEnd::new(stream, now, &self.options.attributes);
            let mut result = Ok(());
            splitter.finish(|record| result = self.add(record, &end));
            result?;
        }
        self.flush()
    }

    fn splitter(&mut self, stream: Stream) -> &mut Splitter {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn add(&mut self, text: &[u8], end: &LineEnd) -> Result<(), PathError> {
        let before = self.pending.len();
        encode(&mut self.pending, text, end);
        let full = |max| self.size + self.pending.len() as u64 > max && self.size + before as u64 > 0;
        if self.options.max_size.is_some_and(full) {
            let record = self.pending.split_off(before);
            self.flush()?;
            self.rotate()?;
            self.pending = record;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PathError> {
        let written = self.file.write_all(&self.pending).at("write", &current(&self.directory));
        self.size += self.pending.len() as u64;
        self.pending.clear();
        written
    }

    /// Begins a new file. Whoever has the old one open still reads all of it.
    fn rotate(&mut self) -> Result<(), PathError> {
        // Numbers do not change while a file is compressed.
        self.finish_packing();
        let newest = current(&self.directory);
        let kept = self.options.max_files.max(1) - 1;
        if kept > 0 {
            let oldest = [older(&self.directory, kept), packed(&self.directory, kept)];
            oldest.iter().try_for_each(|path| sys::fs::remove_file(path).map(drop))?;
        }
        for number in (1..=kept).rev() {
            let newer = if number == 1 { newest.clone() } else { older(&self.directory, number - 1) };
            if_there(sys::fs::rename(&newer, &older(&self.directory, number)))?;
            if number > 1 {
                let newer = packed(&self.directory, number - 1);
                if_there(sys::fs::rename(&newer, &packed(&self.directory, number)))?;
            }
        }
        if kept == 0 {
            sys::fs::remove_file(&newest)?;
        }
        self.file = open(&newest)?;
        self.size = 0;
        if self.options.compress && kept > 0 {
            let directory = self.directory.clone();
            let pack = move || drop(pack::pack(&older(&directory, 1), &packed(&directory, 1)));
            // Without a thread for it, it stays as it is.
            self.packing = std::thread::Builder::new().stack_size(pack::STACK).spawn(pack).ok();
        }
        Ok(())
    }

    fn finish_packing(&mut self) {
        if let Some(packing) = self.packing.take() {
            let _ = packing.join();
        }
    }
}

impl Drop for LogWriter {
    /// Nobody else changes the files before.
    fn drop(&mut self) {
        self.finish_packing();
    }
}

/// What came of doing something to a file that may not be there.
fn if_there(done: Result<(), PathError>) -> Result<(), PathError> {
    match done {
        Err(error) if error.is_not_found() => Ok(()),
        done => done,
    }
}

pub(super) fn open(path: &Path) -> Result<File, PathError> {
    File::options().append(true).create(true).mode(0o600).open(path).at("open", path)
}
