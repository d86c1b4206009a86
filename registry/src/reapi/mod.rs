//! A Bazel Remote Execution API cache: results of actions, and the blobs that they need.
//!
//! Only the cache of the protocol: `ActionCache`, `ContentAddressableStorage` and `ByteStream`, in the few messages that are
//! needed, over a gRPC client of three files ([`grpc`], [`connection`], [`wire`]).
//!
//! Source: `build/bazel/remote/execution/v2/remote_execution.proto` and `google/bytestream/bytestream.proto`.

mod connection;
mod grpc;
mod wire;

pub mod error;

use std::path::PathBuf;
use std::sync::Arc;

use base::Digest;
use bytes::Bytes;

use self::error::{ReapiError, ReapiErrorKind};
use self::grpc::{Answer, Channel, Messages, NOT_FOUND};
use self::wire::{Message, Value, fields};
use crate::upload::BlobSource;

const GET_RESULT: &str = "/build.bazel.remote.execution.v2.ActionCache/GetActionResult";
const UPDATE_RESULT: &str = "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult";
const FIND_MISSING: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs";
const READ: &str = "/google.bytestream.ByteStream/Read";
const WRITE: &str = "/google.bytestream.ByteStream/Write";

/// How much of a blob is sent in one message. Servers take 4 MiB at least.
const PIECE: usize = 1 << 20;

/// A cache and how to get there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ReapiOptions {
    /// `grpc://HOST:PORT`, or `grpcs://` with TLS.
    pub endpoint: String,
    /// The instance at the server; empty for the only one.
    pub instance: String,
    /// A token that is sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// A file in PEM form with authorities whose certificates are trusted beside the system's.
    pub authority: Option<PathBuf>,
    /// What else is sent with each call, by name, such as the key of an account.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for ReapiOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.headers.iter().map(|(name, _)| name).collect();
        write!(f, "ReapiOptions({} {:?} {names:?})", self.endpoint, self.instance)
    }
}

/// A cache. Its one connection is made on first use, and again when it is lost.
#[derive(Clone)]
pub struct Reapi {
    options: Arc<ReapiOptions>,
    channel: Arc<Channel>,
}

/// A blob by digest and length, as this protocol always names them.
pub type BlobName = (Digest, u64);

/// What an action is here: a salt that says what it stands for. Its command and its input are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionName {
    message: Vec<u8>,
}

/// The result of an action, as far as we have a use for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActionResult {
    /// What it says in place of standard output.
    pub text: Vec<u8>,
    /// The blobs that it needs, in order.
    pub blobs: Vec<BlobName>,
}

impl ActionName {
    /// The action with this salt.
    pub fn of(salt: &[u8]) -> Self {
        let empty = digest(&(Digest::of(b""), 0));
        let message = Message::default().message(1, &empty).message(2, &empty).bytes(9, salt);
        Self { message: message.into_bytes() }
    }

    fn name(&self) -> BlobName {
        (Digest::of(&self.message), self.message.len() as u64)
    }
}

impl Reapi {
    /// A cache; nothing is sent yet.
    ///
    /// # Errors
    /// When the endpoint is none, or a header cannot be one.
    pub fn new(options: ReapiOptions) -> Result<Self, ReapiError> {
        let channel =
            Channel::new(&options).map_err(|kind| ReapiError { endpoint: options.endpoint.clone(), kind })?;
        Ok(Self { options: Arc::new(options), channel: Arc::new(channel) })
    }

    /// The result of an action; `None` when there is none, or when a blob of it is gone as far as the server knows.
    pub async fn result(&self, action: &ActionName) -> Result<Option<ActionResult>, ReapiError> {
        let request = self.message().message(2, &digest(&action.name()));
        let outcome = self.unary(GET_RESULT, request).await;
        let Some(message) = absent_or(outcome).map_err(|kind| self.error(kind))? else { return Ok(None) };
        read_result(&message).map(Some).ok_or_else(|| self.error(ReapiErrorKind::Malformed))
    }

    /// Gives an action a result, in place of what it has. The blobs must be there.
    pub async fn set_result(&self, action: &ActionName, result: &ActionResult) -> Result<(), ReapiError> {
        // Servers may ask for the action itself.
        let bytes = Bytes::from(action.message.clone());
        self.add_blob(&action.name(), BlobSource::Bytes(bytes)).await?;
        let mut message = Message::default();
        for (place, blob) in result.blobs.iter().enumerate() {
            let file = Message::default().bytes(1, place.to_string().as_bytes()).message(2, &digest(blob));
            message = message.message(2, &file);
        }
        let message = message.bytes(5, &result.text);
        let request = self.message().message(2, &digest(&action.name())).message(3, &message);
        self.unary(UPDATE_RESULT, request).await.map(drop).map_err(|kind| self.error(kind))
    }

