//! A client of BuildKit's API, made of the generated stubs: what buildctl and others call, one call at a time.
//!
//! [`Client`] has a runtime of its own, so tests stay plain functions:
//!
//! ```ignore
//! let client = Client::of(&daemon);
//! let session = client.session(&Offer::new().directory("context", context.path()).directory("dockerfile", context.path()));
//! let response = client.solve(dockerfile(&session, "my-ref"))?;      // or `client.begin(…)`, which does not wait
//! let said = client.status("my-ref")?;                                // everything the build said, to its end
//! let mut gateway = client.gateway("my-ref");                         // LLBBridge of a running build
//! client.wait(gateway.read_file(ReadFileRequest { … }))?;
//! ```
//!
//! A request of LLB is a [`SolveRequest`] with `definition`; what the generated types have is at [`control`], [`frontend`]
//! and [`pb`]. An output of type `tar`, `oci` or `docker` comes into the session: [`OpenSession::received`].
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

pub(crate) mod content;
pub(crate) mod llb;
pub(crate) mod session;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) use bollard_buildkit_proto::google::rpc;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1 as control;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1::frontend;
pub(crate) use bollard_buildkit_proto::pb;
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use self::control::control_client::ControlClient;
use self::control::{
    BuildHistoryEvent, BuildHistoryRequest, DiskUsageRequest, InfoRequest, ListWorkersRequest, PruneRequest,
    SolveRequest, StatusRequest, StatusResponse, UpdateBuildHistoryRequest, UsageRecord,
};
use self::frontend::llb_bridge_client::LlbBridgeClient;
pub(crate) use self::session::{Asked, Offer, OpenSession};
use bollard_buildkit_proto::health::HealthCheckRequest;
use bollard_buildkit_proto::health::health_client::HealthClient;

use crate::common::daemon::Daemon;

/// The largest message, in bytes; BuildKit's limit.
const LARGEST: usize = 16 << 20;

/// A client of a daemon. Its clones share a connection.
#[derive(Clone)]
pub(crate) struct Client {
    runtime: Arc<Runtime>,
    channel: Channel,
}

/// A build that runs.
pub(crate) struct Solving(JoinHandle<Result<HashMap<String, String>, Status>>);

/// Puts the name of a build into each call.
#[derive(Clone)]
pub(crate) struct OfBuild(AsciiMetadataValue);

impl Interceptor for OfBuild {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("buildkit-controlapi-buildid", self.0.clone());
        Ok(request)
    }
}

/// `LLBBridge` of one build.
pub(crate) type Gateway = LlbBridgeClient<InterceptedService<Channel, OfBuild>>;

impl Client {
    /// A client of `daemon`, with a connection of its own.
    pub(crate) fn of(daemon: &Daemon<'_>) -> Self {
        Self::connect(&daemon.address())
    }

