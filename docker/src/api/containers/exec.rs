//! Further processes in containers. They are described first, and started later; what is described is kept here until then, and
//! for as long as somebody may ask how it ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, UPGRADE};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use axum::response::IntoResponse as _;
use bollard_stubs::models::{ExecConfig, ExecStartConfig};
use engine::containers::{Connected, ExecRequest, Status, Told};
use engine::error::{EngineError, ShimError};
use engine::request::{DetachKeys, TtySize};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, duplex, split};
use tokio_util::io::ReaderStream;

use super::super::query::Parameters;
use super::super::upgrade::{self, Framing, Opener};
use super::super::version::ApiVersion;
use super::super::{Api, ApiError, body};
use super::attach::{framing, keys, told};
use super::relay::{Relay, say};
use super::{NO_PROGRAM, NO_SUCH_PROGRAM, cannot_start, size};

/// How many are remembered. The oldest that do not run are forgotten for new ones.
const MOST: usize = 4096;

/// The code of what ended with its supervisor.
const KILLED: i32 = 137;

/// Bytes that wait between a body and a process.
const BETWEEN: usize = 64 << 10;

/// All that were described.
#[derive(Default)]
pub struct Execs(Mutex<VecDeque<Arc<Exec>>>);

/// A further process.
struct Exec {
    id: String,
    /// The id of its container.
    container: String,
    request: ExecRequest,
    /// Which of its streams are to be connected.
    streams: [bool; 3],
    size: Option<TtySize>,
    life: Mutex<Life>,
}

/// What becomes of a further process.
enum Life {
    Described,
    Running {
        pid: u32,
        /// Who can change its terminal.
        teller: Option<Told>,
    },
    Ended {
        code: i32,
        pid: u32,
    },
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Execs {
    fn add(&self, exec: Exec) {
        let mut all = locked(&self.0);
        if all.len() >= MOST {
            let is_idle = |exec: &Arc<Exec>| !matches!(*locked(&exec.life), Life::Running { .. });
            if let Some(oldest) = all.iter().position(is_idle) {
                all.remove(oldest);
            }
        }
        all.push_back(Arc::new(exec));
    }

    fn find(&self, id: &str) -> Result<Arc<Exec>, ApiError> {
        let all = locked(&self.0);
        let found = all.iter().find(|exec| exec.id == id);
        found.cloned().ok_or_else(|| ApiError::not_found(format!("No such exec instance: {id}")))
    }

    /// Those of a container that are not over.
    pub(super) fn ids_of(&self, container: &str) -> Value {
        let all = locked(&self.0);
        let is_shown = |exec: &&Arc<Exec>| {
            exec.container == container && !matches!(*locked(&exec.life), Life::Ended { .. })
        };
        let ids: Vec<&str> = all.iter().filter(is_shown).map(|exec| exec.id.as_str()).collect();
        if ids.is_empty() { Value::Null } else { json!(ids) }
    }
}

impl Exec {
    fn end(&self, code: i32) {
        let mut life = locked(&self.life);
        let pid = match *life {
            Life::Running { pid, .. } | Life::Ended { pid, .. } => pid,
            Life::Described => 0,
        };
        *life = Life::Ended { code, pid };
    }
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let mut document: Value = body::json(body).await?;
    if let Some(Value::String(text)) = document.get("Cmd") {
        document["Cmd"] = json!([text]);
    }
    let config: ExecConfig = serde_json::from_value(document)
        .map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))?;
    let command = config.cmd.unwrap_or_default();
    if command.is_empty() {
        return Err(ApiError::bad_request("No exec command specified"));
    }
    let env = config.env.unwrap_or_default();
    if let Some(bad) = env.iter().chain(&command).find(|text| text.contains('\0')) {
        return Err(ApiError::bad_request(format!("{bad:?} has a byte 0 in it")));
    }
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let is_on = |switch: Option<bool>| switch == Some(true);
    let request = ExecRequest {
        command,
        env: env.into_iter().filter(|entry| entry.contains('=')).collect(),
        workdir: text(config.working_dir),
        user: text(config.user),
        privileged: is_on(config.privileged),
        tty: is_on(config.tty),
        interactive: is_on(config.attach_stdin),
        detach_keys: keys(config.detach_keys.as_deref())?,
        ..ExecRequest::default()
    };
    let streams = [config.attach_stdin, config.attach_stdout, config.attach_stderr].map(is_on);
    let size = console(config.console_size.as_deref());
    let (exec, container) = api
        .answer(move |engine| {
            let container = engine.container(&id)?;
            match container.state.status {
                Status::Running => {}
                Status::Paused => {
                    let message = format!("container {id} is paused, unpause the container before exec");
                    return Ok(Err(ApiError::conflict(message)));
                }
                Status::Restarting => {
                    let message = format!(
                        "Container {} is restarting, wait until the container is running",
                        container.id
                    );
                    return Ok(Err(ApiError::conflict(message)));
                }
                Status::Created | Status::Exited => return Err(EngineError::NotRunning(container.id)),
            }
            Ok(Ok((engine::containers::random_id()?, container.id)))
        })
        .await?;
    api.execs.add(Exec {
        id: exec.clone(),
        request: ExecRequest { container: container.clone(), ..request },
        container,
        streams,
        size,
        life: Mutex::new(Life::Described),
    });
    Ok((StatusCode::CREATED, Json(json!({ "Id": exec }))))
}

