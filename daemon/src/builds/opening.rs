//! What the solves of a build begin with: the request, and the client's files that it needs, which are brought here.

use std::collections::{BTreeMap, HashMap};

use base::image::ImageConfig;
use engine::ScratchDir;
use engine::received::ReceivedFiles;
use engine::request::{
    BuildRequest, ContextSource, DockerfileSource, Entitlement, NamedContext, Secrets, SshSources,
};
use engine::source_policy::SourcePolicies;
use tonic::Status;

use super::brought;
use super::frontends::FrontendImage;
use super::steer::Steering;
use crate::attributes::{Attributes, NamedContexts, Place, elsewhere, ignore_patterns};
use crate::proto::{frontend, pb};
use crate::session::caller::Asked;
use crate::session::files::{self, Wanted};
use crate::{linked, policies, questions};

/// The frontend that is an image, which an attribute names.
const GATEWAY: &str = "gateway.v0";

/// The only frontend that needs no image.
const DOCKERFILE: &str = "dockerfile.v0";

/// The attribute that says what a Dockerfile says of its frontend, for that frontend.
pub(super) const LINE: &str = "cmdline";

/// The file that says what of a context is not sent.
const IGNORE_FILE: &str = ".dockerignore";

/// How many bytes come between two things that are told of a transfer.
const TOLD_EVERY: u64 = 1 << 20;

/// A request whose files are here, for as long as this is.
pub(super) struct Opened {
    pub(super) request: BuildRequest,
    /// What is made; a Dockerfile, without one.
    pub(super) definition: Option<pb::Definition>,
    pub(super) is_multi_platform: bool,
    /// The addresses of other results that the definition begins with.
    pub(super) linked: Vec<String>,
    /// Contexts that are made of graphs of operations first, with the configs of their images.
    pub(super) inputs: Vec<GraphInput>,
    /// Who makes it, if that is not us.
    pub(super) frontend: Option<FrontendImage>,
    /// What is asked instead of a build.
    pub(super) question: Option<String>,
    pub(super) _files: Vec<ReceivedFiles>,
    pub(super) _scratch: Vec<ScratchDir>,
}

impl Opened {
    pub(super) fn new(request: BuildRequest, files: Vec<ReceivedFiles>) -> Self {
        Self {
            request,
            definition: None,
            is_multi_platform: false,
            linked: Vec::new(),
            inputs: Vec::new(),
            frontend: None,
            question: None,
            _files: files,
            _scratch: Vec::new(),
        }
    }

    /// Has what another definition needs here too.
    pub(super) fn also_needs(&mut self, other: Self) {
        self.request.named_contexts.extend(other.request.named_contexts);
        self.linked.extend(other.linked);
        self._files.extend(other._files);
        self._scratch.extend(other._scratch);
    }

    pub(super) fn of_definition(
        request: BuildRequest,
        (files, scratch): (Vec<ReceivedFiles>, Vec<ScratchDir>),
        definition: pb::Definition,
    ) -> Self {
        Self { definition: Some(definition), _scratch: scratch, ..Self::new(request, files) }
    }
}

/// A context that is made of a graph of operations.
pub(super) struct GraphInput {
    pub(super) name: String,
    pub(super) opened: Opened,
    /// The config of its image, if it has one.
    pub(super) config: Option<ImageConfig>,
}

