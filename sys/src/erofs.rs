//! Mounting EROFS images whose files lie in another file.
//!
//! Source: the kernel's `Documentation/filesystems/erofs.rst`. Since Linux 6.12 the image and its devices may be
//! ordinary files; older kernels want block devices and answer `ENOTBLK`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use base::mount::{PACKED_DATA, PACKED_INDEX};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Mounts `image`, the content of whose files lies in `device`, where nobody sees it: only the returned handle of its
/// root knows the mount (`fsmount(2)`), and with the last copy of it the mount goes, also when the process is killed.
///
/// Both files are taken as they are open here, whatever has their names now.
///
/// # Errors
/// What the kernel says. What it could say more of a bad image is in its log.
pub fn mount(image: BorrowedFd<'_>, device: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", path_of(image))?;
    rustix::mount::fsconfig_set_string(&context, "device", path_of(device))?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The path by which this process reaches what is open.
pub fn path_of(open: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", open.as_fd().as_raw_fd()).into()
}

/// Mounts the packed layer that stands for `directory`; `None` when there is such a directory, or no such layer.
///
/// # Errors
/// Its files cannot be opened or mounted.
pub fn mount_layer(directory: &Path) -> io::Result<Option<OwnedFd>> {
    let open = |name| File::open(directory.with_file_name(name));
    if directory.symlink_metadata().is_ok() {
        return Ok(None);
    }
    match open(PACKED_INDEX) {
        Ok(index) => mount(index.as_fd(), open(PACKED_DATA)?.as_fd()).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
