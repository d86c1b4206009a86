//! The directories of a copy: made before the files, given their attributes after them.

use std::path::PathBuf;

use rayon::prelude::*;
use sys::rootdir::RootDir;

use super::{Job, Result};
use crate::scan::Scan;
use crate::tree::Entry;
use crate::writer::WriteError;

/// Where the content of one scanned directory goes.
pub(super) struct TargetDir {
    /// The path in the image, without links.
    path: PathBuf,
    /// The directory that was there before; `None` when the copy makes it.
    existing: Option<Entry>,
}

impl TargetDir {
    /// Whether the copy makes this directory.
    pub(super) fn is_new(&self) -> bool {
        self.existing.is_none()
    }

    /// The directory that was there before.
    pub(super) fn existing(&self) -> Option<&Entry> {
        self.existing.as_ref()
    }

    /// Opens the real directory in the layer.
    pub(super) fn open(&self, job: &Job<'_>) -> Result<RootDir> {
        let missing = || WriteError::Missing(self.path.clone());
        Ok(job.writer.layer.open_real_dir(&self.path)?.ok_or_else(missing)?)
    }
}

impl Job<'_> {
    /// Makes, in the layer, all directories of a scan below `destination`.
    pub(super) fn make_dirs(&self, scan: &Scan, destination: &Entry) -> Result<Vec<TargetDir>> {
        let mut targets: Vec<Option<TargetDir>> = scan.dirs.iter().map(|_| None).collect();
        self.writer.raise_dir(destination)?;
        let root = self.again(destination)?;
        targets[0] = Some(TargetDir { path: destination.path().to_owned(), existing: Some(root) });
        let mut level = vec![0];
        while !level.is_empty() {
            self.cancel.check()?;
            let made: Result<Vec<Vec<(usize, TargetDir)>>> = level
                .par_iter()
                .filter_map(|index| Some(self.make_subdirs(scan, *index, targets[*index].as_ref()?)))
                .collect();
            level.clear();
            for (index, target) in made?.into_iter().flatten() {
                targets[index] = Some(target);
                level.push(index);
            }
        }
        Ok(targets.into_iter().flatten().collect())
    }

    /// Makes the subdirectories of one directory.
    fn make_subdirs(&self, scan: &Scan, index: usize, target: &TargetDir) -> Result<Vec<(usize, TargetDir)>> {
        let mut made = Vec::new();
        let subdirs = || scan.dirs[index].children.iter().filter_map(|child| Some((child, child.dir?)));
        if subdirs().next().is_none() {
            return Ok(made);
        }
        let real = target.open(self)?;
        let merged = match &target.existing {
            Some(entry) => Some(self.writer.merged.open_dir(entry)?),
            None => None,
        };
        for (child, dir) in subdirs() {
            let path = target.path.join(child.name());
            let existing = match &merged {
                Some(merged) => merged.child(child.name())?,
                None => None,
            };
            let existing = match existing {
                Some(existing) if existing.is_dir() => {
                    self.writer.raise_dir(&existing)?;
                    Some(self.again(&existing)?)
                }
                Some(_) if self.options.replace => {
                    self.writer.remove(&path)?;
                    self.writer.start_dir(&real, child.name())?;
                    None
                }
                Some(existing) => return Err(WriteError::not_a_directory(&path, &existing).into()),
                None => {
                    self.writer.start_dir(&real, child.name())?;
                    None
                }
            };
            made.push((dir, TargetDir { path, existing }));
        }
        Ok(made)
    }

    /// Gives directories the attributes and times of their sources: those that the copy made, and those
    /// that were there and were chosen. The destination, and a directory in which only something was
    /// chosen, stay as they were but for the time of this change.
    pub(super) fn finish_dirs(&self, scan: &Scan, targets: &[TargetDir]) -> Result<()> {
        targets.par_iter().zip(&scan.dirs).enumerate().try_for_each(|(index, (target, dir))| {
            if target.is_new() || (dir.chosen && (index > 0 || self.options.destination_is_copy)) {
                let real = target.open(self)?;
                let attributes = self.target_attributes(dir.entry.stat(), dir.xattrs.clone());
                self.writer.finish_dir(&real, &attributes)?;
            } else if !dir.children.is_empty() {
                self.writer.touch(&target.open(self)?)?;
            }
            Ok(())
        })
    }

    /// A directory of the image as it is now, after it was raised into the layer.
    fn again(&self, entry: &Entry) -> Result<Entry> {
        let found = self.writer.merged.lookup(entry.path(), crate::tree::Follow::NoLast)?;
        Ok(found.ok_or_else(|| WriteError::Missing(entry.path().to_owned()))?)
    }
}
