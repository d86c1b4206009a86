//! The bytes of an image, from its beginning to its end. All numbers are little-endian.

use std::io::Write;

use super::place::{CHUNK_INDEX, Layout, Placed, Plan, SLOT, XATTR_HEADER, xattr_name};
use super::{BlockBits, Content, Devices, Tree, Unfit, WriteError, directory};
use crate::tar_entry::Xattr;

/// Where the superblock begins, in bytes.
const SUPERBLOCK: usize = 1024;

const MAGIC: u32 = 0xe0f5_e1e2;

/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE` and `EROFS_FEATURE_INCOMPAT_DEVICE_TABLE`.
const INCOMPATIBLE: u32 = 0x4 | 0x8;

/// Where the table of devices begins, in bytes: right behind the superblock.
pub(super) const DEVICE_TABLE: u64 = SUPERBLOCK as u64 + 128;

/// Bytes of an entry of that table, by which its place is counted as well.
pub(super) const DEVICE_SLOT: u64 = 128;

/// An inode of the extended form.
const EXTENDED: u16 = 1;

/// A block number that is none.
const NO_BLOCK: u32 = u32::MAX;

/// `EROFS_CHUNK_FORMAT_INDEXES`: chunks have indexes of eight bytes, which name a device.
const WITH_INDEXES: u16 = 0x20;

/// Bits of a mode that say the kind of a file (`inode(7)`), and how directories say it (`EROFS_FT_…`).
fn kind(content: &Content) -> (u16, u8) {
    match content {
        Content::File { .. } => (0o100_000, 1),
        Content::Directory(_) => (0o040_000, 2),
        Content::CharDevice(..) => (0o020_000, 3),
        Content::BlockDevice(..) => (0o060_000, 4),
        Content::Fifo => (0o010_000, 5),
        Content::Symlink(_) => (0o120_000, 7),
    }
}

/// Writes the image that was planned.
pub(super) fn write(
    tree: &Tree,
    plan: &Plan,
    bits: BlockBits,
    devices: &dyn Devices,
    out: &mut dyn Write,
) -> Result<(), WriteError> {
    let sizes = devices.sizes();
    let count = u16::try_from(sizes.len()).map_err(|_| Unfit::TooMany)?;
    let mut head = superblock(plan, bits, count);
    head.extend(sizes.iter().flat_map(|size| device(*size, bits)));
    head.resize((plan.meta_block * bits.size()) as usize, 0);
    out.write_all(&head)?;

    let encoder = Encoder { tree, plan, bits, devices };
    let mut data = Vec::new();
    let mut written = 0;
    let mut buffer = Vec::new();
    for placed in &plan.inodes {
        buffer.clear();
        buffer.resize((placed.position - written) as usize, 0);
        encoder.inode(placed, written, &mut buffer, &mut data)?;
        out.write_all(&buffer)?;
        written += buffer.len() as u64;
    }
    let end = (plan.data_block - plan.meta_block) * bits.size();
    out.write_all(&vec![0; (end - written) as usize])?;
    for content in data {
        out.write_all(&content)?;
    }
    Ok(())
}

/// `struct erofs_super_block`, and what is before it.
fn superblock(plan: &Plan, bits: BlockBits, devices: u16) -> Vec<u8> {
    let mut block = vec![0; SUPERBLOCK + 128];
    let mut put = |at: usize, bytes: &[u8]| {
        block[SUPERBLOCK + at..SUPERBLOCK + at + bytes.len()].copy_from_slice(bytes);
    };
    // Every number here is below the number of blocks, which has 32 bits.
    let root = number(&plan.inodes[0]) as u16;
    put(0, &MAGIC.to_le_bytes());
    put(12, &[bits.0]);
    put(14, &root.to_le_bytes());
    put(16, &(plan.inodes.len() as u64).to_le_bytes());
    put(36, &(plan.blocks as u32).to_le_bytes());
    put(40, &(plan.meta_block as u32).to_le_bytes());
    put(80, &INCOMPATIBLE.to_le_bytes());
    put(86, &devices.to_le_bytes());
    put(88, &((DEVICE_TABLE / DEVICE_SLOT) as u16).to_le_bytes());
    block
}

/// `struct erofs_deviceslot`. Which file it is, whoever mounts the image says.
fn device(size: u64, bits: BlockBits) -> [u8; DEVICE_SLOT as usize] {
    let mut slot = [0; DEVICE_SLOT as usize];
    let blocks = u32::try_from(size.div_ceil(bits.size())).unwrap_or(u32::MAX);
    slot[64..68].copy_from_slice(&blocks.to_le_bytes());
    slot
}

/// The number of an inode: where it lies.
fn number(placed: &Placed) -> u64 {
    placed.position / SLOT
}

struct Encoder<'a> {
    tree: &'a Tree,
    plan: &'a Plan,
    bits: BlockBits,
    devices: &'a dyn Devices,
}

impl Encoder<'_> {
    /// Adds an inode and what is behind it to `out`, which begins at the position `start`, and its whole blocks to
    /// `data`.
    fn inode(
        &self,
        placed: &Placed,
        start: u64,
        out: &mut Vec<u8>,
        data: &mut Vec<Vec<u8>>,
    ) -> Result<(), WriteError> {
        let node = &self.tree.nodes[placed.node.index()];
        let (format, place) = self.format(placed, &node.content);
        let attributes = &node.attributes;
        let words = if placed.xattrs == 0 { 0 } else { (placed.xattrs - XATTR_HEADER) / 4 + 1 };
        out.extend_from_slice(&format.to_le_bytes());
        out.extend_from_slice(&(words as u16).to_le_bytes());
        let mode = match node.content {
            // As the mode of every link on other file systems.
            Content::Symlink(_) => 0o777,
            _ => (attributes.mode & 0o7777) as u16,
        };
        out.extend_from_slice(&(kind(&node.content).0 | mode).to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&placed.size.to_le_bytes());
        out.extend_from_slice(&place.to_le_bytes());
        out.extend_from_slice(&(number(placed) as u32).to_le_bytes());
        out.extend_from_slice(&attributes.uid.to_le_bytes());
        out.extend_from_slice(&attributes.gid.to_le_bytes());
        out.extend_from_slice(&attributes.mtime.seconds.to_le_bytes());
        out.extend_from_slice(&attributes.mtime.nanos.to_le_bytes());
        out.extend_from_slice(&placed.links.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
        if placed.xattrs > 0 {
            out.extend_from_slice(&[0; XATTR_HEADER as usize]);
            attributes.xattrs.iter().try_for_each(|xattr| encode_xattr(xattr, out))?;
        }
        self.content(placed, start, out, data)
    }

    /// The format of an inode, and its number of four bytes whose meaning depends on it.
    fn format(&self, placed: &Placed, content: &Content) -> (u16, u32) {
        let (layout, place) = match (placed.layout, content) {
            (Layout::Chunk, _) => (4, u32::from(WITH_INDEXES | chunk_bits(placed.size, self.bits))),
            (_, Content::CharDevice(major, minor) | Content::BlockDevice(major, minor)) => {
                // As the kernel packs them in 32 bits (`new_encode_dev`).
                (0, (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
            }
            (Layout::Plain(first), _) => (0, self.data_block(first)),
            (Layout::Inline(_), _) if placed.size < self.bits.size() => (2, NO_BLOCK),
            (Layout::Inline(first), _) => (2, self.data_block(first)),
        };
        (EXTENDED | layout << 1, place)
    }

    /// The number of a block of data, which is below that of all blocks.
    fn data_block(&self, block: u64) -> u32 {
        (self.plan.data_block + block) as u32
    }

    fn content(
        &self,
        placed: &Placed,
        start: u64,
        out: &mut Vec<u8>,
        data: &mut Vec<Vec<u8>>,
    ) -> Result<(), WriteError> {
        let node = &self.tree.nodes[placed.node.index()];
        let mut bytes = match &node.content {
            Content::File { size: 0, .. } => return Ok(()),
            Content::File { offset, size } => {
                out.resize((placed.behind().next_multiple_of(CHUNK_INDEX) - start) as usize, 0);
                let (device, offset) = self.devices.locate(*offset, *size).ok_or(Unfit::Content)?;
                if offset % self.bits.size() != 0 {
                    return Err(Unfit::Content.into());
                }
                let block = u32::try_from(offset / self.bits.size()).map_err(|_| Unfit::Content)?;
                out.extend_from_slice(&[0; 2]);
                // The number 0 is the image itself.
                out.extend_from_slice(&(device + 1).to_le_bytes());
                out.extend_from_slice(&block.to_le_bytes());
                return Ok(());
            }
            Content::Directory(names) => {
                directory::encode(names, self.bits, |leads| self.target(placed, leads))
            }
            Content::Symlink(target) => target.clone(),
            Content::CharDevice(..) | Content::BlockDevice(..) | Content::Fifo => return Ok(()),
        };
        let block = self.bits.size() as usize;
        if let Layout::Inline(_) = placed.layout {
            out.extend_from_slice(&bytes.split_off(bytes.len() / block * block));
        }
        if !bytes.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(block), 0);
            data.push(bytes);
        }
        Ok(())
    }

    fn target(&self, placed: &Placed, leads: directory::Leads) -> directory::Target {
        let node = match leads {
            directory::Leads::Itself => placed.node,
            directory::Leads::Parent => placed.parent,
            directory::Leads::To(node) => node,
        };
        // All that has a name in a directory that was placed was placed.
        (self.plan.find(node).map_or(0, number), kind(self.tree.content(node)).1)
    }
}

/// How many blocks a file's only chunk has, as a power of two.
fn chunk_bits(size: u64, bits: BlockBits) -> u16 {
    let blocks = size.div_ceil(bits.size()).max(1);
    // Files have at most 2^40 bytes, so this is at most 31.
    blocks.next_power_of_two().trailing_zeros() as u16
}

/// `struct erofs_xattr_entry`, the name and the value, filled up to a word.
fn encode_xattr(xattr: &Xattr, out: &mut Vec<u8>) -> Result<(), WriteError> {
    let (index, suffix) = xattr_name(&xattr.name)?;
    let before = out.len();
    // Both lengths were found to fit when the inode was placed.
    out.extend_from_slice(&[suffix.len() as u8, index]);
    out.extend_from_slice(&(xattr.value.len() as u16).to_le_bytes());
    out.extend_from_slice(suffix);
    out.extend_from_slice(&xattr.value);
    out.resize(before + (out.len() - before).next_multiple_of(4), 0);
    Ok(())
}
