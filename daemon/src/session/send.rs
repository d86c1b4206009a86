//! `moby.filesync.v1.FileSend/DiffCopy`: results that the client writes where its user wants them.
//!
//! An archive goes as pieces of bytes. A directory goes as in the other direction, with us as those who have the files.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{AsciiMetadataKey, MetadataValue};
use tonic::{Code, Request, Status, Streaming};

use super::Session;
use super::files::go_mode;
use crate::proto::control::BytesMessage;
use crate::proto::fsutil::packet::PacketType;
use crate::proto::fsutil::{Packet, Stat};
use crate::rpc;

const METHOD: &str = "/moby.filesync.v1.FileSend/DiffCopy";

/// Says which of the outputs of a build it is.
const EXPORTER: &str = "buildkit-attachable-exporter-id";

/// What the names of what is known of a result begin with.
const METADATA: &str = "exporter-md-";

/// Bytes of one piece.
const PIECE: usize = 32 << 10;

/// How many pieces wait to go out.
const QUEUE: usize = 32;

fn request<T: Send + 'static>(
    outgoing: mpsc::Receiver<T>,
    exporter: usize,
    metadata: &[(String, String)],
) -> Request<ReceiverStream<T>> {
    let mut request = Request::new(ReceiverStream::new(outgoing));
    let headers = request.metadata_mut();
    headers.insert(EXPORTER, MetadataValue::from(exporter));
    for (name, value) in metadata {
        if let (Ok(name), Ok(value)) =
            (format!("{METADATA}{name}").parse::<AsciiMetadataKey>(), MetadataValue::try_from(value))
        {
            headers.insert(name, value);
        }
    }
    request
}

/// A call whose answer begins when the client has something to say, which may be when it has everything.
type Call<T> = JoinHandle<Result<Streaming<T>, Status>>;

/// Bytes of one piece of an archive: each is a message, which costs more than its bytes.
const ARCHIVE_PIECE: usize = 256 << 10;

/// How many of those wait to go out.
const ARCHIVE_QUEUE: usize = 8;

/// A file that the client writes.
pub(crate) struct ClientFile {
    runtime: Handle,
    /// What is not yet enough for a piece.
    pending: Vec<u8>,
    sender: Option<mpsc::Sender<BytesMessage>>,
    call: Option<Call<BytesMessage>>,
}

/// Begins a file of the client.
///
/// # Errors
/// The client does not take files.
pub(crate) fn file(
    runtime: &Handle,
    session: &Session,
    exporter: usize,
    metadata: &[(String, String)],
) -> Result<ClientFile, Status> {
    let (sender, outgoing) = mpsc::channel(ARCHIVE_QUEUE);
    let request = request(outgoing, exporter, metadata);
    let call = runtime.spawn(rpc::streaming(session.channel(METHOD)?, METHOD, request));
    Ok(ClientFile { runtime: runtime.clone(), pending: Vec::new(), sender: Some(sender), call: Some(call) })
}

impl ClientFile {
    /// Waits until the client has written everything. `false` when it has the result already and does not want it again.
    ///
    /// # Errors
    /// It could not.
    pub(crate) fn finish(&mut self) -> Result<bool, Status> {
        // A client that does not take it says why below.
        let _ = self.send();
        self.sender = None;
        let Some(call) = self.call.take() else { return Ok(true) };
        let end = async {
            let mut incoming = answered(call).await?;
            while incoming.message().await?.is_some() {}
            Ok::<(), Status>(())
        };
        match self.runtime.block_on(end) {
            Ok(()) => Ok(true),
            Err(status) if status.code() == Code::AlreadyExists => Ok(false),
            Err(status) => Err(status),
        }
    }
}

impl ClientFile {
    /// Sends what is pending.
    fn send(&mut self) -> io::Result<()> {
        let gone =
            || io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone, or does not want the file");
        let sender = self.sender.as_ref().ok_or_else(gone)?;
        if self.pending.is_empty() {
            return Ok(());
        }
        let message = BytesMessage { data: std::mem::take(&mut self.pending) };
        self.runtime.block_on(sender.send(message)).map_err(|_| gone())
    }
}

async fn answered<T>(call: Call<T>) -> Result<Streaming<T>, Status> {
    call.await.unwrap_or_else(|_| Err(Status::internal("the call to the client was stopped")))
}

impl Write for ClientFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(ARCHIVE_PIECE - self.pending.len());
        self.pending.extend_from_slice(&data[..taken]);
        if self.pending.len() >= ARCHIVE_PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Sends all files below `directory` to a directory of the client. Answers how many bytes of content that took.
///
/// # Errors
/// The client has gone, or cannot write them; or they cannot be read.
pub(crate) fn directory(
    runtime: &Handle,
    session: &Session,
    exporter: usize,
    directory: &Path,
) -> Result<u64, Status> {
    let (sender, outgoing) = mpsc::channel(QUEUE);
    let channel = session.channel(METHOD)?;
    let request = request(outgoing, exporter, &[]);
    let call = runtime.spawn(rpc::streaming(channel, METHOD, request));
    let mut sending =
        Sending { runtime, sender, root: directory, files: Vec::new(), links: HashMap::new(), bytes: 0 };
    sending.name_all(Path::new(""))?;
    sending.say(PacketType::PacketStat, Packet::default())?;
    let incoming = runtime.block_on(answered(call))?;
    sending.answer(incoming)?;
    Ok(sending.bytes)
}

