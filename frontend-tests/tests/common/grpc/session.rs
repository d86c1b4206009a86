//! A session: the client's directories, secrets and the files that it takes, served over a connection inside a call.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::content::Layouts;
pub(crate) use bollard_buildkit_proto::fsutil::types::packet::PacketType;
pub(crate) use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::{FileSync, FileSyncServer};
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage as SentBytes;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::{FileSend, FileSendServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

/// The methods that a session offers.
const METHODS: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
];

/// Those that one with layouts offers besides.
const OF_LAYOUTS: [&str; 2] =
    ["/containerd.services.content.v1.Content/Info", "/containerd.services.content.v1.Content/Read"];

/// Bytes of one piece of a file.
const PIECE: usize = 32 << 10;

/// A directory of a client.
#[derive(Debug, Clone)]
enum Directory {
    Real(PathBuf),
    Nonsense(Vec<Packet>),
}

/// What a session offers.
#[derive(Clone, Default)]
pub(crate) struct Offer {
    directories: HashMap<String, Directory>,
    secrets: HashMap<String, Vec<u8>>,
    layouts: Layouts,
    id: Option<String>,
}

impl Offer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A directory, under a name. `exclude` and `include` patterns are not heeded, `followpaths` are.
    pub(crate) fn directory(mut self, name: &str, path: impl Into<PathBuf>) -> Self {
        self.directories.insert(name.to_owned(), Directory::Real(path.into()));
        self
    }

    /// A directory that has what these packets say, whatever it is, and sends nothing of it that is asked for.
    pub(crate) fn nonsense(mut self, name: &str, packets: Vec<Packet>) -> Self {
        self.directories.insert(name.to_owned(), Directory::Nonsense(packets));
        self
    }

    /// A directory as the Dockerfile frontend wants it: as context and as that of the Dockerfile.
    pub(crate) fn context(self, path: &Path) -> Self {
        self.directory("context", path).directory("dockerfile", path)
    }

    /// A secret.
    pub(crate) fn secret(mut self, id: &str, value: &[u8]) -> Self {
        self.secrets.insert(id.to_owned(), value.to_vec());
        self
    }

    /// A blob of a layout, by what the layout is called. `digest` is what the blob is said to have.
    pub(crate) fn blob(mut self, layout: &str, digest: &str, content: &[u8]) -> Self {
        self.layouts.0.insert((format!("oci:{layout}"), digest.to_owned()), content.to_vec());
        self
    }

    /// A name of the session that is not our own.
    pub(crate) fn named(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }
}

/// A session. Dropped, it is closed as if the client were killed.
pub(crate) struct OpenSession {
    id: String,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

/// What a builder wanted of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) follow: Vec<String>,
}

impl OpenSession {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What was wanted of directories, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panics with it").clone()
    }

    /// The archives that outputs have written here, in the order in which they ended.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().expect("nobody panics with it").clone()
    }
}

/// Opens a session that offers this.
pub(super) async fn open(mut control: ControlClient<Channel>, offer: &Offer) -> Result<OpenSession, Status> {
    let id = offer.id.clone().unwrap_or_else(|| super::unique("session"));
    let (sender, outgoing) = mpsc::channel::<BytesMessage>(16);
    let mut request = Request::new(ReceiverStream::new(outgoing));
    let headers = request.metadata_mut();
    headers.insert("x-docker-expose-session-uuid", MetadataValue::try_from(&id).expect("an id"));
    let of_layouts = if offer.layouts.0.is_empty() { &[][..] } else { &OF_LAYOUTS };
    for method in METHODS.iter().chain(of_layouts) {
        headers.append("x-docker-expose-session-grpc-method", MetadataValue::from_static(method));
    }
    // The connection on which we serve, and its bytes as messages.
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (mut from_us, mut to_us) = tokio::io::split(theirs);
    let (received, asked) = (Arc::default(), Arc::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(ours, offer, Arc::clone(&received), Arc::clone(&asked)));
    tasks.spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_us.read(&mut buffer).await {
            if sender.send(BytesMessage { data: buffer[..length].to_vec() }).await.is_err() {
                break;
            }
        }
    });
    let mut incoming = control.session(request).await?.into_inner();
    tasks.spawn(async move {
        while let Ok(Some(message)) = incoming.message().await {
            if to_us.write_all(&message.data).await.is_err() {
                break;
            }
        }
    });
    Ok(OpenSession { id, received, asked, _tasks: tasks })
}

fn serve(
    connection: tokio::io::DuplexStream,
    offer: &Offer,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
) -> impl Future<Output = ()> + Send + use<> {
    let router = Server::builder()
        .add_service(HealthServer::new(Alive))
        .add_service(FileSyncServer::new(Directories(offer.directories.clone(), asked)))
        .add_service(FileSendServer::new(Files(received)))
        .add_service(offer.layouts.clone())
        .add_service(SecretsServer::new(KnownSecrets(offer.secrets.clone())));
    let only = tokio_stream::iter([Ok::<_, io::Error>(connection)]).chain(tokio_stream::pending());
    async move {
        // It ends when the session is dropped.
        let _ = router.serve_with_incoming(only).await;
    }
}

struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = tokio_stream::Pending<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("nobody lists us"))
    }

    async fn watch(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }
}

struct KnownSecrets(HashMap<String, Vec<u8>>);

#[tonic::async_trait]
impl Secrets for KnownSecrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let data = self.0.get(&id).cloned();
        let data = data.ok_or_else(|| Status::not_found(format!("secret {id} not found")))?;
        Ok(Response::new(GetSecretResponse { data }))
    }
}

