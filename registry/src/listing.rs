//! What a repository has: its tags, what refers to an image, and taking names away.
//!
//! Source: distribution-spec, sections "Content Discovery" and "Content Management".

use base::Reference;
use base::image::{Descriptor, Index, media_type};
use base::reference::is_tag;
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::auth::Rights;
use crate::client::{Call, Client, InContext as _};
use crate::error::{Context, ErrorKind, Result};
use crate::http_error;
use crate::search::next_page;

/// The largest page that is read, in bytes.
const LIMIT: u64 = 8 << 20;
/// How many pages are read.
const MAX_PAGES: usize = 1000;

#[derive(Deserialize)]
struct WireTags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Client {
    /// The tags of the repository of `reference`, in the registry's order. What is no tag is left out.
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        let context = Context::list("tags", reference);
        let mut tags: Vec<String> = Vec::new();
        let mut call = Call::new(Method::GET, "tags/list".to_owned());
        for _ in 0..MAX_PAGES {
            let (body, next) = self.page(reference, &call).await.within(&context)?;
            let bad = |source| ErrorKind::BadListing { what: "list of tags", source };
            let page: WireTags = serde_json::from_slice(&body).map_err(bad).within(&context)?;
            tags.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)));
            match next {
                Some(next) => call.query = query(&next),
                None => break,
            }
        }
        Ok(tags)
    }

    /// What refers to the manifest that `reference` names by digest, of one kind of artifact or of all. A registry that cannot say
    /// that may have it under the tag that the digest makes.
    pub async fn referrers(&self, reference: &Reference, kind: Option<&str>) -> Result<Vec<Descriptor>> {
        let context = Context::list("referrers", reference);
        let Some(digest) = reference.digest else { return Ok(Vec::new()) };
        let mut call = Call::new(Method::GET, format!("referrers/{digest}"));
        call.query.extend(kind.map(|kind| ("artifactType".to_owned(), kind.to_owned())));
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let (body, next) = match self.page(reference, &call).await {
                Err(ErrorKind::NotFound { .. }) => {
                    found = self.referrers_by_tag(reference, &format!("sha256-{}", digest.hex())).await?;
                    break;
                }
                page => page.within(&context)?,
            };
            found.extend(index(&body).within(&context)?);
            match next {
                Some(next) => call.query = query(&next),
                None => break,
            }
        }
        // The filter is one that registries may leave to us.
        found.retain(|entry| kind.is_none_or(|kind| entry.artifact_type.as_deref() == Some(kind)));
        Ok(found)
    }

    /// Takes a tag away, or with a digest a manifest and all its tags.
    pub async fn delete_manifest(&self, reference: &Reference) -> Result<()> {
        let context = Context::manifest("delete", reference);
        self.request_manifest(Method::DELETE, reference, &Rights::Delete).await.within(&context).map(drop)
    }

    async fn referrers_by_tag(&self, reference: &Reference, tag: &str) -> Result<Vec<Descriptor>> {
        let named = Reference { tag: Some(tag.to_owned()), digest: None, ..reference.clone() };
        match self.resolve(&named).await {
            Ok(found) if media_type::is_index(&found.media_type) => {
                index(&found.bytes).within(&Context::manifest("read", &named))
            }
            Ok(_) => Ok(Vec::new()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// A page of a list, and where the next one is.
    async fn page(
        &self,
        reference: &Reference,
        call: &Call,
    ) -> std::result::Result<(Vec<u8>, Option<Url>), ErrorKind> {
        let mut answer = self.send(reference, &Rights::Pull, call).await?;
        let body = self.transport().body(&mut answer, LIMIT).await?;
        if answer.is_html() {
            return Err(http_error::not_a_registry(&answer, &body));
        }
        Ok((body, next_page(&answer)))
    }
}

/// What the next page is asked for with. Only this is taken from its address: the request goes where the first one went.
fn query(next: &Url) -> Vec<(String, String)> {
    next.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn index(body: &[u8]) -> std::result::Result<Vec<Descriptor>, ErrorKind> {
    let bad = |source| ErrorKind::BadListing { what: "list of referrers", source };
    let index: Index = serde_json::from_slice(body).map_err(bad)?;
    Ok(index.manifests)
}
