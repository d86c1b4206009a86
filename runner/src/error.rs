//! What can go wrong with running a process, as opposed to the process itself failing.
//!
//! "The command exited 1" is no error: it is the [`crate::ExitStatus`] of a run. The exit codes that
//! Docker gives to commands that could not be started are [`RunError::exit_code`].

use std::io;

use base::cancel::Cancelled;
use base::{Fault, Faulty};
use sys::mount::OverlayError;
use sys::path_error::PathError;
use sys::probe::Missing;
use sys::seccomp::FilterSizeError;
use sys::spawn::LaunchError;

pub use crate::capabilities::UnknownCapability;
pub use crate::cgroup::CgroupError;
use crate::neighbour::NeighbourError;
use crate::network::error::NetworkError;
pub use crate::seccomp::SeccompError;

/// A request that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is nothing to run.
    #[error("no command to run: the image has none and none was given")]
    NoCommand,
    /// A path inside the container is not absolute.
    #[error("the {what} \"{path}\" is not an absolute path")]
    RelativePath {
        /// Which path.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A mount would hide the root filesystem.
    #[error("a mount at \"/\" would hide the whole image; choose a directory below it")]
    MountOverRoot,
    /// A mount destination has a `..`.
    #[error("the mount destination \"{path}\" has a \"..\"; write the path it means")]
    ParentInPath {
        /// The path.
        path: String,
    },
    /// A mount would change what the kernel says.
    #[error("a mount at \"{path}\" is inside of /proc, which is the kernel's")]
    MountInProc {
        /// Where.
        path: String,
    },
    /// Text for the kernel has a zero byte in it.
    #[error("the {what} {text:?} has a zero byte in it")]
    ZeroByte {
        /// What the text is.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// A capability that does not exist.
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
    /// A setting of the kernel that is the whole machine's, or none.
    #[error("the kernel setting \"{name}\" cannot be set for one container")]
    Sysctl {
        /// Its name.
        name: String,
    },
    /// A setting of a namespace that is the host's.
    #[error("the kernel setting \"{name}\" would be the host's: the container needs {needed}")]
    SharedSysctl {
        /// Its name.
        name: String,
        /// What the container would have to have.
        needed: &'static str,
    },
    /// Something that takes a mount or a namespace.
    #[error(
        "{what} is not possible with chroot isolation, which has no mounts and no namespaces; lap system doctor tells \
         how to get more"
    )]
    NeedsMounts {
        /// What was asked for.
        what: String,
    },
    /// A user or group that means nothing in our user namespace.
    #[error(
        "{kind} {id} cannot be used: it is not among the ids that this user has; lines in /etc/subuid and /etc/subgid \
         give more, and lap system doctor shows them"
    )]
    UnmappedId {
        /// `user` or `group`.
        kind: &'static str,
        /// The id, as the container would see it.
        id: u32,
    },
    /// The root filesystem cannot be an overlay.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A propagation that does not exist.
    #[error(
        "unknown mount propagation \"{value}\"; use private, slave, shared or unbindable, or one with an r in front"
    )]
    Propagation {
        /// As the spec has it.
        value: String,
    },
    /// A mount in the spec without something that its type needs.
    #[error("the mount at \"{destination}\" has no {missing}")]
    IncompleteMount {
        /// Where.
        destination: String,
        /// What is missing.
        missing: &'static str,
    },
    /// The system call filter is too large.
    #[error(transparent)]
    Filter(#[from] FilterSizeError),
    /// The system call profile cannot be used.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

impl Faulty for RequestError {
    fn fault(&self) -> Fault {
        match self {
            Self::Filter(_) => Fault::Bug,
            Self::Seccomp(error) => error.fault(),
            _ => Fault::Input,
        }
    }
}

/// Why a process could not be run or followed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The request makes no sense.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// This machine or this user cannot run containers.
    #[error("cannot run containers here: {0}")]
    Unsupported(Missing),
    /// The command is not in the container.
    #[error("exec: \"{command}\": executable file not found in the container{}", in_path(command))]
    CommandNotFound {
        /// As it was given.
        command: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The command is there but cannot be executed.
    #[error("exec: \"{command}\": cannot be executed")]
    CommandNotExecutable {
        /// As it was given.
        command: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The container does not get the network that was asked for.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Another container cannot be joined.
    #[error(transparent)]
    Neighbour(#[from] NeighbourError),
    /// The container cannot be limited as asked.
    #[error(transparent)]
    Group(#[from] CgroupError),
    /// Setting the container up failed.
    #[error("cannot start the container")]
    Launch(#[source] LaunchError),
    /// The container to run a further process in has ended.
    #[error("the container is not running")]
    NotRunning,
    /// What the container has of its own could not be found out.
    #[error("cannot look at the container's namespaces")]
    Namespaces(#[source] PathError),
    /// Work of ours around the process failed.
    #[error("cannot {operation} of the container")]
    Supervise {
        /// What was tried, on what.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file or device could not be put into the root filesystem.
    #[error("cannot make the root filesystem ready for the container")]
    Lend(#[source] PathError),
    /// What mounting left in the root filesystem could not be removed.
    #[error("cannot clean up the root filesystem after the container")]
    CleanUp(#[source] PathError),
    /// The files of a container that does not run could not be opened.
    #[error("cannot open the files of the container")]
    Files(#[source] PathError),
    /// A packed layer could not be mounted.
    #[error("cannot mount the layers of the container")]
    Layers(#[source] PathError),
    /// The caller cancelled; the container has been killed.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn in_path(command: &str) -> &'static str {
    if command.contains('/') { "" } else { "'s $PATH" }
}

impl RunError {
    /// The exit code that stands for this error, as `docker run` has them: 127 when the command does not
    /// exist, 126 when it cannot be executed, 125 when the container could not be started.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::CommandNotFound { .. } => 127,
            Self::CommandNotExecutable { .. } => 126,
            _ => 125,
        }
    }

    /// Sorts the error of a launch: what the command is to blame for, what this machine, and the rest.
    pub(crate) fn of_launch(error: LaunchError) -> Self {
        match error {
            LaunchError::Execute { program, source } => {
                let command = program.to_string_lossy().into_owned();
                match source.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                        Self::CommandNotFound { command, source }
                    }
                    _ => Self::CommandNotExecutable { command, source },
                }
            }
            other => match sys::probe::missing_for_containers() {
                Some(missing) => Self::Unsupported(missing),
                None => Self::Launch(other),
            },
        }
    }
}

impl Faulty for RunError {
    fn fault(&self) -> Fault {
        match self {
            Self::Request(error) => error.fault(),
            Self::Unsupported(_) | Self::Supervise { .. } => Fault::Environment,
            Self::CommandNotFound { .. } | Self::CommandNotExecutable { .. } | Self::NotRunning => {
                Fault::Input
            }
            Self::Namespaces(error) => error.fault(),
            Self::Network(error) => error.fault(),
            Self::Neighbour(error) => error.fault(),
            Self::Group(error) => error.fault(),
            Self::Launch(error) => error.fault(),
            Self::Lend(error) | Self::CleanUp(error) | Self::Files(error) | Self::Layers(error) => {
                error.fault()
            }
            Self::Cancelled(_) => Fault::Cancelled,
        }
    }
}
