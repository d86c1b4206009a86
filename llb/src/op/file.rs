//! The file operation: changes to a filesystem without a process.

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
    /// Removes a file, or a directory with all that is in it.
    Rm(RmAction),
    /// Makes a symbolic link.
    Symlink(SymlinkAction),
}

/// Copies paths of an input into the filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyAction {
    /// Which input slot to copy from.
    pub input: u32,
    /// Paths or patterns in that input, as they were written. See [`plain_sources`](Self::plain_sources).
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
    /// Whether sources keep their path below the destination, from the `/./` in them on.
    pub parents: bool,
    /// Patterns, as in an ignore file, of what is left out.
    pub excludes: Vec<String>,
    /// What is said besides.
    pub rules: CopyRules,
}

/// How a copy works that is not one of a Dockerfile. The default is what COPY and ADD mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRules {
    /// Whether a source that is a link stands for what it leads to.
    pub follow_links: bool,
    /// Whether a pattern with wildcards may match nothing.
    pub allow_no_match: bool,
    /// Whether of a directory its content is copied; otherwise the directory itself goes into a destination that exists.
    pub contents_only: bool,
    /// Whether missing directories of the destination are made.
    pub make_parents: bool,
    /// Whether what is of another kind at the destination is replaced; otherwise that is an error.
    pub replace: bool,
    /// Patterns of what is copied; all, without any.
    pub includes: Vec<String>,
    /// Paths that must be among what is copied.
    pub required: Vec<String>,
    /// The time of everything copied, in nanoseconds since 1970; `None` keeps the source's.
    pub time: Option<i64>,
}

impl Default for CopyRules {
    fn default() -> Self {
        Self {
            follow_links: true,
            allow_no_match: true,
            contents_only: true,
            make_parents: true,
            replace: false,
            includes: Vec::new(),
            required: Vec::new(),
            time: None,
        }
    }
}

impl CopyAction {
    /// A plain copy that keeps owner and mode.
    pub fn new(input: u32, sources: Vec<String>, destination: impl Into<String>) -> Self {
        Self {
            input,
            sources,
            allow_wildcards: false,
            destination: destination.into(),
            owner: None,
            mode: None,
            unpack_archives: false,
            parents: false,
            excludes: Vec::new(),
            rules: CopyRules::default(),
        }
    }

    /// The sources in the one form that all ways to write them have in common: relative to the root, without `.`, `..`,
    /// double slashes and a slash at the end, for a source with one of these means what it means without. The root is
    /// `.`. With `parents`, a `/./` stays, unless what is before it is the root.
    pub fn plain_sources(&self) -> Vec<String> {
        let plain_pivoted = |source: &str| {
            let (start, rest) = source.split_once("/./").unwrap_or(("", source));
            match plain(start).as_str() {
                "." => plain(rest),
                start => format!("{start}/./{}", plain(rest)),
            }
        };
        let form = |source: &String| if self.parents { plain_pivoted(source) } else { plain(source) };
        self.sources.iter().map(form).collect()
    }
}

/// A path below the root with its parts resolved by name; `..` stops at the root, which is `.`.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
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
    /// When it was changed, in nanoseconds since 1970; `None` is now.
    pub time: Option<i64>,
}

/// Makes a directory; an existing one is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkdirAction {
    /// The absolute path.
    pub path: String,
    /// The permission bits of what is created.
    pub mode: u32,
    /// The owner of what is created; `None` is root.
    pub owner: Option<Owner>,
    /// Whether missing directories above it are made; otherwise that they are missing is an error.
    pub make_parents: bool,
    /// When it was changed, in nanoseconds since 1970; `None` is now.
    pub time: Option<i64>,
}

/// Removes a file, or a directory with all that is in it. Of a link, what it leads to stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RmAction {
    /// The absolute path.
    pub path: String,
    /// Whether it is no error that there is none.
    pub allow_missing: bool,
    /// Whether the path may have wildcards.
    pub allow_wildcards: bool,
}

/// Makes a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymlinkAction {
    /// Where the link is, absolute.
    pub path: String,
    /// What is written in it.
    pub target: String,
    /// The owner; `None` is root.
    pub owner: Option<Owner>,
    /// When it was made, in nanoseconds since 1970; `None` is now.
    pub time: Option<i64>,
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
    /// By name, from those files of another input than the one that is changed.
    NameIn {
        /// The name.
        name: String,
        /// The slot of the input, which nothing is copied from.
        input: u32,
    },
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

impl FileAction {
    /// The slots of the inputs in which its owner is looked up.
    pub fn owner_slots(&self) -> impl Iterator<Item = u32> {
        let owner = match self {
            Self::Copy(copy) => copy.owner.as_ref(),
            Self::Mkfile(file) => file.owner.as_ref(),
            Self::Mkdir(directory) => directory.owner.as_ref(),
            Self::Symlink(link) => link.owner.as_ref(),
            Self::Rm(_) => None,
        };
        let slot = |name: &UserName| match name {
            UserName::NameIn { input, .. } => Some(*input),
            UserName::Id(_) | UserName::Name(_) => None,
        };
        let both = owner.map(|owner| [slot(&owner.user), owner.group.as_ref().and_then(slot)]);
        both.into_iter().flatten().flatten()
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
