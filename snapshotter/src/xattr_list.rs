//! Extended attributes of an open file, all at once: their names, and their values.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::tar_entry::Xattr;

/// The first guess at the size of a list or value; most are far smaller.
const GUESS: usize = 1 << 10;

/// The most that the kernel returns (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`, `linux/limits.h`).
const MOST: usize = 64 << 10;

/// The names of the attributes of `file`. None where the filesystem has no attributes.
pub(crate) fn names(file: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let list = match grow(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        list => list?,
    };
    Ok(list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The attributes of `file` whose names `wanted` accepts, in the order of their names.
pub(crate) fn read(file: BorrowedFd<'_>, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Xattr>, Errno> {
    let mut xattrs = Vec::new();
    for name in names(file)? {
        if !wanted(&name) {
            continue;
        }
        match value(file, &name) {
            Ok(value) => xattrs.push(Xattr { name, value }),
            // It went away since the list was made.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// The value of one attribute; `NODATA` when there is none of that name.
pub(crate) fn value(file: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    grow(|buffer| rustix::fs::fgetxattr(file, name, buffer))
}

/// Calls with a small buffer, and once more with the largest if that was too small.
fn grow(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; GUESS];
    match call(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; MOST];
            let length = call(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}
