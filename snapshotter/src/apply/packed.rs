//! A layer that stays packed: the archive is written to one file as it comes, and what unpacking it would make is
//! kept as an index into that file, by the same rules.
//!
//! A few layers, and none that common tools write, need a look at the files on the disk, or hold what an index
//! cannot. Those are [`ApplyError::Unfit`], and are unpacked instead.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Write as _};

use base::{CancelToken, Digest};

use super::attributes::{Attributes, is_overlay};
use super::node::opaque_attribute;
use super::path::{clean, components_of, split};
use super::root::Root;
use super::tree::{lower_attributes, open_lower};
use super::unpack::{Target, Unpack};
use super::{Applied, ApplyError, ApplyOptions, Layering, read_ahead};
use crate::compress;
use crate::erofs::{self, Content, NodeId, ROOT};
use crate::packed::contents::Record;
use crate::packed::pieces::OWN;
use crate::tar_entry::{Entry, EntryName, Kind, Mtime, Xattr};
use crate::write_back::WriteBack;

/// How many bytes of headers a file may have for them to be shared with it.
const MOST_HEADERS: u64 = 64 << 10;

/// The longest path that the kernel takes, its final zero not counted.
pub(crate) const MAX_PATH: usize = 4095;

/// Why an entry cannot be part of a packed layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Parts of the file are not in the archive.
    #[error("it is a sparse file")]
    Sparse,
    /// Its name leads through a symbolic link of the same layer.
    #[error("its name leads through a symbolic link")]
    ThroughLink,
    /// It is a hard link in the place of a directory of the same layer.
    #[error("it is a hard link that takes the place of a directory")]
    LinkOverDirectory,
    /// It has an access control list, which changes modes when it is set.
    #[error("it has an access control list")]
    AccessList,
    /// Its path is longer than the kernel takes.
    #[error("its path is too long")]
    Path,
    /// The format of the index cannot express it.
    #[error(transparent)]
    Format(#[from] FormatLimit),
}

/// What the format of an index cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatLimit(pub(crate) erofs::Unfit);

/// A layer that was written to a file.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) applied: Applied,
    pub(crate) diff_id: Digest,
    /// What its index is to hold.
    pub(crate) tree: erofs::Tree,
    /// What its files hold, in their order.
    pub(crate) records: Vec<Record>,
}

/// Writes a layer blob in any known compression, uncompressed, to `tar`, an empty file, and gives the tree that it is.
/// A thread of its own decompresses and digests.
///
/// # Errors
/// As unpacking it would be, and [`ApplyError::Unfit`].
pub(crate) fn pack_blob(
    blob: impl Read + Send,
    expected: Option<Digest>,
    tar: &File,
    options: &ApplyOptions,
    cancel: &CancelToken,
) -> Result<Packed, ApplyError> {
    let plain = compress::decompressor(blob)?;
    let index = Index::new(options)?;
    let work = |archive| {
        let tar = BufWriter::with_capacity(read_ahead::BUFFER, WriteBack::new(tar));
        let mut copied = Copied { archive, tar, failure: None };
        let result = Unpack::new(&mut copied, index, options, cancel).run_into();
        match copied.failure.or(copied.tar.flush().err()) {
            Some(source) => {
                let entry = EntryName(Vec::new());
                Err(ApplyError::Io { operation: "keep the archive of", entry, source })
            }
            None => result,
        }
    };
    let (result, diff_id) = read_ahead::run(plain, work).map_err(ApplyError::Thread)?;
    let (applied, index) = result?;
    match expected {
        Some(expected) if expected != diff_id => Err(ApplyError::DiffId { expected, actual: diff_id }),
        _ => {
            let (tree, records) = index.into_tree()?;
            Ok(Packed { applied, diff_id, tree, records })
        }
    }
}

/// The tree that a plain archive is, which was written to a file before, and what its files hold.
pub(crate) fn index_of(
    archive: impl BufRead,
    options: &ApplyOptions,
    cancel: &CancelToken,
) -> Result<(erofs::Tree, Vec<Record>), ApplyError> {
    let (_, index) = Unpack::new(archive, Index::new(options)?, options, cancel).run_into()?;
    index.into_tree()
}

/// Writes down what is read.
struct Copied<'a, R> {
    archive: R,
    tar: BufWriter<WriteBack<'a>>,
    failure: Option<io::Error>,
}

impl<R: BufRead> Read for Copied<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Copied<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        self.archive.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // What is consumed was lent before, so this reads nothing.
        let written = self.archive.fill_buf().and_then(|bytes| self.tar.write_all(&bytes[..count]));
        if let Err(error) = written {
            self.failure.get_or_insert(error);
        }
        self.archive.consume(count);
    }
}

