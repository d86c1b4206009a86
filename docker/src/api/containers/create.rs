//! Making a container: what a client describes, in the engine's words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use base::Platform;
use base::reference::has_tag;
use bollard_stubs::models::{ContainerCreateBody, EndpointSettings, HealthConfig};
use engine::limits_here::Unlimited;
use engine::request::{
    ContainerNetwork, DeclaredStreams, HealthChoice, PullPolicy, RunRequest, SeccompChoice, SystemPaths,
};
use serde_json::{Value, json};

use super::super::query::Parameters;
use super::super::version::ApiVersion;
use super::super::{Api, ApiError, body};
use super::words::{Words, system_paths};

/// The shortest time between two checks of a container's health, as in Docker.
const SHORTEST: Duration = Duration::from_millis(1);

/// Fields that are a list of words, or one text for a shell.
const WORDS: [&str; 3] = ["Cmd", "Entrypoint", "Shell"];

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    version: axum::Extension<ApiVersion>,
    parameters: Parameters,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let document: Value = body::json(body).await?;
    let mut request = request(api.commands.create.as_ref(), document, *version)?;
    request.name = parameters.get("name").map(|name| name.strip_prefix('/').unwrap_or(name).to_owned());
    if let Some(platform) = parameters.get("platform") {
        request.platform =
            Some(platform.parse::<Platform>().map_err(|error| ApiError::bad_request(error.to_string()))?);
    }
    let image = request.image.clone();
    let made = api.ask(move |engine| {
        let mut warnings = Vec::new();
        if let Some(why) = engine.settle_network(&mut request.network)? {
            warnings.push(format!("the container shares the host's network: {why}"));
        }
        warnings.extend(engine.unlimited(&request.limits).unwrap_or_default().iter().map(warning));
        Ok((engine.create_container(&request)?, warnings))
    });
    let (id, warnings) = made.await.map_err(|error| no_such_image(error, &image))?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": id, "Warnings": warnings }))))
}

/// Docker's words for an image that is not here; clients fetch it when they read them.
fn no_such_image(error: ApiError, image: &str) -> ApiError {
    match error.message == format!("no such image: {image}") {
        true => ApiError::not_found(format!("No such image: {}", tagged(image))),
        false => error,
    }
}

fn tagged(image: &str) -> String {
    if has_tag(image) { image.to_owned() } else { format!("{image}:latest") }
}

fn warning(unlimited: &Unlimited) -> String {
    match unlimited {
        Unlimited::Controllers(names) => {
            format!("{} cannot be limited here: containers may use all there is", names.join(", "))
        }
        Unlimited::Swap => {
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
                .to_owned()
        }
    }
}

/// What the words of `lap create` mean.
pub type Create = dyn Fn(&[String]) -> Result<RunRequest, String> + Send + Sync;