/// Lines and columns, if they are that.
fn console(sides: Option<&[usize]>) -> Option<TtySize> {
    match sides? {
        [rows, columns] if *rows > 0 && *columns > 0 => {
            Some(TtySize { rows: u16::try_from(*rows).ok()?, columns: u16::try_from(*columns).ok()? })
        }
        _ => None,
    }
}

pub(super) async fn start(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    version: axum::Extension<ApiVersion>,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let (mut parts, body) = request.into_parts();
    let asked: ExecStartConfig = body::json_or_default(body).await?;
    let exec = api.execs.find(&id)?;
    let detach = asked.detach == Some(true);
    let size = console(asked.console_size.as_deref()).or(exec.size);
    runs(&api, &exec).await?;
    begin(&exec)?;
    let is_own = upgrade::is_wanted(&parts.headers);
    let [stdin, stdout, stderr] = exec.streams;
    let wanted = match (detach, exec.request.tty) {
        (true, _) => [false; 3],
        (false, true) => [stdin && is_own, stdout || stderr, false],
        (false, false) => [stdin && is_own, stdout, stderr],
    };
    let framing = framing(exec.request.tty);
    if detach {
        let connected = run(&api, &exec, wanted, size).await?;
        let relay = Relay::new(connected, framing, DetachKeys::default())?;
        tokio::spawn(finish(exec, relay));
        return Ok(StatusCode::OK.into_response());
    }
    if !is_own {
        let (ours, theirs) = duplex(BETWEEN);
        tokio::spawn(async move {
            let started = run(&api, &exec, wanted, size).await;
            let (reader, mut writer) = split(ours);
            serve(exec, started, framing, reader, &mut writer, std::future::pending()).await;
        });
        let mut response = Response::new(Body::from_stream(ReaderStream::new(theirs)));
        response.headers_mut().insert(CONTENT_TYPE, told(framing, *version).content_type());
        return Ok(response);
    }
    let opener = parts.extensions.get::<Opener>().copied().unwrap_or_default();
    let protocol = parts.headers.get(UPGRADE).cloned().unwrap_or(HeaderValue::from_static("tcp"));
    let taken =
        upgrade::taken(&mut parts.extensions, &parts.headers).inspect_err(|_| exec.end(NO_PROGRAM.into()))?;
    tokio::spawn(async move {
        let Ok(connection) = taken.open(opener).await else {
            // Who wanted it has gone before it began.
            return exec.end(NO_PROGRAM.into());
        };
        let started = run(&api, &exec, wanted, size).await;
        let (reader, mut writer) = split(connection.stream);
        let gone = upgrade::gone(connection.socket);
        serve(exec, started, framing, reader, &mut writer, gone).await;
    });
    Ok(upgrade::switching(protocol, told(framing, *version)))
}

/// Refuses to start something in a container that does not run.
async fn runs(api: &Arc<Api>, exec: &Exec) -> Result<(), ApiError> {
    let id = exec.container.clone();
    api.answer(move |engine| match engine.container(&id)?.state.status {
        Status::Running => Ok(Ok(())),
        Status::Paused => Ok(Err(ApiError::conflict(format!(
            "container {id} is paused, unpause the container before exec"
        )))),
        _ => Err(EngineError::NotRunning(id)),
    })
    .await
}

