//! `containerd.services.content.v1.Content`: blobs that the client keeps in directories of its own, in OCI layouts.
//!
//! Source: containerd, `api/services/content/v1/content.proto`. What comes is as hostile as everything a client sends: whoever
//! takes it into the store checks it there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use base::Digest;
use base::digest::Digester;
use base::image::Descriptor;
use engine::caller::{AskError, CallersBlobs};
use http::uri::PathAndQuery;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Session;
use crate::content_messages::{InfoRequest, InfoResponse, ReadRequest, ReadResponse};
use crate::proto::LARGEST_MESSAGE;
use crate::rpc;

const INFO: &str = "/containerd.services.content.v1.Content/Info";
const READ: &str = "/containerd.services.content.v1.Content/Read";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";

/// Says which of the client's stores a call is about.
const STORE: &str = "buildkit-attachable-store-id";

/// Bytes of one piece.
const PIECE: usize = 1 << 20;

/// Where a layout has its blobs.
const BLOBS: &str = "blobs/sha256";

/// What a message about a blob that is written wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Action {
    /// To know how much of it there is.
    Stat = 0,
    /// To add bytes.
    Write = 1,
    /// To keep it.
    Commit = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(enumeration = "Action", tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    reference: String,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteResponse {
    #[prost(enumeration = "Action", tag = "1")]
    action: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, tag = "5")]
    total: i64,
}

/// A store of a client. Its methods wait for answers, so that they are never called on the threads of the runtime.
pub(crate) struct ContentStore {
    session: Arc<Session>,
    runtime: Handle,
    id: String,
}

impl ContentStore {
    /// The store of this name.
    pub(crate) fn new(runtime: &Handle, session: &Arc<Session>, id: &str) -> Self {
        Self { session: Arc::clone(session), runtime: runtime.clone(), id: id.to_owned() }
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        // Names of directories are bytes to everybody.
        let id = http::HeaderValue::from_bytes(self.id.as_bytes()).ok();
        let id = id.and_then(|id| MetadataValue::try_from(id.as_bytes()).ok());
        let id = id.ok_or_else(|| {
            Status::invalid_argument(format!(
                "the client's store {:?} has no name that can be asked for",
                self.id
            ))
        })?;
        request.metadata_mut().insert(STORE, id);
        Ok(request)
    }

    async fn caller(&self, method: &'static str) -> Result<Grpc<tonic::transport::Channel>, Status> {
        let channel = self.session.channel(method)?;
        let mut client = Grpc::new(channel)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        client.ready().await.map_err(|error| Status::unavailable(format!("the client has gone: {error}")))?;
        Ok(client)
    }

