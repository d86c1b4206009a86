//! Streams that tell of builds as they go.

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::proto::control::StatusResponse;
use crate::status::StatusLog;

/// What a build says, from its beginning to its end.
pub(crate) fn status(status: Arc<StatusLog>) -> ReceiverStream<Result<StatusResponse, Status>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        let mut seen = 0;
        while let Some(messages) = status.next(seen).await {
            seen += messages.len();
            for message in messages {
                if sender.send(Ok((*message).clone())).await.is_err() {
                    return;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}
