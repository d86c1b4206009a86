//! Digests on a thread of its own, so that reading or compressing a layer and digesting it overlap. What is short
//! is digested by the caller: most layers are, and a thread would cost more.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use base::Digest;
use base::digest::Digester;

/// How much is handed to the thread at a time.
const BUFFER: usize = 256 << 10;

/// How many full buffers may wait.
const DEPTH: usize = 8;

/// Digests what it is given.
pub(crate) struct DigestThread {
    /// Not handed on yet.
    buffer: Vec<u8>,
    worker: Worker,
}

enum Worker {
    /// Nothing was handed on so far, or there was no thread to be had.
    Caller(Digester),
    Thread {
        full: SyncSender<Vec<u8>>,
        empty: Receiver<Vec<u8>>,
        handle: JoinHandle<Digest>,
    },
}

impl Default for DigestThread {
    fn default() -> Self {
        Self { buffer: Vec::new(), worker: Worker::Caller(Digester::new()) }
    }
}

impl DigestThread {
    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        // Nothing here fails.
        let _ = self.update_and(bytes, |_| Ok(()));
    }

    /// Adds bytes, and shows `full` what was gathered before it is digested. What is [left](Self::pending) at the end it
    /// does not see.
    ///
    /// # Errors
    /// Those of `full`.
    pub(crate) fn update_and(
        &mut self,
        mut bytes: &[u8],
        mut full: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER {
                full(&self.buffer)?;
                self.hand_on();
            }
        }
        Ok(())
    }

    /// What was gathered and is not digested yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// The digest of all bytes added.
    pub(crate) fn finish(mut self) -> Digest {
        match self.worker {
            Worker::Caller(mut digester) => {
                digester.update(&self.buffer);
                digester.finish()
            }
            Worker::Thread { full, handle, .. } => {
                // The thread ends after its sender, and takes what was sent before.
                let _ = full.send(std::mem::take(&mut self.buffer));
                drop(full);
                handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }

    fn hand_on(&mut self) {
        if let Worker::Caller(digester) = &mut self.worker {
            match start(digester.clone()) {
                Some(thread) => self.worker = thread,
                None => {
                    digester.update(&self.buffer);
                    self.buffer.clear();
                }
            }
        }
        if let Worker::Thread { full, empty, .. } = &self.worker {
            let next = empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
            // It is there to take this: it ends after its sender.
            let _ = full.send(std::mem::replace(&mut self.buffer, next));
        }
    }
}

/// A thread that goes on with a digest.
fn start(mut digester: Digester) -> Option<Worker> {
    let (full, buffers) = sync_channel::<Vec<u8>>(DEPTH);
    let (used, empty) = channel();
    let digest = move || {
        for mut buffer in buffers {
            digester.update(&buffer);
            buffer.clear();
            // At the end nobody needs buffers any more.
            let _ = used.send(buffer);
        }
        digester.finish()
    };
    let handle = thread::Builder::new().name("digest".to_owned()).spawn(digest).ok()?;
    Some(Worker::Thread { full, empty, handle })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_whole_however_it_comes() {
        let data: Vec<u8> = (0..3 * BUFFER + 17).map(|number| number as u8).collect();
        for length in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, data.len()] {
            for piece in [1000, BUFFER, usize::MAX] {
                let mut digest = DigestThread::default();
                data[..length].chunks(piece).for_each(|piece| digest.update(piece));
                assert_eq!(digest.finish(), Digest::of(&data[..length]), "{length} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn one_that_is_not_finished_is_dropped() {
        let mut digest = DigestThread::default();
        digest.update(&vec![0; 20 * BUFFER]);
        drop(digest);
    }
}
