//! Folding a scanned tree into one key.
//!
//! Every entry has a key over its kind, mode, owner and attributes (both by option) and what it holds: the
//! content hash of a file, the target of a link, the number of a device, the names and keys of a
//! directory's entries in the order of their bytes. Which names are one file counts too. A key knows no times, no inode numbers and no order
//! of listing. Sockets are left out, as no image can hold one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use base::{Key, KeyHasher};
use rayon::prelude::*;
use sys::stat::{Kind, Stat};
use sys::xattr::Xattr;

use crate::content_hash::Hash;
use crate::hard_links::HardLinks;
use crate::scan::{Dir, Scan};

/// The encoding's name and version.
const DOMAIN: &str = "lapstrake/tree/v1";

/// Which attributes count besides names, kinds, permission bits and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyOptions {
    /// User and group. Not for build contexts, whose files are copied as root's.
    pub owner: bool,
    /// Extended attributes (those that [`crate::tree::is_content_xattr`] accepts).
    pub xattrs: bool,
    /// Which permission bits.
    pub modes: Modes,
    /// Whether a directory that is a source counts itself, and not only what is in it: who mounts it sees it, who
    /// copies it does not.
    pub itself: bool,
}

/// Which permission bits files count with, and get when they are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Modes {
    /// Their own.
    #[default]
    Own,
    /// Those that git would give them: 0755 for directories and files that their owner may execute, else 0644.
    Git,
}

impl Modes {
    /// The bits for a file with this status.
    pub fn of(self, stat: &Stat) -> u32 {
        match (self, stat.kind) {
            (Self::Git, Kind::Directory) => 0o755,
            (Self::Git, Kind::File) if stat.mode & 0o100 != 0 => 0o755,
            (Self::Git, Kind::File) => 0o644,
            _ => stat.mode,
        }
    }
}

/// What an entry that is not a directory holds.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    File(&'a Hash),
    Symlink(&'a OsStr),
    /// A device or a pipe.
    Node,
}

/// The key of an entry that is not a directory.
pub(crate) fn leaf_key(options: KeyOptions, stat: &Stat, xattrs: &[Xattr], content: Content<'_>) -> Key {
    let mut hasher = entry_hasher(ordinal(stat.kind), options, stat, xattrs);
    match content {
        Content::File(hash) => hasher.bytes(hash),
        Content::Symlink(target) => hasher.bytes(target.as_bytes()),
        Content::Node if stat.kind == Kind::Fifo => &mut hasher,
        Content::Node => hasher.u64(stat.rdev),
    };
    hasher.finish()
}

/// The key of what is in the root of a scan: names and keys of its entries, without the root's own
/// attributes unless the options say so. `leaves` has, for each directory and each of its children, the key of one that is not a
/// directory; a child without a key is left out.
pub(crate) fn fold(options: KeyOptions, scan: &Scan, leaves: &[Vec<Option<Key>>]) -> Key {
    let mut dir_keys: Vec<Option<Key>> = vec![None; scan.dirs.len()];
    for level in levels_below(scan).into_iter().rev() {
        let key = |index: &usize| {
            let dir = &scan.dirs[*index];
            let kind = if dir.chosen { ordinal(Kind::Directory) } else { ON_THE_WAY };
            let mut hasher = entry_hasher(kind, options, dir.entry.stat(), &dir.xattrs);
            add_listing(&mut hasher, dir, &leaves[*index], &dir_keys);
            (*index, hasher.finish())
        };
        let keys: Vec<(usize, Key)> = level.par_iter().map(key).collect();
        keys.into_iter().for_each(|(index, key)| dir_keys[index] = Some(key));
    }
    let root = &scan.dirs[0];
    let mut hasher = match options.itself {
        true => entry_hasher(ordinal(Kind::Directory), options, root.entry.stat(), &root.xattrs),
        false => KeyHasher::new(DOMAIN),
    };
    add_listing(&mut hasher, root, &leaves[0], &dir_keys);
    add_hard_links(&mut hasher, scan);
    hasher.finish()
}

/// The directories below the root of a scan, by how deep they are.
fn levels_below(scan: &Scan) -> Vec<Vec<usize>> {
    let mut depths = vec![0; scan.dirs.len()];
    let mut levels: Vec<Vec<usize>> = Vec::new();
    for (index, dir) in scan.dirs.iter().enumerate() {
        // Parents come before what is in them.
        let depth = depths[index];
        for child in dir.children.iter().filter_map(|child| child.dir) {
            depths[child] = depth + 1;
            if levels.len() == depth {
                levels.push(Vec::new());
            }
            levels[depth].push(child);
        }
    }
    levels
}

/// Which names are one file. Nothing is added where each has its own.
fn add_hard_links(hasher: &mut KeyHasher, scan: &Scan) {
    let path = |(dir, child): (usize, usize)| {
        let dir = &scan.dirs[dir];
        let below = dir.entry.path().strip_prefix(scan.dirs[0].entry.path()).unwrap_or(dir.entry.path());
        below.join(dir.children[child].name())
    };
    for (later, first) in HardLinks::find(scan).pairs() {
        hasher.bytes(path(later).as_os_str().as_bytes()).bytes(path(first).as_os_str().as_bytes());
    }
}

fn add_listing(hasher: &mut KeyHasher, dir: &Dir, leaves: &[Option<Key>], dir_keys: &[Option<Key>]) {
    let key_of = |index: usize| match dir.children[index].dir {
        Some(dir) => dir_keys[dir],
        None => leaves[index],
    };
    let listing: Vec<(&OsStr, Key)> = (0..dir.children.len())
        .filter_map(|index| Some((dir.children[index].name(), key_of(index)?)))
        .collect();
    hasher.u64(listing.len() as u64);
    for (name, key) in listing {
        hasher.bytes(name.as_bytes()).add(&key);
    }
}

fn entry_hasher(kind: u8, options: KeyOptions, stat: &Stat, xattrs: &[Xattr]) -> KeyHasher {
    let mut hasher = KeyHasher::new(DOMAIN);
    hasher.ordinal(kind);
    // A link's own permission bits mean nothing and differ between systems.
    hasher.u64(if stat.kind == Kind::Symlink { 0 } else { options.modes.of(stat).into() });
    hasher.bool(options.owner);
    if options.owner {
        hasher.u64(stat.uid.into()).u64(stat.gid.into());
    }
    hasher.bool(options.xattrs);
    if options.xattrs {
        hasher.u64(xattrs.len() as u64);
        for xattr in xattrs {
            hasher.bytes(xattr.name.as_bytes()).bytes(&xattr.value);
        }
    }
    hasher
}

/// In place of a directory's [`ordinal`]: one that was not chosen itself, but something in it. Where it
/// exists already, a copy leaves it as it is.
const ON_THE_WAY: u8 = 7;

/// Pinned numbers: the order of the enum may change, these may not.
fn ordinal(kind: Kind) -> u8 {
    match kind {
        Kind::File => 0,
        Kind::Directory => 1,
        Kind::Symlink => 2,
        Kind::CharDevice => 3,
        Kind::BlockDevice => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
    }
}
