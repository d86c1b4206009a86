//! `POST /build?version=2`: how Docker's own command built with BuildKit before it had buildx (18.09 to 22). The client's files come by its
//! session (`/session`); what is told goes back as lines of JSON with BuildKit's messages in them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::IntoResponse as _;
use base::Reference;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use docker::ApiError;
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use crate::attributes::SENT;
use crate::builds::Builds;
use crate::follow;
use crate::proto::control::{CacheOptions, CacheOptionsEntry, Exporter, SolveRequest};

/// How many lines wait for a slow client.
const WAITING: usize = 64;

/// The context comes by the session.
const OF_SESSION: &str = "client-session";

/// The context comes by another call, whose name of the build begins so, too.
const OF_UPLOAD: &str = "upload-request";

/// An output as the client names it.
#[derive(Deserialize)]
struct Output {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Attrs", default)]
    attributes: Option<HashMap<String, String>>,
}

/// Whether a build is one of these.
pub(crate) fn is_wanted(query: Option<&str>) -> bool {
    parameters(query).any(|(name, value)| name == "version" && value == "2")
}

/// Takes the context of a build, or builds and answers with what is told until the end.
pub(crate) async fn build(builds: &Arc<Builds>, query: Option<&str>, body: Body) -> Response<Body> {
    let name = parameters(query).find(|(name, _)| name == "buildid").map(|(_, value)| value);
    if let Some(id) = name.as_deref().and_then(|name| name.strip_prefix(SENT)) {
        return match builds.uploads.offer(id, body).await {
            Ok(()) => Response::new(Body::empty()),
            Err(why) => ApiError::bad_request(why).into_response(),
        };
    }
    let request = match request(query) {
        Ok(request) => request,
        Err(error) => return error.into_response(),
    };
    // Who wants to read only the image's id finds it among what is told to people.
    let quiet =
        parameters(query).any(|(name, value)| name == "q" && !matches!(value.as_str(), "" | "0" | "false"));
    let (sender, receiver) = channel::<Result<Bytes, std::io::Error>>(WAITING);
    let builds = Arc::clone(builds);
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            // With the client its build goes.
            () = closed.closed() => {}
            () = run(&builds, request, quiet, &sender) => {}
        }
    });
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(receiver)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn run(
    builds: &Arc<Builds>,
    request: SolveRequest,
    quiet: bool,
    sender: &Sender<Result<Bytes, std::io::Error>>,
) {
    let id = request.r#ref.clone();
    let told = async {
        let Ok(build) = builds.get(&id).await else { return };
        let mut messages = follow::status(Arc::clone(&build.status));
        while let Some(Ok(message)) = messages.next().await {
            let aux = BASE64_STANDARD.encode(message.encode_to_vec());
            tell(sender, &json!({ "id": "moby.buildkit.trace", "aux": aux })).await;
        }
    };
    let (result, ()) = tokio::join!(builds.run(request, None), told);
    let last = match result {
        Ok(response) => {
            let id = response
                .get("containerimage.config.digest")
                .or_else(|| response.get("containerimage.digest"));
            let Some(id) = id else { return };
            if quiet {
                tell(sender, &json!({ "stream": format!("{id}\n") })).await;
            }
            json!({ "id": "moby.image.id", "aux": { "ID": id } })
        }
        Err(status) => json!({ "errorDetail": { "message": status.message() }, "error": status.message() }),
    };
    tell(sender, &last).await;
}

async fn tell(sender: &Sender<Result<Bytes, std::io::Error>>, value: &Value) {
    // Who has gone misses nothing.
    let _ = sender.send(Ok(format!("{value}\r\n").into())).await;
}

