//! What a client keeps and answers questions about: secrets, ssh agents, and who it is to registries.
//!
//! An answer is used for the client's own build, and kept no longer than that.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Digest;
use engine::caller::{AskError, Caller};
use engine::registries::{Credential, Credentials, FetchedToken, Lookup, TokenRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status, Streaming};

use super::Session;
use crate::proto::LARGEST_MESSAGE;
use crate::proto::auth::auth_client::AuthClient;
use crate::proto::auth::{CredentialsRequest, FetchTokenRequest};
use crate::proto::secrets::GetSecretRequest;
use crate::proto::secrets::secrets_client::SecretsClient;
use crate::proto::ssh::ssh_client::SshClient;
use crate::proto::ssh::{BytesMessage, CheckAgentRequest};
use crate::rpc;

const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const FETCH_TOKEN: &str = "/moby.filesync.v1.Auth/FetchToken";

/// The header that says which agent a stream is about.
const AGENT_ID: &str = "buildkit.ssh.id";

/// How long a client may take to answer: it may have to ask its user.
const PATIENCE: Duration = Duration::from_secs(120);

/// The largest piece of what an agent is told at once.
const PIECE: usize = 16 << 10;

/// How clients know Docker's registry, which is the name of its server.
const DOCKERS_SERVER: &str = "registry-1.docker.io";

/// What a client calls us when it fetches a token.
const CLIENT_ID: &str = "buildkit-client";

/// The client of a session, as the engine asks it. Its methods wait for answers, so that they are never called on the
/// threads of the runtime.
pub(crate) struct Asked {
    session: Arc<Session>,
    runtime: Handle,
    /// Who the client is to registries, by host: what is asked once for each request would be slow.
    logins: Mutex<HashMap<String, Lookup>>,
}

impl Asked {
    pub(crate) fn new(session: &Arc<Session>, runtime: &Handle) -> Arc<Self> {
        Arc::new(Self { session: Arc::clone(session), runtime: runtime.clone(), logins: Mutex::default() })
    }

    /// Waits for an answer.
    fn wait<T>(&self, answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        let limited = async {
            tokio::select! {
                answer = tokio::time::timeout(PATIENCE, answer) => {
                    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the client does not answer")))
                }
                () = self.session.closed() => Err(Status::unavailable("the client has gone")),
            }
        };
        self.runtime.block_on(limited).map(Response::into_inner)
    }
}

/// Whether an answer says that there is no such thing, rather than that something went wrong on the way.
fn says_no(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::Unimplemented | Code::Unknown)
}

impl Caller for Asked {
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, AskError> {
        if !self.session.offers(GET_SECRET) {
            return Ok(None);
        }
        let channel = self.session.channel(GET_SECRET)?;
        let mut client = SecretsClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
        match self.wait(client.get_secret(request)) {
            Ok(answer) => Ok(Some(answer.data)),
            Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Ok(None),
            Err(status) => Err(status.message().into()),
        }
    }

    fn has_agent(&self, id: &str) -> Result<bool, AskError> {
        if !self.session.offers(CHECK_AGENT) {
            return Ok(false);
        }
        let mut client = SshClient::new(self.session.channel(CHECK_AGENT)?);
        match self.wait(client.check_agent(CheckAgentRequest { id: id.to_owned() })) {
            Ok(_) => Ok(true),
            Err(status) if says_no(&status) => Ok(false),
            Err(status) => Err(status.message().into()),
        }
    }

