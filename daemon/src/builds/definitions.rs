//! Graphs of operations that clients and frontends send (LLB): what they need of the client is brought here, and what they
//! name of other builds is found.

use std::collections::{BTreeMap, HashMap};

use engine::low_level::{self, DefinitionError, LAYOUT_BLOB, LocalDirectory, Needs};
use engine::request::{
    BuildRequest, ContextSource, DockerfileSource, LayerOptions, NamedContext, Output, PullPolicy, Secrets,
    SharedCaches, SshSources,
};
use engine::session::{ResultPart, Session as EngineSession, Solved};
use prost::Message as _;
use tonic::Status;

use super::brought::{self, LayoutContext};
use super::opening::{GraphInput, Opened};
use super::results::Results;
use super::steer::Steering;
use super::{caches, failures};
use crate::attributes::Attributes;
use crate::errors::{status_of, status_of_engine, status_of_solve};
use crate::linked;
use crate::proto::{frontend, pb};
use crate::session::caller::Asked;
use crate::session::content::Directories;
use crate::session::files::Wanted;

/// What the record of a build calls its definition.
const SHOWN: &str = "LLB";

/// A client's attribute that keeps all operations from using the cache.
const NO_CACHE: &str = "no-cache";

/// The scheme of images of a client's layouts.
const LAYOUT: &str = "oci-layout";

/// How many nested builds a definition may have.
const MOST_NESTED: usize = 64;

/// The largest definition of a nested build, in bytes.
const LARGEST_NESTED: u64 = 16 << 20;

/// The attribute that names the layout.
const STORE: &str = "oci.store";

/// Whether all images of a definition may be what the store has (`image.resolvemode=local`).
fn prefers_images_here(needs: &Needs) -> bool {
    let mut images = needs.of_scheme("docker-image").map(|(_, attributes)| attributes).peekable();
    let is_local = |attributes: &BTreeMap<String, String>| {
        attributes.get("image.resolvemode").is_some_and(|mode| mode == "local")
    };
    images.peek().is_some() && images.all(is_local)
}

/// The image of a layout that a source means.
fn layout(identifier: &str, attributes: &BTreeMap<String, String>) -> Result<LayoutContext, Status> {
    let wrong = |why: &str| Status::invalid_argument(format!("{identifier}: {why}"));
    let digest = identifier.rsplit_once('@').map(|(_, digest)| digest);
    let digest = digest.ok_or_else(|| wrong("the image of a layout is named by its digest"))?;
    let digest = digest.parse().map_err(|_| wrong("this is no digest"))?;
    let store = attributes.get(STORE).filter(|store| !store.is_empty());
    let store = store.ok_or_else(|| wrong("it does not say which layout (oci.store)"))?.clone();
    Ok(LayoutContext { name: identifier.to_owned(), store, digest })
}

