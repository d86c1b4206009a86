//! What clients go on sending when they have their answer already.
//!
//! A connection that is closed while its client still speaks may lose the answer: the client's next write fails, and it says "broken pipe"
//! instead of why it was refused. So a little more is read, as servers in Go do.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::oneshot;

/// How many bytes are read of what nobody wants. Who sends more is cut off.
const LONGEST: u64 = 256 << 10;

/// How long is waited for them.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body that is given back when nobody reads it any more before its end.
struct Given {
    body: Option<Body>,
    back: Option<oneshot::Sender<Body>>,
}

impl Drop for Given {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take())
            && !body.is_end_stream()
        {
            // The answer may be given already, and go on while the body is read.
            let _ = back.send(body);
        }
    }
}

impl hyper::body::Body for Given {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, hyper::body::Body::size_hint)
    }
}

/// What is left of a body that was not read to its end.
pub(crate) struct Rest(oneshot::Receiver<Body>);

/// Lends a body to who answers.
pub(crate) fn lend(body: Body) -> (Body, Rest) {
    let (back, rest) = oneshot::channel();
    (Body::new(Given { body: Some(body), back: Some(back) }), Rest(rest))
}

impl Rest {
    /// Reads what is left, if the body is not in use.
    pub(crate) async fn pass_over(mut self) {
        let Ok(mut body) = self.0.try_recv() else { return };
        let read = async {
            let mut length = 0;
            while let Some(Ok(frame)) =
                std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
            {
                length += frame.data_ref().map_or(0, |data| data.len() as u64);
                if length > LONGEST {
                    break;
                }
            }
        };
        // Who is slower than that is cut off.
        let _ = tokio::time::timeout(PATIENCE, read).await;
    }
}
