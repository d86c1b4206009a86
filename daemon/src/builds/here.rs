//! Builds of this process, whose Dockerfile asks for a frontend that is an image: the frontend is run as it is for clients, but
//! the files, secrets and caches are the caller's own, and are read where they are.

use std::collections::HashMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};

use base::Digest;
use engine::error::BuildError;
use engine::frontends::{AskedFrontend, CONTEXT, CallersFiles};
use engine::request::{
    BuildRequest, ContextSource, DockerfileSource, NamedContext, NetworkMode, PullPolicy, SelectedFiles,
};
use engine::session::{Session as EngineSession, Solved};
use tonic::Status;

use super::brought::LayoutContext;
use super::frontends::FrontendImage;
use super::opening::{LINE, Opened};
use super::results::Results;
use super::steer::Steering;
use super::{Build, Builds};
use crate::attributes::{Attributes, NamedContexts, Place, elsewhere};
use crate::proto::control::SolveRequest;
use crate::proto::pb;
use crate::questions;
use crate::session::files::Wanted;
use crate::status::StatusLog;

/// What the only build of a process is called among those that it could know.
const ID: &str = "here";

/// Frontends for builds without a daemon.
#[derive(Debug, Clone, Copy)]
pub struct Frontends;

impl engine::frontends::Frontends for Frontends {
    fn solve(
        &self,
        session: &EngineSession<'_>,
        request: &BuildRequest,
        asked: &AskedFrontend,
    ) -> Result<Solved, BuildError> {
        let scratch = session.scratch()?;
        let files = CallersFiles::of(request, asked, scratch.path())?;
        let attributes = attributes(session, request, asked, &files)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("frontend")
            .enable_all()
            .build()
            .map_err(|error| {
                BuildError::Steered(format!("cannot start a thread for the frontend: {error}"))
            })?;
        let engine = Arc::new(session.engine());
        let builds = Arc::new(Builds::of(engine, runtime.handle().clone()));
        let here = Here { request: request.clone(), files, failed: Mutex::default() };
        let build = Arc::new(Build::here(here, session));
        let solved = solve(&builds, &build, session, asked, attributes);
        // Nobody listens to the frontend any more.
        runtime.shutdown_background();
        solved
    }
}

fn solve(
    builds: &Arc<Builds>,
    build: &Arc<Build>,
    session: &EngineSession<'_>,
    asked: &AskedFrontend,
    attributes: HashMap<String, String>,
) -> Result<Solved, BuildError> {
    let (_, commands) = channel();
    let steering = Steering { builds, build, commands: &commands };
    let mut results = Results::new(&build.id);
    let image = asked.image().to_owned();
    let frontend = FrontendImage { image, attributes, inputs: HashMap::new() };
    let nothing = || Status::unknown(format!("the frontend {} has returned nothing", asked.image()));
    let made = steering.frontend(session, &mut results, &frontend).and_then(|result| {
        let opening = steering.open_definition(&Default::default(), &HashMap::new(), &[])?.request;
        results.returned(session, &opening, result)?.ok_or_else(nothing)
    });
    made.map_err(|status| {
        let failed = build.here.as_ref().and_then(|here| here.failure(&status));
        failed.unwrap_or_else(|| match build.is_cancelled() {
            true => BuildError::Cancelled,
            false => BuildError::Steered(status.message().to_owned()),
        })
    })
}

/// What a frontend is told, in its attributes.
fn attributes(
    session: &EngineSession<'_>,
    request: &BuildRequest,
    asked: &AskedFrontend,
    files: &CallersFiles,
) -> Result<HashMap<String, String>, BuildError> {
    let mut all = HashMap::from([
        ("source".to_owned(), asked.image().to_owned()),
        (LINE.to_owned(), asked.line.clone()),
        ("filename".to_owned(), files.filename.clone()),
    ]);
    let mut set = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
    let prefixed = [("build-arg", &request.build_args), ("label", &request.labels)];
    for (prefix, texts) in prefixed {
        texts.iter().for_each(|(name, value)| set(&format!("{prefix}:{name}"), value.clone()));
    }
    for (name, value) in &request.attestations.vcs {
        set(&format!("vcs:{name}"), value.clone());
    }
    if let Some(target) = &request.target {
        set("target", target.clone());
    }
    if !request.platforms.is_empty() {
        let platforms: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
        set("platform", platforms.join(","));
        if platforms.len() > 1 {
            set("multi-platform", "true".to_owned());
        }
    }
    if request.no_cache || !request.no_cache_filter.is_empty() {
        set("no-cache", if request.no_cache { String::new() } else { request.no_cache_filter.join(",") });
    }
    let mode = match request.pull {
        PullPolicy::Always => "pull",
        PullPolicy::Newer => "default",
        PullPolicy::Missing | PullPolicy::Never => "local",
    };
    set("image-resolve-mode", mode.to_owned());
    match request.network {
        NetworkMode::Default => {}
        NetworkMode::Host => set("force-network-mode", "host".to_owned()),
        NetworkMode::None => set("force-network-mode", "none".to_owned()),
    }
    for (name, context) in &request.named_contexts {
        let value = match context {
            NamedContext::Files(_) => format!("local:{name}"),
            NamedContext::Image(reference) => format!("docker-image://{reference}"),
            NamedContext::Stored(descriptor) => format!("docker-image://result@{}", descriptor.digest),
            NamedContext::Layout { directory, image } => {
                let digest = session.engine().image_of_layout(directory, image.as_deref())?;
                format!("oci-layout://{name}@{digest}")
            }
        };
        set(&format!("context:{name}"), value);
    }
    Ok(all)
}

