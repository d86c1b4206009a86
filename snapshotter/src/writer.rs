//! Writing into a layer over the tree that it changes.
//!
//! A [`LayerWriter`] writes into one directory: the upper layer of an overlay, or a full copy of the tree.
//! Paths are resolved in the merged view of that directory and its parent, so that a link to a directory
//! leads where it leads in the finished image and never out of it. A directory that exists only below is
//! created in the layer with the attributes it has there; what must vanish from below is covered by a
//! whiteout; a directory in the place of something removed is marked opaque.
//!
//! A directory whose entries change gets the writer's time, as it would get the current time from the
//! kernel. Several threads may use one writer for different names. Nothing is undone on failure: the
//! caller drops the layer.

mod error;
mod raise;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::path::Path;

use sys::path_error::PathContext as _;
use sys::rootdir::{self, RootDir};
use sys::stat::{FileTime, Kind, Stat};
use sys::xattr::{self, Target, Xattr};

use crate::tree::{Entry, Follow, Tree};

pub use error::WriteError;

type Result<T> = std::result::Result<T, WriteError>;

/// How a writer writes.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// The layer directory holds the whole tree, and there are no whiteouts.
    pub full_copy: bool,
    /// Overlay marks go into `user.` attributes, for overlays mounted without privileges.
    pub userxattr: bool,
    /// The time of what is created without one, and of directories whose entries change.
    pub time: base::Timestamp,
}

/// What a new entry looks like.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky. Means nothing for links.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Time of modification; `None`: the writer's time.
    pub mtime: Option<FileTime>,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
}

impl Attributes {
    /// Mode and owner, the writer's time, no extended attributes.
    pub fn new(mode: u32, uid: u32, gid: u32) -> Self {
        Self { mode, uid, gid, mtime: None, xattrs: Vec::new() }
    }

    /// Those of an existing file.
    pub(crate) fn of(stat: &Stat, xattrs: Vec<Xattr>) -> Self {
        Self { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: Some(stat.mtime), xattrs }
    }
}

/// Writes into a layer directory.
pub struct LayerWriter {
    pub(crate) layer: RootDir,
    pub(crate) merged: Tree,
    pub(crate) options: WriterOptions,
    /// The bits that new files lose.
    pub(crate) umask: u32,
    /// The owner that new files get.
    pub(crate) own_ids: (u32, u32),
}

/// Where something is to be created: an existing directory, and a name in it.
struct Place {
    dir: Entry,
    name: OsString,
}

impl LayerWriter {
    /// Writes into `layer_dir` over `parent`. The caller made `layer_dir`, with the attributes that the
    /// root of the tree is to have. With `full_copy`, `parent` is not looked at.
    pub fn new(layer_dir: &Path, parent: Option<&Tree>, options: WriterOptions) -> Result<Self> {
        let merged = if options.full_copy {
            Tree::directory(layer_dir, None)?
        } else {
            let below = parent.iter().flat_map(|tree| tree.dirs());
            Tree::overlay(std::iter::once(layer_dir).chain(below))?
        };
        Ok(Self {
            layer: RootDir::open(layer_dir)?,
            merged,
            options,
            umask: rootdir::umask(),
            own_ids: rootdir::own_ids(),
        })
    }

    /// The tree as it is now, with what was written.
    pub fn tree(&self) -> &Tree {
        &self.merged
    }

    /// Makes a directory and those above it that are missing; those that exist stay as they are. Links
    /// are followed, the last one too. Answers the directory.
    pub fn mkdir_all(&self, path: impl AsRef<Path>, attributes: &Attributes) -> Result<Entry> {
        let resolution = self.merged.resolve(path.as_ref(), Follow::Last)?;
        if !resolution.entry.is_dir() {
            return Err(WriteError::not_a_directory(&resolution.path(), &resolution.entry));
        }
        let mut dir = resolution.entry;
        for name in resolution.missing {
            dir = self.create_dir_in(&dir, &name, attributes)?;
        }
        Ok(dir)
    }

