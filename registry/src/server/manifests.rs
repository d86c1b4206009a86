//! Manifests and indexes: by tag and by digest.

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base::reference;

use super::blobs::{CONTENT_DIGEST, value};
use super::dispatch::{Asked, Registry, digest_of, wrong_method};
use super::manifest_check::{check, too_large};
use super::refusal::Refusal;
use super::store::{ManifestName, Repository, ServedManifest};
use super::uploads::next_piece;
use crate::documents::MANIFEST_LIMIT;
use crate::http_error::ErrorCode;

/// Says that a manifest was noted as one that refers to another.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Registry {
    pub(super) async fn manifest(
        &self,
        asked: &Asked,
        repository: Repository,
        reference: &str,
        body: Body,
    ) -> Result<Response, Refusal> {
        let name = name(reference)?;
        match asked.parts.method {
            Method::GET | Method::HEAD => self.get_manifest(repository, name).await,
            Method::PUT => self.put_manifest(&asked.parts.headers, repository, name, body).await,
            Method::DELETE => self.delete_manifest(repository, name).await,
            _ => Err(wrong_method(asked)),
        }
    }

    async fn get_manifest(&self, repository: Repository, name: ManifestName) -> Result<Response, Refusal> {
        let found = self.ask(move |store| store.manifest(&repository, &name)).await?;
        let ServedManifest { media_type, digest, bytes } = found.ok_or_else(unknown)?;
        let length = bytes.len();
        // The HTTP library leaves the body out where only the head is wanted.
        let mut response = Response::new(Body::from(bytes));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, value(&media_type));
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::ETAG, value(&format!("\"{digest}\"")));
        headers.insert(CONTENT_DIGEST, value(&digest.to_string()));
        Ok(response)
    }

    async fn put_manifest(
        &self,
        headers: &HeaderMap,
        repository: Repository,
        name: ManifestName,
        body: Body,
    ) -> Result<Response, Refusal> {
        let announced = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let expected = match &name {
            ManifestName::Digest(digest) => Some(*digest),
            ManifestName::Tag(_) => None,
        };
        let pushed = check(announced, self.document(headers, body).await?, expected)?;
        let (digest, subject) = (pushed.digest, pushed.referral.as_ref().map(|referral| referral.subject));
        let location = format!("/v2/{}/manifests/{digest}", repository.name);
        self.ask(move |store| store.put_manifest(&repository, &name, &pushed)).await?;
        let mut response = StatusCode::CREATED.into_response();
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, value(&location));
        headers.insert(CONTENT_DIGEST, value(&digest.to_string()));
        headers.extend(subject.map(|subject| (SUBJECT, value(&subject.to_string()))));
        Ok(response)
    }

    async fn delete_manifest(&self, repository: Repository, name: ManifestName) -> Result<Response, Refusal> {
        match self.ask(move |store| store.delete_manifest(&repository, &name)).await? {
            true => Ok(StatusCode::ACCEPTED.into_response()),
            false => Err(unknown()),
        }
    }

    /// The body of a request, which must be short.
    pub(super) async fn document(&self, headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, Refusal> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > MANIFEST_LIMIT) {
            return Err(too_large(MANIFEST_LIMIT));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = next_piece(&mut body, self.patience).await? {
            if (bytes.len() + piece.len()) as u64 > MANIFEST_LIMIT {
                return Err(too_large(MANIFEST_LIMIT));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

/// A tag has no colon, a digest always has one.
fn name(text: &str) -> Result<ManifestName, Refusal> {
    if text.contains(':') {
        return digest_of(text).map(ManifestName::Digest);
    }
    if reference::is_tag(text) {
        return Ok(ManifestName::Tag(text.to_owned()));
    }
    let message =
        "a tag is letters, digits, '_', '.' and '-', at most 128, and begins with none of the last two";
    Err(Refusal::bad(ErrorCode::ManifestInvalid, message))
}

fn unknown() -> Refusal {
    Refusal::absent(ErrorCode::ManifestUnknown, "there is no such manifest in this repository")
}
