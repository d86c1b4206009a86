//! Logging in: what goes into the `Authorization` header of a request.
//!
//! A registry is first asked without any; it answers 401 and says how it wants it. From then on the
//! header goes out with the first try. Tokens are cached by registry and scope until they expire, and
//! requests that need the same token at once share one fetch.
//!
//! Source: the distribution project's documents "Token Authentication Specification", "Token Scope
//! Documentation" and "OAuth2 Token Authentication".

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::credentials::{Credential, Credentials, Lookup, TokenRequest};
use crate::endpoint::Endpoint;
use crate::error::ErrorKind;
use crate::hosts;
use crate::http_error::parse_messages;
use crate::transport::{Request, Transport};
use crate::upload::{BlobSource, Payload};

/// The largest answer of a token server that is read.
const TOKEN_LIMIT: u64 = 256 * 1024;
/// How long a token holds when its server does not say. Source: the token specification.
const DEFAULT_LIFETIME: u64 = 60;
/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(5);
/// What we call ourselves when we exchange an identity token.
const CLIENT_ID: &str = "lapstrake";

/// What a request is allowed to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Read.
    Pull,
    /// Write, and read what was written.
    Push,
    /// The same, and read in another repository.
    PushFrom(String),
    /// Take away.
    Delete,
}

/// The rights that a request needs, as `repository:<name>:<actions>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope(BTreeSet<String>);

impl Scope {
    /// The scope of `rights` in a repository.
    pub(crate) fn new(repository: &str, rights: &Rights) -> Self {
        let one = |repository: &str, actions: &str| format!("repository:{repository}:{actions}");
        Self(match rights {
            Rights::Pull => [one(repository, "pull")].into(),
            Rights::Push => [one(repository, "pull,push")].into(),
            Rights::Delete => [one(repository, "pull,push,delete")].into(),
            Rights::PushFrom(from) => [one(repository, "pull,push"), one(from, "pull")].into(),
        })
    }

    /// No repository: what logging in is about.
    pub(crate) fn none() -> Self {
        Self(BTreeSet::new())
    }
}

/// Who asks for a header, and for what.
pub(crate) struct Asker<'a> {
    pub(crate) transport: &'a Transport,
    /// Where the request goes.
    pub(crate) endpoint: &'a Arc<Endpoint>,
    /// Under which name its credentials are looked for.
    pub(crate) registry: &'a str,
    pub(crate) repository: &'a str,
    pub(crate) scope: &'a Scope,
}

/// Knows how each registry wants to be logged in to, and keeps its tokens.
pub(crate) struct Authorizer {
    credentials: Arc<dyn Credentials>,
    /// By the name of the registry.
    challenges: Mutex<HashMap<String, Challenge>>,
    tokens: Mutex<HashMap<(String, Scope), TokenSlot>>,
}

/// The place of one token. The lock is held while the token is fetched.
type TokenSlot = Arc<tokio::sync::Mutex<Option<Token>>>;

struct Token {
    header: HeaderValue,
    expires: Instant,
}

#[derive(Deserialize)]
struct WireToken {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

impl Authorizer {
    /// An authorizer that asks `credentials`.
    pub(crate) fn new(credentials: Arc<dyn Credentials>) -> Self {
        Self { credentials, challenges: Mutex::default(), tokens: Mutex::default() }
    }

    /// What there is of credentials. Finding them may take a while, and run programs.
    pub(crate) async fn lookup(&self, asker: &Asker<'_>) -> Lookup {
        let credentials = Arc::clone(&self.credentials);
        let (registry, repository) = (asker.registry.to_owned(), asker.repository.to_owned());
        let found = tokio::task::spawn_blocking(move || credentials.lookup(&registry, &repository)).await;
        found.unwrap_or_default()
    }

    /// The header to send at once, if the registry has said before how it wants to be logged in to.
    pub(crate) async fn known(&self, asker: &Asker<'_>) -> Result<Option<HeaderValue>, ErrorKind> {
        let challenge = lock(&self.challenges).get(asker.registry).cloned();
        match challenge {
            Some(challenge) => self.header(asker, &challenge, None).await,
            None => Ok(None),
        }
    }

