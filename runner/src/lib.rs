//! Processes in containers: from a request, over an OCI runtime spec and a plan, to a supervised process.

pub mod request;

pub use request::{
    EtcFiles, ExtraMount, MountKind, Network, Resource, ResourceLimit, RunRequest, SeccompProfile, Stdio,
    StreamTarget, TtySize, User,
};
