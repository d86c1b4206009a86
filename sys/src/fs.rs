//! File operations whose errors name the operation and the path.
//!
//! Thin wrappers over `std::fs` and rustix, plus the few things every writer of durable state needs: a file
//! replaced as a whole, a directory or file system flushed, a tree removed without following what is in it.
//! Nothing here knows what the files mean, and nothing retries.

mod remove;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::failpoint;
pub use crate::path_error::{PathContext, PathError};
pub(crate) use remove::remove_tree_at;
pub use remove::{Removed, remove_tree};

/// Whether data must have reached the disk when a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The kernel writes it when it likes.
    Cached,
    /// It survives a power loss.
    Synced,
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File, PathError> {
    File::open(path).at("open", path)
}

/// Opens an existing file for reading and writing, at its beginning.
pub fn open_to_change(path: &Path) -> Result<File, PathError> {
    failpoint::pass("open").at("open", path)?;
    fs::OpenOptions::new().read(true).write(true).open(path).at("open", path)
}

/// Creates a file that must not exist, for reading and writing, with permission bits `mode` less the umask.
pub fn create_new(path: &Path, mode: u32) -> Result<File, PathError> {
    failpoint::pass("create").at("create", path)?;
    OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path).at("create", path)
}

/// Creates one directory with permission bits `mode` less the umask. It must not exist.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), PathError> {
    failpoint::pass("create directory").at("create directory", path)?;
    fs::DirBuilder::new().mode(mode).create(path).at("create directory", path)
}

/// Creates a directory and those above it with permission bits `mode` less the umask; those that exist
/// are left as they are.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<(), PathError> {
    failpoint::pass("create directory").at("create directory", path)?;
    fs::DirBuilder::new().mode(mode).recursive(true).create(path).at("create directory", path)
}

/// The whole content of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, PathError> {
    fs::read(path).at("read", path)
}

/// Which start of the machine this is: a line that is another after each (`proc_sys_kernel(5)`).
pub fn boot_id() -> Result<String, PathError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).at("read", path)?.trim_end().to_owned())
}