fn parameters(query: Option<&str>) -> impl Iterator<Item = (String, String)> + '_ {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// What a client asks, as BuildKit's clients say it.
fn request(query: Option<&str>) -> Result<SolveRequest, ApiError> {
    let wrong = |name: &str| ApiError::bad_request(format!("invalid {name}: it is no JSON of that kind"));
    let (mut attributes, mut names, mut hosts) = (HashMap::new(), Vec::new(), Vec::new());
    let mut request = SolveRequest { frontend: "dockerfile.v0".to_owned(), ..SolveRequest::default() };
    let mut outputs: Vec<Output> = Vec::new();
    let mut imports = Vec::new();
    let (mut is_pulled, mut is_uploaded) = (false, false);
    for (name, value) in parameters(query).filter(|(_, value)| !value.is_empty()) {
        let is_true = !matches!(value.as_str(), "0" | "false");
        let mut set = |name: &str, value: &str| drop(attributes.insert(name.to_owned(), value.to_owned()));
        match name.as_str() {
            "session" => request.session = value,
            "buildid" => request.r#ref = value,
            "t" => {
                let name: Reference = value
                    .parse()
                    .map_err(|error| ApiError::bad_request(format!("invalid reference format: {error}")))?;
                names.push(name.to_string());
            }
            "remote" if value == OF_SESSION => {}
            "remote" if value == OF_UPLOAD => is_uploaded = true,
            "remote" => set("context", &value),
            "dockerfile" => set("filename", &value),
            "target" | "platform" => set(&name, &value),
            "shmsize" if value != "0" => set("shm-size", &value),
            "cgroupparent" => set("cgroup-parent", &value),
            "networkmode" if matches!(value.as_str(), "host" | "none") => {
                set("force-network-mode", &value);
                if value == "host" {
                    request.entitlements.push("network.host".to_owned());
                }
            }
            "nocache" if is_true => set("no-cache", ""),
            "pull" => is_pulled = is_true,
            "extrahosts" => hosts.extend(value.split(',').map(|host| host.replacen(':', "=", 1))),
            "buildargs" | "labels" => {
                let prefix = if name == "labels" { "label" } else { "build-arg" };
                let map: HashMap<String, Option<String>> =
                    serde_json::from_str(&value).map_err(|_| wrong(&name))?;
                map.iter().for_each(|(name, value)| {
                    if let Some(value) = value {
                        set(&format!("{prefix}:{name}"), value);
                    }
                });
            }
            "cachefrom" => {
                let images: Vec<String> = serde_json::from_str(&value).map_err(|_| wrong(&name))?;
                imports.extend(images.into_iter().map(|image| CacheOptionsEntry {
                    r#type: "registry".to_owned(),
                    attrs: HashMap::from([("ref".to_owned(), image)]),
                }));
            }
            "outputs" => outputs = serde_json::from_str(&value).map_err(|_| wrong(&name))?,
            _ => {}
        }
    }
    if request.session.is_empty() {
        return Err(ApiError::bad_request("this kind of build needs a session"));
    }
    if request.r#ref.is_empty() {
        request.r#ref.clone_from(&request.session);
    }
    if is_uploaded {
        attributes.insert("context".to_owned(), format!("{SENT}{}", request.r#ref));
    }
    if !hosts.is_empty() {
        attributes.insert("add-hosts".to_owned(), hosts.join(","));
    }
    let mode = if is_pulled { "pull" } else { "local" };
    attributes.insert("image-resolve-mode".to_owned(), mode.to_owned());
    request.frontend_attrs = attributes;
    request.cache = Some(CacheOptions { imports, ..CacheOptions::default() });
    request.exporters = outputs
        .into_iter()
        .map(|output| Exporter { r#type: output.kind, attrs: output.attributes.unwrap_or_default() })
        .collect();
    if request.exporters.is_empty() {
        request.exporters.push(Exporter { r#type: "moby".to_owned(), attrs: HashMap::new() });
    }
    for exporter in request.exporters.iter_mut().filter(|exporter| exporter.r#type == "moby") {
        exporter.attrs.entry("name".to_owned()).or_insert_with(|| names.join(","));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_attributes() {
        let query = "version=2&session=s&buildid=b&t=a&t=b:1&remote=client-session&dockerfile=D&nocache=1&pull=1&target=x\
                     &buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D&labels=%7B%22l%22%3A%22v%22%7D&extrahosts=db:10.0.0.5\
                     &networkmode=default&cachefrom=%5B%22c%22%5D&shmsize=0";
        assert!(is_wanted(Some(query)) && !is_wanted(Some("version=1")) && !is_wanted(None));
        let request = request(Some(query)).unwrap();
        assert_eq!((request.r#ref.as_str(), request.session.as_str()), ("b", "s"));
        let mut attributes: Vec<_> =
            request.frontend_attrs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        attributes.sort();
        assert_eq!(
            attributes,
            [
                "add-hosts=db=10.0.0.5",
                "build-arg:A=1",
                "filename=D",
                "image-resolve-mode=pull",
                "label:l=v",
                "no-cache=",
                "target=x"
            ]
        );
        assert_eq!(request.exporters[0].attrs["name"], "docker.io/library/a:latest,docker.io/library/b:1");
    }

    #[test]
    fn what_is_no_such_build_is_refused() {
        for query in ["version=2", "session=s&t=UPPER", "session=s&buildargs=x", "session=s&outputs=7"] {
            assert!(request(Some(query)).is_err(), "{query}");
        }
    }
}
