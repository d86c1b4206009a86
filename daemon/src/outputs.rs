//! Where results go: what a client asks of exporters, and what it gets back.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base::{Reference, Timestamp};
use base64::Engine as _;
use engine::report::BuildReport;
use engine::request::{Annotations, Destination, FileOptions, LayerOptions, Output, PushOutput};
use engine::session::{Session as EngineSession, Solved};
use tonic::Status;

use crate::attributes::reference;
use crate::builds::{Build, Builds};
use crate::proto::control::Exporter;
use crate::session::Session;
use crate::session::content::ContentStore;
use crate::session::send::{self, ClientFile};

/// The client's store of what it keeps in a directory.
const EXPORT: &str = "export";

/// Writes a result to every output of a build. Answers what the client is told of them.
///
/// # Errors
/// An output is none, or cannot be written.
pub(crate) fn export(
    builds: &Builds,
    build: &Build,
    session: &EngineSession<'_>,
    solved: &Solved,
) -> Result<HashMap<String, String>, Status> {
    build.note_result(session, solved);
    let mut response = HashMap::new();
    for (number, exporter) in exporters(build).iter().enumerate() {
        let export = Export { builds, build, session, solved, number, attributes: &exporter.attrs };
        response.extend(export.write(&exporter.r#type)?);
    }
    Ok(response)
}

/// The outputs of a build; older clients have one, elsewhere.
fn exporters(build: &Build) -> Vec<Exporter> {
    let request = &build.request;
    if request.exporters.is_empty() && !request.exporter_deprecated.is_empty() {
        let attrs = request.exporter_attrs_deprecated.clone();
        return vec![Exporter { r#type: request.exporter_deprecated.clone(), attrs }];
    }
    request.exporters.clone()
}

struct Export<'a> {
    builds: &'a Builds,
    build: &'a Build,
    session: &'a EngineSession<'a>,
    solved: &'a Solved,
    number: usize,
    attributes: &'a HashMap<String, String>,
}

impl Export<'_> {
    fn write(&self, kind: &str) -> Result<HashMap<String, String>, Status> {
        match kind {
            "image" | "moby" => self.image(),
            "docker" | "oci" if !self.is_true("tar", true)? => self.layout(),
            "docker" => self.archive(Output::Docker),
            "oci" => self.archive(Output::Oci),
            "tar" => {
                let (file, files) = (self.client_file()?, self.files()?);
                self.to_file(file, |to| Output::Tar(to, files))
            }
            "local" => self.local(),
            other => Err(Status::not_found(format!("exporter {other:?} could not be found"))),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str, default: bool) -> Result<bool, Status> {
        match self.attributes.get(name).map(String::as_str) {
            None => Ok(default),
            Some("") => Ok(true),
            Some(text) => base::boolean::parse(text).ok_or_else(|| {
                Status::invalid_argument(format!("non-bool value {text:?} for {name} of an output"))
            }),
        }
    }

    fn names(&self) -> Result<Vec<Reference>, Status> {
        let names = self.get("name").unwrap_or_default().split(',').filter(|name| !name.is_empty());
        names.map(reference).collect()
    }

    fn layers(&self) -> Result<LayerOptions, Status> {
        let level = self.get("compression-level");
        let compression = match (self.get("compression"), level) {
            (None, None) => None,
            (method, level) => {
                let compression = engine::request::compression(method.unwrap_or("gzip"), level);
                Some(compression.map_err(|wrong| Status::invalid_argument(wrong.to_string()))?)
            }
        };
        let docker_types = !self.is_true("oci-mediatypes", true)?;
        let artifacts = self.is_true("oci-artifact", false)?;
        if docker_types && artifacts {
            return Err(Status::invalid_argument("oci-artifact=true needs oci-mediatypes=true"));
        }
        Ok(LayerOptions {
            compression,
            force: self.is_true("force-compression", false)?,
            keep_times: !self.is_true("rewrite-timestamp", true)?,
            docker_types,
            artifacts,
            annotations: self.annotations()?,
        })
    }

    /// What is to be noted on the image.
    fn annotations(&self) -> Result<Annotations, Status> {
        let mut annotations = Annotations::default();
        // In an order of their own, so that two of one name always mean the same.
        let attributes: BTreeMap<&String, &String> = self.attributes.iter().collect();
        for (name, value) in attributes {
            let added = annotations.attribute(name, value);
            added.map_err(|wrong| Status::invalid_argument(wrong.to_string()))?;
        }
        Ok(annotations)
    }

    /// The time of what is written, if it has one of its own.
    fn epoch(&self) -> Result<Option<Timestamp>, Status> {
        let Some(text) = self.get("source-date-epoch") else { return Ok(None) };
        let epoch = text.parse().ok().and_then(base::time::from_epoch_seconds);
        let wrong = || {
            Status::invalid_argument(format!(
                "invalid source-date-epoch {text:?}: expected seconds since 1970"
            ))
        };
        epoch.map(Some).ok_or_else(wrong)
    }

    /// How files are to lie.
    fn files(&self) -> Result<FileOptions, Status> {
        let split = match self.attributes.contains_key("platform-split") {
            true => Some(self.is_true("platform-split", true)?),
            false => None,
        };
        let prefix = self.get("attestation-prefix").unwrap_or_default();
        // Whose directory it is removes what is in it besides, if that is wanted.
        if !matches!(self.get("mode"), None | Some("copy" | "delete")) {
            let mode = self.get("mode").unwrap_or_default();
            let message = format!("invalid mode {mode:?} of an output: the modes are copy and delete");
            return Err(Status::invalid_argument(message));
        }
        Ok(FileOptions { prefix: prefix.to_owned(), split, is_exact: false })
    }

    fn image(&self) -> Result<HashMap<String, String>, Status> {
        let layers = self.layers()?;
        let names = self.names()?;
        let insecure = self.is_true("registry.insecure", false)?;
        let output = if !self.is_true("push", false)? {
            Output::Store(layers)
        } else if self.is_true("push-by-digest", false)? {
            Output::Registry(PushOutput { insecure, layers, by_digest: names.clone() })
        } else {
            Output::Registry(PushOutput { insecure, layers, by_digest: Vec::new() })
        };
        let is_by_digest = matches!(&output, Output::Registry(push) if !push.by_digest.is_empty());
        self.export(output, if is_by_digest { Vec::new() } else { names })
    }

    /// An image in an archive that the client writes, or hands on.
    fn archive(
        &self,
        output: fn(Destination, LayerOptions) -> Output,
    ) -> Result<HashMap<String, String>, Status> {
        let layers = self.layers()?;
        let file = self.client_file()?;
        self.to_file(file, |to| output(to, layers))
    }

    /// An image whose blobs the client keeps in a directory; what of them it has already is not sent. It names the image by
    /// what it is answered.
    fn layout(&self) -> Result<HashMap<String, String>, Status> {
        let layers = self.layers()?;
        let store = ContentStore::new(self.builds.runtime(), self.client()?, EXPORT);
        let scratch = self.session.scratch().map_err(|error| crate::failed(&error))?;
        let response = self.export(Output::OciLayout(scratch.path().to_owned(), layers), self.names()?)?;
        let step = self.build.step("sending to client", &self.number.to_string());
        step.end(store.put_layout(scratch.path()))?;
        Ok(response)
    }

    fn client(&self) -> Result<&Arc<Session>, Status> {
        let message = "the output goes to the client, and the build has no session";
        self.build.session.as_ref().ok_or_else(|| Status::invalid_argument(message))
    }

    fn client_file(&self) -> Result<ClientFile, Status> {
        send::file(self.builds.runtime(), self.client()?, self.number, &[])
    }

    fn to_file(
        &self,
        file: ClientFile,
        output: impl FnOnce(Destination) -> Output,
    ) -> Result<HashMap<String, String>, Status> {
        let file = Arc::new(Mutex::new(file));
        let exported = self.export(output(Destination::Stream(file.clone())), self.names()?);
        let finished = file.lock().unwrap_or_else(PoisonError::into_inner).finish();
        // Why the client did not take it says more than that it did not.
        match (exported, finished) {
            (Ok(response), Ok(_)) => Ok(response),
            // It has it already and left off listening.
            (Err(_), Ok(false)) => Ok(HashMap::new()),
            (_, Err(status)) | (Err(status), Ok(true)) => Err(status),
        }
    }

    fn local(&self) -> Result<HashMap<String, String>, Status> {
        let files = self.files()?;
        let scratch = self.session.scratch().map_err(|error| crate::failed(&error))?;
        let response = self.export(Output::Local(scratch.path().to_owned(), files), Vec::new())?;
        let step = self.build.step("exporting to client directory", &self.number.to_string());
        let sent = send::directory(self.builds.runtime(), self.client()?, self.number, scratch.path());
        if let Ok(bytes) = sent {
            step.tell("copying files", bytes, true);
        }
        step.end(sent)?;
        Ok(response)
    }

    fn export(&self, output: Output, tags: Vec<Reference>) -> Result<HashMap<String, String>, Status> {
        let is_image = !matches!(output, Output::Tar(..) | Output::Local(..));
        let mut names: Vec<String> = self.get("name").into_iter().map(str::to_owned).collect();
        let named: Vec<String> = tags.iter().map(|tag| format!("naming to {tag}")).collect();
        let epoch = self.epoch()?;
        let step = is_image.then(|| self.build.step("exporting to image", &self.number.to_string()));
        let report = self.session.export(self.solved, vec![output], tags, epoch);
        let report = report.map_err(|error| crate::errors::status_of(&error));
        let report = match step {
            None => report?,
            Some(step) => {
                if let Ok(report) = &report {
                    step.tell("exporting layers", 0, true);
                    report
                        .targets
                        .iter()
                        .for_each(|one| step.tell(&format!("writing image {}", one.image_id), 0, true));
                    named.iter().for_each(|name| step.tell(name, 0, true));
                }
                step.end(report)?
            }
        };
        // A name that needs nobody to think of it.
        if let (Some(prefix), Some(target)) = (self.get("dangling-name-prefix"), report.targets.first())
            && (names.is_empty() || !self.is_true("danging-name-empty-only", false)?)
        {
            names.push(format!("{prefix}@{}", target.manifest));
        }
        if let Some(target) = report.targets.first().filter(|_| is_image) {
            self.build.note_image(self.number, &target.descriptor);
        }
        if is_image { response(&report, &names.join(",")) } else { Ok(HashMap::new()) }
    }
}

/// What clients are told of an image.
fn response(report: &BuildReport, names: &str) -> Result<HashMap<String, String>, Status> {
    let Some(target) = report.targets.first() else { return Ok(HashMap::new()) };
    let descriptor = serde_json::to_vec(&target.descriptor)
        .map_err(|error| Status::internal(format!("cannot write a descriptor: {error}")))?;
    let mut response = HashMap::from([
        ("containerimage.digest".to_owned(), target.manifest.to_string()),
        (
            "containerimage.descriptor".to_owned(),
            base64::engine::general_purpose::STANDARD.encode(descriptor),
        ),
    ]);
    if target.image_id != target.manifest {
        response.insert("containerimage.config.digest".to_owned(), target.image_id.to_string());
    }
    if !names.is_empty() {
        response.insert("image.name".to_owned(), names.to_owned());
    }
    Ok(response)
}
