//! Many manifests in one request; the form is in [`crate::many`].

use axum::body::Body;
use axum::http::header;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use serde_json::value::RawValue;

use super::dispatch::{Asked, Registry, wrong_method};
use super::refusal::Refusal;
use super::store::{ManifestName, Repository, ServeError, ServedManifest, ServedStore};
use crate::http_error::ErrorCode;
use crate::many::{ANSWER_SIZE, ANSWER_TYPE, MAX_TAGS, Manifests, Wanted};

impl Registry {
    pub(super) async fn many_manifests(
        &self,
        asked: &Asked,
        repository: Repository,
        body: Body,
    ) -> Result<Response, Refusal> {
        if asked.parts.method != Method::POST {
            return Err(wrong_method(asked));
        }
        let question = self.document(&asked.parts.headers, body).await?;
        let Wanted { tags } = serde_json::from_slice(&question)
            .ok()
            .filter(|Wanted { tags }| (1..=MAX_TAGS).contains(&tags.len()))
            .ok_or_else(|| Refusal::bad(ErrorCode::Unsupported, not_understood()))?;
        let manifests = self.ask(move |store| find(store, &repository, tags)).await?;
        let body = serde_json::to_vec(&Manifests { manifests }).map_err(|error| {
            Refusal::failure(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written", &error)
        })?;
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(ANSWER_TYPE));
        Ok(response)
    }
}

fn not_understood() -> String {
    format!("the question is {{\"tags\": [\"…\"]}} with 1 to {MAX_TAGS} tags")
}

/// The manifests of the first tags, as many as fit into an answer.
fn find(
    store: &dyn ServedStore,
    repository: &Repository,
    tags: Vec<String>,
) -> Result<Vec<Option<Box<RawValue>>>, ServeError> {
    let (mut found, mut size) = (Vec::with_capacity(tags.len()), 0);
    for tag in tags {
        let manifest = store.manifest(repository, &ManifestName::Tag(tag))?;
        let manifest = manifest.and_then(|ServedManifest { bytes, .. }| {
            RawValue::from_string(String::from_utf8(bytes).ok()?).ok()
        });
        size += manifest.as_ref().map_or(0, |manifest| manifest.get().len());
        if size > ANSWER_SIZE && !found.is_empty() {
            break;
        }
        found.push(manifest);
    }
    Ok(found)
}
