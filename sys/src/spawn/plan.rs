//! The start of a process as data: which namespaces it gets and what it does before it becomes the
//! user's program.
//!
//! A [`Plan`] is complete: everything that could be decided, allocated or looked up was, so that the new
//! process only makes system calls. Paths called *target* are inside the new root and resolved there;
//! all others are the host's.

use std::ffi::CString;
use std::sync::Arc;

use crate::mount::{MountAttributes, OverlayOptions};
use crate::ns::Namespaces;
use crate::seccomp::Filter;

/// Everything a new process does.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The namespaces it gets of its own.
    pub namespaces: Namespaces,
    /// What it does first, in this order. The first step that fails ends it.
    pub steps: Vec<Step>,
    /// What it becomes.
    pub exec: Exec,
}

/// The program a process becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Paths to try in order, as `execvp(3)` does with the directories of `PATH`.
    pub candidates: Vec<CString>,
    /// Its arguments, its own name first.
    pub arguments: Vec<CString>,
    /// Its environment, `NAME=value`.
    pub environment: Vec<CString>,
}

/// One thing a new process does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Enters a control group by writing to a file of the host.
    EnterGroup {
        /// The group's `tasks` or `cgroup.procs`.
        file: CString,
    },
    /// Makes the control groups that it is in the root of its view.
    OwnGroupView,
    /// Cuts the copied mounts off from the host's, so that nothing propagates either way.
    PrivateMounts,
    /// Makes a private tmpfs and fills it. It is never reachable from the container; later steps show
    /// single entries of it.
    Scratch {
        /// What it contains.
        entries: Vec<ScratchEntry>,
    },
    /// Mounts the root filesystem over the directory `at`. Later steps resolve their targets in it.
    Root {
        /// A directory of the host, hidden in this mount namespace only.
        at: CString,
        /// What is mounted.
        source: RootSource,
        /// How.
        attributes: MountAttributes,
    },
    /// Mounts something at a target, which is made if missing.
    Mount {
        /// Where in the new root.
        target: CString,
        /// What the target has to be.
        kind: TargetKind,
        /// What is mounted.
        source: MountSource,
        /// How.
        attributes: MountAttributes,
    },
    /// Makes a symbolic link in the new root unless something is there.
    Symlink {
        /// What it points to.
        content: CString,
        /// Where it is.
        target: CString,
    },
    /// Opens a terminal in the new root's `/dev/pts`, makes it the controlling terminal, the standard
    /// streams and `/dev/console`, and hands its other end to the parent.
    Terminal {
        /// Lines.
        rows: u16,
        /// Characters per line.
        columns: u16,
    },
    /// Hides a target, if it exists: a file becomes the scratch entry `file`, a directory the empty,
    /// read-only scratch entry `directory`.
    Mask {
        /// What to hide.
        target: CString,
        /// Scratch entry shown instead of a file.
        file: CString,
        /// Scratch entry shown instead of a directory.
        directory: CString,
    },
    /// Makes a target read-only with all mounts below it, if it exists.
    ReadOnly {
        /// What to protect.
        target: CString,
    },
    /// Makes the root mount itself read-only; mounts inside it stay as they are.
    ReadOnlyRoot,
    /// Makes the new root `/` and detaches the host's and the scratch filesystem.
    Pivot,
    /// Brings the loopback interface up.
    LoopbackUp,
    /// Sets the host name.
    HostName(CString),
    /// Sets the domain name.
    DomainName(CString),
    /// Sets something of the kernel for the namespaces that the process is in.
    Sysctl {
        /// A file of the host's `/proc/sys`, which shows what belongs to the namespaces of who opens it.
        file: CString,
        /// What is written.
        value: CString,
    },
    /// Sets a resource limit, as far as our rights allow.
    Limit {
        /// `RLIMIT_…` number.
        resource: u32,
        /// The limit in force.
        soft: u64,
        /// The ceiling.
        hard: u64,
    },
    /// Gives pipes that are standard streams to the user, so that `/dev/stdout` can be opened again.
    OwnStreams {
        /// Which of the three streams.
        streams: [bool; 3],
        /// The new owner.
        uid: u32,
    },
    /// Changes the working directory (after the pivot) and makes sure that it lies inside the root.
    WorkingDirectory {
        /// An absolute path.
        path: CString,
        /// Make what is missing of it, owned by root.
        create: bool,
    },
    /// Drops every capability from the bounding set that is not in the mask.
    BoundingSet {
        /// Bit `n` keeps capability number `n`.
        keep: u64,
    },
    /// Forbids gaining rights by executing a program.
    NoNewPrivileges,
    /// Loads a system call filter.
    Seccomp(Arc<Filter>),
    /// Becomes this user.
    Identity {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Supplementary groups. `None` keeps those of the parent, where a user namespace allows no change.
        groups: Option<Vec<u32>>,
    },
    /// Sets the permitted and effective sets, and empties the inheritable and ambient ones.
    Capabilities {
        /// Bit `n` is capability number `n`.
        mask: u64,
    },
    /// Sets the file mode creation mask.
    Umask(u32),
}

