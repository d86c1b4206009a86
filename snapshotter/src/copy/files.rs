//! The files of a copy: read once, hashed on the way unless the hash is remembered, written once.
//!
//! This is the path that decides how long a COPY takes. A small file costs an open, a read, a status, a
//! close on the source; an exclusive create, a write, a time and a close on the target; more only where
//! owner, mode or attributes ask for it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use sys::copy::{Pair, clone_content, copy_content};
use sys::path_error::PathError;
use sys::rootdir::{self, RootDir};
use sys::stat::{Kind, Stat};
use sys::xattr::{self, Target, Xattr};

use super::dirs::TargetDir;

use super::{CopyError, Job, Result};
use crate::content_hash::{ATTEMPTS, Buffer, Hash, SMALL, read_pieces, stat_now, update};
use crate::content_key::{Chunk, Leaf, chunks, xattr_state};
use crate::hard_links::HardLinks;
use crate::merkle::{Content, KeyOptions, Modes, leaf_key};
use crate::scan::{Child, Scan};
use crate::stat_cache::{Record, XattrState};
use crate::tree::{OpenDir, TreeError, is_content_xattr};
use crate::writer::{Attributes, WriteError, clear};

/// Remembers that source and target cannot share blocks, so that it is tried once and not per file.
#[derive(Default)]
pub(super) struct CloneSupport {
    refused: AtomicBool,
}

impl CloneSupport {
    fn try_clone(&self, pair: Pair<'_>) -> std::result::Result<bool, PathError> {
        if self.refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let cloned = clone_content(pair)?;
        if !cloned {
            self.refused.store(true, Ordering::Relaxed);
        }
        Ok(cloned)
    }
}

/// What one task copied.
pub(super) struct Copied {
    pub(super) chunk: Chunk,
    pub(super) leaves: Vec<Option<Leaf>>,
    pub(super) files: u64,
    pub(super) others: u64,
    pub(super) bytes: u64,
}

/// The directories that a task reads from and writes to.
pub(super) struct Between<'a> {
    source: OpenDir<'a>,
    pub(super) target: RootDir,
    /// The target as the image shows it, if it was there before the copy.
    merged: Option<OpenDir<'a>>,
    /// New files do not get our group here: the directory has the set-group-id bit.
    passes_group_on: bool,
}

