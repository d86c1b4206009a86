//! The directory being unpacked into: finds and makes the directories on the way to a name, clears the
//! name, makes what belongs there, and hides what a layer deletes. It sees entries, never the archive.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use base::CancelToken;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, Failure, Setter, Step};
use super::directories::{Directories, Directory, Pending};
use super::node::{self, Made};
use super::path::{clean, join, split};
use super::remove::{Written, remove, remove_children};
use super::root::{ResolveError, Root, beneath};
use super::unpack::Target;
use super::{Applied, ApplyError, ApplyOptions, Devices, InUse, Layering};
use crate::tar_entry::{Entry, EntryName, Kind, Mtime};

/// The mode of new directories until their own is set at the end.
const WORKING_MODE: Mode = Mode::RWXU;

/// The tree below a root.
pub(super) struct Tree<'a> {
    root: Root,
    lower: Vec<Root>,
    options: &'a ApplyOptions,
    directories: Directories,
    /// What this layer wrote; gathered only where whiteouts delete.
    written: Written,
    setter: Setter,
    /// Hard links whose target had not come yet, with their clean paths.
    waiting: Vec<(Entry, Vec<u8>)>,
    skipped_devices: u64,
    root_opaque: bool,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: Root, options: &'a ApplyOptions) -> Result<Self, ApplyError> {
        Ok(Self {
            root,
            lower: open_lower(options)?,
            options,
            directories: Directories::default(),
            written: Written::default(),
            setter: Setter { ownership: options.ownership, skipped: 0 },
            waiting: Vec::new(),
            skipped_devices: 0,
            root_opaque: false,
        })
    }

    /// Makes an empty regular file, in place of whatever has its name.
    fn create_file(&mut self, path: &[u8], entry: &[u8]) -> Result<File, ApplyError> {
        let (parent, name) = self.place(path, entry)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR);
        let created = match create() {
            Err(Errno::EXIST) => {
                self.keep_directory(&parent, path)?;
                self.clear(&parent, path).of(entry)?;
                create()
            }
            created => created,
        };
        Ok(File::from(created.step("create").of(entry)?))
    }

    fn add_node(&mut self, entry: &Entry, path: &[u8]) -> Result<(), ApplyError> {
        let (parent, name) = self.place(path, &entry.path)?;
        let make = || node::make(parent.as_fd(), name, entry);
        let made = match make() {
            Err(Errno::EXIST) => {
                self.keep_directory(&parent, path)?;
                self.clear(&parent, path).of(&entry.path)?;
                make()
            }
            made => made,
        };
        let made = match made {
            Err(Errno::PERM) if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) => {
                return Err(ApplyError::Device { entry: EntryName(entry.path.clone()) });
            }
            made => made.step("create").of(&entry.path)?,
        };
        let is_link = made == Made::Symlink;
        self.setter.set_named(parent.as_fd(), name, &entry.into(), is_link).of(&entry.path)
    }

    fn add_directory(&mut self, entry: &Entry, path: Vec<u8>) -> Result<(), ApplyError> {
        let (parent, name) = self.place(&path, &entry.path)?;
        let existed = match rustix::fs::mkdirat(&parent, name, WORKING_MODE) {
            Err(Errno::EXIST) => {
                self.keep_others(&parent, &path)?;
                self.enter_or_replace(&parent, &path).of(&entry.path)?
            }
            made => made.map(|()| false).step("create").of(&entry.path)?,
        };
        self.directories.defer(path, Pending { attributes: entry.into(), existed });
        Ok(())
    }

    /// For a directory where something exists: keeps a directory (`true`), replaces anything else by one.
    fn enter_or_replace(&mut self, parent: &Directory, path: &[u8]) -> Result<bool, Failure> {
        let (_, name) = split(path);
        let occupant = self.occupant(parent, name).step("look up")?;
        if occupant == Occupant::Directory {
            return Ok(true);
        }
        self.clear(parent, path)?;
        rustix::fs::mkdirat(parent, name, WORKING_MODE).step("create")?;
        if occupant == Occupant::Whiteout {
            // The layer deleted the name and made it anew, so what is below must not show through.
            self.mark_opaque(parent.as_fd(), name)?;
        }
        Ok(false)
    }

    fn keeps_kinds(&self) -> bool {
        self.options.in_use.as_ref().is_some_and(|in_use| !in_use.replaces)
    }

    /// Refuses to replace a directory that is in use.
    fn keep_directory(&self, parent: &Directory, path: &[u8]) -> Result<(), ApplyError> {
        match self.keeps_kinds() && self.occupant(parent, split(path).1) == Ok(Occupant::Directory) {
            true => Err(ApplyError::OverDirectory { path: shown(path) }),
            false => Ok(()),
        }
    }

    /// Refuses to replace something else than a directory that is in use.
    fn keep_others(&self, parent: &Directory, path: &[u8]) -> Result<(), ApplyError> {
        let is_other = |occupant| occupant != Occupant::Directory;
        match self.keeps_kinds() && self.occupant(parent, split(path).1).is_ok_and(is_other) {
            true => Err(ApplyError::DirectoryOver { path: shown(path) }),
            false => Ok(()),
        }
    }

    fn add_hard_link(&mut self, entry: &Entry, path: Vec<u8>) -> Result<(), ApplyError> {
        if self.link(entry, &path)? {
            return Ok(());
        }
        self.waiting.push((entry.clone(), path));
        Ok(())
    }

    /// Makes a hard link; `false` when the target does not exist.
    fn link(&mut self, entry: &Entry, path: &[u8]) -> Result<bool, ApplyError> {
        let escape = || ApplyError::Escape { entry: EntryName(entry.path.clone()) };
        let mut target = clean(&entry.link).ok_or_else(escape)?;
        if let Some(InUse { below, .. }) = &self.options.in_use {
            target = join(below.as_os_str().as_bytes(), &target);
        }
        let (target_parent, target_name) = split(&target);
        let target_parent = match self.root.directory(target_parent) {
            Ok(directory) => directory,
            Err(ResolveError::Escape) => return Err(escape()),
            Err(ResolveError::Os(Errno::NOENT | Errno::NOTDIR)) => return Ok(false),
            Err(ResolveError::Os(errno)) => {
                return Err(errno).step("find the link target of").of(&entry.path);
            }
        };
        let stat = match rustix::fs::statat(&target_parent, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            stat => stat.step("find the link target of").of(&entry.path)?,
        };
        if self.is_whiteout(&stat) {
            return Ok(false);
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(link_target(entry));
        }
        let (parent, name) = self.place(path, &entry.path)?;
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(present) if (present.st_dev, present.st_ino) == (stat.st_dev, stat.st_ino) => return Ok(true),
            Ok(_) => {
                self.keep_directory(&parent, path)?;
                self.clear(&parent, path).of(&entry.path)?;
            }
            Err(_) => {}
        }
        match rustix::fs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty()) {
            // Clearing the name removed the target with it.
            Err(Errno::NOENT) => Err(link_target(entry)),
            linked => linked.map(|()| true).step("link").of(&entry.path),
        }
    }

    fn mark_opaque(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Failure> {
        let Layering::Overlay { userxattr } = self.options.layering else { return Ok(()) };
        let operation = "mark a directory as opaque for";
        let directory = open_directory(parent, name).step(operation)?;
        let attribute = node::opaque_attribute(userxattr);
        rustix::fs::fsetxattr(directory, attribute, b"y", XattrFlags::empty()).step(operation)
    }

    /// The directory that a path is made in, and the path's last component; notes that this layer writes
    /// that name.
    fn place<'p>(&mut self, path: &'p [u8], entry: &[u8]) -> Result<(Rc<Directory>, &'p [u8]), ApplyError> {
        let (directory, name) = split(path);
        let parent = self.directory(directory, entry)?;
        self.note(&parent, name);
        Ok((parent, name))
    }

    fn note(&mut self, parent: &Directory, name: &[u8]) {
        if self.options.layering == Layering::Flat {
            self.written.insert(parent.identity, name);
        }
    }

    /// The directory at a clean path; makes what is missing.
    fn directory(&mut self, path: &[u8], entry: &[u8]) -> Result<Rc<Directory>, ApplyError> {
        if let Some(directory) = self.directories.get(path) {
            return Ok(directory);
        }
        let mut existing = path;
        let mut directory = loop {
            match self.existing(existing, entry)? {
                Some(directory) => break directory,
                None => existing = split(existing).0,
            }
        };
        while existing.len() < path.len() {
            let from = if existing.is_empty() { 0 } else { existing.len() + 1 };
            let length = path[from..].iter().position(|&byte| byte == b'/').unwrap_or(path.len() - from);
            existing = &path[..from + length];
            directory = self.make_missing(&directory, existing, entry)?;
        }
        let directory = Rc::new(directory);
        self.directories.insert(path.to_vec(), &directory);
        Ok(directory)
    }

    /// The directory at a clean path, if there is one.
    fn existing(&self, path: &[u8], entry: &[u8]) -> Result<Option<Directory>, ApplyError> {
        match self.root.directory(path) {
            Ok(handle) => Directory::new(handle).map(Some).step("look up the directory of").of(entry),
            Err(ResolveError::Escape) => Err(ApplyError::Escape { entry: entry.into() }),
            Err(ResolveError::Os(Errno::NOENT | Errno::NOTDIR)) if !path.is_empty() => Ok(None),
            Err(ResolveError::Os(errno)) => Err(errno).step("open the directory of").of(entry),
        }
    }

    /// Makes a directory that the archive needs and has no entry for (yet).
    fn make_missing(
        &mut self,
        parent: &Directory,
        path: &[u8],
        entry: &[u8],
    ) -> Result<Directory, ApplyError> {
        let (_, name) = split(path);
        match rustix::fs::mkdirat(parent, name, WORKING_MODE) {
            Err(Errno::EXIST) if self.may_replace(parent, name) => {
                self.enter_or_replace(parent, path).of(entry)?;
            }
            Err(Errno::EXIST) => {
                return Err(ApplyError::NotADirectory { entry: entry.into(), parent: path.into() });
            }
            made => made.step("create the directory of").of(entry)?,
        }
        self.note(parent, name);
        let attributes = lower_attributes(&self.lower, path).unwrap_or_else(|| {
            let time = self.options.in_use.as_ref().map_or(Mtime::default(), |in_use| in_use.time);
            Attributes::of_missing_directory(time)
        });
        self.directories.defer(path.to_vec(), Pending { attributes, existed: false });
        let handle = open_directory(parent.as_fd(), name).step("open the directory of").of(entry)?;
        Directory::new(handle).step("look up the directory of").of(entry)
    }

    /// Whether something that is no directory may give way to one without an entry: what the layers below
    /// have may, a file of this layer may not.
    fn may_replace(&self, parent: &Directory, name: &[u8]) -> bool {
        let of_this_layer = self.written.contains(parent.identity, name);
        self.occupant(parent, name) == Ok(Occupant::Whiteout)
            || self.options.layering == Layering::Flat && !of_this_layer
    }

    /// Removes what is at a path whose directory is `parent`.
    fn clear(&mut self, parent: &Directory, path: &[u8]) -> Result<(), Failure> {
        let (_, name) = split(path);
        match self.occupant(parent, name).step("look up")? {
            Occupant::Directory => {
                remove(parent.as_fd(), name, &Written::default()).step("replace the directory at")?;
                self.directories.forget(path);
            }
            Occupant::Symlink => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty()).step("replace")?;
                self.directories.forget(path);
            }
            Occupant::Whiteout | Occupant::Other => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty()).step("replace")?;
            }
        }
        Ok(())
    }

    fn occupant(&self, parent: &Directory, name: &[u8]) -> Result<Occupant, Errno> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Occupant::Directory,
            FileType::Symlink => Occupant::Symlink,
            _ if self.is_whiteout(&stat) => Occupant::Whiteout,
            _ => Occupant::Other,
        })
    }

    fn is_whiteout(&self, stat: &rustix::fs::Stat) -> bool {
        matches!(self.options.layering, Layering::Overlay { .. }) && node::is_whiteout(stat)
    }

    fn set_directory(&mut self, path: &[u8], pending: &Pending) -> Result<(), ApplyError> {
        let (parent, name) = if path.is_empty() { (&b""[..], &b"."[..]) } else { split(path) };
        let Some(parent) = self.existing(parent, path)? else { return Ok(()) };
        let directory = match open_directory(parent.as_fd(), name) {
            // A symlink on the way was replaced since, and the path names something else now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            directory => directory.step("open").of(path)?,
        };
        if pending.existed && self.options.in_use.is_none() {
            self.setter.remove_others(&directory, &pending.attributes.xattrs).of(path)?;
        }
        self.setter.set_open(&directory, &pending.attributes).of(path)
    }
}

