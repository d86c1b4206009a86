//! Being connected with the streams of a container.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, UPGRADE};
use axum::http::{HeaderValue, Request, Response};
use engine::containers::{Connected, LogsRequest, Status, Stream};
use engine::following::{Follow as _, Ready};
use engine::request::{DetachKeys, Selection};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio_util::io::ReaderStream;

use super::super::query::Parameters;
use super::super::upgrade::{self, Framing, Opener};
use super::super::version::ApiVersion;
use super::super::{Api, ApiError};
use super::logs;
use super::relay::{Outcome, Relay};

/// Bytes that wait between a body or a web socket and a container.
const BETWEEN: usize = 64 << 10;

/// Since this version a client is told whether streams come in frames.
const FRAMING_TOLD: ApiVersion = ApiVersion::minor(42);

/// What somebody wants of a container's streams.
struct Wanted {
    streams: [bool; 3],
    /// What was said before.
    logs: bool,
    /// What is said from now on.
    stream: bool,
    keys: DetachKeys,
}

impl Wanted {
    fn read(parameters: &Parameters) -> Result<Self, ApiError> {
        let wanted = Self {
            streams: ["stdin", "stdout", "stderr"].map(|name| parameters.is_true(name)),
            logs: parameters.is_true("logs"),
            stream: parameters.is_true("stream"),
            keys: keys(parameters.get("detachKeys"))?,
        };
        if !wanted.logs && !wanted.stream {
            return Err(ApiError::bad_request("Either the stream or the logs parameter must be true"));
        }
        Ok(wanted)
    }
}

