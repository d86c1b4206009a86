//! Bodies of requests: bytes or a file, whole or a part, read anew for each try.

use std::io::{self, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio_util::io::ReaderStream;

use crate::blob::Progress;
use crate::transport::{ErrorSlot, take_error};

/// How much of a file is read at once.
const READ_SIZE: usize = 256 * 1024;

/// Where the bytes of a blob to push come from. They may be read more than once.
#[derive(Clone)]
pub enum BlobSource {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file, opened anew for each try.
    File(Arc<dyn Fn() -> io::Result<std::fs::File> + Send + Sync>),
}

impl BlobSource {
    /// The file at `path`.
    pub fn file(path: &Path) -> Self {
        let path = path.to_owned();
        Self::File(Arc::new(move || std::fs::File::open(&path)))
    }
}

/// The body of a request.
#[derive(Clone)]
pub(crate) struct Payload {
    pub(crate) source: BlobSource,
    /// Its length in bytes.
    pub(crate) size: u64,
    pub(crate) progress: Option<Progress>,
}

impl Payload {
    /// All of it.
    pub(crate) fn whole(&self) -> Range<u64> {
        0..self.size
    }

    /// Opens a part of the source as a request body that reports to `sending`.
    pub(crate) fn open(&self, part: &Range<u64>, sending: &mut Sending) -> io::Result<reqwest::Body> {
        let mut file = match &self.source {
            BlobSource::Bytes(bytes) => return Ok(slice(bytes, part)?.into()),
            BlobSource::File(open) => open()?,
        };
        let actual = file.metadata()?.len();
        if actual != self.size {
            let message = format!("the file has {actual} bytes instead of {}", self.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        file.seek(SeekFrom::Start(part.start))?;
        let reader = CountingReader {
            file: tokio::fs::File::from_std(file).take(part.end - part.start),
            before: part.start,
            sent: sending.sent.clone(),
            error: sending.error.clone(),
            progress: self.progress.clone(),
        };
        Ok(reqwest::Body::wrap_stream(ReaderStream::with_capacity(reader, READ_SIZE)))
    }
}

/// A part of some bytes.
fn slice(bytes: &Bytes, part: &Range<u64>) -> io::Result<Bytes> {
    let place = |at| usize::try_from(at).ok().filter(|at| *at <= bytes.len());
    match (place(part.start), place(part.end)) {
        (Some(start), Some(end)) if start <= end => Ok(bytes.slice(start..end)),
        _ => {
            let message = format!("there are {} bytes, not {}", bytes.len(), part.end);
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }
}

/// How far a body has gone out, as its sender sees it.
#[derive(Default)]
pub(crate) struct Sending {
    sent: Arc<AtomicU64>,
    seen: u64,
    error: ErrorSlot,
}

impl Sending {
    /// Whether bytes went out since this was last asked.
    pub(crate) fn advanced(&mut self) -> bool {
        let sent = self.sent.load(Ordering::Relaxed);
        std::mem::replace(&mut self.seen, sent) != sent
    }

    /// The error that ended the source, if one did.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        take_error(&self.error)
    }
}

/// A file that counts what is read of it.
struct CountingReader {
    file: tokio::io::Take<tokio::fs::File>,
    /// How many bytes of the blob went out before.
    before: u64,
    sent: Arc<AtomicU64>,
    error: ErrorSlot,
    progress: Option<Progress>,
}

impl AsyncRead for CountingReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = std::task::ready!(Pin::new(&mut self.file).poll_read(task, buffer));
        if let Err(error) = outcome {
            let copy = io::Error::from(error.kind());
            *self.error.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            return Poll::Ready(Err(copy));
        }
        let count = (buffer.filled().len() - before) as u64;
        let sent = self.sent.fetch_add(count, Ordering::Relaxed) + count;
        if let Some(progress) = self.progress.as_ref().filter(|_| count > 0) {
            progress(self.before + sent);
        }
        Poll::Ready(Ok(()))
    }
}