impl Target for Tree<'_> {
    fn begin_file(&mut self, entry: &Entry, path: &[u8], _offset: u64) -> Result<Option<File>, ApplyError> {
        self.create_file(path, &entry.path).map(Some)
    }

    fn end_file(&mut self, file: &File, entry: &Entry) -> Result<(), ApplyError> {
        self.setter.set_open(file, &entry.into()).of(&entry.path)
    }

    fn set_root(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        if entry.kind != Kind::Directory {
            return Err(ApplyError::Name { entry: EntryName(entry.path.clone()) });
        }
        self.directories.defer(Vec::new(), Pending { attributes: entry.into(), existed: true });
        Ok(())
    }

    fn add(&mut self, entry: &Entry, path: Vec<u8>) -> Result<(), ApplyError> {
        match entry.kind {
            Kind::Directory => self.add_directory(entry, path),
            Kind::HardLink => self.add_hard_link(entry, path),
            Kind::CharDevice | Kind::BlockDevice if self.options.devices == Devices::Skip => {
                self.skipped_devices += 1;
                Ok(())
            }
            _ => self.add_node(entry, &path),
        }
    }

    fn hide(&mut self, path: &[u8], entry: &[u8]) -> Result<(), ApplyError> {
        let (directory, name) = split(path);
        if self.options.layering == Layering::Flat {
            let Some(parent) = self.existing(directory, entry)? else { return Ok(()) };
            remove(parent.as_fd(), name, &self.written).step("delete the path hidden by").of(entry)?;
            self.directories.forget_handles();
            return Ok(());
        }
        let parent = self.directory(directory, entry)?;
        match node::make_whiteout(parent.as_fd(), name) {
            // This layer's own file stays; its own directory stays alone.
            Err(Errno::EXIST) if self.occupant(&parent, name) == Ok(Occupant::Directory) => {
                self.mark_opaque(parent.as_fd(), name).of(entry)
            }
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno).step("make a whiteout for").of(entry),
        }
    }

    fn hide_children(&mut self, path: &[u8], entry: &[u8]) -> Result<(), ApplyError> {
        if self.options.layering == Layering::Flat {
            let Some(directory) = self.existing(path, entry)? else { return Ok(()) };
            remove_children(directory.as_fd(), &self.written).step("empty the directory of").of(entry)?;
            self.directories.forget_handles();
            return Ok(());
        }
        self.root_opaque |= path.is_empty();
        let directory = self.directory(path, entry)?;
        self.mark_opaque(directory.as_fd(), b".").of(entry)
    }

    fn finish(&mut self, cancel: &CancelToken) -> Result<(), ApplyError> {
        for (entry, path) in std::mem::take(&mut self.waiting) {
            cancel.check()?;
            if !self.link(&entry, &path)? {
                return Err(link_target(&entry));
            }
        }
        for (path, pending) in self.directories.take_pending() {
            cancel.check()?;
            self.set_directory(&path, &pending)?;
        }
        Ok(())
    }

    fn applied(&self) -> Applied {
        Applied {
            skipped_devices: self.skipped_devices,
            skipped_xattrs: self.setter.skipped,
            root_opaque: self.root_opaque,
            ..Applied::default()
        }
    }
}

