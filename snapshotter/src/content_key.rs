//! The content key of what a copy takes: equal for equal content, wherever and whenever it was made.
//!
//! [`content_key`] reads every file once, in parallel, or not at all when a [`StatCache`] knows it.
//! [`diff_key`] is the key of the changes in one layer directory. What the keys are over is defined in [`crate::merkle`].

mod layer;

use std::ffi::OsStr;
use std::ops::Range;
use std::os::fd::AsFd as _;

use base::{CancelToken, Key, KeyHasher};
use rayon::prelude::*;
use sys::rootdir::RootDir;
use sys::stat::Kind;
use sys::xattr::{self, Target, Xattr};

use crate::batch::{Batch, BatchKind, Look, Seen, batches};
use crate::content_hash::{Buffer, hash_file};
use crate::listing::{self, Listed};
use crate::merkle::{Content, fold, leaf_key};
use crate::scan::{Child, Dir, Scan};
use crate::select::Selection;
use crate::stat_cache::{DirRecords, Record, StatCache, XattrState};
use crate::tree::{OpenDir, Tree, TreeError, is_content_xattr};

pub use self::layer::diff_key;
pub use crate::merkle::{KeyOptions, Modes};

/// How many files of a directory one task takes.
const CHUNK: usize = 64;

/// The key of a selection.
///
/// With a `cache`, files that it knows are not opened, and what is learnt is noted in it (the caller
/// saves it). The paths of the cache are those of `tree`.
///
/// # Errors
/// A file or directory cannot be read ([`TreeError::File`] names it), or a file changes whenever it is
/// read ([`TreeError::Unstable`]).
pub fn content_key(
    tree: &Tree,
    selection: &Selection,
    options: &KeyOptions,
    cache: Option<&StatCache>,
    cancel: &CancelToken,
) -> Result<Key, TreeError> {
    Ok(listed_content_key(tree, selection, options, cache, &|_| false, cancel)?.key)
}

/// The same, with the listing of the files if `wanted` says so of the key.
pub fn listed_content_key(
    tree: &Tree,
    selection: &Selection,
    options: &KeyOptions,
    cache: Option<&StatCache>,
    wanted: &dyn Fn(&Key) -> bool,
    cancel: &CancelToken,
) -> Result<Listed, TreeError> {
    let mut batches = batches(tree, selection, options.xattrs, cancel)?;
    let mut keys = Vec::with_capacity(batches.len());
    let mut all_leaves = Vec::with_capacity(batches.len());
    for batch in &batches {
        let pass = HashPass { tree, options: *options, wanted: is_content_xattr, cache, cancel };
        let leaves = pass.run(&batch.scan)?;
        let note = || cache.map(|cache| note_in_cache(cache, &batch.scan, &leaves));
        let (key, _) = rayon::join(|| batch_key(*options, batch, &leaves), note);
        keys.push(key);
        all_leaves.push(leaves);
    }
    let key = selection_key(&keys);
    let listing = wanted(&key).then(|| listing::encode(*options, &batches, &all_leaves)).flatten();
    if let Some(cache) = cache {
        for (batch, (leaves, key)) in batches.iter_mut().zip(all_leaves.into_iter().zip(keys)) {
            batch.seen = Some(Seen { options: *options, leaves, key });
        }
        if let Some(look) = Look::new(selection, options.xattrs, batches) {
            cache.keep_look(look);
        }
    }
    Ok(Listed { key, listing })
}

/// The key of one batch: what its root holds, and whether the sources named files or a directory.
pub(crate) fn batch_key(options: KeyOptions, batch: &Batch, leaves: &[Vec<Option<Leaf>>]) -> Key {
    let mut hasher = KeyHasher::new("lapstrake/batch/v2");
    hasher.bool(batch.kind == BatchKind::Directory);
    hasher.add(&fold(options, &batch.scan, &keys_of(leaves)));
    hasher.finish()
}

/// The key of a selection from the keys of its batches, in order.
pub(crate) fn selection_key(batches: &[Key]) -> Key {
    let mut hasher = KeyHasher::new("lapstrake/selection/v1");
    hasher.add(batches);
    hasher.finish()
}