/// Takes archives.
struct Files(Arc<Mutex<Vec<Vec<u8>>>>);

#[tonic::async_trait]
impl FileSend for Files {
    type DiffCopyStream = tokio_stream::Empty<Result<SentBytes, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<SentBytes>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let mut incoming = request.into_inner();
        let mut file = Vec::new();
        while let Some(message) = incoming.message().await? {
            file.extend(message.data);
        }
        self.0.lock().expect("nobody panics with it").push(file);
        Ok(Response::new(tokio_stream::empty()))
    }
}

/// Sends directories.
struct Directories(HashMap<String, Directory>, Arc<Mutex<Vec<Asked>>>);

type Packets = ReceiverStream<Result<Packet, Status>>;

#[tonic::async_trait]
impl FileSync for Directories {
    type DiffCopyStream = Packets;
    type TarStreamStream = Packets;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let headers = request.metadata();
        let text = |value: &tonic::metadata::AsciiMetadataValue| {
            value.to_str().unwrap_or_default().trim_start_matches('/').to_owned()
        };
        let name = headers.get("dir-name").map(text).unwrap_or_default();
        let wanted: Vec<String> = headers.get_all("followpaths").iter().map(text).collect();
        let list = |name: &str| -> Vec<String> {
            let values = headers.get_all(name).iter();
            values.map(|value| value.to_str().unwrap_or_default().to_owned()).collect()
        };
        let (include, exclude) = (list("include-patterns"), list("exclude-patterns"));
        let asked = Asked { name: name.clone(), include, exclude, follow: list("followpaths") };
        self.1.lock().expect("nobody panics with it").push(asked);
        let root = self.0.get(&name).cloned();
        let root = root.ok_or_else(|| Status::not_found(format!("no access allowed to dir {name:?}")))?;
        let (sender, outgoing) = mpsc::channel(64);
        match root {
            Directory::Real(root) => tokio::spawn(send(root, wanted, request.into_inner(), sender)),
            Directory::Nonsense(packets) => tokio::spawn(mislead(packets, request.into_inner(), sender)),
        };
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn tar_stream(
        &self,
        _request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("directories are sent file by file"))
    }
}

/// Names everything below `root`, and then sends the files that are asked for.
async fn send(
    root: PathBuf,
    wanted: Vec<String>,
    mut incoming: Streaming<Packet>,
    outgoing: mpsc::Sender<Result<Packet, Status>>,
) -> Option<()> {
    let packet = |kind: PacketType, id: u32, data: &[u8]| Packet {
        r#type: kind.into(),
        id,
        data: data.to_vec(),
        ..Packet::default()
    };
    let mut names = Vec::new();
    walk(&root, "", &wanted, &mut names);
    for stat in names.iter().map(Some).chain([None]) {
        let stat = Packet { stat: stat.cloned(), ..packet(PacketType::PacketStat, 0, &[]) };
        outgoing.send(Ok(stat)).await.ok()?;
    }
    while let Ok(Some(asked)) = incoming.message().await {
        match asked.r#type() {
            PacketType::PacketReq => {
                let path = root.join(&names.get(asked.id as usize)?.path);
                let content = std::fs::read(path).unwrap_or_default();
                for piece in content.chunks(PIECE).chain([&[][..]]) {
                    outgoing.send(Ok(packet(PacketType::PacketData, asked.id, piece))).await.ok()?;
                }
            }
            PacketType::PacketFin => {
                outgoing.send(Ok(packet(PacketType::PacketFin, 0, &[]))).await.ok()?;
                return Some(());
            }
            _ => return None,
        }
    }
    None
}

/// Says what it was told to say, and answers nothing.
async fn mislead(
    packets: Vec<Packet>,
    mut incoming: Streaming<Packet>,
    outgoing: mpsc::Sender<Result<Packet, Status>>,
) -> Option<()> {
    for packet in packets {
        outgoing.send(Ok(packet)).await.ok()?;
    }
    while let Ok(Some(_)) = incoming.message().await {}
    Some(())
}

/// What is below a directory, in the order of the protocol: names of one directory sorted, each followed by what is below it.
fn walk(root: &Path, below: &str, wanted: &[String], found: &mut Vec<Stat>) {
    let Ok(entries) = std::fs::read_dir(root.join(below)) else { return };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let is_above = |wanted: &String| {
            wanted == &path
                || wanted.starts_with(&format!("{path}/"))
                || path.starts_with(&format!("{wanted}/"))
        };
        let Ok(metadata) = std::fs::symlink_metadata(root.join(&path)) else { continue };
        if !wanted.is_empty() && !wanted.iter().any(is_above) {
            continue;
        }
        let (directory, symlink) = (1 << 31, 1 << 27);
        let kind = match (metadata.is_dir(), metadata.is_symlink()) {
            (true, _) => directory,
            (_, true) => symlink,
            _ => 0,
        };
        let linkname = std::fs::read_link(root.join(&path)).unwrap_or_default();
        found.push(Stat {
            path: path.clone(),
            mode: kind | metadata.permissions().mode() & 0o777,
            size: if metadata.is_file() { i64::try_from(metadata.len()).unwrap_or(0) } else { 0 },
            mod_time: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            linkname: linkname.to_string_lossy().into_owned(),
            ..Stat::default()
        });
        if metadata.is_dir() {
            walk(root, &path, wanted, found);
        }
    }
}