    /// Makes one directory in an existing one. A directory that exists stays as it is.
    pub fn mkdir(&self, path: impl AsRef<Path>, attributes: &Attributes) -> Result<()> {
        let place = self.place(path.as_ref())?;
        match self.merged.open_dir(&place.dir)?.child(&place.name)? {
            Some(existing) if existing.is_dir() => Ok(()),
            Some(existing) => Err(WriteError::not_a_directory(path.as_ref(), &existing)),
            None => self.create_dir_in(&place.dir, &place.name, attributes).map(drop),
        }
    }

    /// Writes a regular file, replacing one that exists. A link of that name is replaced, not followed.
    pub fn put_file(
        &self,
        path: impl AsRef<Path>,
        attributes: &Attributes,
        content: &mut dyn Read,
    ) -> Result<()> {
        self.put(path.as_ref(), |dir, name| {
            let mut file = dir.create_file(name, attributes.mode & 0o777)?;
            io::copy(content, &mut file).at("write", &dir.shown(name))?;
            self.finish_file(&file, dir, name, attributes)
        })
    }

    /// Makes a symbolic link, replacing what is no directory. The target is stored as it is.
    pub fn symlink(&self, path: impl AsRef<Path>, target: &OsStr, attributes: &Attributes) -> Result<()> {
        self.put(path.as_ref(), |dir, name| {
            dir.create_symlink(name, target)?;
            self.finish_named(dir, name, Kind::Symlink, attributes)
        })
    }

    /// Gives the file `existing` a second name. A file that is only below is copied into the layer first.
    pub fn hard_link(&self, path: impl AsRef<Path>, existing: impl AsRef<Path>) -> Result<()> {
        let existing = existing.as_ref();
        let found = self.merged.lookup(existing, Follow::NoLast)?;
        let entry = found.ok_or_else(|| WriteError::Missing(existing.to_owned()))?;
        if entry.layer() > 0 {
            let attributes = Attributes::of(entry.stat(), self.merged.xattrs(&entry)?);
            self.put_file(entry.path(), &attributes, &mut self.merged.open(&entry)?)?;
        }
        self.put(path.as_ref(), |dir, name| Ok(dir.create_hard_link(name, &self.layer, entry.path())?))
    }

    /// Makes a device or a pipe, replacing what is no directory. `rdev` matters for devices.
    pub fn mknod(
        &self,
        path: impl AsRef<Path>,
        kind: Kind,
        rdev: u64,
        attributes: &Attributes,
    ) -> Result<()> {
        self.put(path.as_ref(), |dir, name| self.create_node(dir, name, kind, rdev, attributes))
    }