fn keys_of(leaves: &[Vec<Option<Leaf>>]) -> Vec<Vec<Option<Key>>> {
    let key = |leaf: &Option<Leaf>| leaf.as_ref().map(|leaf| leaf.key);
    leaves.iter().map(|dir| dir.iter().map(key).collect()).collect()
}

/// What became known of an entry that is not a directory.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) key: Key,
    /// For a cache, if it is a regular file.
    pub(crate) record: Option<Record>,
    /// Whether the record came from the cache.
    pub(crate) remembered: bool,
}

/// Some children of one directory of a scan: the work of one task.
pub(crate) struct Chunk {
    pub(crate) dir: usize,
    pub(crate) children: Range<usize>,
}

/// Cuts the children of all directories into chunks, in order.
pub(crate) fn chunks(scan: &Scan) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (index, dir) in scan.dirs.iter().enumerate() {
        for start in (0..dir.children.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(dir.children.len());
            if dir.children[start..end].iter().any(|child| child.dir.is_none()) {
                chunks.push(Chunk { dir: index, children: start..end });
            }
        }
    }
    chunks
}

/// Puts the results of chunks, in their order, back into the shape of the scan.
pub(crate) fn gather(scan: &Scan, results: Vec<(Chunk, Vec<Option<Leaf>>)>) -> Vec<Vec<Option<Leaf>>> {
    let mut leaves: Vec<Vec<Option<Leaf>>> = scan.dirs.iter().map(|_| Vec::new()).collect();
    for (chunk, found) in results {
        let leaves = &mut leaves[chunk.dir];
        if leaves.is_empty() {
            leaves.reserve_exact(scan.dirs[chunk.dir].children.len());
        }
        assert!(leaves.len() <= chunk.children.start, "chunks come in order");
        // Between chunks there may be directories, which have none.
        leaves.resize_with(chunk.children.start, || None);
        leaves.extend(found);
    }
    for (leaves, dir) in leaves.iter_mut().zip(&scan.dirs) {
        leaves.resize_with(dir.children.len(), || None);
    }
    leaves
}

/// Hashing all files of one scan.
struct HashPass<'a> {
    tree: &'a Tree,
    options: KeyOptions,
    /// Which attributes count.
    wanted: fn(&[u8]) -> bool,
    cache: Option<&'a StatCache>,
    cancel: &'a CancelToken,
}

