//! Removing what mounting left in the root filesystem.
//!
//! A mount needs a target, and an image may have none: `/proc`, `/etc/hosts`. The new process makes an
//! empty directory or file and reports it; after the container these are taken out of the layer again, so
//! that it holds what the command did and nothing else. Making a target in an overlay also copies the
//! directory around it into the upper directory; where nothing else remains in such a copy and it equals
//! the original, it is removed as well.
//!
//! Everything is looked up without following links. What is no longer as it was made is left alone: the
//! command has taken it over.

use std::path::{Path, PathBuf};

use base::Mount;
use base::mount::OverlayUpper;
use sys::path_error::PathError;
use sys::rootdir::{RootDir, set_times_of};
use sys::spawn::Created;
use sys::stat::{FileTime, Kind, Stat};
use sys::xattr::{self, Target, Xattr};

use crate::layers::Layers;

type Result<T> = std::result::Result<T, PathError>;

/// Removes the targets that were `created`, and the mark that a volatile overlay leaves. Call when no
/// process of the container is left. `layers` are those that were mounted for it.
pub(crate) fn clean_up(root: &Mount, created: &[Created], layers: &Layers) -> Result<()> {
    match root {
        Mount::Bind { source, .. } => remove_all(&RootDir::open(source)?, created).map(drop),
        Mount::Overlay { upper: None, .. } => Ok(()),
        Mount::Overlay { lower, upper: Some(OverlayUpper { upper, work }), .. } => {
            let upper = RootDir::open(upper)?;
            remove_all(&upper, created)?;
            let mut lower_dirs: Option<Vec<RootDir>> = None;
            for directory in surroundings(created) {
                if lower_dirs.is_none() {
                    lower_dirs = Some(lower.iter().map(|layer| layers.open(layer)).collect::<Result<_>>()?);
                }
                remove_copy(&upper, lower_dirs.as_deref().unwrap_or_default(), &directory)?;
            }
            remove_volatile_mark(work)
        }
    }
}

/// Removes the mark of an earlier run after which nothing was cleaned up.
pub(crate) fn prepare(root: &Mount) -> Result<()> {
    match root {
        Mount::Overlay { upper: Some(OverlayUpper { work, .. }), .. } => remove_volatile_mark(work),
        Mount::Overlay { upper: None, .. } | Mount::Bind { .. } => Ok(()),
    }
}

/// Removes the targets, last made first, and gives the directories around them their times back.
fn remove_all(root: &RootDir, created: &[Created]) -> Result<()> {
    created.iter().rev().try_for_each(|one| remove_one(root, one))
}

fn remove_one(root: &RootDir, created: &Created) -> Result<()> {
    let path = relative(&created.path);
    let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
        return Ok(());
    };
    let Some(parent) = root.open_real_dir(parent)? else { return Ok(()) };
    let before = modified(&parent)?;
    let removed = match parent.stat(name)? {
        Some(stat) if created.directory && stat.is_dir() => parent.remove_dir(name),
        Some(stat) if !created.directory && is_untouched_file(&stat) => parent.remove_file(name),
        _ => return Ok(()),
    };
    match removed {
        Ok(()) => {}
        // The command put something into the directory.
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => return Ok(()),
        Err(error) => return Err(error),
    }
    let time = |(seconds, nanoseconds)| FileTime { seconds, nanoseconds };
    let untouched = before == time(created.parent_after);
    set_times_of(&parent, parent.path(), if untouched { time(created.parent_before) } else { before })
}

fn is_untouched_file(stat: &Stat) -> bool {
    stat.kind == Kind::File && stat.size == 0 && stat.links == 1
}

/// The directories around the targets, deepest first, each once, without the root itself.
fn surroundings(created: &[Created]) -> Vec<PathBuf> {
    let ancestors = created.iter().flat_map(|one| relative(&one.path).ancestors().skip(1));
    let mut directories: Vec<PathBuf> =
        ancestors.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned).collect();
    directories.sort_by(|a, b| b.components().count().cmp(&a.components().count()).then_with(|| a.cmp(b)));
    directories.dedup();
    directories
}

/// Removes a directory from the upper directory if it is empty and equal to the one below that it hides.
fn remove_copy(upper: &RootDir, lower: &[RootDir], path: &Path) -> Result<()> {
    let (Some(name), around) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
        return Ok(());
    };
    let (Some(around), Some(copy)) = (upper.open_real_dir(around)?, upper.open_real_dir(path)?) else {
        return Ok(());
    };
    if !copy.names()?.is_empty() || hides_lower(upper, path)? {
        return Ok(());
    }
    let Some(original) = visible_directory(lower, path)? else { return Ok(()) };
    if Appearance::of(&copy)? != Appearance::of(&original)? {
        return Ok(());
    }
    let time = modified(&around)?;
    around.remove_dir(name)?;
    set_times_of(&around, around.path(), time)
}

/// What a directory shows of itself.
#[derive(PartialEq, Eq)]
struct Appearance {
    mode: u32,
    owner: (u32, u32),
    modified: FileTime,
    attributes: Vec<Xattr>,
}

impl Appearance {
    fn of(directory: &RootDir) -> Result<Self> {
        let stat = status(directory)?;
        let attributes =
            xattr::read_all(Target::Open(std::os::fd::AsFd::as_fd(directory)), directory.path(), |name| {
                !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
            })?;
        Ok(Self { mode: stat.mode, owner: (stat.uid, stat.gid), modified: stat.mtime, attributes })
    }
}

/// The directory that an overlay of `lower` (topmost first) shows at `path`, if it shows one.
fn visible_directory(lower: &[RootDir], path: &Path) -> Result<Option<RootDir>> {
    for layer in lower {
        if let Some(directory) = layer.open_real_dir(path)? {
            return Ok(Some(directory));
        }
        if hides_lower(layer, path)? {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Whether a layer hides what layers below have at `path`: by an opaque directory on the way, or by
/// something else than a directory.
fn hides_lower(layer: &RootDir, path: &Path) -> Result<bool> {
    let mut prefixes: Vec<&Path> = path.ancestors().filter(|prefix| !prefix.as_os_str().is_empty()).collect();
    prefixes.reverse();
    for prefix in prefixes {
        match layer.open_real_dir(prefix)? {
            Some(directory) if is_opaque(&directory)? => return Ok(true),
            Some(_) => {}
            None => return Ok(layer.stat(prefix)?.is_some()),
        }
    }
    Ok(false)
}

fn is_opaque(directory: &RootDir) -> Result<bool> {
    for name in [c"trusted.overlay.opaque", c"user.overlay.opaque"] {
        let target = Target::Open(std::os::fd::AsFd::as_fd(directory));
        if xattr::get(target, directory.path(), name)?.is_some_and(|value| value == b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The kernel leaves a mark in the work directory of a volatile overlay and refuses to mount it again,
/// because a crash may have lost data. We know that there was none.
fn remove_volatile_mark(work: &Path) -> Result<()> {
    RootDir::open(work)?.remove_all("work/incompat")
}

fn modified(directory: &RootDir) -> Result<FileTime> {
    Ok(status(directory)?.mtime)
}

fn status(directory: &RootDir) -> Result<Stat> {
    sys::rootdir::stat_of(directory, directory.path())
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