/// The whole content of a file of at most `limit` bytes; `None` when it is longer.
pub fn read_limited(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, PathError> {
    let mut bytes = Vec::new();
    open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).at("read", path)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Metadata without following a final symbolic link.
pub fn metadata(path: &Path) -> Result<fs::Metadata, PathError> {
    fs::symlink_metadata(path).at("inspect", path)
}

/// Whether anything, even a dangling symbolic link, has this name.
pub fn exists(path: &Path) -> Result<bool, PathError> {
    match metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Renames within one file system; what had the new name is replaced.
pub fn rename(from: &Path, to: &Path) -> Result<(), PathError> {
    failpoint::pass("rename").at("rename to its final place", from)?;
    fs::rename(from, to).at("rename to its final place", from)
}

/// Gives a file a second name, unless something has that name. `false` when something had it.
pub fn link_if_absent(from: &Path, to: &Path) -> Result<bool, PathError> {
    failpoint::pass("link").at("link to its final place", from)?;
    match fs::hard_link(from, to).at("link to its final place", from) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a file. `false` when there was none.
pub fn remove_file(path: &Path) -> Result<bool, PathError> {
    failpoint::pass("remove").at("remove", path)?;
    absent_is_false(fs::remove_file(path).at("remove", path))
}

/// Removes an empty directory. `false` when there was none.
pub fn remove_dir(path: &Path) -> Result<bool, PathError> {
    failpoint::pass("remove directory").at("remove directory", path)?;
    absent_is_false(fs::remove_dir(path).at("remove directory", path))
}

fn absent_is_false(result: Result<(), PathError>) -> Result<bool, PathError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sets when a file was last changed.
pub fn set_modified(path: &Path, time: SystemTime) -> Result<(), PathError> {
    failpoint::pass("set the times of").at("set the times of", path)?;
    open(path)?.set_modified(time).at("set the times of", path)
}

/// The names in a directory, in no order.
pub fn list(path: &Path) -> Result<Vec<std::ffi::OsString>, PathError> {
    let entries = fs::read_dir(path).at("list", path)?;
    entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>().at("list", path)
}

/// Gives `path` the content `bytes`: a reader sees the old file or the new one, never a part of either.
/// The new content is first written to `.<name>.new` in the same directory, so only one writer at a time
/// may replace a given path.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<(), PathError> {
    let aside = aside(path)?;
    let result = write_aside(&aside, bytes, mode, durability).and_then(|()| rename(&aside, path));
    if let Err(error) = result {
        // The first failure is the one to report; a leftover is overwritten by the next writer.
        let _ = remove_file(&aside);
        return Err(error);
    }
    match (durability, path.parent()) {
        (Durability::Synced, Some(directory)) => sync_dir(directory),
        _ => Ok(()),
    }
}

fn aside(path: &Path) -> Result<PathBuf, PathError> {
    let name = path.file_name().ok_or_else(|| PathError::new("write", path, io::ErrorKind::InvalidInput))?;
    let mut aside = std::ffi::OsString::from(".");
    aside.push(name);
    aside.push(".new");
    Ok(path.with_file_name(aside))
}

fn write_aside(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<(), PathError> {
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    let mut file = open.at("create", path)?;
    failpoint::pass("write").at("write", path)?;
    file.write_all(bytes).at("write", path)?;
    if durability == Durability::Synced {
        file.sync_all().at("flush", path)?;
    }
    Ok(())
}

/// Flushes a file that others wrote.
pub fn sync_file(path: &Path) -> Result<(), PathError> {
    failpoint::pass("flush").at("flush", path)?;
    open(path)?.sync_all().at("flush", path)
}

/// Flushes a directory, so that the names in it survive a power loss.
pub fn sync_dir(path: &Path) -> Result<(), PathError> {
    failpoint::pass("flush directory").at("flush directory", path)?;
    open(path)?.sync_all().at("flush directory", path)
}

/// Flushes everything on the file system that holds `path` (`syncfs(2)`). Since Linux 5.8 a write that
/// failed in the background is reported here.
pub fn sync_filesystem(path: &Path) -> Result<(), PathError> {
    failpoint::pass("flush the file system of").at("flush the file system of", path)?;
    let directory = open(path)?;
    rustix::fs::syncfs(&directory).at("flush the file system of", path)
}

/// Has the kernel begin to write a part of a file to its disk, and does not wait for it (`sync_file_range(2)`), so that
/// flushing takes less time later. It makes nothing durable, and what goes wrong is reported by who flushes.
pub fn begin_to_store(file: &File, part: Range<u64>) {
    let (Ok(offset), Ok(length)) = (part.start.try_into(), (part.end.saturating_sub(part.start)).try_into())
    else {
        return;
    };
    // SAFETY: no memory is passed, and the descriptor is open for as long as `file` is borrowed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}

/// How large a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that an ordinary user may still write.
    pub free: u64,
}

/// How large the file system is that holds `path` (`statvfs(3)`).
pub fn disk_space(path: &Path) -> Result<DiskSpace, PathError> {
    let status = rustix::fs::statvfs(path).at("ask for the free space of", path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(status.f_frsize);
    Ok(DiskSpace { total: bytes(status.f_blocks), free: bytes(status.f_bavail) })
}

/// Bytes that an ordinary user may still write to the file system that holds `path`.
pub fn free_space(path: &Path) -> Result<u64, PathError> {
    Ok(disk_space(path)?.free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn atomic_write_replaces_and_leaves_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write_atomic(&path, b"one", 0o640, Durability::Synced).unwrap();
        write_atomic(&path, b"two", 0o600, Durability::Cached).unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(list(dir.path()).unwrap(), ["state.json"]);
    }

    #[test]
    fn failed_atomic_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("occupied");
        fs::create_dir(&path).unwrap();
        let error = write_atomic(&path, b"x", 0o600, Durability::Cached).unwrap_err();
        assert_eq!(error.operation, "rename to its final place");
        assert_eq!(list(dir.path()).unwrap(), ["occupied"]);
    }

    #[test]
    fn limited_read_refuses_one_byte_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_limited(&path, 5).unwrap().as_deref(), Some(&b"12345"[..]));
        assert_eq!(read_limited(&path, 4).unwrap(), None);
    }

    #[test]
    fn a_link_does_not_replace() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, b"a").unwrap();
        assert!(link_if_absent(&a, &b).unwrap());
        fs::write(dir.path().join("c"), b"c").unwrap();
        assert!(!link_if_absent(&dir.path().join("c"), &b).unwrap());
        assert_eq!(read(&b).unwrap(), b"a");
    }

    #[test]
    fn absent_files_are_no_failure_to_remove() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!remove_file(&dir.path().join("f")).unwrap());
        assert!(!remove_dir(&dir.path().join("d")).unwrap());
        assert!(!exists(&dir.path().join("d")).unwrap());
        sync_filesystem(dir.path()).unwrap();
    }
}
