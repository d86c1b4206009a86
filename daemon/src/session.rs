//! Sessions: a client offers its files, secrets and keys over a connection of its own making, in which we are the client.
//!
//! `Control/Session` carries the bytes of an HTTP/2 connection both ways. What the client offers is in the headers of the
//! call; a method that it does not name is not called.

pub(crate) mod caller;
pub(crate) mod content;
pub(crate) mod files;
pub(crate) mod send;
mod tunnel;
pub(crate) mod upload;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::proto::control::BytesMessage;
use crate::proto::health::HealthCheckRequest;
use crate::proto::health::health_client::HealthClient;

pub(crate) use self::tunnel::Outgoing;
use self::tunnel::{Tunnel, Watched};

/// How long a build waits for the session that it names: the two calls of a client race.
const ARRIVAL: Duration = Duration::from_secs(5);

/// How often a client is asked whether it lives, and how long it may take to answer.
const HEARTBEAT: Duration = Duration::from_secs(5);
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(15);

/// How many heartbeats in a row may fail.
const MISSED: u32 = 2;

const ID: &str = "x-docker-expose-session-uuid";
const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
const METHOD: &str = "x-docker-expose-session-grpc-method";

/// A client's session.
#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    /// What stands for the client's directories from one session to the next.
    shared_key: String,
    /// The methods that it offers, in lower case.
    methods: HashSet<String>,
    channel: Channel,
    /// Whether the client has gone.
    closed: watch::Receiver<bool>,
}

impl Session {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn shared_key(&self) -> &str {
        &self.shared_key
    }

    /// The way to the client, for calls of `method`.
    ///
    /// # Errors
    /// The client does not offer it.
    pub(crate) fn channel(&self, method: &str) -> Result<Channel, Status> {
        if self.offers(method) {
            return Ok(self.channel.clone());
        }
        let message =
            format!("the client of session {} does not offer {method}, which this build needs", self.id);
        Err(Status::unimplemented(message))
    }

    /// Whether the client offers `method`, as in `/package.Service/Method`.
    pub(crate) fn offers(&self, method: &str) -> bool {
        self.methods.contains(&method.to_ascii_lowercase())
    }

    /// Waits until the client has gone.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means that the other end is gone, and the session with it.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

/// The sessions that are open.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    opened: Notify,
}

impl Sessions {
    /// Opens the session whose bytes come in `incoming`. Answers those that go back.
    ///
    /// # Errors
    /// The headers do not name a session, or there is one of this name.
    pub(crate) fn open(
        self: &Arc<Self>,
        headers: &MetadataMap,
        incoming: Streaming<BytesMessage>,
    ) -> Result<Outgoing, Status> {
        let (tunnel, outgoing) = Tunnel::new(incoming);
        self.open_over(headers, tunnel)?;
        Ok(outgoing)
    }

    /// Opens the session that has a connection of its own.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(crate) fn open_over(
        self: &Arc<Self>,
        headers: &MetadataMap,
        connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(), Status> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let id = text(ID).to_owned();
        if id.is_empty() {
            return Err(Status::invalid_argument(format!("a session needs an id in the header {ID}")));
        }
        let methods = headers.get_all(METHOD).iter().filter_map(|value| value.to_str().ok());
        let methods = methods.map(str::to_ascii_lowercase).collect();
        let (closer, closed) = watch::channel(false);
        let given_up = CancellationToken::new();
        let channel = Watched::new(connection, closer, given_up.clone()).channel();
        let session = Arc::new(Session {
            id: id.clone(),
            shared_key: text(SHARED_KEY).to_owned(),
            methods,
            channel,
            closed,
        });
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.contains_key(&id) {
                return Err(Status::already_exists(format!("there is a session {id} already")));
            }
            open.insert(id.clone(), Arc::clone(&session));
        }
        self.opened.notify_waiters();
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = session.closed() => {}
                () = dead(session.channel.clone()) => given_up.cancel(),
            }
            sessions.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
        Ok(())
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The session of this id, which may come in a moment.
    ///
    /// # Errors
    /// It does not come.
    pub(crate) async fn get(&self, id: &str) -> Result<Arc<Session>, Status> {
        let arrival = async {
            loop {
                let opened = self.opened.notified();
                let found = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
                match found {
                    Some(session) => return session,
                    None => opened.await,
                }
            }
        };
        tokio::time::timeout(ARRIVAL, arrival).await.map_err(|_| {
            Status::not_found(format!("no active session for {id}: the client has gone, or never opened it"))
        })
    }
}

/// Waits until a client does not answer any more. The first question is asked at once: with it the connection is made. Who never
/// answers is not asked twice.
async fn dead(channel: Channel) {
    let mut client = HealthClient::new(channel);
    let (mut missed, mut has_answered) = (0, false);
    loop {
        let answer = client.check(HealthCheckRequest::default());
        match tokio::time::timeout(HEARTBEAT_LIMIT, answer).await {
            Ok(Ok(_)) => missed = 0,
            // It lives, and does not know the question.
            Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => missed = 0,
            _ => missed += 1,
        }
        has_answered |= missed == 0;
        if missed >= if has_answered { MISSED } else { 1 } {
            return;
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}