    /// The header that answers `challenge`. `refused` is the header that the registry did not take, so
    /// that the same is not tried again; `None` when there is nothing else to try.
    pub(crate) async fn answer(
        &self,
        asker: &Asker<'_>,
        challenge: Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, ErrorKind> {
        let header = self.header(asker, &challenge, refused).await?;
        // The scope belongs to the refused request, not to the registry.
        let general = match challenge {
            Challenge::Bearer { realm, service, .. } => Challenge::Bearer { realm, service, scope: None },
            Challenge::Basic => Challenge::Basic,
        };
        lock(&self.challenges).insert(asker.registry.to_owned(), general);
        Ok(header.filter(|header| Some(header) != refused))
    }

    async fn header(
        &self,
        asker: &Asker<'_>,
        challenge: &Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, ErrorKind> {
        let Challenge::Bearer { realm, service, scope: wanted } = challenge else {
            let credential = self.lookup(asker).await.credential;
            return Ok(credential.as_ref().and_then(own_header));
        };
        let key = (asker.registry.to_owned(), asker.scope.clone());
        let slot = lock(&self.tokens).entry(key).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| token.is_fresh() && Some(&token.header) != refused)
        {
            return Ok(Some(token.header.clone()));
        }
        let scopes: Vec<&str> = match wanted {
            Some(wanted) => wanted.split(' ').collect(),
            None => asker.scope.0.iter().map(String::as_str).collect(),
        };
        let errand = Errand { realm, service: service.as_deref(), scopes: &scopes, offline: false };
        if let Some(token) = self.token_of_others(asker, &errand).await {
            return Ok(Some(slot.insert(token).header.clone()));
        }
        let Lookup { credential, problem, .. } = self.lookup(asker).await;
        if let Some(Credential::RegistryToken(_)) = &credential {
            return Ok(credential.as_ref().and_then(own_header));
        }
        let (token, _) = errand.run(asker, credential.as_ref(), problem).await?;
        Ok(Some(slot.insert(token).header.clone()))
    }

    /// A token from whoever keeps the credential. That it was not got is found out when we try it ourselves.
    async fn token_of_others(&self, asker: &Asker<'_>, errand: &Errand<'_>) -> Option<Token> {
        // Nobody is sent to a server that we would not send a password to.
        errand.url(asker, true).ok()?;
        let credentials = Arc::clone(&self.credentials);
        let wanted = TokenRequest {
            registry: asker.registry.to_owned(),
            realm: errand.realm.to_owned(),
            service: errand.service.map(str::to_owned),
            scopes: errand.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        };
        let asked = Instant::now();
        let fetched = tokio::task::spawn_blocking(move || credentials.token(&wanted)).await.ok()??;
        Token::new(&fetched.token, fetched.lifetime, asked)
    }

    /// Logs in with a credential of which it is not known whether it is right. Gives an identity token that serves
    /// instead of the password, if the token server has those.
    pub(crate) async fn try_out(
        asker: &Asker<'_>,
        challenge: &Challenge,
        credential: &Credential,
    ) -> Result<(Option<HeaderValue>, Option<String>), ErrorKind> {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Ok((own_header(credential), None));
        };
        let scopes: Vec<&str> = scope.iter().flat_map(|scope| scope.split(' ')).collect();
        let errand = Errand { realm, service: service.as_deref(), scopes: &scopes, offline: true };
        let (token, identity) = errand.run(asker, Some(credential), None).await?;
        Ok((Some(token.header), identity))
    }
}

impl Token {
    fn new(text: &str, lifetime: Option<u64>, asked: Instant) -> Option<Self> {
        let header = secret(&format!("Bearer {text}")).filter(|_| !text.is_empty())?;
        // A lifetime of years is no reason to overflow the clock.
        let lifetime = lifetime.unwrap_or(DEFAULT_LIFETIME).clamp(1, 24 * 3600);
        Some(Self { header, expires: asked + Duration::from_secs(lifetime) })
    }

    fn is_fresh(&self) -> bool {
        Instant::now() + MARGIN < self.expires
    }
}

/// Fetching a token.
struct Errand<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scopes: &'a [&'a str],
    /// Whether an identity token is asked for, too.
    offline: bool,
}

