//! The operations: source, exec and file.
//!
//! Only types live here. Everything in an operation is part of its identity, so nothing that must not
//! cause a rebuild (a display name, a host path, the time) has a field here.

use base::{Digest, Platform};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Content from outside the build. Has no inputs.
    Source(SourceOp),
    /// A process. Input 0, if any, is the root filesystem; without it the root is empty.
    Exec(ExecOp),
    /// Changes to a filesystem. Input 0, if `has_base`, is what is changed; the others are sources.
    File(FileOp),
}

/// Where content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOp {
    /// An image's root filesystem.
    Image(ImageSource),
    /// A directory of the user, named, so that its path is not part of any key.
    Local(LocalSource),
}

/// The root filesystem of an image whose layers are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSource {
    /// The complete name with the digest of the manifest: where the layers can be had.
    pub reference: String,
    /// The digest of the image's manifest.
    pub manifest: Digest,
    /// The digest over all diffIDs: what the root filesystem is. Only this enters the key.
    pub chain_id: Digest,
}

/// A directory that the caller of the build provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSource {
    /// `context`, or the name of a named context.
    pub name: String,
}

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOp {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// `NAME=value` of the proxy variables; given to the process, kept out of the key.
    pub proxy_env: Vec<String>,
    /// The working directory, absolute.
    pub cwd: String,
    /// `user[:group]` by name or number, looked up in the root filesystem; empty is root.
    pub user: String,
    /// Which network the process sees.
    pub network: NetworkMode,
    /// Files that are mounted read-only for the process alone: heredoc scripts.
    pub files: Vec<ScriptFile>,
}

/// A small file that exists only while the process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFile {
    /// Where it appears, absolute.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub content: Vec<u8>,
}

/// Which network a process sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// The builder's default.
    #[default]
    Default,
    /// The host's network.
    Host,
    /// Loopback only.
    None,
}

/// Changes to a filesystem, applied in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOp {
    /// Whether input 0 is the filesystem to change; otherwise it starts empty.
    pub has_base: bool,
    /// The changes.
    pub actions: Vec<FileAction>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAction {
    /// Copies from another input.
    Copy(CopyAction),
    /// Writes a file.
    Mkfile(MkfileAction),
    /// Makes a directory.
    Mkdir(MkdirAction),
}

/// Copies paths of an input into the filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyAction {
    /// Which input slot to copy from.
    pub input: u32,
    /// Paths or patterns in that input.
    pub sources: Vec<String>,
    /// Whether `sources` may hold wildcards.
    pub allow_wildcards: bool,
    /// The absolute destination; a trailing slash makes it a directory.
    pub destination: String,
    /// The owner of everything copied; `None` keeps the source's (which is root for a local source).
    pub owner: Option<Owner>,
    /// The mode of everything copied; `None` keeps the source's.
    pub mode: Option<ChmodMode>,
    /// Whether sources that are archives are unpacked.
    pub unpack_archives: bool,
}

/// Writes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkfileAction {
    /// The absolute path; with a trailing slash, `name` is appended.
    pub path: String,
    /// The file's name when `path` is a directory.
    pub name: String,
    /// The permission bits.
    pub mode: u32,
    /// A change of mode after the file is written.
    pub chmod: Option<ChmodMode>,
    /// The content.
    pub content: Vec<u8>,
    /// The owner; `None` is root.
    pub owner: Option<Owner>,
}

/// Makes a directory and its missing parents; an existing one is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkdirAction {
    /// The absolute path.
    pub path: String,
    /// The permission bits of what is created.
    pub mode: u32,
    /// The owner of what is created; `None` is root.
    pub owner: Option<Owner>,
}

/// `--chmod`, as written after expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChmodMode {
    /// Octal bits.
    Bits(u32),
    /// Symbolic, as in `u=rwX,go=rX`.
    Symbolic(String),
}

/// An owner that is looked up in the filesystem which is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: UserName,
    /// The group; without one a numeric user's gid is the same number and a named user's its primary.
    pub group: Option<UserName>,
}

/// A user or group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserName {
    /// By number.
    Id(u32),
    /// By name, from `/etc/passwd` or `/etc/group`.
    Name(String),
}

impl Owner {
    /// Reads `user[:group]`; digits are numbers. `None` when the user is empty or a number does not fit.
    pub fn parse(text: &str) -> Option<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let group = match group {
            None | Some("") => None,
            Some(group) => Some(UserName::parse(group)?),
        };
        Some(Self { user: UserName::parse(user)?, group })
    }
}

impl UserName {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().ok().map(Self::Id);
        }
        Some(Self::Name(text.to_owned()))
    }
}

/// A vertex's platform matters for identity: the same command on another architecture is another step.
pub(crate) type OpPlatform = Platform;
