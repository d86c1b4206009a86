//! Reads a stream on a thread of its own, a few buffers ahead of the reader, and digests it on another. For
//! layers this overlaps decompression with the system calls that make the files.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use base::Digest;

use crate::digest_thread::DigestThread;

/// The size of a buffer.
pub(crate) const BUFFER: usize = 256 << 10;

/// How many full buffers may wait.
const DEPTH: usize = 8;

/// The reading end of the stream.
pub(crate) struct ReadAhead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

/// Runs `work` on the bytes of `source`. The digest is that of the whole stream if `work` read it to its
/// end, and of some part of it otherwise. Fails only if the thread cannot be started.
pub(crate) fn run<T>(source: impl Read + Send, work: impl FnOnce(ReadAhead) -> T) -> io::Result<(T, Digest)> {
    let (full_sender, full) = sync_channel(DEPTH);
    let (empty, empty_receiver) = channel();
    thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("read-ahead".to_owned())
            .spawn_scoped(scope, move || pump(source, &full_sender, &empty_receiver))?;
        let result = work(ReadAhead { full, empty, current: Vec::new(), position: 0 });
        let digest = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((result, digest))
    })
}

/// Fills buffers until the stream ends or fails, or nobody wants more.
fn pump(mut source: impl Read, full: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) -> Digest {
    // Decompressing takes longer than all else, so it has this thread for itself.
    let mut digester = DigestThread::default();
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.clear();
        let read = source.by_ref().take(BUFFER as u64).read_to_end(&mut buffer);
        digester.update(&buffer);
        let end = buffer.is_empty();
        // What came before an error is handed on first, so that the error shows at its own offset. A failed
        // send means that the reader is gone.
        if !end && full.send(Ok(buffer)).is_err() {
            return digester.finish();
        }
        if let Err(error) = read {
            let _ = full.send(Err(error));
            return digester.finish();
        }
        if end {
            return digester.finish();
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() {
            let used = std::mem::take(&mut self.current);
            self.position = 0;
            if used.capacity() > 0 {
                // At the end of the stream the thread is gone and needs no buffers.
                let _ = self.empty.send(used);
            }
            // When the thread has ended, so has the stream.
            if let Ok(next) = self.full.recv() {
                self.current = next?;
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}
