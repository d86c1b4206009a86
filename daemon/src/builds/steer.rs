//! What the thread of a build does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use engine::error::BuildError;
use engine::received::ReceivedFiles;
use engine::report::BuildReport;
use engine::request::{
    BuildRequest, ContextSource, DockerfileSource, Entitlement, LayerOptions, NamedContext, Output, Secrets,
    SshSources,
};
use engine::session::{ResultPart, Session as EngineSession};
use engine::source_policy::SourcePolicies;
use engine::{Engine, ScratchDir};
use tonic::Status;

use super::frontends::FrontendImage;
use super::results::{Found, Results, config_of, read_dir, read_file, stat_file};
use super::{Build, Builds, Command, Reply, brought, caches, sources};
use crate::attributes::{Attributes, NamedContexts, Place, elsewhere, ignore_patterns};
use crate::errors::{self, status_of};
use crate::outputs;
use crate::proto::{frontend, pb};
use crate::session::caller::{Asked, Nobody};
use crate::session::files::{self, Wanted};
use crate::{linked, policies, questions};

/// The frontend that is an image, which an attribute names.
const GATEWAY: &str = "gateway.v0";

/// The only frontend that needs no image.
const DOCKERFILE: &str = "dockerfile.v0";

/// The attribute of an output that has the config of its image.
const CONFIG: &str = "containerimage.config";

/// The file that says what of a context is not sent.
const IGNORE_FILE: &str = ".dockerignore";

/// How many bytes come between two things that are told of a transfer.
const TOLD_EVERY: u64 = 1 << 20;

/// Does what the client of a build asks, until there is a result.
pub(super) fn run(
    builds: &Arc<Builds>,
    build: &Arc<Build>,
    commands: &Receiver<Command>,
) -> Result<HashMap<String, String>, Status> {
    let thread = Steering { builds, build, commands };
    let definition = build.request.definition.as_ref().filter(|definition| !definition.def.is_empty());
    match (definition, build.request.frontend.as_str()) {
        (Some(_), frontend) if !frontend.is_empty() => Err(Status::invalid_argument(format!(
            "a build has a definition or a frontend ({frontend}), and not both"
        ))),
        (Some(definition), _) => thread.defined(definition),
        (None, "") => thread.gateway(),
        (None, _) => thread.alone(),
    }
}

pub(super) struct Steering<'a> {
    pub(super) builds: &'a Arc<Builds>,
    pub(super) build: &'a Arc<Build>,
    commands: &'a Receiver<Command>,
}

/// A request whose files are here, for as long as this is.
pub(super) struct Opened {
    pub(super) request: BuildRequest,
    /// What is made; a Dockerfile, without one.
    pub(super) definition: Option<pb::Definition>,
    pub(super) is_multi_platform: bool,
    /// Who makes it, if that is not us.
    pub(super) frontend: Option<FrontendImage>,
    /// What is asked instead of a build.
    question: Option<String>,
    _files: Vec<ReceivedFiles>,
    _scratch: Vec<ScratchDir>,
}

impl Opened {
    pub(super) fn new(request: BuildRequest, files: Vec<ReceivedFiles>) -> Self {
        Self {
            request,
            definition: None,
            is_multi_platform: false,
            frontend: None,
            question: None,
            _files: files,
            _scratch: Vec::new(),
        }
    }

    pub(super) fn of_definition(
        request: BuildRequest,
        (files, scratch): (Vec<ReceivedFiles>, Vec<ScratchDir>),
        definition: pb::Definition,
    ) -> Self {
        Self { definition: Some(definition), _scratch: scratch, ..Self::new(request, files) }
    }
}

