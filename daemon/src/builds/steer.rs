//! What the thread of a build does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use base::Platform;
use engine::error::BuildError;
use engine::received::ReceivedFiles;
use engine::report::BuildReport;
use engine::request::{
    BuildRequest, ContextSource, DockerfileSource, Entitlement, LayerOptions, NamedContext, Output, Secrets,
    SshSources,
};
use engine::session::{Session as EngineSession, Solved};
use engine::{Engine, ScratchDir};
use tonic::Status;

use super::{Build, Builds, Command, Reply, brought, caches};
use crate::attributes::{Attributes, NamedContexts, Place, elsewhere, ignore_patterns};
use crate::errors::{self, status_of, status_of_engine};
use crate::outputs;
use crate::proto::frontend::result::Result as ResultRefs;
use crate::proto::{frontend, fsutil, pb};
use crate::session::caller::{Asked, Nobody};
use crate::session::content::Directories;
use crate::session::files::{self, Wanted};
use crate::{linked, questions, workers};

/// The only frontend that needs no image.
const DOCKERFILE: &str = "dockerfile.v0";

/// The name of the result's documents.
const CONFIG: &str = "containerimage.config";

/// The name of the list of platforms.
const PLATFORMS: &str = "refs.platforms";

/// The file that says what of a context is not sent.
const IGNORE_FILE: &str = ".dockerignore";

/// How many bytes come between two things that are told of a transfer.
const TOLD_EVERY: u64 = 1 << 20;

/// How much of a file is read for a client at once, in bytes.
const MOST_READ: u64 = 15 << 20;

/// Does what the client of a build asks, until there is a result.
pub(super) fn run(
    builds: &Arc<Builds>,
    build: &Arc<Build>,
    commands: &Receiver<Command>,
) -> Result<HashMap<String, String>, Status> {
    let thread = Steering { builds, build, commands };
    if build.request.definition.as_ref().is_some_and(|definition| !definition.def.is_empty()) {
        return Err(Status::unimplemented(
            "this builder does not solve LLB yet; use the Dockerfile frontend",
        ));
    }
    if !build.request.frontend.is_empty() {
        return thread.alone();
    }
    thread.gateway()
}

struct Steering<'a> {
    builds: &'a Arc<Builds>,
    build: &'a Arc<Build>,
    commands: &'a Receiver<Command>,
}

/// A request whose files are here, for as long as this is.
struct Opened {
    request: BuildRequest,
    is_multi_platform: bool,
    /// What is asked instead of a build.
    question: Option<String>,
    _files: Vec<ReceivedFiles>,
    _scratch: Vec<ScratchDir>,
}

/// A result, by the name under which the client knows it.
struct Known {
    solved: Solved,
    _opened: Opened,
}

