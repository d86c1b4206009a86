//! Reads the files of a copy, many at a time and in the order of the layer. Large ones are only opened.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use sys::path_error::PathError;
use sys::rootdir::RootDir;
use sys::stat::{Kind, Stat};
use sys::xattr::{Target, Xattr};

use super::super::Job;
use super::held::Shared;
use super::plan::{Plan, PlannedFile, storable};
use super::{Packing, Place, Stop};
use crate::batch::Batch;
use crate::content_hash::{ATTEMPTS, Hash, SMALL, stat_now};
use crate::diff::same_content;
use crate::hard_links::HardLinks;
use crate::scan::Child;
use crate::stat_cache::{DirRecords, Record};
use crate::tree::{Entry, OpenDir, TreeError};
use crate::writer::Attributes;

/// How many files are read together, how many bytes, and from how many directories; and how many come with them that need not be read.
const FILES: usize = 512;
const HELD: usize = 1024;
const BYTES: u64 = 4 << 20;
const DIRECTORIES: usize = 64;

/// Files that were read together.
#[derive(Default)]
pub(super) struct Round {
    pub(super) files: Vec<Loaded>,
    /// What is in the short ones.
    pub(super) memory: Vec<u8>,
}

/// A file that was read, or opened.
pub(super) struct Loaded {
    /// Its number in the plan.
    pub(super) file: usize,
    /// Of files with several names, the one by which they are known.
    pub(super) shared: Option<Place>,
    pub(super) state: State,
}

pub(super) enum State {
    /// Another name of a file that came before.
    Again,
    /// A layer holds it already: the number of its record there, and what is remembered of the file.
    Held(u32, Record),
    Found(Box<Found>),
}

pub(super) struct Found {
    /// Its status while it was read.
    pub(super) stat: Stat,
    /// What its source has.
    pub(super) xattrs: Vec<Xattr>,
    /// What the copy looks like.
    pub(super) attributes: Attributes,
    pub(super) content: Content,
    /// What was remembered of it.
    pub(super) known: Option<Record>,
    /// The hash of its content, if it was read.
    pub(super) hash: Option<Hash>,
    /// Whether what is below is the same.
    pub(super) is_same: bool,
}

pub(super) enum Content {
    /// Where it is in the memory of the round.
    Bytes(Range<usize>),
    /// Of a large file, at its beginning.
    File(File),
    Link(OsString),
    /// A device or a pipe.
    Node,
}

/// A directory of the source.
struct Source<'a> {
    open: OpenDir<'a>,
    /// What is remembered of its files.
    records: Option<DirRecords<'a>>,
}

/// A file to read, and the directory it is in.
struct Task<'a> {
    file: usize,
    planned: &'a PlannedFile,
    child: &'a Child,
    dir: Arc<Source<'a>>,
    shared: Option<Place>,
    /// It came before by another name.
    again: bool,
}

impl Task<'_> {
    /// How much memory it takes to read the file: one byte more than it is expected to have shows that it has more.
    fn space(&self) -> usize {
        let stat = self.child.entry.stat();
        let is_read = !self.again && stat.kind == Kind::File && stat.size <= SMALL;
        usize::try_from(stat.size).ok().filter(|_| is_read).map_or(0, |size| size + 1)
    }
}

/// The part of a round's memory that one file has.
struct Space<'a> {
    start: usize,
    bytes: &'a mut [u8],
}

/// Files that come next.
pub(super) struct Next<'a> {
    /// Those to read.
    tasks: Vec<Task<'a>>,
    /// Those that need not be read, with the number of files that are before each.
    held: Vec<(usize, Loaded)>,
}

impl Next<'_> {
    /// Whether that is the end.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.held.is_empty()
    }

    /// Whether there is something to read.
    pub(super) fn takes_time(&self) -> bool {
        !self.tasks.is_empty()
    }
}