/// The tree that an archive describes, without its content.
struct Index {
    tree: erofs::Tree,
    lower: Vec<Root>,
    layering: Layering,
    /// Directories that hide what is below them.
    opaque: HashSet<NodeId>,
    /// Hard links whose target had not come yet, with their clean paths.
    waiting: Vec<(Entry, Vec<u8>)>,
    /// The directory that was looked up last.
    last: Option<(Vec<u8>, NodeId)>,
    skipped_xattrs: u64,
    root_opaque: bool,
    /// What is seen of a file.
    hasher: blake3::Hasher,
    records: Vec<Record>,
}

/// What a path of the tree leads to.
enum Found {
    Node(NodeId),
    Nothing,
    Link,
}

impl Index {
    fn new(options: &ApplyOptions) -> Result<Self, ApplyError> {
        let lower = open_lower(options)?;
        // The root looks like that of the layer below, as it does where it is unpacked.
        let root = lower_attributes(&lower, b".");
        let root = root.unwrap_or_else(|| Attributes::of_missing_directory(Mtime::default()));
        let root = node_attributes(root, true).map_err(|source| unfit(b"/", source))?.0;
        Ok(Self {
            tree: erofs::Tree::new(root),
            lower,
            layering: options.layering,
            opaque: HashSet::new(),
            waiting: Vec::new(),
            last: None,
            skipped_xattrs: 0,
            root_opaque: false,
            hasher: blake3::Hasher::new(),
            records: Vec::new(),
        })
    }

    /// The tree, when all entries were seen, and what its files hold.
    fn into_tree(mut self) -> Result<(erofs::Tree, Vec<Record>), ApplyError> {
        if let Layering::Overlay { userxattr } = self.layering {
            for directory in self.opaque {
                let mark = Xattr { name: opaque_attribute(userxattr).to_vec(), value: b"y".to_vec() };
                self.tree.attributes_mut(directory).xattrs.push(mark);
            }
        }
        Ok((self.tree, self.records))
    }

    fn is_whiteout(&self, node: NodeId) -> bool {
        matches!(self.layering, Layering::Overlay { .. })
            && matches!(self.tree.content(node), Content::CharDevice(0, 0))
    }

    /// Follows a clean path.
    fn find(&self, path: &[u8]) -> Found {
        let mut node = ROOT;
        for component in components_of(path) {
            match self.tree.child(node, component) {
                Some(child) => node = child,
                None if matches!(self.tree.content(node), Content::Symlink(_)) => return Found::Link,
                None => return Found::Nothing,
            }
        }
        Found::Node(node)
    }

    /// The directory at a clean path; makes what is missing.
    fn directory(&mut self, path: &[u8], entry: &[u8]) -> Result<NodeId, ApplyError> {
        if let Some((last, node)) = &self.last
            && last == path
        {
            return Ok(*node);
        }
        let mut node = ROOT;
        let mut end = 0;
        for component in components_of(path) {
            end += usize::from(end > 0) + component.len();
            let there = &path[..end];
            node = match self.tree.child(node, component) {
                None => self.make_missing(node, component, there, entry)?,
                Some(child) if self.tree.is_directory(child) => child,
                Some(child) if self.is_whiteout(child) => {
                    let made = self.make_missing(node, component, there, entry)?;
                    // The layer deleted the name and made it anew, so what is below must not show through.
                    self.opaque.insert(made);
                    made
                }
                Some(child) if matches!(self.tree.content(child), Content::Symlink(_)) => {
                    return Err(unfit(entry, Unfit::ThroughLink));
                }
                Some(_) => {
                    return Err(ApplyError::NotADirectory { entry: entry.into(), parent: there.into() });
                }
            };
        }
        self.last = Some((path.to_vec(), node));
        Ok(node)
    }

    /// Makes a directory that the archive needs and has no entry for (yet).
    fn make_missing(
        &mut self,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
        entry: &[u8],
    ) -> Result<NodeId, ApplyError> {
        let attributes = lower_attributes(&self.lower, path);
        let attributes = attributes.unwrap_or_else(|| Attributes::of_missing_directory(Mtime::default()));
        let (attributes, _) = node_attributes(attributes, true).map_err(|source| unfit(entry, source))?;
        let empty = Content::Directory(Default::default());
        let node = self.tree.add(empty, attributes).map_err(|source| format_unfit(entry, source))?;
        self.name(parent, name, node, entry)?;
        Ok(node)
    }