impl Steering<'_> {
    /// A build that the request says everything about.
    fn alone(&self) -> Result<HashMap<String, String>, Status> {
        let request = &self.build.request;
        let opened = self.open(&request.frontend, &request.frontend_attrs, &request.frontend_inputs, &[])?;
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
                    Ok(opened) => match &opened.question {
                        Some(question) => drop(reply.send(self.answered(question, &opened))),
                        None => return self.steer(opened, reply),
                    },
                    Err(status) => drop(reply.send(Err(status))),
                },
                other => refuse(other),
            }
        }
    }

    /// What the client asks next.
    fn next(&self) -> Result<Command, Status> {
        self.commands.recv().map_err(|_| Status::cancelled("the client does not wait for the build any more"))
    }

    /// Goes on after the first solve, until the client returns a result.
    fn steer(
        &self,
        opened: Opened,
        reply: Reply<frontend::SolveResponse>,
    ) -> Result<HashMap<String, String>, Status> {
        self.steered(&opened.request.clone(), |session| {
            let mut known: Vec<Known> = Vec::new();
            let id = &self.build.id;
            let _ = reply.send(solve(id, session, opened, &mut known));
            loop {
                match self.next()? {
                    Command::Solve(request, reply) => {
                        let solved = self.open_solve(&request).and_then(|opened| match &opened.question {
                            Some(question) => self.answered(question, &opened),
                            None => solve(id, session, opened, &mut known),
                        });
                        let _ = reply.send(solved);
                    }
                    Command::ReadFile(request, reply) => {
                        drop(reply.send(read_file(session, &known, &request)))
                    }
                    Command::ReadDir(request, reply) => drop(reply.send(read_dir(session, &known, &request))),
                    Command::StatFile(request, reply) => {
                        drop(reply.send(stat_file(session, &known, &request)))
                    }
                    Command::Evaluate(id, reply) => drop(reply.send(self.evaluate(session, &known, &id))),
                    Command::Return(returned, reply) => {
                        // The answer of the build says how it went.
                        let _ = reply.send(Ok(frontend::ReturnResponse {}));
                        return self.returned(session, &known, *returned);
                    }
                }
            }
        })
    }

    /// Keeps a result for builds that begin with it, as an image of the store.
    fn evaluate(&self, session: &EngineSession<'_>, known: &[Known], id: &str) -> Result<(), Status> {
        let (number, result, _) = find(known, id)?;
        if !self.builds.linked.has(&self.build.id, number) {
            let report = session.export(
                &result.solved,
                vec![Output::Store(LayerOptions::default())],
                Vec::new(),
                None,
            );
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
        known: &[Known],
        returned: frontend::ReturnRequest,
    ) -> Result<HashMap<String, String>, Status> {
        if let Some(error) = returned.error {
            return Err(errors::returned(error));
        }
        let refs: Vec<String> = match returned.result.and_then(|result| result.result) {
            None => Vec::new(),
            Some(ResultRefs::Ref(one)) => vec![one.id],
            Some(ResultRefs::RefDeprecated(one)) => vec![one],
            Some(ResultRefs::Refs(all)) => all.refs.into_values().map(|one| one.id).collect(),
            Some(ResultRefs::RefsDeprecated(all)) => all.refs.into_values().collect(),
        };
        let mut results: Vec<usize> = Vec::new();
        for id in refs.iter().filter(|id| !id.is_empty()) {
            results.push(find(known, id)?.0);
        }
        results.dedup();
        match results.as_slice() {
            [] => Ok(HashMap::new()),
            [one] => outputs::export(self.builds, self.build, session, &known[*one].solved),
            _ => Err(Status::unimplemented(
                "a result that is put together from several solves is not taken yet",
            )),
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

    fn open_solve(&self, solve: &frontend::SolveRequest) -> Result<Opened, Status> {
        if solve.frontend.is_empty() {
            return Err(Status::unimplemented(
                "this builder does not solve LLB yet; use the Dockerfile frontend",
            ));
        }
        let imports = &solve.cache_imports;
        self.open(&solve.frontend, &solve.frontend_opt, &solve.frontend_inputs, imports)
    }

    /// Makes the request of a solve, and brings the client's files here.
    fn open(
        &self,
        frontend: &str,
        attributes: &HashMap<String, String>,
        definitions: &HashMap<String, pb::Definition>,
        cache_imports: &[frontend::CacheOptionsEntry],
    ) -> Result<Opened, Status> {
        if frontend != DOCKERFILE {
            let message = format!("there is no frontend {frontend} here; {DOCKERFILE} is");
            return Err(Status::unimplemented(message));
        }
        let runtime = self.builds.runtime();
        let directories = self.build.session.as_ref().and_then(|session| Directories::of(runtime, session));
        let asked = self.build.request.cache.as_ref();
        let caches = caches::shared(asked, cache_imports, attributes, directories.as_ref())?;
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
        request.caches = caches;
        request.remembered = !self.build.request.internal;
        let is_multi_platform = attributes.is_multi_platform() || request.platforms.len() > 1;
        let question = question.map(str::to_owned);
        Ok(Opened { request, is_multi_platform, question, _files: held, _scratch: scratch })
    }

    /// What the client wants for its steps, if the daemon allows it.
    fn entitlements(&self) -> Result<Vec<Entitlement>, Status> {
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
    fn receive(&self, shown: &str, name: &str, part: &str, wanted: &Wanted) -> Result<ReceivedFiles, Status> {
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

/// Answers what makes no sense before there is a result.
fn refuse(command: Command) {
    let status = || Status::not_found("there is no result yet that this could be about");
    match command {
        Command::ReadFile(_, reply) => drop(reply.send(Err(status()))),
        Command::ReadDir(_, reply) => drop(reply.send(Err(status()))),
        Command::StatFile(_, reply) => drop(reply.send(Err(status()))),
        Command::Solve(_, reply) => drop(reply.send(Err(status()))),
        Command::Evaluate(_, reply) => drop(reply.send(Err(status()))),
        Command::Return(_, reply) => drop(reply.send(Err(status()))),
    }
}

/// Solves, and names the result.
fn solve(
    build: &str,
    session: &EngineSession<'_>,
    opened: Opened,
    known: &mut Vec<Known>,
) -> Result<frontend::SolveResponse, Status> {
    let solved = session.solve(&opened.request).map_err(|error| status_of(&error))?;
    let number = known.len();
    let is_multi_platform = opened.is_multi_platform;
    let result = result(build, number, &solved, is_multi_platform)?;
    known.push(Known { solved, _opened: opened });
    Ok(frontend::SolveResponse { r#ref: String::new(), result: Some(result) })
}

fn result(
    build: &str,
    number: usize,
    solved: &Solved,
    is_multi_platform: bool,
) -> Result<frontend::Result, Status> {
    let mut metadata = HashMap::new();
    let reference = |index: usize| frontend::Ref {
        id: format!("{number}:{index}"),
        def: Some(linked::definition(build, number)),
    };
    let mut add = |name: String, value: serde_json::Result<Vec<u8>>| {
        let value = value.map_err(|error| Status::internal(format!("cannot write {name}: {error}")))?;
        metadata.insert(name, value);
        Ok::<_, Status>(())
    };
    let images: Vec<_> = solved.images().collect();
    if let ([(_, config)], false) = (images.as_slice(), is_multi_platform) {
        add(CONFIG.to_owned(), serde_json::to_vec(config))?;
        return Ok(frontend::Result {
            result: Some(ResultRefs::Ref(reference(0))),
            metadata,
            ..Default::default()
        });
    }
    let mut refs = HashMap::new();
    let mut platforms = Vec::new();
    for (index, (platform, config)) in images.iter().enumerate() {
        let id = platform.to_string();
        add(format!("{CONFIG}/{id}"), serde_json::to_vec(config))?;
        platforms.push(serde_json::json!({ "ID": id, "Platform": go_platform(platform) }));
        refs.insert(id, reference(index));
    }
    add(PLATFORMS.to_owned(), serde_json::to_vec(&serde_json::json!({ "Platforms": platforms })))?;
    let result = Some(ResultRefs::Refs(frontend::RefMap { refs }));
    Ok(frontend::Result { result, metadata, ..Default::default() })
}

/// A platform as OCI documents have it.
fn go_platform(platform: &Platform) -> serde_json::Value {
    serde_json::to_value(platform).unwrap_or_default()
}

/// The result that `id` names, and which of its images.
fn find<'a>(known: &'a [Known], id: &str) -> Result<(usize, &'a Known, usize), Status> {
    let parse = || {
        let (number, image) = id.split_once(':')?;
        let (number, image) = (number.parse::<usize>().ok()?, image.parse().ok()?);
        Some((number, known.get(number)?, image))
    };
    parse().ok_or_else(|| Status::not_found(format!("no such ref: {id}")))
}

fn read_file(
    session: &EngineSession<'_>,
    known: &[Known],
    request: &frontend::ReadFileRequest,
) -> Result<frontend::ReadFileResponse, Status> {
    let (_, result, image) = find(known, &request.r#ref)?;
    let range = request.range.as_ref();
    let offset = range.map_or(0, |range| u64::try_from(range.offset).unwrap_or(0));
    let length = range.map_or(0, |range| u64::try_from(range.length).unwrap_or(0));
    let length = if length == 0 { MOST_READ } else { length.min(MOST_READ) };
    let data = session.read_file(&result.solved, image, &request.file_path, (offset, length));
    Ok(frontend::ReadFileResponse { data: data.map_err(|error| status_of_engine(&error))? })
}

fn read_dir(
    session: &EngineSession<'_>,
    known: &[Known],
    request: &frontend::ReadDirRequest,
) -> Result<frontend::ReadDirResponse, Status> {
    let (_, result, image) = find(known, &request.r#ref)?;
    let found = session
        .read_dir(&result.solved, image, &request.dir_path)
        .map_err(|error| status_of_engine(&error))?;
    let entries = found.iter().map(workers::stat).collect();
    Ok(frontend::ReadDirResponse { entries })
}

fn stat_file(
    session: &EngineSession<'_>,
    known: &[Known],
    request: &frontend::StatFileRequest,
) -> Result<frontend::StatFileResponse, Status> {
    let (_, result, image) = find(known, &request.r#ref)?;
    let found =
        session.stat_file(&result.solved, image, &request.path).map_err(|error| status_of_engine(&error))?;
    let stat: fsutil::Stat = workers::stat(&found);
    Ok(frontend::StatFileResponse { stat: Some(stat) })
}