    /// A client of whoever listens at `unix://PATH` or `http://HOST:PORT`. The connection is made with the first call.
    pub(crate) fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = Arc::new(runtime.expect("a runtime"));
        let endpoint = Endpoint::from_shared(address.to_owned()).expect("an address");
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Self { runtime, channel }
    }

    /// Waits for a call. What the stubs answer is unpacked.
    pub(crate) fn wait<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.runtime.block_on(call).map(tonic::Response::into_inner)
    }

    /// The next message of a stream; none at its end, or when it breaks.
    pub(crate) fn next<T>(&self, stream: &mut Streaming<T>) -> Option<T> {
        self.runtime.block_on(stream.message()).ok().flatten()
    }

    /// The first answer of a call that streams them, made with a stub of another service.
    pub(crate) fn first<T>(
        &self,
        call: impl AsyncFnOnce(Channel) -> Result<tonic::Response<Streaming<T>>, Status>,
    ) -> Result<T, Status> {
        self.runtime.block_on(async {
            let mut stream = call(self.channel.clone()).await?.into_inner();
            Ok(stream.message().await?.expect("an answer"))
        })
    }

    /// `Control`, for calls that have no name here.
    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(2 * LARGEST)
    }

    /// `LLBBridge` of the build `id`, which runs or will in a moment.
    pub(crate) fn gateway(&self, id: &str) -> Gateway {
        let id = OfBuild(MetadataValue::try_from(id).expect("a name"));
        LlbBridgeClient::with_interceptor(self.channel.clone(), id)
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(2 * LARGEST)
    }

    /// Opens a session that offers this.
    pub(crate) fn session(&self, offer: &Offer) -> OpenSession {
        self.runtime.block_on(session::open(self.control(), offer)).expect("the session is taken")
    }

    /// `Control/Solve`: builds, and answers what its outputs say.
    pub(crate) fn solve(&self, request: SolveRequest) -> Result<HashMap<String, String>, Status> {
        self.wait(self.control().solve(request)).map(|response| response.exporter_response)
    }

    /// Begins a build. Dropped, the call goes on; [`Solving::leave`] ends it.
    pub(crate) fn begin(&self, request: SolveRequest) -> Solving {
        let mut control = self.control();
        Solving(self.runtime.spawn(async move {
            control.solve(request).await.map(|response| response.into_inner().exporter_response)
        }))
    }

    /// How a build that was begun ended.
    pub(crate) fn outcome(&self, solving: Solving) -> Result<HashMap<String, String>, Status> {
        self.runtime.block_on(solving.0).expect("the call is not stopped")
    }

    /// `Control/Status`: all that a build says, to its end.
    pub(crate) fn status(&self, id: &str) -> Result<Said, Status> {
        self.runtime.block_on(async {
            let stream = self.control().status(StatusRequest { r#ref: id.to_owned() }).await?;
            all(stream.into_inner()).await.map(Said::of)
        })
    }

    /// `Control/ListenBuildHistory`, to its end: to be used with `early_exit`.
    pub(crate) fn history(&self, request: BuildHistoryRequest) -> Result<Vec<BuildHistoryEvent>, Status> {
        self.runtime
            .block_on(async { all(self.control().listen_build_history(request).await?.into_inner()).await })
    }

    /// `Control/ListenBuildHistory`, one event after the other.
    pub(crate) fn listen(&self, request: BuildHistoryRequest) -> Result<Events, Status> {
        let stream = self.wait(self.control().listen_build_history(request))?;
        Ok(Events { client: self.clone(), stream })
    }

    /// `Control/UpdateBuildHistory`
    pub(crate) fn update_history(&self, request: UpdateBuildHistoryRequest) -> Result<(), Status> {
        self.wait(self.control().update_build_history(request)).map(drop)
    }

    /// `Control/DiskUsage`
    pub(crate) fn disk_usage(&self, filter: &[&str]) -> Result<Vec<UsageRecord>, Status> {
        let filter = filter.iter().map(|one| (*one).to_owned()).collect();
        let request = DiskUsageRequest { filter, ..DiskUsageRequest::default() };
        self.wait(self.control().disk_usage(request)).map(|answer| answer.record)
    }

    /// `Control/Prune`: what was removed.
    pub(crate) fn prune(&self, request: PruneRequest) -> Result<Vec<UsageRecord>, Status> {
        self.runtime.block_on(async { all(self.control().prune(request).await?.into_inner()).await })
    }

    /// `Control/ListWorkers`
    pub(crate) fn workers(&self) -> Result<Vec<control::types::WorkerRecord>, Status> {
        self.wait(self.control().list_workers(ListWorkersRequest::default())).map(|answer| answer.record)
    }

    /// `Control/Info`
    pub(crate) fn info(&self) -> Result<control::types::BuildkitVersion, Status> {
        let answer = self.wait(self.control().info(InfoRequest {}))?;
        Ok(answer.buildkit_version.unwrap_or_default())
    }

    /// `grpc.health.v1.Health/Check`: whether it serves.
    pub(crate) fn is_serving(&self) -> bool {
        let mut health = HealthClient::new(self.channel.clone());
        self.wait(health.check(HealthCheckRequest::default())).is_ok_and(|answer| answer.status == 1)
    }
}

impl Solving {
    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Leaves off waiting, as a client that was killed.
    pub(crate) fn leave(self) {
        self.0.abort();
    }
}

/// Events of builds as they come.
pub(crate) struct Events {
    client: Client,
    stream: Streaming<BuildHistoryEvent>,
}

impl Events {
    /// The next one; none when the daemon has no more.
    pub(crate) fn next(&mut self) -> Option<BuildHistoryEvent> {
        self.client.runtime.block_on(self.stream.message()).expect("the stream goes on")
    }
}

async fn all<T>(mut stream: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut all = Vec::new();
    while let Some(message) = stream.message().await? {
        all.push(message);
    }
    Ok(all)
}

/// What a build said: vertices as they were last, and the rest in the order in which it came.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) vertices: Vec<control::Vertex>,
    pub(crate) statuses: Vec<control::VertexStatus>,
    pub(crate) logs: Vec<control::VertexLog>,
    pub(crate) warnings: Vec<control::VertexWarning>,
}

impl Said {
    fn of(messages: Vec<StatusResponse>) -> Self {
        let mut said = Self::default();
        for message in messages {
            for vertex in message.vertexes {
                match said.vertices.iter_mut().find(|known| known.digest == vertex.digest) {
                    Some(known) => *known = vertex,
                    None => said.vertices.push(vertex),
                }
            }
            said.statuses.extend(message.statuses);
            said.logs.extend(message.logs);
            said.warnings.extend(message.warnings);
        }
        said
    }

    /// The vertex whose name has `part` in it.
    pub(crate) fn vertex(&self, part: &str) -> &control::Vertex {
        let found = self.vertices.iter().find(|vertex| vertex.name.contains(part));
        found.unwrap_or_else(|| panic!("no vertex {part:?} in {:#?}", self.vertices))
    }

    /// What the vertex whose name has `part` in it wrote.
    pub(crate) fn output(&self, part: &str) -> String {
        let digest = &self.vertex(part).digest;
        let bytes: Vec<u8> =
            self.logs.iter().filter(|log| log.vertex == *digest).flat_map(|log| log.msg.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A solve with the Dockerfile frontend and without outputs, of a session that offers `context` and `dockerfile`.
pub(crate) fn dockerfile(session: &OpenSession, id: &str) -> SolveRequest {
    SolveRequest {
        r#ref: id.to_owned(),
        session: session.id().to_owned(),
        frontend: "dockerfile.v0".to_owned(),
        ..SolveRequest::default()
    }
}

/// An output.
pub(crate) fn exporter(kind: &str, attributes: &[(&str, &str)]) -> control::Exporter {
    let attrs = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    control::Exporter { r#type: kind.to_owned(), attrs }
}

/// A name that no other build or session of this process has.
pub(crate) fn unique(word: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{word}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The details of an error: addresses of types, and JSON.
pub(crate) fn details(status: &Status) -> Vec<(String, serde_json::Value)> {
    details_of(&rpc::Status::decode(status.details()).expect("details are a status"))
}

/// The same, of a status that is part of a message.
pub(crate) fn details_of(status: &rpc::Status) -> Vec<(String, serde_json::Value)> {
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).expect("a detail is JSON");
    status.details.iter().map(|any| (any.type_url.clone(), json(&any.value))).collect()
}

/// Where a socket is, for those who speak with it themselves.
pub(crate) fn socket(daemon: &Daemon<'_>) -> PathBuf {
    daemon.address().strip_prefix("unix://").expect("a socket").into()
}
