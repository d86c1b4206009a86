//! Owner, mode, extended attributes and times of what was unpacked, in the order that the kernel needs:
//! a change of owner clears setuid bits and file capabilities, so it comes first; times come last.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sys::path_error::PathError;
use sys::rootdir::stat_of;
use sys::xattr::{self, Target};

use super::Ownership;
use crate::tar_entry::{Entry, Mtime, Xattr};

/// What is set on a file.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Mtime,
    pub(super) xattrs: Vec<Xattr>,
}

impl Attributes {
    /// Those of a directory about which nothing is known.
    pub(super) fn of_missing_directory(mtime: Mtime) -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
    }

    /// Those of an open file or directory, without overlayfs's own.
    pub(super) fn of_open(file: BorrowedFd<'_>) -> Result<Self, PathError> {
        let shown = Path::new("");
        let stat = stat_of(file, shown)?;
        let mtime = Mtime { seconds: stat.mtime.seconds, nanos: stat.mtime.nanoseconds };
        let xattrs = xattr::read_all(Target::Open(file), shown, |name| !is_overlay(name))?;
        let convert = |xattr: xattr::Xattr| Xattr { name: xattr.name.into_bytes(), value: xattr.value };
        let xattrs = xattrs.into_iter().map(convert).collect();
        Ok(Self { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime, xattrs })
    }
}

impl From<&Entry> for Attributes {
    fn from(entry: &Entry) -> Self {
        Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
        }
    }
}

/// A step that failed: what was to be done, and what the kernel said.
pub(super) type Failure = (&'static str, io::Error);

/// Says which step failed.
pub(super) trait Step<T> {
    /// Names the step that this is the result of.
    fn step(self, operation: &'static str) -> Result<T, Failure>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step(self, operation: &'static str) -> Result<T, Failure> {
        self.map_err(|errno| (operation, errno.into()))
    }
}

impl<T> Step<T> for Result<T, PathError> {
    fn step(self, operation: &'static str) -> Result<T, Failure> {
        self.map_err(|error| (operation, error.source))
    }
}

/// Sets attributes by one policy, and counts what it left out.
#[derive(Debug)]
pub(super) struct Setter {
    pub(super) ownership: Ownership,
    /// Attributes left out so far.
    pub(super) skipped: u64,
}

impl Setter {
    /// Whose something is to be, if that is to be set.
    fn owner(&self, attributes: &Attributes) -> Option<(Option<Uid>, Option<Gid>)> {
        match self.ownership {
            Ownership::FromArchive => Some(owner(attributes)),
            Ownership::Of(uid, gid) => Some((Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))),
            Ownership::Ignore => None,
        }
    }

    /// Sets everything on an open file or directory.
    pub(super) fn set_open(&mut self, file: impl AsFd, attributes: &Attributes) -> Result<(), Failure> {
        let file = file.as_fd();
        if let Some((uid, gid)) = self.owner(attributes) {
            rustix::fs::fchown(file, uid, gid).map_err(|errno| owner_failure(errno, attributes))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode)).step("set the mode of")?;
        for xattr in &attributes.xattrs {
            if is_overlay(&xattr.name) {
                self.skipped += 1;
                continue;
            }
            let result =
                rustix::fs::fsetxattr(file, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
            self.allow_missing(result).step("set an extended attribute of")?;
        }
        rustix::fs::futimens(file, &times(attributes.mtime)).step("set the time of")
    }

    /// Sets everything on a name that cannot be opened without side effects: a symlink (`is_link`), device
    /// or pipe that was just made.
    pub(super) fn set_named(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        attributes: &Attributes,
        is_link: bool,
    ) -> Result<(), Failure> {
        if let Some((uid, gid)) = self.owner(attributes) {
            rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| owner_failure(errno, attributes))?;
        }
        if !is_link {
            set_mode(directory, name, Mode::from_raw_mode(attributes.mode)).step("set the mode of")?;
        }
        for xattr in &attributes.xattrs {
            if is_overlay(&xattr.name) {
                self.skipped += 1;
                continue;
            }
            // There is no call that takes a directory and a name, but /proc spells the pair as a path.
            let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            let result =
                rustix::fs::lsetxattr(path, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
            // Nobody may set attributes of users on links, devices and pipes (xattr(7)).
            let result = result.map_err(|errno| if errno == Errno::PERM { Errno::OPNOTSUPP } else { errno });
            self.allow_missing(result).step("set an extended attribute of")?;
        }
        rustix::fs::utimensat(directory, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .step("set the time of")
    }

    /// Removes the extended attributes of a directory that are not among `wanted`.
    pub(super) fn remove_others(&mut self, directory: impl AsFd, wanted: &[Xattr]) -> Result<(), Failure> {
        let operation = "remove an extended attribute of";
        for name in xattr::list(Target::Open(directory.as_fd()), Path::new("")).step(operation)? {
            if is_overlay(name.to_bytes()) || wanted.iter().any(|xattr| xattr.name == name.to_bytes()) {
                continue;
            }
            match rustix::fs::fremovexattr(&directory, name.as_c_str()) {
                // Labels of the host's security module come back or cannot be removed; they are not ours.
                Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err((operation, errno.into())),
            }
        }
        Ok(())
    }

    /// Lets pass that the filesystem has no such attributes, and for an ordinary user that it may not.
    fn allow_missing(&mut self, result: Result<(), Errno>) -> Result<(), Errno> {
        match result {
            Err(Errno::OPNOTSUPP) => self.skipped += 1,
            Err(Errno::PERM) if self.ownership == Ownership::Ignore => self.skipped += 1,
            other => return other,
        }
        Ok(())
    }
}

/// Sets the mode of a name, which is not followed should it have become a link: `fchmodat(2)` would. A handle that was
/// opened without following, seen through `/proc`, names the inode itself.
fn set_mode(directory: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
}

/// Whether an attribute is one of overlayfs's own.
pub(super) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

fn owner_failure(errno: Errno, attributes: &Attributes) -> Failure {
    ("set the owner of", sys::userns::owner_error(errno, attributes.uid, attributes.gid))
}

fn owner(attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))
}

fn times(mtime: Mtime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: time, last_modification: time }
}
