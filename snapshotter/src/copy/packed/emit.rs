//! Writes the archive of a copy, digests it, and notes where in it each file lies.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;

use base::CancelToken;
use sys::stat::{self, device_numbers};

use super::super::{CopyStats, Job};
use super::digesting::Digesting;
use super::known::Known;
use super::load::{Content, Found, Loaded, Round, State};
use super::plan::{Plan, ROOT, Step};
use super::sink::{Finished, Sink, archive_failed};
use super::{Packing, Place, Stop};
use crate::apply::packed::MAX_PATH;
use crate::batch::Batch;
use crate::content_hash::{Hash, update};
use crate::erofs::{self, NodeId};
use crate::merkle;
use crate::packed::bases::Base;
use crate::packed::pieces::Pieces;
use crate::scan::Child;
use crate::stat_cache::{Record, XattrState};
use crate::tar_entry::{BLOCK, Entry, Kind, Mtime, Xattr};
use crate::tar_write::{TarWriteError, Writer, headers};
use crate::writer::Attributes;

/// A directory on the way down.
struct Frame {
    dir: usize,
    path: Vec<u8>,
    /// Where it is in the index, once it is part of the layer.
    node: Option<NodeId>,
}

/// What was written.
pub(super) struct Emitted<'a> {
    pub(super) stats: CopyStats,
    pub(super) known: Known<'a>,
    pub(super) diff_id: Digesting,
    pub(super) pieces: Pieces,
    pub(super) contents: Vec<u8>,
    pub(super) tree: erofs::Tree,
}