impl Steering<'_> {
    /// Opens the contexts of attributes that are inputs of the solve: results of ours, which are named in `named` then, and graphs of
    /// operations, which are made later.
    pub(super) fn open_inputs(
        &self,
        attributes: &Attributes<'_>,
        inputs: Vec<(String, String)>,
        definitions: &HashMap<String, pb::Definition>,
        named: &mut BTreeMap<String, NamedContext>,
    ) -> Result<Vec<GraphInput>, Status> {
        let mut graphs = Vec::new();
        for (name, input) in inputs {
            match definitions.get(&input).filter(|definition| !linked::is_result(definition)) {
                Some(graph) => {
                    let opened = self.open_definition(graph, &HashMap::new(), &[])?;
                    let config = attributes.config_of_input(&input)?;
                    graphs.push(GraphInput { name, opened, config });
                }
                None => {
                    let result = linked::find(self.builds, self.build, &name, definitions.get(&input))?;
                    named.insert(name, NamedContext::Stored(result));
                }
            }
        }
        Ok(graphs)
    }

    /// What a client asks to be made; `None` is nothing, whose result is empty.
    pub(super) fn open_solve(&self, solve: &frontend::SolveRequest) -> Result<Option<Opened>, Status> {
        let policies = policies::understood(solve.source_policies.iter())?;
        let imports = &solve.cache_imports;
        let definition = solve.definition.as_ref().filter(|definition| !definition.def.is_empty());
        let mut opened = match (definition, solve.frontend.as_str()) {
            (None, "") => return Ok(None),
            (Some(definition), "") => self.open_definition(definition, &solve.frontend_opt, imports)?,
            (_, name) => self.open(name, &solve.frontend_opt, &solve.frontend_inputs, imports)?,
        };
        opened.request.policies.extend(&policies);
        Ok(Some(opened))
    }

    /// The policies that the build began with.
    pub(super) fn policies(&self) -> Result<SourcePolicies, Status> {
        if let Some(here) = &self.build.here {
            return Ok(here.request.policies.clone());
        }
        policies::understood(self.build.request.source_policy.iter())
    }

    /// Makes the request of a solve, and brings the client's files here.
    pub(super) fn open(
        &self,
        frontend: &str,
        attributes: &HashMap<String, String>,
        definitions: &HashMap<String, pb::Definition>,
        cache_imports: &[frontend::CacheOptionsEntry],
    ) -> Result<Opened, Status> {
        if frontend == GATEWAY {
            let image = attributes.get("source").filter(|image| !image.is_empty()).ok_or_else(|| {
                Status::invalid_argument(format!("{GATEWAY} needs the image of a frontend, as source"))
            })?;
            return self.open_frontend(image, attributes, definitions, cache_imports);
        }
        if frontend != DOCKERFILE {
            let message = format!("there is no frontend {frontend} here; {DOCKERFILE} and {GATEWAY} are");
            return Err(Status::not_found(message));
        }
        if let Some(here) = &self.build.here {
            return here.open(self, attributes, definitions);
        }
        let given = attributes;
        let caches = self.caches(cache_imports, attributes)?;
        let attributes = Attributes(attributes);
        let question = attributes.question();
        question.map_or(Ok(()), questions::check)?;
        let mut held = Vec::new();
        let mut own_ignore_file = None;
        let mut scratch = Vec::new();
        let mut dockerfile = match attributes.dockerfile_directory() {
            None => DockerfileSource::InContext(attributes.filename().to_owned()),
            Some(directory) => {
                let path = attributes.filename();
                let wanted = Wanted {
                    follow: vec![path.to_owned(), format!("{path}.dockerignore"), path.to_lowercase()],
                    ..Wanted::default()
                };
                let shown =
                    format!("[internal] load {} from client", path.rsplit('/').next().unwrap_or(path));
                let files = self.receive(&shown, directory, "definition", &wanted)?;
                own_ignore_file = files
                    .read_text(&format!("{path}.dockerignore"))
                    .map_err(|error| crate::failed(&error))?;
                let text = files.read_text(path).map_err(|error| crate::failed(&error))?;
                let argument = attributes.get("build-arg:BUILDKIT_SYNTAX");
                // Who was asked for by the Dockerfile, and asks us, means us.
                let text = text.filter(|_| attributes.get(LINE).is_none());
                if let Some(line) = text.and_then(|text| engine::other_frontend(&text, argument)) {
                    let (image, _) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
                    let mut given = given.clone();
                    given.insert("source".to_owned(), image.to_owned());
                    given.insert(LINE.to_owned(), line.clone());
                    return self.open_frontend(image, &given, definitions, cache_imports);
                }
                let directory = files.path().to_owned();
                held.push(files);
                DockerfileSource::Sent { directory, path: path.to_owned() }
            }
        };
        let context = match attributes.context() {
            Place::Local(name) => {
                let files = match question {
                    // Of the context, nothing but its ignore file matters to a question.
                    Some(_) => self.receive_ignore_file(&name)?,
                    None => self.receive_context(&name, own_ignore_file)?,
                };
                let path = files.path().to_owned();
                held.push(files);
                ContextSource::Directory(path)
            }
            Place::Elsewhere(text) => elsewhere(&text)?,
            place @ (Place::Upload(_) | Place::Sent(_)) => {
                let uploaded = brought::uploaded(self.builds, self.build, &place)?;
                dockerfile = uploaded.dockerfile.unwrap_or(dockerfile);
                scratch.push(uploaded.directory);
                uploaded.context
            }
        };
        let mut request = BuildRequest::new(context, dockerfile);
        attributes.apply(&mut request, &self.entitlements()?)?;
        if attributes.get(LINE).is_some() {
            request.read_here();
        }
        if let Some(session) = &self.build.session {
            let caller = Asked::new(session, self.builds.runtime());
            request.secrets = Secrets::asking(caller.clone());
            request.ssh = SshSources::asking(caller);
        }
        let NamedContexts { named, local, inputs, layouts } = attributes.named_contexts()?;
        request.named_contexts = named;
        let inputs = self.open_inputs(&attributes, inputs, definitions, &mut request.named_contexts)?;
        for wanted in &layouts {
            let platforms = &request.platforms;
            let (context, directory) = brought::layout(self.builds, self.build, wanted, platforms)?;
            request.named_contexts.insert(wanted.name.clone(), context);
            scratch.push(directory);
        }
        for (name, directory) in local {
            let shown = format!("[context {name}] load from client");
            let ignored = self.ignored(&directory)?;
            let wanted = Wanted { exclude: ignored, ..Wanted::default() };
            let files = self.receive(&shown, &directory, "context", &wanted)?;
            let source = ContextSource::Directory(files.path().to_owned());
            request.named_contexts.insert(name, NamedContext::Files(source));
            held.push(files);
        }
        request.jobs = self.builds.jobs;
        request.policies = self.policies()?;
        request.caches = caches;
        request.remembered = !self.build.request.internal;
        let is_multi_platform = attributes.is_multi_platform() || request.platforms.len() > 1;
        let question = question.map(str::to_owned);
        Ok(Opened { is_multi_platform, question, inputs, _scratch: scratch, ..Opened::new(request, held) })
    }

    /// A frontend that is an image: what it needs of the client, it asks for.
    fn open_frontend(
        &self,
        image: &str,
        attributes: &HashMap<String, String>,
        inputs: &HashMap<String, pb::Definition>,
        cache_imports: &[frontend::CacheOptionsEntry],
    ) -> Result<Opened, Status> {
        let opened = self.open_definition(&pb::Definition::default(), attributes, cache_imports)?;
        let (attributes, inputs) = (attributes.clone(), inputs.clone());
        let frontend = FrontendImage { image: image.to_owned(), attributes, inputs };
        Ok(Opened { frontend: Some(frontend), ..opened })
    }

    /// What the client wants for its steps, if the daemon allows it.
    pub(super) fn entitlements(&self) -> Result<Vec<Entitlement>, Status> {
        if let Some(here) = &self.build.here {
            return Ok(here.request.allow.iter().copied().collect());
        }
        let wanted = |name: &String| {
            let kind = name.split('=').next().unwrap_or_default();
            let known = Entitlement::from_name(kind).filter(|kind| self.builds.allowed.contains(kind));
            known.ok_or_else(|| {
                let message =
                    format!("granting entitlement {name} is not allowed by build daemon configuration");
                Status::permission_denied(message)
            })
        };
        self.build.request.entitlements.iter().map(wanted).collect()
    }

    /// The build context, without what an ignore file excludes: the one that belongs to the Dockerfile, or its own.
    fn receive_context(&self, name: &str, own: Option<Vec<u8>>) -> Result<ReceivedFiles, Status> {
        let exclude = match own {
            Some(text) => ignore_patterns(&String::from_utf8_lossy(&text)),
            None => self.ignored(name)?,
        };
        let wanted = Wanted { exclude, ..Wanted::default() };
        self.receive("[internal] load build context", name, "context", &wanted)
    }

    /// The ignore file of a client's directory.
    fn receive_ignore_file(&self, name: &str) -> Result<ReceivedFiles, Status> {
        let wanted = Wanted { follow: vec![IGNORE_FILE.to_owned()], ..Wanted::default() };
        self.receive("[internal] load .dockerignore", name, "ignore", &wanted)
    }

    /// The patterns of the ignore file of a client's directory.
    fn ignored(&self, name: &str) -> Result<Vec<String>, Status> {
        let files = self.receive_ignore_file(name)?;
        let text = files.read_text(IGNORE_FILE).map_err(|error| crate::failed(&error))?.unwrap_or_default();
        Ok(ignore_patterns(&String::from_utf8_lossy(&text)))
    }

    /// Brings the copy of a client's directory up to date.
    pub(super) fn receive(
        &self,
        shown: &str,
        name: &str,
        part: &str,
        wanted: &Wanted,
    ) -> Result<ReceivedFiles, Status> {
        let session = self.build.session.as_ref().ok_or_else(|| {
            Status::invalid_argument(format!(
                "the build needs the client's directory {name}, and has no session"
            ))
        })?;
        let key = if session.shared_key().is_empty() { session.id() } else { session.shared_key() };
        let step = self.build.step(shown, name);
        let id = format!("transferring {part}:");
        let mut told = 0;
        let received = self
            .builds
            .engine
            .receive_files(&[key, part, name])
            .map_err(|error| crate::failed(&error))
            .and_then(|mut files| {
                let runtime = self.builds.runtime();
                let transferred = files::receive(runtime, session, name, wanted, &mut files, |so_far| {
                    // Not for each of ten thousand small files.
                    if so_far.bytes >= told + TOLD_EVERY {
                        told = so_far.bytes;
                        step.tell(&id, told, false);
                    }
                })?;
                step.tell(&id, transferred.bytes, true);
                Ok(files)
            });
        step.end(received)
    }
}
