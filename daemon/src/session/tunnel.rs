//! The connection in which we are the client of a client: the two streams of a call, or one that was Docker's before.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, PollSender, WaitForCancellationFutureOwned};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::proto::control::BytesMessage;

/// What goes back to the client.
pub(crate) type Outgoing = ReceiverStream<Result<BytesMessage, Status>>;

/// How many messages wait to go out.
const QUEUE: usize = 32;

/// How many bytes a client may send of one file before we have taken them, and of all.
const WINDOW: u32 = 4 << 20;

/// The largest piece that goes out at once.
const PIECE: usize = 64 << 10;

/// The two streams of a call as one connection.
pub(super) struct Tunnel {
    incoming: Streaming<BytesMessage>,
    /// What has come and was not read yet.
    rest: (Vec<u8>, usize),
    outgoing: PollSender<Result<BytesMessage, Status>>,
}

impl Tunnel {
    /// The connection, and what goes back to the client.
    pub(super) fn new(incoming: Streaming<BytesMessage>) -> (Self, Outgoing) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let outgoing = PollSender::new(sender);
        (Self { incoming, rest: (Vec::new(), 0), outgoing }, ReceiverStream::new(queue))
    }
}

/// A connection to a client, whose end is told, and that somebody may give up.
pub(super) struct Watched<T> {
    connection: T,
    closer: watch::Sender<bool>,
    /// Ends when somebody has found that the client does not answer.
    given_up: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Watched<T> {
    pub(super) fn new(connection: T, closer: watch::Sender<bool>, given_up: CancellationToken) -> Self {
        Self { connection, closer, given_up: Box::pin(given_up.cancelled_owned()) }
    }

    /// A way to call what the client offers.
    pub(super) fn channel(self) -> Channel {
        // There is one connection; when it is broken, the session is over.
        let only = Arc::new(Mutex::new(Some(self)));
        let connector = tower::service_fn(move |_: http::Uri| {
            let connection = only.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                connection.map(TokioIo::new).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotConnected, "the client's session is over")
                })
            }
        });
        let endpoint = Endpoint::from_static("http://session")
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        endpoint.connect_with_connector_lazy(connector)
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.closer.send_replace(true);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The connection reads all the time, so whoever waits for an answer is told at once.
        if self.given_up.as_mut().poll(context).is_ready() {
            self.closer.send_replace(true);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not answer")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.connection).poll_read(context, buffer);
        match &read {
            Poll::Ready(Ok(())) if buffer.filled().len() > before || buffer.remaining() == 0 => {}
            Poll::Ready(_) => drop(self.closer.send_replace(true)),
            Poll::Pending => {}
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let (data, read) = &mut self.rest;
            if *read < data.len() {
                let piece = &data[*read..];
                let length = piece.len().min(buffer.remaining());
                buffer.put_slice(&piece[..length]);
                *read += length;
                return Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.incoming).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Ok(message))) => self.rest = (message.data, 0),
                Poll::Ready(Some(Err(status))) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, status)));
                }
            }
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let broken = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone");
        match self.outgoing.poll_reserve(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(ready) => ready.map_err(broken)?,
        }
        let piece = &data[..data.len().min(PIECE)];
        self.outgoing.send_item(Ok(BytesMessage { data: piece.to_vec() })).map_err(broken)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}
