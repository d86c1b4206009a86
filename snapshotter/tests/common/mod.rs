//! Archives made in code, a root with something beside it that must stay as it is, and a description of a
//! tree that two trees can be compared by.
#![allow(dead_code, reason = "every test file uses some of it")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use base::CancelToken;
use snapshotter::apply::{Applied, ApplyError, ApplyOptions, Layering, apply};
use snapshotter::diff::{DiffOptions, LayerSource, write_layer};
use snapshotter::tar_entry::{Entry, Kind};
use snapshotter::tar_write::Writer;
use sys::rootdir::RootDir;
use sys::xattr::{self, Target};

pub(crate) const OVERLAY: Layering = Layering::Overlay { userxattr: false };

/// An archive in the making.
pub(crate) struct Tar(Writer<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    pub(crate) fn entry(mut self, entry: &Entry, data: &[u8]) -> Self {
        let mut entry = entry.clone();
        entry.size = data.len() as u64;
        self.0.append(&entry, &mut &data[..]).unwrap();
        self
    }

    pub(crate) fn file(self, path: impl AsRef<[u8]>, content: &str) -> Self {
        let mut entry = Entry::new(Kind::File, path.as_ref());
        entry.mode = 0o644;
        self.entry(&entry, content.as_bytes())
    }

    pub(crate) fn dir(self, path: impl AsRef<[u8]>) -> Self {
        let mut entry = Entry::new(Kind::Directory, path.as_ref());
        entry.mode = 0o755;
        self.entry(&entry, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(Kind::Symlink, path, target)
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(Kind::HardLink, path, target)
    }

    fn link(self, kind: Kind, path: &str, target: &str) -> Self {
        let mut entry = Entry::new(kind, path);
        entry.link = target.into();
        self.entry(&entry, b"")
    }

    pub(crate) fn device(self, path: &str, kind: Kind, number: (u32, u32)) -> Self {
        let mut entry = Entry::new(kind, path);
        entry.device = number;
        self.entry(&entry, b"")
    }

    /// The archive with its end.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

/// A root directory with a file and a directory beside it, as an escape would find them.
pub(crate) struct Sandbox {
    directory: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self::below(tempfile::tempdir().unwrap())
    }

    /// One in memory, if there is a place for it: for so many files that a disk would be busy for a minute.
    pub(crate) fn in_memory() -> Self {
        Self::below(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn below(directory: tempfile::TempDir) -> Self {
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::create_dir(directory.path().join("beside")).unwrap();
        fs::write(directory.path().join("beside/secret"), "untouched").unwrap();
        Self { directory }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// The path of the directory beside the root.
    pub(crate) fn beside(&self) -> PathBuf {
        self.directory.path().join("beside")
    }

    pub(crate) fn apply(&self, archive: &[u8], options: &ApplyOptions) -> Result<Applied, ApplyError> {
        let result = apply(archive, &self.root(), options, &CancelToken::new());
        self.assert_nothing_escaped();
        result
    }

    pub(crate) fn unpack(&self, archive: &[u8], layering: Layering) -> Result<Applied, ApplyError> {
        self.apply(archive, &ApplyOptions::new(layering))
    }

    pub(crate) fn assert_nothing_escaped(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.directory.path()), ["beside", "root"]);
        assert_eq!(names(&self.beside()), ["secret"]);
        let secret = self.beside().join("secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root().join(path).symlink_metadata().is_ok()
    }

    pub(crate) fn is_whiteout(&self, path: &str) -> bool {
        self.root()
            .join(path)
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0)
    }

    pub(crate) fn is_opaque(&self, path: &str) -> bool {
        let directory = RootDir::open(self.root().join(path)).unwrap();
        let target = Target::Open(directory.as_fd());
        let value = xattr::get(target, directory.path(), c"trusted.overlay.opaque").unwrap();
        value.as_deref() == Some(b"y")
    }
}

/// The layer in an overlay's upper directory.
pub(crate) fn layer_of(upper: &Path) -> Vec<u8> {
    layer_over(&[], upper)
}

/// The layer in an overlay's upper directory on top of these layer directories.
pub(crate) fn layer_over(lower: &[PathBuf], upper: &Path) -> Vec<u8> {
    let source = LayerSource::Overlay { upper, lower, userxattr: false };
    let mut layer = Vec::new();
    write_layer(source, DiffOptions::default(), &mut layer, &CancelToken::new()).unwrap();
    layer
}

/// What can be seen of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: char,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// Whole seconds, which is all that a layer keeps.
    pub(crate) mtime: i64,
    pub(crate) rdev: u64,
    /// Content or link target.
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first path of the same file, for hard links.
    pub(crate) first_name: PathBuf,
}

/// Everything below `root`, which itself is left out but for its attributes.
pub(crate) fn describe(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut first_names = HashMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let mut names: Vec<_> = fs::read_dir(root.join(&path)).unwrap().map(Result::unwrap).collect();
        names.sort_by_key(fs::DirEntry::file_name);
        for name in names {
            let path = path.join(name.file_name());
            if name.file_type().unwrap().is_dir() {
                waiting.push(path.clone());
            }
            seen.insert(path.clone(), look(root, &path));
        }
    }
    for (path, file) in &mut seen {
        let metadata = root.join(path).symlink_metadata().unwrap();
        let inode = (metadata.dev(), metadata.ino());
        file.first_name = first_names.entry(inode).or_insert_with(|| path.clone()).clone();
    }
    seen
}

/// Without the times of directories, which a difference does not carry by themselves.
pub(crate) fn without_directory_times(mut seen: BTreeMap<PathBuf, Seen>) -> BTreeMap<PathBuf, Seen> {
    for file in seen.values_mut().filter(|file| file.kind == 'd') {
        file.mtime = 0;
    }
    seen
}

fn look(root: &Path, path: &Path) -> Seen {
    let full = root.join(path);
    let metadata = full.symlink_metadata().unwrap();
    let kind = metadata.file_type();
    let (kind, content) = if kind.is_dir() {
        ('d', Vec::new())
    } else if kind.is_symlink() {
        ('l', fs::read_link(&full).unwrap().into_os_string().into_vec())
    } else if kind.is_file() {
        ('f', fs::read(&full).unwrap())
    } else if kind.is_fifo() {
        ('p', Vec::new())
    } else if kind.is_char_device() {
        ('c', Vec::new())
    } else {
        ('b', Vec::new())
    };
    Seen {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        // Nobody sees when a whiteout was made.
        mtime: if kind == 'c' && metadata.rdev() == 0 { 0 } else { metadata.mtime() },
        rdev: metadata.rdev(),
        content,
        xattrs: xattrs(&full),
        first_name: PathBuf::new(),
    }
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let parent = RootDir::open(path.parent().unwrap()).unwrap();
    let target = Target::Name(&parent, path.file_name().unwrap());
    let all = xattr::read_all(target, path, |_| true).unwrap();
    all.into_iter().map(|xattr| (xattr.name.into_bytes(), xattr.value)).collect()
}

/// A path from bytes.
pub(crate) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Whether this test may make devices and change owners; says so when not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root privileges");
    }
    root
}