impl Steering<'_> {
    /// A build that the request says everything about.
    fn alone(&self) -> Result<HashMap<String, String>, Status> {
        let request = &self.build.request;
        let opened = self.open(&request.frontend, &request.frontend_attrs, &request.frontend_inputs, &[])?;
        if let Some(asked) = &opened.frontend {
            return self.steered(&opened.request.clone(), |session| {
                let mut results = Results::new(&self.build.id);
                let result = self.frontend(session, &mut results, asked)?;
                let result = frontend::ReturnRequest { result: Some(result), error: None };
                self.returned(session, &opened.request, &results, result)
            });
        }
        if let Some(question) = &opened.question {
            let answer = self.answer(question, &opened)?.into_iter();
            let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
            return Ok(answer.map(|(name, value)| (name, text(value))).collect());
        }
        self.steered(&opened.request.clone(), |session| {
            let solved = session.solve(&opened.request).map_err(|error| status_of(&error))?;
            outputs::export(self.builds, self.build, session, &solved)
        })
    }

    /// A build of a definition that the request has.
    fn defined(&self, definition: &pb::Definition) -> Result<HashMap<String, String>, Status> {
        let mut opened = self.open_definition(definition, &self.build.request.frontend_attrs, &[])?;
        self.steered(&opened.request.clone(), |session| {
            let solved = self.solved(session, &Results::new(&self.build.id), &mut opened)?;
            let mut exporters = self.build.request.exporters.iter();
            let solved = match exporters.find_map(|exporter| exporter.attrs.get(CONFIG)) {
                Some(config) => {
                    let config = Some(config_of(CONFIG, config.as_bytes())?);
                    let part = ResultPart { of: Some((&solved, 0)), platform: None, config };
                    session.compose(&opened.request, vec![part], false)
                }
                None => solved,
            };
            outputs::export(self.builds, self.build, session, &solved)
        })
    }

    /// A build that its client steers.
    fn gateway(&self) -> Result<HashMap<String, String>, Status> {
        loop {
            match self.next()? {
                // Nothing was asked for: this is how clients find out what a builder can.
                Command::Return(returned, reply) => {
                    let _ = reply.send(Ok(frontend::ReturnResponse {}));
                    return match returned.error {
                        Some(error) => Err(errors::returned(error)),
                        None => Ok(HashMap::new()),
                    };
                }
                Command::Solve(solve, reply) => match self.open_solve(&solve) {
                    Ok(Some(opened)) => match &opened.question {
                        Some(question) if opened.frontend.is_none() => {
                            drop(reply.send(self.answered(question, &opened)))
                        }
                        _ => {
                            return self
                                .steer(&opened.request.clone(), First::Solve(Box::new(opened), reply));
                        }
                    },
                    Ok(None) => drop(reply.send(Ok(nothing()))),
                    Err(status) => drop(reply.send(Err(status))),
                },
                command @ (Command::ResolveImage(..) | Command::ResolveSource(..)) => {
                    // Nothing is known yet of what is built.
                    let opened = self.open_definition(&pb::Definition::default(), &HashMap::new(), &[])?;
                    return self.steer(&opened.request, First::Other(command));
                }
                other => refuse(other),
            }
        }
    }

    /// What the client asks next.
    fn next(&self) -> Result<Command, Status> {
        self.commands.recv().map_err(|_| Status::cancelled("the client does not wait for the build any more"))
    }

    /// Goes on after the first solve, until the client returns a result.
    fn steer(&self, opening: &BuildRequest, first: First) -> Result<HashMap<String, String>, Status> {
        self.steered(opening, |session| {
            let mut results = Results::new(&self.build.id);
            let mut waiting = match first {
                First::Solve(opened, reply) => {
                    let _ = reply.send(self.solve(session, *opened, &mut results));
                    None
                }
                First::Other(command) => Some(command),
            };
            loop {
                let command = match waiting.take() {
                    Some(command) => command,
                    None => self.next()?,
                };
                if let Some(returned) = self.handle(session, &mut results, command) {
                    return self.returned(session, opening, &results, returned);
                }
            }
        })
    }

    /// Does what a client or a frontend asks. Answers what it returns as the result, in the end.
    pub(super) fn handle(
        &self,
        session: &EngineSession<'_>,
        results: &mut Results,
        command: Command,
    ) -> Option<frontend::ReturnRequest> {
        match command {
            Command::Solve(request, reply) => {
                let solved = self.open_solve(&request).and_then(|opened| match opened {
                    Some(opened) => match &opened.question {
                        Some(question) if opened.frontend.is_none() => self.answered(question, &opened),
                        _ => self.solve(session, opened, results),
                    },
                    None => Ok(nothing()),
                });
                let _ = reply.send(solved);
            }
            Command::ResolveImage(request, reply) => {
                drop(
                    reply.send(self.policies().and_then(|own| sources::image_config(session, own, &request))),
                );
            }
            Command::ResolveSource(request, reply) => {
                drop(
                    reply.send(self.policies().and_then(|own| sources::source_meta(session, own, &request))),
                );
            }
            Command::ReadFile(request, reply) => drop(reply.send(read_file(session, results, &request))),
            Command::ReadDir(request, reply) => drop(reply.send(read_dir(session, results, &request))),
            Command::StatFile(request, reply) => drop(reply.send(stat_file(session, results, &request))),
            Command::Evaluate(id, reply) => drop(reply.send(self.evaluate(session, results, &id))),
            Command::NewContainer(request, reply) => drop(reply.send(results.containers.add(*request))),
            Command::ReleaseContainer(id, reply) => drop(reply.send(results.containers.release(&id))),
            Command::StartProcess(init, reply) => {
                drop(reply.send(self.start_process(session, results, &init)));
            }
            Command::Return(returned, reply) => {
                // The answer of the build says how it went.
                let _ = reply.send(Ok(frontend::ReturnResponse {}));
                return Some(*returned);
            }
        }
        None
    }

    /// Makes what was asked for, and names the result.
    fn solve(
        &self,
        session: &EngineSession<'_>,
        mut opened: Opened,
        results: &mut Results,
    ) -> Result<frontend::SolveResponse, Status> {
        if let Some(asked) = opened.frontend.take() {
            let result = Some(self.frontend(session, results, &asked)?);
            return Ok(frontend::SolveResponse { r#ref: String::new(), result });
        }
        let solved = self.solved(session, results, &mut opened)?;
        results.add(solved, opened)
    }

    /// Keeps a result for builds that begin with it, as an image of the store.
    pub(super) fn evaluate(
        &self,
        session: &EngineSession<'_>,
        results: &Results,
        id: &str,
    ) -> Result<(), Status> {
        let Found { number, known, .. } = results.find(id)?;
        if !self.builds.linked.has(&self.build.id, number) {
            let report =
                session.export(&known.solved, vec![Output::Store(LayerOptions::default())], Vec::new(), None);
            let report = report.map_err(|error| status_of(&error))?;
            if let Some(target) = report.targets.into_iter().next() {
                self.builds.linked.keep(&self.build.id, number, target.descriptor);
            }
        }
        Ok(())
    }

    fn returned(
        &self,
        session: &EngineSession<'_>,
        opening: &BuildRequest,
        results: &Results,
        returned: frontend::ReturnRequest,
    ) -> Result<HashMap<String, String>, Status> {
        if let Some(error) = returned.error {
            return Err(errors::returned(error));
        }
        match results.returned(session, opening, returned.result.unwrap_or_default())? {
            Some(solved) => outputs::export(self.builds, self.build, session, &solved),
            None => Ok(HashMap::new()),
        }
    }

    /// The engine, as somebody who has the client's credentials.
    fn engine(&self) -> Engine {
        self.builds.engine.with_credentials(match &self.build.session {
            Some(session) => Asked::new(session, self.builds.runtime()),
            None => Arc::new(Nobody),
        })
    }

    /// Answers a question about a Dockerfile.
    fn answer(&self, question: &str, opened: &Opened) -> Result<HashMap<String, Vec<u8>>, Status> {
        let events = Arc::clone(&self.build.status) as Arc<dyn base::event::EventSink>;
        questions::answer(&self.engine(), question, &opened.request, events, &self.build.cancel)
    }

    /// The same, as a result without files.
    fn answered(&self, question: &str, opened: &Opened) -> Result<frontend::SolveResponse, Status> {
        let metadata = self.answer(question, opened)?;
        let result = frontend::Result { metadata, ..frontend::Result::default() };
        Ok(frontend::SolveResponse { r#ref: String::new(), result: Some(result) })
    }

    /// Runs `steer` in a build of the engine.
    fn steered(
        &self,
        opening: &BuildRequest,
        steer: impl FnOnce(&EngineSession<'_>) -> Result<HashMap<String, String>, Status>,
    ) -> Result<HashMap<String, String>, Status> {
        let mut answer = None;
        let sink = Arc::clone(&self.build.status) as Arc<dyn base::event::EventSink>;
        let steered = self.engine().steered_build(opening, sink, &self.build.cancel, |session| {
            self.build.note_begun(session);
            let result = steer(session);
            let report = match &result {
                Ok(_) => Ok(BuildReport { targets: Vec::new(), record: None }),
                Err(_) if self.build.cancel.is_cancelled() => Err(BuildError::Cancelled),
                Err(status) => Err(BuildError::Steered(status.message().to_owned())),
            };
            answer = Some(result);
            report
        });
        match (answer, steered) {
            (Some(Ok(response)), Ok(_)) => {
                Ok(response.into_iter().chain(caches::written(&opening.caches)).collect())
            }
            (Some(Err(status)), _) => Err(status),
            (_, Err(error)) => Err(status_of(&error)),
            (None, Ok(_)) => Err(Status::internal("the build was not steered")),
        }
    }

    /// What a client asks to be made; `None` is nothing, whose result is empty.
    fn open_solve(&self, solve: &frontend::SolveRequest) -> Result<Option<Opened>, Status> {
        let policies = policies::understood(solve.source_policies.iter())?;
        let imports = &solve.cache_imports;
        let definition = solve.definition.as_ref().filter(|definition| !definition.def.is_empty());
        let mut opened = match (definition, solve.frontend.as_str()) {
            (None, "") => return Ok(None),
            (Some(definition), "") => self.open_definition(definition, &solve.frontend_opt, imports)?,
            (_, name) => self.open(name, &solve.frontend_opt, &solve.frontend_inputs, imports)?,
        };
        opened.request.policies.extend(&policies);
        Ok(Some(opened))
    }

    /// The policies that the build began with.
    pub(super) fn policies(&self) -> Result<SourcePolicies, Status> {
        policies::understood(self.build.request.source_policy.iter())
    }

    /// Makes the request of a solve, and brings the client's files here.
    fn open(
        &self,
        frontend: &str,
        attributes: &HashMap<String, String>,
        definitions: &HashMap<String, pb::Definition>,
        cache_imports: &[frontend::CacheOptionsEntry],
    ) -> Result<Opened, Status> {
        if frontend == GATEWAY {
            let image = attributes.get("source").filter(|image| !image.is_empty()).ok_or_else(|| {
                Status::invalid_argument(format!("{GATEWAY} needs the image of a frontend, as source"))
            })?;
            return self.open_frontend(image, attributes, definitions, cache_imports);
        }
        if frontend != DOCKERFILE {
            let message = format!("there is no frontend {frontend} here; {DOCKERFILE} and {GATEWAY} are");
            return Err(Status::not_found(message));
        }
        let given = attributes;
        let caches = self.caches(cache_imports, attributes)?;
        let attributes = Attributes(attributes);
        let question = attributes.question();
        question.map_or(Ok(()), questions::check)?;
        let mut held = Vec::new();
        let mut own_ignore_file = None;
        let mut scratch = Vec::new();
        let mut dockerfile = match attributes.dockerfile_directory() {
            None => DockerfileSource::InContext(attributes.filename().to_owned()),
            Some(directory) => {
                let path = attributes.filename();
                let wanted = Wanted {
                    follow: vec![path.to_owned(), format!("{path}.dockerignore"), path.to_lowercase()],
                    ..Wanted::default()
                };
                let shown =
                    format!("[internal] load {} from client", path.rsplit('/').next().unwrap_or(path));
                let files = self.receive(&shown, directory, "definition", &wanted)?;
                own_ignore_file = files
                    .read_text(&format!("{path}.dockerignore"))
                    .map_err(|error| crate::failed(&error))?;
                let text = files.read_text(path).map_err(|error| crate::failed(&error))?;
                let argument = attributes.get("build-arg:BUILDKIT_SYNTAX");
                if let Some(line) = text.and_then(|text| engine::other_frontend(&text, argument)) {
                    let (image, _) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
                    let mut given = given.clone();
                    given.insert("source".to_owned(), image.to_owned());
                    given.insert("cmdline".to_owned(), line.clone());
                    return self.open_frontend(image, &given, definitions, cache_imports);
                }
                let directory = files.path().to_owned();
                held.push(files);
                DockerfileSource::Sent { directory, path: path.to_owned() }
            }
        };
        let context = match attributes.context() {
            Place::Local(name) => {
                let files = match question {
                    // Of the context, nothing but its ignore file matters to a question.
                    Some(_) => self.receive_ignore_file(&name)?,
                    None => self.receive_context(&name, own_ignore_file)?,
                };
                let path = files.path().to_owned();
                held.push(files);
                ContextSource::Directory(path)
            }
            Place::Elsewhere(text) => elsewhere(&text)?,
            Place::Upload(id) => {
                let uploaded = brought::uploaded(self.builds, self.build, &id)?;
                dockerfile = uploaded.dockerfile.unwrap_or(dockerfile);
                scratch.push(uploaded.directory);
                uploaded.context
            }
        };
        let mut request = BuildRequest::new(context, dockerfile);
        attributes.apply(&mut request, &self.entitlements()?)?;
        if let Some(session) = &self.build.session {
            let caller = Asked::new(session, self.builds.runtime());
            request.secrets = Secrets::asking(caller.clone());
            request.ssh = SshSources::asking(caller);
        }
        let NamedContexts { named, local, inputs, layouts } = attributes.named_contexts()?;
        request.named_contexts = named;
        for (name, input) in inputs {
            let result = linked::find(self.builds, self.build, &name, definitions.get(&input))?;
            request.named_contexts.insert(name, NamedContext::Stored(result));
        }
        for wanted in &layouts {
            let platforms = &request.platforms;
            let (context, directory) = brought::layout(self.builds, self.build, wanted, platforms)?;
            request.named_contexts.insert(wanted.name.clone(), context);
            scratch.push(directory);
        }
        for (name, directory) in local {
            let shown = format!("[context {name}] load from client");
            let ignored = self.ignored(&directory)?;
            let wanted = Wanted { exclude: ignored, ..Wanted::default() };
            let files = self.receive(&shown, &directory, "context", &wanted)?;
            let source = ContextSource::Directory(files.path().to_owned());
            request.named_contexts.insert(name, NamedContext::Files(source));
            held.push(files);
        }
        request.jobs = self.builds.jobs;
        request.policies = self.policies()?;
        request.caches = caches;
        request.remembered = !self.build.request.internal;
        let is_multi_platform = attributes.is_multi_platform() || request.platforms.len() > 1;
        let question = question.map(str::to_owned);
        Ok(Opened { is_multi_platform, question, _scratch: scratch, ..Opened::new(request, held) })
    }

    /// A frontend that is an image: what it needs of the client, it asks for.
    fn open_frontend(
        &self,
        image: &str,
        attributes: &HashMap<String, String>,
        inputs: &HashMap<String, pb::Definition>,
        cache_imports: &[frontend::CacheOptionsEntry],
    ) -> Result<Opened, Status> {
        let opened = self.open_definition(&pb::Definition::default(), attributes, cache_imports)?;
        let (attributes, inputs) = (attributes.clone(), inputs.clone());
        let frontend = FrontendImage { image: image.to_owned(), attributes, inputs };
        Ok(Opened { frontend: Some(frontend), ..opened })
    }

    /// What the client wants for its steps, if the daemon allows it.
    pub(super) fn entitlements(&self) -> Result<Vec<Entitlement>, Status> {
        let wanted = |name: &String| {
            let kind = name.split('=').next().unwrap_or_default();
            let known = Entitlement::from_name(kind).filter(|kind| self.builds.allowed.contains(kind));
            known.ok_or_else(|| {
                let message =
                    format!("granting entitlement {name} is not allowed by build daemon configuration");
                Status::permission_denied(message)
            })
        };
        self.build.request.entitlements.iter().map(wanted).collect()
    }

    /// The build context, without what an ignore file excludes: the one that belongs to the Dockerfile, or its own.
    fn receive_context(&self, name: &str, own: Option<Vec<u8>>) -> Result<ReceivedFiles, Status> {
        let exclude = match own {
            Some(text) => ignore_patterns(&String::from_utf8_lossy(&text)),
            None => self.ignored(name)?,
        };
        let wanted = Wanted { exclude, ..Wanted::default() };
        self.receive("[internal] load build context", name, "context", &wanted)
    }

    /// The ignore file of a client's directory.
    fn receive_ignore_file(&self, name: &str) -> Result<ReceivedFiles, Status> {
        let wanted = Wanted { follow: vec![IGNORE_FILE.to_owned()], ..Wanted::default() };
        self.receive("[internal] load .dockerignore", name, "ignore", &wanted)
    }

    /// The patterns of the ignore file of a client's directory.
    fn ignored(&self, name: &str) -> Result<Vec<String>, Status> {
        let files = self.receive_ignore_file(name)?;
        let text = files.read_text(IGNORE_FILE).map_err(|error| crate::failed(&error))?.unwrap_or_default();
        Ok(ignore_patterns(&String::from_utf8_lossy(&text)))
    }

    /// Brings the copy of a client's directory up to date.
    pub(super) fn receive(
        &self,
        shown: &str,
        name: &str,
        part: &str,
        wanted: &Wanted,
    ) -> Result<ReceivedFiles, Status> {
        let session = self.build.session.as_ref().ok_or_else(|| {
            Status::invalid_argument(format!(
                "the build needs the client's directory {name}, and has no session"
            ))
        })?;
        let key = if session.shared_key().is_empty() { session.id() } else { session.shared_key() };
        let step = self.build.step(shown, name);
        let id = format!("transferring {part}:");
        let mut told = 0;
        let received = self
            .builds
            .engine
            .receive_files(&[key, part, name])
            .map_err(|error| crate::failed(&error))
            .and_then(|mut files| {
                let runtime = self.builds.runtime();
                let transferred = files::receive(runtime, session, name, wanted, &mut files, |so_far| {
                    // Not for each of ten thousand small files.
                    if so_far.bytes >= told + TOLD_EVERY {
                        told = so_far.bytes;
                        step.tell(&id, told, false);
                    }
                })?;
                step.tell(&id, transferred.bytes, true);
                Ok(files)
            });
        step.end(received)
    }
}

/// What a client asks first.
enum First {
    Solve(Box<Opened>, Reply<frontend::SolveResponse>),
    Other(Command),
}

/// The answer to a solve of nothing.
fn nothing() -> frontend::SolveResponse {
    frontend::SolveResponse { r#ref: String::new(), result: Some(frontend::Result::default()) }
}

/// Answers what makes no sense before there is a result.
fn refuse(command: Command) {
    let status = || Status::not_found("there is no result yet that this could be about");
    match command {
        Command::ReadFile(_, reply) => drop(reply.send(Err(status()))),
        Command::ReadDir(_, reply) => drop(reply.send(Err(status()))),
        Command::StatFile(_, reply) => drop(reply.send(Err(status()))),
        Command::Solve(_, reply) => drop(reply.send(Err(status()))),
        Command::Evaluate(_, reply) => drop(reply.send(Err(status()))),
        Command::ResolveImage(_, reply) => drop(reply.send(Err(status()))),
        Command::ResolveSource(_, reply) => drop(reply.send(Err(status()))),
        Command::NewContainer(_, reply) => drop(reply.send(Err(status()))),
        Command::ReleaseContainer(_, reply) => drop(reply.send(Err(status()))),
        Command::StartProcess(_, reply) => drop(reply.send(Err(status()))),
        Command::Return(_, reply) => drop(reply.send(Err(status()))),
    }
}
