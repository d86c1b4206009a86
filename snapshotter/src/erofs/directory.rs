//! Directories as blocks: in each first its entries, then their names. All names of a directory, `.` and `..` among
//! them, are sorted by their bytes, because the kernel searches by halving.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::{BlockBits, NodeId};

/// Bytes of an entry before its name (`struct erofs_dirent`).
const ENTRY: usize = 12;

type Names = BTreeMap<Box<[u8]>, NodeId>;

/// What a name in a directory leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leads {
    Itself,
    Parent,
    To(NodeId),
}

/// What an entry says: the number of an inode, and its kind.
pub(super) type Target = (u64, u8);

/// All names, sorted.
fn sorted(names: &Names) -> impl Iterator<Item = (&[u8], Leads)> {
    const DOT: &[u8] = b".";
    const DOTS: &[u8] = b"..";
    let range = |bounds| names.range::<[u8], _>(bounds).map(|(name, id)| (&**name, Leads::To(*id)));
    range((Unbounded, Excluded(DOT)))
        .chain([(DOT, Leads::Itself)])
        .chain(range((Included(DOT), Excluded(DOTS))))
        .chain([(DOTS, Leads::Parent)])
        .chain(range((Included(DOTS), Unbounded)))
}

/// The bytes of a directory: whole blocks, but for the last one, which ends with its last name.
pub(super) fn size(names: &Names, bits: BlockBits) -> u64 {
    let (mut full, mut used) = (0, 0);
    for (name, _) in sorted(names) {
        let length = (ENTRY + name.len()) as u64;
        if used + length > bits.size() {
            full += bits.size();
            used = 0;
        }
        used += length;
    }
    full + used
}

/// The same bytes.
pub(super) fn encode(names: &Names, bits: BlockBits, target: impl Fn(Leads) -> Target) -> Vec<u8> {
    let block = bits.size() as usize;
    let mut out = Vec::new();
    let mut waiting: Vec<(&[u8], Target)> = Vec::new();
    let mut used = 0;
    for (name, leads) in sorted(names) {
        let length = ENTRY + name.len();
        if used + length > block {
            encode_block(&waiting, &mut out);
            out.resize(out.len().next_multiple_of(block), 0);
            waiting.clear();
            used = 0;
        }
        waiting.push((name, target(leads)));
        used += length;
    }
    encode_block(&waiting, &mut out);
    out
}

fn encode_block(entries: &[(&[u8], Target)], out: &mut Vec<u8>) {
    let mut name_at = entries.len() * ENTRY;
    for (name, (number, kind)) in entries {
        out.extend_from_slice(&number.to_le_bytes());
        // Within a block, so below 4096.
        out.extend_from_slice(&(name_at as u16).to_le_bytes());
        out.extend_from_slice(&[*kind, 0]);
        name_at += name.len();
    }
    entries.iter().for_each(|(name, _)| out.extend_from_slice(name));
}
