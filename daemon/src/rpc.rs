//! Calls whose method is known by its path alone.

use futures_util::Stream;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::proto::LARGEST_MESSAGE;

/// Calls a method that has a stream in both directions.
///
/// # Errors
/// The other side cannot be reached, or refuses.
pub(crate) async fn streaming<S, In>(
    channel: Channel,
    method: &'static str,
    request: Request<S>,
) -> Result<Streaming<In>, Status>
where
    S: Stream + Send + 'static,
    S::Item: prost::Message + Send + 'static,
    In: prost::Message + Default + Send + 'static,
{
    let mut client = Grpc::new(channel)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    client.ready().await.map_err(|error| Status::unavailable(format!("the client has gone: {error}")))?;
    let codec = ProstCodec::<S::Item, In>::default();
    Ok(client.streaming(request, PathAndQuery::from_static(method), codec).await?.into_inner())
}
