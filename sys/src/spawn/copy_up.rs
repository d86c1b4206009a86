//! Copying what a directory of the image has into a filesystem that hides it (`tmpcopyup`).
//!
//! Files, directories, links, devices and FIFOs are copied with their modes, owners and nothing else; a hard link
//! becomes a file of its own. Links of the image are copied, never followed.
//!
//! Runs in the new process: no allocation, no locks; see [`super::raw`].

use std::ffi::CStr;

use super::raw::{self, Failure, Fd, invoke};
use super::target::PLAIN;

/// How deep directories are copied. Each level takes a buffer on the stack.
const DEEPEST: usize = 32;

/// Bytes of directory entries that are read at once.
const ENTRIES: usize = 2048;

/// Where the name starts in a `linux_dirent64`, and where its length is (`getdents64(2)`).
const NAME: usize = 19;
const LENGTH: usize = 16;

const NO_FOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;

/// Copies everything in the directory `from` into the directory `to`, and how the directory itself looks.
pub(super) fn copy_directory(from: Fd, to: Fd, depth: usize) -> Result<(), Failure> {
    if depth > DEEPEST {
        return Err(Failure { call: libc::SYS_openat2 as i32, errno: libc::ENAMETOOLONG });
    }
    let status = raw::status_of(from)?;
    let from = raw::open(from, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0, PLAIN)?;
    let mut buffer = [0u8; ENTRIES];
    loop {
        // SAFETY: the kernel writes at most the buffer's length.
        let filled = unsafe { invoke!(libc::SYS_getdents64, from, buffer.as_mut_ptr(), buffer.len()) }?;
        let mut rest = buffer.get(..filled).unwrap_or(&[]);
        if rest.is_empty() {
            break;
        }
        while let Some((name, next)) = entry(rest) {
            if !matches!(name.to_bytes(), b"." | b"..") {
                copy_entry(from, to, name, depth)?;
            }
            rest = next;
        }
    }
    raw::close(from);
    own(to, c"", &status)?;
    // SAFETY: no pointers.
    unsafe { invoke!(libc::SYS_fchmod, to, u32::from(status.stx_mode) & 0o7777) }.map(drop)
}

/// The name of the first entry, and the entries after it.
fn entry(entries: &[u8]) -> Option<(&CStr, &[u8])> {
    let length = entries.get(LENGTH..LENGTH + 2)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))?;
    let name = CStr::from_bytes_until_nul(entries.get(NAME..usize::from(length))?).ok()?;
    Some((name, entries.get(usize::from(length)..).unwrap_or(&[])))
}

fn copy_entry(from: Fd, to: Fd, name: &CStr, depth: usize) -> Result<(), Failure> {
    let source = raw::open(from, name, libc::O_PATH | libc::O_NOFOLLOW, 0, 0)?;
    let status = raw::status_of(source)?;
    let mode = u32::from(status.stx_mode);
    match mode & libc::S_IFMT {
        libc::S_IFDIR => {
            // SAFETY: the name is a live string.
            unsafe { invoke!(libc::SYS_mkdirat, to, name, 0o700) }?;
            let made = raw::open(to, name, libc::O_RDONLY | libc::O_DIRECTORY, 0, PLAIN)?;
            copy_directory(source, made, depth + 1)?;
            raw::close(made);
        }
        libc::S_IFREG => copy_file(from, to, name, &status)?,
        libc::S_IFLNK => {
            let mut content = [0u8; libc::PATH_MAX as usize];
            let space = content.len() - 1;
            // SAFETY: the kernel writes at most the given length, which leaves the last zero; both strings of
            // the second call are live and end in one.
            unsafe {
                invoke!(libc::SYS_readlinkat, source, c"", content.as_mut_ptr(), space)?;
                invoke!(libc::SYS_symlinkat, content.as_ptr(), to, name)?;
            }
            own(to, name, &status)?;
        }
        _ => {
            let device = libc::makedev(status.stx_rdev_major, status.stx_rdev_minor);
            // SAFETY: the name is a live string.
            unsafe { invoke!(libc::SYS_mknodat, to, name, mode, device) }?;
            own(to, name, &status)?;
        }
    }
    raw::close(source);
    Ok(())
}

fn copy_file(from: Fd, to: Fd, name: &CStr, status: &libc::statx) -> Result<(), Failure> {
    let source = raw::open(from, name, libc::O_RDONLY, 0, PLAIN)?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let copy = raw::open(to, name, flags, 0o600, PLAIN)?;
    loop {
        // SAFETY: no offset is given, so the kernel reads from where the file is.
        if unsafe { invoke!(libc::SYS_sendfile, copy, source, 0usize, 1usize << 30) }? == 0 {
            break;
        }
    }
    own(copy, c"", status)?;
    // SAFETY: no pointers. After the owner, whose change would clear some bits.
    unsafe { invoke!(libc::SYS_fchmod, copy, u32::from(status.stx_mode) & 0o7777) }?;
    raw::close(source);
    raw::close(copy);
    Ok(())
}

fn own(directory: Fd, name: &CStr, status: &libc::statx) -> Result<(), Failure> {
    let flags = NO_FOLLOW | libc::AT_EMPTY_PATH;
    // SAFETY: the name is a live string.
    unsafe { invoke!(libc::SYS_fchownat, directory, name, status.stx_uid, status.stx_gid, flags) }.map(drop)
}