    /// Gives a node a name, in place of whatever has it.
    fn name(&mut self, parent: NodeId, name: &[u8], node: NodeId, entry: &[u8]) -> Result<(), ApplyError> {
        let before = self.tree.insert(parent, name, node).map_err(|source| format_unfit(entry, source))?;
        if before.is_some_and(|before| self.tree.is_directory(before)) {
            self.last = None;
        }
        Ok(())
    }

    /// Adds what an entry describes at a clean path.
    fn put(&mut self, entry: &Entry, path: &[u8], content: Content) -> Result<(), ApplyError> {
        if path.len() > MAX_PATH {
            return Err(unfit(&entry.path, Unfit::Path));
        }
        let (directory, name) = split(path);
        let parent = self.directory(directory, &entry.path)?;
        let attributes = self.attributes(entry)?;
        let node = self.tree.add(content, attributes).map_err(|source| format_unfit(&entry.path, source))?;
        self.name(parent, name, node, &entry.path)
    }

    /// What an entry says, without what the kernel does not let be set on a file of its kind.
    fn attributes(&mut self, entry: &Entry) -> Result<erofs::Attributes, ApplyError> {
        let is_plain = matches!(entry.kind, Kind::File | Kind::Directory);
        let (attributes, skipped) =
            node_attributes(entry.into(), is_plain).map_err(|source| unfit(&entry.path, source))?;
        self.skipped_xattrs += skipped;
        Ok(attributes)
    }

    fn add_directory(&mut self, entry: &Entry, path: &[u8]) -> Result<(), ApplyError> {
        let (directory, name) = split(path);
        let parent = self.directory(directory, &entry.path)?;
        let before = self.tree.child(parent, name);
        if let Some(node) = before.filter(|node| self.tree.is_directory(*node)) {
            *self.tree.attributes_mut(node) = self.attributes(entry)?;
            return Ok(());
        }
        let was_hidden = before.is_some_and(|node| self.is_whiteout(node));
        self.put(entry, path, Content::Directory(Default::default()))?;
        if let Some(made) = self.tree.child(parent, name).filter(|_| was_hidden) {
            self.opaque.insert(made);
        }
        Ok(())
    }

    /// Without layers below, all that is in a directory is of this layer, and stays.
    fn hide_nothing(&self, directory: &[u8], entry: &[u8]) -> Result<(), ApplyError> {
        let mut node = ROOT;
        for component in components_of(directory) {
            let Some(child) = self.tree.child(node, component) else { return Ok(()) };
            if matches!(self.tree.content(child), Content::Symlink(_)) {
                return Err(unfit(entry, Unfit::ThroughLink));
            }
            node = child;
        }
        Ok(())
    }

    /// Makes a hard link; `false` when the target does not exist.
    fn link(&mut self, entry: &Entry, path: &[u8]) -> Result<bool, ApplyError> {
        let name = || EntryName(entry.path.clone());
        let target = clean(&entry.link).ok_or_else(|| ApplyError::Escape { entry: name() })?;
        let node = match self.find(&target) {
            Found::Node(node) => node,
            Found::Nothing => return Ok(false),
            Found::Link => return Err(unfit(&entry.path, Unfit::ThroughLink)),
        };
        if self.is_whiteout(node) {
            return Ok(false);
        }
        if self.tree.is_directory(node) {
            return Err(link_target(entry));
        }
        if path.len() > MAX_PATH {
            return Err(unfit(&entry.path, Unfit::Path));
        }
        let (directory, own) = split(path);
        let parent = self.directory(directory, &entry.path)?;
        if self.tree.child(parent, own).is_some_and(|before| self.tree.is_directory(before)) {
            return Err(unfit(&entry.path, Unfit::LinkOverDirectory));
        }
        self.name(parent, own, node, &entry.path)?;
        Ok(true)
    }
}

impl Target for Index {
    fn begin_file(&mut self, entry: &Entry, path: &[u8], offset: u64) -> Result<Option<File>, ApplyError> {
        if entry.extents.is_some() {
            return Err(unfit(&entry.path, Unfit::Sparse));
        }
        self.put(entry, path, Content::File { size: entry.size, offset })?;
        Ok(None)
    }

    fn sees_content(&self) -> bool {
        true
    }

