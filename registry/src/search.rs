//! Finding repositories: Docker Hub's search, which other registries have as well, and the list of all repositories for those
//! that only have that.
//!
//! Sources: Docker's registry API v1, "Search"; distribution documentation, "Listing Repositories".

use std::sync::Arc;

use base::Reference;
use base::reference::DEFAULT_REGISTRY;
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::auth::Rights;
use crate::client::{Client, InContext as _};
use crate::endpoint::Endpoint;
use crate::error::{Context, ErrorKind, Result};
use crate::http_error::{self, printable};
use crate::transport::{Answer, Request};

/// Where Docker Hub is searched.
const HUB_SEARCH: &str = "https://index.docker.io/v1/search";
/// The largest answer that is read, in bytes.
const LIMIT: u64 = 8 << 20;
/// How many pages of the list of all repositories are read.
const MAX_PAGES: usize = 200;
/// The most characters of a description that are kept.
const MAX_DESCRIPTION: usize = 500;

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRepository {
    /// Its name on the registry.
    pub name: String,
    /// What it says of itself, made fit for a terminal.
    pub description: String,
    /// How many people like it.
    pub stars: u64,
    /// Whether it is one of Docker's official images.
    pub official: bool,
}

#[derive(Deserialize)]
struct WireResults {
    #[serde(default)]
    results: Vec<WireResult>,
}

#[derive(Deserialize)]
struct WireResult {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
}

#[derive(Deserialize)]
struct WireCatalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl Client {
    /// The repositories of a registry that `term` finds, at most `limit` of them.
    pub async fn search(&self, registry: &str, term: &str, limit: usize) -> Result<Vec<FoundRepository>> {
        let context = Context::registry("search", registry);
        self.search_it(registry, term, limit).await.within(&context)
    }

    async fn search_it(
        &self,
        registry: &str,
        term: &str,
        limit: usize,
    ) -> std::result::Result<Vec<FoundRepository>, ErrorKind> {
        if registry == DEFAULT_REGISTRY {
            let bad = || ErrorKind::BadAddress { registry: registry.to_owned() };
            let mut url = Url::parse(HUB_SEARCH).map_err(|_| bad())?;
            url.set_query(None);
            let endpoint = Arc::new(Endpoint::new(Endpoint::of_registry(url.clone())));
            return self.ask(&endpoint, registry, url, (term, limit)).await;
        }
        let mut endpoints = self.endpoints(registry, "")?;
        endpoints.retain(|endpoint| endpoint.spec.account(registry) == registry);
        let mut failed = ErrorKind::NoEndpoint { registry: registry.to_owned() };
        for endpoint in &endpoints {
            match self.search_endpoint(endpoint, registry, term, limit).await {
                Err(kind) if endpoint.spec.has_next && kind.is_silence() => failed = kind,
                outcome => return outcome,
            }
        }
        Err(failed)
    }

    /// Searches as on Docker Hub; where there is no such thing, in the list of all repositories.
    async fn search_endpoint(
        &self,
        endpoint: &Arc<Endpoint>,
        registry: &str,
        term: &str,
        limit: usize,
    ) -> std::result::Result<Vec<FoundRepository>, ErrorKind> {
        let mut url = endpoint.spec.base.clone();
        url.set_path("/v1/search");
        match self.ask(endpoint, registry, url, (term, limit)).await {
            Err(kind) if !kind.is_silence() => {}
            outcome => return outcome,
        }
        let names = self.catalog(endpoint, registry).await?;
        let found = names.into_iter().filter(|name| name.contains(term)).take(limit);
        let repository =
            |name| FoundRepository { name, description: String::new(), stars: 0, official: false };
        Ok(found.map(repository).collect())
    }

    async fn ask(
        &self,
        endpoint: &Arc<Endpoint>,
        registry: &str,
        mut url: Url,
        (term, limit): (&str, usize),
    ) -> std::result::Result<Vec<FoundRepository>, ErrorKind> {
        url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
        let (body, _) = self.document(endpoint, registry, url).await?;
        let bad = |source| ErrorKind::BadListing { what: "search", source };
        let found: WireResults = serde_json::from_slice(&body).map_err(bad)?;
        let repository = |result: WireResult| FoundRepository {
            name: printable(&result.name, MAX_DESCRIPTION),
            description: printable(&result.description.unwrap_or_default(), MAX_DESCRIPTION),
            stars: result.star_count,
            official: result.is_official,
        };
        Ok(found.results.into_iter().take(limit).map(repository).collect())
    }

    /// All repositories of a registry.
    async fn catalog(
        &self,
        endpoint: &Arc<Endpoint>,
        registry: &str,
    ) -> std::result::Result<Vec<String>, ErrorKind> {
        let mut url = endpoint.spec.base.clone();
        url.set_path(&format!("{}/_catalog", url.path().trim_end_matches('/')));
        let mut names = Vec::new();
        for _ in 0..MAX_PAGES {
            let (body, next) = self.document(endpoint, registry, url).await?;
            let bad = |source| ErrorKind::BadListing { what: "list of repositories", source };
            let page: WireCatalog = serde_json::from_slice(&body).map_err(bad)?;
            let page = page.repositories.unwrap_or_default();
            names.extend(page.iter().map(|name| printable(name, MAX_DESCRIPTION)));
            match next.filter(|next| endpoint.is_at(next)) {
                Some(next) => url = next,
                None => break,
            }
        }
        Ok(names)
    }

    /// A JSON document, and the URL of the page after it.
    async fn document(
        &self,
        endpoint: &Arc<Endpoint>,
        registry: &str,
        url: Url,
    ) -> std::result::Result<(Vec<u8>, Option<Url>), ErrorKind> {
        let name =
            Reference { registry: registry.to_owned(), repository: String::new(), tag: None, digest: None };
        let request = Request::new(Method::GET, url);
        let mut answer = self.send_to(endpoint, &name, &Rights::Pull, &request).await?;
        let body = self.transport().body(&mut answer, LIMIT).await?;
        if answer.is_html() {
            return Err(http_error::not_a_registry(&answer, &body));
        }
        Ok((body, next_page(&answer)))
    }
}

/// The URL in `Link: <…>; rel="next"`. Source: RFC 8288.
pub(crate) fn next_page(answer: &Answer) -> Option<Url> {
    let link = answer.header("link")?;
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.contains("rel=\"next\"") || rest.contains("rel=next");
    answer.url().join(target).ok().filter(|_| is_next)
}
