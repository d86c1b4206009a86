//! Building by Docker's older calls: the context comes as an archive in the body, and what the steps say goes back as lines.
//!
//! Clients that build with BuildKit do not come here: they take their connection over (`/grpc`).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use base::event::{Event, EventSink, Outcome};
use base::fault::chain;
use base::git_url::is_http;
use base::{CancelToken, Digest, Fault, Faulty as _, GitUrl};
use engine::error::{BuildError, EngineError, StepError};
use engine::request::{BuildRequest, ContextSource, DockerfileSource};
use engine::{Policy, SpaceLimits};
use serde_json::{Value, json};

use super::credentials::Given;
use super::progress::{Lines, Words, told};
use super::query::Parameters;
use super::{Api, ApiError, piped};
use crate::filters::Filters;

/// What the words of `lap build` mean for a context and a Dockerfile.
pub type Build =
    dyn Fn(&[String], ContextSource, DockerfileSource) -> Result<BuildRequest, String> + Send + Sync;

/// What is not a step of the Dockerfile begins so.
const INTERNAL: &str = "[internal]";

/// The builds that clients may cancel by the names that they gave them.
pub(super) type Running = Mutex<HashMap<String, CancelToken>>;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/build", post(build))
        .route("/build/cancel", post(cancel))
        .route("/build/prune", post(prune))
}

async fn build(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    parameters: Parameters,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    if parameters.get("version") == Some("2") {
        return Err(ApiError::bad_request("builds with a session are BuildKit's, which is not served here"));
    }
    let words = words(&parameters)?;
    let context = remote(&parameters)?;
    let name = parameters.get("dockerfile").map(str::to_owned);
    let quiet = parameters.is_true("q");
    let id = parameters.get("buildid").map(str::to_owned);
    let credentials = Given::all(&headers)?;
    let builder = Arc::clone(&api);
    told(&api, Words::PULL, move |engine, lines, cancel| {
        let engine = engine.with_credentials(Arc::new(credentials));
        let scratch = engine.scratch()?;
        let (context, dockerfile) = match context {
            Some(context) => (context, name.map_or(DockerfileSource::Default, DockerfileSource::InContext)),
            None => {
                let path = scratch.path().join("context");
                let failed = |error: std::io::Error| {
                    ApiError::bad_request(format!("cannot read the build context: {error}"))
                };
                let mut file =
                    File::create_new(&path).map_err(|error| ApiError::internal(error.to_string()))?;
                std::io::copy(&mut piped::reader(body), &mut file).map_err(failed)?;
                (
                    ContextSource::Archive(path),
                    name.map_or(DockerfileSource::Default, DockerfileSource::InContext),
                )
            }
        };
        let request = (builder.commands.build)(&words, context, dockerfile).map_err(ApiError::bad_request)?;
        let _cancellable = id.map(|id| Cancellable::new(&builder, id, cancel.clone()));
        let steps = Arc::new(Steps { lines: lines.clone(), names: Mutex::default(), quiet });
        match engine.build(&request, steps, cancel) {
            Ok(report) => {
                for target in &report.targets {
                    if quiet {
                        lines.tell(&json!({ "stream": format!("{}\n", target.image_id) }));
                        continue;
                    }
                    lines.tell(&json!({ "aux": { "ID": target.image_id } }));
                    lines.tell(
                        &json!({ "stream": format!("Successfully built {}\n", target.image_id.short()) }),
                    );
                    let familiar = |name: &String| {
                        name.parse::<base::Reference>().map_or(name.clone(), |name| name.familiar())
                    };
                    for name in target.names.iter().map(familiar) {
                        lines.tell(&json!({ "stream": format!("Successfully tagged {name}\n") }));
                    }
                }
                Ok(())
            }
            Err(error) => failed(lines, &error),
        }
    })
    .await
}