    fn see(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    fn saw(&mut self, offset: u64, size: u64, zeros: bool) {
        let id = self.hasher.finalize().into();
        self.hasher.reset();
        // One that is filled up with something else is nothing that a copy may share.
        if size == 0 || !zeros {
            return;
        }
        let before = self.records.last().map_or(0, Record::end);
        let headers = offset.checked_sub(before).filter(|headers| *headers <= MOST_HEADERS);
        let headers = headers.and_then(|headers| u32::try_from(headers).ok()).unwrap_or(0);
        self.records.push(Record { id, file: OWN, headers, offset, size });
    }

    fn end_file(&mut self, _file: &File, _entry: &Entry) -> Result<(), ApplyError> {
        Ok(())
    }

    fn set_root(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        if entry.kind != Kind::Directory {
            return Err(ApplyError::Name { entry: EntryName(entry.path.clone()) });
        }
        *self.tree.attributes_mut(ROOT) = self.attributes(entry)?;
        Ok(())
    }

    fn add(&mut self, entry: &Entry, path: Vec<u8>) -> Result<(), ApplyError> {
        let (major, minor) = entry.device;
        let content = match entry.kind {
            Kind::Directory => return self.add_directory(entry, &path),
            Kind::HardLink => {
                if !self.link(entry, &path)? {
                    self.waiting.push((entry.clone(), path));
                }
                return Ok(());
            }
            Kind::Symlink => Content::Symlink(entry.link.clone()),
            Kind::CharDevice => Content::CharDevice(major, minor),
            Kind::BlockDevice => Content::BlockDevice(major, minor),
            Kind::Fifo => Content::Fifo,
            // Files come by themselves.
            Kind::File => return Ok(()),
        };
        self.put(entry, &path, content)
    }

    fn hide(&mut self, path: &[u8], entry: &[u8]) -> Result<(), ApplyError> {
        let (directory, name) = split(path);
        if self.layering == Layering::Flat {
            return self.hide_nothing(directory, entry);
        }
        let parent = self.directory(directory, entry)?;
        match self.tree.child(parent, name) {
            Some(node) if self.tree.is_directory(node) => drop(self.opaque.insert(node)),
            Some(_) => {}
            None => {
                let whiteout = Content::CharDevice(0, 0);
                let node = self.tree.add(whiteout, erofs::Attributes::default());
                let node = node.map_err(|source| format_unfit(entry, source))?;
                self.name(parent, name, node, entry)?;
            }
        }
        Ok(())
    }

    fn hide_children(&mut self, path: &[u8], entry: &[u8]) -> Result<(), ApplyError> {
        if self.layering == Layering::Flat {
            return self.hide_nothing(path, entry);
        }
        self.root_opaque |= path.is_empty();
        let directory = self.directory(path, entry)?;
        self.opaque.insert(directory);
        Ok(())
    }

    fn finish(&mut self, cancel: &CancelToken) -> Result<(), ApplyError> {
        for (entry, path) in std::mem::take(&mut self.waiting) {
            cancel.check()?;
            if !self.link(&entry, &path)? {
                return Err(link_target(&entry));
            }
        }
        Ok(())
    }

    fn applied(&self) -> Applied {
        Applied { skipped_xattrs: self.skipped_xattrs, root_opaque: self.root_opaque, ..Applied::default() }
    }
}

/// Attributes as an index has them, and how many were left out: those that are overlayfs's own, and those that the
/// kernel lets nobody set on a file of this kind.
fn node_attributes(of: Attributes, is_plain: bool) -> Result<(erofs::Attributes, u64), Unfit> {
    let Attributes { mode, uid, gid, mtime, xattrs } = of;
    let mut kept: Vec<Xattr> = Vec::with_capacity(xattrs.len());
    let mut skipped = 0;
    for xattr in xattrs {
        let is_known = [&b"trusted."[..], b"security."].iter().any(|kind| xattr.name.starts_with(kind))
            || is_plain && xattr.name.starts_with(b"user.");
        if xattr.name.starts_with(b"system.") {
            return Err(Unfit::AccessList);
        }
        if is_overlay(&xattr.name) || !is_known {
            skipped += 1;
            continue;
        }
        // Of several that an archive says, the last counts.
        kept.retain(|other| other.name != xattr.name);
        kept.push(xattr);
    }
    Ok((erofs::Attributes { mode, uid, gid, mtime, xattrs: kept }, skipped))
}

fn unfit(entry: &[u8], source: Unfit) -> ApplyError {
    ApplyError::Unfit { entry: entry.into(), source }
}

fn format_unfit(entry: &[u8], source: erofs::Unfit) -> ApplyError {
    unfit(entry, FormatLimit(source).into())
}

fn link_target(entry: &Entry) -> ApplyError {
    ApplyError::LinkTarget { entry: EntryName(entry.path.clone()), target: EntryName(entry.link.clone()) }
}

#[cfg(test)]
mod tests;
