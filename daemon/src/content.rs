//! `containerd.services.content.v1.Content`, to be read only: what the history names, and what is in the store.
//!
//! Source: containerd, `api/services/content/v1/content.proto`. Nobody writes through it: what clients send comes in sessions.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::Digest;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::builds::Builds;
use crate::content_messages::{Info, InfoRequest, InfoResponse, ReadRequest, ReadResponse};
use crate::waiting;

/// Bytes of one message.
const PIECE: usize = 1 << 20;

/// How many pieces wait for a client.
const QUEUE: usize = 2;

/// How many blobs one message lists.
const LISTED: usize = 100;

#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    info: Vec<Info>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {
    #[prost(string, tag = "1")]
    name: String,
}

/// The service.
#[derive(Clone)]
pub(crate) struct ContentService(pub(crate) Arc<Builds>);

impl NamedService for ContentService {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

/// What a client reads.
enum Content {
    Attachment(Vec<u8>),
    Blob(File, u64),
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Self::Attachment(bytes) => bytes.len() as u64,
            Self::Blob(_, size) => *size,
        }
    }

    /// A piece from `offset` on, of at most `length` bytes.
    fn piece(&mut self, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Attachment(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
                let rest = rest.unwrap_or_default();
                Ok(rest[..length.min(rest.len())].to_vec())
            }
            Self::Blob(file, _) => {
                file.seek(SeekFrom::Start(offset))?;
                let mut piece = Vec::new();
                file.take(length as u64).read_to_end(&mut piece)?;
                Ok(piece)
            }
        }
    }
}

impl ContentService {
    async fn find(&self, digest: &str) -> Result<Content, Status> {
        let parsed: Digest = digest
            .parse()
            .map_err(|_| Status::invalid_argument(format!("{digest:?} is no digest such as sha256:…")))?;
        let engine = Arc::clone(&self.0.engine);
        let found = waiting(move || {
            if let Some(bytes) = engine.build_attachment(&parsed)? {
                return Ok(Some(Content::Attachment(bytes)));
            }
            let Some(file) = engine.open_content(&parsed)? else { return Ok(None) };
            // It was just looked at; who cannot is told when it is read.
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            Ok(Some(Content::Blob(file, size)))
        });
        found.await?.ok_or_else(|| Status::not_found(format!("content {digest}: not found")))
    }

    async fn info(self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let digest = request.into_inner().digest;
        let size = self.find(&digest).await?.size();
        Ok(Response::new(InfoResponse { info: Some(info(digest, size)) }))
    }

    async fn list(
        self,
        request: Request<ListRequest>,
    ) -> Result<Response<ReceiverStream<Result<ListResponse, Status>>>, Status> {
        if request.into_inner().filters.iter().any(|filter| !filter.is_empty()) {
            return Err(Status::unimplemented("content is listed without filters"));
        }
        let engine = Arc::clone(&self.0.engine);
        let all = waiting(move || engine.build_attachments()).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
        tokio::spawn(async move {
            for some in all.chunks(LISTED) {
                let info = some.iter().map(|(digest, size)| info(digest.to_string(), *size)).collect();
                if sender.send(Ok(ListResponse { info })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn read(
        self,
        request: Request<ReadRequest>,
    ) -> Result<Response<ReceiverStream<Result<ReadResponse, Status>>>, Status> {
        let ReadRequest { digest, offset, size } = request.into_inner();
        let mut content = self.find(&digest).await?;
        let range = range(content.size(), offset, size).ok_or_else(|| {
            let has = content.size();
            Status::out_of_range(format!("content {digest} has {has} bytes, not {size} from {offset} on"))
        })?;
        let (sender, receiver) = tokio::sync::mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let (mut at, end) = range;
            while at < end {
                let length = usize::try_from(end - at).map_or(PIECE, |rest| rest.min(PIECE));
                let piece = content.piece(at, length);
                let message = match piece {
                    Ok(data) if data.is_empty() => Err(Status::data_loss("the content ends too early")),
                    Ok(data) => Ok(ReadResponse { offset: i64::try_from(at).unwrap_or(0), data }),
                    Err(error) => Err(Status::unknown(format!("cannot read content: {error}"))),
                };
                at += message.as_ref().map_or(0, |message| message.data.len() as u64);
                let failed = message.is_err();
                if sender.blocking_send(message).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn info(digest: String, size: u64) -> Info {
    Info { digest, size: i64::try_from(size).unwrap_or(i64::MAX), labels: HashMap::new() }
}

/// From where to where is read: all that follows, if no size is asked for.
fn range(has: u64, offset: i64, size: i64) -> Option<(u64, u64)> {
    let offset = u64::try_from(offset).ok().filter(|offset| *offset <= has)?;
    let end = match u64::try_from(size).ok()? {
        0 => has,
        size => offset.checked_add(size).filter(|end| *end <= has)?,
    };
    Some((offset, end))
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Service<http::Request<Body>> for ContentService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let service = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "Info" => {
                    let call = service_fn(move |request| service.clone().info(request));
                    Grpc::new(ProstCodec::default()).unary(call, request).await
                }
                "List" => {
                    let call = service_fn(move |request| service.clone().list(request));
                    Grpc::new(ProstCodec::default()).server_streaming(call, request).await
                }
                "Read" => {
                    let call = service_fn(move |request| service.clone().read(request));
                    Grpc::new(ProstCodec::default()).server_streaming(call, request).await
                }
                // Nothing is being written, so nothing is known of it.
                "Status" => {
                    let call = service_fn(|request: Request<StatusRequest>| async move {
                        let name = request.into_inner().name;
                        Err::<Response<InfoResponse>, _>(Status::not_found(format!(
                            "nobody writes content {name}"
                        )))
                    });
                    Grpc::new(ProstCodec::default()).unary(call, request).await
                }
                "ListStatuses" => {
                    let call = service_fn(|_: Request<ListRequest>| async move {
                        Ok::<_, Status>(Response::new(ListResponse::default()))
                    });
                    Grpc::new(ProstCodec::default()).unary(call, request).await
                }
                other => Status::unimplemented(format!(
                    "Content/{other} is not served by this builder: its content is read only"
                ))
                .into_http(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_read() {
        assert_eq!(range(10, 0, 0), Some((0, 10)));
        assert_eq!(range(10, 4, 2), Some((4, 6)));
        assert_eq!(range(10, 10, 0), Some((10, 10)));
        for (offset, size) in [(-1, 0), (11, 0), (0, -1), (9, 2), (i64::MAX, i64::MAX)] {
            assert_eq!(range(10, offset, size), None);
        }
    }
}