    /// How large a blob is; `None` if the client has none of this digest.
    ///
    /// # Errors
    /// The client does not answer.
    pub(crate) fn size(&self, digest: &Digest) -> Result<Option<u64>, Status> {
        let request = self.request(InfoRequest { digest: digest.to_string() })?;
        let answer = self.runtime.block_on(async {
            let codec = ProstCodec::<InfoRequest, InfoResponse>::default();
            self.caller(INFO).await?.unary(request, PathAndQuery::from_static(INFO), codec).await
        });
        match answer {
            Ok(answer) => {
                Ok(answer.into_inner().info.map(|info| u64::try_from(info.size).unwrap_or_default()))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// The bytes of a blob, which may be any: nobody has looked at them yet.
    ///
    /// # Errors
    /// The client does not have it.
    pub(crate) fn open(&self, digest: &Digest) -> Result<ClientBlob, Status> {
        let request = self.request(ReadRequest { digest: digest.to_string(), offset: 0, size: 0 })?;
        let incoming = self.runtime.block_on(async {
            let codec = ProstCodec::<ReadRequest, ReadResponse>::default();
            let mut client = self.caller(READ).await?;
            client.server_streaming(request, PathAndQuery::from_static(READ), codec).await
        })?;
        let runtime = self.runtime.clone();
        Ok(ClientBlob { runtime, incoming: incoming.into_inner(), rest: Vec::new(), read: 0 })
    }

    /// A document, of at most `limit` bytes, which is what its digest says.
    ///
    /// # Errors
    /// The client does not have it, it is too long, or something else.
    pub(crate) fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Status> {
        let mut bytes = Vec::new();
        let read = self.open(digest)?.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| Status::unavailable(format!("cannot read {digest} from the client: {error}")))?;
        if bytes.len() as u64 > limit {
            return Err(Status::invalid_argument(format!(
                "{digest} of the client has more than {limit} bytes"
            )));
        }
        if Digest::of(&bytes) != *digest {
            return Err(Status::data_loss(format!(
                "the client has something else than {digest} under its name"
            )));
        }
        Ok(bytes)
    }

    /// Copies a blob into a layout. No more is taken than it should have.
    ///
    /// # Errors
    /// The client does not have it, or something longer or shorter; or it cannot be written.
    pub(crate) fn copy_to_layout(&self, blob: &Descriptor, layout: &Path) -> Result<(), Status> {
        let Descriptor { digest, size, .. } = blob;
        let path = layout.join(BLOBS).join(digest.hex());
        let failed =
            |error: io::Error| Status::internal(format!("cannot copy {digest} from the client: {error}"));
        let mut file = File::create(&path).map_err(failed)?;
        let copied = io::copy(&mut self.open(digest)?.take(size.saturating_add(1)), &mut file);
        match copied.map_err(failed)? {
            copied if copied == *size => Ok(()),
            _ => Err(Status::data_loss(format!(
                "the client's {digest} has not the {size} bytes that it should"
            ))),
        }
    }

    /// Copies a blob of any size into a new file.
    ///
    /// # Errors
    /// The client does not have it, or something else under its name; or it cannot be written.
    pub(crate) fn copy_to_file(&self, digest: &Digest, path: &Path) -> Result<(), Status> {
        let failed =
            |error: io::Error| Status::internal(format!("cannot copy {digest} from the client: {error}"));
        let missing = || Status::not_found(format!("the client has no blob {digest}"));
        let size = self.size(digest)?.ok_or_else(missing)?;
        let mut file = File::create(path).map_err(failed)?;
        let mut digester = Digester::new();
        let (mut rest, mut piece) = (self.open(digest)?.take(size), vec![0; PIECE]);
        loop {
            let length = rest.read(&mut piece).map_err(failed)?;
            let Some(piece) = piece.get(..length).filter(|piece| !piece.is_empty()) else { break };
            digester.update(piece);
            file.write_all(piece).map_err(failed)?;
        }
        if digester.finish() != *digest {
            return Err(Status::data_loss(format!(
                "the client has something else than {digest} under its name"
            )));
        }
        Ok(())
    }

    /// Gives the client a blob, unless it has it.
    ///
    /// # Errors
    /// It does not take it.
    pub(crate) fn put(&self, digest: &Digest, size: u64, mut content: impl Read) -> Result<(), Status> {
        let total = i64::try_from(size).unwrap_or(i64::MAX);
        let (sender, outgoing) = mpsc::channel(1);
        let request = self.request(ReceiverStream::new(outgoing))?;
        let message = |action: Action, offset: i64, data: Vec<u8>| WriteRequest {
            action: action.into(),
            reference: format!("lapstrake-{digest}"),
            total,
            expected: digest.to_string(),
            offset,
            data,
        };
        let channel = self.session.channel(WRITE)?;
        let gone = |_| Status::unavailable("the client has gone while it got a blob");
        // Each message is answered.
        let say = |message| self.runtime.block_on(sender.send(message)).map_err(gone);
        say(message(Action::Stat, 0, Vec::new()))?;
        let begun = self.runtime.block_on(rpc::streaming(channel, WRITE, request));
        let mut incoming: Streaming<WriteResponse> = match unless_there(begun)? {
            Some(incoming) => incoming,
            None => return Ok(()),
        };
        let mut hear = || unless_there(self.runtime.block_on(incoming.message()));
        match hear()? {
            None => return Ok(()),
            // Nobody else writes it, so that it begins at its beginning.
            Some(Some(stat)) if stat.offset == 0 => {}
            Some(_) => return Err(Status::aborted(format!("the client is writing {digest} already"))),
        }
        let mut offset = 0;
        loop {
            let mut data = Vec::with_capacity(PIECE);
            let read = content.by_ref().take(PIECE as u64).read_to_end(&mut data);
            let length = read.map_err(|error| Status::internal(format!("cannot read {digest}: {error}")))?;
            let action = if length == 0 { Action::Commit } else { Action::Write };
            say(message(action, offset, data))?;
            match hear()? {
                None => return Ok(()),
                Some(Some(_)) => {}
                Some(None) => return Err(Status::unavailable("the client has gone while it got a blob")),
            }
            if length == 0 {
                return Ok(());
            }
            offset += i64::try_from(length).unwrap_or(i64::MAX);
        }
    }

    /// Gives the client all blobs of a layout.
    ///
    /// # Errors
    /// It does not take them.
    pub(crate) fn put_layout(&self, layout: &Path) -> Result<(), Status> {
        let failed = |error: io::Error| crate::failed(&error);
        for entry in std::fs::read_dir(layout.join(BLOBS)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = format!("sha256:{}", entry.file_name().to_string_lossy());
            let digest = Digest::from_str(&name).map_err(|error| Status::internal(error.to_string()))?;
            let file = File::open(entry.path()).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            if self.size(&digest)? != Some(size) {
                self.put(&digest, size, file)?;
            }
        }
        Ok(())
    }
}

/// `None` for what the other side has already.
fn unless_there<T>(answer: Result<T, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::AlreadyExists => Ok(None),
        Err(status) => Err(status),
    }
}

/// Makes an empty layout with this index.
///
/// # Errors
/// It cannot be written.
pub(crate) fn make_layout(directory: &Path, index: &serde_json::Value) -> io::Result<()> {
    std::fs::create_dir_all(directory.join(BLOBS))?;
    File::create(directory.join("oci-layout"))?.write_all(br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    File::create(directory.join("index.json"))?.write_all(index.to_string().as_bytes())
}

/// The client's directories of caches, each by what the client calls it.
pub(crate) struct Directories {
    session: Arc<Session>,
    runtime: Handle,
}

impl Directories {
    /// Those of a session; `None` if it offers none.
    pub(crate) fn of(runtime: &Handle, session: &Arc<Session>) -> Option<Arc<dyn CallersBlobs>> {
        let directories = Self { session: Arc::clone(session), runtime: runtime.clone() };
        session.offers(INFO).then(|| Arc::new(directories) as Arc<dyn CallersBlobs>)
    }

    fn store(&self, directory: &str) -> ContentStore {
        ContentStore::new(&self.runtime, &self.session, &format!("local:{directory}"))
    }
}

/// The words of a status are what is told.
fn told(status: Status) -> AskError {
    status.message().into()
}

impl CallersBlobs for Directories {
    fn size(&self, store: &str, digest: &Digest) -> Result<Option<u64>, AskError> {
        self.store(store).size(digest).map_err(told)
    }

    fn open(&self, store: &str, digest: &Digest) -> Result<Box<dyn Read + Send>, AskError> {
        Ok(Box::new(self.store(store).open(digest).map_err(told)?))
    }

    fn put(&self, store: &str, digest: &Digest, size: u64, content: &mut dyn Read) -> Result<(), AskError> {
        self.store(store).put(digest, size, content).map_err(told)
    }
}

/// A blob that is coming.
pub(crate) struct ClientBlob {
    runtime: Handle,
    incoming: Streaming<ReadResponse>,
    rest: Vec<u8>,
    read: usize,
}

impl Read for ClientBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.rest.len() {
            match self.runtime.block_on(self.incoming.message()) {
                Ok(Some(message)) => (self.rest, self.read) = (message.data, 0),
                Ok(None) => return Ok(0),
                Err(status) => return Err(io::Error::other(status.message().to_owned())),
            }
        }
        let rest = self.rest.get(self.read..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.read += length;
        Ok(length)
    }
}