    fn agent(&self, id: &str) -> Result<UnixStream, AskError> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let (sender, outgoing) = mpsc::channel(4);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        request.metadata_mut().insert(AGENT_ID, MetadataValue::try_from(id)?);
        let channel = self.session.channel(FORWARD_AGENT)?;
        let _inside = self.runtime.enter();
        let (mut read, mut write) = tokio::net::UnixStream::from_std(theirs)?.into_split();
        self.runtime.spawn(async move {
            let mut piece = vec![0; PIECE];
            while let Ok(length @ 1..) = read.read(&mut piece).await {
                if sender.send(BytesMessage { data: piece[..length].to_vec() }).await.is_err() {
                    return;
                }
            }
        });
        // The first answer comes after the first question.
        self.runtime.spawn(async move {
            let Ok(mut incoming) = rpc::streaming(channel, FORWARD_AGENT, request).await else { return };
            let incoming: &mut Streaming<BytesMessage> = &mut incoming;
            while let Ok(Some(message)) = incoming.message().await {
                if write.write_all(&message.data).await.is_err() {
                    return;
                }
            }
        });
        Ok(ours)
    }
}

/// The server of a registry as clients know it.
fn server(registry: &str) -> &str {
    if registry == base::reference::DEFAULT_REGISTRY { DOCKERS_SERVER } else { registry }
}

impl Credentials for Asked {
    fn lookup(&self, registry: &str, _repository: &str) -> Lookup {
        if !self.session.offers(CREDENTIALS) {
            return Lookup::default();
        }
        let known = self.logins.lock().unwrap_or_else(PoisonError::into_inner).get(registry).cloned();
        if let Some(known) = known {
            return known;
        }
        let Ok(channel) = self.session.channel(CREDENTIALS) else { return Lookup::default() };
        let request = CredentialsRequest { host: server(registry).to_owned() };
        let found = match self.wait(AuthClient::new(channel).credentials(request)) {
            Ok(answer) => Lookup {
                credential: match (answer.username, answer.secret) {
                    (_, secret) if secret.is_empty() => None,
                    (user, secret) if user.is_empty() => Some(Credential::IdentityToken(secret)),
                    (user, password) => Some(Credential::Password { user, password }),
                },
                source: Some("the client".to_owned()),
                ..Lookup::default()
            },
            Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Lookup::default(),
            Err(status) => {
                Lookup { problem: Some(format!("the client: {}", status.message())), ..Lookup::default() }
            }
        };
        self.logins.lock().unwrap_or_else(PoisonError::into_inner).insert(registry.to_owned(), found.clone());
        found
    }

    fn identity(&self, registry: &str, repository: &str) -> Option<Vec<u8>> {
        // Who fetches tokens and does not say who it is may be anybody.
        if self.session.offers(FETCH_TOKEN) && !self.session.offers(CREDENTIALS) {
            return None;
        }
        let found = self.lookup(registry, repository);
        let said = match (&found.credential, &found.problem) {
            (_, Some(_)) => return None,
            (None, None) => String::new(),
            (Some(Credential::Password { user, password }), None) => format!("password\0{user}\0{password}"),
            (Some(Credential::IdentityToken(token)), None) => format!("identity\0{token}"),
            (Some(Credential::RegistryToken(token)), None) => format!("registry\0{token}"),
        };
        Some(Digest::of(said.as_bytes()).to_string().into_bytes())
    }

    fn token(&self, wanted: &TokenRequest) -> Option<FetchedToken> {
        let channel = self.session.channel(FETCH_TOKEN).ok()?;
        let request = FetchTokenRequest {
            client_id: CLIENT_ID.to_owned(),
            host: server(&wanted.registry).to_owned(),
            realm: wanted.realm.clone(),
            service: wanted.service.clone().unwrap_or_default(),
            scopes: wanted.scopes.clone(),
        };
        let answer = self.wait(AuthClient::new(channel).fetch_token(request)).ok()?;
        let lifetime = u64::try_from(answer.expires_in).ok().filter(|seconds| *seconds > 0);
        Some(FetchedToken { token: answer.token, lifetime })
    }
}

/// Who has no session is nobody.
pub(crate) struct Nobody;

impl Credentials for Nobody {
    fn lookup(&self, _registry: &str, _repository: &str) -> Lookup {
        Lookup::default()
    }

    fn identity(&self, _registry: &str, _repository: &str) -> Option<Vec<u8>> {
        Some(Digest::of(b"").to_string().into_bytes())
    }
}
