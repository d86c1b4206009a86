//! `moby.upload.v1.Upload`: what a client sends when it is asked for, as an archive that its user has piped into it.

use std::fs::File;
use std::io::Write as _;

use tokio::runtime::Handle;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};

use super::Session;
use crate::proto::control::BytesMessage;
use crate::rpc;

const METHOD: &str = "/moby.upload.v1.Upload/Pull";

/// The headers that say what is wanted: the two halves of its address.
const PATH: &str = "urlpath";
const HOST: &str = "urlhost";

/// The host of all these addresses.
const SESSION: &str = "buildkit-session";

/// Writes what the client sends under this name to a file; answers how many bytes that are. `progress` is told how many came so
/// far. Runs on a thread that may wait.
///
/// # Errors
/// The client has nothing of this name, or has gone; or the file cannot be written.
pub(crate) fn receive(
    runtime: &Handle,
    session: &Session,
    id: &str,
    file: &mut File,
    mut progress: impl FnMut(u64),
) -> Result<u64, Status> {
    let mut request = Request::new(futures_util::stream::empty::<BytesMessage>());
    let path = MetadataValue::try_from(format!("/{id}"));
    let path = path.map_err(|_| Status::invalid_argument(format!("{id:?} is no name of an upload")))?;
    request.metadata_mut().insert(PATH, path);
    request.metadata_mut().insert(HOST, MetadataValue::from_static(SESSION));
    let channel = session.channel(METHOD)?;
    let mut incoming: Streaming<BytesMessage> = runtime.block_on(rpc::streaming(channel, METHOD, request))?;
    let mut bytes = 0;
    while let Some(piece) = runtime.block_on(incoming.message())? {
        file.write_all(&piece.data).map_err(|error| crate::failed(&error))?;
        bytes += piece.data.len() as u64;
        progress(bytes);
    }
    Ok(bytes)
}