/// The directories below.
pub(super) fn open_lower(options: &ApplyOptions) -> Result<Vec<Root>, ApplyError> {
    options.lower.iter().map(|path| super::open(path)).collect()
}

/// What the topmost of these directories that has this directory says about it.
pub(super) fn lower_attributes(lower: &[Root], path: &[u8]) -> Option<Attributes> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for lower in lower {
        match beneath(lower.as_fd(), path, flags, ResolveFlags::NO_SYMLINKS) {
            Ok(directory) => return Attributes::of_open(directory.as_fd()).ok(),
            Err(Errno::NOENT) => {}
            // A file or a whiteout: whatever is further below does not show.
            Err(_) => return None,
        }
    }
    None
}

/// A path below the root, as people read it.
fn shown(path: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(path))
}

/// What has a name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occupant {
    Directory,
    Symlink,
    Whiteout,
    Other,
}

/// The error for a failed step on an entry.
fn failed(entry: &[u8], (operation, source): Failure) -> ApplyError {
    ApplyError::Io { operation, entry: entry.into(), source }
}

/// Says which entry a step was for.
trait Of<T> {
    fn of(self, entry: &[u8]) -> Result<T, ApplyError>;
}

impl<T> Of<T> for Result<T, Failure> {
    fn of(self, entry: &[u8]) -> Result<T, ApplyError> {
        self.map_err(|failure| failed(entry, failure))
    }
}

fn link_target(entry: &Entry) -> ApplyError {
    ApplyError::LinkTarget { entry: EntryName(entry.path.clone()), target: EntryName(entry.link.clone()) }
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}