    /// Removes an entry with all below it; a link itself, not what it leads to. Answers whether there was
    /// one.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<bool> {
        let Some(entry) = self.merged.lookup(path.as_ref(), Follow::NoLast)? else { return Ok(false) };
        let Some(parent) = entry.path().parent() else { return Err(WriteError::Root) };
        let Some(parent) = self.merged.lookup(parent, Follow::NoLast)? else { return Ok(false) };
        let dir = self.raise_dir(&parent)?;
        dir.remove_all(entry.name())?;
        // What the layer no longer covers shows again; cover it.
        if !self.options.full_copy
            && self.merged.open_dir(&self.again(&parent)?)?.child(entry.name())?.is_some()
        {
            dir.create_node(entry.name(), Kind::CharDevice, 0, 0)?;
        }
        self.touch(&dir)?;
        Ok(true)
    }

    /// Creates something at `path` with `create`, after removing what is there and no directory.
    fn put(&self, path: &Path, create: impl FnOnce(&RootDir, &OsStr) -> Result<()>) -> Result<()> {
        let Place { dir, name } = self.place(path)?;
        let merged = self.merged.open_dir(&dir)?;
        if let Some(existing) = merged.child(&name)?.filter(Entry::is_dir) {
            return Err(WriteError::OverDirectory(existing.path().to_owned()));
        }
        let real = self.raise_dir(&dir)?;
        clear(&real, &name)?;
        create(&real, &name)?;
        self.touch(&real)
    }

    /// The existing directory and the new name that a path means. The last component is not followed.
    fn place(&self, path: &Path) -> Result<Place> {
        let name = path.file_name().ok_or(WriteError::Root)?.to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        let resolution = self.merged.resolve(parent, Follow::Last)?;
        if !resolution.entry.is_dir() {
            return Err(WriteError::not_a_directory(path, &resolution.entry));
        }
        if !resolution.missing.is_empty() {
            return Err(WriteError::Missing(parent.to_owned()));
        }
        Ok(Place { dir: resolution.entry, name })
    }

    /// Makes the directory `name`, which the merged view does not have, in an existing directory.
    fn create_dir_in(&self, parent: &Entry, name: &OsStr, attributes: &Attributes) -> Result<Entry> {
        let dir = self.raise_dir(parent)?;
        self.start_dir(&dir, name)?;
        if let Some(new) = dir.open_real_dir(name)? {
            self.finish_dir(&new, attributes)?;
        }
        self.touch(&dir)?;
        let path = parent.path().join(name);
        self.merged.lookup(&path, Follow::NoLast)?.ok_or(WriteError::Missing(path))
    }

    /// Sets the time of a directory whose entries changed.
    pub(crate) fn touch(&self, dir: &RootDir) -> Result<()> {
        Ok(rootdir::set_times_of(dir, dir.path(), self.options.time.into())?)
    }

    /// The same entry as it is now.
    fn again(&self, entry: &Entry) -> Result<Entry> {
        let found = self.merged.lookup(entry.path(), Follow::NoLast)?;
        found.ok_or_else(|| WriteError::Missing(entry.path().to_owned()))
    }

    /// Creates a device or a pipe with its attributes.
    pub(crate) fn create_node(
        &self,
        dir: &RootDir,
        name: &OsStr,
        kind: Kind,
        rdev: u64,
        attributes: &Attributes,
    ) -> Result<()> {
        if kind == Kind::CharDevice && rdev == 0 && !self.options.full_copy {
            return Err(WriteError::WhiteoutDevice(dir.shown(name)));
        }
        dir.create_node(name, kind, attributes.mode & 0o777, rdev)?;
        self.finish_named(dir, name, kind, attributes)
    }

    /// Gives a new regular file its attributes. The order matters: a change of owner clears set-id bits
    /// and file capabilities, and writing clears both.
    pub(crate) fn finish_file(
        &self,
        file: &File,
        dir: &RootDir,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<()> {
        let shown = dir.shown(name);
        rootdir::set_owner_of(file, &shown, attributes.uid, attributes.gid)?;
        rootdir::set_mode_of(file, &shown, attributes.mode)?;
        for xattr in &attributes.xattrs {
            xattr::set(Target::Open(file.as_fd()), &shown, &xattr.name, &xattr.value)?;
        }
        Ok(rootdir::set_times_of(file, &shown, self.time_of(attributes))?)
    }

    /// Gives a new link or node its attributes.
    pub(crate) fn finish_named(
        &self,
        dir: &RootDir,
        name: &OsStr,
        kind: Kind,
        attributes: &Attributes,
    ) -> Result<()> {
        dir.set_owner(name, attributes.uid, attributes.gid)?;
        if kind != Kind::Symlink {
            dir.set_mode(name, attributes.mode)?;
        }
        for xattr in &attributes.xattrs {
            xattr::set(Target::Name(dir, name), &dir.shown(name), &xattr.name, &xattr.value)?;
        }
        Ok(dir.set_times(name, self.time_of(attributes))?)
    }

    /// Gives a new directory its attributes, after all is in it.
    pub(crate) fn finish_dir(&self, dir: &RootDir, attributes: &Attributes) -> Result<()> {
        rootdir::set_owner_of(dir, dir.path(), attributes.uid, attributes.gid)?;
        rootdir::set_mode_of(dir, dir.path(), attributes.mode)?;
        for xattr in &attributes.xattrs {
            xattr::set(Target::Open(dir.as_fd()), dir.path(), &xattr.name, &xattr.value)?;
        }
        Ok(rootdir::set_times_of(dir, dir.path(), self.time_of(attributes))?)
    }

    fn time_of(&self, attributes: &Attributes) -> FileTime {
        attributes.mtime.unwrap_or_else(|| self.options.time.into())
    }
}

/// Removes from a layer what has this name and is no directory: a file or a whiteout.
pub(crate) fn clear(dir: &RootDir, name: &OsStr) -> Result<()> {
    match dir.remove_file(name) {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
