//! The operations: source, exec, file, merge and diff.
//!
//! Only types live here. Everything in an operation is part of its identity unless its field says
//! otherwise, so nothing that must not cause a rebuild (a display name, a host path, the time) has a field
//! here.

mod exec;
mod file;
mod source;

use base::Platform;

pub use exec::{
    BindMount, CacheMount, DeviceRequest, ExecMount, ExecOp, MountKind, NetworkMode, Rlimit, ScriptFile,
    SecretMount, SecurityMode, Sharing, SshMount, TmpfsMount,
};
pub use file::{
    ChmodMode, CopyAction, CopyRules, FileAction, FileOp, MkdirAction, MkfileAction, Owner, RmAction,
    SymlinkAction, UserName,
};
pub use source::{GitSource, HttpSource, ImageSource, LocalSource, SourceOp};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Content from outside the build. Has no inputs.
    Source(SourceOp),
    /// A process.
    Exec(ExecOp),
    /// Changes to a filesystem. Input 0, if `has_base`, is what is changed; the others are sources.
    File(FileOp),
    /// Filesystems laid over each other: input 0 is the lowest. No fields: the inputs say it all.
    Merge,
    /// What has changed from input 0 to input 1: a filesystem with what is new and marks of what is gone.
    Diff,
}

impl Op {
    /// How many results it has.
    pub fn outputs(&self) -> u32 {
        match self {
            Self::Exec(exec) => exec.kept_mounts() + 1,
            _ => 1,
        }
    }
}

/// A vertex's platform matters for identity: the same command on another architecture is another step.
pub(crate) type OpPlatform = Platform;
