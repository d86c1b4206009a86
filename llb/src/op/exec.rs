//! The exec operation: a process, what it sees and where it runs.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOp {
    /// Whether input 0 is the root filesystem; otherwise the root starts empty.
    pub has_root: bool,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// `NAME=value` of the proxy variables; given to the process, kept out of the key, and not written anywhere:
    /// they may have passwords.
    #[serde(skip)]
    pub proxy_env: Vec<String>,
    /// The working directory, absolute.
    pub cwd: String,
    /// `user[:group]` by name or number, looked up in the root filesystem; empty is root.
    pub user: String,
    /// Which network the process sees.
    pub network: NetworkMode,
    /// What the process may do.
    pub security: SecurityMode,
    /// The host name; `None` is the builder's default, which is no part of the key.
    pub hostname: Option<String>,
    /// Files that are mounted read-only for the process alone: heredoc scripts.
    pub files: Vec<ScriptFile>,
    /// What else is mounted for the process, in order.
    pub mounts: Vec<ExecMount>,
    /// Devices of the host that the process may use.
    pub devices: Vec<DeviceRequest>,
    /// Whether the process may not write to the root filesystem.
    #[serde(default)]
    pub read_only_root: bool,
    /// Names with their addresses for `/etc/hosts`.
    #[serde(default)]
    pub hosts: Vec<(String, IpAddr)>,
    /// Limits of the process, besides those of the builder.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// How the process ends that has done what it should; empty is 0.
    #[serde(default)]
    pub exit_codes: Vec<i32>,
}

impl ExecOp {
    /// A process as root in `/` with an empty environment, over an empty root.
    pub fn new(args: Vec<String>) -> Self {
        Self {
            has_root: false,
            args,
            env: Vec::new(),
            proxy_env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            network: NetworkMode::default(),
            security: SecurityMode::default(),
            hostname: None,
            files: Vec::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            read_only_root: false,
            hosts: Vec::new(),
            rlimits: Vec::new(),
            exit_codes: Vec::new(),
        }
    }

    /// Whether what the process writes to the mount at this place is a result. Result 0 is the root filesystem, and those of
    /// mounts follow in their order.
    pub fn is_kept(&self, mount: usize) -> bool {
        let kind = self.mounts.get(mount).map(|mount| &mount.kind);
        matches!(kind, Some(MountKind::Bind(bind)) if bind.writable && bind.kept)
    }

    /// How many mounts have results.
    pub(crate) fn kept_mounts(&self) -> u32 {
        (0u32..).zip(&self.mounts).filter(|(index, _)| self.is_kept(*index as usize)).count() as u32
    }

    /// Whether the process has done what it should when it ends with `code`.
    pub fn is_success(&self, code: i32) -> bool {
        if self.exit_codes.is_empty() { code == 0 } else { self.exit_codes.contains(&code) }
    }

    /// The bind or cache mount that shows input `slot`.
    pub fn mount_of(&self, slot: u32) -> Option<&ExecMount> {
        self.mounts.iter().find(|mount| mount.input() == Some(slot))
    }
}

/// A limit of a process (`setrlimit(2)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Without `RLIMIT_`, in small letters: `nofile`.
    pub name: String,
    /// The limit that is in force; -1 is none.
    pub soft: i64,
    /// How far the process may raise it; -1 is without end.
    pub hard: i64,
}

/// A small file that exists only while the process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptFile {
    /// Where it appears, absolute.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub content: Vec<u8>,
}

/// Something that is mounted while the process runs and never part of the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecMount {
    /// Where it appears, absolute; not `/`.
    pub target: String,
    /// What appears there.
    pub kind: MountKind,
}

impl ExecMount {
    /// The input slot that the mount shows, if it shows one.
    pub fn input(&self) -> Option<u32> {
        match &self.kind {
            MountKind::Bind(bind) => bind.input,
            MountKind::Cache(cache) => cache.input,
            MountKind::Tmpfs(_) | MountKind::Secret(_) | MountKind::Ssh(_) => None,
        }
    }

    /// The path in the input that the mount shows; `/` is all of it.
    pub fn selector(&self) -> &str {
        match &self.kind {
            MountKind::Bind(bind) => &bind.source,
            MountKind::Cache(cache) => &cache.source,
            MountKind::Tmpfs(_) | MountKind::Secret(_) | MountKind::Ssh(_) => "/",
        }
    }
}

/// The kinds of [`ExecMount`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A part of an input.
    Bind(BindMount),
    /// A directory that lives on between builds.
    Cache(CacheMount),
    /// An empty directory in memory.
    Tmpfs(TmpfsMount),
    /// A secret of the caller, as a file.
    Secret(SecretMount),
    /// The caller's ssh agent, as a socket.
    Ssh(SshMount),
}

/// `--mount=type=bind`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Which input slot; `None` shows an empty directory.
    pub input: Option<u32>,
    /// The file or directory of the input, absolute.
    pub source: String,
    /// Whether the process may write. What it writes is thrown away unless it is kept.
    pub writable: bool,
    /// Whether the whole input with what the process wrote is a result of the operation.
    #[serde(default)]
    pub kept: bool,
}

/// `--mount=type=cache`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// Names the directory. Not part of the key.
    pub id: String,
    /// Which input slot it starts as a copy of; `None` starts empty.
    pub input: Option<u32>,
    /// The directory of the input, absolute.
    pub source: String,
    /// How several processes share it.
    pub sharing: Sharing,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The permission bits of a new directory.
    pub mode: u32,
    /// The owner of a new directory.
    pub uid: u32,
    /// The owning group of a new directory.
    pub gid: u32,
}

/// How processes share a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Sharing {
    /// Any number at once.
    #[default]
    Shared,
    /// Each at a time has a directory of its own.
    Private,
    /// One after the other.
    Locked,
}

/// `--mount=type=tmpfs`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Most bytes; `None` is the kernel's default.
    pub size: Option<u64>,
}

/// `--mount=type=secret`. The value is never part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMount {
    /// What the caller calls it.
    pub id: String,
    /// Whether it appears as a file.
    pub as_file: bool,
    /// The environment variable that holds it as well.
    pub env: Option<String>,
    /// Whether it is an error when the caller does not have it.
    pub required: bool,
    /// The permission bits of the file.
    pub mode: u32,
    /// The owner of the file.
    pub uid: u32,
    /// The owning group of the file.
    pub gid: u32,
}

/// `--mount=type=ssh`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshMount {
    /// What the caller calls the agent.
    pub id: String,
    /// Whether it is an error when the caller does not have it.
    pub required: bool,
    /// The permission bits of the socket.
    pub mode: u32,
    /// The owner of the socket.
    pub uid: u32,
    /// The owning group of the socket.
    pub gid: u32,
}

/// `--device`, a device by its CDI name (Container Device Interface specification).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// `vendor/class=name` or a class or a name.
    pub name: String,
    /// Whether it is an error when the host does not have it.
    pub required: bool,
}

/// What a process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SecurityMode {
    /// What a container may.
    #[default]
    Sandbox,
    /// Everything that the builder may. Needs the caller's consent.
    Insecure,
}

/// Which network a process sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NetworkMode {
    /// The builder's default.
    #[default]
    Default,
    /// The host's network.
    Host,
    /// Loopback only.
    None,
}
