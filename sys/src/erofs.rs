//! Mounting EROFS images whose files lie in another file.
//!
//! Source: the kernel's `Documentation/filesystems/erofs.rst`. Since Linux 6.12 the image and its devices may be
//! ordinary files; older kernels want block devices and answer `ENOTBLK`. They get loop devices.

mod files;
mod way;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use base::Digest;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::loop_device;
pub use files::{LayerFiles, MAX_PARTS, mount_layer};
pub use way::{Backing, UnknownWay, Way};

/// Mounts `image`, the content of whose files lies in `devices`, where nobody sees it: only the returned handle of its
/// root knows the mount (`fsmount(2)`), and with the last copy of it the mount goes, also when the process is killed, and
/// loop devices with it.
///
/// All files are taken as they are open here, whatever has their names now.
///
/// # Errors
/// What the kernel says, and loop devices that are not to be had. What it could say more of a bad image is in its log.
pub fn mount(image: BorrowedFd<'_>, devices: &[BorrowedFd<'_>], backing: Backing) -> io::Result<OwnedFd> {
    match backing {
        Backing::File => mount_from(image, devices),
        Backing::Loop => {
            let show = |file, files: &[BorrowedFd<'_>]| {
                let shown = loop_device::showing(file, &content_name(files)?);
                shown.map_err(|error| io::Error::new(error.kind(), error))
            };
            // Two mounts of the same device are one filesystem to the kernel, whoever makes them, with all that it was made of.
            let image = show(image, &[&[image], devices].concat())?;
            let devices: Vec<File> =
                devices.iter().map(|device| show(*device, &[*device])).collect::<io::Result<_>>()?;
            mount_from(image.as_fd(), &devices.iter().map(|device| device.as_fd()).collect::<Vec<_>>())
        }
    }
}

fn mount_from(image: BorrowedFd<'_>, devices: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Else it would want to write to the devices.
    rustix::mount::fsconfig_set_flag(&context, "ro")?;
    rustix::mount::fsconfig_set_string(&context, "source", path_of(image))?;
    for device in devices {
        rustix::mount::fsconfig_set_string(&context, "device", path_of(device))?;
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// What a loop device is called that shows the first of these files, to be used with the others. Whatever is written to one of them,
/// or put in its place, makes another name.
fn content_name(files: &[BorrowedFd<'_>]) -> io::Result<String> {
    let mut names = String::new();
    for file in files {
        let is = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::CTIME)?;
        let changed = is.stx_ctime;
        names += &format!("{:x} {:x}.{:x},", is.stx_ino, changed.tv_sec, changed.tv_nsec);
    }
    // As much as a device has room for.
    Ok(Digest::of(names.as_bytes()).hex().chars().take(60).collect())
}

/// The path by which this process reaches what is open.
pub fn path_of(open: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", open.as_fd().as_raw_fd()).into()
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
