//! What a copy makes of the image: which files and directories there are in the layer, what is below them, and in which order
//! a layer has them. Reads the merged view, and writes nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use sys::stat::{Kind, Stat};
use sys::xattr::Xattr;

use super::super::{Job, decide, parent_attributes};
use super::{Packing, Place, Stop, there};
use crate::apply::whiteout::PREFIX;
use crate::batch::Batch;
use crate::content_hash::SMALL;
use crate::scan::Child;
use crate::tree::{Entry, Follow, OpenDir, is_image_xattr};
use crate::writer::Attributes;

/// The number of the root directory.
pub(super) const ROOT: usize = 0;

/// A directory on the way to what is copied, or copied itself.
pub(super) struct PlannedDir<'a> {
    /// What it looks like afterwards. It has a time.
    pub(super) attributes: Attributes,
    /// What is in its place before, and what that looks like; `None` for one that the copy makes.
    below: Option<(Entry, Attributes)>,
    /// Whether it looks different afterwards, so that the layer has it whatever is in it.
    pub(super) differs: bool,
    names: BTreeMap<Cow<'a, OsStr>, Planned>,
}

/// A file, a link or a device.
pub(super) struct PlannedFile {
    pub(super) place: Place,
    /// What is in its place before, and is no directory.
    pub(super) below: Option<Entry>,
}

#[derive(Clone, Copy)]
enum Planned {
    Dir(usize),
    File(usize),
}

/// A step through the layer, in its order.
pub(super) enum Step<'a> {
    /// Into a directory of this name.
    Enter(usize, Cow<'a, OsStr>),
    File(usize, Cow<'a, OsStr>),
    /// Out of the directory that was entered last.
    Leave,
}

/// What a copy makes of the image.
pub(super) struct Plan<'a> {
    pub(super) dirs: Vec<PlannedDir<'a>>,
    pub(super) files: Vec<PlannedFile>,
    pub(super) steps: Vec<Step<'a>>,
    /// How many directories of the sources are new in the image.
    pub(super) new_dirs: u64,
}

impl<'a> Plan<'a> {
    /// Plans a copy.
    pub(super) fn make(job: &'a Job<'_>, batches: &'a [Batch]) -> Packing<Self> {
        let (destination, renamed) = decide(job.writer.tree(), batches, &job.options)?;
        let renamed = renamed.map(Cow::Owned);
        let mut planner = Planner { job, dirs: Vec::new(), files: Vec::new(), new_dirs: 0 };
        let root = planner.existing(job.writer.merged.root()?)?;
        debug_assert_eq!(root, ROOT);
        let destination = planner.destination(&destination)?;
        for (number, batch) in batches.iter().enumerate() {
            planner.batch(number, batch, destination, renamed.as_ref())?;
        }
        for dir in &mut planner.dirs {
            let Some((_, before)) = &dir.below else { continue };
            let looks = |of: &Attributes| (of.mode, of.uid, of.gid);
            dir.differs = looks(before) != looks(&dir.attributes) || before.xattrs != dir.attributes.xattrs;
        }
        let steps = planner.steps();
        let Planner { dirs, files, new_dirs, .. } = planner;
        Ok(Self { dirs, files, steps, new_dirs })
    }

    /// The files in the order of the layer, by their numbers.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().filter_map(|step| match step {
            Step::File(file, _) => Some(*file),
            Step::Enter(..) | Step::Leave => None,
        })
    }
}

struct Planner<'a, 'b> {
    job: &'a Job<'b>,
    dirs: Vec<PlannedDir<'a>>,
    files: Vec<PlannedFile>,
    new_dirs: u64,
}

