//! One directory of a tree: merging the listings of its parts, and finding single names.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sys::rootdir::RootDir;
use sys::stat::{Kind, Stat};
use sys::xattr::{self, Target, Xattr};

use super::marks::{self, Opacity};
use super::{Entry, Judge, Result, Tree, Verdict};

/// An open directory of a tree.
pub struct OpenDir<'t> {
    tree: &'t Tree,
    path: PathBuf,
    /// The real directories, the topmost first; never empty.
    parts: Vec<Part>,
    /// What the tree's filter says about its entries.
    judge: Option<Judge<'t>>,
}

struct Part {
    layer: u16,
    dir: RootDir,
    xattr_whiteouts: bool,
}

/// What the parts looked at so far say about a name.
enum Merged {
    Hidden,
    Found { stat: Stat, layers: Vec<u16>, may_merge: bool },
}

impl<'t> OpenDir<'t> {
    pub(super) fn open(tree: &'t Tree, dir: &Entry) -> Result<Self> {
        let mut parts = Vec::with_capacity(1 + dir.below.len());
        for layer in dir.layers() {
            let real = tree.real_dir(layer, &dir.path)?;
            let mark = if tree.0.overlay {
                marks::opacity(Target::Open(real.as_fd()), real.path())?
            } else {
                Opacity::Merges
            };
            let xattr_whiteouts = mark == Opacity::HasXattrWhiteouts;
            parts.push(Part { layer, dir: real, xattr_whiteouts });
        }
        let judge = tree.0.filter.as_deref().map(|filter| Judge::new(filter, &dir.path));
        Ok(Self { tree, path: dir.path.clone(), parts, judge })
    }

    /// The real directory that holds `entry`, which must be one of this directory's.
    pub fn holder(&self, entry: &Entry) -> &RootDir {
        let part = self.parts.iter().find(|part| part.layer == entry.top);
        &part.unwrap_or(&self.parts[0]).dir
    }

    /// The topmost real directory.
    pub fn top(&self) -> &RootDir {
        &self.parts[0].dir
    }

