//! Makes symlinks, devices and pipes, and knows the forms that overlayfs gives to deleted names.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, Stat, makedev};
use rustix::io::Errno;

use crate::tar_entry::{Entry, Kind};

/// What [`make`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// A symlink, which has no mode.
    Symlink,
    /// A device or a pipe.
    Special,
}

/// Makes the symlink, device or pipe that an entry describes, without its attributes.
pub(super) fn make(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<Made, Errno> {
    let kind = match entry.kind {
        Kind::Symlink => {
            rustix::fs::symlinkat(entry.link.as_slice(), parent, name)?;
            return Ok(Made::Symlink);
        }
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        // Those are made elsewhere.
        Kind::File | Kind::Directory | Kind::HardLink => return Err(Errno::INVAL),
    };
    let (major, minor) = entry.device;
    rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, makedev(major, minor))?;
    Ok(Made::Special)
}

/// Makes the form of a deleted name: a character device 0:0.
pub(super) fn make_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
}

/// Whether a file is the form of a deleted name.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The attribute that makes a directory opaque, its value being `y`.
pub(crate) fn opaque_attribute(userxattr: bool) -> &'static [u8] {
    if userxattr { b"user.overlay.opaque" } else { b"trusted.overlay.opaque" }
}
