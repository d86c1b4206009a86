//! Logging in: with tokens for everybody, with passwords, with identity tokens.

use base::Platform;
use registry::{Client, Credential, ErrorKind, Lookup};
use testkit::registry::{Fault, Login};

use crate::fixture::{assert_says, client, client_with, image, options, password, registry_with_image};

/// `Basic` of `me:secret`.
const ME: &str = "Basic bWU6c2VjcmV0";

#[tokio::test]
async fn everybody_gets_a_token_and_it_is_fetched_once() {
    let (registry, name) = registry_with_image();
    registry.require(Login::AnonymousToken);
    let client = client();
    let documents = client.pull_image(&name, &Platform::host()).await.unwrap();
    for layer in &documents.manifest.value.layers {
        client.blob(&name, layer, None).await.unwrap().read_to_end().await.unwrap();
    }
    let fetched = registry.seen("/token");
    assert_eq!(fetched.len(), 1);
    assert_says(&fetched[0].line, &["service=test", "scope=repository%3Aapp%3Apull"]);
    assert_eq!(fetched[0].authorization, None);
}

#[tokio::test]
async fn requests_at_once_share_one_token() {
    let (registry, name) = registry_with_image();
    registry.require(Login::AnonymousToken);
    let client = client();
    let (one, two, three) = tokio::join!(client.resolve(&name), client.resolve(&name), client.resolve(&name));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(registry.seen("/token").len(), 1);
}

#[tokio::test]
async fn a_token_that_is_no_longer_taken_is_replaced_once() {
    let (registry, name) = registry_with_image();
    registry.require(Login::AnonymousToken);
    let client = client();
    client.resolve(&name).await.unwrap();
    registry.revoke_tokens();
    client.resolve(&name).await.unwrap();
    assert_eq!(registry.seen("/token").len(), 2);
    registry.inject(u32::MAX, "manifests", Fault::Status(401, None));
    let error = client.resolve(&name).await.unwrap_err();
    assert_says(&error, &["asks for a login in a way that is not understood"]);
}

#[tokio::test]
async fn passwords_buy_tokens() {
    let (registry, name) = registry_with_image();
    registry.require(Login::Token(ME));
    let resolved = client_with(password("me", "secret")).resolve(&name).await.unwrap();
    assert_eq!(resolved.digest, image("app").digest());
    let asked = registry.seen("/token");
    assert_eq!(asked[0].authorization.as_deref(), Some(ME));
    assert_says(&asked[0].line, &["account=me"]);
    let error = client_with(password("me", "wrong")).resolve(&name).await.unwrap_err();
    assert_says(&error, &["token server", "answered 401: UNAUTHORIZED (incorrect username or password)"]);
}

#[tokio::test]
async fn identity_tokens_are_exchanged() {
    let (registry, name) = registry_with_image();
    registry.require(Login::IdentityToken("it is +me"));
    client_with(Credential::IdentityToken("it is +me".to_owned())).resolve(&name).await.unwrap();
    let asked = registry.seen("POST /token");
    assert_eq!((asked.len(), asked[0].authorization.as_deref()), (1, None));
}

#[tokio::test]
async fn plain_passwords_work_where_they_are_asked_for() {
    let (registry, name) = registry_with_image();
    registry.require(Login::Basic(ME));
    let client_of_me = client_with(password("me", "secret"));
    client_of_me.resolve(&name).await.unwrap();
    client_of_me.resolve(&name).await.unwrap();
    // The second time the password goes along at once.
    assert_eq!(registry.seen("manifests").len(), 3);
    let error = client_with(password("me", "wrong")).resolve(&name).await.unwrap_err();
    assert_says(&error, &["the credentials were refused: UNAUTHORIZED", "log in again"]);
    let error = client().resolve(&name).await.unwrap_err();
    assert_says(&error, &["a login is required", "log in to this registry"]);
    assert!(matches!(error.kind(), ErrorKind::Unauthorized { with_credentials: false, .. }));
}

#[tokio::test]
async fn the_token_server_may_fail_for_a_while() {
    let (registry, name) = registry_with_image();
    registry.require(Login::AnonymousToken);
    registry.inject(1, "/token", Fault::Status(503, None));
    client().resolve(&name).await.unwrap();
    registry.inject(1, "/token", Fault::Body(200, "application/json", "{}".to_owned()));
    let error = client().resolve(&name).await.unwrap_err();
    assert_says(&error, &["token server http://127.0.0.1", "without a token"]);
}

#[tokio::test]
async fn passwords_are_not_sent_readable() {
    let (registry, _) = registry_with_image();
    registry.require(Login::Token(ME));
    // Under this name the registry may be spoken to in plain HTTP, but its token server may not.
    let port = registry.address().rsplit(':').next().unwrap();
    let named = format!("localhost:{port}");
    let mut options = options();
    options.credentials = std::sync::Arc::new(Always);
    options.loopback_is_plain = false;
    options.insecure = vec![named.clone()];
    let error = Client::new(options).resolve(&format!("{named}/app").parse().unwrap()).await.unwrap_err();
    assert_says(&error, &["does not use HTTPS; credentials are not sent there"]);
    assert_eq!(registry.seen("/token").len(), 0);
}

struct Always;

impl registry::Credentials for Always {
    fn lookup(&self, _registry: &str, _repository: &str) -> Lookup {
        Lookup::found(Some(password("me", "secret")))
    }
}
