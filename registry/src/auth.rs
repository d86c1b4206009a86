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

use base::Reference;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::credentials::{Credential, Credentials};
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

/// The rights that a request needs, as `repository:<name>:<actions>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope(BTreeSet<String>);

impl Scope {
    /// Reading a repository.
    pub(crate) fn pull(reference: &Reference) -> Self {
        Self([format!("repository:{}:pull", reference.repository)].into())
    }

    /// Writing to a repository.
    pub(crate) fn push(reference: &Reference) -> Self {
        Self([format!("repository:{}:pull,push", reference.repository)].into())
    }

    /// Writing to a repository what another one has.
    pub(crate) fn push_from(reference: &Reference, from: Option<&str>) -> Self {
        let mut scope = Self::push(reference);
        scope.0.extend(from.map(|from| format!("repository:{from}:pull")));
        scope
    }
}

/// Knows how each registry wants to be logged in to, and keeps its tokens.
pub(crate) struct Authorizer {
    credentials: Arc<dyn Credentials>,
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
    expires_in: Option<u64>,
}

impl Authorizer {
    /// An authorizer that asks `credentials`.
    pub(crate) fn new(credentials: Arc<dyn Credentials>) -> Self {
        Self { credentials, challenges: Mutex::default(), tokens: Mutex::default() }
    }

    /// Whether there is a credential for `registry`.
    pub(crate) fn has_credentials(&self, registry: &str) -> bool {
        self.credentials.lookup(registry).is_some()
    }

    /// The header to send at once, if the registry has said before how it wants to be logged in to.
    pub(crate) async fn known(
        &self,
        transport: &Transport,
        registry: &str,
        scope: &Scope,
    ) -> Result<Option<HeaderValue>, ErrorKind> {
        let challenge = lock(&self.challenges).get(registry).cloned();
        match challenge {
            Some(challenge) => self.header(transport, registry, scope, &challenge, None).await,
            None => Ok(None),
        }
    }

    /// The header that answers `challenge`. `refused` is the header that the registry did not take, so
    /// that the same is not tried again; `None` when there is nothing else to try.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        registry: &str,
        scope: &Scope,
        challenge: Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, ErrorKind> {
        let header = self.header(transport, registry, scope, &challenge, refused).await?;
        // The scope belongs to the refused request, not to the registry.
        let general = match challenge {
            Challenge::Bearer { realm, service, .. } => Challenge::Bearer { realm, service, scope: None },
            Challenge::Basic => Challenge::Basic,
        };
        lock(&self.challenges).insert(registry.to_owned(), general);
        Ok(header.filter(|header| Some(header) != refused))
    }

    async fn header(
        &self,
        transport: &Transport,
        registry: &str,
        scope: &Scope,
        challenge: &Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, ErrorKind> {
        let Challenge::Bearer { realm, service, scope: wanted } = challenge else {
            let credential = self.credentials.lookup(registry);
            return Ok(credential.as_ref().and_then(basic));
        };
        let slot = lock(&self.tokens).entry((registry.to_owned(), scope.clone())).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| token.is_fresh() && Some(&token.header) != refused)
        {
            return Ok(Some(token.header.clone()));
        }
        let scopes: Vec<&str> = match wanted {
            Some(wanted) => wanted.split(' ').collect(),
            None => scope.0.iter().map(String::as_str).collect(),
        };
        let credential = self.credentials.lookup(registry);
        let request = token_request(transport, realm, service.as_deref(), &scopes, credential.as_ref())?;
        let token = fetch(transport, realm, &request, credential.as_ref()).await?;
        Ok(Some(slot.insert(token).header.clone()))
    }
}

impl Token {
    fn is_fresh(&self) -> bool {
        Instant::now() + MARGIN < self.expires
    }
}

/// The request for a token: a form for an identity token, else a plain query.
fn token_request(
    transport: &Transport,
    realm: &str,
    service: Option<&str>,
    scopes: &[&str],
    credential: Option<&Credential>,
) -> Result<Request, ErrorKind> {
    let bad = || ErrorKind::BadChallenge { header: format!("realm={realm}") };
    let mut url = Url::parse(realm).map_err(|_| bad())?;
    if !url.has_host() || !matches!(url.scheme(), "http" | "https") {
        return Err(bad());
    }
    let open = url.scheme() == "http" && !transport.plain.allows(&hosts::host_of(&url));
    if open && credential.is_some() {
        return Err(ErrorKind::InsecureRealm { realm: realm.to_owned() });
    }
    if let Some(Credential::IdentityToken(token)) = credential {
        let form = refresh_form(&url, service, scopes, token);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let mut request = Request::new(Method::POST, url).header(header::CONTENT_TYPE, kind);
        let size = form.len() as u64;
        request.payload = Some(Payload { source: BlobSource::Bytes(form), size, progress: None });
        return Ok(request);
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
        if let Some(Credential::Password { user, .. }) = credential {
            query.append_pair("account", user);
        }
    }
    Ok(Request::new(Method::GET, url))
}

/// The form that exchanges an identity token, encoded as a query is.
fn refresh_form(url: &Url, service: Option<&str>, scopes: &[&str], token: &str) -> Bytes {
    let mut form = url.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", service.unwrap_or_default())
        .append_pair("client_id", CLIENT_ID)
        .append_pair("scope", &scopes.join(" "))
        .append_pair("refresh_token", token);
    Bytes::from(form.query().unwrap_or_default().to_owned())
}

async fn fetch(
    transport: &Transport,
    realm: &str,
    request: &Request,
    credential: Option<&Credential>,
) -> Result<Token, ErrorKind> {
    let asked = Instant::now();
    let mut answer = transport.exchange(request, credential.and_then(basic).as_ref()).await?;
    let status = answer.status();
    let body = transport.body(&mut answer, TOKEN_LIMIT).await?;
    if status != StatusCode::OK {
        let messages = parse_messages(&body);
        return Err(ErrorKind::TokenRefused { realm: realm.to_owned(), status: status.as_u16(), messages });
    }
    let bad = || ErrorKind::BadToken { realm: realm.to_owned() };
    let wire: WireToken = serde_json::from_slice(&body).map_err(|_| bad())?;
    let text = wire.token.or(wire.access_token).filter(|text| !text.is_empty()).ok_or_else(bad)?;
    let header = secret(&format!("Bearer {text}")).ok_or_else(bad)?;
    // A lifetime of years is no reason to overflow the clock.
    let lifetime = Duration::from_secs(wire.expires_in.unwrap_or(DEFAULT_LIFETIME).clamp(1, 24 * 3600));
    Ok(Token { header, expires: asked + lifetime })
}

/// The header of a user name and password; an identity token has none.
fn basic(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::Password { user, password } => {
            secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        Credential::IdentityToken(_) => None,
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
