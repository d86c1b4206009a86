//! Version 1 of the protocol: an entry is reserved, its content sent in pieces, and then it is committed.

use std::io::{Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{ActionsEntry, CONFLICT, Outcome, Service, content, posted};
use crate::error::ErrorKind;
use crate::transport::Request;
use crate::upload::BlobSource;

/// The largest piece, in bytes.
const PIECE: u64 = 8 << 20;

/// The version of the interface that is asked for.
const ACCEPT: HeaderValue = HeaderValue::from_static("application/json;api-version=6.0-preview.1");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    cache_key: String,
    archive_location: String,
}

#[derive(Serialize)]
struct Reserve<'a> {
    key: &'a str,
    version: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reserved {
    cache_id: i64,
}

#[derive(Serialize)]
struct Commit {
    size: u64,
}

/// Finds an entry.
pub(super) async fn find(
    service: &Service<'_>,
    key: &str,
    prefixes: &[&str],
) -> Outcome<Option<ActionsEntry>> {
    let mut url = service.url("_apis/artifactcache/cache")?;
    let keys: Vec<&str> = std::iter::once(key).chain(prefixes.iter().copied()).collect();
    url.query_pairs_mut().append_pair("keys", &keys.join(",")).append_pair("version", &service.cache.version);
    let answer = service.ask(Request::new(Method::GET, url).header(header::ACCEPT, ACCEPT)).await?;
    if matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_FOUND) {
        return Ok(None);
    }
    let Found { cache_key, archive_location } = service.read(answer).await?;
    Ok(Some(ActionsEntry { key: cache_key, url: archive_location }))
}

/// Adds an entry; `false` if there is one.
pub(super) async fn add(service: &Service<'_>, key: &str, source: &BlobSource, size: u64) -> Outcome<bool> {
    let version = service.cache.version.as_str();
    let url = service.url("_apis/artifactcache/caches")?;
    let request = posted(url, &Reserve { key, version }).header(header::ACCEPT, ACCEPT);
    let answer = service.ask(request).await?;
    if answer.status().as_u16() == CONFLICT {
        return Ok(false);
    }
    let Reserved { cache_id } = service.read(answer).await?;
    let url = service.url(&format!("_apis/artifactcache/caches/{cache_id}"))?;
    let mut start = 0;
    while start < size {
        let piece = piece(source, start, PIECE.min(size - start))?;
        let (length, end) = (piece.len() as u64, start + piece.len() as u64 - 1);
        let range = (header::CONTENT_RANGE, format!("bytes {start}-{end}/*"));
        let request = content(Method::PATCH, url.clone(), BlobSource::Bytes(piece), length, &[range]);
        service.success(service.ask(request.header(header::ACCEPT, ACCEPT)).await?).await?;
        start += length;
    }
    let commit = posted(url, &Commit { size }).header(header::ACCEPT, ACCEPT);
    service.success(service.ask(commit).await?).await?;
    Ok(true)
}

/// A piece of the content.
fn piece(source: &BlobSource, start: u64, length: u64) -> Outcome<Bytes> {
    let end = start.saturating_add(length);
    let open = match source {
        BlobSource::Bytes(bytes) => {
            let part = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
            return Ok(bytes.slice(part(start)..part(end)));
        }
        BlobSource::File(open) => open,
    };
    let read = || {
        let mut file = open()?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    read().map(Bytes::from).map_err(|source| ErrorKind::Source { source })
}
