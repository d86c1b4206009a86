//! The start of a process as data: which namespaces it gets and what it does before it becomes the
//! user's program.
//!
//! A [`Plan`] is complete: everything that could be decided, allocated or looked up was, so that the new
//! process only makes system calls. Paths called *target* are inside the new root and resolved there;
//! all others are the host's.

use std::ffi::CString;
use std::sync::Arc;

use crate::mount::{MountAttributes, OverlayOptions, Propagation};
use crate::ns::Namespaces;
use crate::seccomp::Filter;

/// Everything a new process does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The namespaces it gets of its own, from its first moment.
    pub namespaces: Namespaces,
    /// Who takes the steps.
    pub creation: Creation,
    /// How long it may live.
    pub lifetime: Lifetime,
    /// What it does first, in this order. The first step that fails ends it.
    pub steps: Vec<Step>,
    /// What it becomes.
    pub exec: Exec,
}

impl Plan {
    /// The namespaces that steps need, in the order of the steps. `None` where a step needs but the number of a
    /// descriptor.
    pub(super) fn namespaces_used(&self) -> impl Iterator<Item = Option<&NamespacesOf>> {
        self.steps.iter().filter_map(|step| match step {
            Step::Join { of, .. } => Some(Some(of)),
            Step::PrepareMount { map, .. } => Some(map.as_ref()),
            Step::TakeMount { mount } => Some(Some(mount)),
            _ => None,
        })
    }
}

/// Who takes the steps of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Creation {
    /// The process itself. It shares our memory until it executes its program, which is the fastest way.
    #[default]
    Direct,
    /// The process itself, with a copy of our memory. Needed where the kernel may treat all alike that share memory: those
    /// who share that of the process that it ends for lack of memory are ended, too (`mm/oom_kill.c`, `__oom_kill_process`),
    /// and they have one score (`proc_pid_oom_score_adj(5)`). Takes as long as copying our page tables.
    Copy,
    /// A forerunner with a copy of our memory, which creates the process. Needed to join or make a user
    /// namespace, and to join a process id namespace. When it does so last, after all rights are given up, the
    /// process does nothing but execute its program: whoever lives in that process id namespace and may trace
    /// processes meets none that has our rights or our memory.
    Forerunner,
}

/// How long a process may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// It ends with us at the latest.
    #[default]
    Ours,
    /// It goes on when we end; somebody else waits for it then.
    Independent,
}

/// A line of a user namespace's map of ids (`user_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The first id inside.
    pub inside: u32,
    /// The id outside that it is.
    pub outside: u32,
    /// How many ids in a row.
    pub count: u32,
}

/// A moment at which a new process waits for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// Its namespaces are there; its mounts are not.
    Namespaces,
    /// Its mounts are there; the host's are still in reach.
    Mounts,
}

/// The program a process becomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exec {
    /// Paths to try in order, as `execvp(3)` does with the directories of `PATH`.
    pub candidates: Vec<CString>,
    /// Its arguments, its own name first.
    pub arguments: Vec<CString>,
    /// Its environment, `NAME=value`.
    pub environment: Vec<CString>,
    /// The program is our caller's, not an image's: links of `/proc` that jump are followed.
    pub trusted: bool,
}

