//! A directory handle below which every name is looked up, and which no name leaves.
//!
//! A [`RootDir`] holds an open directory. Its operations take a path relative to it. When the path has
//! several components, its parent directory is found with `openat2(2)` under `RESOLVE_IN_ROOT`: links
//! are followed, but an absolute link and `..` stay inside. The last component is never followed. A
//! single name goes straight to the `*at` call, which makes the handle of a directory the fast way to
//! work on many of its entries.
//!
//! It does not check that other processes leave the directory alone, and does not cache anything.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::failpoint;
use crate::fs::remove_tree_at;
use crate::path_error::PathError;
use crate::stat::{FileTime, Kind, Stat, raw_mode};
use crate::userns;

type Result<T> = std::result::Result<T, PathError>;

/// Space for one answer of `getdents64(2)`.
const NAMES_BUFFER: usize = 32 * 1024;

/// An open directory and the path it is known by.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    path: PathBuf,
}

/// Where an operation takes place: the directory that holds the name, and the name.
struct Place<'a> {
    parent: Option<OwnedFd>,
    root: &'a RootDir,
    name: &'a OsStr,
}

impl Place<'_> {
    fn dir(&self) -> BorrowedFd<'_> {
        self.parent.as_ref().map_or_else(|| self.root.fd.as_fd(), AsFd::as_fd)
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl RootDir {
    /// Opens the directory at `path`, following links: the caller chose it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fd = rfs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| PathError::new("open directory", path, error))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// A directory that is open for reading already. `path` is what messages call it.
    pub fn of_open(fd: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { fd, path: path.into() }
    }

    /// The path it was opened by, for messages. Do not build paths from it to pass to the kernel.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages.
    pub fn shown(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path.join(strip_root(relative.as_ref()))
    }

    /// Opens a directory below, following links inside the root.
    pub fn open_dir(&self, relative: impl AsRef<Path>) -> Result<Self> {
        let relative = relative.as_ref();
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = self
            .open_directory(relative, resolve)
            .map_err(|error| PathError::new("open directory", self.shown(relative), error))?;
        Ok(Self { fd, path: self.shown(relative) })
    }

    /// Opens a directory below without following any link; `None` when there is none under that very
    /// path (nothing, a link or another kind of file somewhere on the way).
    pub fn open_real_dir(&self, relative: impl AsRef<Path>) -> Result<Option<Self>> {
        let relative = relative.as_ref();
        match self.open_directory(relative, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => Ok(Some(Self { fd, path: self.shown(relative) })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(PathError::new("open directory", self.shown(relative), error)),
        }
    }

    fn open_directory(&self, relative: &Path, resolve: ResolveFlags) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        rfs::openat2(&self.fd, relative, flags, Mode::empty(), resolve)
    }

    /// Opens a file for reading. A link in the last place is an error, a pipe does not block.
    pub fn open_file(&self, relative: impl AsRef<Path>) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.at("open", relative.as_ref(), |place| {
            rfs::openat(place.dir(), place.name, flags, Mode::empty()).map(File::from)
        })
    }

    /// Opens an existing regular file for writing without truncating it.
    pub fn open_file_for_writing(&self, relative: impl AsRef<Path>) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.at("open for writing", relative.as_ref(), |place| {
            rfs::openat(place.dir(), place.name, flags, Mode::empty()).map(File::from)
        })
    }

    /// Creates a regular file and opens it for reading and writing; an existing name is an error. The
    /// process's umask takes bits away from `mode` (see [`umask`]).
    pub fn create_file(&self, relative: impl AsRef<Path>, mode: u32) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at("create", relative.as_ref(), |place| {
            rfs::openat(place.dir(), place.name, flags, raw_mode(mode)).map(File::from)
        })
    }

    /// Creates a directory; an existing name is an error. The umask takes bits away from `mode`.
    pub fn create_dir(&self, relative: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.at("create directory", relative.as_ref(), |place| {
            rfs::mkdirat(place.dir(), place.name, raw_mode(mode))
        })
    }

    /// Creates a symbolic link that holds `target`.
    pub fn create_symlink(&self, relative: impl AsRef<Path>, target: &OsStr) -> Result<()> {
        self.at("create symbolic link", relative.as_ref(), |place| {
            rfs::symlinkat(target, place.dir(), place.name)
        })
    }

    /// Gives the file `existing`, below `existing_root`, a second name here. A link is not followed.
    pub fn create_hard_link(
        &self,
        relative: impl AsRef<Path>,
        existing_root: &RootDir,
        existing: impl AsRef<Path>,
    ) -> Result<()> {
        let existing = existing_root.locate("link", existing.as_ref())?;
        self.at("create hard link", relative.as_ref(), |place| {
            rfs::linkat(existing.dir(), existing.name, place.dir(), place.name, AtFlags::empty())
        })
    }

    /// Creates a device, pipe or socket. `rdev` matters for devices only.
    pub fn create_node(&self, relative: impl AsRef<Path>, kind: Kind, mode: u32, rdev: u64) -> Result<()> {
        self.at("create device node", relative.as_ref(), |place| {
            rfs::mknodat(place.dir(), place.name, kind.file_type(), raw_mode(mode), rdev)
        })
    }

    /// What the kernel says about an entry; `None` when there is none. `""` is the directory itself.
    pub fn stat(&self, relative: impl AsRef<Path>) -> Result<Option<Stat>> {
        let relative = relative.as_ref();
        if relative.as_os_str().is_empty() {
            return stat_of(&self.fd, &self.path).map(Some);
        }
        let place = match self.locate("read the status of", relative) {
            Ok(place) => place,
            Err(error) if is_absent(&error.source) => return Ok(None),
            Err(error) => return Err(error),
        };
        match rfs::statat(place.dir(), place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(raw) => Ok(Some(Stat::from_raw(&raw))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(PathError::new("read the status of", self.shown(relative), error)),
        }
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, relative: impl AsRef<Path>) -> Result<OsString> {
        self.at("read link", relative.as_ref(), |place| {
            let target = rfs::readlinkat(place.dir(), place.name, Vec::new())?;
            Ok(OsString::from_vec(target.into_bytes()))
        })
    }

    /// The names in this directory without `.` and `..`, in the kernel's order. The kind is missing
    /// where the file system does not tell it.
    pub fn names(&self) -> Result<Vec<(OsString, Option<Kind>)>> {
        let failed = |error: Errno| PathError::new("list directory", &self.path, error);
        // The position of the handle is shared state: start at the beginning.
        rfs::seek(&self.fd, rfs::SeekFrom::Start(0)).map_err(failed)?;
        let mut buffer = vec![MaybeUninit::uninit(); NAMES_BUFFER];
        let mut listing = rfs::RawDir::new(&self.fd, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((OsStr::from_bytes(name).to_owned(), Kind::from_file_type(entry.file_type())));
            }
        }
        Ok(names)
    }

    /// Sets owner and group of an entry, not following a link.
    pub fn set_owner(&self, relative: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
        let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let changed = self.at("change the owner of", relative.as_ref(), |place| {
            Ok(rfs::chownat(place.dir(), place.name, user, group, AtFlags::SYMLINK_NOFOLLOW))
        })?;
        changed.map_err(|errno| {
            let source = userns::owner_error(errno, uid, gid);
            PathError::new("change the owner of", self.shown(relative.as_ref()), source)
        })
    }

    /// Sets the permission bits of an entry that is not a symbolic link.
    pub fn set_mode(&self, relative: impl AsRef<Path>, mode: u32) -> Result<()> {
        // fchmodat(2) follows links. A handle that was opened without following, seen through /proc,
        // names the inode itself, and chmod(2) refuses it when that inode is a link.
        self.at("change the mode of", relative.as_ref(), |place| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rfs::openat(place.dir(), place.name, flags, Mode::empty())?;
            rfs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), raw_mode(mode))
        })
    }

    /// Sets the times of access and of modification of an entry, not following a link.
    pub fn set_times(&self, relative: impl AsRef<Path>, mtime: FileTime) -> Result<()> {
        self.at("set the times of", relative.as_ref(), |place| {
            rfs::utimensat(place.dir(), place.name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Removes an entry that is not a directory.
    pub fn remove_file(&self, relative: impl AsRef<Path>) -> Result<()> {
        self.at("remove", relative.as_ref(), |place| rfs::unlinkat(place.dir(), place.name, AtFlags::empty()))
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, relative: impl AsRef<Path>) -> Result<()> {
        self.at("remove directory", relative.as_ref(), |place| {
            rfs::unlinkat(place.dir(), place.name, AtFlags::REMOVEDIR)
        })
    }

    /// Removes an entry with all below it, as [`crate::fs::remove_tree`] does. That there is none is no
    /// error.
    pub fn remove_all(&self, relative: impl AsRef<Path>) -> Result<()> {
        let relative = relative.as_ref();
        let result = self.at("remove the tree", relative, |place| {
            let name = CString::new(place.name.as_bytes()).map_err(|_| Errno::INVAL)?;
            remove_tree_at(place.dir(), &name).map(drop)
        });
        match result {
            Err(error) if is_absent(&error.source) => Ok(()),
            other => other,
        }
    }

    /// Renames an entry; an existing file or empty directory at the new place is replaced.
    pub fn rename(&self, from: impl AsRef<Path>, to_root: &RootDir, to: impl AsRef<Path>) -> Result<()> {
        let target = to_root.locate("rename to", to.as_ref())?;
        self.at("rename", from.as_ref(), |place| {
            rfs::renameat(place.dir(), place.name, target.dir(), target.name)
        })
    }

    fn at<T>(
        &self,
        operation: &'static str,
        relative: &Path,
        call: impl FnOnce(&Place<'_>) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        failpoint::pass(operation).map_err(|error| PathError::new(operation, self.shown(relative), error))?;
        let place = self.locate(operation, relative)?;
        call(&place).map_err(|error| PathError::new(operation, self.shown(relative), error))
    }

    fn locate<'a>(&'a self, operation: &'static str, relative: &'a Path) -> Result<Place<'a>> {
        let failed = |error: Errno| PathError::new(operation, self.shown(relative), error);
        if is_single_name(relative) {
            return Ok(Place { parent: None, root: self, name: relative.as_os_str() });
        }
        let Some(Component::Normal(name)) = relative.components().next_back() else {
            return Err(failed(Errno::INVAL));
        };
        let parent = strip_root(relative.parent().unwrap_or(Path::new("")));
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let parent = self.open_directory(parent, resolve).map_err(failed)?;
        Ok(Place { parent: Some(parent), root: self, name })
    }
}

/// What the kernel says about an open file. `shown` is the path for messages.
pub fn stat_of(file: impl AsFd, shown: &Path) -> Result<Stat> {
    let raw = rfs::fstat(file).map_err(|error| PathError::new("read the status of", shown, error))?;
    Ok(Stat::from_raw(&raw))
}

/// Sets owner and group of an open file.
pub fn set_owner_of(file: impl AsFd, shown: &Path, uid: u32, gid: u32) -> Result<()> {
    rfs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|errno| PathError::new("change the owner of", shown, userns::owner_error(errno, uid, gid)))
}

/// Sets the permission bits of an open file.
pub fn set_mode_of(file: impl AsFd, shown: &Path, mode: u32) -> Result<()> {
    rfs::fchmod(file, raw_mode(mode)).map_err(|error| PathError::new("change the mode of", shown, error))
}

/// Sets the times of access and of modification of an open file.
pub fn set_times_of(file: impl AsFd, shown: &Path, mtime: FileTime) -> Result<()> {
    rfs::futimens(file, &timestamps(mtime)).map_err(|error| PathError::new("set the times of", shown, error))
}

/// The bits that the process's umask takes away from the mode of new files, read without changing it.
/// When the kernel does not tell, every bit, so that the caller sets modes itself.
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0o777)
}

/// The effective user and group of this process: the owner of the files it creates.
pub fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn timestamps(mtime: FileTime) -> rfs::Timestamps {
    rfs::Timestamps { last_access: mtime.to_timespec(), last_modification: mtime.to_timespec() }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_single_name(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/')
}

/// A path without the leading slashes: relative to whatever root it is meant for.
fn strip_root(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(bytes.len());
    Path::new(OsStr::from_bytes(&bytes[start..]))
}

#[cfg(test)]
#[path = "rootdir_tests.rs"]
mod tests;
