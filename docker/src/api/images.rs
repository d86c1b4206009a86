//! Images: what there is, how it comes and goes, and what it is called.

mod commit;
mod transfer;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, Response, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use base::{Platform, Reference};
use engine::Policy;
use engine::prune::ImagePrune;
use engine::report::Removal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::Parameters;
use super::version::ApiVersion;
use super::{Api, ApiError};
use crate::documents;
use crate::filters::Filters;
use crate::filters::images::ImageFilters;

/// Since this version lists have no `VirtualSize`.
const WITHOUT_VIRTUAL_SIZE: ApiVersion = ApiVersion::minor(44);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/commit", post(commit::commit))
        .route("/images/json", get(list))
        .route("/images/create", post(transfer::create))
        .route("/images/load", post(transfer::load))
        .route("/images/get", get(transfer::save_several))
        .route("/images/search", get(search))
        .route("/images/prune", post(prune))
        .route("/images/{*path}", any(of_one))
        .route("/distribution/{*path}", get(distribution))
}

/// What a call asks of one image. Names have slashes, so that the last part of the path is cut off here.
async fn of_one(
    state: State<Arc<Api>>,
    method: Method,
    Path(path): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Response<Body> {
    let (name, what) = path.rsplit_once('/').unwrap_or((&path, ""));
    let name = name.to_owned();
    let answer = match (method, what) {
        (Method::GET | Method::HEAD, "json") => {
            inspect(state, name, parameters).await.map(|json| json.into_response())
        }
        (Method::GET | Method::HEAD, "history") => {
            history(state, name, parameters).await.map(|json| json.into_response())
        }
        (Method::GET | Method::HEAD, "get") => transfer::save(state, vec![name], parameters).await,
        (Method::GET | Method::HEAD, "attestations") => {
            Err(ApiError::not_implemented("attestations are shown by lap image inspect and by registries"))
        }
        (Method::POST, "tag") => tag(state, name, parameters).await.map(|status| status.into_response()),
        (Method::POST, "push") => transfer::push(state, name, parameters, request.headers()).await,
        (Method::DELETE, _) => remove(state, path, parameters).await.map(|json| json.into_response()),
        _ => Err(ApiError::not_found("page not found")),
    };
    answer.unwrap_or_else(|error| error.into_response())
}

async fn list(
    State(api): State<Arc<Api>>,
    version: axum::Extension<ApiVersion>,
    parameters: Parameters,
) -> Result<Json<Value>, ApiError> {
    let mut words = parameters.filters()?;
    // How clients asked for a name before there were filters.
    words.extend(parameters.get("filter").map(|name| format!("reference={name}")));
    let images = api.ask(|engine| engine.images()).await?;
    let filters = ImageFilters::parse(&words, engine::now(), &images)?;
    let mut found = Vec::new();
    for image in images.iter().filter(|image| filters.fit(image)) {
        let names: Vec<Reference> = image.names.iter().filter_map(|name| name.parse().ok()).collect();
        if !names.is_empty() && !names.iter().any(|name| filters.fit_name(name)) {
            continue;
        }
        let mut document = documents::images::summary_with(image, |name| filters.fit_name(name));
        if *version < WITHOUT_VIRTUAL_SIZE {
            document["VirtualSize"] = image.size.into();
        }
        found.push(document);
    }
    Ok(Json(found.into()))
}

async fn inspect(
    State(api): State<Arc<Api>>,
    name: String,
    parameters: Parameters,
) -> Result<Json<Value>, ApiError> {
    let wanted = platform(&parameters)?;
    let found = api.ask(move |engine| {
        let details = engine.inspect(&name)?;
        if let Some(wanted) = wanted.filter(|wanted| details.summary.platform.fits(wanted).is_none()) {
            return Err(engine::error::EngineError::NoSuchImage(format!(
                "{name}: image with reference {name} was found but does not provide the specified platform ({wanted})"
            )));
        }
        let layers = engine.image_layers(&name)?;
        Ok(documents::images::document(&details, &layers))
    });
    Ok(Json(found.await?))
}

async fn history(
    State(api): State<Arc<Api>>,
    name: String,
    parameters: Parameters,
) -> Result<Json<Value>, ApiError> {
    let wanted = platform(&parameters)?;
    let found = api.ask(move |engine| {
        let details = engine.inspect(&name)?;
        let lines = engine.history(&name, wanted.as_ref())?;
        Ok(documents::images::history(&details.summary, &lines))
    });
    Ok(Json(found.await?))
}

async fn tag(
    State(api): State<Arc<Api>>,
    name: String,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let target = named(parameters.get("repo").unwrap_or_default(), parameters.get("tag"))?;
    api.ask(move |engine| engine.tag(&name, &target)).await?;
    Ok(StatusCode::CREATED)
}

/// A name of two parts, as clients send it. The tag may be a digest.
fn named(repository: &str, tag: Option<&str>) -> Result<Reference, ApiError> {
    let text = match tag {
        None => repository.to_owned(),
        Some(digest) if digest.contains(':') => format!("{repository}@{digest}"),
        Some(tag) => format!("{repository}:{tag}"),
    };
    text.parse().map_err(|error: base::reference::ReferenceError| {
        ApiError::bad_request(format!("invalid reference format: {error}"))
    })
}

async fn remove(
    State(api): State<Arc<Api>>,
    name: String,
    parameters: Parameters,
) -> Result<Json<Value>, ApiError> {
    let force = parameters.is_true("force");
    let platforms = platforms(&parameters, "platforms")?;
    let removed = api.ask(move |engine| match platforms.is_empty() {
        true => engine.remove_image(&name, force),
        false => engine.remove_platforms(&name, &platforms, force),
    });
    Ok(Json(removals(&removed.await?).into()))
}

fn removals(removed: &[Removal]) -> Vec<Value> {
    let one = |removal: &Removal| match removal {
        Removal::Untagged(name) => json!({ "Untagged": name }),
        Removal::Deleted(digest) => json!({ "Deleted": digest }),
    };
    removed.iter().map(one).collect()
}

async fn prune(State(api): State<Arc<Api>>, parameters: Parameters) -> Result<Json<Value>, ApiError> {
    let (dangling, words): (Vec<String>, Vec<String>) =
        parameters.filters()?.into_iter().partition(|word| word.starts_with("dangling="));
    let all = dangling
        .iter()
        .any(|word| word.strip_prefix("dangling=").and_then(base::boolean::parse) == Some(false));
    let filters = Filters::parse_for_images(&words, engine::now())?;
    let which = ImagePrune { all, until: filters.until, labels: filters.labels };
    let pruned = api.ask(move |engine| {
        let pruned = engine.prune(Some(&which), Policy::KEEP_CACHE)?;
        let images = removals(&pruned.images);
        Ok((images, pruned.remove_files()?))
    });
    let (images, bytes) = pruned.await?;
    let images = if images.is_empty() { Value::Null } else { images.into() };
    Ok(Json(json!({ "ImagesDeleted": images, "SpaceReclaimed": bytes })))
}

async fn search(
    State(api): State<Arc<Api>>,
    headers: axum::http::HeaderMap,
    parameters: Parameters,
) -> Result<Json<Value>, ApiError> {
    let term =
        parameters.get("term").ok_or_else(|| ApiError::bad_request("the term to search for is missing"))?;
    let (registry, term) = match term.split_once('/') {
        Some((host, term)) if host.contains(['.', ':']) || host == "localhost" => {
            (host.to_owned(), term.to_owned())
        }
        _ => (base::reference::DEFAULT_REGISTRY.to_owned(), term.to_owned()),
    };
    let limit = parameters.number::<usize>("limit")?.filter(|limit| *limit > 0).unwrap_or(25);
    if limit > 100 {
        return Err(ApiError::bad_request(format!("limit {limit} is outside the range of [1, 100]")));
    }
    let words = parameters.filters()?;
    let credentials = super::credentials::Given::one(&headers)?;
    let found = api.ask(move |engine| {
        let engine = engine.with_credentials(Arc::new(credentials));
        engine.search(&registry, &term, limit, &base::CancelToken::new())
    });
    let mut rows = Vec::new();
    for repository in found.await? {
        let mut fits = true;
        for word in &words {
            fits &= match word.split_once('=') {
                Some(("stars", count)) => {
                    let wrong = |_| ApiError::bad_request(format!("invalid filter '{word}'"));
                    repository.stars >= count.parse().map_err(wrong)?
                }
                Some(("is-official", wanted)) => base::boolean::parse(wanted) == Some(repository.official),
                Some(("is-automated", wanted)) => base::boolean::parse(wanted) == Some(false),
                _ => return Err(ApiError::bad_request(format!("invalid filter '{word}'"))),
            };
        }
        if fits {
            rows.push(json!({
                "name": repository.name,
                "description": repository.description,
                "is_official": repository.official,
                "is_automated": false,
                "star_count": repository.stars,
            }));
        }
    }
    Ok(Json(rows.into()))
}

/// What a registry has under a name: `/distribution/NAME/json`.
async fn distribution(
    State(api): State<Arc<Api>>,
    Path(path): Path<String>,
    headers: axum::http::HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let Some((name, "json")) = path.rsplit_once('/') else {
        return Err(ApiError::not_found("page not found"));
    };
    let name = name.to_owned();
    let credentials = super::credentials::Given::one(&headers)?;
    let found = api.ask(move |engine| {
        let engine = engine.with_credentials(Arc::new(credentials));
        let found = engine.remote_manifest(&name, &base::CancelToken::new())?;
        Ok(json!({ "Descriptor": found.descriptor, "Platforms": found.platforms }))
    });
    Ok(Json(found.await?))
}

/// The platform of `platform=`: `linux/arm64`, or a document as newer clients send it.
fn platform(parameters: &Parameters) -> Result<Option<Platform>, ApiError> {
    parameters.get("platform").map(parsed).transpose()
}

/// The platforms of a parameter that may be there several times.
fn platforms(parameters: &Parameters, name: &str) -> Result<Vec<Platform>, ApiError> {
    parameters.all(name).iter().filter(|text| !text.is_empty()).map(|text| parsed(text)).collect()
}

/// A platform in the shape of OCI's image index.
#[derive(Deserialize)]
struct Wanted {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
}

fn parsed(text: &str) -> Result<Platform, ApiError> {
    let wrong = |why: String| ApiError::bad_request(format!("invalid platform {text:?}: {why}"));
    let text = match text.starts_with('{') {
        false => text.to_owned(),
        true => {
            let Wanted { os, architecture, variant } =
                serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
            let variant = if variant.is_empty() { variant } else { format!("/{variant}") };
            format!("{os}/{architecture}{variant}")
        }
    };
    text.parse().map_err(|error: base::platform::PlatformError| wrong(error.to_string()))
}
