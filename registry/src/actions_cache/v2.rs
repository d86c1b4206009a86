//! Version 2 of the protocol: the service gives out URLs of a blob store, to which content is sent and from which it is fetched.

use reqwest::header::HeaderName;
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::{ActionsEntry, CONFLICT, Outcome, Service, content, posted};
use crate::error::ErrorKind;
use crate::upload::BlobSource;

/// The header by which the blob store knows that the request has the whole blob. Source: Azure's "Put Blob".
const BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");

#[derive(Serialize)]
struct Find<'a> {
    key: &'a str,
    restore_keys: &'a [&'a str],
    version: &'a str,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    signed_download_url: String,
    #[serde(default)]
    matched_key: String,
}

#[derive(Serialize)]
struct Create<'a> {
    key: &'a str,
    version: &'a str,
}

#[derive(Deserialize)]
struct Created {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    signed_upload_url: String,
}

#[derive(Serialize)]
struct Finish<'a> {
    key: &'a str,
    version: &'a str,
    /// JSON of a 64 bit number in protobuf.
    size_bytes: String,
}

#[derive(Deserialize)]
struct Finished {
    #[serde(default)]
    ok: bool,
}

fn method(service: &Service<'_>, name: &str) -> Outcome<Url> {
    service.url(&format!("twirp/github.actions.results.api.v1.CacheService/{name}"))
}

/// Finds an entry.
pub(super) async fn find(
    service: &Service<'_>,
    key: &str,
    prefixes: &[&str],
) -> Outcome<Option<ActionsEntry>> {
    let question = Find { key, restore_keys: prefixes, version: &service.cache.version };
    let answer = service.ask(posted(method(service, "GetCacheEntryDownloadURL")?, &question)).await?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let Found { ok, signed_download_url, matched_key } = service.read(answer).await?;
    Ok(ok.then_some(ActionsEntry { key: matched_key, url: signed_download_url }))
}

/// Adds an entry; `false` if there is one.
pub(super) async fn add(service: &Service<'_>, key: &str, source: &BlobSource, size: u64) -> Outcome<bool> {
    let version = service.cache.version.as_str();
    let answer = service.ask(posted(method(service, "CreateCacheEntry")?, &Create { key, version })).await?;
    if answer.status().as_u16() == CONFLICT {
        return Ok(false);
    }
    let created: Created = service.read(answer).await?;
    if !created.ok {
        return Ok(false);
    }
    let url = Url::parse(&created.signed_upload_url).ok();
    let url =
        url.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or(ErrorKind::NoUploadLocation)?;
    let upload = content(Method::PUT, url, source.clone(), size, &[(BLOB_TYPE, "BlockBlob".to_owned())]);
    // The URL is all that the blob store wants to see of us.
    let answer = service.client.transport().exchange(&upload, None).await?;
    service.success(answer).await?;
    let finish = Finish { key, version, size_bytes: size.to_string() };
    let answer = service.ask(posted(method(service, "FinalizeCacheEntryUpload")?, &finish)).await?;
    if answer.status().as_u16() == CONFLICT {
        return Ok(false);
    }
    let Finished { ok } = service.read(answer).await?;
    Ok(ok)
}