    /// The directory's own extended attributes whose names `wanted` accepts, sorted.
    pub fn xattrs(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Xattr>> {
        let top = self.top();
        Ok(xattr::read_all(Target::Open(top.as_fd()), top.path(), wanted)?)
    }

    /// The entry called `name`, not followed if it is a link.
    pub fn child(&self, name: &OsStr) -> Result<Option<Entry>> {
        let Some(entry) = self.find(name)? else { return Ok(None) };
        let is_there = match self.verdict(&entry.path, entry.is_dir()) {
            Verdict::Included => true,
            Verdict::IfNotEmpty => has_included(self.tree, &entry)?,
            Verdict::Excluded => false,
        };
        Ok(is_there.then_some(entry))
    }

    /// The entries, sorted by the bytes of their names.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for (entry, verdict) in self.entries_with_verdict()? {
            if verdict == Verdict::Included || has_included(self.tree, &entry)? {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// The entries that are not excluded for certain, sorted, without looking below any.
    pub(crate) fn entries_with_verdict(&self) -> Result<Vec<(Entry, Verdict)>> {
        let mut entries = match &*self.parts {
            [only] => self.single_listing(only)?,
            _ => self.merged_listing()?,
        };
        // All are in one directory, so the part before their names is the same.
        let before = self.path.as_os_str().len();
        entries.sort_unstable_by(|(a, _), (b, _)| {
            let [a, b] = [a, b].map(|entry| &entry.path.as_os_str().as_bytes()[before..]);
            a.cmp(b)
        });
        Ok(entries)
    }

    fn verdict(&self, path: &Path, is_dir: bool) -> Verdict {
        self.judge.as_ref().map_or(Verdict::Included, |judge| judge.verdict(path, is_dir))
    }

    fn entry(&self, name: &OsStr, stat: Stat, layers: Vec<u16>) -> Entry {
        let mut below = layers;
        let top = below.remove(0);
        Entry { path: self.path.join(name), stat, top, below }
    }

    fn single_listing(&self, part: &Part) -> Result<Vec<(Entry, Verdict)>> {
        let names = part.dir.names()?;
        let mut entries = Vec::with_capacity(names.len());
        for (name, kind) in names {
            let path = joined(&self.path, &name);
            // The filter comes before the status: what it excludes may be a large part of a context.
            let early = kind.map(|kind| self.verdict(&path, kind == Kind::Directory));
            if early == Some(Verdict::Excluded) {
                continue;
            }
            let Some(stat) = part.dir.stat(&name)? else { continue };
            if self.hides(part, &name, &stat)? {
                continue;
            }
            let verdict = early.unwrap_or_else(|| self.verdict(&path, stat.is_dir()));
            if verdict != Verdict::Excluded {
                entries.push((Entry { path, stat, top: part.layer, below: Vec::new() }, verdict));
            }
        }
        Ok(entries)
    }

    fn merged_listing(&self) -> Result<Vec<(Entry, Verdict)>> {
        let mut merged: BTreeMap<OsString, Merged> = BTreeMap::new();
        for part in &self.parts {
            for (name, _) in part.dir.names()? {
                if let Some(Merged::Hidden | Merged::Found { may_merge: false, .. }) = merged.get(&name) {
                    continue;
                }
                let Some(stat) = part.dir.stat(&name)? else { continue };
                let hides = self.hides(part, &name, &stat)?;
                add_part(merged.entry(name), part.layer, stat, hides);
            }
        }
        let mut entries = Vec::with_capacity(merged.len());
        for (name, state) in merged {
            let Merged::Found { stat, layers, .. } = state else { continue };
            let layers = self.up_to_opaque(&name, layers)?;
            let entry = self.entry(&name, stat, layers);
            let verdict = self.verdict(&entry.path, entry.is_dir());
            if verdict != Verdict::Excluded {
                entries.push((entry, verdict));
            }
        }
        Ok(entries)
    }

    /// The entry called `name` before any filter.
    fn find(&self, name: &OsStr) -> Result<Option<Entry>> {
        let mut found: Option<(Stat, Vec<u16>)> = None;
        for part in &self.parts {
            let Some(stat) = part.dir.stat(name)? else { continue };
            if self.hides(part, name, &stat)? {
                break;
            }
            match &mut found {
                Some((_, layers)) if stat.is_dir() => layers.push(part.layer),
                Some(_) => break,
                None => {
                    let may_merge = stat.is_dir();
                    found = Some((stat, vec![part.layer]));
                    if !may_merge {
                        break;
                    }
                }
            }
        }
        let Some((stat, layers)) = found else { return Ok(None) };
        let layers = self.up_to_opaque(name, layers)?;
        Ok(Some(self.entry(name, stat, layers)))
    }

    fn hides(&self, part: &Part, name: &OsStr, stat: &Stat) -> Result<bool> {
        Ok(self.tree.0.overlay && marks::is_whiteout(&part.dir, name, stat, part.xattr_whiteouts)?)
    }

    /// Ends the list of a directory's layers after the first in which it is opaque.
    fn up_to_opaque(&self, name: &OsStr, mut layers: Vec<u16>) -> Result<Vec<u16>> {
        let mut kept = 1;
        while kept < layers.len() {
            let holder = self.parts.iter().find(|part| part.layer == layers[kept - 1]);
            if let Some(part) = holder
                && marks::opacity(Target::Name(&part.dir, name), &part.dir.shown(name))? == Opacity::Opaque
            {
                break;
            }
            kept += 1;
        }
        layers.truncate(kept);
        Ok(layers)
    }
}

/// The path of `name` in `dir`, in one allocation that is not too large: there may be very many of them.
fn joined(dir: &Path, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::with_capacity(dir.as_os_str().len() + 1 + name.len());
    path.push(dir);
    path.push(name);
    path
}

/// Adds what one part says about a name to what the parts above it said.
fn add_part(
    slot: std::collections::btree_map::Entry<'_, OsString, Merged>,
    layer: u16,
    new: Stat,
    hides: bool,
) {
    use std::collections::btree_map::Entry as Slot;
    match slot {
        Slot::Vacant(slot) if hides => {
            slot.insert(Merged::Hidden);
        }
        Slot::Vacant(slot) => {
            slot.insert(Merged::Found { stat: new, layers: vec![layer], may_merge: new.is_dir() });
        }
        Slot::Occupied(mut slot) => {
            if let Merged::Found { layers, may_merge, .. } = slot.get_mut() {
                if new.is_dir() && !hides { layers.push(layer) } else { *may_merge = false }
            }
        }
    }
}

/// Whether anything below an excluded directory is included.
fn has_included(tree: &Tree, dir: &Entry) -> Result<bool> {
    let mut pending = vec![dir.clone()];
    while let Some(dir) = pending.pop() {
        for (entry, verdict) in tree.open_dir(&dir)?.entries_with_verdict()? {
            if verdict == Verdict::Included {
                return Ok(true);
            }
            pending.push(entry);
        }
    }
    Ok(false)
}