/// What a document of a client asks for.
///
/// # Errors
/// It has not the shape that Docker's has, or asks for what there is not.
pub fn request(create: &Create, mut document: Value, version: ApiVersion) -> Result<RunRequest, ApiError> {
    if !document.is_object() {
        return Err(ApiError::bad_request("invalid JSON: the request is no object"));
    }
    for name in WORDS {
        if let Some(Value::String(text)) = document.get(name) {
            document[name] = json!([text]);
        }
    }
    // Where clients of before 1.44 say it.
    let mac_address = document.get("MacAddress").and_then(Value::as_str).map(str::to_owned);
    let config: ContainerCreateBody = serde_json::from_value(document)
        .map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))?;
    let image = config.image.clone().filter(|image| !image.is_empty());
    let image = image.ok_or_else(|| ApiError::bad_request("no image specified"))?;
    let mut host = config.host_config.clone().unwrap_or_default();
    let seccomp = take_profile(&mut host.security_opt)?;
    let mut words = Words::default();
    words.switch("--interactive", config.open_stdin);
    words.switch("--tty", config.tty);
    for (flag, value) in [
        ("--domainname", &config.domainname),
        ("--hostname", &config.hostname),
        ("--user", &config.user),
        ("--workdir", &config.working_dir),
        ("--stop-signal", &config.stop_signal),
        ("--mac-address", &mac_address),
    ] {
        words.text(flag, value.as_ref());
    }
    if let Some(seconds) = config.stop_timeout {
        words.add("--stop-timeout", seconds);
    }
    config.exposed_ports.iter().flatten().for_each(|port| words.add("--expose", port));
    for path in config.volumes.iter().flatten() {
        if path.contains(':') || !path.starts_with('/') {
            let message = format!("invalid volume specification: '{path}': it is no absolute path");
            return Err(ApiError::bad_request(message));
        }
        words.add("--volume", path);
    }
    let is_pair = |entry: &&String| entry.contains('=');
    config.env.iter().flatten().filter(is_pair).for_each(|entry| words.add("--env", entry));
    words.pairs("--label", config.labels.as_ref());
    host.security_opt.iter().flatten().for_each(|option| words.add("--security-opt", option));
    words.host_config(&host)?;
    let endpoints = config.networking_config.clone().and_then(|networking| networking.endpoints_config);
    let endpoints: Vec<(String, EndpointSettings)> = endpoints.unwrap_or_default().into_iter().collect();
    match config.network_disabled {
        Some(true) => words.add("--network", "none"),
        _ => words.networks(host.network_mode.as_deref().unwrap_or_default(), endpoints.clone(), version)?,
    }
    // Nobody here starts it.
    words.0.push("--detach".to_owned());
    // The image is set below, whatever it is called.
    words.0.push("image".to_owned());
    let mut request = create(&words.0).map_err(|error| ApiError::bad_request(plain(&error)))?;
    request.image = image;
    // Whatever the daemon's environment says.
    request.platform = None;
    request.command = config.cmd.clone().unwrap_or_default();
    request.entrypoint = config.entrypoint.clone().map(|words| match words.as_slice() {
        [only] if only.is_empty() => Vec::new(),
        _ => words,
    });
    request.env = environment(config.env.as_deref().unwrap_or_default())?;
    request.pull = PullPolicy::Never;
    if let Some(text) = seccomp {
        request.isolation.seccomp = SeccompChoice::Text(text);
    }
    let paths = system_paths(&host)?;
    if paths != SystemPaths::default() {
        request.isolation.system_paths = paths;
    }
    if let Some(health) = &config.healthcheck {
        request.supervision.health = self::health(health)?;
    }
    let size = |sides: &[usize]| match sides {
        [rows, columns] if *rows > 0 && *columns > 0 => {
            Some((u16::try_from(*rows).ok()?, u16::try_from(*columns).ok()?))
        }
        _ => None,
    };
    let is_attached = |stream: Option<bool>| stream == Some(true);
    request.supervision.streams = Some(DeclaredStreams {
        attached: [config.attach_stdin, config.attach_stdout, config.attach_stderr].map(is_attached),
        once: config.stdin_once == Some(true),
        console: host.console_size.as_deref().and_then(size),
    });
    add_links(&mut request, &endpoints);
    Ok(request)
}

/// Reads any bytes as the body of a call that makes or changes a container, up to the words of a command. For fuzzing.
pub fn read_any(bytes: &[u8]) -> bool {
    const UNREAD: &str = "nobody reads the words";
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else { return false };
    let changed =
        serde_json::from_value(document.clone()).is_ok_and(|wanted| super::update::changes(&wanted).is_ok());
    let versions = [ApiVersion::OLDEST, ApiVersion::NEWEST];
    let made =
        versions.map(|version| match request(&|_| Err(UNREAD.to_owned()), document.clone(), version) {
            Ok(_) => true,
            Err(error) => error.message == UNREAD,
        });
    changed | made[0] | made[1]
}

/// What is said on the command line stands in a call here.
fn plain(error: &str) -> String {
    let text = error.trim();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.lines().next().unwrap_or_default().to_owned()
}

/// The variables. Without a value one takes that of the image away.
fn environment(entries: &[String]) -> Result<Vec<String>, ApiError> {
    if let Some(bad) = entries.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        return Err(ApiError::bad_request(format!("invalid environment variable: {bad}")));
    }
    if let Some(bad) = entries.iter().find(|entry| entry.contains('\0')) {
        return Err(ApiError::bad_request(format!("invalid environment variable: {bad:?}")));
    }
    Ok(entries.to_vec())
}

/// Takes a system call profile out of the security options: clients send what is in it, not the path of a file.
fn take_profile(options: &mut Option<Vec<String>>) -> Result<Option<String>, ApiError> {
    let mut found = None;
    for option in options.take().into_iter().flatten() {
        let profile = option.strip_prefix("seccomp=").or_else(|| option.strip_prefix("seccomp:"));
        match profile {
            Some("unconfined" | "builtin") | None => options.get_or_insert_default().push(option),
            Some(text) if text.trim_start().starts_with('{') => found = Some(text.to_owned()),
            Some(text) => {
                let message = format!(
                    "Decoding seccomp profile failed: {text:?} is no profile, but a client sends what is in its file"
                );
                return Err(ApiError::bad_request(message));
            }
        }
    }
    Ok(found)
}

