//! What the build of a service is in the words of `lap build`.

use std::path::Path;

use crate::error::ComposeError;
use crate::flags::{label, size, ulimit};
use crate::model::{FileSource, Project, Service, pairs};
use crate::yaml::Node;

/// The build of a service's image.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// The words of `lap build`, the context last.
    pub words: Vec<String>,
    /// The text of the Dockerfile, if the project has it.
    pub dockerfile: Option<String>,
    /// Secrets that are no files, by id.
    pub secrets: Vec<(String, String)>,
    /// The services whose images it needs.
    pub needs: Vec<String>,
}

impl std::fmt::Debug for BuildSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildSpec")
            .field("words", &self.words)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

/// The build of a service; `None` for one whose image is not built.
///
/// # Errors
/// A part of it that there is not here.
pub fn build(project: &Project, service: &Service) -> Result<Option<BuildSpec>, ComposeError> {
    let Some(node) = service.node.get("build") else { return Ok(None) };
    let text = |key: &str| node.get(key).and_then(Node::text);
    let texts = |key: &str| node.get(key).map_or(&[][..], Node::items).iter().filter_map(Node::text);
    let mut words = vec![format!("--tag={}", service.image(&project.name))];
    let mut add = |flag: &str, value: String| words.push(format!("{flag}={value}"));
    texts("tags").for_each(|tag| add("--tag", tag));
    let context = text("context").unwrap_or_else(|| ".".to_owned());
    let dockerfile = text("dockerfile_inline");
    if let (Some(file), None) = (text("dockerfile"), &dockerfile) {
        // Relative to the context, if that is a directory here.
        let is_here = context.starts_with('/') && !base::git_url::is_http(&file);
        let path = Path::new(&context).join(&file).to_string_lossy().into_owned();
        add("--file", if is_here { path } else { file });
    }
    for (name, value) in node.get("args").and_then(Node::map).into_iter().flatten() {
        add("--build-arg", value.text().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
    }
    pairs(node.get("labels")).into_iter().for_each(|pair| add("--label", pair));
    add("--label", format!("{}={}", label::PROJECT, project.name));
    add("--label", format!("{}={}", label::SERVICE, service.name));
    for (key, flag) in [
        ("cache_from", "--cache-from"),
        ("cache_to", "--cache-to"),
        ("entitlements", "--allow"),
        ("extra_hosts", "--add-host"),
        ("ssh", "--ssh"),
    ] {
        texts(key).for_each(|value| add(flag, value));
    }
    let platforms: Vec<String> = texts("platforms").collect();
    let platforms =
        if platforms.is_empty() { service.text("platform").into_iter().collect() } else { platforms };
    platforms.into_iter().for_each(|platform| add("--platform", platform));
    text("provenance").into_iter().for_each(|told| add("--provenance", told));
    text("sbom").into_iter().for_each(|told| add("--sbom", told));
    text("target").into_iter().for_each(|target| add("--target", target));
    text("network").into_iter().for_each(|network| add("--network", network));
    size(node.get("shm_size")).into_iter().for_each(|size| add("--shm-size", size));
    for (name, limit) in node.get("ulimits").and_then(Node::map).into_iter().flatten() {
        add("--ulimit", ulimit(name, limit));
    }
    let needs = contexts(project, node, &mut add);
    let secrets = secrets(project, node, &mut add);
    let is = |key: &str| node.get(key).and_then(Node::bool) == Some(true);
    if is("privileged") {
        add("--allow", "security.insecure".to_owned());
    }
    if is("pull") {
        add("--pull", "always".to_owned());
    }
    if is("no_cache") {
        words.push("--no-cache".to_owned());
    }
    words.push(context);
    Ok(Some(BuildSpec { words, dockerfile, secrets, needs }))
}

/// Further contexts; answers the services whose images are some.
fn contexts(project: &Project, node: &Node, add: &mut impl FnMut(&str, String)) -> Vec<String> {
    let mut needs = Vec::new();
    for (name, value) in node.get("additional_contexts").and_then(Node::map).into_iter().flatten() {
        let value = value.text().unwrap_or_default();
        let value = match value.strip_prefix("service:") {
            Some(other) => {
                needs.push(other.to_owned());
                let image = project.services.get(other).map(|service| service.image(&project.name));
                format!("docker-image://{}", image.unwrap_or_else(|| other.to_owned()))
            }
            None => value,
        };
        add("--build-context", format!("{name}={value}"));
    }
    needs
}

/// Secrets that are files become flags; answers the others.
fn secrets(project: &Project, node: &Node, add: &mut impl FnMut(&str, String)) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for entry in node.get("secrets").map_or(&[][..], Node::items) {
        let text = |key: &str| entry.get(key).and_then(Node::text);
        let name = text("source").unwrap_or_default();
        let id = text("target").unwrap_or_else(|| name.clone());
        match project.secrets.get(&name) {
            Some(FileSource::File(path)) => add("--secret", format!("id={id},src={}", path.display())),
            Some(FileSource::Value(value)) => values.push((id, value.0.clone())),
            // Both were refused when the project was read.
            Some(FileSource::Unset(_) | FileSource::External) | None => {}
        }
    }
    values
}