pub(super) struct Loader<'a> {
    job: &'a Job<'a>,
    batches: &'a [Batch],
    plan: &'a Plan<'a>,
    held: Option<&'a Shared>,
    order: std::vec::IntoIter<usize>,
    /// The names of files that have several, with the first ones.
    shared: HashMap<Place, Place>,
    seen: HashSet<Place>,
    /// The directory of the last file: numbers of its batch and itself.
    open: Option<((usize, usize), Arc<Source<'a>>)>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        job: &'a Job<'a>,
        batches: &'a [Batch],
        links: &[HardLinks],
        plan: &'a Plan<'a>,
        held: Option<&'a Shared>,
    ) -> Self {
        let mut shared = HashMap::new();
        for (batch, links) in links.iter().enumerate() {
            for (later, first) in links.pairs() {
                let place = |(dir, child)| Place { batch, dir, child };
                shared.insert(place(later), place(first));
                shared.insert(place(first), place(first));
            }
        }
        let order: Vec<usize> = plan.order().collect();
        Self { job, batches, plan, held, order: order.into_iter(), shared, seen: HashSet::new(), open: None }
    }

    /// The next files, which are not read yet; none at the end.
    pub(super) fn next(&mut self) -> Packing<Next<'a>> {
        let (mut tasks, mut held) = (Vec::new(), Vec::new());
        let (mut bytes, mut directories) = (0, 0);
        while tasks.len() < FILES && held.len() < HELD && bytes < BYTES && directories < DIRECTORIES {
            let Some(file) = self.order.next() else { break };
            if let Some((at, known)) = self.held.and_then(|held| held.files[file]) {
                held.push((tasks.len(), Loaded { file, shared: None, state: State::Held(at, known) }));
                continue;
            }
            let planned = &self.plan.files[file];
            let Place { batch, dir, child } = planned.place;
            let scanned = &self.batches[batch].scan.dirs[dir];
            let open = match &self.open {
                Some((place, open)) if *place == (batch, dir) => Arc::clone(open),
                _ => {
                    directories += 1;
                    let open = self.job.source.open_dir(&scanned.entry)?;
                    let cache = self.job.options.stat_cache;
                    let records = cache.map(|cache| cache.records_of(scanned.entry.path()));
                    let open = Arc::new(Source { open, records });
                    self.open = Some(((batch, dir), Arc::clone(&open)));
                    open
                }
            };
            let child = &scanned.children[child];
            bytes += child.entry.stat().size;
            let shared = self.shared.get(&planned.place).copied();
            let again = shared.is_some_and(|first| !self.seen.insert(first));
            tasks.push(Task { file, planned, child, dir: open, shared, again });
        }
        Ok(Next { tasks, held })
    }

    /// Reads files, into the memory of a round that is done.
    pub(super) fn read(&self, next: Next<'_>, mut memory: Vec<u8>) -> Packing<Round> {
        let Next { tasks, held } = next;
        if tasks.is_empty() {
            let files = held.into_iter().map(|(_, loaded)| loaded).collect();
            return Ok(Round { files, memory });
        }
        let length: usize = tasks.iter().map(Task::space).sum();
        if memory.len() < length {
            memory.resize(length, 0);
        }
        let (mut rest, mut start) = (memory.as_mut_slice(), 0);
        let mut with_space = Vec::with_capacity(tasks.len());
        for task in tasks {
            let (bytes, later) = rest.split_at_mut(task.space());
            let length = bytes.len();
            with_space.push((task, Space { start, bytes }));
            (rest, start) = (later, start + length);
        }
        let load = |(task, space): (Task<'_>, Space<'_>)| {
            let state = match task.again {
                true => State::Again,
                false => State::Found(Box::new(self.load(&task, space)?)),
            };
            Ok(Loaded { file: task.file, shared: task.shared, state })
        };
        let read: Packing<Vec<Loaded>> = with_space.into_par_iter().with_min_len(16).map(load).collect();
        Ok(Round { files: in_order(read?, held), memory })
    }

    fn load(&self, task: &Task<'_>, mut space: Space<'_>) -> Packing<Found> {
        let holder = task.dir.open.holder(&task.child.entry);
        let mut found = match task.child.entry.kind() {
            Kind::File => self.load_file(holder, task, &mut space)?,
            _ => self.load_other(holder, task.child)?,
        };
        storable(&found.attributes.xattrs)?;
        // Other names of a file have to find it in the layer.
        if let (Some(below), None) = (&task.planned.below, task.shared) {
            found.is_same = self.is_same(&mut found, space.bytes, below)?;
        }
        Ok(found)
    }

    /// Reads a regular file; again if it changed meanwhile.
    fn load_file(&self, holder: &RootDir, task: &Task<'_>, space: &mut Space<'_>) -> Packing<Found> {
        let (job, child, name) = (self.job, task.child, task.child.entry.name());
        let mut before = *child.entry.stat();
        for _ in 0..ATTEMPTS {
            let mut file = holder.open_file(name).map_err(TreeError::from)?;
            let mut bytes = 0..0;
            if before.size <= SMALL {
                // It has become longer: for the usual way.
                let space = usize::try_from(before.size).ok().and_then(|size| space.bytes.get_mut(..=size));
                let read = read_into(&mut file, space.ok_or(Stop::Unfit)?);
                let failed = |error| TreeError::from(PathError::new("read", holder.shown(name), error));
                bytes = 0..read.map_err(failed)?;
                // A status may be wrong about it: that of a file of `/proc` says that it is empty.
                if bytes.end as u64 > before.size {
                    return Err(Stop::Unfit);
                }
            }
            let after = stat_now(&file, holder, &child.entry)?;
            if before.is_unchanged(&after) {
                let known = task.dir.records.as_ref().and_then(|records| records.find(name, &after));
                let xattrs = job.file_xattrs(holder, child, &file, known)?;
                let is_read = after.size <= SMALL;
                // What others will share is what was read, whatever is remembered.
                let hash = is_read.then(|| *blake3::hash(&space.bytes[bytes.clone()]).as_bytes());
                let known = known.filter(|record| hash.is_none_or(|hash| hash == record.hash));
                let attributes = job.target_attributes(&after, xattrs.clone());
                let content = match is_read {
                    true => Content::Bytes(space.start..space.start + bytes.end),
                    false => Content::File(file),
                };
                return Ok(Found { stat: after, xattrs, attributes, content, known, hash, is_same: false });
            }
            before = after;
        }
        Err(TreeError::Unstable(child.entry.path().to_owned()).into())
    }

    fn load_other(&self, holder: &RootDir, child: &Child) -> Packing<Found> {
        let (entry, name) = (&child.entry, child.entry.name());
        let xattrs = self.job.read_xattrs(holder, child, Target::Name(holder, name))?;
        let mut attributes = self.job.target_attributes(entry.stat(), xattrs.clone());
        let content = match entry.kind() {
            Kind::Symlink => {
                // The kernel gives all of them this mode.
                attributes.mode = 0o777;
                Content::Link(holder.read_link(name).map_err(TreeError::from)?)
            }
            _ => Content::Node,
        };
        Ok(Found {
            stat: *entry.stat(),
            xattrs,
            attributes,
            content,
            known: None,
            hash: None,
            is_same: false,
        })
    }

    /// Whether what is below is what the copy would be, so that the layer need not say it: by the rule of
    /// [`write_layer`](crate::diff::write_layer).
    fn is_same(&self, found: &mut Found, read: &[u8], below: &Entry) -> Packing<bool> {
        let Found { stat, attributes, content, .. } = found;
        let merged = &self.job.writer.merged;
        let before = below.stat();
        let looks = |mode, uid, gid, mtime| (mode, uid, gid, Some(mtime));
        let is_alike = before.kind == stat.kind
            && before.links == 1
            && (attributes.mode, attributes.uid, attributes.gid, attributes.mtime)
                == looks(before.mode, before.uid, before.gid, before.mtime)
            && merged.xattrs(below)? == attributes.xattrs;
        if !is_alike {
            return Ok(false);
        }
        match content {
            Content::Link(target) => Ok(merged.read_link(below)? == *target),
            Content::Node => Ok(before.rdev == stat.rdev),
            Content::Bytes(_) | Content::File(_) if before.size != stat.size => Ok(false),
            Content::Bytes(bytes) => {
                let mut other = vec![0; bytes.len() + 1];
                let failed = |error| TreeError::from(PathError::new("read", merged.shown(below), error));
                let length = read_into(&mut merged.open(below)?, &mut other).map_err(failed)?;
                Ok(read.get(..bytes.len()) == Some(&other[..length]))
            }
            Content::File(file) => {
                let mut other = merged.open(below)?;
                let shown = merged.shown(below);
                let same = same_content((file, &shown), (&mut other, &shown)).map_err(TreeError::from)?;
                file.rewind().map_err(|error| TreeError::from(PathError::new("read", shown, error)))?;
                Ok(same)
            }
        }
    }
}

/// All in their order: `held` has the number of those that were read before each.
fn in_order(read: Vec<Loaded>, held: Vec<(usize, Loaded)>) -> Vec<Loaded> {
    if held.is_empty() {
        return read;
    }
    let mut all = Vec::with_capacity(read.len() + held.len());
    let (mut read, mut taken) = (read.into_iter(), 0);
    for (before, loaded) in held {
        all.extend(read.by_ref().take(before - taken));
        taken = before;
        all.push(loaded);
    }
    all.extend(read);
    all
}

/// Reads a file to its end, or until there is no more space than for one byte. Answers how much it is.
fn read_into(file: &mut File, space: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    loop {
        let count = match file.read(&mut space[length..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        length += count;
        if count == 0 || length + 1 >= space.len() {
            return Ok(length);
        }
    }
}
