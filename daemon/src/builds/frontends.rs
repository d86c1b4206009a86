//! Frontends that are images (`gateway.v0`, `# syntax=IMAGE`): each runs in a container, and asks us over its standard input and
//! output what clients ask over a socket (`LLBBridge`), until it returns a result.
//!
//! What it is told: `BUILDKIT_FRONTEND_OPT_N` are its attributes, `BUILDKIT_SESSION_ID` is the client's session, and
//! `BUILDKIT_WORKERS` says who builds. It reaches the client's files, secrets and caches through us alone.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use base::Platform;
use base::event::Stream;
use engine::low_level;
use engine::session::{Session as EngineSession, SessionProcess, Streams};
use prost::Message as _;
use serde_json::json;
use tonic::Status;

use super::Command;
use super::results::Results;
use super::steer::Steering;
use crate::attributes;
use crate::errors::{returned, status_of, status_of_engine};
use crate::gateway::Calls;
use crate::listen;
use crate::pipes::Pipes;
use crate::proto::{frontend, pb};
use crate::status::Step;

/// How deep frontends may ask for others.
const DEEPEST: usize = 8;

/// How often it is looked whether a frontend that says nothing has ended, or nobody wants its result any more.
const LOOK: Duration = Duration::from_millis(100);

/// How long a frontend may take to end after it has returned its result.
const PATIENCE: Duration = Duration::from_secs(10);

/// The label of an image by which a frontend does without a network.
const NO_NETWORK: &str = "moby.buildkit.frontend.network.none";

/// How much of the errors of a frontend is told with its failure, in bytes.
const MOST_ERRORS: usize = 4096;

/// A frontend that is asked for.
pub(super) struct FrontendImage {
    pub(super) image: String,
    pub(super) attributes: HashMap<String, String>,
    pub(super) inputs: HashMap<String, pb::Definition>,
}

impl Steering<'_> {
    /// Runs a frontend, and answers its result.
    pub(super) fn frontend(
        &self,
        session: &EngineSession<'_>,
        results: &mut Results,
        asked: &FrontendImage,
    ) -> Result<frontend::Result, Status> {
        if results.depth >= DEEPEST {
            return Err(Status::invalid_argument(format!(
                "the frontend {} is asked for by {DEEPEST} others, each by the next",
                asked.image
            )));
        }
        results.depth += 1;
        let result = self.run_frontend(session, results, asked);
        results.depth -= 1;
        result
    }

    fn run_frontend(
        &self,
        session: &EngineSession<'_>,
        results: &mut Results,
        asked: &FrontendImage,
    ) -> Result<frontend::Result, Status> {
        let step =
            self.build.step(&format!("[internal] frontend {}", asked.image), &results.depth.to_string());
        let started = self.start_frontend(session, asked);
        let (process, streams) = match started {
            Ok(started) => started,
            Err(status) => return step.end(Err(status)),
        };
        let errors = std::thread::scope(|scope| {
            let Streams { stdin, stdout, stderr, .. } = streams;
            let reader = scope.spawn(|| read_errors(stderr, &step));
            let result = self.serve(session, results, asked, (stdin, stdout), &process);
            // Its errors end with it.
            drop(process);
            (result, reader.join().unwrap_or_default())
        });
        let (result, told) = errors;
        step.end(result.map_err(|status| with_errors(&status, &told)))
    }

    fn start_frontend(
        &self,
        session: &EngineSession<'_>,
        asked: &FrontendImage,
    ) -> Result<(SessionProcess, Streams), Status> {
        let opened = self.open_definition(&source(&asked.image), &HashMap::new(), &[])?;
        let definition = source(&asked.image);
        let root =
            session.solve_definition(&definition, &opened.request).map_err(|error| status_of(&error))?;
        let reference = attributes::reference(&asked.image)?;
        let how = (opened.request.pull, &opened.request.policies);
        let found = session.resolve_image(&reference, &Platform::host(), how);
        let config =
            found.map_err(|error| Status::unknown(base::fault::chain(error.as_ref())))?.config.config;
        let args: Vec<String> =
            config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect();
        if args.is_empty() {
            let message = format!("the image {} is no frontend: it says no command", asked.image);
            return Err(Status::invalid_argument(message));
        }
        let network = match config.labels.get(NO_NETWORK).map(String::as_str) {
            Some("true" | "1") => pb::NetMode::None,
            _ => pb::NetMode::Unset,
        };
        let meta = pb::Meta {
            args,
            env: config.env.iter().cloned().chain(self.environment(asked)).collect(),
            cwd: config.working_dir.clone(),
            user: config.user.clone(),
            ..pb::Meta::default()
        };
        let root_mount = pb::Mount { dest: "/".to_owned(), input: 0, output: -1, ..pb::Mount::default() };
        let exec = pb::ExecOp {
            meta: Some(meta),
            mounts: vec![root_mount],
            network: network.into(),
            ..pb::ExecOp::default()
        };
        let container = low_level::container(&exec, &opened.request.allow, |_| false)
            .map_err(|error| status_of(&error.into()))?;
        let process = session
            .start(&container, &[Some((&root, 0))], &opened.request, false)
            .map_err(|error| status_of_engine(&error))?;
        let streams = process.take_streams();
        Ok((process, streams))
    }

    /// What a frontend finds in its environment.
    fn environment(&self, asked: &FrontendImage) -> Vec<String> {
        let mut attributes: Vec<(&String, &String)> = asked.attributes.iter().collect();
        attributes.sort();
        let option = |(number, (name, value)): (usize, (&String, &String))| {
            format!("BUILDKIT_FRONTEND_OPT_{number}={name}={value}")
        };
        let mut env: Vec<String> = attributes.into_iter().enumerate().map(option).collect();
        let session = self.build.session.as_ref().map(|session| session.id().to_owned()).unwrap_or_default();
        let worker = crate::workers::worker(self.builds);
        let platforms: Vec<_> = worker
            .platforms
            .iter()
            .map(|platform| json!({ "os": platform.os, "architecture": platform.architecture, "variant": platform.variant }))
            .collect();
        let workers = json!([{ "ID": worker.id, "Labels": worker.labels, "Platforms": platforms }]);
        env.push(format!("BUILDKIT_SESSION_ID={session}"));
        env.push(format!("BUILDKIT_WORKERS={workers}"));
        env.push("BUILDKIT_EXPORTEDPRODUCT=lapstrake".to_owned());
        env
    }

    /// Answers a frontend until it returns a result.
    fn serve(
        &self,
        session: &EngineSession<'_>,
        results: &mut Results,
        asked: &FrontendImage,
        (stdin, stdout): (Option<OwnedFd>, Option<OwnedFd>),
        process: &SessionProcess,
    ) -> Result<frontend::Result, Status> {
        let runtime = self.builds.runtime();
        let connection = {
            let _runtime = runtime.enter();
            Pipes::of(stdin, stdout)
                .map_err(|error| Status::internal(format!("cannot speak with the frontend: {error}")))?
        };
        let (sender, receiver) = channel();
        let calls = Calls::new(self.builds, self.build, sender, asked.inputs.clone());
        let served = runtime.spawn(listen::serve_one(Arc::new(calls), connection));
        let result = self.answer_frontend(session, results, asked, &receiver, process);
        // Whatever it still says, nobody listens.
        served.abort();
        result
    }

    fn answer_frontend(
        &self,
        session: &EngineSession<'_>,
        results: &mut Results,
        asked: &FrontendImage,
        receiver: &Receiver<Command>,
        process: &SessionProcess,
    ) -> Result<frontend::Result, Status> {
        let mut answer = None;
        let mut since: Option<Instant> = None;
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(command) => {
                    if let Some(result) = self.handle(session, results, command) {
                        answer = Some(result);
                        since = Some(Instant::now());
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // It has closed its streams, and ends in a moment.
                Err(RecvTimeoutError::Disconnected) => {
                    process.wait_for(LOOK).map_err(|error| status_of_engine(&error))?;
                }
            }
            if self.build.is_cancelled() {
                return Err(Status::cancelled("context canceled"));
            }
            let code = process.try_wait().map_err(|error| status_of_engine(&error))?;
            let is_late = since.is_some_and(|since| since.elapsed() > PATIENCE);
            match (code, answer.take()) {
                (Some(_), Some(result)) => return result_of(result),
                (Some(code), None) => {
                    let message =
                        format!("the frontend {} has ended without a result: exit code: {code}", asked.image);
                    return Err(Status::unknown(message));
                }
                (None, Some(result)) if is_late => return result_of(result),
                (None, waiting) => answer = waiting,
            }
        }
    }
}

