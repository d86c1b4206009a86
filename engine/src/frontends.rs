//! Frontends that are images (`# syntax=IMAGE`): a build whose Dockerfile asks for one is handed to whoever can run them.
//!
//! They speak BuildKit's API, which is not known here. Who knows it implements [`Frontends`], and makes the result with the same
//! [`Session`] by which clients of that API steer their builds.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sys::path_error::PathContext as _;

use crate::Engine;
use crate::context::{BuildContext, LoadedDockerfile};
use crate::definition::{BUILT_IN, SYNTAX_ARGUMENT, other_frontend};
use crate::error::{BuildError, EngineError};
use crate::remote::Fetcher;
use crate::report::BuildReport;
use crate::request::{BuildRequest, ContextSource, DockerfileSource, NamedContext};
use crate::session::{Session, Solved};

/// Who runs frontends that are images.
pub trait Frontends: Send + Sync {
    /// Has a frontend make what a request asks for; where that goes is not its business.
    ///
    /// # Errors
    /// The frontend cannot be run, fails, or returns nothing.
    fn solve(
        &self,
        session: &Session<'_>,
        request: &BuildRequest,
        asked: &AskedFrontend,
    ) -> Result<Solved, BuildError>;
}

/// A frontend that a Dockerfile asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedFrontend {
    /// What the Dockerfile says: the image, and what follows it on its line.
    pub line: String,
    /// What the Dockerfile is called: a path in its context, a path of the host, or an address.
    pub name: String,
    /// The text of the Dockerfile.
    pub text: Vec<u8>,
    /// Whether the Dockerfile came in the place of a context.
    pub is_alone: bool,
}

impl AskedFrontend {
    /// The image.
    pub fn image(&self) -> &str {
        self.line.split_whitespace().next().unwrap_or_default()
    }

    /// The one that a Dockerfile or a build argument asks for, if it is not ours.
    fn of((context, dockerfile): &(BuildContext, LoadedDockerfile), request: &BuildRequest) -> Option<Self> {
        let argument = request.build_args.get(SYNTAX_ARGUMENT).map(String::as_str);
        let line = other_frontend(&dockerfile.text, argument)?;
        let (name, text) = (dockerfile.name.clone(), dockerfile.text.clone());
        Some(Self { line, name, text, is_alone: context.is_alone() })
    }
}

impl BuildRequest {
    /// Has the Dockerfile read by us, whatever it asks for: for a frontend that it has asked for, and that leaves the work to us.
    pub fn read_here(&mut self) {
        self.build_args.insert(SYNTAX_ARGUMENT.to_owned(), BUILT_IN.to_owned());
    }
}

impl Engine {
    /// The same engine, whose builds may ask for frontends that are images.
    #[must_use]
    pub fn with_frontends(self, frontends: Arc<dyn Frontends>) -> Self {
        Self { frontends: Some(frontends), ..self }
    }

    /// The frontend that a Dockerfile asks for, with who runs it.
    pub(crate) fn asked_frontend(
        &self,
        opened: &(BuildContext, LoadedDockerfile),
        request: &BuildRequest,
    ) -> Option<(&dyn Frontends, AskedFrontend)> {
        let frontends = self.frontends.as_deref()?;
        Some((frontends, AskedFrontend::of(opened, request)?))
    }

    /// Builds what a frontend makes of each target.
    pub(crate) fn built_by_frontend(
        &self,
        fetcher: Fetcher<'_>,
        request: &BuildRequest,
        context: &BuildContext,
        (frontends, asked): (&dyn Frontends, &AskedFrontend),
    ) -> Result<BuildReport, BuildError> {
        let request = crate::build::dated(request, context)?;
        self.with_session(fetcher, &request, |session| {
            let mut all = BuildReport { targets: Vec::new(), record: None };
            for target in request.of_each_target() {
                let solved = frontends.solve(session, &target, asked)?;
                let (outputs, tags) = (target.outputs.clone(), target.tags.clone());
                let report = session.export(&solved, outputs, tags, target.epoch)?;
                all.targets.extend(report.targets);
                all.record = report.record;
            }
            Ok(all)
        })
    }
}

/// The name of the build context among the caller's files.
pub const CONTEXT: &str = "context";

/// The name of the directory that has the Dockerfile.
pub const DOCKERFILE: &str = "dockerfile";

/// What a Dockerfile is called that is in no directory.
const FILE_NAME: &str = "Dockerfile";

/// A part of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectedFiles {
    /// The directory.
    pub directory: PathBuf,
    /// Patterns of what is wanted; all, if this and `follow` are empty.
    pub include: Vec<String>,
    /// Patterns of what of that is not wanted.
    pub exclude: Vec<String>,
    /// Paths that are wanted, with what links on them lead to.
    pub follow: Vec<String>,
}

/// Files of the caller, under the names by which frontends ask for them.
#[derive(Debug, Clone, Default)]
pub struct CallersFiles {
    /// Where they are.
    pub sources: BTreeMap<String, ContextSource>,
    /// The path of the Dockerfile in its directory.
    pub filename: String,
}

impl CallersFiles {
    /// Those of a request. `scratch` is an empty directory, for a Dockerfile that is in none.
    ///
    /// # Errors
    /// It cannot be written there.
    pub fn of(request: &BuildRequest, asked: &AskedFrontend, scratch: &Path) -> Result<Self, EngineError> {
        let context = if asked.is_alone { ContextSource::Empty } else { request.context.clone() };
        let (dockerfile, filename) = match &request.dockerfile {
            DockerfileSource::File(path) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (ContextSource::Directory(parent.unwrap_or(Path::new(".")).to_owned()), name)
            }
            DockerfileSource::Sent { directory, path } => {
                (ContextSource::Directory(directory.clone()), path.clone())
            }
            DockerfileSource::Default | DockerfileSource::InContext(_) if !asked.is_alone => {
                (context.clone(), asked.name.clone())
            }
            _ => {
                write(&scratch.join(FILE_NAME), &asked.text)?;
                (ContextSource::Directory(scratch.to_owned()), FILE_NAME.to_owned())
            }
        };
        let mut sources =
            BTreeMap::from([(CONTEXT.to_owned(), context), (DOCKERFILE.to_owned(), dockerfile)]);
        for (name, context) in &request.named_contexts {
            if let NamedContext::Files(source) = context {
                sources.insert(name.clone(), source.clone());
            }
        }
        Ok(Self { sources, filename })
    }

    /// The files of this name, of which only those are wanted that `wanted` says. What is no directory of this machine is
    /// complete whatever is wanted.
    pub fn selected(&self, name: &str, wanted: SelectedFiles) -> Option<ContextSource> {
        let SelectedFiles { include, exclude, follow, .. } = wanted;
        Some(match self.sources.get(name)? {
            ContextSource::Directory(directory) => {
                let directory = directory.clone();
                let selected = SelectedFiles { directory, include, exclude, follow };
                ContextSource::Selected(Box::new(selected))
            }
            other => other.clone(),
        })
    }
}

/// Writes a new file.
fn write(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let mut file = sys::fs::create_new(path, 0o600)?;
    Ok(file.write_all(bytes).at("write", path)?)
}
