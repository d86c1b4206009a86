//! Many manifests in one request: a question of our own, which `lap registry serve` answers.
//!
//! `POST /v2/<name>/_lapstrake/manifests` with `{"tags": ["a", "b"]}` is answered with `{"manifests": [{…}, null]}`: for each
//! tag the manifest or `null`, in the order of the question. The answer may end early when it becomes long; it has at least
//! one entry, and the rest is asked for anew. Parts of a path that begin with `_` are in no repository's name, so other registries
//! have nothing there.

use base::Reference;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{self, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::auth::Rights;
use crate::client::{Call, Client, InContext as _};
use crate::error::{Context, ErrorKind, Result};
use crate::upload::{BlobSource, Payload};

/// The media type of the answer, by which it is told from whatever other registries say.
pub(crate) const ANSWER_TYPE: &str = "application/vnd.lapstrake.manifests.v1+json";

/// After how many bytes of manifests an answer ends. A manifest has at most 4 MiB.
pub(crate) const ANSWER_SIZE: usize = 16 << 20;

/// The longest answer that is read.
const ANSWER_LIMIT: u64 = 32 << 20;

/// How many tags may be asked for at once.
pub(crate) const MAX_TAGS: usize = 1000;

/// Which manifests are wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) tags: Vec<String>,
}

/// The manifests of the first tags.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifests {
    pub(crate) manifests: Vec<Option<Box<RawValue>>>,
}

impl Client {
    /// The manifests with these tags in the repository of `reference`, in their order; `None` when the registry does not
    /// answer such questions, so that each has to be asked for on its own. What comes is as anybody wrote it.
    ///
    /// # Errors
    /// When the registry cannot be reached, or stops answering in the middle.
    pub async fn manifests(
        &self,
        reference: &Reference,
        tags: &[String],
    ) -> Result<Option<Vec<Option<Vec<u8>>>>> {
        let context = Context::manifest("look up", reference);
        let mut found = Vec::with_capacity(tags.len());
        while found.len() < tags.len() {
            let end = tags.len().min(found.len() + MAX_TAGS);
            let Some(some) =
                self.some_manifests(reference, &tags[found.len()..end]).await.within(&context)?
            else {
                return Ok(None);
            };
            found.extend(some);
        }
        Ok(Some(found))
    }

    /// The manifests of the first of these tags, at least one and no more than there are tags.
    async fn some_manifests(
        &self,
        reference: &Reference,
        tags: &[String],
    ) -> std::result::Result<Option<Vec<Option<Vec<u8>>>>, ErrorKind> {
        let body = serde_json::to_vec(&Wanted { tags: tags.to_vec() }).unwrap_or_default();
        let size = body.len() as u64;
        let json = HeaderValue::from_static("application/json");
        let tail = "_lapstrake/manifests".to_owned();
        let mut request = Call::new(Method::POST, tail).header(header::CONTENT_TYPE, json);
        request.payload =
            Some(Payload { source: BlobSource::Bytes(Bytes::from(body)), size, progress: None });
        // A registry that knows nothing of this may answer anything; that is not worth a second try.
        request.repeatable = false;
        let mut answer = match self.send(reference, &Rights::Pull, &request).await {
            Ok(answer) if answer.content_type().as_deref() == Some(ANSWER_TYPE) => answer,
            Ok(_) => return Ok(None),
            Err(kind) if is_an_answer(&kind) => return Ok(None),
            Err(kind) => return Err(kind),
        };
        let body = self.transport().body(&mut answer, ANSWER_LIMIT).await?;
        let Ok(Manifests { manifests }) = serde_json::from_slice(&body) else { return Ok(None) };
        if manifests.is_empty() || manifests.len() > tags.len() {
            return Ok(None);
        }
        let bytes = |manifest: Box<RawValue>| manifest.get().as_bytes().to_vec();
        Ok(Some(manifests.into_iter().map(|manifest| manifest.map(bytes)).collect()))
    }
}

/// Whether the registry answered, though not with what was asked for.
pub(crate) fn is_an_answer(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound { .. }
            | ErrorKind::Unauthorized { .. }
            | ErrorKind::Denied { .. }
            | ErrorKind::RateLimited { .. }
            | ErrorKind::Status { .. }
            | ErrorKind::NotARegistry { .. }
            | ErrorKind::BadRedirect { .. }
    )
}