/// What is built here.
pub(crate) struct Here {
    pub(super) request: BuildRequest,
    files: CallersFiles,
    /// What went wrong last, and what the frontend was told of it.
    failed: Mutex<Option<(String, BuildError)>>,
}

impl Here {
    /// The request of a definition.
    pub(super) fn of_definition(&self, shown: &str) -> BuildRequest {
        BuildRequest {
            context: ContextSource::Empty,
            dockerfile: DockerfileSource::InContext(shown.to_owned()),
            named_contexts: std::collections::BTreeMap::new(),
            ..self.request.clone()
        }
    }

    /// Files of the caller.
    pub(super) fn files(&self, name: &str, wanted: Wanted) -> Result<ContextSource, Status> {
        let Wanted { include, exclude, follow } = wanted;
        let wanted = SelectedFiles { include, exclude, follow, ..SelectedFiles::default() };
        let files = self.files.selected(name, wanted);
        files.ok_or_else(|| Status::not_found(format!("the build has no files called {name}")))
    }

    /// An image of a layout of the caller.
    pub(super) fn layout(&self, wanted: &LayoutContext) -> Result<NamedContext, Status> {
        match self.request.named_contexts.get(&wanted.store) {
            Some(NamedContext::Layout { directory, .. }) => {
                let image = Some(Digest::to_string(&wanted.digest));
                Ok(NamedContext::Layout { directory: directory.clone(), image })
            }
            _ => Err(Status::not_found(format!("the build has no layout called {}", wanted.store))),
        }
    }

    /// Notes what went wrong: the frontend hands on what it is told of it.
    pub(super) fn note(&self, status: &Status, error: BuildError) {
        let noted = (status.message().to_owned(), error);
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(noted);
    }

    /// What went wrong, if that is what the frontend has failed of.
    fn failure(&self, status: &Status) -> Option<BuildError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.filter(|(told, _)| status.message().contains(told.as_str())).map(|(_, error)| error)
    }

    /// A Dockerfile that the frontend leaves to us.
    pub(super) fn open(
        &self,
        steering: &Steering<'_>,
        given: &HashMap<String, String>,
        definitions: &HashMap<String, pb::Definition>,
    ) -> Result<Opened, Status> {
        let attributes = Attributes(given);
        let question = attributes.question();
        question.map_or(Ok(()), questions::check)?;
        let wanted = |name: &str| {
            let files = self.files.sources.get(name).cloned();
            files.ok_or_else(|| Status::not_found(format!("the build has no files called {name}")))
        };
        let context = match attributes.context() {
            Place::Local(name) => wanted(&name)?,
            Place::Elsewhere(text) => elsewhere(&text)?,
            Place::Upload(_) | Place::Sent(_) => {
                return Err(Status::invalid_argument("nothing is uploaded to a build without a client"));
            }
        };
        let path = attributes.filename().to_owned();
        let dockerfile = match attributes.dockerfile_directory().unwrap_or(CONTEXT) {
            CONTEXT => DockerfileSource::InContext(path),
            name => match wanted(name)? {
                ContextSource::Directory(directory) => DockerfileSource::Sent { directory, path },
                _ => DockerfileSource::InContext(path),
            },
        };
        let mut request = BuildRequest { context, dockerfile, ..self.request.clone() };
        attributes.apply(&mut request, &[])?;
        // These hold whatever a frontend says.
        request.steps = self.request.steps.clone();
        request.pull = self.request.pull;
        request.allow.clone_from(&self.request.allow);
        request.attestations = self.request.attestations.clone();
        let NamedContexts { named, local, inputs, layouts } = attributes.named_contexts()?;
        request.named_contexts.extend(named);
        for (name, files) in local {
            request.named_contexts.insert(name, NamedContext::Files(wanted(&files)?));
        }
        for wanted in layouts {
            request.named_contexts.insert(wanted.name.clone(), self.layout(&wanted)?);
        }
        let inputs = steering.open_inputs(&attributes, inputs, definitions, &mut request.named_contexts)?;
        request.read_here();
        let is_multi_platform = attributes.is_multi_platform() || request.platforms.len() > 1;
        let question = question.map(str::to_owned);
        Ok(Opened { is_multi_platform, question, inputs, ..Opened::new(request, Vec::new()) })
    }
}

impl Build {
    /// A build of this process.
    fn here(here: Here, session: &EngineSession<'_>) -> Self {
        Self {
            id: ID.to_owned(),
            request: SolveRequest::default(),
            session: None,
            status: Arc::new(StatusLog::instead(session.events())),
            created: engine::now(),
            outcome: Mutex::default(),
            noted: Mutex::default(),
            trace: None,
            spans: Mutex::default(),
            here: Some(here),
            commands: Mutex::default(),
            cancel: session.cancel().clone(),
        }
    }
}
