//! Finding out what there is: repositories, tags, and what refers to a manifest.

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base::Digest;
use base::image::{Descriptor, media_type};
use serde::Serialize;

use super::dispatch::{Asked, Registry, only_reads};
use super::page::{Page, page};
use super::refusal::Refusal;
use super::store::Repository;
use crate::http_error::ErrorCode;

/// Says that a list of referrers was filtered.
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// The most names of one answer, however many are asked for.
const ENTRIES: usize = 10_000;
/// The most referrers of one answer, so that it stays below what clients read of a manifest.
const REFERRERS: usize = 1000;

#[derive(Serialize)]
struct Catalog {
    repositories: Vec<String>,
}

#[derive(Serialize)]
struct Tags {
    name: String,
    tags: Vec<String>,
}

/// An index of what refers to a manifest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrers {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

impl Registry {
    pub(super) async fn catalog(&self, asked: &Asked) -> Result<Response, Refusal> {
        only_reads(asked)?;
        let all = self.ask(|store| store.repositories()).await?;
        let page = page(all, Clone::clone, ENTRIES, asked)?;
        json(&Catalog { repositories: page.entries }, "application/json", page.link)
    }

    pub(super) async fn tags(&self, asked: &Asked, repository: Repository) -> Result<Response, Refusal> {
        only_reads(asked)?;
        let name = repository.name.clone();
        let tags = self.ask(move |store| store.tags(&repository)).await?;
        let tags =
            tags.ok_or_else(|| Refusal::absent(ErrorCode::NameUnknown, "there is no such repository"))?;
        let Page { entries, link } = page(tags, Clone::clone, ENTRIES, asked)?;
        json(&Tags { name, tags: entries }, "application/json", link)
    }

    pub(super) async fn referrers(
        &self,
        asked: &Asked,
        repository: Repository,
        subject: Digest,
    ) -> Result<Response, Refusal> {
        only_reads(asked)?;
        let mut found = self.ask(move |store| store.referrers(&repository, &subject)).await?;
        let wanted = asked.query.get("artifactType");
        if let Some(wanted) = wanted {
            found.retain(|entry| entry.artifact_type.as_deref() == Some(wanted));
        }
        found.sort_by_key(|entry| entry.digest);
        let key = |entry: &Descriptor| entry.digest.to_string();
        let Page { entries, link } = page(found, key, REFERRERS, asked)?;
        let index = Referrers { schema_version: 2, media_type: media_type::OCI_INDEX, manifests: entries };
        let mut response = json(&index, media_type::OCI_INDEX, link)?;
        if wanted.is_some() {
            response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    }
}

fn json(
    value: &impl Serialize,
    media_type: &'static str,
    link: Option<HeaderValue>,
) -> Result<Response, Refusal> {
    let failed = |error| {
        Refusal::failure(StatusCode::INTERNAL_SERVER_ERROR, "the list cannot be written as JSON", &error)
    };
    let mut response = Response::new(Body::from(serde_json::to_vec(value).map_err(failed)?));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().extend(link.map(|link| (header::LINK, link)));
    Ok(response)
}
