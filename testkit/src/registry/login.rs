//! Who may use the registry, and its token server at `/token`.
//!
//! Tokens are `token-1`, `token-2` and so on, and hold for the scopes that were asked for.

use std::collections::HashMap;

use super::http::{Request, Response};

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Login {
    /// Nothing.
    #[default]
    None,
    /// A token that everybody gets.
    AnonymousToken,
    /// A token for who knows the `Authorization` value, such as `Basic dXNlcjpwYXNz`.
    Token(&'static str),
    /// A token in exchange for this identity token.
    IdentityToken(&'static str),
    /// A token, and for who asks for one an identity token, for who knows the `Authorization` value.
    Offline(&'static str, &'static str),
    /// A token for who sends this user and password in a form; the server knows no other way.
    Form(&'static str, &'static str),
    /// This `Authorization` value on every request.
    Basic(&'static str),
}

#[derive(Default)]
pub(super) struct Gate {
    login: Login,
    address: String,
    given: usize,
    /// After how many uses a token is no longer taken.
    uses: Option<usize>,
    used: HashMap<String, usize>,
    valid: HashMap<String, Vec<String>>,
}

impl Gate {
    pub(super) fn new(login: Login, address: &str) -> Self {
        Self { login, address: address.to_owned(), ..Self::default() }
    }

    pub(super) fn revoke(&mut self) {
        self.valid.clear();
    }

    /// The answer to a request for a token or to one that may not pass; `None` lets it pass.
    pub(super) fn check(&mut self, request: &Request) -> Option<Response> {
        if request.path() == "/token" {
            return Some(self.give_token(request));
        }
        let has_token = self.has_token(request);
        let challenge = match self.login {
            Login::None => return None,
            Login::Basic(expected) if request.header("authorization") == Some(expected) => return None,
            Login::Basic(_) => "Basic realm=\"test\"".to_owned(),
            _ if has_token => return None,
            _ => {
                let (address, scope) = (&self.address, needed_scope(request));
                format!("Bearer realm=\"http://{address}/token\",service=\"test\",scope=\"{scope}\"")
            }
        };
        let refusal = Response::error(401, "UNAUTHORIZED", "authentication required");
        Some(refusal.header("WWW-Authenticate", &challenge))
    }

    pub(super) fn expire_after(&mut self, uses: usize) {
        self.uses = Some(uses);
    }

    fn has_token(&mut self, request: &Request) -> bool {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let scopes = token.and_then(|token| self.valid.get(token));
        let needed = needed_scope(request);
        let allowed = scopes
            .is_some_and(|scopes| needed.is_empty() || scopes.iter().any(|scope| scope.starts_with(&needed)));
        let used = self.used.entry(token.unwrap_or_default().to_owned()).or_default();
        *used += 1;
        allowed && self.uses.is_none_or(|uses| *used <= uses)
    }

    fn give_token(&mut self, request: &Request) -> Response {
        let post = request.method == "POST";
        let field = |name: &str, value: &str| post && request.parameter(name).as_deref() == Some(value);
        let mut identity = None;
        let allowed = match self.login {
            Login::Form(..) if !post => return Response::error(404, "UNSUPPORTED", "use POST"),
            Login::Form(user, password) => field("username", user) && field("password", password),
            Login::Offline(expected, token) => {
                identity = (request.parameter("offline_token").as_deref() == Some("true")).then_some(token);
                request.header("authorization") == Some(expected) || field("refresh_token", token)
            }
            Login::Token(expected) => request.header("authorization") == Some(expected),
            Login::IdentityToken(expected) => {
                request.method == "POST" && request.parameter("refresh_token").as_deref() == Some(expected)
            }
            _ => true,
        };
        if !allowed {
            return Response::error(401, "UNAUTHORIZED", "incorrect username or password");
        }
        self.given += 1;
        let token = format!("token-{}", self.given);
        let scopes = request.parameters("scope");
        let scopes = scopes.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned).collect();
        self.valid.insert(token.clone(), scopes);
        let mut body = serde_json::json!({"token": token, "expires_in": 300});
        if let Some(identity) = identity {
            body["refresh_token"] = identity.into();
        }
        let body = body.to_string();
        Response::new(200).header("Content-Type", "application/json").body(body.into_bytes())
    }
}

/// The scope that a request needs. A scope with more actions begins with the same text.
fn needed_scope(request: &Request) -> String {
    let path = request.path().trim_start_matches("/v2/");
    let repository =
        ["/manifests/", "/blobs/"].iter().find_map(|part| path.split_once(part)).map(|(name, _)| name);
    // What every registry answers needs no rights in particular.
    if path.trim_matches('/').is_empty() {
        return String::new();
    }
    let actions = if matches!(request.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
    format!("repository:{}:{actions}", repository.unwrap_or(path))
}
