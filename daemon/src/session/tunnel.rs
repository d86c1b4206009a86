//! An HTTP/2 connection inside the two streams of a call.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
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

/// The two streams as one connection.
pub(super) struct Tunnel {
    incoming: Streaming<BytesMessage>,
    /// What has come and was not read yet.
    rest: (Vec<u8>, usize),
    outgoing: PollSender<Result<BytesMessage, Status>>,
    queue: Option<mpsc::Receiver<Result<BytesMessage, Status>>>,
    closer: watch::Sender<bool>,
    /// Ends when somebody has found that the client does not answer.
    given_up: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Tunnel {
    pub(super) fn new(
        incoming: Streaming<BytesMessage>,
        closer: watch::Sender<bool>,
        given_up: CancellationToken,
    ) -> Self {
        let given_up = Box::pin(given_up.cancelled_owned());
        let (sender, queue) = mpsc::channel(QUEUE);
        let outgoing = PollSender::new(sender);
        Self { incoming, rest: (Vec::new(), 0), outgoing, queue: Some(queue), closer, given_up }
    }

    /// A way to call what the client offers, and what goes back to it.
    pub(super) fn connect(mut self) -> Result<(Channel, Outgoing), Status> {
        let Some(queue) = self.queue.take() else { return Err(Status::internal("a session begins once")) };
        // There is one connection; when it is broken, the session is over.
        let only = Arc::new(Mutex::new(Some(self)));
        let connector = tower::service_fn(move |_: http::Uri| {
            let tunnel = only.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                tunnel.map(TokioIo::new).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotConnected, "the client's session is over")
                })
            }
        });
        let endpoint = Endpoint::from_static("http://session")
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        Ok((endpoint.connect_with_connector_lazy(connector), ReceiverStream::new(queue)))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.closer.send_replace(true);
    }
}

impl AsyncRead for Tunnel {
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
                Poll::Ready(None) => {
                    self.closer.send_replace(true);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Some(Ok(message))) => self.rest = (message.data, 0),
                Poll::Ready(Some(Err(status))) => {
                    self.closer.send_replace(true);
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
