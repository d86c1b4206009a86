//! Mounting EROFS images whose files lie in another file.
//!
//! Source: the kernel's `Documentation/filesystems/erofs.rst`. Since Linux 6.12 the image and its devices may be
//! ordinary files; older kernels want block devices and answer `ENOTBLK`. They get loop devices.

mod way;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base::mount::{PACKED_DATA, PACKED_INDEX};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxAttributes, StatxFlags, openat, statx};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::loop_device;
use crate::path_error::PathError;
pub use way::{Backing, UnknownWay, Way};

/// Mounts `image`, the content of whose files lies in `device`, where nobody sees it: only the returned handle of its
/// root knows the mount (`fsmount(2)`), and with the last copy of it the mount goes, also when the process is killed, and
/// loop devices with it.
///
/// Both files are taken as they are open here, whatever has their names now.
///
/// # Errors
/// What the kernel says, and loop devices that are not to be had. What it could say more of a bad image is in its log.
pub fn mount(image: BorrowedFd<'_>, device: BorrowedFd<'_>, backing: Backing) -> io::Result<OwnedFd> {
    match backing {
        Backing::File => mount_from(image, device),
        Backing::Loop => {
            let name = content_name(image, device)?;
            let show = |file| loop_device::showing(file, &name);
            let shown = |error: PathError| io::Error::new(error.kind(), error);
            // Two mounts of the same device are one filesystem to the kernel, whoever makes them.
            let (image, device) = (show(image).map_err(shown)?, show(device).map_err(shown)?);
            mount_from(image.as_fd(), device.as_fd())
        }
    }
}

fn mount_from(image: BorrowedFd<'_>, device: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Else it would want to write to the device.
    rustix::mount::fsconfig_set_flag(&context, "ro")?;
    rustix::mount::fsconfig_set_string(&context, "source", path_of(image))?;
    rustix::mount::fsconfig_set_string(&context, "device", path_of(device))?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// What a loop device is called that shows one of these files. Whatever is written to one of them, or put in its place, makes
/// another name, but for what the kernel knows: which file the device shows.
fn content_name(image: BorrowedFd<'_>, device: BorrowedFd<'_>) -> io::Result<String> {
    let look = |file| statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::CTIME);
    let (image, device) = (look(image)?, look(device)?);
    let changed = |file: &Statx| (file.stx_ctime.tv_sec, file.stx_ctime.tv_nsec);
    let ((image_s, image_ns), (s, ns)) = (changed(&image), changed(&device));
    Ok(format!("{image_s:x}.{image_ns:x} {:x} {s:x}.{ns:x}", device.stx_ino))
}

/// The path by which this process reaches what is open.
pub fn path_of(open: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", open.as_fd().as_raw_fd()).into()
}

/// The open files of a packed layer.
#[derive(Debug)]
pub struct LayerFiles {
    index: File,
    data: File,
}

impl LayerFiles {
    /// Opens those of the packed layer that stands for `directory`; `None` when there is such a directory, or no such layer.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn open(directory: &Path) -> io::Result<Option<Self>> {
        let open = |name| File::open(directory.with_file_name(name));
        if directory.symlink_metadata().is_ok() {
            return Ok(None);
        }
        match open(PACKED_INDEX) {
            Ok(index) => Ok(Some(Self { index, data: open(PACKED_DATA)? })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Mounts them: see [`mount`].
    ///
    /// # Errors
    /// As those of [`mount`].
    pub fn mount(&self, backing: Backing) -> io::Result<OwnedFd> {
        mount(self.index.as_fd(), self.data.as_fd(), backing)
    }

    /// Which files they are: see [`identity`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn identity(&self) -> io::Result<String> {
        identity([&self.index, &self.data])
    }
}

/// Which files these are. What is written to one of them, or put in its place, shows in this.
///
/// # Errors
/// What the kernel says.
pub fn identity(files: [&File; 2]) -> io::Result<String> {
    let [one, other] = files.map(|file| {
        let is = file.metadata()?;
        Ok::<_, io::Error>(format!("{}:{}:{}.{}", is.ino(), is.len(), is.ctime(), is.ctime_nsec()))
    });
    Ok(format!("{},{}", one?, other?))
}

/// Mounts the packed layer that stands for `directory`; `None` when there is such a directory, or no such layer.
///
/// # Errors
/// Its files cannot be opened or mounted.
pub fn mount_layer(directory: &Path, backing: Backing) -> io::Result<Option<OwnedFd>> {
    LayerFiles::open(directory)?.map(|files| files.mount(backing)).transpose()
}

/// `STATX_MNT_ID_UNIQUE` (since Linux 6.8), which rustix has no name for.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The number of the mount whose root is open here, which no other mount gets until the machine starts again; `None` for
/// what is not the root of a mount, and on kernels that do not number them so.
///
/// # Errors
/// What the kernel says.
pub fn mount_number(root: impl AsFd) -> io::Result<Option<u64>> {
    // No filesystem is asked: a server that it may have need not answer.
    let found = statx(root, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, MNT_ID_UNIQUE)?;
    let is_root = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok((is_root && found.stx_mask & MNT_ID_UNIQUE.bits() != 0).then_some(found.stx_mnt_id))
}

/// Another mount of the filesystem that process `pid` has mounted with the [number](mount_number) `mount`, and has open as
/// `descriptor`; `None` when it has something else there.
///
/// The filesystem is the same one, with one copy in memory of what was read of it, and stays for as long as one of its mounts.
///
/// # Errors
/// There is no such process or descriptor, it is not shown to us, or the kernel does not copy mounts that are attached
/// nowhere (`open_tree(2)`; it does since Linux 6.15).
pub fn share(pid: u32, descriptor: u32, mount: u64) -> io::Result<Option<OwnedFd>> {
    // Looking at what is there opens nothing: it may be a device, or a pipe that makes us wait.
    let path = format!("/proc/{pid}/fd/{descriptor}");
    let theirs = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if mount_number(&theirs)? != Some(mount) {
        return Ok(None);
    }
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(Some(rustix::mount::open_tree(theirs, "", flags)?))
}