fn health(config: &HealthConfig) -> Result<HealthChoice, ApiError> {
    let time = |name: &str, value: Option<i64>| match value {
        None | Some(0) => Ok(None),
        Some(nanoseconds) => match u64::try_from(nanoseconds).map(Duration::from_nanos) {
            Ok(time) if time >= SHORTEST => Ok(Some(time)),
            _ => Err(ApiError::bad_request(format!("{name} in Healthcheck cannot be less than 1ms"))),
        },
    };
    let retries = config.retries.unwrap_or(0);
    let retries = u32::try_from(retries)
        .map_err(|_| ApiError::bad_request("Retries in Healthcheck cannot be negative"))?;
    let test = config.test.clone().filter(|test| !test.is_empty());
    Ok(HealthChoice {
        disabled: test.as_ref().is_some_and(|test| test[0] == "NONE"),
        test,
        interval: time("Interval", config.interval)?,
        timeout: time("Timeout", config.timeout)?,
        start_period: time("StartPeriod", config.start_period)?,
        start_interval: time("StartInterval", config.start_interval)?,
        retries: Some(retries).filter(|retries| *retries > 0),
    })
}

/// What no word says: the names that a container has for others in a network of its own.
fn add_links(request: &mut RunRequest, endpoints: &[(String, EndpointSettings)]) {
    let ContainerNetwork::Named(uses) = &mut request.network.mode else { return };
    let by_name: BTreeMap<&str, &EndpointSettings> =
        endpoints.iter().map(|(name, settings)| (name.as_str(), settings)).collect();
    for network in uses {
        let links = by_name.get(network.network.as_str()).and_then(|settings| settings.links.as_ref());
        for link in links.into_iter().flatten() {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            network.links.push((name.to_owned(), alias.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_taken_out_of_the_options() {
        let take = |options: &[&str]| {
            let mut options = Some(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>());
            take_profile(&mut options).map(|found| (found, options.unwrap())).map_err(|error| error.message)
        };
        let (found, left) = take(&["seccomp={\"a\":1}", "no-new-privileges"]).unwrap();
        assert_eq!((found.as_deref(), left), (Some("{\"a\":1}"), vec!["no-new-privileges".to_owned()]));
        assert_eq!(take(&["seccomp=unconfined"]).unwrap().1, ["seccomp=unconfined"]);
        // A path would be one of the daemon's machine.
        assert!(take(&["seccomp=/etc/shadow"]).unwrap_err().contains("/etc/shadow"));
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let whole = r#"{"Image":"x","Cmd":"a","Env":["A=1"],"HostConfig":{"Binds":["/a:/b"],"Mounts":[{"Type":"tmpfs","Target":"/t"}],"PortBindings":{"80/tcp":[{"HostPort":"8"}]},"RestartPolicy":{"Name":"always"},"NanoCpus":1},"NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":["a"]}}}}"#;
        assert!(read_any(whole.as_bytes()));
        let mut state = 1_u64;
        let mut dice = |sides: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % sides
        };
        for _ in 0..20_000 {
            let mut bytes = whole.as_bytes().to_vec();
            for _ in 0..=dice(4) {
                let place = dice(bytes.len());
                match dice(3) {
                    0 => bytes[place] = (dice(256)) as u8,
                    1 => drop(bytes.drain(place..(place + dice(9)).min(bytes.len()))),
                    _ => bytes.insert(place, b"0\"[]{},:-n/"[dice(11)]),
                }
            }
            read_any(&bytes);
        }
    }

    #[test]
    fn variables_have_names() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(environment(&texts(&["A=1", "B", "C="])).unwrap().len(), 3);
        for bad in ["", "=x", "a=\0"] {
            assert!(environment(&texts(&[bad])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn checks_of_health_have_bounds() {
        let check = |interval, retries| {
            health(&HealthConfig {
                interval: Some(interval),
                retries: Some(retries),
                ..HealthConfig::default()
            })
        };
        assert_eq!(check(1_000_000, 3).unwrap().interval, Some(SHORTEST));
        assert!(check(5, 3).is_err() && check(-1, 3).is_err() && check(0, -1).is_err());
        let off = HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() };
        assert!(health(&off).unwrap().disabled);
    }

    #[test]
    fn images_have_tags_in_messages() {
        assert_eq!(tagged("busybox"), "busybox:latest");
        for whole in ["busybox:1", "host:5000/a:b", "a@sha256:00"] {
            assert_eq!(tagged(whole), whole);
        }
        assert_eq!(tagged("host:5000/a"), "host:5000/a:latest");
    }
}
