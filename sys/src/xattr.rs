//! Extended attributes (`xattr(7)`): listing, reading and setting them without following a link.
//!
//! A file is given as an open handle, or as a name in a directory handle. For the second form the
//! kernel has no call that takes a directory handle and does not open the file, so it goes through
//! `/proc/self/fd/N/name`: the magic link leads to that very directory, and the last component is not
//! followed.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs as rfs;
use rustix::io::Errno;

use crate::path_error::PathError;
use crate::rootdir::RootDir;

/// The longest list of names, and the longest value, that Linux keeps (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const LIMIT: usize = 64 * 1024;

/// One attribute: its name with the namespace (`user.note`) and its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// The full name.
    pub name: CString,
    /// The value; may be empty.
    pub value: Vec<u8>,
}

/// Which file to work on.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// An open file or directory (not opened with `O_PATH`).
    Open(BorrowedFd<'a>),
    /// A single name in an open directory; the name itself is not followed.
    Name(&'a RootDir, &'a OsStr),
}

/// All attributes whose name `wanted` accepts, sorted by name. A file system without attributes has none.
pub fn read_all(
    target: Target<'_>,
    shown: &Path,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<Xattr>, PathError> {
    let mut found = Vec::new();
    for name in list(target, shown)? {
        if !wanted(name.as_bytes()) {
            continue;
        }
        if let Some(value) = get(target, shown, &name)? {
            found.push(Xattr { name, value });
        }
    }
    found.sort();
    Ok(found)
}

/// The names of all attributes, in the kernel's order. `shown` is the path for messages.
pub fn list(target: Target<'_>, shown: &Path) -> Result<Vec<CString>, PathError> {
    // Most files have none or one attribute: a small buffer on the stack saves the question for the size.
    let mut small = [0_u8; 512];
    let result = match list_into(target, &mut small) {
        Err(Errno::RANGE) => {
            let mut large = vec![0_u8; LIMIT];
            list_into(target, &mut large).map(|length| split_names(&large[..length]))
        }
        other => other.map(|length| split_names(&small[..length])),
    };
    match result {
        Ok(names) => Ok(names),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(error) => Err(PathError::new("list the extended attributes of", shown, error)),
    }
}

fn split_names(list: &[u8]) -> Vec<CString> {
    list.split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .map(CStr::to_owned)
        .collect()
}

fn list_into(target: Target<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    match target {
        Target::Open(file) => rfs::flistxattr(file, buffer),
        Target::Name(dir, name) => rfs::llistxattr(magic_path(dir, name), buffer),
    }
}

/// The value of one attribute, or `None` when the file does not have it.
pub fn get(target: Target<'_>, shown: &Path, name: &CStr) -> Result<Option<Vec<u8>>, PathError> {
    let mut small = [0_u8; 256];
    let result = match get_into(target, name, &mut small) {
        Err(Errno::RANGE) => {
            let mut large = vec![0_u8; LIMIT];
            get_into(target, name, &mut large).map(|length| {
                large.truncate(length);
                large
            })
        }
        other => other.map(|length| small[..length].to_vec()),
    };
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(PathError::new("read an extended attribute of", shown, error)),
    }
}

fn get_into(target: Target<'_>, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    match target {
        Target::Open(file) => rfs::fgetxattr(file, name, buffer),
        Target::Name(dir, entry) => rfs::lgetxattr(magic_path(dir, entry), name, buffer),
    }
}

/// Sets one attribute, replacing its value.
pub fn set(target: Target<'_>, shown: &Path, name: &CStr, value: &[u8]) -> Result<(), PathError> {
    let flags = rfs::XattrFlags::empty();
    match target {
        Target::Open(file) => rfs::fsetxattr(file, name, value, flags),
        Target::Name(dir, entry) => rfs::lsetxattr(magic_path(dir, entry), name, value, flags),
    }
    .map_err(|error| PathError::new("set an extended attribute of", shown, error))
}

/// Removes one attribute; that it is not there is no error.
pub fn remove(target: Target<'_>, shown: &Path, name: &CStr) -> Result<(), PathError> {
    let result = match target {
        Target::Open(file) => rfs::fremovexattr(file, name),
        Target::Name(dir, entry) => rfs::lremovexattr(magic_path(dir, entry), name),
    };
    match result {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(PathError::new("remove an extended attribute of", shown, error)),
    }
}

fn magic_path(dir: &RootDir, name: &OsStr) -> PathBuf {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    PathBuf::from(OsString::from_vec(path))
}
