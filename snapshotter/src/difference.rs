//! Differences: what makes one snapshot of another, as merge and diff operations want it.
//!
//! Where the upper snapshot has been made on top of the lower one, the difference is the layers between them, which are
//! shared. Otherwise the two trees are compared, and what is new or gone is written into a layer of its own. What is gone is
//! a whiteout, which means nothing until the difference is laid over something that has it.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use base::{CancelToken, Digest, Key, Timestamp};
use sys::path_error::PathContext as _;
use sys::rootdir::RootDir;
use sys::stat::{Kind, Stat};

use crate::apply::Layering;
use crate::db::snapshots::ChainLink;
use crate::db::{leases, sharing};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::snapshot::{CommitInfo, SnapshotId};
use crate::store::Store;
use crate::tree::{Entry, Tree};
use crate::writer::{Attributes, LayerWriter, WriteError, WriterOptions};

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// The snapshot that shows `upper` when its layers are laid over `lower`; `None` is an empty one. It is protected by
    /// `lease`. `content` is recorded as its content key, and what is written gets `time`.
    ///
    /// # Errors
    /// [`StoreError::NoSuchSnapshot`]; [`StoreError::NoWhiteouts`] where the layers of this store cannot say what is gone;
    /// and what reading and writing meet.
    pub fn difference(
        &self,
        lease: &Lease,
        lower: Option<SnapshotId>,
        upper: Option<SnapshotId>,
        (content, time): (&Key, Timestamp),
        cancel: &CancelToken,
    ) -> Result<SnapshotId> {
        let chain = |id: Option<SnapshotId>| match id {
            Some(id) => {
                self.hold(lease, id)?;
                self.read_chain(id)
            }
            None => Ok(Vec::new()),
        };
        let (below, above) = (chain(lower)?, chain(upper)?);
        if let Some(upper) = upper.filter(|_| below.is_empty()) {
            return Ok(upper);
        }
        let empty = self.empty(lease)?;
        let active = self.prepare(lease, Some(empty))?;
        let Layering::Overlay { userxattr } = active.layering() else { return Err(StoreError::NoWhiteouts) };
        if let Some(between) = layers_between(&below, &above) {
            return self.stack_alone(lease, empty, between);
        }
        let view = |id: Option<SnapshotId>| {
            Tree::overlay(self.view_dirs(id.unwrap_or(empty))?).map_err(StoreError::from)
        };
        let (lower, upper) = (view(lower)?, view(upper)?);
        let options = WriterOptions { full_copy: false, userxattr, time };
        let writer = LayerWriter::new(active.layer_dir(), Some(&view(None)?), options)?;
        let difference = Difference { lower: &lower, upper: &upper, writer: &writer, cancel };
        difference.directory(Some(&lower.root()?), &upper.root()?)?;
        active.commit(CommitInfo { content: Some(*content), ..CommitInfo::default() })
    }

    /// Rows that share the directories of `layers`, the topmost first, with nothing below them but `empty`.
    fn stack_alone(&self, lease: &Lease, empty: SnapshotId, layers: &[ChainLink]) -> Result<SnapshotId> {
        let now = self.now_millis();
        let top = self.db().write("stack layers", |c| {
            let stack = |below, link: &ChainLink| sharing::stack(c, below, link, now);
            let top = layers.iter().rev().try_fold(empty, stack)?;
            leases::hold_snapshot(c, lease.id(), top)?;
            Ok(top)
        })?;
        lease.note_snapshot(top);
        Ok(top)
    }

    /// The snapshot with nothing in it, which differences are on top of: a layer alone could not have whiteouts, because it
    /// is mounted as it is.
    fn empty(&self, lease: &Lease) -> Result<SnapshotId> {
        if let Some(known) = self.snapshot_by_chain_id(lease, &EMPTY_LAYER.0)? {
            return Ok(known);
        }
        let (digest, _) = EMPTY_LAYER;
        let info = CommitInfo { diff: Some(EMPTY_LAYER), chain_id: Some(digest), ..CommitInfo::default() };
        self.prepare(lease, None)?.commit(info)
    }
}

/// The diffID and the size of a layer that has nothing in it: the two blocks that end an archive.
pub(crate) const EMPTY_LAYER: (Digest, u64) = (
    Digest::from_bytes([
        0x5f, 0x70, 0xbf, 0x18, 0xa0, 0x86, 0x00, 0x70, 0x16, 0xe9, 0x48, 0xb0, 0x4a, 0xed, 0x3b, 0x82, 0x10,
        0x3a, 0x36, 0xbe, 0xa4, 0x17, 0x55, 0xb6, 0xcd, 0xdf, 0xaf, 0x10, 0xac, 0xe3, 0xc6, 0xef,
    ]),
    1024,
);

/// How much of two files is compared at once, in bytes.
const PIECE: usize = 64 << 10;

/// The layers of `above` that are on top of `below`, both the topmost first, if it has been made of it.
fn layers_between<'a>(below: &[ChainLink], above: &'a [ChainLink]) -> Option<&'a [ChainLink]> {
    let (new, shared) = above.split_at_checked(above.len().checked_sub(below.len())?)?;
    let is_same = |(one, other): (&ChainLink, &ChainLink)| one.layer == other.layer;
    (shared.iter().zip(below).all(is_same) && new.iter().all(|link| !link.opaque)).then_some(new)
}