impl Job<'_> {
    /// Copies everything but directories and later names of files.
    pub(super) fn copy_files(
        &self,
        scan: &Scan,
        targets: &[TargetDir],
        links: &HardLinks,
        renamed: Option<&OsStr>,
    ) -> Result<Vec<Copied>> {
        chunks(scan)
            .into_par_iter()
            .map_init(Buffer::default, |buffer, chunk| {
                self.cancel.check()?;
                let between = self.open_both(scan, &targets[chunk.dir], chunk.dir)?;
                self.copy_chunk(scan, chunk, &between, links, renamed, buffer)
            })
            .collect()
    }

    pub(super) fn open_both<'s>(
        &'s self,
        scan: &Scan,
        target: &TargetDir,
        dir: usize,
    ) -> Result<Between<'s>> {
        let source = self.source.open_dir(&scan.dirs[dir].entry)?;
        let real = target.open(self)?;
        let merged = match target.existing() {
            Some(entry) => Some(self.writer.merged.open_dir(entry)?),
            None => None,
        };
        // A directory that the copy made may have inherited the bit until it is finished.
        let passes_group_on = rootdir::stat_of(&real, real.path())?.mode & 0o2000 != 0;
        Ok(Between { source, target: real, merged, passes_group_on })
    }

    fn copy_chunk(
        &self,
        scan: &Scan,
        chunk: Chunk,
        between: &Between<'_>,
        links: &HardLinks,
        renamed: Option<&OsStr>,
        buffer: &mut Buffer,
    ) -> Result<Copied> {
        let children = &scan.dirs[chunk.dir].children;
        let mut copied = Copied { leaves: Vec::new(), files: 0, others: 0, bytes: 0, chunk };
        for index in copied.chunk.children.clone() {
            let child = &children[index];
            let kind = child.entry.kind();
            let is_later = links.is_later(copied.chunk.dir, index);
            if child.dir.is_some() || kind == Kind::Socket || is_later {
                copied.leaves.push(None);
                continue;
            }
            let name = renamed.unwrap_or_else(|| child.name());
            between.make_room(name, self)?;
            if kind == Kind::File {
                let (leaf, size) = self.copy_file(between, child, name, buffer)?;
                copied.files += 1;
                copied.bytes += size;
                copied.leaves.push(leaf);
            } else {
                copied.others += 1;
                copied.leaves.push(self.copy_other(between, child, name)?);
            }
        }
        Ok(copied)
    }

    /// Copies a regular file; again if it changed meanwhile.
    fn copy_file(
        &self,
        between: &Between<'_>,
        child: &Child,
        name: &OsStr,
        buffer: &mut Buffer,
    ) -> Result<(Option<Leaf>, u64)> {
        let holder = between.source.holder(&child.entry);
        let mut before = *child.entry.stat();
        for _ in 0..ATTEMPTS {
            let mut source = holder.open_file(child.entry.name()).map_err(TreeError::from)?;
            let attributes = self.target_attributes(&before, Vec::new());
            let target = between.target.create_file(name, attributes.mode & 0o777)?;
            let paths = Paths {
                source: &|| holder.shown(child.entry.name()),
                target: &|| between.target.shown(name),
            };
            let known = self.remembered(child, &before);
            let hash = known.map(|record| record.hash);
            let hash = self.transfer(&mut source, &target, &paths, &before, hash, buffer)?;
            let after = stat_now(&source, holder, &child.entry)?;
            if before.is_unchanged(&after) {
                let xattrs = self.file_xattrs(holder, child, &source, known)?;
                let leaf = self.file_leaf(known, &after, &xattrs, hash);
                let attributes = self.target_attributes(&after, xattrs);
                self.finish(between, &target, name, &attributes)?;
                return Ok((leaf, after.size));
            }
            between.target.remove_file(name)?;
            before = after;
        }
        Err(TreeError::Unstable(child.entry.path().to_owned()).into())
    }

    /// Moves the bytes. Answers their hash, `known` or computed, if a key or a cache wants it.
    fn transfer(
        &self,
        source: &mut File,
        target: &File,
        paths: &Paths<'_>,
        stat: &Stat,
        known: Option<Hash>,
        buffer: &mut Buffer,
    ) -> Result<Option<Hash>> {
        let wants_hash = known.is_none() && self.wants_hash();
        let is_placed = stat.size > SMALL && self.place_content(source, target, paths, stat, wants_hash)?;
        if is_placed && !wants_hash {
            return Ok(known);
        }
        let mut hasher = wants_hash.then(blake3::Hasher::new);
        read_pieces::<CopyError>(source, paths.source, stat.size, buffer, |bytes| {
            if let Some(hasher) = &mut hasher {
                update(hasher, bytes);
            }
            let mut target = target;
            if is_placed || bytes.is_empty() {
                return Ok(());
            }
            let written = target.write_all(bytes);
            written.map_err(|error| PathError::new("write", (paths.target)(), error).into())
        })?;
        Ok(known.or_else(|| hasher.map(|hasher| hasher.finalize().into())))
    }

    /// Lets the kernel put a large file in place where that keeps holes or saves a copy.
    fn place_content(
        &self,
        source: &File,
        target: &File,
        paths: &Paths<'_>,
        stat: &Stat,
        wants_hash: bool,
    ) -> Result<bool> {
        let (source_path, target_path) = ((paths.source)(), (paths.target)());
        let pair = Pair { source, source_path: &source_path, target, target_path: &target_path };
        if self.clone.try_clone(pair)? {
            return Ok(true);
        }
        if !stat.is_sparse() && wants_hash {
            return Ok(false);
        }
        copy_content(pair, stat.size)?;
        // The search for holes moved the position.
        use std::io::Seek as _;
        let mut source = source;
        source.rewind().map_err(|error| TreeError::from(PathError::new("read", &source_path, error)))?;
        Ok(true)
    }

    /// Gives a new file its attributes with as few calls as the case allows.
    fn finish(
        &self,
        between: &Between<'_>,
        file: &File,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<()> {
        let is_ours = (attributes.uid, attributes.gid) == self.writer.own_ids && !between.passes_group_on;
        let is_plain = attributes.mode & (0o7000 | self.writer.umask) == 0;
        if !is_ours || !is_plain || !attributes.xattrs.is_empty() {
            return Ok(self.writer.finish_file(file, &between.target, name, attributes)?);
        }
        let Some(mtime) = attributes.mtime else { return Ok(()) };
        rootdir::set_times_of(file, std::path::Path::new(name), mtime)
            .map_err(|error| PathError { path: between.target.shown(name), ..error }.into())
    }

    /// Copies a link, a device or a pipe.
    fn copy_other(&self, between: &Between<'_>, child: &Child, name: &OsStr) -> Result<Option<Leaf>> {
        let entry = &child.entry;
        let holder = between.source.holder(entry);
        let xattrs = self.read_xattrs(holder, child, Target::Name(holder, entry.name()))?;
        let attributes = self.target_attributes(entry.stat(), xattrs.clone());
        let leaf = if entry.kind() == Kind::Symlink {
            let target = holder.read_link(entry.name()).map_err(TreeError::from)?;
            between.target.create_symlink(name, &target)?;
            self.writer.finish_named(&between.target, name, Kind::Symlink, &attributes)?;
            self.other_leaf(entry.stat(), &xattrs, Content::Symlink(&target))
        } else {
            let rdev = entry.stat().rdev;
            self.writer.create_node(&between.target, name, entry.kind(), rdev, &attributes)?;
            self.other_leaf(entry.stat(), &xattrs, Content::Node)
        };
        Ok(leaf)
    }

    /// What becomes known of a link, a device or a pipe, if a key is wanted.
    pub(super) fn other_leaf(&self, stat: &Stat, xattrs: &[Xattr], content: Content<'_>) -> Option<Leaf> {
        let key = leaf_key(self.options.key?, stat, xattrs, content);
        Some(Leaf { key, record: None, remembered: false })
    }

    /// Whether the content of files that nobody remembers is to be hashed.
    pub(super) fn wants_hash(&self) -> bool {
        self.options.key.is_some() || self.options.stat_cache.is_some()
    }

    pub(super) fn read_xattrs(
        &self,
        holder: &RootDir,
        child: &Child,
        target: Target<'_>,
    ) -> Result<Vec<Xattr>> {
        if !self.options.xattrs && !self.options.key.is_some_and(|key| key.xattrs) {
            return Ok(Vec::new());
        }
        let shown = holder.shown(child.entry.name());
        Ok(xattr::read_all(target, &shown, is_content_xattr).map_err(TreeError::from)?)
    }

    /// The attributes of an open file. A change of them changes its status, so they are not looked for where it is known that
    /// there are none.
    pub(super) fn file_xattrs(
        &self,
        holder: &RootDir,
        child: &Child,
        file: &File,
        known: Option<Record>,
    ) -> Result<Vec<Xattr>> {
        match known.is_some_and(|record| record.xattrs == XattrState::None) {
            true => Ok(Vec::new()),
            false => self.read_xattrs(holder, child, Target::Open(file.as_fd())),
        }
    }

    /// What becomes known of a file of which this was `known`.
    pub(super) fn file_leaf(
        &self,
        known: Option<Record>,
        stat: &Stat,
        xattrs: &[Xattr],
        hash: Option<Hash>,
    ) -> Option<Leaf> {
        let hash = hash?;
        // Without a key, a leaf still carries the hash to the cache.
        let none = KeyOptions { owner: false, xattrs: false, modes: Modes::Own, itself: false };
        let options = self.options.key.unwrap_or(none);
        let key = leaf_key(options, stat, xattrs, Content::File(&hash));
        let record = Record::new(stat, xattr_state(options, xattrs), hash);
        Some(Leaf { key, record: Some(record), remembered: known == Some(record) })
    }

    pub(super) fn remembered(&self, child: &Child, stat: &Stat) -> Option<Record> {
        let dir = child.entry.path().parent()?;
        self.options.stat_cache?.records_of(dir).find(child.entry.name(), stat)
    }
}

/// The paths of a file and its copy, made only for messages.
struct Paths<'a> {
    source: &'a dyn Fn() -> PathBuf,
    target: &'a dyn Fn() -> PathBuf,
}

impl Between<'_> {
    /// Removes what the layer has under this name. A directory stays and is an error.
    pub(super) fn make_room(&self, name: &OsStr, job: &Job<'_>) -> Result<()> {
        let Some(merged) = &self.merged else { return Ok(()) };
        if let Some(existing) = merged.child(name)?
            && existing.is_dir()
        {
            if !job.options.replace {
                return Err(WriteError::OverDirectory(existing.path().to_owned()).into());
            }
            job.writer.remove(existing.path())?;
        }
        if self.target.stat(name)?.is_some() {
            clear(&self.target, name)?;
        }
        Ok(())
    }
}
