//! Files of containers, as archives that pass through in pieces.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine::containers::files::{CopyRequest, Kind, PathStat, Source};
use engine::request::Destination;
use serde_json::json;

use super::super::piped::{self, Pipe};
use super::super::query::Parameters;
use super::super::{Api, ApiError};

/// What a path is.
const STAT: &str = "x-docker-container-path-stat";

/// Where the engine writes to.
fn destination(pipe: Pipe) -> Destination {
    Destination::Stream(Arc::new(Mutex::new(pipe)))
}

/// A place in a container.
fn place(container: String, parameters: &Parameters) -> Result<CopyRequest, ApiError> {
    let path =
        parameters.get("path").ok_or_else(|| ApiError::bad_request("bad parameter: path cannot be empty"))?;
    if path.contains('\0') {
        return Err(ApiError::bad_request(format!("invalid path {path:?}")));
    }
    Ok(CopyRequest { container, path: path.to_owned(), archive: true, ..CopyRequest::default() })
}

pub(super) async fn head(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response<Body>, ApiError> {
    let request = place(id, &parameters)?;
    let stat = api.ask(move |engine| engine.stat_in_container(&request)).await?;
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(STAT, header(&stat)?);
    Ok(response)
}

pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response<Body>, ApiError> {
    let request = place(id, &parameters)?;
    let looked_at = request.clone();
    let stat = api.ask(move |engine| engine.stat_in_container(&looked_at)).await?;
    let body = piped::written(&api, move |engine, pipe, cancel| {
        engine.copy_out_as_archive(&request, &destination(pipe), cancel)
    });
    let mut response = Response::new(body.await?);
    response.headers_mut().insert(STAT, header(&stat)?);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    Ok(response)
}

pub(super) async fn export(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let body = piped::written(&api, move |engine, pipe, cancel| {
        engine.export_container(&id, &destination(pipe), cancel)
    });
    let mut response = Response::new(body.await?);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
    body: Body,
) -> Result<(), ApiError> {
    let request = CopyRequest {
        replaces: !parameters.is_true("noOverwriteDirNonDir"),
        own: parameters.is_true("copyUIDGID"),
        ..place(id, &parameters)?
    };
    let archive = piped::reader(body);
    api.cancellable(move |engine, cancel| {
        engine.copy_in(&request, Source::Archive(Box::new(archive)), cancel).map(drop)
    })
    .await
}

/// What a path is, in JSON and base64.
fn header(stat: &PathStat) -> Result<HeaderValue, ApiError> {
    let link = stat.link_target.as_ref().map(|target| target.display().to_string());
    let document = json!({
        "name": stat.name,
        "size": stat.size,
        "mode": go_mode(stat.kind, stat.mode),
        "mtime": stat.mtime.to_string(),
        "linkTarget": link.unwrap_or_default(),
    });
    let text = BASE64_STANDARD.encode(document.to_string());
    HeaderValue::from_str(&text).map_err(|_| ApiError::internal("cannot describe the path"))
}

/// The bits of Go's `fs.FileMode`.
fn go_mode(kind: Kind, mode: u32) -> u32 {
    let kind = match kind {
        Kind::File => 0,
        Kind::Directory => 1 << 31,
        Kind::Symlink => 1 << 27,
        Kind::BlockDevice => 1 << 26,
        Kind::CharDevice => 1 << 26 | 1 << 21,
        Kind::Fifo => 1 << 25,
        Kind::Socket => 1 << 24,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special: u32 = special.into_iter().filter(|(bit, _)| mode & bit != 0).map(|(_, bit)| bit).sum();
    kind | special | (mode & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        assert_eq!(go_mode(Kind::File, 0o644), 0o644);
        assert_eq!(go_mode(Kind::Directory, 0o1777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(Kind::File, 0o4755), 1 << 23 | 0o755);
    }
}