/// Tells why a build failed: among the lines if there were some, else as the call's error.
fn failed(lines: &Lines, error: &BuildError) -> Result<(), ApiError> {
    let (message, code) = match error {
        BuildError::Dockerfile(problem) => return Err(ApiError::bad_request(problem.lines().join("\n"))),
        BuildError::Step { name, error, .. } => match error.as_ref() {
            StepError::Process { command, status, .. } => {
                let code = status.strip_prefix("exit code: ").and_then(|code| code.parse::<i32>().ok());
                let ended = code.map_or(status.clone(), |code| format!("returned a non-zero code: {code}"));
                (format!("The command '{command}' {ended}"), code)
            }
            error => (format!("{name}: {}", chain(error)), None),
        },
        other => (chain(other), None),
    };
    if !lines.have_begun() {
        let status = if error.fault() == Fault::Input {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        return Err(ApiError::new(status, message));
    }
    let mut detail = json!({ "message": message });
    if let Some(code) = code {
        detail["code"] = code.into();
    }
    lines.tell(&json!({ "errorDetail": detail, "error": message }));
    Ok(())
}

/// A build that can be cancelled by its name for as long as this lives.
struct Cancellable {
    api: Arc<Api>,
    id: String,
}

impl Cancellable {
    fn new(api: &Arc<Api>, id: String, cancel: CancelToken) -> Self {
        api.builds.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), cancel);
        Self { api: Arc::clone(api), id }
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        self.api.builds.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

async fn cancel(State(api): State<Arc<Api>>, parameters: Parameters) -> Result<StatusCode, ApiError> {
    let id = parameters.get("id").ok_or_else(|| ApiError::bad_request("build ID not provided"))?;
    if let Some(cancel) = api.builds.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
        cancel.cancel();
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Where the context is, if it is not in the body.
fn remote(parameters: &Parameters) -> Result<Option<ContextSource>, ApiError> {
    let Some(text) = parameters.get("remote") else { return Ok(None) };
    let wrong = |why: String| ApiError::bad_request(format!("unable to prepare context: {text}: {why}"));
    match GitUrl::parse_context(text).map_err(|error| wrong(error.to_string()))? {
        Some(url) => Ok(Some(ContextSource::Git(url))),
        None if is_http(text) => Ok(Some(ContextSource::Url(text.to_owned()))),
        None => Err(wrong("it is neither a repository nor a file of the web".to_owned())),
    }
}

/// The words of `lap build` for what a client asks.
fn words(parameters: &Parameters) -> Result<Vec<String>, ApiError> {
    let mut words = Vec::new();
    let mut add = |flag: &str, value: &str| words.push(format!("--{flag}={value}"));
    for name in parameters.all("t").iter().filter(|name| !name.is_empty()) {
        // A name with a stage in front is for our own command line.
        if name.contains('=') {
            return Err(ApiError::bad_request(format!("invalid reference format: {name:?}")));
        }
        add("tag", name);
    }
    for (name, value) in map(parameters, "buildargs")? {
        // What has no value is nobody's: the daemon's own environment is not the client's.
        if let Some(value) = value {
            add("build-arg", &format!("{name}={value}"));
        }
    }
    for (name, value) in map(parameters, "labels")? {
        add("label", &format!("{name}={}", value.unwrap_or_default()));
    }
    for image in list(parameters, "cachefrom")? {
        if image.contains(['=', ',']) {
            return Err(ApiError::bad_request(format!("invalid reference format: {image:?}")));
        }
        add("cache-from", &image);
    }
    for host in
        parameters.all("extrahosts").iter().flat_map(|hosts| hosts.split(',')).filter(|host| !host.is_empty())
    {
        add("add-host", host);
    }
    if let Some(text) = parameters.get("ulimits") {
        let wrong = |_| ApiError::bad_request("invalid ulimits: they are no list of limits");
        let limits: Vec<bollard_stubs::models::ResourcesUlimits> =
            serde_json::from_str(text).map_err(wrong)?;
        for limit in limits {
            let (name, soft, hard) =
                (limit.name.unwrap_or_default(), limit.soft.unwrap_or(0), limit.hard.unwrap_or(0));
            add("ulimit", &format!("{name}={soft}:{hard}"));
        }
    }
    for (name, flag) in [
        ("target", "target"),
        ("platform", "platform"),
        ("shmsize", "shm-size"),
        ("memory", "memory"),
        ("memswap", "memory-swap"),
        ("cpushares", "cpu-shares"),
        ("cpuperiod", "cpu-period"),
        ("cpuquota", "cpu-quota"),
        ("cpusetcpus", "cpuset-cpus"),
        ("cpusetmems", "cpuset-mems"),
        ("cgroupparent", "cgroup-parent"),
    ] {
        if let Some(value) = parameters.get(name).filter(|value| *value != "0") {
            add(flag, value);
        }
    }
    match parameters.get("networkmode") {
        None | Some("default" | "bridge") => {}
        Some("host") => {
            add("network", "host");
            add("allow", "network.host");
        }
        Some(mode) => add("network", mode),
    }
    for (name, flag) in [("nocache", "no-cache"), ("pull", "pull"), ("squash", "squash")] {
        if parameters.is_true(name) {
            words.push(format!("--{flag}"));
        }
    }
    Ok(words)
}

/// A map in JSON, of texts or of nothing.
fn map(parameters: &Parameters, name: &str) -> Result<BTreeMap<String, Option<String>>, ApiError> {
    let wrong = |_| ApiError::bad_request(format!("invalid {name}: it is no map of texts"));
    parameters.get(name).map_or(Ok(BTreeMap::new()), |text| {
        Ok(serde_json::from_str::<Option<_>>(text).map_err(wrong)?.unwrap_or_default())
    })
}

/// A list in JSON.
fn list(parameters: &Parameters, name: &str) -> Result<Vec<String>, ApiError> {
    let wrong = |_| ApiError::bad_request(format!("invalid {name}: it is no list of texts"));
    parameters.get(name).map_or(Ok(Vec::new()), |text| {
        Ok(serde_json::from_str::<Option<_>>(text).map_err(wrong)?.unwrap_or_default())
    })
}

/// Tells of steps as Docker's first builder did.
struct Steps {
    lines: Lines,
    names: Mutex<HashMap<Digest, String>>,
    quiet: bool,
}

impl Steps {
    fn tell(&self, text: &str) {
        if !self.quiet {
            self.lines.tell(&json!({ "stream": text }));
        }
    }

    /// `Step 2/3 : RUN make`, of `[stage 2/3] RUN make`; nothing for what is no step.
    fn title(&self, vertex: &Digest) -> Option<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let name = names.get(vertex).filter(|name| !name.starts_with(INTERNAL))?;
        let (place, step) = name.strip_prefix('[')?.split_once("] ")?;
        let number = place.rsplit(' ').next()?;
        number.contains('/').then(|| format!("Step {number} : {step}\n"))
    }
}

impl EventSink for Steps {
    fn emit(&self, event: Event) {
        match event {
            Event::VertexDeclared { vertex, name, .. } => {
                self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(vertex, name);
            }
            Event::VertexStarted { vertex, .. } => {
                if let Some(title) = self.title(&vertex) {
                    self.tell(&title);
                }
            }
            Event::VertexCompleted { vertex, outcome: Outcome::Cached, .. } => {
                if let Some(title) = self.title(&vertex) {
                    self.tell(&format!("{title} ---> Using cache\n"));
                }
            }
            Event::Log { data, .. } => self.tell(&String::from_utf8_lossy(&data)),
            Event::Warning { message, excerpt, .. } => {
                let excerpt = if excerpt.is_empty() { excerpt } else { format!("{excerpt}\n") };
                self.tell(&format!("[Warning] {message}\n{excerpt}"));
            }
            _ => {}
        }
    }
}

/// Removes build cache.
async fn prune(State(api): State<Arc<Api>>, parameters: Parameters) -> Result<Json<Value>, ApiError> {
    let now = engine::now();
    let filters = Filters::parse(&parameters.filters()?, now)?;
    let bytes = |name: &str| Ok::<_, ApiError>(parameters.number::<u64>(name)?.filter(|bytes| *bytes > 0));
    let reserved = match bytes("reserved-space")? {
        Some(bytes) => Some(bytes),
        None => bytes("keep-storage")?,
    };
    let limits =
        SpaceLimits { reserved, max_used: bytes("max-used-space")?, min_free: bytes("min-free-space")? };
    let unused_for = Some(filters.unused_for(now)?);
    let policy = Policy { filters: filters.records, unused_for, all: parameters.is_true("all"), limits };
    let pruned = api.ask(move |engine| {
        let pruned = engine.prune(None, policy)?;
        let removed = pruned.cache.clone();
        Ok::<_, EngineError>((removed, pruned.remove_files()?))
    });
    let (removed, bytes) = pruned.await?;
    Ok(Json(json!({ "CachesDeleted": removed, "SpaceReclaimed": bytes })))
}
