//! Finding and making mount targets inside a root that is not ours.
//!
//! The root filesystem comes from an image and is hostile: any component may be a symbolic link to
//! anywhere. Every walk is done by the kernel with `openat2(2)` confined to the root, so a link can lead
//! to another place of the same root and nowhere else. What is missing is made one component at a time,
//! each relative to a directory that was opened this way.
//!
//! Runs in the new process: no allocation, no locks; see [`super::raw`].

use std::ffi::CStr;

use super::raw::{self, Failure, Fd, invoke};
use super::report::Reporter;

/// Symbolic links point to the root at most, and links of `/proc` that jump are refused.
pub(super) const CONFINED: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
/// As [`CONFINED`], and no symbolic links at all.
pub(super) const PLAIN: u64 = CONFINED | libc::RESOLVE_NO_SYMLINKS;

/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

const PATH_MAX: usize = libc::PATH_MAX as usize;

/// The root in which targets are looked up.
pub(super) struct Root {
    /// Its directory.
    pub(super) fd: Fd,
    /// How long the path is over which the host sees it.
    pub(super) prefix: usize,
    /// Who is told of targets that were made.
    pub(super) reporter: Reporter,
}

impl Root {
    /// Takes `fd` as the root directory. Changes the working directory.
    pub(super) fn set(&mut self, fd: Fd) -> Result<(), Failure> {
        self.fd = fd;
        // SAFETY: no pointers.
        unsafe { invoke!(libc::SYS_fchdir, fd) }?;
        self.prefix = current_path(&mut [0u8; PATH_MAX])?.len();
        Ok(())
    }

    /// Opens a target, which is made as a directory or an empty file when it is missing.
    pub(super) fn open_or_create(&self, target: &CStr, directory: bool) -> Result<Fd, Failure> {
        match raw::open(self.fd, target, libc::O_PATH, 0, CONFINED) {
            Err(Failure { errno: libc::ENOENT, .. }) => {}
            other => return other,
        }
        let mut path = PathBuffer::new(target.to_bytes())?;
        for _ in 0..MAX_LINKS {
            if self.create(&mut path, directory)? {
                return raw::open(self.fd, target, libc::O_PATH, 0, CONFINED);
            }
        }
        Err(Failure { call: libc::SYS_openat2 as i32, errno: libc::ELOOP })
    }

    /// Opens the directory around a target and tells where the target's name starts.
    pub(super) fn open_parent<'a>(&self, target: &'a CStr) -> Result<(Fd, &'a CStr), Failure> {
        let bytes = target.to_bytes_with_nul();
        let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let mut parent = PathBuffer::new(bytes.get(..start).unwrap_or(b"/"))?;
        let fd = raw::open(self.fd, parent.as_c_str()?, libc::O_PATH | libc::O_DIRECTORY, 0, CONFINED)?;
        Ok((fd, tail(bytes, start)?))
    }

    /// Makes what is missing of `path`. `false` when a link that leads nowhere was met and replaced in
    /// `path` by what it points to, so that the walk has to start again.
    fn create(&self, path: &mut PathBuffer, directory: bool) -> Result<bool, Failure> {
        let mut parent = raw::open(self.fd, c"/", libc::O_PATH | libc::O_DIRECTORY, 0, CONFINED)?;
        let mut start = path.skip_slashes(0);
        while start < path.length {
            let end = path.component_end(start);
            let next = path.skip_slashes(end);
            let last = next >= path.length;
            let opened =
                path.with_end(end, |prefix| raw::open(self.fd, prefix, libc::O_PATH, 0, CONFINED))?;
            let fd = match opened {
                Ok(fd) => fd,
                Err(Failure { errno: libc::ENOENT, .. }) => {
                    let made = path.with_end(end, |prefix| {
                        self.create_one(parent, tail(prefix.to_bytes_with_nul(), start)?, directory || !last)
                    })?;
                    match made {
                        Ok(fd) => fd,
                        Err(Failure { errno: libc::EEXIST, .. }) => {
                            path.follow_link(parent, start, end)?;
                            raw::close(parent);
                            return Ok(false);
                        }
                        Err(failure) => return Err(failure),
                    }
                }
                Err(failure) => return Err(failure),
            };
            raw::close(parent);
            parent = fd;
            start = next;
        }
        raw::close(parent);
        Ok(true)
    }

    /// Makes one directory or empty file and reports it.
    fn create_one(&self, parent: Fd, name: &CStr, directory: bool) -> Result<Fd, Failure> {
        let before = raw::status_of(parent)?.stx_mtime;
        if directory {
            // SAFETY: the name is a live string that the kernel only reads.
            unsafe { invoke!(libc::SYS_mkdirat, parent, name, 0o755) }?;
        } else {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            raw::close(raw::open(parent, name, flags, 0o644, 0)?);
        }
        let after = raw::status_of(parent)?.stx_mtime;
        let mut around = [0u8; PATH_MAX];
        // SAFETY: no pointers.
        unsafe { invoke!(libc::SYS_fchdir, parent) }?;
        let around = current_path(&mut around)?.get(self.prefix..).unwrap_or(&[]);
        self.reporter.created(around, name, directory, [before, after])?;
        raw::open(parent, name, libc::O_PATH | libc::O_NOFOLLOW, 0, 0)
    }
}

