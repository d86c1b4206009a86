//! Images that come and go: from registries and to them, and as archives.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Response};
use base::reference::has_tag;
use base::{CancelToken, Platform, Reference};
use engine::Engine;
use engine::push::{PushRequest, PushedImage};
use engine::request::{Destination, ImportRequest, ImportSource, LoadSource, SaveFormat, SaveRequest};
use serde_json::json;

use super::super::credentials::Given;
use super::super::progress::{Lines, Words, told};
use super::super::query::Parameters;
use super::super::{Api, ApiError, piped};
use super::{named, platform, platforms};

/// Fetches an image, or makes one of an archive.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    parameters: Parameters,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let platform = platform(&parameters)?;
    let tag = parameters.get("tag").map(str::to_owned);
    if let Some(source) = parameters.get("fromSrc") {
        let name = parameters.get("repo").map(|repository| named(repository, tag.as_deref())).transpose()?;
        let source = source.to_owned();
        let (changes, message) = (parameters.all("changes"), parameters.get("message").map(str::to_owned));
        return told(&api, Words::PULL, move |engine, lines, cancel| {
            let source = match source.as_str() {
                "-" => ImportSource::Stream(Box::new(piped::reader(body))),
                url => ImportSource::Url(url.to_owned()),
            };
            let request = ImportRequest { source, name, changes, message, platform, epoch: None };
            let id = engine.import(request, cancel)?;
            lines.tell(&json!({ "status": id }));
            Ok(())
        })
        .await;
    }
    let image = parameters
        .get("fromImage")
        .ok_or_else(|| ApiError::bad_request("the name of the image is missing"))?;
    let image = image.to_owned();
    // Without a tag anywhere all of them are meant.
    let is_one = tag.is_some() || has_tag(&image);
    let name = named(&image, tag.as_deref())?;
    let credentials = Given::one(&headers)?;
    told(&api, Words::PULL, move |engine, lines, cancel| {
        let engine = engine.with_credentials(Arc::new(credentials));
        if is_one {
            return pull(&engine, &name, platform.as_ref(), lines, cancel);
        }
        for tag in engine.remote_tags(&image, cancel)? {
            let name = Reference { tag: Some(tag), ..name.clone() };
            pull(&engine, &name, platform.as_ref(), lines, cancel)?;
        }
        Ok(())
    })
    .await
}

/// Fetches one image. What is told has Docker's words.
fn pull(
    engine: &Engine,
    name: &Reference,
    platform: Option<&Platform>,
    lines: &Lines,
    cancel: &CancelToken,
) -> Result<(), ApiError> {
    let lines = lines.after(json!({
        "status": format!("Pulling from {}", name.repository),
        "id": name.tag.clone().or_else(|| name.digest.map(|digest| digest.to_string())).unwrap_or_default(),
    }));
    let pulled = engine.pull(&name.to_string(), platform, Arc::new(lines.clone()), cancel)?;
    let state = if pulled.up_to_date { "Image is up to date" } else { "Downloaded newer image" };
    lines.tell(&json!({ "status": format!("Digest: {}", pulled.digest) }));
    lines.tell(&json!({ "status": format!("Status: {state} for {}", name.familiar()) }));
    Ok(())
}

/// Sends an image to its registry.
pub(super) async fn push(
    State(api): State<Arc<Api>>,
    name: String,
    parameters: Parameters,
    headers: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let platform = platform(&parameters)?;
    let reference = named(&name, parameters.get("tag"))?;
    let is_one = parameters.get("tag").is_some() || has_tag(&name);
    let request =
        PushRequest { name: if is_one { reference.to_string() } else { name }, all_tags: !is_one, platform };
    let credentials = Given::one(headers)?;
    told(&api, Words::PUSH, move |engine, lines, cancel| {
        let engine = engine.with_credentials(Arc::new(credentials));
        let repository = Reference { tag: None, digest: None, ..reference };
        let lines = lines.after(json!({ "status": format!("The push refers to repository [{repository}]") }));
        for image in engine.push(&request, Arc::new(lines.clone()), cancel)? {
            tell_pushed(&lines, &image);
        }
        Ok(())
    })
    .await
}

fn tell_pushed(lines: &Lines, image: &PushedImage) {
    for blob in &image.blobs {
        lines.tell(
            &json!({ "status": blob.outcome.to_string(), "progressDetail": {}, "id": blob.digest.short() }),
        );
    }
    let tag = image.name.tag.clone().unwrap_or_else(|| image.name.manifest_name());
    lines.tell(&json!({ "status": format!("{tag}: digest: {} size: {}", image.digest, image.size) }));
    lines.tell(&json!({
        "progressDetail": {},
        "aux": { "Tag": tag, "Digest": image.digest, "Size": image.size },
    }));
}

/// Takes an archive with images.
pub(super) async fn load(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let platforms = platforms(&parameters, "platform")?;
    told(&api, Words::PULL, move |engine, lines, cancel| {
        let source = LoadSource::Stream(Box::new(piped::reader(body)));
        for image in engine.load(source, &platforms, cancel)? {
            let familiar =
                |name: &String| name.parse::<Reference>().map_or(name.clone(), |name| name.familiar());
            for name in image.names.iter().map(familiar) {
                lines.tell(&json!({ "stream": format!("Loaded image: {name}\n") }));
            }
            if image.names.is_empty() {
                lines.tell(&json!({ "stream": format!("Loaded image ID: {}\n", image.image_id) }));
            }
        }
        Ok(())
    })
    .await
}

/// Writes several images into one archive.
pub(super) async fn save_several(
    state: State<Arc<Api>>,
    parameters: Parameters,
) -> Result<Response<Body>, ApiError> {
    let names =
        parameters.all("names").iter().flat_map(|names| names.split(',')).map(str::to_owned).collect();
    save(state, names, parameters).await
}

/// Writes images into an archive.
pub(super) async fn save(
    State(api): State<Arc<Api>>,
    images: Vec<String>,
    parameters: Parameters,
) -> Result<Response<Body>, ApiError> {
    if images.is_empty() {
        return Err(ApiError::bad_request("no image is named"));
    }
    let platforms = platforms(&parameters, "platform")?;
    let body = piped::written(&api, move |engine, pipe, cancel| {
        let destination = Destination::Stream(Arc::new(Mutex::new(pipe)));
        engine.save(&SaveRequest { images, destination, format: SaveFormat::Docker, platforms }, cancel)
    });
    let mut response = Response::new(body.await?);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    Ok(response)
}
