//! Sources: where content comes from.

use base::Digest;
use base::git_url::{FileTimes, GitUrl};

/// Where content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOp {
    /// An image's root filesystem.
    Image(ImageSource),
    /// A directory of the user, named, so that its path is not part of any key.
    Local(LocalSource),
    /// A file from a web server.
    Http(HttpSource),
    /// A commit of a git repository.
    Git(GitSource),
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
    /// How many of its layers there are, from the lowest on; `None` for all of them.
    pub layers: Option<usize>,
}

/// A file whose content is known by its digest: a filesystem with this one file in its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSource {
    /// Where it can be had. Not part of the key: the digest says what it is.
    pub url: String,
    /// The digest of its content.
    pub digest: Digest,
    /// The name that the file gets.
    pub filename: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its owning group.
    pub gid: u32,
    /// When the server says it last changed, in seconds since 1970.
    pub mtime: Option<i64>,
}

/// The files of one commit of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// Where the repository is. May hold a password, which is not part of the key.
    pub remote: String,
    /// The whole commit id.
    pub commit: String,
    /// The directory of the repository that becomes the root; empty is all of it.
    pub subdir: String,
    /// Whether `.git` stays.
    pub keep_git_dir: bool,
    /// Whether submodules are checked out as well.
    pub submodules: bool,
    /// Whether files get the time of the commit, rather than that of the checkout.
    pub commit_times: bool,
}

impl GitSource {
    /// What a URL names, now that it is known to stand for `commit`. Whether `.git` stays is for `keep_git_dir`
    /// to say unless the URL does.
    pub fn of(url: &GitUrl, commit: String, keep_git_dir: bool) -> Self {
        Self {
            remote: url.remote.clone(),
            commit,
            subdir: url.subdir.clone().unwrap_or_default(),
            keep_git_dir: url.keep_git_dir.unwrap_or(keep_git_dir),
            submodules: url.submodules,
            commit_times: url.times == FileTimes::Commit,
        }
    }
}

/// A directory that the caller of the build provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSource {
    /// `context`, or the name of a named context.
    pub name: String,
}
