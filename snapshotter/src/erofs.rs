//! Writes EROFS images whose files lie elsewhere: an image holds names, attributes and directories, and for each
//! file where its content begins on another device, here a file such as an uncompressed tar. Nothing of the
//! content is read, so an image is small and made as fast as its entries come.
//!
//! Source: the kernel's `Documentation/filesystems/erofs.rst` and its `fs/erofs/erofs_fs.h`, which states the
//! format on disk. What is used of it:
//!
//! * inodes of the extended form, which has times, owners and link counts in full; attributes behind each;
//! * directories as sorted blocks, links as text, both behind their inode where the last part fits into its block;
//! * files as one chunk on a device (`EROFS_FEATURE_INCOMPAT_CHUNKED_FILE`, `_DEVICE_TABLE`).
//!
//! A tree is built by numbers: [`Tree::add`] makes a node, [`Tree::insert`] names it. Whether names, links and
//! whiteouts make sense together is the caller's business. What the format cannot hold is [`Unfit`], an ordinary
//! answer and no mistake of anybody's: input may be hostile, and nothing here panics or overflows on it.

mod directory;
mod encode;
mod place;

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::tar_entry::{Mtime, Xattr};

/// The number of the root directory in every tree.
pub(crate) const ROOT: NodeId = NodeId(0);

/// The size of blocks by its logarithm: content on the device begins at a multiple of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockBits(u8);

impl BlockBits {
    /// Blocks of 512 bytes, as those of a tar. Linux 6.4 and newer read them.
    pub(crate) const TAR: Self = Self(9);

    /// Blocks of 4096 bytes, the only ones that older programs know.
    #[cfg(test)]
    pub(crate) const PAGE: Self = Self(12);

    const fn size(self) -> u64 {
        1 << self.0
    }
}

/// The longest name of a file (`EROFS_NAME_LEN`).
const MAX_NAME: usize = 255;

/// The longest target of a link that the kernel follows, its final zero not counted.
const MAX_LINK: usize = 4095;

/// The largest file: one chunk has at most 2^31 blocks, and block numbers have 32 bits.
const MAX_FILE: u64 = 1 << 40;

/// What a tree may hold, so that its numbers and its memory have a bound.
const MAX_NODES: usize = 4 << 20;

/// Why a tree, or a part of it, cannot be an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// There are more than [`MAX_NODES`] files.
    #[error("it has more than {MAX_NODES} files")]
    TooMany,
    /// A name is empty, too long, or has a slash or a zero byte.
    #[error("a name in it is empty, too long or has a byte that names cannot have")]
    Name,
    /// The target of a link is empty, too long or has a zero byte.
    #[error("a symbolic link in it has a target that is empty, too long or has a zero byte")]
    Link,
    /// A file is too large, or begins where no block does.
    #[error("a file in it is too large, or does not begin with a block")]
    Content,
    /// A device has a number that the kernel does not know.
    #[error("a device in it has a number that the kernel cannot express")]
    Device,
    /// An attribute belongs to a namespace that images have no number for, or is too large.
    #[error("an extended attribute in it is too large, or of a kind that cannot be stored")]
    Xattr,
    /// The image would have more blocks than can be counted.
    #[error("it is too large")]
    TooLarge,
}

/// A node of a [`Tree`], which may have several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Owner, mode, time and attributes of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Mtime,
    /// By full name; no name twice.
    pub(crate) xattrs: Vec<Xattr>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// A directory and its names.
    Directory(BTreeMap<Box<[u8]>, NodeId>),
    /// A regular file, and where in the archive its bytes begin.
    File {
        size: u64,
        offset: u64,
    },
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

#[derive(Debug)]
struct Node {
    content: Content,
    attributes: Attributes,
}

/// Where the content of files lies.
pub(crate) trait Devices {
    /// The sizes of all devices in bytes, in their order.
    fn sizes(&self) -> Vec<u64>;

    /// On which device, counted from 0, and where on it those bytes of the archive begin; `None` when they are not beside each
    /// other.
    fn locate(&self, offset: u64, size: u64) -> Option<(u16, u64)>;
}

/// One device of this size in bytes that is the archive.
impl Devices for u64 {
    fn sizes(&self) -> Vec<u64> {
        vec![*self]
    }

    fn locate(&self, offset: u64, _size: u64) -> Option<(u16, u64)> {
        Some((0, offset))
    }
}

/// A tree of files that is to become an image.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// A tree with an empty root directory.
    pub(crate) fn new(root: Attributes) -> Self {
        Self { nodes: vec![Node { content: Content::Directory(BTreeMap::new()), attributes: root }] }
    }

    /// Adds a node that has no name yet.
    pub(crate) fn add(&mut self, content: Content, attributes: Attributes) -> Result<NodeId, Unfit> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Unfit::TooMany);
        }
        let id = u32::try_from(self.nodes.len()).map_err(|_| Unfit::TooMany)?;
        self.nodes.push(Node { content, attributes });
        Ok(NodeId(id))
    }

    /// Gives a node a name in a directory, and answers which node had that name. In what is no directory it has no
    /// effect. A directory must get one name only, and none below itself.
    pub(crate) fn insert(
        &mut self,
        directory: NodeId,
        name: &[u8],
        node: NodeId,
    ) -> Result<Option<NodeId>, Unfit> {
        let is_reserved = matches!(name, b"" | b"." | b"..");
        if is_reserved || name.len() > MAX_NAME || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Unfit::Name);
        }
        match &mut self.nodes[directory.index()].content {
            Content::Directory(names) => Ok(names.insert(name.into(), node)),
            _ => Ok(None),
        }
    }

    /// The node of this name in a directory.
    pub(crate) fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        match self.content(directory) {
            Content::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    pub(crate) fn content(&self, node: NodeId) -> &Content {
        &self.nodes[node.index()].content
    }

    pub(crate) fn is_directory(&self, node: NodeId) -> bool {
        matches!(self.content(node), Content::Directory(_))
    }

    #[cfg(test)]
    pub(crate) fn attributes(&self, node: NodeId) -> &Attributes {
        &self.nodes[node.index()].attributes
    }

    pub(crate) fn attributes_mut(&mut self, node: NodeId) -> &mut Attributes {
        &mut self.nodes[node.index()].attributes
    }

    /// The names of regular files, each with the length of the file and where in the archive its content begins.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&[u8], u64, u64)> {
        let directories = self.nodes.iter().filter_map(|node| match &node.content {
            Content::Directory(names) => Some(names),
            _ => None,
        });
        directories.flatten().filter_map(|(name, node)| match *self.content(*node) {
            Content::File { size, offset } => Some((&**name, size, offset)),
            _ => None,
        })
    }

    /// Writes the image of everything that has a name, whose content is where `devices` says. The same tree gives the same
    /// bytes.
    pub(crate) fn write(
        &self,
        bits: BlockBits,
        devices: &dyn Devices,
        out: &mut dyn Write,
    ) -> Result<(), WriteError> {
        let sizes = devices.sizes();
        let plan = place::plan(self, bits, sizes.len())?;
        encode::write(self, &plan, bits, devices, out)
    }
}

/// Why an image was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The tree cannot be an image.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The output refused bytes.
    #[error("cannot write the index of a layer")]
    Output(#[from] io::Error),
}

#[cfg(test)]
mod tests;
