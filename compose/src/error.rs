//! What can be wrong with a Compose project. The words are Docker's where it has some.

use std::path::PathBuf;

use base::{Fault, Faulty};

use crate::yaml::Place;

/// Why a project cannot be read, or not be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// Text that is no YAML.
    #[error("{place}: {why}")]
    Yaml {
        /// Where.
        place: Place,
        /// Why.
        why: String,
    },
    /// No file was named and none is there.
    #[error("no configuration file provided: not found in {} or above", directory.display())]
    NoFile {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A file that a project needs is not there.
    #[error("open {}: no such file or directory", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of variables that a service needs is not there.
    #[error("env file {} not found: needed by {place}", path.display())]
    MissingEnvFile {
        /// The file.
        path: PathBuf,
        /// Who needs it.
        place: Place,
    },
    /// A line of a file of variables makes no sense.
    #[error("{place}: {why}")]
    Dotenv {
        /// Where.
        place: Place,
        /// Why.
        why: String,
    },
    /// A key that there is not.
    #[error("{place}: {path}: additional property '{key}' is not allowed")]
    UnknownKey {
        /// Where.
        place: Place,
        /// Below what.
        path: String,
        /// The key.
        key: String,
    },
    /// Something is of another kind than it has to be.
    #[error("{place}: {path} must be {expected}, not {found}")]
    Shape {
        /// Where.
        place: Place,
        /// What.
        path: String,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A value makes no sense, or something lacks.
    #[error("{place}: {path}: {why}")]
    Invalid {
        /// Where.
        place: Place,
        /// What.
        path: String,
        /// Why.
        why: String,
    },
    /// `${` that is not closed, and the like.
    #[error(
        "{place}: invalid interpolation format for {path}: \"{text}\". You may need to escape any $ with another $"
    )]
    Interpolation {
        /// Where.
        place: Place,
        /// What.
        path: String,
        /// The text.
        text: String,
    },
    /// `${NAME:?message}` of a variable that is not set.
    #[error(
        "{place}: error while interpolating {path}: required variable {name} is missing a value{}",
        told(message)
    )]
    RequiredVariable {
        /// Where.
        place: Place,
        /// What.
        path: String,
        /// The variable.
        name: String,
        /// What its author says.
        message: String,
    },
    /// A service refers to something that the project does not define.
    #[error("{place}: service \"{service}\" refers to undefined {kind} {name}")]
    Undefined {
        /// Where.
        place: Place,
        /// Who.
        service: String,
        /// A network, volume, secret or config.
        kind: &'static str,
        /// What.
        name: String,
    },
    /// A service depends on one that is not there.
    #[error("{place}: service \"{service}\" depends on undefined service \"{name}\"")]
    UndefinedDependency {
        /// Where.
        place: Place,
        /// Who.
        service: String,
        /// On whom.
        name: String,
    },
    /// Services that wait for each other.
    #[error("dependency cycle detected: {}", path.join(" -> "))]
    Cycle {
        /// From a service back to it.
        path: Vec<String>,
    },
    /// Services or files that extend or include each other.
    #[error("{place}: circular reference: {}", path.join(" -> "))]
    Circular {
        /// Where.
        place: Place,
        /// From one back to it.
        path: Vec<String>,
    },
    /// A service that extends one that is not there.
    #[error("{place}: cannot extend service \"{name}\" in {file}: service not found")]
    NothingToExtend {
        /// Where.
        place: Place,
        /// The service.
        name: String,
        /// The file.
        file: String,
    },
    /// The command line names a service that there is not.
    #[error("no such service: {0}")]
    NoSuchService(String),
    /// A service that no chosen profile has, and that another one needs.
    #[error(
        "service \"{name}\" is required by \"{by}\" but is disabled. Can be enabled by profiles {profiles:?}"
    )]
    Disabled {
        /// The service.
        name: String,
        /// Who needs it.
        by: String,
        /// The profiles that have it.
        profiles: Vec<String>,
    },
    /// A name that no project may have.
    #[error(
        "invalid project name \"{0}\": must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number"
    )]
    ProjectName(String),
    /// There is no name, and none can be made of the directory's.
    #[error("project name must not be empty: name the project with -p")]
    NoProjectName,
    /// Files without any service.
    #[error("no service selected")]
    NoService,
}

fn told(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Faulty for ComposeError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read { .. } => Fault::Environment,
            _ => Fault::Input,
        }
    }
}
