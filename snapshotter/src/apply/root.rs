//! The directory that is unpacked into, as a handle from which no path leads out. Every directory below it
//! is opened here, with `openat2(2)`; everything else works on a directory's handle and one name in it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::path::components_of;

/// How many symlinks a path may pass, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A handle that names a directory and cannot read it, for use as the start of a path.
const LOCATION: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Why a directory below the root was not opened.
#[derive(Debug)]
pub(super) enum ResolveError {
    /// A symlink on the way climbs above the root.
    Escape,
    /// The kernel said no.
    Os(Errno),
}

/// The root directory.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// The same of an open directory.
    pub(super) fn of_open(directory: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(directory.try_clone_to_owned()?))
    }

    /// A handle of the directory at a clean path. Symlinks on the way are followed: relative ones while
    /// they stay below the root, absolute ones from the root.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, ResolveError> {
        match self.open_beneath(path, ResolveFlags::empty()) {
            // Either an absolute link, which is harmless, or one that climbs: look at each.
            Err(Errno::XDEV) => {
                let resolved = self.resolve(path)?;
                self.open_beneath(&resolved, ResolveFlags::NO_SYMLINKS).map_err(ResolveError::Os)
            }
            other => other.map_err(ResolveError::Os),
        }
    }

    fn open_beneath(&self, path: &[u8], extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        beneath(self.0.as_fd(), path, LOCATION, extra)
    }

    /// The path without symlinks. What does not exist stays as it is.
    fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, ResolveError> {
        let mut ahead: VecDeque<Vec<u8>> = components_of(path).map(<[u8]>::to_vec).collect();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(component) = ahead.pop_front() {
            if component == b".." {
                done.pop().ok_or(ResolveError::Escape)?;
                continue;
            }
            done.push(component);
            // The components before the last were found to be no links, so this follows none.
            let target = match rustix::fs::readlinkat(&self.0, done.join(&b'/'), Vec::new()) {
                Ok(target) => target.into_bytes(),
                Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => continue,
                Err(error) => return Err(ResolveError::Os(error)),
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(ResolveError::Os(Errno::LOOP));
            }
            done.pop();
            if target.starts_with(b"/") {
                done.clear();
            }
            for component in components_of(&target).collect::<Vec<_>>().into_iter().rev() {
                ahead.push_front(component.to_vec());
            }
        }
        Ok(done.join(&b'/'))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens a path below a directory; a path that leaves it is `EXDEV`.
pub(super) fn beneath(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    extra: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | extra;
    loop {
        // The kernel answers EAGAIN when a rename elsewhere made it unsure about a `..`.
        match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}
