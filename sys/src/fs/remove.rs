//! Removing a directory tree that may be hostile.
//!
//! The tree may have been written by a container: it can hold symbolic links to anywhere, directories
//! without permissions, chains of directories deeper than any stack or `PATH_MAX`, and, after a crash,
//! mounts. Every name is taken relative to an open directory, links are never followed, and mount points
//! are never crossed (`openat2(2)`, `RESOLVE_NO_XDEV`): a mount that is still there is an error.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{PathContext, PathError};
use crate::failpoint;

/// Directories nested deeper than this are moved up and removed from there, which bounds the stack and
/// the number of open files.
const MAX_DEPTH: usize = 64;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files, links and directories, the top one included.
    pub entries: u64,
    /// Bytes of disk they occupied; a file with several hard links counts when its last name goes.
    pub bytes: u64,
}

/// Removes the tree at `path`, or the file if it is one. Nothing there is no failure. Several processes
/// may remove the same tree at once.
///
/// # Errors
/// Names `path`; the cause is the system's (`EXDEV` or `EBUSY`: something is mounted in the tree). What
/// was removed until then stays removed.
pub fn remove_tree(path: &Path) -> Result<Removed, PathError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(PathError::new("remove", path, std::io::ErrorKind::InvalidInput));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent_path = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent = match rustix::fs::open(parent_path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Removed::default()),
        opened => opened.at("open directory", parent_path)?,
    };
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL).at("remove", path)?;
    remove_tree_at(parent.as_fd(), &name).at("remove the tree", path)
}

/// The same for a name in an open directory.
pub(crate) fn remove_tree_at(parent: BorrowedFd<'_>, name: &CStr) -> Result<Removed, Errno> {
    let mut removal = Removal { top: None, moved: 0, removed: Removed::default() };
    removal.entry(parent, name, 0)?;
    Ok(removal.removed)
}

struct Removal {
    /// The top directory of the tree, once it is open.
    top: Option<OwnedFd>,
    /// How many deep directories were moved to the top.
    moved: u64,
    removed: Removed,
}

impl Removal {
    /// Removes `name` in `parent`, whatever it is.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Errno> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat?,
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir {
            if depth > MAX_DEPTH {
                return self.move_up(parent, name);
            }
            self.directory(parent, name, depth)?;
        }
        failpoint::pass("remove").map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(parent, name, flags) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        }
        self.removed.entries += 1;
        if is_dir || stat.st_nlink == 1 {
            self.removed.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
        Ok(())
    }

    /// Removes what is in the directory `name`.
    fn directory(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Errno> {
        let directory = match open_for_removal(parent, name) {
            Err(Errno::NOENT) => return Ok(()),
            directory => directory?,
        };
        if depth == 0 {
            self.top = Some(
                directory
                    .try_clone()
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))?,
            );
        }
        // Moving deep directories up puts new names in the top directory: read it until it stays empty.
        loop {
            let moved = self.moved;
            for name in names(&directory)? {
                self.entry(directory.as_fd(), &name, depth + 1)?;
            }
            if depth > 0 || self.moved == moved {
                return Ok(());
            }
        }
    }

    /// Moves a deep directory to the top of the tree under a name of ours.
    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let Some(top) = &self.top else { return Err(Errno::LOOP) };
        make_writable(parent, name)?;
        loop {
            self.moved += 1;
            let new_name = format!(".removed-{}", self.moved);
            match rustix::fs::renameat_with(parent, name, top, &*new_name, rustix::fs::RenameFlags::NOREPLACE)
            {
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(()),
                result => return result,
            }
        }
    }
}

/// Opens a directory so that it can be listed and emptied, giving ourselves the permission if need be.
fn open_for_removal(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        match rustix::fs::openat2(parent, name, flags, Mode::empty(), within) {
            Err(Errno::AGAIN) => rustix::fs::openat2(parent, name, flags, Mode::empty(), within),
            opened => opened,
        }
    };
    match open() {
        Err(Errno::ACCESS) => {
            make_writable(parent, name)?;
            open()
        }
        Ok(directory) => {
            // Root does not need the bits; for others the owner's write and search bits decide.
            if !rustix::process::geteuid().is_root() {
                rustix::fs::fchmod(&directory, Mode::RWXU)?;
            }
            Ok(directory)
        }
        error => error,
    }
}

fn make_writable(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::SYMLINK_NOFOLLOW) {
        // Kernels before 6.6 have no fchmodat2; the caller has just seen a directory under this name.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())
        }
        result => result,
    }
}

/// All names in `directory`, read before anything is removed, since removing while reading may skip some.
fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), b"x").unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink("/", tree.join("root")).unwrap();
        let removed = remove_tree(&tree).unwrap();
        assert_eq!(removed.entries, 5);
        assert!(!tree.exists() && outside.join("keep").exists());
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_removed_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("target")).unwrap();
        symlink(dir.path().join("target"), dir.path().join("link")).unwrap();
        remove_tree(&dir.path().join("link")).unwrap();
        assert!(dir.path().join("target").exists());
    }

    #[test]
    fn directories_without_permissions_go_too() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("closed/inner")).unwrap();
        fs::write(tree.join("closed/inner/file"), b"x").unwrap();
        fs::set_permissions(tree.join("closed/inner"), fs::Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn very_deep_trees_go() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at: OwnedFd = fs::File::open(&tree).unwrap().into();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "deep", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        assert_eq!(remove_tree(&tree).unwrap().entries, 3001);
        assert!(!tree.exists());
    }

    #[test]
    fn hard_links_count_once_and_absence_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("a"), vec![1; 8192]).unwrap();
        fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
        let removed = remove_tree(&tree).unwrap();
        assert_eq!(removed.entries, 3);
        assert!(removed.bytes < 3 * 8192, "{removed:?}");
        assert_eq!(remove_tree(&tree).unwrap(), Removed::default());
        assert_eq!(remove_tree(&dir.path().join("no/such")).unwrap(), Removed::default());
    }

    /// Something mounted in a tree must survive; making a mount needs root.
    #[test]
    #[allow(clippy::disallowed_macros, reason = "a test says why it is skipped")]
    fn mounts_are_not_crossed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        let tree = dir.path().join("tree");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), b"x").unwrap();
        fs::create_dir_all(tree.join("mounted")).unwrap();
        if let Err(error) = rustix::mount::mount_bind(&outside, tree.join("mounted")) {
            println!("skipped: cannot make a bind mount: {error}");
            return;
        }
        let result = remove_tree(&tree);
        rustix::mount::unmount(tree.join("mounted"), rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(result.unwrap_err().operation, "remove the tree");
        assert!(outside.join("keep").exists());
    }
}