/// The keys that leave a container.
pub(super) fn keys(text: Option<&str>) -> Result<DetachKeys, ApiError> {
    let keys = text.filter(|text| !text.is_empty()).map(str::parse::<DetachKeys>).transpose();
    keys.map(Option::unwrap_or_default).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// What a client is connected with.
struct Opened {
    terminal: bool,
    logs: Option<engine::containers::Logs>,
    connected: Option<Connected>,
}

async fn open(api: &Arc<Api>, id: String, wanted: &Wanted) -> Result<Opened, ApiError> {
    let (streams, logs, stream) = (wanted.streams, wanted.logs, wanted.stream);
    api.answer(move |engine| {
        let container = engine.container(&id)?;
        match container.state.status {
            Status::Paused => {
                let message = format!("container {id} is paused, unpause the container before attach");
                return Ok(Err(ApiError::conflict(message)));
            }
            Status::Restarting => {
                let message = format!("container {id} is restarting, wait until the container is running");
                return Ok(Err(ApiError::conflict(message)));
            }
            _ => {}
        }
        let request =
            LogsRequest { container: container.id.clone(), selection: Selection::default(), follow: false };
        Ok(Ok(Opened {
            terminal: container.document.tty,
            logs: if logs { Some(engine.logs(&request)?) } else { None },
            connected: if stream { Some(engine.connect_container(&container.id, streams)?) } else { None },
        }))
    })
    .await
}

/// How streams are sent: a terminal's as they are.
pub(super) fn framing(terminal: bool) -> Framing {
    if terminal { Framing::Raw } else { Framing::Multiplexed }
}

/// How that is told to a client.
pub(super) fn told(framing: Framing, version: ApiVersion) -> Framing {
    if version < FRAMING_TOLD { Framing::Raw } else { framing }
}

pub(super) async fn attach(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    version: axum::Extension<ApiVersion>,
    parameters: Parameters,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let mut wanted = Wanted::read(&parameters)?;
    let is_own = upgrade::is_wanted(request.headers());
    // What is no connection of its own has no way back.
    wanted.streams[0] &= is_own;
    let Opened { terminal, logs, connected } = open(&api, id, &wanted).await?;
    let framing = framing(terminal);
    let relay = connected.map(|connected| Relay::new(connected, framing, wanted.keys.clone())).transpose()?;
    let shown = [wanted.streams[1], wanted.streams[2]];
    if !is_own {
        let (ours, theirs) = duplex(BETWEEN);
        tokio::spawn(async move {
            let (reader, mut writer) = split(ours);
            if send_logs(logs, shown, framing, &mut writer).await.is_ok()
                && let Some(mut relay) = relay
            {
                relay.run(reader, &mut writer, std::future::pending()).await;
            }
        });
        let mut response = Response::new(Body::from_stream(ReaderStream::new(theirs)));
        response.headers_mut().insert(CONTENT_TYPE, told(framing, *version).content_type());
        return Ok(response);
    }
    let opener = request.extensions().get::<Opener>().copied().unwrap_or_default();
    let protocol = request.headers().get(UPGRADE).cloned().unwrap_or(HeaderValue::from_static("tcp"));
    let (mut parts, _) = request.into_parts();
    let taken = upgrade::taken(&mut parts.extensions, &parts.headers)?;
    tokio::spawn(async move {
        let Ok(connection) = taken.open(opener).await else { return };
        let (reader, mut writer) = split(connection.stream);
        if send_logs(logs, shown, framing, &mut writer).await.is_ok()
            && let Some(mut relay) = relay
        {
            let gone = upgrade::gone(connection.socket);
            if relay.run(reader, &mut writer, gone).await == Outcome::Detached {
                // Who has gone need not be left.
                let _ = relay.listener.told().detach();
            }
        }
        // Also where another descriptor is open.
        let _ = writer.shutdown().await;
    });
    Ok(upgrade::switching(protocol, told(framing, *version)))
}

/// Sends what the container has said before.
async fn send_logs(
    logs: Option<engine::containers::Logs>,
    shown: [bool; 2],
    framing: Framing,
    writer: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let Some(mut logs) = logs else { return Ok(()) };
    let mut piece = Vec::new();
    loop {
        let more = tokio::task::block_in_place(|| {
            while piece.len() < BETWEEN {
                match logs.ready() {
                    Ok(Ready::One(record)) => {
                        let is_shown = match record.stream {
                            Stream::Stdout => shown[0],
                            Stream::Stderr => shown[1],
                        };
                        if is_shown {
                            logs::write(&record, framing, &mut piece);
                        }
                    }
                    // What cannot be read was not said.
                    Ok(Ready::Later(_) | Ready::Over) | Err(_) => return false,
                }
            }
            true
        });
        writer.write_all(&piece).await?;
        piece.clear();
        if !more {
            return writer.flush().await;
        }
    }
}

/// The same over a web socket, for browsers: what is said comes as it is, in messages.
pub(super) async fn web_socket(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
    socket: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response<Body>, ApiError> {
    let socket = socket.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let wanted = Wanted::read(&parameters)?;
    let Opened { logs, connected, .. } = open(&api, id, &wanted).await?;
    let relay =
        connected.map(|connected| Relay::new(connected, Framing::Raw, wanted.keys.clone())).transpose()?;
    let shown = [wanted.streams[1], wanted.streams[2]];
    Ok(socket.on_upgrade(move |socket| async move {
        let (ours, theirs) = duplex(BETWEEN);
        let pumped = pump(socket, theirs);
        let relayed = async move {
            let (reader, mut writer) = split(ours);
            if send_logs(logs, shown, Framing::Raw, &mut writer).await.is_ok()
                && let Some(mut relay) = relay
                && relay.run(reader, &mut writer, std::future::pending()).await == Outcome::Detached
            {
                // As above.
                let _ = relay.listener.told().detach();
            }
            // The client is told all that was said, and then that it is over.
            let _ = writer.shutdown().await;
        };
        let relayed = tokio::spawn(relayed);
        pumped.await;
        // Without a client there is nobody to relay for.
        relayed.abort();
    }))
}

/// Moves bytes between a web socket and the other side, until one of them has gone.
async fn pump(mut socket: WebSocket, other: DuplexStream) {
    let (mut reader, mut writer) = split(other);
    let mut buffer = vec![0; BETWEEN];
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(length @ 1..) => {
                    let message = Message::Binary(Bytes::copy_from_slice(&buffer[..length]));
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                _ => {
                    // Who has gone need not be told.
                    let _ = socket.send(Message::Close(None)).await;
                    return;
                }
            },
            message = socket.recv() => {
                let sent = match message {
                    Some(Ok(Message::Binary(bytes))) => writer.write_all(&bytes).await,
                    Some(Ok(Message::Text(text))) => writer.write_all(text.as_bytes()).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                };
                if sent.is_err() {
                    return;
                }
            }
        }
    }
}
