//! The digest of the archive of a copy that shares with another layer: its thread reads what is shared itself, so the copy is done with
//! that as soon as it knows where it lies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use base::Digest;
use base::digest::Digester;

use crate::digest_thread::DigestThread;
use crate::packed::bases::Base;

/// How much is read at a time.
const BUFFER: usize = 256 << 10;

/// How much is gathered until it is handed to the thread.
const STEP: u64 = 4 << 20;

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
    parts: Sender<Part>,
    thread: JoinHandle<io::Result<Digest>>,
    /// Not handed on yet.
    last: Option<Part>,
}

impl SharedDigest {
    /// Begins to digest one that has parts of `base`.
    pub(super) fn start(base: &Base) -> io::Result<Self> {
        let files = base.files.iter().map(|(_, file)| file.try_clone()).collect::<io::Result<Vec<File>>>()?;
        let (parts, receiver) = channel();
        let work = move || digest(&files, &receiver);
        let thread = std::thread::Builder::new().name("digest".to_owned()).spawn(work)?;
        Ok(Self { parts, thread, last: None })
    }

    /// Adds what is the copy's own.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.last {
            Some(Part::Bytes(last)) if (last.len() as u64) < STEP => last.extend_from_slice(bytes),
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
    fn finish(mut self) -> io::Result<Digest> {
        if let Some(last) = self.last.take() {
            let _ = self.parts.send(last);
        }
        drop(self.parts);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn digest(files: &[File], parts: &Receiver<Part>) -> io::Result<Digest> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; BUFFER];
    for part in parts {
        match part {
            Part::Bytes(bytes) => digester.update(&bytes),
            Part::Range { number, mut offset, length } => {
                let file =
                    number.checked_sub(1).and_then(|at| files.get(at)).ok_or(io::ErrorKind::NotFound)?;
                let mut left = length;
                while left > 0 {
                    let most = left.min(BUFFER as u64) as usize;
                    let bytes = &mut buffer[..most];
                    file.read_exact_at(bytes, offset)?;
                    digester.update(bytes);
                    offset += most as u64;
                    left -= most as u64;
                }
            }
        }
    }
    Ok(digester.finish())
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
