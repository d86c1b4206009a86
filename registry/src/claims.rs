//! Saying that one is about to make something, so that others may wait for it: a question of our own, which `lap registry serve`
//! answers.
//!
//! `POST /v2/<name>/_lapstrake/claims` with `{"key": "…", "holder": "…", "seconds": 600}` is answered with `{"granted": true}` when nobody
//! else has the key, until it is released or the time is over. `DELETE` with the same releases it. The server keeps this in memory: a
//! claim saves work, and nothing is wrong without it.

use base::Reference;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{self, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::auth::Rights;
use crate::client::{Call, Client, InContext as _};
use crate::error::{Context, ErrorKind, Result};
use crate::many::is_an_answer;
use crate::transport::Answer;
use crate::upload::{BlobSource, Payload};

/// The media type of the answer, by which it is told from whatever other registries say.
pub(crate) const ANSWER_TYPE: &str = "application/vnd.lapstrake.claim.v1+json";

/// The longest answer that is read.
const ANSWER_LIMIT: u64 = 1024;

/// What is claimed, by whom and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// What is claimed.
    pub key: String,
    /// Who claims it: a name that nobody else has.
    pub holder: String,
    /// For how many seconds at most.
    pub seconds: u64,
}

/// Whether it was granted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Granted {
    pub(crate) granted: bool,
}

impl Client {
    /// Claims something in the repository of `reference`. `None` when the registry knows no claims.
    ///
    /// # Errors
    /// When the registry cannot be reached.
    pub async fn claim(&self, reference: &Reference, claim: &ClaimRequest) -> Result<Option<bool>> {
        let context = Context::manifest("claim", reference);
        let mut answer = match self.send_claim(Method::POST, reference, claim).await {
            Ok(answer) if answer.content_type().as_deref() == Some(ANSWER_TYPE) => answer,
            Ok(_) => return Ok(None),
            Err(kind) if is_an_answer(&kind) => return Ok(None),
            Err(kind) => return Err(context.error(kind)),
        };
        let body = self.transport().body(&mut answer, ANSWER_LIMIT).await.within(&context)?;
        Ok(serde_json::from_slice(&body).ok().map(|Granted { granted }| granted))
    }

    /// Releases what was claimed.
    ///
    /// # Errors
    /// When the registry cannot be reached.
    pub async fn release(&self, reference: &Reference, claim: &ClaimRequest) -> Result<()> {
        match self.send_claim(Method::DELETE, reference, claim).await {
            Err(kind) if !is_an_answer(&kind) => Err(Context::manifest("release", reference).error(kind)),
            _ => Ok(()),
        }
    }

    async fn send_claim(
        &self,
        method: Method,
        reference: &Reference,
        claim: &ClaimRequest,
    ) -> std::result::Result<Answer, ErrorKind> {
        let body = serde_json::to_vec(claim).unwrap_or_default();
        let size = body.len() as u64;
        let json = HeaderValue::from_static("application/json");
        let mut request =
            Call::new(method, "_lapstrake/claims".to_owned()).header(header::CONTENT_TYPE, json);
        request.payload =
            Some(Payload { source: BlobSource::Bytes(Bytes::from(body)), size, progress: None });
        // A registry that knows nothing of this may answer anything; that is not worth a second try.
        request.repeatable = false;
        self.send(reference, &Rights::Push, &request).await
    }
}
