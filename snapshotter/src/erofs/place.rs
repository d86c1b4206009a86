//! Decides where everything lies: the order of inodes, the size of what is behind each, and which blocks hold what
//! does not fit there.
//!
//! ```text
//! block 0 …        zeros up to byte 1024, the superblock, the table of devices
//! META …           inodes, each with its attributes and the last part of its content
//! data …           whole blocks of directories and long links
//! ```

use super::encode::{DEVICE_SLOT, DEVICE_TABLE};
use super::{BlockBits, Content, MAX_FILE, MAX_LINK, NodeId, ROOT, Tree, Unfit, directory};

/// Bytes of an inode (`struct erofs_inode_extended`).
pub(super) const INODE: u64 = 64;

/// Inodes are numbered by units of this many bytes.
pub(super) const SLOT: u64 = 32;

/// Bytes before the attributes of an inode (`struct erofs_xattr_ibody_header`).
pub(super) const XATTR_HEADER: u64 = 12;

/// Bytes before an attribute's name (`struct erofs_xattr_entry`).
const XATTR_ENTRY: u64 = 4;

/// Bytes that say where a chunk is (`struct erofs_inode_chunk_index`).
pub(super) const CHUNK_INDEX: u64 = 8;

/// Where the superblock and a table of so many devices end.
const fn head(devices: usize) -> u64 {
    DEVICE_TABLE + DEVICE_SLOT * devices as u64
}

/// The numbers that the kernel has for the beginnings of attribute names (`EROFS_XATTR_INDEX_…`).
const XATTR_PREFIXES: [(u8, &[u8]); 3] = [(1, b"user."), (4, b"trusted."), (6, b"security.")];

/// How the content of an inode is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// There is none, or it is in blocks from this one on (counted from the first block of data).
    Plain(u64),
    /// Whole blocks from this one on, and the rest behind the inode.
    Inline(u64),
    /// On the device.
    Chunk,
}

/// Where an inode lies, and what belongs to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) node: NodeId,
    /// Bytes from the beginning of the inodes.
    pub(super) position: u64,
    /// Bytes of attributes behind the inode.
    pub(super) xattrs: u64,
    /// Bytes of content.
    pub(super) size: u64,
    pub(super) layout: Layout,
    pub(super) links: u32,
    /// The directory that a directory is in.
    pub(super) parent: NodeId,
}

impl Placed {
    /// Where what follows inode and attributes begins.
    pub(super) fn behind(&self) -> u64 {
        self.position + INODE + self.xattrs
    }
}

/// The whole image.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of their positions.
    pub(super) inodes: Vec<Placed>,
    /// Where each node is in `inodes`, if it has a name.
    order: Vec<Option<u32>>,
    /// The first block of inodes.
    pub(super) meta_block: u64,
    /// The first block of data.
    pub(super) data_block: u64,
    /// All blocks.
    pub(super) blocks: u64,
}

impl Plan {
    /// Where a node lies, if it has a name.
    pub(super) fn find(&self, node: NodeId) -> Option<&Placed> {
        self.order[node.index()].map(|at| &self.inodes[at as usize])
    }
}

/// Places everything that can be reached from the root: the nodes of one directory beside each other, because that
/// is how they are looked at.
pub(super) fn plan(tree: &Tree, bits: BlockBits, devices: usize) -> Result<Plan, Unfit> {
    let mut plan = Plan {
        inodes: Vec::with_capacity(tree.nodes.len()),
        order: vec![None; tree.nodes.len()],
        meta_block: head(devices).div_ceil(bits.size()),
        data_block: 0,
        blocks: 0,
    };
    // The number 0 says "none" in some places, so nobody has it.
    let mut place = Place { bits, position: SLOT, data: 0 };
    place.node(tree, &mut plan, ROOT, ROOT)?;
    let mut next = 0;
    while let Some(placed) = plan.inodes.get(next) {
        let directory = placed.node;
        if let Content::Directory(names) = tree.content(directory) {
            for child in names.values() {
                match plan.order[child.index()] {
                    Some(known) => {
                        let links = &mut plan.inodes[known as usize].links;
                        *links = links.checked_add(1).ok_or(Unfit::TooMany)?;
                    }
                    None => place.node(tree, &mut plan, *child, directory)?,
                }
                if tree.is_directory(*child) {
                    plan.inodes[next].links += 1;
                }
            }
        }
        next += 1;
    }
    plan.data_block = plan.meta_block + place.position.div_ceil(bits.size());
    plan.blocks = plan.data_block + place.data;
    if u32::try_from(plan.blocks).is_err() {
        return Err(Unfit::TooLarge);
    }
    Ok(plan)
}