/// The definition that is an image.
fn source(image: &str) -> pb::Definition {
    let source = pb::SourceOp { identifier: format!("docker-image://{image}"), ..pb::SourceOp::default() };
    let source = pb::Op { op: Some(pb::op::Op::Source(source)), ..pb::Op::default() }.encode_to_vec();
    let digest = base::Digest::of(&source).to_string();
    let last = pb::Op { inputs: vec![pb::Input { digest, index: 0 }], ..pb::Op::default() };
    pb::Definition { def: vec![source, last.encode_to_vec()], ..pb::Definition::default() }
}

fn result_of(request: frontend::ReturnRequest) -> Result<frontend::Result, Status> {
    match request.error {
        Some(error) => Err(returned(error)),
        None => Ok(request.result.unwrap_or_default()),
    }
}

/// Passes the errors of a frontend on, to its end. Answers their last part.
fn read_errors(stderr: Option<OwnedFd>, step: &Step<'_>) -> Vec<u8> {
    let Some(stderr) = stderr else { return Vec::new() };
    let (mut stderr, mut last) = (std::fs::File::from(stderr), Vec::new());
    let mut buffer = vec![0; 8 << 10];
    while let Ok(read @ 1..) = stderr.read(&mut buffer) {
        let Some(piece) = buffer.get(..read) else { break };
        step.log(Stream::Stderr, piece);
        last.extend_from_slice(piece);
        let excess = last.len().saturating_sub(MOST_ERRORS);
        last.drain(..excess);
    }
    last
}

/// A failure with what the frontend has said of it, unless it says so itself.
fn with_errors(status: &Status, told: &[u8]) -> Status {
    let told = String::from_utf8_lossy(told);
    let told = told.trim();
    if told.is_empty() || !status.details().is_empty() {
        return status.clone();
    }
    Status::new(status.code(), format!("{}\n{told}", status.message()))
}
