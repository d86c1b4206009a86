//! Streams of what happens: lines that are sent as they come, for as long as there are more and somebody reads them.
//!
//! Nobody has a thread for waiting: ten thousand clients may follow at once.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use engine::error::EngineError;
use engine::following::{Follow, Ready};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

/// How many pieces wait for a slow client.
const WAITING: usize = 16;

/// After so many bytes a piece is sent; until then what is there at once is put together.
const PIECE: usize = 64 << 10;

/// A body of what is followed, each item written by `write`.
pub(super) fn body<F>(follow: F, write: impl FnMut(&F::Item, &mut Vec<u8>) + Send + 'static) -> Body
where
    F: Follow + Send + 'static,
    F::Item: Send,
{
    let (sender, receiver) = channel(WAITING);
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            result = send(follow, &sender, write) => {
                if let Err(error) = result {
                    // Who is gone already needs no error.
                    let _ = sender.send(Err(error)).await;
                }
            }
        }
    });
    Body::from_stream(ReceiverStream::new(receiver))
}

/// Sends what comes until it is over.
async fn send<F: Follow>(
    mut follow: F,
    sender: &Sender<io::Result<Bytes>>,
    mut write: impl FnMut(&F::Item, &mut Vec<u8>),
) -> io::Result<()> {
    let watched = follow.descriptor().map(|descriptor| descriptor.try_clone_to_owned()).transpose()?;
    // Nothing but that it is readable is asked of it, which pipes and inotify have in common.
    let watched = watched.map(Receiver::from_owned_fd_unchecked).transpose()?;
    let mut piece = Vec::new();
    loop {
        let gathered = tokio::task::block_in_place(|| gather(&mut follow, &mut piece, &mut write));
        let wait = match gathered.map_err(other)? {
            Gathered::Much => {
                if sender.send(Ok(std::mem::take(&mut piece).into())).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            Gathered::All(wait) => wait,
        };
        if !piece.is_empty() && sender.send(Ok(std::mem::take(&mut piece).into())).await.is_err() {
            return Ok(());
        }
        let Some(time) = wait else { return Ok(()) };
        let Some(watched) = &watched else {
            tokio::time::sleep(time).await;
            continue;
        };
        if let Ok(changed) = tokio::time::timeout(time, watched.readable()).await {
            changed?;
            let mut changes = [0; 4096];
            // Until there is none left, so that the next one is told.
            while watched.try_read(&mut changes).is_ok_and(|length| length > 0) {}
        }
    }
}

/// What was put together.
enum Gathered {
    /// As much as makes a piece.
    Much,
    /// All that is there, and how long to wait for more, if there will be more.
    All(Option<Duration>),
}

/// Puts what is there together, up to a piece.
fn gather<F: Follow>(
    follow: &mut F,
    piece: &mut Vec<u8>,
    write: &mut impl FnMut(&F::Item, &mut Vec<u8>),
) -> Result<Gathered, EngineError> {
    loop {
        match follow.ready()? {
            Ready::One(item) => write(&item, piece),
            Ready::Later(time) => return Ok(Gathered::All(Some(time))),
            Ready::Over => return Ok(Gathered::All(None)),
        }
        if piece.len() >= PIECE {
            return Ok(Gathered::Much);
        }
    }
}

fn other(error: EngineError) -> io::Error {
    io::Error::other(base::fault::chain(&error))
}