impl<'a> Planner<'a, '_> {
    /// A directory that is there, as it is.
    fn existing(&mut self, below: Entry) -> Packing<usize> {
        let attributes = Attributes::of(below.stat(), self.job.writer.merged.xattrs(&below)?);
        self.add(attributes.clone(), Some((below, attributes)))
    }

    fn add(&mut self, attributes: Attributes, below: Option<(Entry, Attributes)>) -> Packing<usize> {
        storable(&attributes.xattrs)?;
        let differs = below.is_none();
        self.dirs.push(PlannedDir { attributes, below, differs, names: BTreeMap::new() });
        Ok(self.dirs.len() - 1)
    }

    /// The directory that is copied into, with those on the way.
    fn destination(&mut self, path: &Path) -> Packing<usize> {
        let merged = &self.job.writer.merged;
        let resolution = merged.resolve(path, Follow::Last)?;
        if !resolution.entry.is_dir() {
            return Err(Stop::Unfit);
        }
        let mut at = ROOT;
        let mut on_the_way = std::path::PathBuf::new();
        for name in resolution.entry.path() {
            on_the_way.push(name);
            let below = there(merged.lookup(&on_the_way, Follow::NoLast)?, &on_the_way)?;
            at = self.name(at, Cow::Owned(name.to_owned()), Some(below))?;
        }
        for name in &resolution.missing {
            self.touch(at);
            at = self.name(at, Cow::Owned(name.to_owned()), None)?;
            self.dirs[at].attributes = parent_attributes(&self.job.options);
            self.touch(at);
        }
        Ok(at)
    }

    /// A directory of this name in another one.
    fn name(&mut self, holder: usize, name: Cow<'a, OsStr>, below: Option<Entry>) -> Packing<usize> {
        check_name(&name)?;
        let dir = match below {
            Some(below) => self.existing(below)?,
            None => self.add(Attributes::new(0, 0, 0), None)?,
        };
        self.dirs[holder].names.insert(name, Planned::Dir(dir));
        Ok(dir)
    }

    /// Sets the time of a directory whose entries change.
    fn touch(&mut self, dir: usize) {
        self.dirs[dir].attributes.mtime = Some(self.job.writer.options.time.into());
    }

    /// Puts all that is in a batch where it goes.
    fn batch(
        &mut self,
        number: usize,
        batch: &'a Batch,
        destination: usize,
        renamed: Option<&Cow<'a, OsStr>>,
    ) -> Packing<()> {
        let scan = &batch.scan;
        // Parents come before what is in them.
        let mut targets = vec![(destination, false); scan.dirs.len()];
        for (index, dir) in scan.dirs.iter().enumerate() {
            let (target, is_new) = targets[index];
            let merged = &self.job.writer.merged;
            let below =
                self.dirs[target].below.as_ref().map(|(below, _)| merged.open_dir(below)).transpose()?;
            for (child_index, child) in dir.children.iter().enumerate() {
                let place = Place { batch: number, dir: index, child: child_index };
                let name = renamed.cloned().unwrap_or_else(|| Cow::Borrowed(child.name()));
                let existing = look(below.as_ref(), &name)?;
                match child.dir {
                    Some(dir) => targets[dir] = self.directory(target, name, existing)?,
                    None => self.file(target, name, (place, child), existing)?,
                }
            }
            if is_new || (dir.chosen && (index > 0 || self.job.options.destination_is_copy)) {
                let attributes = self.job.target_attributes(dir.entry.stat(), dir.xattrs.clone());
                storable(&attributes.xattrs)?;
                self.dirs[target].attributes = attributes;
            } else if !dir.children.is_empty() {
                self.touch(target);
            }
        }
        Ok(())
    }

    /// Where the content of a directory goes, and whether it is new.
    fn directory(
        &mut self,
        holder: usize,
        name: Cow<'a, OsStr>,
        existing: Option<Entry>,
    ) -> Packing<(usize, bool)> {
        match (self.dirs[holder].names.get(&name), existing) {
            (Some(Planned::Dir(dir)), _) => Ok((*dir, false)),
            (Some(Planned::File(_)), _) => Err(Stop::Unfit),
            (None, Some(existing)) if existing.is_dir() => {
                Ok((self.name(holder, name, Some(existing))?, false))
            }
            (None, Some(_)) => Err(Stop::Unfit),
            (None, None) => {
                self.new_dirs += 1;
                Ok((self.name(holder, name, None)?, true))
            }
        }
    }

    fn file(
        &mut self,
        holder: usize,
        name: Cow<'a, OsStr>,
        (place, child): (Place, &Child),
        below: Option<Entry>,
    ) -> Packing<()> {
        let stat = child.entry.stat();
        if stat.kind == Kind::Socket {
            return Ok(());
        }
        check_name(&name)?;
        if is_unfit(stat) || below.as_ref().is_some_and(Entry::is_dir) {
            return Err(Stop::Unfit);
        }
        match self.dirs[holder].names.entry(name) {
            Slot::Vacant(slot) => slot.insert(Planned::File(self.files.len())),
            Slot::Occupied(_) => return Err(Stop::Unfit),
        };
        self.files.push(PlannedFile { place, below });
        Ok(())
    }

    /// The way through all of it, in the order of a layer.
    fn steps(&mut self) -> Vec<Step<'a>> {
        let mut steps = Vec::with_capacity(self.files.len() + 2 * self.dirs.len());
        let mut open = vec![std::mem::take(&mut self.dirs[ROOT].names).into_iter()];
        while let Some(names) = open.last_mut() {
            match names.next() {
                Some((name, Planned::File(file))) => steps.push(Step::File(file, name)),
                Some((name, Planned::Dir(dir))) => {
                    steps.push(Step::Enter(dir, name));
                    open.push(std::mem::take(&mut self.dirs[dir].names).into_iter());
                }
                None => {
                    steps.push(Step::Leave);
                    open.pop();
                }
            }
        }
        // The root is neither entered nor left.
        steps.pop();
        steps
    }
}

fn look(below: Option<&OpenDir<'_>>, name: &OsStr) -> Packing<Option<Entry>> {
    match below {
        Some(below) => Ok(below.child(name)?),
        None => Ok(None),
    }
}

/// What an archive would make a mess of, or should not hold.
fn is_unfit(stat: &Stat) -> bool {
    stat.is_whiteout() || stat.is_sparse() && stat.size > SMALL
}

/// Names that mean deletions in a layer are for the usual way to refuse.
fn check_name(name: &OsStr) -> Packing<()> {
    match name.as_bytes().starts_with(PREFIX) {
        true => Err(Stop::Unfit),
        false => Ok(()),
    }
}

/// Attributes are stored only if both the archive and the index can hold them.
pub(super) fn storable(xattrs: &[Xattr]) -> Packing<()> {
    let is_storable = |xattr: &Xattr| {
        let name = xattr.name.as_bytes();
        is_image_xattr(name) && !name.starts_with(b"system.")
    };
    match xattrs.iter().all(is_storable) {
        true => Ok(()),
        false => Err(Stop::Unfit),
    }
}