impl HashPass<'_> {
    fn run(&self, scan: &Scan) -> Result<Vec<Vec<Option<Leaf>>>, TreeError> {
        let results: Result<Vec<_>, TreeError> = chunks(scan)
            .into_par_iter()
            .map_init(Buffer::default, |buffer, chunk| {
                let leaves = self.chunk(&scan.dirs[chunk.dir], &chunk, buffer)?;
                Ok((chunk, leaves))
            })
            .collect();
        Ok(gather(scan, results?))
    }

    fn chunk(&self, dir: &Dir, chunk: &Chunk, buffer: &mut Buffer) -> Result<Vec<Option<Leaf>>, TreeError> {
        self.cancel.check()?;
        let records = self.cache.map(|cache| cache.records_of(dir.entry.path()));
        // Opened when the first file of it is not remembered.
        let mut open: Option<OpenDir<'_>> = None;
        let mut leaves = Vec::with_capacity(chunk.children.len());
        for child in &dir.children[chunk.children.clone()] {
            if child.dir.is_some() || child.entry.kind() == Kind::Socket {
                leaves.push(None);
                continue;
            }
            if let Some(leaf) = records.as_ref().and_then(|records| self.remembered(records, child)) {
                leaves.push(Some(leaf));
                continue;
            }
            let open = match &open {
                Some(open) => open,
                None => open.insert(self.tree.open_dir(&dir.entry)?),
            };
            let record = records.as_ref().and_then(|records| find(records, child));
            leaves.push(Some(self.leaf(open.holder(&child.entry), child, record, buffer)?));
        }
        Ok(leaves)
    }

    /// The leaf of a file that need not be opened at all.
    fn remembered(&self, records: &DirRecords<'_>, child: &Child) -> Option<Leaf> {
        let record = find(records, child)?;
        if self.options.xattrs && record.xattrs != XattrState::None {
            return None;
        }
        let key = leaf_key(self.options, child.entry.stat(), &[], Content::File(&record.hash));
        Some(Leaf { key, record: Some(record), remembered: true })
    }

    fn leaf(
        &self,
        holder: &RootDir,
        child: &Child,
        known: Option<Record>,
        buffer: &mut Buffer,
    ) -> Result<Leaf, TreeError> {
        let entry = &child.entry;
        let by_name = Target::Name(holder, entry.name());
        match entry.kind() {
            Kind::File => self.file_leaf(holder, child, known, buffer),
            Kind::Symlink => {
                let target = holder.read_link(entry.name())?;
                let xattrs = self.xattrs(holder, entry.name(), by_name)?;
                let key = leaf_key(self.options, entry.stat(), &xattrs, Content::Symlink(&target));
                Ok(Leaf { key, record: None, remembered: false })
            }
            _ => {
                let xattrs = self.xattrs(holder, entry.name(), by_name)?;
                let key = leaf_key(self.options, entry.stat(), &xattrs, Content::Node);
                Ok(Leaf { key, record: None, remembered: false })
            }
        }
    }

    fn file_leaf(
        &self,
        holder: &RootDir,
        child: &Child,
        known: Option<Record>,
        buffer: &mut Buffer,
    ) -> Result<Leaf, TreeError> {
        let name = child.entry.name();
        let (stat, hash, xattrs) = match known {
            Some(record) => {
                let xattrs = self.xattrs(holder, name, Target::Name(holder, name))?;
                (*child.entry.stat(), record.hash, xattrs)
            }
            None => {
                let (stat, hash, file) = hash_file(holder, &child.entry, buffer)?;
                (stat, hash, self.xattrs(holder, name, Target::Open(file.as_fd()))?)
            }
        };
        let key = leaf_key(self.options, &stat, &xattrs, Content::File(&hash));
        let record = Record::new(&stat, xattr_state(self.options, &xattrs), hash);
        Ok(Leaf { key, record: Some(record), remembered: known == Some(record) })
    }

    fn xattrs(&self, holder: &RootDir, name: &OsStr, target: Target<'_>) -> Result<Vec<Xattr>, TreeError> {
        if !self.options.xattrs {
            return Ok(Vec::new());
        }
        Ok(xattr::read_all(target, &holder.shown(name), self.wanted)?)
    }
}

fn find(records: &DirRecords<'_>, child: &Child) -> Option<Record> {
    records.find(child.entry.name(), child.entry.stat())
}

/// What a record says about attributes that were read, or not, under these options.
pub(crate) fn xattr_state(options: KeyOptions, xattrs: &[Xattr]) -> XattrState {
    match (options.xattrs, xattrs) {
        (false, _) => XattrState::Unknown,
        (true, []) => XattrState::None,
        (true, _) => XattrState::Some,
    }
}

/// Notes in a cache what a pass over a scan learnt.
pub(crate) fn note_in_cache(cache: &StatCache, scan: &Scan, leaves: &[Vec<Option<Leaf>>]) {
    for (dir, leaves) in scan.dirs.iter().zip(leaves) {
        let files = || leaves.iter().flatten().filter(|leaf| leaf.record.is_some());
        let unchanged = files().all(|leaf| leaf.remembered)
            && (!dir.complete || files().count() == cache.records_of(dir.entry.path()).len());
        let records = (!unchanged).then(|| {
            let pairs = dir.children.iter().zip(leaves);
            let known = pairs.filter_map(|(child, leaf)| Some((child, leaf.as_ref()?.record?)));
            known.map(|(child, record)| (child.entry.name().to_owned(), record)).collect()
        });
        cache.visit(dir.entry.path(), records, dir.complete);
    }
}

#[cfg(test)]
mod tests;
