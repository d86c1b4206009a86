//! What a daemon takes for many builds at once when its clients take next to nothing: one process with the generated stubs calls
//! `Solve` and `Status` for each, as buildx does.

use std::path::Path;
use std::time::Instant;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{SolveRequest, StatusRequest};
use bollard_buildkit_proto::pb;
use prost::Message as _;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::builder::BASE;
use crate::daemon::Daemon;
use crate::error::BenchError;
use crate::measure::Sample;
use crate::subject::Subjects;
use crate::work::Samples;

/// How many builds run at once.
const AT_ONCE: usize = 100;

/// Many cached builds at the same time, from the first call to the last answer; the memory is the daemon's afterwards.
pub(crate) fn at_once(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let daemon = Daemon::start(subjects, dir.join("lap-daemon-stubs"))?;
    let failed = |status: &dyn std::fmt::Display| BenchError::Failed {
        command: "Control/Solve".to_owned(),
        status: status.to_string(),
        output: String::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| BenchError::Start { command: "a runtime".to_owned(), source })?;
    let endpoint = Endpoint::from_shared(daemon.address()).map_err(|error| failed(&error))?;
    let count = if subjects.is_small() { 5 } else { AT_ONCE };
    let mut samples = Vec::new();
    runtime.block_on(async {
        let channel = endpoint.connect_lazy();
        build(&channel, "first".to_owned()).await.map_err(|status| failed(&status))?;
        for round in 0..rounds {
            let begin = Instant::now();
            let start = |number| {
                tokio::spawn({
                    let channel = channel.clone();
                    async move { build(&channel, format!("build-{round}-{number}")).await }
                })
            };
            let running: Vec<_> = (0..count).map(start).collect();
            for build in running {
                let built = build.await.map_err(|error| failed(&error))?;
                built.map_err(|status| failed(&status))?;
            }
            samples.push(Sample { time: begin.elapsed(), memory: daemon.memory() });
        }
        Ok::<(), BenchError>(())
    })?;
    Ok(vec![("lap daemon".to_owned(), samples)])
}

/// One build, and all that it says.
async fn build(channel: &Channel, id: String) -> Result<(), Status> {
    let mut control = ControlClient::new(channel.clone());
    let solve = SolveRequest { r#ref: id.clone(), definition: Some(definition()), ..SolveRequest::default() };
    let mut listening = control.clone();
    let status = async {
        let mut said = listening.status(StatusRequest { r#ref: id.clone() }).await?.into_inner();
        while said.message().await?.is_some() {}
        Ok::<(), Status>(())
    };
    let (solved, heard) = tokio::join!(control.solve(solve), status);
    solved?;
    heard
}

/// The base image, `true` in it, and a file.
fn definition() -> pb::Definition {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut add = |op: Option<pb::op::Op>, input: Option<String>| {
        let inputs = input.into_iter().map(|digest| pb::Input { digest, index: 0 }).collect();
        let bytes = pb::Op { op, inputs, ..pb::Op::default() }.encode_to_vec();
        let digest = base::Digest::of(&bytes).to_string();
        all.push(bytes);
        digest
    };
    let attrs = [("image.resolvemode".to_owned(), "local".to_owned())].into();
    let source = pb::SourceOp { identifier: format!("docker-image://{BASE}"), attrs };
    let image = add(Some(pb::op::Op::Source(source)), None);
    let exec = pb::ExecOp {
        meta: Some(pb::Meta {
            args: vec!["/bin/true".to_owned()],
            cwd: "/".to_owned(),
            ..pb::Meta::default()
        }),
        mounts: vec![pb::Mount { dest: "/".to_owned(), ..pb::Mount::default() }],
        network: pb::NetMode::None.into(),
        ..pb::ExecOp::default()
    };
    let ran = add(Some(pb::op::Op::Exec(exec)), Some(image));
    let file = pb::FileActionMkFile {
        path: "/file".to_owned(),
        mode: 0o644,
        data: b"content".to_vec(),
        timestamp: -1,
        ..pb::FileActionMkFile::default()
    };
    let action = pb::FileAction {
        secondary_input: -1,
        action: Some(pb::file_action::Action::Mkfile(file)),
        ..pb::FileAction::default()
    };
    let made = add(Some(pb::op::Op::File(pb::FileOp { actions: vec![action] })), Some(ran));
    add(None, Some(made));
    pb::Definition { def: all, ..pb::Definition::default() }
}
