//! Between bodies, which come and go without a thread, and the engine, which reads and writes.

use std::io::{self, Read, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use base::CancelToken;
use engine::Engine;
use engine::error::EngineError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{Api, ApiError};

/// How many pieces wait for a slow client.
const WAITING: usize = 8;

/// How many bytes make a piece.
const PIECE: usize = 128 << 10;

/// The body of a call, to be read on a thread that may wait.
pub(super) fn reader(body: Body) -> impl Read {
    let stream = body.into_data_stream().map(|piece| piece.map_err(io::Error::other));
    SyncIoBridge::new(StreamReader::new(stream))
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
        Self { piece: Vec::new(), sender }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone");
        self.sender.blocking_send(Ok(piece.into())).map_err(gone)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
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
