//! Copies a directory tree so that nobody can tell the copy from the original: owners, modes, times,
//! attributes, hard links within the tree, links, devices, pipes, holes. Blocks are shared where the file
//! system can.
//!
//! Directories wait in a queue by path, so that the number of open files does not grow with the depth.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use sys::copy::{Pair, copy_content};
use sys::fs::PathError;
use sys::rootdir::{self, RootDir};
use sys::stat::{Kind, Stat};
use sys::xattr::{self, Target};

use crate::tree::is_image_xattr;

/// Copies what is in `from`, and the attributes of `from` itself, to `to`, an empty directory.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), PathError> {
    let mut copy = TreeCopy {
        source: RootDir::open(from)?,
        target: RootDir::open(to)?,
        links: HashMap::new(),
        open: vec![PathBuf::new()],
        copied: Vec::new(),
    };
    while let Some(dir) = copy.open.pop() {
        copy.directory(&dir)?;
        copy.copied.push(dir);
    }
    // A directory without write permission could not have been filled, and filling changes its times: so
    // attributes come last, and those of inner directories first.
    for dir in copy.copied.iter().rev() {
        copy.directory_attributes(dir)?;
    }
    Ok(())
}

struct TreeCopy {
    source: RootDir,
    target: RootDir,
    /// Where a file with several names was copied to, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    /// Directories that exist in the copy and are still to be filled.
    open: Vec<PathBuf>,
    /// Directories that are filled; every one after its parent.
    copied: Vec<PathBuf>,
}

impl TreeCopy {
    fn directory(&mut self, dir: &Path) -> Result<(), PathError> {
        let source = real_dir(&self.source, dir)?;
        let target = real_dir(&self.target, dir)?;
        for (name, _) in source.names()? {
            self.entry(&source, &target, &name, dir.join(&name))?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        source: &RootDir,
        target: &RootDir,
        name: &OsStr,
        path: PathBuf,
    ) -> Result<(), PathError> {
        let Some(stat) = source.stat(name)? else { return Ok(()) };
        if stat.kind == Kind::Directory {
            target.create_dir(name, 0o700)?;
            self.open.push(path);
            return Ok(());
        }
        if stat.links > 1 {
            if let Some(first) = self.links.get(&(stat.device, stat.inode)) {
                return target.create_hard_link(name, &self.target, first);
            }
            self.links.insert((stat.device, stat.inode), path);
        }
        create(source, target, name, &stat)?;
        copy_attributes(source, target, name, &stat)
    }

    fn directory_attributes(&self, dir: &Path) -> Result<(), PathError> {
        let source = real_dir(&self.source, dir)?;
        let target = real_dir(&self.target, dir)?;
        let stat = rootdir::stat_of(&source, source.path())?;
        rootdir::set_owner_of(&target, target.path(), stat.uid, stat.gid)?;
        for attribute in xattr::read_all(Target::Open(source.as_fd()), source.path(), is_image_xattr)? {
            xattr::set(Target::Open(target.as_fd()), target.path(), &attribute.name, &attribute.value)?;
        }
        rootdir::set_mode_of(&target, target.path(), stat.mode)?;
        rootdir::set_times_of(&target, target.path(), stat.mtime)
    }
}

fn real_dir(root: &RootDir, dir: &Path) -> Result<RootDir, PathError> {
    let found = root.open_real_dir(dir)?;
    found.ok_or_else(|| PathError::new("open directory", root.shown(dir), std::io::ErrorKind::NotFound))
}

fn create(source: &RootDir, target: &RootDir, name: &OsStr, stat: &Stat) -> Result<(), PathError> {
    match stat.kind {
        Kind::File => {
            let (from, to) = (source.open_file(name)?, target.create_file(name, 0o600)?);
            let (source_path, target_path) = (source.shown(name), target.shown(name));
            let pair =
                Pair { source: &from, source_path: &source_path, target: &to, target_path: &target_path };
            copy_content(pair, stat.size)
        }
        Kind::Symlink => target.create_symlink(name, &source.read_link(name)?),
        kind => target.create_node(name, kind, 0o600, stat.rdev),
    }
}

/// Owner first, since changing it takes setuid bits and capabilities away; times last.
fn copy_attributes(source: &RootDir, target: &RootDir, name: &OsStr, stat: &Stat) -> Result<(), PathError> {
    target.set_owner(name, stat.uid, stat.gid)?;
    let shown = target.shown(name);
    for attribute in xattr::read_all(Target::Name(source, name), &source.shown(name), is_image_xattr)? {
        xattr::set(Target::Name(target, name), &shown, &attribute.name, &attribute.value)?;
    }
    if stat.kind != Kind::Symlink {
        target.set_mode(name, stat.mode)?;
    }
    target.set_times(name, stat.mtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

    fn pair() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        (dir, from, to)
    }

    #[test]
    fn modes_times_links_and_holes_survive() {
        let (_dir, from, to) = pair();
        fs::create_dir_all(from.join("a/closed")).unwrap();
        fs::write(from.join("a/tool"), b"#!").unwrap();
        fs::set_permissions(from.join("a/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(from.join("a/tool"), from.join("same")).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        let sparse = fs::File::create(from.join("sparse")).unwrap();
        sparse.write_all_at(b"end", 8 << 20).unwrap();
        fs::set_permissions(from.join("a/closed"), fs::Permissions::from_mode(0o555)).unwrap();
        let old = sys::stat::FileTime { seconds: 1_000_000, nanoseconds: 5 };
        RootDir::open(&from).unwrap().set_times("a", old).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1777)).unwrap();

        copy_tree(&from, &to).unwrap();

        let meta = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(meta("").mode() & 0o7777, 0o1777);
        assert_eq!(meta("a/tool").mode() & 0o7777, 0o4755);
        assert_eq!(meta("a/tool").ino(), meta("same").ino());
        assert_eq!(meta("a/closed").mode() & 0o777, 0o555);
        assert_eq!((meta("a").mtime(), meta("a").mtime_nsec()), (1_000_000, 5));
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(meta("sparse").len(), (8 << 20) + 3);
        assert!(meta("sparse").blocks() < 1000, "{}", meta("sparse").blocks());
    }

    #[test]
    fn attributes_and_special_files_survive() {
        let (_dir, from, to) = pair();
        fs::write(from.join("file"), b"x").unwrap();
        let source = RootDir::open(&from).unwrap();
        source.create_node("pipe", Kind::Fifo, 0o620, 0).unwrap();
        source.set_mode("pipe", 0o620).unwrap();
        let file = fs::File::open(from.join("file")).unwrap();
        xattr::set(Target::Open(file.as_fd()), &from, c"user.note", b"kept").unwrap();
        copy_tree(&from, &to).unwrap();
        let copied = fs::File::open(to.join("file")).unwrap();
        let note = xattr::get(Target::Open(copied.as_fd()), &to, c"user.note").unwrap();
        assert_eq!(note.as_deref(), Some(&b"kept"[..]));
        let pipe = RootDir::open(&to).unwrap().stat("pipe").unwrap().unwrap();
        assert_eq!((pipe.kind, pipe.mode), (Kind::Fifo, 0o620));
    }
}