    /// Makes sure that a blob is there.
    pub async fn add_blob(&self, blob: &BlobName, source: BlobSource) -> Result<(), ReapiError> {
        if !self.misses(blob).await? {
            return Ok(());
        }
        self.put_blob(blob, source).await
    }

    /// Whether a blob is not there. One that is there stays for a while, because somebody asked.
    async fn misses(&self, blob: &BlobName) -> Result<bool, ReapiError> {
        let request = self.message().message(2, &digest(blob));
        let answer = self.unary(FIND_MISSING, request).await.map_err(|kind| self.error(kind))?;
        let fields = fields(&answer).ok_or_else(|| self.error(ReapiErrorKind::Malformed))?;
        Ok(fields.iter().any(|(field, _)| *field == 2))
    }

    /// Sends a blob.
    pub async fn put_blob(&self, blob: &BlobName, source: BlobSource) -> Result<(), ReapiError> {
        let (name, size) = (self.resource("", blob), blob.1);
        let upload = sys::random::hex(16).map_err(|_| self.error(ReapiErrorKind::NoRandomness))?;
        let upload = format!(
            "{}-{}-{}-{}-{}",
            &upload[..8],
            &upload[8..12],
            &upload[12..16],
            &upload[16..20],
            &upload[20..]
        );
        let name = name.replacen("blobs/", &format!("uploads/{upload}/blobs/"), 1);
        let pieces =
            Pieces::open(source, name, size).map_err(|source| self.error(ReapiErrorKind::Source(source)))?;
        let sent = self.channel.call(WRITE, Messages::Pieces(Box::new(pieces))).await;
        let answer = async { sent?.only().await }.await.map_err(|kind| self.error(kind))?;
        let committed = fields(&answer).and_then(|fields| match fields.first() {
            Some((1, Value::Number(committed))) => Some(*committed),
            _ => None,
        });
        match committed {
            Some(committed) if committed == size => Ok(()),
            // A blob of no bytes has no number in its answer.
            None if size == 0 => Ok(()),
            committed => {
                Err(self.error(ReapiErrorKind::NotAll { committed: committed.unwrap_or_default(), size }))
            }
        }
    }

    /// Opens a blob; `None` when it is not there.
    pub async fn blob(&self, blob: &BlobName) -> Result<Option<BlobReader>, ReapiError> {
        let request = Message::default().bytes(1, self.resource("", blob).as_bytes());
        let answer = self.channel.call(READ, Messages::One(request.into_bytes())).await;
        let mut answer = answer.map_err(|kind| self.error(kind))?;
        // Whether it is there is only known with the first message.
        let first = absent_or(answer.next().await).map_err(|kind| self.error(kind))?;
        Ok(first.map(|first| BlobReader { cache: self.clone(), answer, first }))
    }

    async fn unary(&self, path: &'static str, request: Message) -> Result<Bytes, ReapiErrorKind> {
        self.channel.call(path, Messages::One(request.into_bytes())).await?.only().await
    }

    /// A message that begins with the instance, as most do.
    fn message(&self) -> Message {
        Message::default().bytes(1, self.options.instance.as_bytes())
    }

    fn resource(&self, before: &str, (digest, size): &BlobName) -> String {
        let separator = if self.options.instance.is_empty() { "" } else { "/" };
        format!("{}{separator}{before}blobs/{}/{size}", self.options.instance, digest.hex())
    }

    fn error(&self, kind: ReapiErrorKind) -> ReapiError {
        ReapiError { endpoint: self.options.endpoint.clone(), kind }
    }
}

/// A blob on its way. Nothing is checked: callers know what it should be.
pub struct BlobReader {
    cache: Reapi,
    answer: Answer,
    first: Option<Bytes>,
}

impl BlobReader {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReapiError> {
        let message = match self.first.take() {
            Some(first) => Some(first),
            None => self.answer.next().await.map_err(|kind| self.cache.error(kind))?,
        };
        let Some(message) = message else { return Ok(None) };
        let fields = fields(&message).ok_or_else(|| self.cache.error(ReapiErrorKind::Malformed))?;
        let data = fields.iter().find_map(|(field, value)| match value {
            Value::Bytes(data) if *field == 10 => Some(message.slice_ref(data)),
            _ => None,
        });
        Ok(Some(data.unwrap_or_default()))
    }
}