pub(super) struct Emitter<'a> {
    job: &'a Job<'a>,
    batches: &'a [Batch],
    plan: &'a Plan<'a>,
    archive: Writer<Sink<'a>>,
    tree: erofs::Tree,
    steps: std::slice::Iter<'a, Step<'a>>,
    frames: Vec<Frame>,
    /// Where files with several names are: by the name that they are known by.
    written: HashMap<Place, (Entry, NodeId)>,
    known: Known<'a>,
    stats: CopyStats,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(
        job: &'a Job<'a>,
        batches: &'a [Batch],
        plan: &'a Plan<'a>,
        file: &'a File,
        base: Option<&'a Base>,
    ) -> Packing<Self> {
        let root = Frame { dir: ROOT, path: Vec::new(), node: Some(erofs::ROOT) };
        Ok(Self {
            job,
            batches,
            plan,
            archive: Writer::new(Sink::new(file, base)?),
            tree: erofs::Tree::new(in_index(&plan.dirs[ROOT].attributes)),
            steps: plan.steps.iter(),
            frames: vec![root],
            written: HashMap::new(),
            known: Known::new(job, batches),
            stats: CopyStats::default(),
        })
    }

    /// Writes files, which come in order. Gives the memory back that they were in.
    pub(super) fn files(&mut self, round: Round) -> Packing<Vec<u8>> {
        let Round { files, memory } = round;
        files.into_iter().try_for_each(|loaded| match self.next_file()? {
            Some((file, name)) if file == loaded.file => self.file(loaded, &memory, name),
            _ => Err(Stop::Unfit),
        })?;
        Ok(memory)
    }

    pub(super) fn finish(mut self) -> Packing<Emitted<'a>> {
        // Directories that come after the last file.
        while self.next_file()?.is_some() {}
        let sink = self.archive.finish().map_err(write_failed)?;
        let Finished { diff_id, pieces, contents } = sink.finish()?;
        Ok(Emitted { stats: self.stats, known: self.known, diff_id, pieces, contents, tree: self.tree })
    }

    /// Goes on to the next file: its number and name.
    fn next_file(&mut self) -> Packing<Option<(usize, &'a OsStr)>> {
        while let Some(step) = self.steps.next() {
            match step {
                Step::File(file, name) => return Ok(Some((*file, name))),
                Step::Leave => drop(self.frames.pop()),
                Step::Enter(dir, name) => {
                    let path = self.path_of(name)?;
                    self.frames.push(Frame { dir: *dir, path, node: None });
                    if self.plan.dirs[*dir].differs {
                        self.announce()?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// The path of a name in the directory that was entered last.
    fn path_of(&self, name: &OsStr) -> Packing<Vec<u8>> {
        let mut path = self.frames.last().map_or_else(Vec::new, |frame| frame.path.clone());
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        if path.len() > MAX_PATH { Err(Stop::Unfit) } else { Ok(path) }
    }

    /// Writes the directories on the way that are not part of the layer yet. Answers the last one.
    fn announce(&mut self) -> Packing<NodeId> {
        let mut holder = erofs::ROOT;
        for frame in &mut self.frames {
            holder = match frame.node {
                Some(node) => node,
                None => {
                    let attributes = &self.plan.dirs[frame.dir].attributes;
                    let entry = entry_of(Kind::Directory, &frame.path, attributes);
                    bare(&mut self.archive, &entry)?;
                    let empty = erofs::Content::Directory(Default::default());
                    let node = self.tree.add(empty, in_index(attributes))?;
                    self.tree.insert(holder, last(&frame.path), node)?;
                    frame.node = Some(node);
                    node
                }
            };
        }
        Ok(holder)
    }

    /// Writes a file; short ones are in `memory`.
    fn file(&mut self, loaded: Loaded, memory: &[u8], name: &OsStr) -> Packing<()> {
        let Loaded { file, shared, state } = loaded;
        let path = self.path_of(name)?;
        match (state, shared) {
            (State::Found(found), _) if found.is_same => {
                let mut found = *found;
                self.count(&found);
                self.hash_what_is_left(&mut found)?;
                self.note(shared.unwrap_or(self.plan.files[file].place), &found);
                Ok(())
            }
            (State::Found(found), _) => self.first_name(file, shared, (*found, memory), path),
            (State::Held(at, known), _) => self.held(file, path, at, known),
            (State::Again, shared) => self.later_name(shared, path),
        }
    }

    /// Writes a file by the first of its names.
    fn first_name(
        &mut self,
        file: usize,
        shared: Option<Place>,
        (mut found, memory): (Found, &[u8]),
        path: Vec<u8>,
    ) -> Packing<()> {
        let holder = self.announce()?;
        let kind = Kind::of(found.stat.kind).ok_or(Stop::Unfit)?;
        let mut entry = entry_of(kind, &path, &found.attributes);
        let (major, minor) = device_numbers(found.stat.rdev);
        let content = match &mut found.content {
            Content::Bytes(range) => {
                let bytes = memory.get(range.clone()).ok_or(Stop::Unfit)?;
                entry.size = bytes.len() as u64;
                match found.hash {
                    _ if bytes.is_empty() => self.bare(&entry)?,
                    hash => {
                        let before = self.archive.get_ref().position();
                        self.archive.append_bytes(&entry, bytes).map_err(write_failed)?;
                        self.note_content(before, hash, entry.size);
                    }
                }
                self.in_archive(entry.size)
            }
            Content::File(source) => {
                entry.size = found.stat.size;
                let hasher = Some(blake3::Hasher::new());
                let mut watched = Watched { file: source, hasher, cancel: self.job.cancel };
                let before = self.archive.get_ref().position();
                let appended = self.archive.append(&entry, &mut watched);
                let hash = watched.hasher.map(|hasher| hasher.finalize().into());
                self.job.cancel.check()?;
                appended.map_err(write_failed)?;
                found.hash = hash;
                found.known = found.known.filter(|record| Some(record.hash) == hash);
                self.check_unchanged(file, &found)?;
                self.note_content(before, found.hash, entry.size);
                self.in_archive(entry.size)
            }
            Content::Link(target) => {
                entry.link = target.as_bytes().to_vec();
                self.bare(&entry)?;
                erofs::Content::Symlink(entry.link.clone())
            }
            Content::Node => {
                if kind != Kind::Fifo {
                    entry.device = (major, minor);
                }
                self.bare(&entry)?;
                match kind {
                    Kind::CharDevice => erofs::Content::CharDevice(major, minor),
                    Kind::BlockDevice => erofs::Content::BlockDevice(major, minor),
                    _ => erofs::Content::Fifo,
                }
            }
        };
        let node = self.tree.add(content, in_index(&found.attributes))?;
        self.tree.insert(holder, last(&path), node)?;
        self.count(&found);
        self.note(shared.unwrap_or(self.plan.files[file].place), &found);
        if let Some(shared) = shared {
            self.written.insert(shared, (entry, node));
        }
        Ok(())
    }

    /// Writes a file whose content another layer has in the record `at`.
    fn held(&mut self, file: usize, path: Vec<u8>, at: u32, known: Record) -> Packing<()> {
        let holder = self.announce()?;
        let place = self.plan.files[file].place;
        let stat = self.child(place).entry.stat();
        let attributes = self.job.target_attributes(stat, Vec::new());
        let mut entry = entry_of(Kind::File, &path, &attributes);
        entry.size = stat.size;
        let headers = headers(&entry).map_err(write_failed)?;
        self.archive.get_mut().shared(&headers, at)?;
        let node = self.tree.add(self.in_archive(stat.size), in_index(&attributes))?;
        self.tree.insert(holder, last(&path), node)?;
        self.stats.files += 1;
        self.stats.bytes += stat.size;
        self.known.is_remembered(place, stat, known);
        Ok(())
    }

    /// Writes another name of a file that was written.
    fn later_name(&mut self, shared: Option<Place>, path: Vec<u8>) -> Packing<()> {
        let holder = self.announce()?;
        let first = shared.and_then(|shared| self.written.get(&shared));
        let (first, node) = first.ok_or(Stop::Unfit)?;
        let link = first.hard_link(path);
        bare(&mut self.archive, &link)?;
        self.tree.insert(holder, last(&link.path), *node)?;
        self.stats.others += 1;
        Ok(())
    }

    /// Adds an entry without content.
    fn bare(&mut self, entry: &Entry) -> Packing<()> {
        bare(&mut self.archive, entry)
    }

    /// Notes the content of the entry that was written last, which began there.
    fn note_content(&mut self, before: u64, hash: Option<Hash>, size: u64) {
        let sink = self.archive.get_mut();
        if let Some(hash) = hash {
            sink.note(hash, sink.position() - before, size);
        }
    }

    /// Where in the archive the content is that was added last.
    fn in_archive(&self, size: u64) -> erofs::Content {
        let end = self.archive.get_ref().position();
        let offset = end - size.next_multiple_of(BLOCK as u64);
        erofs::Content::File { size, offset }
    }

    /// A file that changes while it is read is for the usual way.
    fn check_unchanged(&self, file: usize, found: &Found) -> Packing<()> {
        let Content::File(source) = &found.content else { return Ok(()) };
        let entry = &self.child(self.plan.files[file].place).entry;
        let after = sys::rootdir::stat_of(source, entry.path())?;
        if found.stat.is_unchanged(&after) { Ok(()) } else { Err(Stop::Unfit) }
    }

    /// Finds the hash of a large file that the layer does not say: what is remembered of it, or by reading it.
    fn hash_what_is_left(&self, found: &mut Found) -> Packing<()> {
        let Content::File(source) = &mut found.content else { return Ok(()) };
        found.hash = found.known.map(|known| known.hash);
        if found.hash.is_none() && self.job.wants_hash() {
            let hasher = Some(blake3::Hasher::new());
            let mut watched = Watched { file: source, hasher, cancel: self.job.cancel };
            let read = io::copy(&mut watched, &mut io::sink());
            self.job.cancel.check()?;
            read.map_err(|_| Stop::Unfit)?;
            found.hash = watched.hasher.map(|hasher| hasher.finalize().into());
        }
        Ok(())
    }

    fn child(&self, place: Place) -> &'a Child {
        &self.batches[place.batch].scan.dirs[place.dir].children[place.child]
    }

    fn count(&mut self, found: &Found) {
        if found.stat.kind == stat::Kind::File {
            self.stats.files += 1;
            self.stats.bytes += found.stat.size;
        } else {
            self.stats.others += 1;
        }
    }

    /// Keeps what became known of a file.
    fn note(&mut self, place: Place, found: &Found) {
        let Found { stat, xattrs, content, known, hash, .. } = found;
        let leaf = match content {
            Content::Bytes(_) | Content::File(_)
                if let Some(record) =
                    known.filter(|known| known.xattrs == XattrState::None && Some(known.hash) == *hash) =>
            {
                return self.known.is_remembered(place, stat, record);
            }
            Content::Bytes(_) | Content::File(_) => self.job.file_leaf(*known, stat, xattrs, *hash),
            Content::Link(target) => self.job.other_leaf(stat, xattrs, merkle::Content::Symlink(target)),
            Content::Node => self.job.other_leaf(stat, xattrs, merkle::Content::Node),
        };
        self.known.note(place, leaf);
    }
}

/// What an archive says of something with these attributes: times in whole seconds.
fn entry_of(kind: Kind, path: &[u8], attributes: &Attributes) -> Entry {
    let mut entry = Entry::new(kind, path);
    (entry.mode, entry.uid, entry.gid) = (attributes.mode, attributes.uid, attributes.gid);
    entry.mtime = Mtime { seconds: attributes.mtime.map_or(0, |time| time.seconds), nanos: 0 };
    entry.xattrs = xattrs_of(attributes);
    entry
}

/// What the index says of it.
fn in_index(attributes: &Attributes) -> erofs::Attributes {
    let Attributes { mode, uid, gid, mtime, .. } = attributes;
    let mtime =
        mtime.map_or_else(Mtime::default, |time| Mtime { seconds: time.seconds, nanos: time.nanoseconds });
    erofs::Attributes { mode: *mode, uid: *uid, gid: *gid, mtime, xattrs: xattrs_of(attributes) }
}

fn xattrs_of(attributes: &Attributes) -> Vec<Xattr> {
    attributes.xattrs.iter().cloned().map(Xattr::from).collect()
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// What cannot be read, or cannot be said in an archive, is for the usual way; a disk that is full is not.
fn write_failed(error: TarWriteError) -> Stop {
    match error {
        TarWriteError::Write { source, .. } | TarWriteError::End { source } => archive_failed(source),
        _ => Stop::Unfit,
    }
}

/// Adds an entry without content.
fn bare(archive: &mut Writer<Sink<'_>>, entry: &Entry) -> Packing<()> {
    let headers = headers(entry).map_err(write_failed)?;
    archive.get_mut().bare(&headers)
}

/// A large file that stops being read when the caller asks to stop, and is hashed on the way.
struct Watched<'a> {
    file: &'a mut File,
    hasher: Option<blake3::Hasher>,
    cancel: &'a CancelToken,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(io::Error::other)?;
        let count = self.file.read(into)?;
        if let Some(hasher) = &mut self.hasher {
            update(hasher, &into[..count]);
        }
        Ok(count)
    }
}
