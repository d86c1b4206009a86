//! The requests by which a blob is uploaded: in one, in two, or in chunks that can be continued.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use base::Digest;

use super::blobs::{CONTENT_DIGEST, value};
use super::dispatch::{Asked, Registry, digest_of, wrong_method};
use super::ranges::{Chunk, chunk};
use super::refusal::Refusal;
use super::store::Repository;
use super::uploads::Session;
use crate::http_error::ErrorCode;

/// The header by which Docker names an upload.
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Registry {
    /// `POST`: takes a blob from another repository, or all of a blob at once, or begins an upload.
    pub(super) async fn begin_upload(
        &self,
        asked: &Asked,
        repository: Repository,
        body: Body,
    ) -> Result<Response, Refusal> {
        if asked.parts.method != Method::POST {
            return Err(wrong_method(asked));
        }
        // The repositories have one store, so whichever one has the blob will do. A mount that cannot be becomes an
        // upload.
        if let Some(digest) = asked.query.get("mount").and_then(|text| text.parse::<Digest>().ok())
            && self.ask(move |store| store.blob_size(&digest)).await?.is_some()
        {
            return Ok(created(&repository, &digest));
        }
        let expected = asked.query.get("digest").map(digest_of).transpose()?;
        let upload = self.ask(|store| store.upload()).await?;
        let session = self.uploads.add(&repository.name, upload)?;
        match expected {
            None => Ok(progress(StatusCode::ACCEPTED, &repository, &session)),
            Some(expected) => self.finish(asked, &repository, session, expected, body).await,
        }
    }

    /// The requests to an upload that was begun.
    pub(super) async fn upload(
        &self,
        asked: &Asked,
        repository: Repository,
        id: &str,
        body: Body,
    ) -> Result<Response, Refusal> {
        let session = self.uploads.find(&repository.name, id)?;
        match asked.parts.method {
            Method::GET | Method::HEAD => Ok(progress(StatusCode::NO_CONTENT, &repository, &session)),
            Method::DELETE => {
                self.uploads.remove(id);
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok(response)
            }
            Method::PATCH => {
                let turn = session.turn().await?;
                let limit = self.length(asked, &repository, &session)?;
                let received = turn.receive(body, limit, self.patience).await;
                received.map(drop).map_err(|refusal| self.after(refusal, id))?;
                Ok(progress(StatusCode::ACCEPTED, &repository, &session))
            }
            Method::PUT => {
                let missing = || Refusal::bad(ErrorCode::DigestInvalid, "the digest of the blob is missing");
                let expected = digest_of(asked.query.get("digest").ok_or_else(missing)?)?;
                self.finish(asked, &repository, session, expected, body).await
            }
            _ => Err(wrong_method(asked)),
        }
    }

    /// Takes the last bytes, and makes all of them the blob `expected`.
    async fn finish(
        &self,
        asked: &Asked,
        repository: &Repository,
        session: Arc<Session>,
        expected: Digest,
        body: Body,
    ) -> Result<Response, Refusal> {
        let turn = session.turn().await?;
        let limit = self.length(asked, repository, &session)?;
        let turn = turn.receive(body, limit, self.patience).await;
        let turn = turn.map_err(|refusal| self.after(refusal, &session.id))?;
        // Whatever comes out of it, nothing can be added any more.
        self.uploads.remove(&session.id);
        turn.finish(expected).await?;
        Ok(created(repository, &expected))
    }

    /// How long the body has to be, if the request says which chunk it is. That has to follow what is there.
    fn length(
        &self,
        asked: &Asked,
        repository: &Repository,
        session: &Session,
    ) -> Result<Option<u64>, Refusal> {
        let out_of_order = |message: &str| {
            let refusal =
                Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::BlobUploadInvalid, message);
            place(repository, session)
                .into_iter()
                .fold(refusal, |refusal, (name, value)| refusal.with_header(name, value))
        };
        let chunk = chunk(&asked.parts.headers);
        let chunk = chunk.map_err(|()| out_of_order("a Content-Range here is FIRST-LAST, as in 0-99"))?;
        let Some(Chunk { first, length }) = chunk else { return Ok(None) };
        if first != session.received() {
            return Err(out_of_order("the chunk does not follow what is there"));
        }
        let announced = asked.parts.headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|announced| announced != length) {
            let message = "Content-Range and Content-Length do not agree";
            return Err(Refusal::bad(ErrorCode::SizeInvalid, message));
        }
        Ok(Some(length))
    }

    /// After a failure of the store an upload is of no use.
    fn after(&self, refusal: Refusal, id: &str) -> Refusal {
        if refusal.incident().is_some() {
            self.uploads.remove(id);
        }
        refusal
    }
}

/// Where an upload is, and how far.
fn place(repository: &Repository, session: &Session) -> [(HeaderName, HeaderValue); 3] {
    let last = session.received().saturating_sub(1);
    let location = format!("/v2/{}/blobs/uploads/{}", repository.name, session.id);
    [
        (header::LOCATION, value(&location)),
        (header::RANGE, value(&format!("0-{last}"))),
        (UPLOAD_ID, value(&session.id)),
    ]
}

fn progress(status: StatusCode, repository: &Repository, session: &Session) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().extend(place(repository, session));
    response
}

fn created(repository: &Repository, digest: &Digest) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let location = format!("/v2/{}/blobs/{digest}", repository.name);
    response.headers_mut().insert(header::LOCATION, value(&location));
    response.headers_mut().insert(CONTENT_DIGEST, value(&digest.to_string()));
    response
}
