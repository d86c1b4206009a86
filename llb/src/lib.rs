//! The operations of a build and the graph they form, after BuildKit's low-level build (LLB) format.
//!
//! A [`Graph`] is all that a frontend hands to the solver: vertices that each hold one [`Op`], joined by
//! edges that say which result goes into which input slot. Identity is content: two vertices with the
//! same operation, platform and inputs are one vertex. Names, source ranges and other things for people
//! travel in [`Metadata`] and are never part of identity.
//!
//! This crate does no I/O and knows nothing of Dockerfiles, caches or containers.

mod aspects;
pub mod graph;
mod identity;
pub mod op;

pub use aspects::{Aspect, aspects};
pub use graph::{Graph, GraphBuilder, GraphError, Group, Input, Metadata, SourceRange, Vertex, VertexIndex};
pub use op::{
    BindMount, CacheMount, ChmodMode, CopyAction, CopyRules, DeviceRequest, ExecMount, ExecOp, FileAction,
    FileOp, GitSource, HttpSource, ImageSource, LocalSource, MkdirAction, MkfileAction, MountKind,
    NetworkMode, Op, Owner, Rlimit, RmAction, ScriptFile, SecretMount, SecurityMode, Sharing, SourceOp,
    SshMount, SymlinkAction, TmpfsMount, UserName,
};
