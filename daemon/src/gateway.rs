//! `LLBBridge`: what clients and frontends ask of a build that they steer.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::builds::{Build, Builds, Command, Reply};
use crate::proto::control::VertexWarning;
use crate::proto::frontend::llb_bridge_server::LlbBridge;
use crate::proto::frontend::{
    EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse, NewContainerRequest,
    NewContainerResponse, PingRequest, PongResponse, ReadDirRequest, ReadDirResponse, ReadFileRequest,
    ReadFileResponse, ReleaseContainerRequest, ReleaseContainerResponse, ResolveImageConfigRequest,
    ResolveImageConfigResponse, ResolveSourceMetaRequest, ResolveSourceMetaResponse, ReturnRequest,
    ReturnResponse, SolveRequest, SolveResponse, StatFileRequest, StatFileResponse, WarnRequest,
    WarnResponse,
};
use crate::proto::pb;
use crate::{capabilities, exec, workers};

/// The header that says which build a call is about.
const BUILD: &str = "buildkit-controlapi-buildid";

/// The service.
pub(crate) enum Gateway {
    /// For all builds of a daemon: a header says which one is meant.
    Daemon(Arc<Builds>),
    /// For one frontend.
    Frontend(Arc<Calls>),
}

/// Where the calls of a frontend go: to the build that waits for its result.
pub(crate) struct Calls {
    builds: Arc<Builds>,
    build: Arc<Build>,
    commands: Mutex<Sender<Command>>,
    inputs: HashMap<String, pb::Definition>,
}

impl Calls {
    pub(crate) fn new(
        builds: &Arc<Builds>,
        build: &Arc<Build>,
        commands: Sender<Command>,
        inputs: HashMap<String, pb::Definition>,
    ) -> Self {
        let (builds, build) = (Arc::clone(builds), Arc::clone(build));
        Self { builds, build, commands: Mutex::new(commands), inputs }
    }
}

/// Who is asked.
pub(crate) enum Asked {
    Build(Arc<Build>),
    Frontend(Arc<Calls>),
}

impl Asked {
    fn build(&self) -> &Build {
        match self {
            Self::Build(build) => build,
            Self::Frontend(calls) => &calls.build,
        }
    }

    /// The definitions that it was given.
    fn inputs(&self) -> HashMap<String, pb::Definition> {
        match self {
            Self::Build(build) => build.request.frontend_inputs.clone(),
            Self::Frontend(calls) => calls.inputs.clone(),
        }
    }

    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Status> {
        match self {
            Self::Build(build) => build.ask(command).await,
            Self::Frontend(calls) => {
                let (reply, answer) = oneshot::channel();
                let over = || Status::cancelled("nobody waits for the frontend any more");
                {
                    let commands = calls.commands.lock().unwrap_or_else(PoisonError::into_inner);
                    commands.send(command(reply)).map_err(|_| over())?;
                }
                answer.await.unwrap_or_else(|_| Err(over()))
            }
        }
    }
}

impl Gateway {
    fn builds(&self) -> &Builds {
        match self {
            Self::Daemon(builds) => builds,
            Self::Frontend(calls) => &calls.builds,
        }
    }

    async fn build(&self, headers: &MetadataMap) -> Result<Asked, Status> {
        let builds = match self {
            Self::Frontend(calls) => return Ok(Asked::Frontend(Arc::clone(calls))),
            Self::Daemon(builds) => builds,
        };
        let id = headers.get(BUILD).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if id.is_empty() {
            return Err(Status::invalid_argument(format!(
                "the call does not say in {BUILD} which build it is about"
            )));
        }
        builds.get(id).await.map(Asked::Build)
    }
}

#[tonic::async_trait]
impl LlbBridge for Gateway {
    type ExecProcessStream = ReceiverStream<Result<ExecMessage, Status>>;

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PongResponse>, Status> {
        self.build(request.metadata()).await?;
        Ok(Response::new(PongResponse {
            frontend_api_caps: capabilities::of_frontends(),
            llb_caps: capabilities::of_llb(),
            workers: vec![workers::worker(self.builds())],
        }))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let request = Box::new(request.into_inner());
        build.ask(|reply| Command::Solve(request, reply)).await.map(Response::new)
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        build.ask(|reply| Command::ReadFile(request.into_inner(), reply)).await.map(Response::new)
    }

    async fn read_dir(&self, request: Request<ReadDirRequest>) -> Result<Response<ReadDirResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        build.ask(|reply| Command::ReadDir(request.into_inner(), reply)).await.map(Response::new)
    }

    async fn stat_file(
        &self,
        request: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        build.ask(|reply| Command::StatFile(request.into_inner(), reply)).await.map(Response::new)
    }

    /// Results are there when a solve is answered. One that is evaluated will be used by another build.
    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let id = request.into_inner().r#ref;
        build.ask(|reply| Command::Evaluate(id, reply)).await?;
        Ok(Response::new(EvaluateResponse {}))
    }

    async fn r#return(&self, request: Request<ReturnRequest>) -> Result<Response<ReturnResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let request = Box::new(request.into_inner());
        build.ask(|reply| Command::Return(request, reply)).await.map(Response::new)
    }

    async fn inputs(&self, request: Request<InputsRequest>) -> Result<Response<InputsResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        Ok(Response::new(InputsResponse { definitions: build.inputs() }))
    }

    async fn warn(&self, request: Request<WarnRequest>) -> Result<Response<WarnResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let WarnRequest { digest, level, short, detail, url, info, ranges } = request.into_inner();
        build.build().status.warn(VertexWarning { vertex: digest, level, short, detail, url, info, ranges });
        Ok(Response::new(WarnResponse {}))
    }

    async fn resolve_image_config(
        &self,
        request: Request<ResolveImageConfigRequest>,
    ) -> Result<Response<ResolveImageConfigResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let request = Box::new(request.into_inner());
        build.ask(|reply| Command::ResolveImage(request, reply)).await.map(Response::new)
    }

    async fn resolve_source_meta(
        &self,
        request: Request<ResolveSourceMetaRequest>,
    ) -> Result<Response<ResolveSourceMetaResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let request = Box::new(request.into_inner());
        build.ask(|reply| Command::ResolveSource(request, reply)).await.map(Response::new)
    }

    async fn new_container(
        &self,
        request: Request<NewContainerRequest>,
    ) -> Result<Response<NewContainerResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let request = Box::new(request.into_inner());
        build.ask(|reply| Command::NewContainer(request, reply)).await.map(Response::new)
    }

    async fn release_container(
        &self,
        request: Request<ReleaseContainerRequest>,
    ) -> Result<Response<ReleaseContainerResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        let id = request.into_inner().container_id;
        build.ask(|reply| Command::ReleaseContainer(id, reply)).await.map(Response::new)
    }

    async fn exec_process(
        &self,
        request: Request<Streaming<ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        let build = self.build(request.metadata()).await?;
        let said = exec::processes(build, request.into_inner());
        Ok(Response::new(ReceiverStream::new(said)))
    }

    async fn read_file_container(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        build.ask(|reply| Command::ReadFileIn(request.into_inner(), reply)).await.map(Response::new)
    }

    async fn read_dir_container(
        &self,
        request: Request<ReadDirRequest>,
    ) -> Result<Response<ReadDirResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        build.ask(|reply| Command::ReadDirIn(request.into_inner(), reply)).await.map(Response::new)
    }

    async fn stat_file_container(
        &self,
        request: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        let build = self.build(request.metadata()).await?;
        build.ask(|reply| Command::StatFileIn(request.into_inner(), reply)).await.map(Response::new)
    }
}