/// `None` for what the server does not have.
fn absent_or<T>(outcome: Result<T, ReapiErrorKind>) -> Result<Option<T>, ReapiErrorKind> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(ReapiErrorKind::Status { code: NOT_FOUND, .. }) => Ok(None),
        Err(kind) => Err(kind),
    }
}

fn digest((digest, size): &BlobName) -> Message {
    Message::default().bytes(1, digest.hex().as_bytes()).number(2, *size)
}

fn read_result(message: &[u8]) -> Option<ActionResult> {
    let mut result = ActionResult::default();
    for (field, value) in fields(message)? {
        match (field, value) {
            (2, Value::Bytes(file)) => result.blobs.push(read_file(file)?),
            (5, Value::Bytes(text)) => result.text = text.to_vec(),
            _ => {}
        }
    }
    Some(result)
}

fn read_file(file: &[u8]) -> Option<BlobName> {
    let (mut hash, mut size) = (None, 0);
    for (field, value) in fields(file)? {
        let (2, Value::Bytes(digest)) = (field, value) else { continue };
        for (field, value) in fields(digest)? {
            match (field, value) {
                (1, Value::Bytes(hex)) => {
                    hash = format!("sha256:{}", std::str::from_utf8(hex).ok()?).parse().ok()
                }
                (2, Value::Number(bytes)) => size = bytes,
                _ => {}
            }
        }
    }
    Some((hash?, size))
}

/// A blob cut into the messages of an upload.
struct Pieces {
    content: Box<dyn std::io::Read + Send>,
    /// The resource, which only the first message names.
    name: Option<String>,
    offset: u64,
    size: u64,
    ended: bool,
}

impl Pieces {
    fn open(source: BlobSource, name: String, size: u64) -> std::io::Result<Self> {
        let content: Box<dyn std::io::Read + Send> = match source {
            BlobSource::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
            BlobSource::File(open) => Box::new(open()?),
        };
        Ok(Self { content, name: Some(name), offset: 0, size, ended: false })
    }
}

impl Iterator for Pieces {
    type Item = std::io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut data = Vec::new();
        let read =
            std::io::Read::read_to_end(&mut std::io::Read::take(&mut self.content, PIECE as u64), &mut data);
        if let Err(error) = read {
            return Some(Err(error));
        }
        let end = self.offset + data.len() as u64;
        self.ended = end >= self.size || data.is_empty();
        let name = self.name.take().unwrap_or_default();
        let message = Message::default().bytes(1, name.as_bytes()).number(2, self.offset);
        let message = message.number(3, u64::from(self.ended)).bytes(10, &data);
        self.offset = end;
        Some(Ok(message.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_as_they_are_written() {
        let blob = (Digest::of(b"x"), 1 << 33);
        let file = Message::default().bytes(1, b"0").message(2, &digest(&blob));
        let message = Message::default().message(2, &file).bytes(5, b"text").number(4, 1);
        let expected = ActionResult { text: b"text".to_vec(), blobs: vec![blob] };
        assert_eq!(read_result(&message.into_bytes()), Some(expected));
        assert_eq!(read_result(b""), Some(ActionResult::default()));
        for wrong in [&b"\x12\x7f"[..], b"\x12\x02\x12\x00", b"\xff"] {
            assert_eq!(read_result(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_blob_is_cut_into_pieces_of_which_the_last_one_ends_it() {
        let content = vec![7; PIECE + 1];
        let size = content.len() as u64;
        let pieces = Pieces::open(BlobSource::Bytes(content.into()), "name".to_owned(), size).unwrap();
        let pieces: Vec<Vec<u8>> = pieces.map(Result::unwrap).collect();
        assert_eq!(pieces.len(), 2);
        let number = |piece: &[u8], wanted: u32| {
            fields(piece).unwrap().into_iter().find_map(|(field, value)| match value {
                Value::Number(number) if field == wanted => Some(number),
                _ => None,
            })
        };
        assert_eq!((number(&pieces[0], 2), number(&pieces[0], 3)), (None, None));
        assert_eq!((number(&pieces[1], 2), number(&pieces[1], 3)), (Some(PIECE as u64), Some(1)));
        let empty = Pieces::open(BlobSource::Bytes(Bytes::new()), String::new(), 0).unwrap();
        assert_eq!(empty.count(), 1);
    }
}