/// An entry of the scratch filesystem; names have no `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScratchEntry {
    /// A file.
    File {
        /// Its name.
        name: CString,
        /// What it holds.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Owning group.
        gid: u32,
    },
    /// An empty directory.
    Directory {
        /// Its name.
        name: CString,
        /// Permission bits.
        mode: u32,
    },
    /// A file of the host, shown under this name: a device, where none may be made.
    Bound {
        /// Its name.
        name: CString,
        /// Where it is on the host.
        source: CString,
    },
    /// A character device.
    Device {
        /// Its name.
        name: CString,
        /// Permission bits.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// What the root filesystem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// An overlay.
    Overlay(OverlayOptions),
    /// A directory of the host.
    Bind(CString),
}

/// What is mounted at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A new instance of a filesystem.
    Filesystem {
        /// Its type, for example `proc`.
        kind: CString,
        /// Options; `None` is a flag without a value.
        options: Vec<(CString, Option<CString>)>,
    },
    /// A file or directory of the host.
    Host {
        /// Where it is.
        path: CString,
        /// Whether mounts below it come along.
        recursive: bool,
    },
    /// An entry of the scratch filesystem.
    Scratch(CString),
    /// A file or directory of a filesystem that is mounted for this purpose, and seen nowhere else.
    Part {
        /// The filesystem.
        source: RootSource,
        /// A directory of the host that it is mounted over for a moment.
        at: CString,
        /// The path in it; links are followed inside of it. `.` is all of it.
        path: CString,
    },
}

/// What a mount's target has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A directory if the source is one, else a file. Symbolic links are followed inside the root.
    LikeSource,
    /// A directory reached without any symbolic link: a kernel interface that later steps rely on.
    RealDirectory,
}

impl Step {
    /// What the step does and to what, for error messages: `mount proc at "/proc"`.
    pub fn describe(&self) -> String {
        match self {
            Self::EnterGroup { file } => format!("enter the control group by {file:?}"),
            Self::OwnGroupView => "make its own view of control groups".to_owned(),
            Self::PrivateMounts => "make the copied mounts private".to_owned(),
            Self::Scratch { .. } => "prepare the private files of the container".to_owned(),
            Self::Root { source: RootSource::Overlay(overlay), .. } => {
                format!("mount the root filesystem, {overlay}")
            }
            Self::Root { source: RootSource::Bind(source), .. } => {
                format!("mount the root filesystem from {source:?}")
            }
            Self::Mount { target, source, .. } => format!("mount {} at {target:?}", source.describe()),
            Self::Symlink { content, target } => format!("link {target:?} to {content:?}"),
            Self::Terminal { .. } => "open the terminal".to_owned(),
            Self::Mask { target, .. } => format!("mask {target:?}"),
            Self::ReadOnly { target } => format!("make {target:?} read-only"),
            Self::ReadOnlyRoot => "make the root filesystem read-only".to_owned(),
            Self::Pivot => "make the new root the process's root".to_owned(),
            Self::LoopbackUp => "bring the loopback interface up".to_owned(),
            Self::HostName(name) => format!("set the host name to {name:?}"),
            Self::DomainName(name) => format!("set the domain name to {name:?}"),
            Self::Sysctl { file, value } => format!("set {file:?} to {value:?}"),
            Self::Limit { resource, soft, hard } => format!("set resource limit {resource} to {soft}:{hard}"),
            Self::OwnStreams { uid, .. } => format!("give the standard streams to user {uid}"),
            Self::WorkingDirectory { path, .. } => format!("change to the working directory {path:?}"),
            Self::BoundingSet { keep } => format!("limit the capability bounding set to {keep:#x}"),
            Self::NoNewPrivileges => "forbid gaining privileges".to_owned(),
            Self::Seccomp(_) => "load the system call filter".to_owned(),
            Self::Identity { uid, gid, .. } => format!("become user {uid}, group {gid}"),
            Self::Capabilities { mask } => format!("set the capabilities to {mask:#x}"),
            Self::Umask(mask) => format!("set the file mode mask to {mask:#o}"),
        }
    }
}

impl MountSource {
    fn describe(&self) -> String {
        match self {
            Self::Filesystem { kind, .. } => kind.to_string_lossy().into_owned(),
            Self::Host { path, .. } => format!("{path:?}"),
            Self::Scratch(name) => format!("the provided {name:?}"),
            Self::Part { source: RootSource::Overlay(overlay), path, .. } => format!("{path:?} of {overlay}"),
            Self::Part { source: RootSource::Bind(source), path, .. } => format!("{path:?} of {source:?}"),
        }
    }
}
