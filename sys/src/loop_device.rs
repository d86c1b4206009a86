//! Loop devices: files that the kernel takes for disks (`loop(4)`), for filesystems that want such.
//!
//! Whatever is bound here is let go of by the kernel, when nobody has the device open or mounted any more, whatever ended
//! those (`LO_FLAGS_AUTOCLEAR`).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use linux_raw_sys::loop_device as kernel;
use rustix::fs::Stat;

use crate::path_error::PathError;

/// Answers the number of a device that nobody uses, which is made if there is none.
const CONTROL: &str = "/dev/loop-control";

/// Where the devices are listed.
const LISTED: &str = "/sys/block";

/// How long it counts what was listed. Who mounts many layers mounts them at once, and there may be a thousand devices;
/// whoever misses one that was bound just now binds another.
const LISTED_FOR: Duration = Duration::from_millis(100);

/// The devices that showed files when they were last listed, by the paths of those, and those that we have bound since.
static SEEN: Mutex<Option<(Instant, HashMap<PathBuf, PathBuf>)>> = Mutex::new(None);

/// How often a device may be lost to somebody else who was told of it at the same time.
const ATTEMPTS: u32 = 100;

/// The length of the name that a device carries for those who bound it.
const NAME: usize = kernel::LO_NAME_SIZE as usize;

/// Sectors of a device, the smallest that there are: filesystems may have blocks of that size.
const SECTOR: u32 = 512;

/// What every device here is: it refuses writes, and lets go of its file by itself.
const FLAGS: u32 = kernel::LO_FLAGS_READ_ONLY as u32 | kernel::LO_FLAGS_AUTOCLEAR as u32;

nix::ioctl_none_bad!(get_free, kernel::LOOP_CTL_GET_FREE);
nix::ioctl_write_ptr_bad!(configure, kernel::LOOP_CONFIGURE, kernel::loop_config);
nix::ioctl_read_bad!(get_status, kernel::LOOP_GET_STATUS64, kernel::loop_info64);

/// A loop device that shows `file`, open: one that somebody has bound to the same file under the same name, else a new one.
/// Of the name the first 63 bytes count. It says what the file holds, for those who find the device.
///
/// # Errors
/// Loop devices are not there, not allowed, or all in use.
pub(crate) fn showing(file: BorrowedFd<'_>, name: &str) -> Result<File, PathError> {
    let name = name_of(name);
    match find(file, &name) {
        Some(device) => Ok(device),
        None => bind(file, &name),
    }
}

fn name_of(text: &str) -> [u8; NAME] {
    let mut name = [0; NAME];
    // The last byte stays zero.
    for (byte, value) in name[..NAME - 1].iter_mut().zip(text.bytes()) {
        *byte = value;
    }
    name
}

/// A device that shows this file already. Only those are opened that the kernel lists with its path: what others do with
/// theirs is not disturbed.
fn find(file: BorrowedFd<'_>, name: &[u8; NAME]) -> Option<File> {
    let path = std::fs::read_link(crate::erofs::path_of(file)).ok()?;
    let is = rustix::fs::fstat(file).ok()?;
    let device = with_seen(|seen| seen.get(&path).cloned())?;
    // It stays what it is while it is open.
    let device = File::open(device).ok()?;
    is_bound(&device, &is, name).then_some(device)
}

/// Looks at what is known of devices, or changes it.
fn with_seen<T>(look: impl FnOnce(&mut HashMap<PathBuf, PathBuf>) -> T) -> T {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *seen {
        Some((when, seen)) if when.elapsed() < LISTED_FOR => look(seen),
        old => look(&mut old.insert((Instant::now(), list())).1),
    }
}

/// The devices that show files now.
fn list() -> HashMap<PathBuf, PathBuf> {
    let entries = std::fs::read_dir(LISTED).into_iter().flatten().flatten();
    let shown =
        entries.filter(|entry| entry.file_name().as_bytes().starts_with(b"loop")).filter_map(|entry| {
            let mut file = std::fs::read(entry.path().join("loop/backing_file")).ok()?;
            // The end of the line.
            file.pop();
            Some((OsString::from_vec(file).into(), Path::new("/dev").join(entry.file_name())))
        });
    shown.collect()
}

/// Whether a device shows this file, all of it, and as the name says.
fn is_bound(device: &File, file: &Stat, name: &[u8; NAME]) -> bool {
    let mut info = EMPTY;
    // SAFETY: the structure is live and is the one that the kernel fills for this request; a descriptor that is no loop
    // device is an error.
    let known = unsafe { get_status(device.as_raw_fd(), &raw mut info) };
    known.is_ok()
        && (info.lo_device, info.lo_inode) == (file.st_dev, file.st_ino)
        && (info.lo_offset, info.lo_sizelimit) == (0, 0)
        && info.lo_flags & FLAGS == FLAGS
        && info.lo_file_name == *name
}

/// Binds a device that nobody uses.
fn bind(file: BorrowedFd<'_>, name: &[u8; NAME]) -> Result<File, PathError> {
    let control = File::open(CONTROL).map_err(|error| PathError::new("open", CONTROL, error))?;
    let config = kernel::loop_config {
        fd: file.as_raw_fd().unsigned_abs(),
        block_size: SECTOR,
        info: kernel::loop_info64 { lo_flags: FLAGS, lo_file_name: *name, ..EMPTY },
        __reserved: [0; 8],
    };
    let mut lost = None;
    for _ in 0..ATTEMPTS {
        // SAFETY: no pointers; a descriptor that is not the control device is an error.
        let number = unsafe { get_free(control.as_raw_fd()) };
        let number = number.map_err(|error| PathError::new("get a loop device from", CONTROL, error))?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let bound = File::open(&path).and_then(|device| {
            // SAFETY: the structure is live, is the one that the kernel reads for this request, and names a file that is
            // open meanwhile.
            unsafe { configure(device.as_fd().as_raw_fd(), &raw const config) }?;
            Ok(device)
        });
        match bound {
            Ok(device) => {
                if let Ok(file) = std::fs::read_link(crate::erofs::path_of(file)) {
                    with_seen(|seen| seen.insert(file, path));
                }
                return Ok(device);
            }
            // Somebody else has bound it, or removed it, since we were told of it.
            Err(error) if is_lost(&error) => lost = Some(PathError::new("bind", path, error)),
            Err(error) => return Err(PathError::new("bind", path, error)),
        }
        std::thread::yield_now();
    }
    Err(lost.unwrap_or_else(|| PathError::new("bind", CONTROL, io::ErrorKind::ResourceBusy)))
}

fn is_lost(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::ENXIO | libc::ENODEV))
}

/// Nothing said.
const EMPTY: kernel::loop_info64 = kernel::loop_info64 {
    lo_device: 0,
    lo_inode: 0,
    lo_rdevice: 0,
    lo_offset: 0,
    lo_sizelimit: 0,
    lo_number: 0,
    lo_encrypt_type: 0,
    lo_encrypt_key_size: 0,
    lo_flags: 0,
    lo_file_name: [0; NAME],
    lo_crypt_name: [0; NAME],
    lo_encrypt_key: [0; 32],
    lo_init: [0; 2],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_what_a_device_can_carry() {
        assert_eq!(name_of("one")[..4], *b"one\0");
        let long = name_of(&"x".repeat(100));
        assert_eq!((long[62], long[63]), (b'x', 0));
    }
}
