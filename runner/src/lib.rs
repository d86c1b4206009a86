//! Processes in containers: from a request, over an OCI runtime spec and a plan, to a supervised process.
//!
//! ```text
//! RunRequest --spec--> Bundle (OCI Spec) --plan--> Plan (steps as data) --sys::spawn--> Process
//! ```
//!
//! Everything is decided before a process exists; [`sys::spawn`] then creates one that only carries the
//! plan out. [`start`] is that line, [`run_logged`] runs to the end and hands output on (RUN),
//! [`run_interactive`] connects the process to our own terminal (`lap run`).
//!
//! What a container gets: its own pid, mount, IPC, UTS and cgroup namespaces, and a network namespace unless
//! it shares the host's; a root of its own; fresh `/proc`, `/dev` and read-only `/sys`; Docker's masked and
//! read-only paths, default capabilities and default system call filter. No process of a container outlives
//! this process.
//!
//! [`Process::exec`] runs a further process in a container. Not here ever: images, layers, the terminal's
//! drawing.

pub mod capabilities;
pub mod cgroup;
mod chroot;
pub mod error;
pub mod etc_files;
mod files;
mod interactive;
pub mod isolation;
mod layers;
mod logged;
pub mod logs;
pub mod neighbour;
pub mod network;
pub mod oci;
pub mod passwd;
pub mod plan;
mod process;
pub mod processes;
pub mod request;
pub mod resource_limit;
mod seccomp;
pub mod shim;
pub mod signal;
pub mod spec;
mod stubs;

pub use error::{RequestError, RunError};
pub use files::{Files, mounted_paths};
pub use interactive::detach_keys::{BadDetachKeys, DetachKeys, KeyMatcher};
pub use interactive::{
    Attach, HiddenInput, OurEnds, attach, connect, exec, is_typed, own_size, run_foreground,
};
pub use layers::KeptLayers;
pub use logged::{Expired, TimeLimits, Watched, run_logged, run_watched};
pub use process::{ExitStatus, Finished, Process, resize, start, wait_for_end};
pub use request::{
    DEFAULT_PATH, DeviceAccess, DeviceFile, DeviceKind, DeviceNumber, DeviceRate, DeviceRule, EtcFiles,
    ExtraMount, GroupPlace, Limits, MountKind, Network, Peering, Resource, ResourceLimit, RunRequest,
    SeccompProfile, SharedMemory, Sharing, Stdio, StreamTarget, SystemPaths, TtySize, User,
};
pub use seccomp::{ProfileFile, SeccompError};
pub use sys::ns::Usage;