/// Claims a process for whoever starts it.
fn begin(exec: &Exec) -> Result<(), ApiError> {
    let mut life = locked(&exec.life);
    match *life {
        Life::Described => {
            *life = Life::Running { pid: 0, teller: None };
            Ok(())
        }
        Life::Running { .. } => {
            Err(ApiError::conflict(format!("Error: Exec command {} is already running", exec.id)))
        }
        Life::Ended { .. } => {
            Err(ApiError::conflict(format!("Error: Exec command {} has already run", exec.id)))
        }
    }
}

/// Starts a process. What fails is its end.
async fn run(
    api: &Arc<Api>,
    exec: &Arc<Exec>,
    wanted: [bool; 3],
    size: Option<TtySize>,
) -> Result<Connected, ApiError> {
    let described = Arc::clone(exec);
    let started = api.answer(move |engine| {
        match engine.exec_connected(&described.request, &described.id, wanted, size) {
            Ok(connected) => Ok(Ok(connected)),
            Err(EngineError::Shim(ShimError::Refused { message, code })) => {
                described.end(i32::from(code));
                Ok(Err(match code {
                    NO_PROGRAM | NO_SUCH_PROGRAM => cannot_start(&message, code),
                    _ => ApiError::conflict(message),
                }))
            }
            Err(error) => {
                described.end(NO_PROGRAM.into());
                Err(error)
            }
        }
    });
    let connected = started.await?;
    let teller = connected.teller.another().ok();
    *locked(&exec.life) = Life::Running { pid: connected.pid, teller };
    Ok(connected)
}

/// Connects a client with a process until one of them has gone, and waits for the end of the process.
async fn serve(
    exec: Arc<Exec>,
    started: Result<Connected, ApiError>,
    framing: Framing,
    reader: impl tokio::io::AsyncRead + Unpin,
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    gone: impl Future<Output = ()>,
) {
    let keys = exec.request.detach_keys.clone();
    let relay = started.and_then(|connected| Relay::new(connected, framing, keys));
    let mut relay = match relay {
        Ok(relay) => relay,
        Err(error) => {
            // Who has gone does not want to know.
            let _ = say(writer, framing, &format!("{error}\r\n")).await;
            let _ = writer.shutdown().await;
            return;
        }
    };
    let outcome = relay.run(reader, writer, gone).await;
    if outcome == super::relay::Outcome::Over {
        // Whoever sees the end of the stream asks for the exit code.
        finish(exec, relay).await;
        let _ = writer.shutdown().await;
    } else {
        let _ = writer.shutdown().await;
        finish(exec, relay).await;
    }
}

/// Waits for the end of a process.
async fn finish(exec: Arc<Exec>, mut relay: Relay) {
    let code = relay.listener.ended().await;
    exec.end(code.unwrap_or(KILLED));
}

pub(super) async fn resize(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<(), ApiError> {
    let exec = api.execs.find(&id)?;
    let size = size(&parameters)?;
    match &*locked(&exec.life) {
        Life::Running { teller: Some(teller), .. } => Ok(teller.resize(size)?),
        Life::Running { teller: None, .. } | Life::Described | Life::Ended { .. } => {
            Err(ApiError::conflict(format!("exec process is not started: {id}")))
        }
    }
}

pub(super) async fn inspect(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let exec = api.execs.find(&id)?;
    let (running, code, pid) = match *locked(&exec.life) {
        Life::Described => (false, None, 0),
        Life::Running { pid, .. } => (true, None, pid),
        Life::Ended { code, pid } => (false, Some(code), pid),
    };
    let request = &exec.request;
    let (program, arguments) =
        request.command.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    Ok(Json(json!({
        "ID": exec.id,
        "ContainerID": exec.container,
        "Running": running,
        "ExitCode": code,
        "Pid": pid,
        "CanRemove": false,
        "DetachKeys": "",
        "OpenStdin": exec.streams[0],
        "OpenStdout": exec.streams[1],
        "OpenStderr": exec.streams[2],
        "ProcessConfig": {
            "entrypoint": program,
            "arguments": arguments,
            "tty": request.tty,
            "privileged": request.privileged,
            "user": request.user.as_deref().unwrap_or_default(),
        },
    })))
}
