//! Why a container cannot be limited, grouped or looked after.

use std::io;
use std::path::PathBuf;

use base::{Fault, Faulty};
use sys::path_error::PathError;

use super::hierarchy::{Controller, Version};

/// Why something about a control group does not work.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel has no such controller, or it is not mounted.
    #[error(
        "this machine cannot limit {}: it has no control group controller \"{}\"{}",
        controller.limits(), controller.name(Version::Two), found(available)
    )]
    NoController {
        /// What is missing.
        controller: Controller,
        /// What is there.
        available: Vec<&'static str>,
    },
    /// The controller has no such limit in this version or configuration of the kernel.
    #[error("the kernel's {} control groups have no \"{file}\", so {what} cannot be set", controller.name(*version))]
    NoSetting {
        /// The controller.
        controller: Controller,
        /// Which version of it.
        version: Version,
        /// The file that is missing.
        file: String,
        /// What it would have set.
        what: &'static str,
    },
    /// A limit that only one of the two versions knows.
    #[error("{what} cannot be set: this machine has version {version} of that control group controller")]
    OtherVersion {
        /// What was to be set.
        what: &'static str,
        /// The version that is there.
        version: Version,
    },
    /// The kernel does not take a value.
    #[error("cannot set {what} to {value}")]
    Refused {
        /// What was to be set.
        what: &'static str,
        /// To what.
        value: String,
        /// Why not.
        #[source]
        source: PathError,
    },
    /// A rule about devices that means nothing.
    #[error("the device rule \"{rule}\" is not valid: {problem}")]
    DeviceRule {
        /// As it was given.
        rule: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The kernel does not take the program that decides about devices.
    #[error("cannot limit the devices of {}", directory.display())]
    DeviceProgram {
        /// The group.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A place for a group that would be somewhere else, or nowhere.
    #[error("the control group \"{path}\" is not valid: {problem}")]
    Location {
        /// As it was given.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Somebody else's processes are in the group that was to be ours.
    #[error("the control group {} is in use: {processes} processes are in it", directory.display())]
    InUse {
        /// The group.
        directory: PathBuf,
        /// How many.
        processes: usize,
    },
    /// Processes that did not do what was asked of the group in the time that they had.
    #[error("{processes} processes of the control group {} were not {what} in {seconds} seconds", directory.display())]
    TimedOut {
        /// The group.
        directory: PathBuf,
        /// How many.
        processes: usize,
        /// What was wanted: "killed", "frozen".
        what: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The group has no directory in a hierarchy that could do it.
    #[error("the container has no control group by which it could be {what}")]
    Ungrouped {
        /// What was wanted: "frozen", "listed".
        what: &'static str,
    },
    /// The group cannot be made or read.
    #[error("cannot use control groups{}", permission_hint(_0))]
    File(#[from] PathError),
}

fn found(available: &[&'static str]) -> String {
    if available.is_empty() { String::new() } else { format!(" (it has {})", available.join(", ")) }
}

fn permission_hint(error: &PathError) -> &'static str {
    if is_permission(&error.source) {
        " (run as root, or in a group that is delegated to this user)"
    } else {
        ""
    }
}

/// Whether we may not do what we tried, as opposed to its being wrong.
pub(super) fn is_permission(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

impl CgroupError {
    /// Whether we may not do what we tried.
    pub(super) fn is_permission(&self) -> bool {
        match self {
            Self::File(error) | Self::Refused { source: error, .. } => is_permission(&error.source),
            Self::DeviceProgram { source, .. } => is_permission(source),
            _ => false,
        }
    }
}

impl Faulty for CgroupError {
    fn fault(&self) -> Fault {
        match self {
            Self::NoController { .. }
            | Self::NoSetting { .. }
            | Self::OtherVersion { .. }
            | Self::DeviceProgram { .. }
            | Self::TimedOut { .. }
            | Self::Ungrouped { .. } => Fault::Environment,
            // The kernel knows which numbers make sense; they are the user's.
            Self::Refused { .. } | Self::DeviceRule { .. } | Self::Location { .. } | Self::InUse { .. } => {
                Fault::Input
            }
            Self::File(error) => error.fault(),
        }
    }
}