impl Errand<'_> {
    /// Fetches a token, and an identity token if one comes along. `problem` is why there is no better credential.
    async fn run(
        &self,
        asker: &Asker<'_>,
        credential: Option<&Credential>,
        problem: Option<String>,
    ) -> Result<(Token, Option<String>), ErrorKind> {
        let url = self.url(asker, credential.is_some())?;
        let asked = Instant::now();
        let (status, body) = match credential {
            Some(Credential::IdentityToken(token)) => {
                let grant = [("grant_type", "refresh_token"), ("refresh_token", token)];
                self.ask(asker, self.form(&url, &grant), None).await?
            }
            Some(password @ Credential::Password { user, password: word }) => {
                let get = Request::new(Method::GET, self.query(url.clone(), Some(user)));
                match self.ask(asker, get, basic(password).as_ref()).await? {
                    // Servers that only know the newer way.
                    (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _) => {
                        let grant = [("grant_type", "password"), ("username", user), ("password", word)];
                        self.ask(asker, self.form(&url, &grant), None).await?
                    }
                    answer => answer,
                }
            }
            _ => self.ask(asker, Request::new(Method::GET, self.query(url, None)), None).await?,
        };
        self.read(asked, status, &body, problem)
    }

    /// The token server's URL. Credentials go there only if nobody on the way can read them.
    fn url(&self, asker: &Asker<'_>, with_credential: bool) -> Result<Url, ErrorKind> {
        let bad = || ErrorKind::BadChallenge { header: format!("realm={}", self.realm) };
        let url = Url::parse(self.realm).map_err(|_| bad())?;
        if !url.has_host() || !matches!(url.scheme(), "http" | "https") {
            return Err(bad());
        }
        let allowed = asker.transport.plain.allows(&hosts::host_of(&url)) || asker.endpoint.is_at(&url);
        if url.scheme() == "http" && !allowed && with_credential {
            return Err(ErrorKind::InsecureRealm { realm: self.realm.to_owned() });
        }
        Ok(url)
    }

    fn query(&self, mut url: Url, account: Option<&str>) -> Url {
        {
            let mut query = url.query_pairs_mut();
            self.service.map(|service| query.append_pair("service", service));
            for scope in self.scopes {
                query.append_pair("scope", scope);
            }
            account.map(|account| query.append_pair("account", account));
            if self.offline {
                query.append_pair("offline_token", "true").append_pair("client_id", CLIENT_ID);
            }
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        url
    }

    /// A form, encoded as a query is.
    fn form(&self, url: &Url, grant: &[(&str, &str)]) -> Request {
        let mut form = url.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &self.scopes.join(" "))
            .extend_pairs(grant);
        if self.offline {
            form.query_pairs_mut().append_pair("access_type", "offline");
        }
        let form = Bytes::from(form.query().unwrap_or_default().to_owned());
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let mut request = Request::new(Method::POST, url.clone()).header(header::CONTENT_TYPE, kind);
        let size = form.len() as u64;
        request.payload = Some(Payload { source: BlobSource::Bytes(form), size, progress: None });
        request
    }

    async fn ask(
        &self,
        asker: &Asker<'_>,
        request: Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<(StatusCode, Vec<u8>), ErrorKind> {
        // The authority of a registry's certificate usually is that of its token server's.
        let endpoint = Some(asker.endpoint).filter(|endpoint| endpoint.secures(&request.url));
        let mut answer = asker.transport.exchange_with(endpoint, &request, authorization).await?;
        let status = answer.status();
        Ok((status, asker.transport.body(&mut answer, TOKEN_LIMIT).await?))
    }

    fn read(
        &self,
        asked: Instant,
        status: StatusCode,
        body: &[u8],
        problem: Option<String>,
    ) -> Result<(Token, Option<String>), ErrorKind> {
        let realm = || self.realm.to_owned();
        if status != StatusCode::OK {
            let messages = parse_messages(body);
            return Err(ErrorKind::TokenRefused {
                realm: realm(),
                status: status.as_u16(),
                messages,
                problem,
            });
        }
        let bad = || ErrorKind::BadToken { realm: realm() };
        let wire: WireToken = serde_json::from_slice(body).map_err(|_| bad())?;
        let text = wire.token.or(wire.access_token).ok_or_else(bad)?;
        let token = Token::new(&text, wire.expires_in, asked).ok_or_else(bad)?;
        Ok((token, wire.refresh_token.filter(|identity| !identity.is_empty())))
    }
}

/// The header of a user name and password; an identity token has none.
fn basic(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::Password { user, password } => {
            secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        Credential::IdentityToken(_) | Credential::RegistryToken(_) => None,
    }
}

/// The header of what a registry takes itself.
fn own_header(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::RegistryToken(token) => secret(&format!("Bearer {token}")),
        other => basic(other),
    }
}

/// A header value that is never shown in debug output.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