impl Steering<'_> {
    /// Makes the request of a definition, and brings the client's files here.
    pub(super) fn open_definition(
        &self,
        definition: &pb::Definition,
        attributes: &HashMap<String, String>,
        cache_imports: &[frontend::CacheOptionsEntry],
    ) -> Result<Opened, Status> {
        let mut request = match &self.build.here {
            Some(here) => here.of_definition(SHOWN),
            None => self.of_definition(attributes, cache_imports)?,
        };
        let needs = Needs::of(definition).map_err(|error| status_of(&error.into()))?;
        if needs.pulls_images() {
            request.pull = PullPolicy::Always;
        } else if prefers_images_here(&needs) {
            request.pull = PullPolicy::Missing;
        }
        let mut held = Vec::new();
        for LocalDirectory { key, name, include, exclude, follow } in needs.directories.iter().cloned() {
            request
                .policies
                .check(&format!("local://{name}"))
                .map_err(|error| status_of_engine(&error.into()))?;
            let wanted = Wanted { include, exclude, follow };
            let source = match &self.build.here {
                Some(here) => here.files(&name, wanted)?,
                None => {
                    let shown = format!("local://{name}");
                    let files = self.receive(&shown, &name, &format!("llb {key}"), &wanted)?;
                    let source = ContextSource::Directory(files.path().to_owned());
                    held.push(files);
                    source
                }
            };
            request.named_contexts.insert(key, NamedContext::Files(source));
        }
        let mut scratch = Vec::new();
        for (identifier, attributes) in needs.of_scheme(LAYOUT) {
            let wanted = layout(identifier, attributes)?;
            if let Some(here) = &self.build.here {
                request.named_contexts.insert(identifier.to_owned(), here.layout(&wanted)?);
                continue;
            }
            let (image, directory) = brought::layout(self.builds, self.build, &wanted, &[])?;
            request.named_contexts.insert(identifier.to_owned(), image);
            scratch.push(directory);
        }
        for (identifier, attributes) in needs.of_scheme(LAYOUT_BLOB) {
            let wanted = layout(identifier, attributes)?;
            let (files, directory) = brought::blob(self.builds, self.build, &wanted)?;
            request.named_contexts.insert(identifier.to_owned(), files);
            scratch.push(directory);
        }
        let linked = needs.of_scheme(linked::SCHEME).map(|(address, _)| address.to_owned()).collect();
        Ok(Opened { linked, ..Opened::of_definition(request, (held, scratch), definition.clone()) })
    }

    /// The request of a definition of a client.
    fn of_definition(
        &self,
        attributes: &HashMap<String, String>,
        cache_imports: &[frontend::CacheOptionsEntry],
    ) -> Result<BuildRequest, Status> {
        let dockerfile = DockerfileSource::InContext(SHOWN.to_owned());
        let mut request = BuildRequest::new(ContextSource::Empty, dockerfile);
        request.caches = self.caches(cache_imports, attributes)?;
        request.allow = self.entitlements()?.into_iter().collect();
        request.no_cache = attributes.get(NO_CACHE).is_some_and(|stages| stages.is_empty());
        if let Some(session) = &self.build.session {
            let caller = Asked::new(session, self.builds.runtime());
            request.secrets = Secrets::asking(caller.clone());
            request.ssh = SshSources::asking(caller);
        }
        // What the client asks for holds for whatever comes out in the end, whoever makes it.
        for attributes in [&self.build.request.frontend_attrs, attributes] {
            Attributes(attributes).attest(&mut request)?;
        }
        request.pull = PullPolicy::Newer;
        request.jobs = self.builds.jobs;
        request.policies = self.policies()?;
        request.remembered = !self.build.request.internal;
        Ok(request)
    }

    /// The caches of the build and of one of its solves.
    pub(super) fn caches(
        &self,
        cache_imports: &[frontend::CacheOptionsEntry],
        attributes: &HashMap<String, String>,
    ) -> Result<SharedCaches, Status> {
        let runtime = self.builds.runtime();
        let directories = self.build.session.as_ref().and_then(|session| Directories::of(runtime, session));
        let asked = self.build.request.cache.as_ref();
        caches::shared(asked, cache_imports, attributes, directories.as_ref())
    }

    /// Finds what a definition names of this and other builds.
    pub(super) fn find_linked(
        &self,
        session: &EngineSession<'_>,
        results: &Results,
        opened: &mut Opened,
    ) -> Result<(), Status> {
        for address in std::mem::take(&mut opened.linked) {
            if let Some(number) = linked::own(&address, &self.build.id) {
                self.evaluate(session, results, &format!("{number}:0"))?;
            }
            let image = linked::find_address(self.builds, self.build, &address)?;
            opened.request.named_contexts.insert(address, NamedContext::Stored(image));
        }
        Ok(())
    }

    /// Reads the definitions of nested builds: each is a file of what has been made before.
    fn read_nested(
        &self,
        session: &EngineSession<'_>,
        results: &Results,
        opened: &mut Opened,
    ) -> Result<(), Status> {
        let Some(definition) = opened.definition.clone() else { return Ok(()) };
        let wrong = |error: DefinitionError| status_of(&error.into());
        while let Some(build) = low_level::nested(&definition, &opened.request.nested).map_err(wrong)? {
            if opened.request.nested.len() >= MOST_NESTED {
                let message = format!("a definition has at most {MOST_NESTED} nested builds");
                return Err(Status::invalid_argument(message));
            }
            // The files that it needs are those of the whole definition, which are here.
            let linked = opened.linked.clone();
            self.find_linked(session, results, opened)?;
            opened.linked = linked;
            let solved = session.solve_definition(&build.input, &opened.request);
            let solved = solved.map_err(|error| status_of(&error))?;
            let bytes = session.read_file(&solved, 0, &build.filename, (0, LARGEST_NESTED + 1));
            let bytes = bytes.map_err(|error| status_of_engine(&error))?;
            let undecodable = |why: String| {
                Status::invalid_argument(format!(
                    "{} of a nested build is no definition: {why}",
                    build.filename
                ))
            };
            if bytes.len() as u64 > LARGEST_NESTED {
                return Err(undecodable(format!("it has more than {LARGEST_NESTED} bytes")));
            }
            let inner =
                pb::Definition::decode(bytes.as_slice()).map_err(|error| undecodable(error.to_string()))?;
            opened.also_needs(self.open_definition(&inner, &HashMap::new(), &[])?);
            opened.request.nested.insert(build.digest, inner);
        }
        Ok(())
    }

    /// Makes what was opened.
    pub(super) fn solved(
        &self,
        session: &EngineSession<'_>,
        results: &mut Results,
        opened: &mut Opened,
    ) -> Result<Solved, Status> {
        self.read_nested(session, results, opened)?;
        self.find_linked(session, results, opened)?;
        for GraphInput { name, opened: mut input, config } in std::mem::take(&mut opened.inputs) {
            let made = self.solved(session, results, &mut input)?;
            let part = ResultPart { of: Some((&made, 0)), platform: None, config };
            let made = session.compose(&input.request, vec![part], false);
            let output = vec![Output::Store(LayerOptions::default())];
            let report =
                session.export(&made, output, Vec::new(), None).map_err(|error| status_of(&error))?;
            if let Some(target) = report.targets.into_iter().next() {
                opened.request.named_contexts.insert(name, NamedContext::Stored(target.descriptor));
            }
        }
        let solved = match &opened.definition {
            Some(definition) => session.solve_definition(definition, &opened.request),
            None => session.solve(&opened.request),
        };
        solved.map_err(|error| {
            let left = failures::keep(session, results, opened, &error);
            let status = status_of_solve(&error, left);
            if let Some(here) = &self.build.here {
                here.note(&status, error);
            }
            status
        })
    }
}
