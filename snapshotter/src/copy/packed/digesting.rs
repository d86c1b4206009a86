//! The digest of the archive of a copy that shares with another layer: its thread reads what is shared itself, so the copy is done with
//! that as soon as it knows where it lies.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use base::digest::Digester;
use base::{CancelToken, Digest};

use crate::digest_thread::DigestThread;
use crate::packed::bases::Base;
use crate::window::Window;

/// How much of the copy's own is handed on at a time.
const BUFFER: usize = 64 << 10;

/// From what length on a part of another file is handed on, and how much of it is digested at a time: much less than a window.
const STEP: u64 = 1 << 20;
const PIECE: u64 = 256 << 10;

/// How many parts may wait.
const DEPTH: usize = 256;

/// A part of an archive.
enum Part {
    Bytes(Vec<u8>),
    /// In the file of this number of the other layer.
    Range {
        number: usize,
        offset: u64,
        length: u64,
    },
}

/// Digests an archive in the order of its parts.
pub(crate) struct SharedDigest {
    parts: SyncSender<Part>,
    thread: JoinHandle<io::Result<Digest>>,
    /// Not handed on yet.
    last: Option<Part>,
    /// Ends the thread when nobody waits for it any more.
    unwanted: Unwanted,
}

/// Says that something is not wanted when it is dropped.
struct Unwanted(CancelToken);

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl SharedDigest {
    /// Begins to digest one that has parts of `base`.
    pub(super) fn start(base: &Base) -> io::Result<Self> {
        let files = base.files.iter().map(|(_, file)| file.try_clone()).collect::<io::Result<Vec<File>>>()?;
        let (parts, receiver) = sync_channel(DEPTH);
        let unwanted = Unwanted(CancelToken::new());
        let ends = unwanted.0.clone();
        let work = move || digest(&files, &receiver, &ends);
        let thread = std::thread::Builder::new().name("digest".to_owned()).spawn(work)?;
        Ok(Self { parts, thread, last: None, unwanted })
    }

    /// Adds what is the copy's own.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.last {
            Some(Part::Bytes(last)) if last.len() < BUFFER => last.extend_from_slice(bytes),
            _ => self.hand_on(Part::Bytes(bytes.to_vec())),
        }
    }

    /// Adds what the other layer has in the file of this number.
    pub(super) fn share(&mut self, file: usize, from: u64, more: u64) {
        match &mut self.last {
            Some(Part::Range { number, offset, length })
                if *number == file && *offset + *length == from && *length < STEP =>
            {
                *length += more;
            }
            _ => self.hand_on(Part::Range { number: file, offset: from, length: more }),
        }
    }

    fn hand_on(&mut self, next: Part) {
        if let Some(last) = self.last.replace(next) {
            // It is there to take this, unless it could not read something.
            let _ = self.parts.send(last);
        }
    }

    /// The digest of all of it. Fails if something could not be read.
    fn finish(self) -> io::Result<Digest> {
        let Self { parts, thread, last, unwanted } = self;
        if let Some(last) = last {
            let _ = parts.send(last);
        }
        drop(parts);
        let digest = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        drop(unwanted);
        digest
    }
}

fn digest(files: &[File], parts: &Receiver<Part>, ends: &CancelToken) -> io::Result<Digest> {
    let mut digester = Digester::new();
    let mut windows: Vec<Window> = files.iter().map(|_| Window::default()).collect();
    while let Some(part) = next(parts, &mut windows) {
        match part {
            Part::Bytes(bytes) => digester.update(&bytes),
            Part::Range { number, mut offset, length } => {
                let at = number.checked_sub(1).ok_or(io::ErrorKind::NotFound)?;
                let (file, window) = files.get(at).zip(windows.get_mut(at)).ok_or(io::ErrorKind::NotFound)?;
                let mut left = length;
                while left > 0 {
                    if ends.is_cancelled() {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    let now = left.min(PIECE);
                    digester.update(window.bytes(file, offset, now)?);
                    offset += now;
                    left -= now;
                }
            }
        }
    }
    Ok(digester.finish())
}

/// The next part. Nothing is kept in memory while there is none yet, which may be long.
fn next(parts: &Receiver<Part>, windows: &mut [Window]) -> Option<Part> {
    parts.try_recv().ok().or_else(|| {
        windows.iter_mut().for_each(Window::let_go);
        parts.recv().ok()
    })
}

/// The digest of an archive that is written.
pub(crate) enum Digesting {
    Own(DigestThread),
    Shared(SharedDigest),
}

impl Digesting {
    /// Waits for it; `None` when the other layer cannot be read.
    pub(crate) fn finish(self) -> Option<Digest> {
        match self {
            Self::Own(digest) => Some(digest.finish()),
            Self::Shared(digest) => digest.finish().ok(),
        }
    }
}