/// How far the image is filled.
struct Place {
    bits: BlockBits,
    /// Bytes of inodes.
    position: u64,
    /// Blocks of data.
    data: u64,
}

impl Place {
    fn node(&mut self, tree: &Tree, plan: &mut Plan, node: NodeId, parent: NodeId) -> Result<(), Unfit> {
        let attributes = &tree.nodes[node.index()].attributes;
        let xattrs = xattr_size(attributes.xattrs.iter().map(|x| (x.name.as_slice(), x.value.len())))?;
        let content = tree.content(node);
        let size = size(content, self.bits)?;
        let block = self.bits.size();
        let (position, layout, end) = match content {
            Content::File { size, .. } if *size > 0 => {
                let position = self.fitting(INODE);
                let index = (position + INODE + xattrs).next_multiple_of(CHUNK_INDEX);
                (position, Layout::Chunk, index + CHUNK_INDEX)
            }
            _ => {
                let tail = size % block;
                let beside = self.fitting(INODE);
                let fits = |position: u64| (position + INODE + xattrs) % block + tail <= block;
                let inline = [beside, beside.next_multiple_of(block)].into_iter().find(|at| fits(*at));
                match inline.filter(|_| tail > 0) {
                    Some(position) => {
                        let layout = Layout::Inline(self.take(size / block));
                        (position, layout, position + INODE + xattrs + tail)
                    }
                    None => {
                        let layout = Layout::Plain(self.take(size.div_ceil(block)));
                        (beside, layout, beside + INODE + xattrs)
                    }
                }
            }
        };
        self.position = end.next_multiple_of(SLOT);
        let links = if tree.is_directory(node) { 2 } else { 1 };
        // There are at most as many as there are nodes, whose numbers have 32 bits.
        plan.order[node.index()] = Some(plan.inodes.len() as u32);
        plan.inodes.push(Placed { node, position, xattrs, size, layout, links, parent });
        Ok(())
    }

    /// The next position from which `length` bytes stay in one block.
    fn fitting(&self, length: u64) -> u64 {
        let block = self.bits.size();
        if self.position % block + length <= block {
            self.position
        } else {
            self.position.next_multiple_of(block)
        }
    }

    fn take(&mut self, blocks: u64) -> u64 {
        let first = self.data;
        self.data += blocks;
        first
    }
}

/// The bytes of attributes behind an inode.
fn xattr_size<'a>(xattrs: impl Iterator<Item = (&'a [u8], usize)>) -> Result<u64, Unfit> {
    let mut size = 0;
    for (name, value) in xattrs {
        let (_, suffix) = xattr_name(name)?;
        if u16::try_from(value).is_err() {
            return Err(Unfit::Xattr);
        }
        let length = XATTR_ENTRY + suffix.len() as u64 + value as u64;
        size += length.next_multiple_of(4);
    }
    if size == 0 {
        return Ok(0);
    }
    // They are counted in words, the header as one (`erofs_xattr_ibody_size`).
    if u16::try_from(size / 4 + 1).is_err() { Err(Unfit::Xattr) } else { Ok(XATTR_HEADER + size) }
}

/// The number of an attribute's namespace, and its name there.
pub(super) fn xattr_name(name: &[u8]) -> Result<(u8, &[u8]), Unfit> {
    let split = |(index, prefix): &(u8, &[u8])| Some((*index, name.strip_prefix(*prefix)?));
    let (index, suffix) = XATTR_PREFIXES.iter().find_map(split).ok_or(Unfit::Xattr)?;
    let fits = !suffix.is_empty() && name.len() <= super::MAX_NAME && !suffix.contains(&0);
    if fits { Ok((index, suffix)) } else { Err(Unfit::Xattr) }
}

/// The bytes of a node's content.
fn size(content: &Content, bits: BlockBits) -> Result<u64, Unfit> {
    match content {
        Content::Directory(names) => Ok(directory::size(names, bits)),
        Content::File { size, offset } => {
            let aligned = offset % bits.size() == 0 && u32::try_from(offset / bits.size()).is_ok();
            if *size <= MAX_FILE && aligned { Ok(*size) } else { Err(Unfit::Content) }
        }
        Content::Symlink(target) => {
            let fits = !target.is_empty() && target.len() <= MAX_LINK && !target.contains(&0);
            if fits { Ok(target.len() as u64) } else { Err(Unfit::Link) }
        }
        Content::CharDevice(major, minor) | Content::BlockDevice(major, minor) => {
            // The kernel has 12 and 20 bits for them.
            if *major < 1 << 12 && *minor < 1 << 20 { Ok(0) } else { Err(Unfit::Device) }
        }
        Content::Fifo => Ok(0),
    }
}