/// Two trees, and where their difference goes.
struct Difference<'a> {
    lower: &'a Tree,
    upper: &'a Tree,
    writer: &'a LayerWriter,
    cancel: &'a CancelToken,
}

impl Difference<'_> {
    /// Writes what is different in a directory.
    fn directory(&self, lower: Option<&Entry>, upper: &Entry) -> Result<()> {
        self.cancel.check()?;
        for entry in self.upper.read_dir(upper)? {
            let before = match lower {
                Some(lower) => self.lower.open_dir(lower)?.child(entry.name())?,
                None => None,
            };
            match (&before, entry.is_dir()) {
                (Some(before), true) if before.is_dir() => {
                    if !self.is_same(before, &entry)? {
                        self.make_directory(&entry)?;
                    }
                    self.directory(Some(before), &entry)?;
                }
                (_, true) => {
                    self.make_directory(&entry)?;
                    self.directory(None, &entry)?;
                }
                (Some(before), false) if self.is_same(before, &entry)? => {}
                (_, false) => self.write(&entry)?,
            }
        }
        let Some(lower) = lower else { return Ok(()) };
        for before in self.lower.read_dir(lower)? {
            if self.upper.open_dir(upper)?.child(before.name())?.is_none() {
                self.holder(upper)?.create_node(before.name(), Kind::CharDevice, 0, 0)?;
            }
        }
        Ok(())
    }

    /// Whether the file is the one that it was: the same kind, rights, owner and attributes, and for anything but a
    /// directory the same size, time and target.
    fn is_same(&self, before: &Entry, after: &Entry) -> Result<bool> {
        let common = |stat: &Stat| (stat.kind, stat.mode, stat.uid, stat.gid);
        if common(before.stat()) != common(after.stat()) {
            return Ok(false);
        }
        let rest = |stat: &Stat| (stat.size, stat.mtime, stat.rdev);
        if !after.is_dir() && rest(before.stat()) != rest(after.stat()) {
            return Ok(false);
        }
        if after.kind() == Kind::Symlink && self.lower.read_link(before)? != self.upper.read_link(after)? {
            return Ok(false);
        }
        Ok(self.lower.xattrs(before)? == self.upper.xattrs(after)? && self.has_same_content(before, after)?)
    }

    /// Whether two files of the same size have the same content. One file is the same as itself.
    fn has_same_content(&self, before: &Entry, after: &Entry) -> Result<bool> {
        let inode = |entry: &Entry| (entry.stat().device, entry.stat().inode);
        if after.kind() != Kind::File || inode(before) == inode(after) {
            return Ok(true);
        }
        let (mut one, mut other) = (self.lower.open(before)?, self.upper.open(after)?);
        let (mut buffer, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
        loop {
            self.cancel.check()?;
            let read = one.read(&mut buffer).at("read", &self.lower.shown(before))?;
            let Some(expected) = expected.get_mut(..read) else { return Ok(false) };
            match other.read_exact(expected) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
                result => result.at("read", &self.upper.shown(after))?,
            }
            if buffer.get(..read) != Some(&*expected) {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
        }
    }

    fn attributes(&self, entry: &Entry) -> Result<Attributes> {
        Ok(Attributes::of(entry.stat(), self.upper.xattrs(entry)?))
    }

    /// The directory of the layer in which what is in `upper` goes. Those that are missing are made as they are.
    fn holder(&self, upper: &Entry) -> Result<RootDir> {
        let path = upper.path();
        if path == Path::new("") || path == Path::new("/") {
            return Ok(self.writer.raise_dir(&self.writer.tree().root()?)?);
        }
        if self.writer.tree().lookup(path, crate::tree::Follow::NoLast)?.is_none() {
            self.make_directory(upper)?;
        }
        let found = self.writer.tree().lookup(path, crate::tree::Follow::NoLast)?;
        let entry = found.ok_or_else(|| WriteError::Missing(path.to_owned()))?;
        Ok(self.writer.raise_dir(&entry)?)
    }

    /// The directory that holds `entry`.
    fn parent_of(&self, entry: &Entry) -> Result<RootDir> {
        let parent = entry.path().parent().unwrap_or(Path::new(""));
        let found = self.upper.lookup(parent, crate::tree::Follow::NoLast)?;
        let parent = match found {
            Some(parent) => parent,
            None => self.upper.root()?,
        };
        self.holder(&parent)
    }

    fn make_directory(&self, entry: &Entry) -> Result<()> {
        self.parent_of(entry)?;
        Ok(self.writer.mkdir(entry.path(), &self.attributes(entry)?)?)
    }

    /// Writes what is no directory.
    fn write(&self, entry: &Entry) -> Result<()> {
        self.parent_of(entry)?;
        let attributes = self.attributes(entry)?;
        match entry.kind() {
            Kind::File => self.writer.put_file(entry.path(), &attributes, &mut self.upper.open(entry)?)?,
            Kind::Symlink => {
                let target = self.upper.read_link(entry)?;
                self.writer.symlink(entry.path(), OsStr::new(&target), &attributes)?;
            }
            Kind::Socket => {}
            kind => self.writer.mknod(entry.path(), kind, entry.stat().rdev, &attributes)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
