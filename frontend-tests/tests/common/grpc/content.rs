//! `containerd.services.content.v1.Content`, as far as clients of builds use it: the messages, and the calls that read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::http;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::server::NamedService;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::Client;

/// What is known of a blob.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BlobInfo {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
    #[prost(int64, tag = "2")]
    pub(crate) size: i64,
    #[prost(message, optional, tag = "3")]
    pub(crate) created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    pub(crate) updated_at: Option<Timestamp>,
    #[prost(map = "string, string", tag = "5")]
    pub(crate) labels: HashMap<String, String>,
}

/// A request that is about one blob, or one upload.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OfDigest {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    info: Option<BlobInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    info: Vec<BlobInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadRequest {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    offset: i64,
    #[prost(int64, tag = "3")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadResponse {
    #[prost(int64, tag = "1")]
    offset: i64,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

impl Client {
    /// `Content/Info`
    pub(crate) fn blob_info(&self, digest: &str) -> Result<BlobInfo, Status> {
        let request = OfDigest { digest: digest.to_owned() };
        let answer: InfoResponse = self.content("Info", request)?.pop().expect("an answer");
        Ok(answer.info.expect("an info"))
    }

    /// `Content/List`
    pub(crate) fn blobs(&self) -> Result<Vec<BlobInfo>, Status> {
        let answers: Vec<ListResponse> = self.content("List", ListRequest::default())?;
        Ok(answers.into_iter().flat_map(|answer| answer.info).collect())
    }

    /// `Content/Read`: a blob from `offset` on, all of it or `size` bytes.
    pub(crate) fn read_blob(&self, digest: &str, offset: i64, size: i64) -> Result<Vec<u8>, Status> {
        let request = ReadRequest { digest: digest.to_owned(), offset, size };
        let answers: Vec<ReadResponse> = self.content("Read", request)?;
        Ok(answers.into_iter().flat_map(|answer| answer.data).collect())
    }

    /// Any method of the service that has one request: all its answers.
    pub(crate) fn content<In, Out>(&self, method: &str, request: In) -> Result<Vec<Out>, Status>
    where
        In: prost::Message + Send + Sync + 'static,
        Out: prost::Message + Default + Send + Sync + 'static,
    {
        let path = format!("/containerd.services.content.v1.Content/{method}");
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<In, Out>::default();
            let path = PathAndQuery::try_from(path).expect("a path");
            super::all(client.server_streaming(Request::new(request), path, codec).await?.into_inner()).await
        })
    }
}

/// Layouts of a client, which it serves in its session: blobs by the names of stores and their digests.
#[derive(Clone, Default)]
pub(crate) struct Layouts(pub(crate) HashMap<(String, String), Vec<u8>>);

impl NamedService for Layouts {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

impl Layouts {
    fn find<T>(&self, request: &Request<T>, digest: &str) -> Result<Vec<u8>, Status> {
        let store = request.metadata().get("buildkit-attachable-store-id");
        let store = store.and_then(|store| store.to_str().ok()).unwrap_or_default().to_owned();
        let blob = self.0.get(&(store, digest.to_owned())).cloned();
        blob.ok_or_else(|| Status::not_found(format!("content {digest}: not found")))
    }

    async fn info(self, request: Request<OfDigest>) -> Result<tonic::Response<InfoResponse>, Status> {
        let digest = request.get_ref().digest.clone();
        let size = self.find(&request, &digest)?.len() as i64;
        let info = Some(BlobInfo { digest, size, ..BlobInfo::default() });
        Ok(tonic::Response::new(InfoResponse { info }))
    }

    async fn read(self, request: Request<ReadRequest>) -> Result<tonic::Response<Pieces>, Status> {
        let data = self.find(&request, &request.get_ref().digest)?;
        Ok(tonic::Response::new(tokio_stream::iter(vec![Ok(ReadResponse { offset: 0, data })])))
    }
}

type Pieces = tokio_stream::Iter<std::vec::IntoIter<Result<ReadResponse, Status>>>;

impl Service<http::Request<Body>> for Layouts {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let ours = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("Info") => {
                    let method = service_fn(move |request| ours.clone().info(request));
                    tonic::server::Grpc::new(ProstCodec::default()).unary(method, request).await
                }
                Some("Read") => {
                    let method = service_fn(move |request| ours.clone().read(request));
                    tonic::server::Grpc::new(ProstCodec::default()).server_streaming(method, request).await
                }
                _ => Status::unimplemented("blobs are only read").into_http(),
            })
        })
    }
}

impl Client {
    /// Any method that has one request and one answer.
    pub(crate) fn unary<In, Out>(&self, path: &'static str, request: In) -> Result<Out, Status>
    where
        In: prost::Message + Send + Sync + 'static,
        Out: prost::Message + Default + Send + Sync + 'static,
    {
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<In, Out>::default();
            let answer = client.unary(Request::new(request), PathAndQuery::from_static(path), codec).await?;
            Ok(answer.into_inner())
        })
    }
}
