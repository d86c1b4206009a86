//! Between bodies, which come and go without a thread, and the engine, which reads and writes.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use axum::body::{Body, Bytes};
use base::CancelToken;
use engine::Engine;
use engine::error::EngineError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};

use super::{Api, ApiError};

/// How many pieces wait for a slow client.
const WAITING: usize = 8;

/// How many bytes make a piece.
const PIECE: usize = 256 << 10;

/// The body of a call, to be read on a thread that may wait. Clients send little at a time: it is gathered, so that this thread is not
/// woken for each of them.
pub(super) fn reader(body: Body) -> impl Read {
    let (sender, receiver) = channel(WAITING);
    let (used, unused) = channel(WAITING);
    tokio::spawn(gather(body, sender, unused));
    Gathered { receiver, used, piece: Vec::new(), at: 0 }
}

/// Sends a body on in pieces, in buffers that come back.
async fn gather(body: Body, sender: Sender<io::Result<Vec<u8>>>, mut unused: Receiver<Vec<u8>>) {
    let mut frames = body.into_data_stream();
    let mut is_over = false;
    while !is_over {
        let mut piece = unused.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        piece.clear();
        while piece.len() < PIECE {
            let frame = match there(&mut frames).await {
                Some(frame) => frame,
                // Whoever reads has nothing to do.
                None if !piece.is_empty() && sender.capacity() == WAITING => break,
                None => frames.next().await,
            };
            match frame {
                Some(Ok(bytes)) => piece.extend_from_slice(&bytes),
                Some(Err(error)) => {
                    // Nobody wants what is there of something that is cut off.
                    let _ = sender.send(Err(io::Error::other(error))).await;
                    return;
                }
                None => {
                    is_over = true;
                    break;
                }
            }
        }
        if sender.send(Ok(piece)).await.is_err() {
            return;
        }
    }
}

/// The next part of a body if it is there, once whoever takes it from the connection has had a turn; `Some(None)` at the end.
async fn there<S: Stream + Unpin>(frames: &mut S) -> Option<Option<S::Item>> {
    for turn in 0..2 {
        let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut *frames).poll_next(context))).await;
        match polled {
            Poll::Ready(frame) => return Some(frame),
            Poll::Pending if turn == 0 => tokio::task::yield_now().await,
            Poll::Pending => {}
        }
    }
    None
}

/// What was gathered of a body.
struct Gathered {
    receiver: Receiver<io::Result<Vec<u8>>>,
    used: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Gathered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(next) = self.receiver.blocking_recv() else { return Ok(0) };
            // Where nobody wants it, it goes.
            let _ = self.used.try_send(std::mem::replace(&mut self.piece, next?));
            self.at = 0;
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// What the engine writes, as a body. What fails before the first byte is the call's error; what fails later cuts the body off.
///
/// # Errors
/// The work fails at once.
pub(super) async fn written(
    api: &Arc<Api>,
    work: impl FnOnce(&Engine, Pipe, &CancelToken) -> Result<(), EngineError> + Send + 'static,
) -> Result<Body, ApiError> {
    let (sender, mut receiver) = channel(WAITING);
    let engine = Arc::clone(&api.engine);
    let cancel = CancelToken::new();
    tokio::task::spawn_blocking({
        let (pipe, cancel) = (Pipe::new(sender.clone()), cancel.clone());
        move || {
            if let Err(error) = work(&engine, pipe, &cancel) {
                // Who has gone does not ask why.
                let _ = sender.blocking_send(Err(error));
            }
        }
    });
    cancel_with(&mut receiver, cancel).await
}

/// The body of what comes, if it begins well. When nobody reads it any more, the work is cancelled.
async fn cancel_with(
    receiver: &mut Receiver<Result<Bytes, EngineError>>,
    cancel: CancelToken,
) -> Result<Body, ApiError> {
    let guard = CancelOnDrop(cancel);
    let first = match receiver.recv().await {
        None => Bytes::new(),
        Some(first) => first?,
    };
    let (_, empty) = channel(1);
    let rest = ReceiverStream::new(std::mem::replace(receiver, empty));
    let rest = rest.map(move |piece| {
        let _held = &guard;
        piece.map_err(|error| io::Error::other(base::fault::chain(&error)))
    });
    Ok(Body::from_stream(tokio_stream::once(Ok(first)).chain(rest)))
}

/// Cancels what is done for a body when nobody has the body any more.
pub(super) struct CancelOnDrop(pub(super) CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Writes a body.
pub(super) struct Pipe {
    piece: Vec<u8>,
    sender: Sender<Result<Bytes, EngineError>>,
}

impl Pipe {
    fn new(sender: Sender<Result<Bytes, EngineError>>) -> Self {
        Self { piece: Vec::with_capacity(PIECE), sender }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone");
        self.sender.blocking_send(Ok(piece.into())).map_err(gone)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..length]);
        if self.piece.len() >= PIECE {
            self.send()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.send();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a body that comes in these frames.
    fn read(frames: Vec<io::Result<Bytes>>) -> io::Result<Vec<u8>> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let body = Body::from_stream(tokio_stream::iter(frames));
            let reading = tokio::task::spawn_blocking(move || {
                let (mut reader, mut bytes) = (reader(body), Vec::new());
                reader.read_to_end(&mut bytes).map(|_| bytes)
            });
            reading.await.unwrap()
        })
    }

    #[test]
    fn frames_become_one_text() {
        let frames: Vec<Vec<u8>> = (0..300_u32).map(|n| vec![n as u8; (n * 37 % 9000) as usize]).collect();
        let sent = frames.iter().map(|frame| Ok(frame.clone().into())).collect();
        assert!(read(sent).unwrap() == frames.concat());
        assert_eq!(read(Vec::new()).unwrap(), b"");
        let cut_off = vec![Ok("some".into()), Err(io::Error::other("gone"))];
        assert!(read(cut_off).unwrap_err().to_string().contains("gone"));
    }
}