/// One thing a new process does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Enters a control group by writing to a file of the host.
    EnterGroup {
        /// The group's `tasks` or `cgroup.procs`.
        file: CString,
    },
    /// Joins namespaces. Joining a mount namespace makes its root the one that targets are resolved in.
    Join {
        /// Which kinds.
        kinds: Namespaces,
        /// Whose.
        of: NamespacesOf,
    },
    /// Makes namespaces of its own. Process ids count for the processes that it creates.
    Unshare(Namespaces),
    /// Takes a file or directory of the host for a later [`MountSource::Prepared`], before the mounts are cut off
    /// from the host's: to have it show owners as a user namespace maps them (`mount_setattr(2)`, "ID-mapped
    /// mounts"), which would not be allowed inside of a user namespace, or to leave it connected with the host.
    PrepareMount {
        /// Where it is.
        path: CString,
        /// Whether mounts below it come along.
        recursive: bool,
        /// How it will be mounted.
        attributes: MountAttributes,
        /// The user namespace. `None` leaves owners as they are, and the mount a peer of the host's if that is
        /// shared: what is mounted below one of them appears below the other (`mount_namespaces(7)`).
        map: Option<NamespacesOf>,
    },
    /// Takes what we have opened for a later [`MountSource::Prepared`].
    TakeMount {
        /// [`NamespacesOf::Mount`]
        mount: NamespacesOf,
    },
    /// Has the ids of its own, new user namespace mapped by us.
    MapIds {
        /// User ids.
        users: Vec<IdMap>,
        /// Group ids.
        groups: Vec<IdMap>,
    },
    /// Becomes user and group 0 of its user namespace, without supplementary groups.
    BecomeRoot,
    /// Only in plans with a forerunner. The forerunner creates the process here, and the process takes the other steps: those that have to be
    /// taken inside of a process id namespace. Without this step that comes last.
    CreateProcess,
    /// Waits until we have done what is to be done at this moment.
    Checkpoint(Checkpoint),
    /// Cuts the copied mounts off from the host's: nothing propagates to it, and what it mounts later appears
    /// here only if that is asked for.
    PrivateMounts {
        /// Whether it is.
        receive: bool,
    },
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
    /// Changes attributes of a mount and of all below it.
    Attributes {
        /// Where it is in the new root.
        target: CString,
        /// What is set.
        set: MountAttributes,
        /// What is cleared.
        clear: MountAttributes,
    },
    /// Changes what becomes of mounts below a mount.
    Propagation {
        /// Where it is in the new root; `/` is the root itself.
        target: CString,
        /// To what.
        kind: Propagation,
        /// Whether mounts below it are meant too.
        recursive: bool,
    },
    /// Makes a symbolic link in the new root unless something is there.
    Symlink {
        /// What it points to.
        content: CString,
        /// Where it is.
        target: CString,
    },
    /// Puts an empty file, or a symbolic link, into the new root for programs that look for it. What is there stays,
    /// and where nothing can be made, nothing is.
    Mark {
        /// Where it is.
        target: CString,
        /// What the link points to; `None` makes a file.
        link: Option<CString>,
    },
    /// Opens a terminal in the new root's `/dev/pts`, makes it the controlling terminal and the standard
    /// streams, and hands its other end to the parent.
    Terminal {
        /// Whether it becomes `/dev/console` too.
        console: bool,
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
    /// Changes the root directory to one of the host, without any mount. Whoever keeps `CAP_SYS_CHROOT` can undo
    /// that.
    ChangeRoot {
        /// The directory.
        root: CString,
    },
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
    /// Sets something of the kernel for the process itself.
    Attribute {
        /// A file of the host's `/proc/self`.
        file: CString,
        /// What is written.
        value: CString,
    },
    /// Sets a resource limit. Raising a ceiling takes `CAP_SYS_RESOURCE`.
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
    /// Sets the capabilities of the process.
    Capabilities(CapabilitySets),
    /// Leaves our session keyring for an empty one, where the kernel has such things and allows more of them
    /// (`session-keyring(7)`). Keys of ours are not to be had then, even if no filter forbids to ask.
    OwnKeyring,
    /// Sets the file mode creation mask.
    Umask(u32),
}

/// What namespaces are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespacesOf {
    /// The one that a file of the host stands for, as `/proc/PID/ns/net`.
    File(CString),
    /// Those of the process [`Descriptors::target`](super::Descriptors::target).
    Target,
    /// Nothing to join: a mount of another mount namespace, to be shown in this one too.
    Mount {
        /// The file that stands for that namespace, as `/proc/PID/ns/mnt`.
        namespace: CString,
        /// Where it is there; no part of the path may be a symbolic link.
        path: CString,
    },
    /// A new user namespace in which nobody is, with these maps.
    Maps {
        /// User ids.
        users: Vec<IdMap>,
        /// Group ids.
        groups: Vec<IdMap>,
    },
}

/// Sets of capabilities (`capabilities(7)`); bit `n` is capability number `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySets {
    /// What is in force; some of `permitted`.
    pub effective: u64,
    /// What the process may put in force.
    pub permitted: u64,
    /// What programs that it executes may get if their files say so.
    pub inheritable: u64,
    /// What programs that it executes get; some of `permitted` and of `inheritable`.
    pub ambient: u64,
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
    /// A mount that is attached nowhere ([`Descriptors::layers`](super::Descriptors::layers)), attached here: what is made of
    /// it while it is keeps a hold of its own.
    Layer {
        /// Its name.
        name: CString,
        /// A path that leads to its root.
        mount: CString,
    },
    /// A device or FIFO with an owner.
    Node {
        /// Its name.
        name: CString,
        /// What it is.
        kind: NodeKind,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Owning group.
        gid: u32,
        /// Major number of a device.
        major: u32,
        /// Minor number of a device.
        minor: u32,
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

/// Kinds of special files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
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
    /// A tmpfs that begins with what the target has.
    Filled {
        /// Options of the tmpfs.
        options: Vec<(CString, Option<CString>)>,
    },
    /// A file or directory of the host.
    Host {
        /// Where it is.
        path: CString,
        /// Whether mounts below it come along.
        recursive: bool,
    },
    /// The next of those that [`Step::PrepareMount`] and [`Step::TakeMount`] have taken.
    Prepared,
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
    /// A directory if the source is one, else a file. Symbolic links are followed inside the root, but not to
    /// anything of `/proc`: what is written there for the container must not be led elsewhere.
    LikeSource,
    /// Something of `/proc` that is there, reached without any symbolic link.
    KernelFile,
    /// A directory reached without any symbolic link: a kernel interface that later steps rely on.
    RealDirectory,
}

