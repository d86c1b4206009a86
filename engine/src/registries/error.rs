//! What can be wrong with what is said of registries here, rather than with a registry.

use base::{Fault, Faulty};
use registry::DockerConfigError;

use super::LoginError;
use crate::error::EngineError;

/// Why something about registries cannot be done, before or after one is asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// A file with logins cannot be read.
    #[error(transparent)]
    DockerConfig(#[from] DockerConfigError),
    /// A login is not kept.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// A list of images is not as it should be.
    #[error(transparent)]
    List(#[from] ListError),
    /// An image is to be pushed that has no name.
    #[error("an image that is pushed needs a name")]
    NoNameToPush,
}

/// What is wrong with a list of images that was made by hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// There is none with this name.
    #[error("no such manifest list: {0}")]
    Unknown(String),
    /// It is there already.
    #[error("the manifest list {0} exists already")]
    Exists(String),
    /// An image is not in it.
    #[error("the manifest list {list} does not have {image}")]
    Without {
        /// The list.
        list: String,
        /// The image.
        image: String,
    },
}

impl RegistriesError {
    /// What the user may do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::List(ListError::Unknown(_)) => "`lap manifest create` makes one",
            Self::List(ListError::Exists(_)) => "add to it with --amend, or remove it with lap manifest rm",
            Self::NoNameToPush => "give one with -t, or with name= in the output",
            Self::DockerConfig(_) | Self::Login(_) | Self::List(ListError::Without { .. }) => return None,
        };
        Some(hint.to_owned())
    }
}

impl Faulty for RegistriesError {
    fn fault(&self) -> Fault {
        match self {
            Self::DockerConfig(error) => error.fault(),
            Self::Login(error) => error.fault(),
            Self::List(_) | Self::NoNameToPush => Fault::Input,
        }
    }
}

impl From<DockerConfigError> for EngineError {
    fn from(error: DockerConfigError) -> Self {
        RegistriesError::from(error).into()
    }
}

impl From<LoginError> for EngineError {
    fn from(error: LoginError) -> Self {
        RegistriesError::from(error).into()
    }
}

impl From<ListError> for EngineError {
    fn from(error: ListError) -> Self {
        RegistriesError::from(error).into()
    }
}
