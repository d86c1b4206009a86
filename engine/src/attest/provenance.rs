//! Where an image came from: SLSA provenance.
//!
//! Source: slsa.dev, "Provenance" v0.2 and v1; BuildKit, `docs/attestations/slsa-definitions.md`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use base::{Platform, Reference};
use frontend::LoweredImage;
use llb::{Graph, Input, MountKind, Op, SourceOp, VertexIndex};
use serde_json::{Map, Value, json};

use super::{Predicate, digest_set, package_url};
use crate::assemble::Assembly;
use crate::build::DefinitionFile;
use crate::history::without_secrets;
use crate::remote::without_credentials;
use crate::request::{ContextSource, ProvenanceMode, ProvenanceOptions, ProvenanceVersion};

const TYPE_V02: &str = "https://slsa.dev/provenance/v0.2";
const TYPE_V1: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";
const BUILD_TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const METADATA_V02: &str = "https://mobyproject.org/buildkit@v1#metadata";

/// The provenance of one image.
pub(super) fn predicate(
    assembly: &Assembly<'_>,
    lowered: &LoweredImage,
    options: &ProvenanceOptions,
) -> Predicate {
    let graph = lowered.graph.as_ref();
    let facts = Facts { assembly, graph, steps: reached(graph, lowered.target), options };
    let (kind, content) = match options.version {
        ProvenanceVersion::V02 => (TYPE_V02, facts.v02()),
        ProvenanceVersion::V1 => (TYPE_V1, facts.v1()),
    };
    let file = options.filename.clone().unwrap_or_else(|| "provenance.json".to_owned());
    Predicate { kind, file, inline_only: options.inline_only, content: Arc::new(content), subjects: None }
}

/// The steps that a result needs, inputs before those that use them.
fn reached(graph: &Graph, target: Option<Input>) -> Vec<VertexIndex> {
    let mut wanted: HashSet<VertexIndex> = HashSet::new();
    let mut waiting: Vec<VertexIndex> = target.into_iter().map(|target| target.vertex).collect();
    while let Some(step) = waiting.pop() {
        if wanted.insert(step) {
            waiting.extend(graph.inputs(step).into_iter().map(|input| input.vertex));
        }
    }
    graph.topological().iter().copied().filter(|step| wanted.contains(step)).collect()
}

struct Facts<'a> {
    assembly: &'a Assembly<'a>,
    graph: &'a Graph,
    steps: Vec<VertexIndex>,
    options: &'a ProvenanceOptions,
}