impl Step {
    /// What the step does and to what, for error messages: `mount proc at "/proc"`.
    pub fn describe(&self) -> String {
        match self {
            Self::EnterGroup { file } => format!("enter the control group by {file:?}"),
            Self::Join { kinds, of: NamespacesOf::File(file) } => {
                format!("join the {} namespace {file:?}", list(*kinds))
            }
            Self::Join { kinds, .. } => {
                format!("join the namespaces of the container ({})", list(*kinds))
            }
            Self::Unshare(kinds) => format!("make its own namespaces ({})", list(*kinds)),
            Self::PrepareMount { path, map: Some(_), .. } => format!("map the owners of {path:?}"),
            Self::PrepareMount { path, map: None, .. } => format!("take the mount at {path:?}"),
            Self::TakeMount { .. } => "take a mount of another container".to_owned(),
            Self::MapIds { .. } => "have the ids of its user namespace mapped".to_owned(),
            Self::BecomeRoot => "become root of its user namespace".to_owned(),
            Self::CreateProcess => "create the process in its namespaces".to_owned(),
            Self::Checkpoint(Checkpoint::Namespaces) => "wait with its namespaces".to_owned(),
            Self::Checkpoint(Checkpoint::Mounts) => "wait with its mounts".to_owned(),
            Self::PrivateMounts { .. } => "make the copied mounts private".to_owned(),
            Self::Scratch { .. } => "prepare the private files of the container".to_owned(),
            Self::Root { source: RootSource::Overlay(overlay), .. } => {
                format!("mount the root filesystem, {overlay}")
            }
            Self::Root { source: RootSource::Bind(source), .. } => {
                format!("mount the root filesystem from {source:?}")
            }
            Self::Mount { target, source, .. } => format!("mount {} at {target:?}", source.describe()),
            Self::Attributes { target, .. } => format!("change the attributes of the mount at {target:?}"),
            Self::Propagation { target, .. } => format!("change the propagation of {target:?}"),
            Self::Symlink { content, target } => format!("link {target:?} to {content:?}"),
            Self::Mark { target, .. } => format!("make {target:?}"),
            Self::Terminal { .. } => "open the terminal".to_owned(),
            Self::Mask { target, .. } => format!("mask {target:?}"),
            Self::ReadOnly { target } => format!("make {target:?} read-only"),
            Self::ReadOnlyRoot => "make the root filesystem read-only".to_owned(),
            Self::Pivot => "make the new root the process's root".to_owned(),
            Self::ChangeRoot { root } => format!("change the root directory to {root:?}"),
            Self::LoopbackUp => "bring the loopback interface up".to_owned(),
            Self::HostName(name) => format!("set the host name to {name:?}"),
            Self::DomainName(name) => format!("set the domain name to {name:?}"),
            Self::Sysctl { file, value } | Self::Attribute { file, value } => {
                format!("set {file:?} to {value:?}")
            }
            Self::Limit { resource, soft, hard } => {
                let value =
                    |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
                let name = resource_name(*resource);
                format!("set the resource limit {name} to {}:{}", value(*soft), value(*hard))
            }
            Self::OwnStreams { uid, .. } => format!("give the standard streams to user {uid}"),
            Self::WorkingDirectory { path, .. } => format!("change to the working directory {path:?}"),
            Self::BoundingSet { keep } => format!("limit the capability bounding set to {keep:#x}"),
            Self::NoNewPrivileges => "forbid gaining privileges".to_owned(),
            Self::Seccomp(_) => "load the system call filter".to_owned(),
            Self::Identity { uid, gid, .. } => format!("become user {uid}, group {gid}"),
            Self::Capabilities(sets) => format!("set the capabilities to {:#x}", sets.effective),
            Self::OwnKeyring => "make a session keyring of its own".to_owned(),
            Self::Umask(mask) => format!("set the file mode mask to {mask:#o}"),
        }
    }
}

fn list(namespaces: Namespaces) -> String {
    namespaces.names().collect::<Vec<_>>().join(", ")
}

impl MountSource {
    fn describe(&self) -> String {
        match self {
            Self::Filesystem { kind, .. } => kind.to_string_lossy().into_owned(),
            Self::Filled { .. } => "tmpfs".to_owned(),
            Self::Host { path, .. } => format!("{path:?}"),
            Self::Prepared => "what was prepared for it".to_owned(),
            Self::Scratch(name) => format!("the provided {name:?}"),
            Self::Part { source: RootSource::Overlay(overlay), path, .. } => format!("{path:?} of {overlay}"),
            Self::Part { source: RootSource::Bind(source), path, .. } => format!("{path:?} of {source:?}"),
        }
    }
}

/// The name of an `RLIMIT_…` number (`asm-generic/resource.h`), without that in front and in small letters.
fn resource_name(number: u32) -> String {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    let name = usize::try_from(number).ok().and_then(|number| NAMES.get(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}
