//! Logging in: whether a credential is right, asked of the registry itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Reference;
use reqwest::{Method, StatusCode, Url};

use crate::auth::{Asker, Authorizer, Rights, Scope};
use crate::challenge;
use crate::client::{Client, InContext as _, bad_challenge};
use crate::credentials::{Credential, Lookup};
use crate::endpoint::{Endpoint, EndpointSpec};
use crate::error::{Context, ErrorKind, Result};
use crate::http_error;
use crate::transport::Request;

/// How a login went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// What is to be kept: the credential, or the identity token that serves instead of its password.
    pub credential: Credential,
    /// Whether the registry asked for it at all.
    pub was_asked: bool,
}

/// One request to an endpoint, as it went.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Method and URL.
    pub request: String,
    /// The status and what it means, or why there was no answer.
    pub outcome: std::result::Result<String, String>,
    /// How long it took.
    pub took: Duration,
}

impl Client {
    /// Asks a registry whether it takes `credential`.
    pub async fn login(&self, registry: &str, credential: &Credential) -> Result<LoggedIn> {
        let context = Context::registry("log in to", registry);
        let mut endpoints = self.endpoints(registry, "").within(&context)?;
        endpoints.retain(|endpoint| endpoint.spec.account(registry) == registry);
        let mut failed = ErrorKind::NoEndpoint { registry: registry.to_owned() };
        for endpoint in &endpoints {
            match self.login_to(endpoint, registry, credential).await {
                Err(kind) if endpoint.spec.has_next && kind.is_silence() => failed = kind,
                outcome => return outcome.within(&context),
            }
        }
        Err(context.error(failed))
    }

    async fn login_to(
        &self,
        endpoint: &Arc<Endpoint>,
        registry: &str,
        credential: &Credential,
    ) -> std::result::Result<LoggedIn, ErrorKind> {
        let transport = self.transport();
        let request = Request::new(Method::GET, top(endpoint));
        let mut answer = transport.exchange_with(Some(endpoint), &request, None).await?;
        let mut logged_in = LoggedIn { credential: credential.clone(), was_asked: false };
        if answer.status() == StatusCode::UNAUTHORIZED && endpoint.is_at(answer.url()) {
            let challenge =
                challenge::from_headers(answer.headers()).ok_or_else(|| bad_challenge(&answer))?;
            let scope = Scope::none();
            let asker = Asker { transport, endpoint, registry, repository: "", scope: &scope };
            let (header, identity) = Authorizer::try_out(&asker, &challenge, credential).await?;
            logged_in.was_asked = true;
            if let (Some(token), Credential::Password { .. }) = (identity, credential) {
                logged_in.credential = Credential::IdentityToken(token);
            }
            answer = transport.exchange_with(Some(endpoint), &request, header.as_ref()).await?;
        }
        // Without the right to do anything in particular, this is what there is to know.
        if answer.status().is_success() {
            return Ok(logged_in);
        }
        let attempts = answer.attempts;
        let lookup = Lookup::found(Some(credential.clone()));
        Err(http_error::refusal(transport, answer, attempts, &lookup).await)
    }

    /// The endpoints of a registry, as they would be asked.
    pub fn route(&self, registry: &str, repository: &str) -> Result<Vec<EndpointSpec>> {
        let context = Context::registry("find the way to", registry);
        let endpoints = self.endpoints(registry, repository).within(&context)?;
        Ok(endpoints.iter().map(|endpoint| endpoint.spec.clone()).collect())
    }

    /// Asks one endpoint what every registry answers, without and, if it wants that, with a login.
    pub async fn try_endpoint(&self, registry: &str, spec: &EndpointSpec) -> Vec<Trial> {
        // Alone: whether others stand behind it is of no account here.
        let spec = EndpointSpec { has_next: false, has_other: false, ..spec.clone() };
        let endpoint = Arc::new(Endpoint::new(spec));
        let request = Request { repeatable: false, ..Request::new(Method::GET, top(&endpoint)) };
        let began = Instant::now();
        let answer = self.transport().exchange_with(Some(&endpoint), &request, None).await;
        let wants_login = matches!(&answer, Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED && endpoint.is_at(answer.url()));
        let outcome = match answer {
            Ok(answer) if wants_login => {
                let how = challenge::from_headers(answer.headers());
                how.map(|how| format!("401, wants {how}")).ok_or_else(|| bad_challenge(&answer).to_string())
            }
            Ok(answer) if answer.status().is_success() => Ok(answer.status().as_u16().to_string()),
            Ok(answer) => {
                let attempts = answer.attempts;
                let lookup = Lookup::default();
                Err(http_error::refusal(self.transport(), answer, attempts, &lookup).await.to_string())
            }
            Err(kind) => Err(with_causes(&kind)),
        };
        let first = Trial { request: format!("GET {}", request.url), outcome, took: began.elapsed() };
        if !wants_login {
            return vec![first];
        }
        vec![first, self.try_login(&endpoint, registry, &request.url).await]
    }

    async fn try_login(&self, endpoint: &Arc<Endpoint>, registry: &str, url: &Url) -> Trial {
        let began = Instant::now();
        let name =
            Reference { registry: registry.to_owned(), repository: String::new(), tag: None, digest: None };
        let call = Request { repeatable: false, ..Request::new(Method::GET, url.clone()) };
        let outcome = self.send_to(endpoint, &name, &Rights::Pull, &call).await;
        let outcome =
            outcome.map(|answer| answer.status().as_u16().to_string()).map_err(|kind| with_causes(&kind));
        Trial { request: format!("GET {url} with a login"), outcome, took: began.elapsed() }
    }
}

/// The URL that says of a host that it is a registry. Source: distribution-spec, "Determining Support".
fn top(endpoint: &Endpoint) -> Url {
    let mut url = endpoint.spec.base.clone();
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// A failure with its causes, in one line.
fn with_causes(kind: &ErrorKind) -> String {
    let mut text = kind.to_string();
    let mut next = std::error::Error::source(kind);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