/// The path of the working directory as seen from this process's root.
pub(super) fn current_path(buffer: &mut [u8; PATH_MAX]) -> Result<&[u8], Failure> {
    // SAFETY: the kernel writes at most the buffer's length.
    let length = unsafe { invoke!(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) }?;
    Ok(buffer.get(..length.saturating_sub(1)).unwrap_or(&[]))
}

/// The string from `start` of a text that ends in a zero byte.
fn tail(bytes: &[u8], start: usize) -> Result<&CStr, Failure> {
    let rest = bytes.get(start..).unwrap_or(&[]);
    CStr::from_bytes_until_nul(rest).map_err(|_| too_long())
}

const fn too_long() -> Failure {
    Failure { call: libc::SYS_openat2 as i32, errno: libc::ENAMETOOLONG }
}

/// A path on the stack, ending in a zero byte.
pub(super) struct PathBuffer {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl PathBuffer {
    pub(super) fn new(path: &[u8]) -> Result<Self, Failure> {
        let mut buffer = Self { bytes: [0; PATH_MAX], length: 0 };
        buffer.push(path)?;
        Ok(buffer)
    }

    pub(super) fn as_c_str(&mut self) -> Result<&CStr, Failure> {
        tail(&self.bytes, 0)
    }

    /// Calls `action` with the path cut off at `end`.
    pub(super) fn with_end<T>(&mut self, end: usize, action: impl FnOnce(&CStr) -> T) -> Result<T, Failure> {
        let Some(byte) = self.bytes.get_mut(end) else { return Err(too_long()) };
        let kept = std::mem::replace(byte, 0);
        let result = tail(&self.bytes, 0).map(action);
        if let Some(byte) = self.bytes.get_mut(end) {
            *byte = kept;
        }
        result
    }

    pub(super) fn skip_slashes(&self, from: usize) -> usize {
        let rest = self.bytes.get(from..self.length).unwrap_or(&[]);
        from + rest.iter().take_while(|byte| **byte == b'/').count()
    }

    pub(super) fn component_end(&self, from: usize) -> usize {
        let rest = self.bytes.get(from..self.length).unwrap_or(&[]);
        from + rest.iter().take_while(|byte| **byte != b'/').count()
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Replaces the component from `start` to `end`, a symbolic link in `parent`, by its content.
    fn follow_link(&mut self, parent: Fd, start: usize, end: usize) -> Result<(), Failure> {
        let mut content = [0u8; PATH_MAX];
        let name = self.with_end(end, |prefix| {
            let name = tail(prefix.to_bytes_with_nul(), start)?;
            // SAFETY: the name is a live string, and the kernel writes at most the buffer's length.
            unsafe { invoke!(libc::SYS_readlinkat, parent, name, content.as_mut_ptr(), content.len()) }
        })?;
        let content = content.get(..name?).unwrap_or(&[]);
        let rest = self.bytes;
        let rest = rest.get(end..self.length).unwrap_or(&[]);
        self.length = if content.starts_with(b"/") { 0 } else { start };
        self.push(content)?;
        self.push(rest)
    }

    /// Appends bytes and the final zero.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let end = self.length + bytes.len();
        let Some(space) = self.bytes.get_mut(self.length..end) else { return Err(too_long()) };
        space.copy_from_slice(bytes);
        match self.bytes.get_mut(end) {
            Some(zero) => *zero = 0,
            None => return Err(too_long()),
        }
        self.length = end;
        Ok(())
    }
}