impl Facts<'_> {
    fn is_max(&self) -> bool {
        self.options.mode == ProvenanceMode::Max
    }

    fn v02(&self) -> Value {
        let mut predicate = json!({
            "builder": { "id": self.options.builder_id },
            "buildType": BUILD_TYPE_V02,
            "materials": self.materials(),
            "invocation": {
                "configSource": self.config_source("entryPoint"),
                "parameters": self.parameters(),
                "environment": { "platform": Platform::host().to_string() },
            },
            "metadata": {
                "buildInvocationID": self.invocation(),
                "buildStartedOn": self.assembly.progress.begun().to_string(),
                "buildFinishedOn": self.assembly.engine.clock.now().to_string(),
                "completeness": {
                    "parameters": self.has_all_parameters(),
                    "environment": true,
                    "materials": self.has_all_materials(),
                },
                "reproducible": self.options.reproducible,
                METADATA_V02: self.metadata(),
            },
        });
        if self.is_max() {
            predicate["buildConfig"] = self.build_config();
        }
        predicate
    }

    fn v1(&self) -> Value {
        let mut internal = json!({ "builderPlatform": Platform::host().to_string() });
        if self.is_max() {
            internal["buildConfig"] = self.build_config();
        }
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE_V1,
                "externalParameters": {
                    "configSource": self.config_source("path"),
                    "request": self.parameters(),
                },
                "internalParameters": internal,
                "resolvedDependencies": self.materials(),
            },
            "runDetails": {
                "builder": { "id": self.options.builder_id },
                "metadata": {
                    "invocationId": self.invocation(),
                    "startedOn": self.assembly.progress.begun().to_string(),
                    "finishedOn": self.assembly.engine.clock.now().to_string(),
                    "buildkit_metadata": self.metadata(),
                    "buildkit_reproducible": self.options.reproducible,
                    "buildkit_completeness": {
                        "request": self.has_all_parameters(),
                        "resolvedDependencies": self.has_all_materials(),
                    },
                },
            },
        })
    }

    /// The id of the build, which its record has too.
    fn invocation(&self) -> &str {
        self.assembly.progress.recorder().map_or("", |recorder| recorder.id())
    }

    fn config_source(&self, path: &str) -> Value {
        let request = self.assembly.request;
        let uri = match &request.context {
            ContextSource::Git(url) => Some(url.shown()),
            ContextSource::Url(url) => Some(without_credentials(url)),
            ContextSource::Directory(_)
            | ContextSource::Selected(_)
            | ContextSource::Archive(_)
            | ContextSource::Empty => None,
        };
        let mut source = Map::from_iter([(path.to_owned(), request.dockerfile.shown_name().into())]);
        source.extend(uri.map(|uri| ("uri".to_owned(), uri.into())));
        source.into()
    }

    /// What was asked for. Secrets and agents are named, never told.
    fn parameters(&self) -> Value {
        let request = self.assembly.request;
        let mut arguments: BTreeMap<String, String> = BTreeMap::new();
        arguments.extend(request.target.iter().map(|target| ("target".to_owned(), target.clone())));
        if request.no_cache {
            arguments.insert("no-cache".to_owned(), String::new());
        }
        if self.is_max() {
            let named = |prefix: &str, pair: (&String, &String)| {
                let (name, value) = without_secrets(pair);
                (format!("{prefix}:{name}"), value)
            };
            arguments.extend(request.build_args.iter().map(|pair| named("build-arg", pair)));
            arguments.extend(request.labels.iter().map(|pair| named("label", pair)));
        }
        let mut parameters = json!({
            "frontend": "dockerfile.v0",
            "args": arguments,
            "locals": self.locals().iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        });
        if self.is_max() {
            let (secrets, agents) = self.lent();
            let list = |ids: BTreeMap<&str, bool>| -> Value {
                let one = |(id, required): (&str, bool)| match required {
                    true => json!({ "id": id }),
                    false => json!({ "id": id, "optional": true }),
                };
                ids.into_iter().map(one).collect()
            };
            if !secrets.is_empty() {
                parameters["secrets"] = list(secrets);
            }
            if !agents.is_empty() {
                parameters["ssh"] = list(agents);
            }
        }
        parameters
    }

    /// The directories of the caller that were used.
    fn locals(&self) -> BTreeSet<&str> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        if matches!(self.assembly.request.context, ContextSource::Directory(_)) {
            names.insert("dockerfile");
        }
        for step in &self.steps {
            if let Op::Source(SourceOp::Local(source)) = &self.graph.vertex(*step).op {
                names.insert(&source.name);
            }
        }
        names
    }

    /// The ids of secrets and of agents, and whether a step needs them.
    fn lent(&self) -> (BTreeMap<&str, bool>, BTreeMap<&str, bool>) {
        let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
        for step in &self.steps {
            let Op::Exec(exec) = &self.graph.vertex(*step).op else { continue };
            for mount in &exec.mounts {
                match &mount.kind {
                    MountKind::Secret(secret) => {
                        *secrets.entry(secret.id.as_str()).or_insert(false) |= secret.required;
                    }
                    MountKind::Ssh(agent) => {
                        *agents.entry(agent.id.as_str()).or_insert(false) |= agent.required;
                    }
                    MountKind::Bind(_) | MountKind::Cache(_) | MountKind::Tmpfs(_) => {}
                }
            }
        }
        (secrets, agents)
    }

    fn has_all_parameters(&self) -> bool {
        let request = self.assembly.request;
        self.is_max() || (request.build_args.is_empty() && request.labels.is_empty())
    }

    /// Nobody can have the caller's directories.
    fn has_all_materials(&self) -> bool {
        self.locals().is_empty()
    }

    /// What the image was made of, as far as it came from elsewhere.
    fn materials(&self) -> Value {
        let mut materials: Vec<Value> = Vec::new();
        for step in &self.steps {
            let vertex = self.graph.vertex(*step);
            let Op::Source(source) = &vertex.op else { continue };
            let material = match source {
                SourceOp::Image(image) => {
                    let name = image.reference.parse::<Reference>();
                    let uri = name.map_or_else(
                        |_| image.reference.clone(),
                        |name| package_url(&Reference { digest: name.digest, ..name }, &vertex.platform),
                    );
                    json!({ "uri": uri, "digest": digest_set(&image.manifest) })
                }
                SourceOp::Http(file) => {
                    json!({ "uri": without_credentials(&file.url), "digest": digest_set(&file.digest) })
                }
                SourceOp::Git(git) => {
                    let algorithm = if git.commit.len() == 64 { "sha256" } else { "sha1" };
                    let uri = without_credentials(&git.remote);
                    json!({ "uri": uri, "digest": { algorithm: git.commit } })
                }
                SourceOp::Local(_) => continue,
            };
            if !materials.contains(&material) {
                materials.push(material);
            }
        }
        materials.into()
    }

    fn metadata(&self) -> Value {
        let request = self.assembly.request;
        let mut metadata = Map::new();
        if !request.attestations.vcs.is_empty() {
            let vcs = request.attestations.vcs.iter();
            let vcs: BTreeMap<_, _> =
                vcs.map(|(name, value)| (name.clone(), without_credentials(value))).collect();
            metadata.insert("vcs".to_owned(), json!(vcs));
        }
        if self.is_max() {
            let info = |file: &DefinitionFile| {
                json!({
                    "filename": file.source.name(),
                    "language": file.language,
                    "data": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, file.source.text()),
                })
            };
            let infos: Vec<Value> = self.assembly.prepared.files.iter().map(info).collect();
            metadata.insert("source".to_owned(), json!({ "infos": infos }));
        }
        metadata.into()
    }

    /// The steps, in words: what was done and in which order. What runs is told as it is written, before words are expanded.
    fn build_config(&self) -> Value {
        let id = |step: VertexIndex| self.steps.iter().position(|other| *other == step).unwrap_or_default();
        let step = |step: &VertexIndex| {
            let vertex = self.graph.vertex(*step);
            let inputs =
                self.graph.inputs(*step).into_iter().map(|input| format!("step{}:0", id(input.vertex)));
            let name = open(&vertex.metadata.name);
            let op = match &vertex.op {
                Op::Exec(exec) => {
                    let arguments: Vec<String> = exec.args.iter().map(|text| open(text)).collect();
                    json!({ "exec": { "args": arguments, "cwd": exec.cwd, "user": exec.user } })
                }
                Op::Source(_) => json!({ "source": name }),
                Op::File(_) => json!({ "file": name }),
                Op::Merge => json!({ "merge": {} }),
                Op::Diff => json!({ "diff": {} }),
            };
            json!({
                "id": format!("step{}", id(*step)),
                "name": name,
                "op": op,
                "inputs": inputs.collect::<Vec<_>>(),
            })
        };
        json!({ "llbDefinition": self.steps.iter().map(step).collect::<Vec<_>>() })
    }
}

/// A text without the name and password of URLs in it.
fn open(text: &str) -> String {
    let mut open = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        open.push_str(before);
        open.push_str("://");
        // An authority ends where a path, a query or another word begins.
        let is_end =
            |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '|' | ';');
        let (authority, _) = after.split_at(after.find(is_end).unwrap_or(after.len()));
        rest = authority.rfind('@').map_or(after, |at| &after[at + 1..]);
    }
    open.push_str(rest);
    open
}

#[cfg(test)]
mod tests {
    use super::open;

    #[test]
    fn urls_have_no_credentials() {
        for (text, expected) in [
            ("RUN curl https://u:p@h/x -o a@b", "RUN curl https://h/x -o a@b"),
            ("x=\"git://u@h\" ssh://p@q:w@i/", "x=\"git://h\" ssh://i/"),
            ("https://h/@scope and ://", "https://h/@scope and ://"),
            ("COPY a@b /", "COPY a@b /"),
        ] {
            assert_eq!(open(text), expected);
        }
    }
}
