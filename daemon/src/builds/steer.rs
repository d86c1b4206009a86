//! What the thread of a build does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use engine::Engine;
use engine::error::BuildError;
use engine::report::BuildReport;
use engine::request::{BuildRequest, LayerOptions, Output};
use engine::session::{ResultPart, Session as EngineSession};
use tonic::Status;

use super::opening::Opened;
use super::results::{Found, Results, config_of, read_dir, read_file, stat_file};
use super::{Build, Builds, Command, Reply, caches, sources};
use crate::errors::{self, status_of};
use crate::outputs;
use crate::proto::{frontend, pb};
use crate::questions;
use crate::session::Session;
use crate::session::caller::{Asked, Nobody};

/// The attribute of an output that has the config of its image.
const CONFIG: &str = "containerimage.config";

/// The method by which a client has outputs of its own.
const FIND_EXPORTERS: &str = "/moby.exporter.v1.Exporter/FindExporters";

/// Does what the client of a build asks, until there is a result.
pub(super) fn run(
    builds: &Arc<Builds>,
    build: &Arc<Build>,
    commands: &Receiver<Command>,
) -> Result<HashMap<String, String>, Status> {
    not_understood(build)?;
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

/// Refuses what is asked for and was not announced: a policy that is not asked would allow everything.
fn not_understood(build: &Build) -> Result<(), Status> {
    let request = &build.request;
    if !request.source_policy_session.is_empty() {
        let message = "policies that ask the client for each source (source_policy_session) are not known to this builder";
        return Err(Status::unimplemented(message));
    }
    let exports_itself = |session: &Arc<Session>| session.offers(FIND_EXPORTERS);
    if request.enable_session_exporter && build.session.as_ref().is_some_and(exports_itself) {
        let message =
            "outputs that the client's session finds (enable_session_exporter) are not known to this builder";
        return Err(Status::unimplemented(message));
    }
    Ok(())
}

pub(super) struct Steering<'a> {
    pub(super) builds: &'a Arc<Builds>,
    pub(super) build: &'a Arc<Build>,
    pub(super) commands: &'a Receiver<Command>,
}

impl Steering<'_> {
    /// A build that the request says everything about.
    fn alone(&self) -> Result<HashMap<String, String>, Status> {
        let request = &self.build.request;
        let mut opened =
            self.open(&request.frontend, &request.frontend_attrs, &request.frontend_inputs, &[])?;
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
            let solved = self.solved(session, &mut Results::new(&self.build.id), &mut opened)?;
            outputs::export(self.builds, self.build, session, &solved)
        })
    }

    /// A build of a definition that the request has.
    fn defined(&self, definition: &pb::Definition) -> Result<HashMap<String, String>, Status> {
        let mut opened = self.open_definition(definition, &self.build.request.frontend_attrs, &[])?;
        self.steered(&opened.request.clone(), |session| {
            let solved = self.solved(session, &mut Results::new(&self.build.id), &mut opened)?;
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
            Command::ReadFileIn(request, reply) => {
                drop(reply.send(results.read_file_in(session, &request)));
            }
            Command::ReadDirIn(request, reply) => drop(reply.send(results.read_dir_in(session, &request))),
            Command::StatFileIn(request, reply) => drop(reply.send(results.stat_file_in(session, &request))),
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
        Command::ReadFile(_, reply) | Command::ReadFileIn(_, reply) => drop(reply.send(Err(status()))),
        Command::ReadDir(_, reply) | Command::ReadDirIn(_, reply) => drop(reply.send(Err(status()))),
        Command::StatFile(_, reply) | Command::StatFileIn(_, reply) => drop(reply.send(Err(status()))),
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
