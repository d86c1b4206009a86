//! What the tests share: an impatient client, and images that are cheap to make.

use std::sync::Arc;
use std::time::Duration;

use base::image::media_type;
use base::{Digest, Reference};
use registry::{Client, ClientOptions, Credential, Credentials, RetryPolicy};
use testkit::{FaultyRegistry, Image, Layer, LayerTar};

/// Options of a client that tries three times, without noticeable waits between.
pub(crate) fn options() -> ClientOptions {
    let delay = Duration::from_millis(1);
    ClientOptions {
        retry: RetryPolicy { attempts: 3, first_delay: delay, longest_delay: Duration::from_secs(1) },
        ..ClientOptions::default()
    }
}

pub(crate) fn client() -> Client {
    Client::new(options())
}

/// A client that takes two seconds of silence for a stall, for servers that stall. A machine may do so, too.
pub(crate) fn impatient() -> Client {
    Client::new(ClientOptions { idle_timeout: Duration::from_secs(2), ..options() })
}

/// A client that presents one credential everywhere.
pub(crate) fn client_with(credential: Credential) -> Client {
    struct Fixed(Credential);
    impl Credentials for Fixed {
        fn lookup(&self, _registry: &str, _repository: &str) -> registry::Lookup {
            registry::Lookup::found(Some(self.0.clone()))
        }
    }
    Client::new(ClientOptions { credentials: Arc::new(Fixed(credential)), ..options() })
}

pub(crate) fn password(user: &str, password: &str) -> Credential {
    Credential::Password { user: user.to_owned(), password: password.to_owned() }
}

/// An image of two small layers.
pub(crate) fn image(name: &str) -> Image {
    let layer = |path: &str| LayerTar::new().file(path, 0o644, path).finish();
    Image::new(name).layer(Layer::gzip(&layer("one"))).layer(Layer::tar(layer("two")))
}

/// A registry with `image` as `app:latest`, and the reference to it.
pub(crate) fn registry_with_image() -> (FaultyRegistry, Reference) {
    let registry = FaultyRegistry::start();
    registry.put_image("app", "latest", &image("app"));
    let reference = reference(&registry, "app");
    (registry, reference)
}

pub(crate) fn reference(registry: &FaultyRegistry, name: &str) -> Reference {
    registry.reference(name).parse().unwrap()
}

/// Stores an index as `app:latest` that lists `entries`, each a JSON object.
pub(crate) fn put_index(
    registry: &FaultyRegistry,
    tag: &str,
    entries: &[serde_json::Value],
) -> (Digest, usize) {
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
    let bytes = index.to_string();
    (registry.put_manifest("app", tag, media_type::OCI_INDEX, bytes.as_bytes()), bytes.len())
}

/// Asserts that a message has all these parts, and shows it when it has not.
#[track_caller]
pub(crate) fn assert_says(message: impl ToString, parts: &[&str]) {
    let message = message.to_string();
    for part in parts {
        assert!(message.contains(part), "no \"{part}\" in: {message}");
    }
}

/// An error with its causes, as a command prints them.
pub(crate) fn told(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Bytes that do not repeat at once.
pub(crate) fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