/// A directory on its way to the client.
struct Sending<'a> {
    runtime: &'a Handle,
    sender: mpsc::Sender<Packet>,
    root: &'a Path,
    /// What was named, in this order; only files can be asked for, as a link would lead to one of this machine.
    files: Vec<Option<PathBuf>>,
    /// The first names of files that have several.
    links: HashMap<u64, String>,
    /// How much content has gone.
    bytes: u64,
}

impl Sending<'_> {
    fn say(&self, kind: PacketType, packet: Packet) -> Result<(), Status> {
        let packet = Packet { r#type: kind.into(), ..packet };
        let gone = |_| Status::unavailable("the client has gone while it got files");
        self.runtime.block_on(self.sender.send(packet)).map_err(gone)
    }

    /// Names what is in a directory, each followed by what is in it, in the order of their names.
    fn name_all(&mut self, below: &Path) -> Result<(), Status> {
        let failed = |error: io::Error| crate::failed(&error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.root.join(below)).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let path = below.join(name);
            let metadata = std::fs::symlink_metadata(self.root.join(&path)).map_err(failed)?;
            let stat = self.stat(&path, &metadata).map_err(failed)?;
            self.files.push(metadata.is_file().then(|| path.clone()));
            self.say(PacketType::PacketStat, Packet { stat: Some(stat), ..Packet::default() })?;
            if metadata.is_dir() {
                self.name_all(&path)?;
            }
        }
        Ok(())
    }

    fn stat(&mut self, path: &Path, metadata: &Metadata) -> io::Result<Stat> {
        let text = path.to_string_lossy().into_owned();
        let mut linkname = String::new();
        if metadata.file_type().is_symlink() {
            linkname = std::fs::read_link(self.root.join(path))?.to_string_lossy().into_owned();
        } else if metadata.is_file() && metadata.nlink() > 1 {
            match self.links.get(&metadata.ino()) {
                Some(first) => linkname.clone_from(first),
                None => drop(self.links.insert(metadata.ino(), text.clone())),
            }
        }
        let time = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        let (major, minor) = device(metadata.rdev());
        Ok(Stat {
            path: text,
            mode: go_mode_of(metadata),
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: if metadata.is_file() { i64::try_from(metadata.len()).unwrap_or(i64::MAX) } else { 0 },
            mod_time: time,
            linkname,
            devmajor: major,
            devminor: minor,
            xattrs: HashMap::new(),
        })
    }

    /// Sends what the client asks for, until it has everything.
    fn answer(&mut self, mut incoming: Streaming<Packet>) -> Result<(), Status> {
        while let Some(packet) = self.runtime.block_on(incoming.message())? {
            match packet.r#type() {
                PacketType::PacketReq => self.send_content(packet.id)?,
                PacketType::PacketFin => {
                    self.say(PacketType::PacketFin, Packet::default())?;
                    return Ok(());
                }
                PacketType::PacketErr => {
                    return Err(Status::unknown(String::from_utf8_lossy(&packet.data).into_owned()));
                }
                PacketType::PacketStat | PacketType::PacketData => {
                    let message = "the client sends files where it should take them";
                    return Err(Status::invalid_argument(message));
                }
            }
        }
        Err(Status::unavailable("the client has gone while it got files"))
    }

    fn send_content(&mut self, number: u32) -> Result<(), Status> {
        let path = usize::try_from(number).ok().and_then(|number| self.files.get(number)?.clone());
        let path =
            path.ok_or_else(|| Status::invalid_argument("the client asks for a file that there is not"))?;
        let failed = |error: io::Error| crate::failed(&error);
        let mut file = File::open(self.root.join(path)).map_err(failed)?;
        loop {
            let mut data = vec![0; PIECE];
            let length = file.read(&mut data).map_err(failed)?;
            data.truncate(length);
            self.bytes += length as u64;
            self.say(PacketType::PacketData, Packet { id: number, data, ..Packet::default() })?;
            if length == 0 {
                return Ok(());
            }
        }
    }
}

/// The mode as Go has it.
fn go_mode_of(metadata: &Metadata) -> u32 {
    let kind = metadata.file_type();
    let mode = metadata.mode();
    let bit = |is: bool, bit: u32| if is { bit } else { 0 };
    go_mode::of_permissions(mode & 0o7777)
        | bit(kind.is_dir(), go_mode::DIRECTORY)
        | bit(kind.is_symlink(), go_mode::SYMLINK)
        | bit(kind.is_fifo(), go_mode::PIPE)
        | bit(kind.is_socket(), go_mode::SOCKET)
        | bit(kind.is_block_device() || kind.is_char_device(), go_mode::DEVICE)
        | bit(kind.is_char_device(), go_mode::CHAR_DEVICE)
}

/// Major and minor number of a device (`makedev(3)`).
fn device(number: u64) -> (i64, i64) {
    let major = ((number >> 8) & 0xfff) | ((number >> 32) & !0xfff);
    let minor = (number & 0xff) | ((number >> 12) & !0xff);
    (i64::try_from(major).unwrap_or(0), i64::try_from(minor & 0xffff_ffff).unwrap_or(0))
}
