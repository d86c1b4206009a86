//! The overlay driver: a layer is the upper directory of an overlay mount, or what writes the same form.
//!
//! Source: the kernel's `Documentation/filesystems/overlayfs.rst`.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use base::Mount;
use base::mount::OverlayUpper;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use sys::fs::{PathContext as _, PathError};
use sys::rootdir;
use sys::xattr::{self, Target};

use super::{DriverKind, SnapshotDriver};
use crate::apply::Layering;
use crate::diff::LayerSource;
use crate::layout::SnapshotDirs;
use crate::tree::is_image_xattr;

/// Keeps changes only, and lets the kernel merge.
#[derive(Debug)]
pub(super) struct Overlay {
    /// Marks are `user.` attributes, because a user namespace may not set `trusted.` ones.
    pub(super) userxattr: bool,
}

impl Overlay {
    /// The two forms of layer directories, with their value of `userxattr`.
    pub(super) const NAMES: [(&str, bool); 2] = [("overlay", false), ("overlay-userxattr", true)];
}

impl SnapshotDriver for Overlay {
    fn kind(&self) -> DriverKind {
        DriverKind::Overlay
    }

    fn name(&self) -> &'static str {
        Self::NAMES[usize::from(self.userxattr)].0
    }

    fn layering(&self, has_parent: bool) -> Layering {
        if has_parent { Layering::Overlay { userxattr: self.userxattr } } else { Layering::Flat }
    }

    fn view(&self, chain: Vec<PathBuf>) -> Vec<PathBuf> {
        chain
    }

    fn create(&self, dirs: &SnapshotDirs, lower: &[PathBuf]) -> Result<(), PathError> {
        let fs = dirs.fs();
        sys::fs::create_dir(&fs, 0o755)?;
        match lower.first() {
            Some(below) => copy_root_attributes(below, &fs),
            // The umask must not decide what a container's root looks like.
            None => rootdir::set_mode_of(sys::fs::open(&fs)?, &fs, 0o755),
        }
    }

    fn writable_mount(&self, dirs: &SnapshotDirs, lower: &[PathBuf]) -> Result<Mount, PathError> {
        // An overlay needs something below. Without, the layer directory is the tree.
        if lower.is_empty() {
            return Ok(Mount::Bind { source: dirs.fs(), read_only: false });
        }
        let work = dirs.work();
        if !sys::fs::exists(&work)? {
            sys::fs::create_dir(&work, 0o700)?;
        }
        let upper = Some(OverlayUpper { upper: dirs.fs(), work });
        Ok(Mount::Overlay { lower: lower.to_vec(), upper, userxattr: self.userxattr })
    }

    fn read_only_mount(&self, view: Vec<PathBuf>) -> Mount {
        match <[PathBuf; 1]>::try_from(view) {
            Ok([source]) => Mount::Bind { source, read_only: true },
            Err(lower) => Mount::Overlay { lower, upper: None, userxattr: self.userxattr },
        }
    }

    /// The root of an overlay looks like its topmost layer's, but a layer says nothing about the root.
    fn can_stack(&self, below: &Path, layers: &[PathBuf]) -> Result<bool, PathError> {
        let look = |dir: &Path| {
            let root = sys::fs::open(dir)?;
            let stat = rootdir::stat_of(&root, dir)?;
            let xattrs = xattr::read_all(Target::Open(root.as_fd()), dir, is_image_xattr)?;
            Ok((stat.mode, stat.uid, stat.gid, xattrs))
        };
        let wanted = look(below)?;
        for layer in layers {
            if look(layer)? != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn layer_source<'a>(&self, layer: &'a Path, lower: &'a [PathBuf]) -> LayerSource<'a> {
        if lower.is_empty() {
            LayerSource::TwoTrees { lower: None, upper: layer }
        } else {
            LayerSource::Overlay { upper: layer, lower, userxattr: self.userxattr }
        }
    }
}

/// The root directory of an overlay looks like that of its topmost layer, so a new layer begins with what
/// its parent shows.
fn copy_root_attributes(from: &Path, to: &Path) -> Result<(), PathError> {
    let (source, target) = (sys::fs::open(from)?, sys::fs::open(to)?);
    let stat = rootdir::stat_of(&source, from)?;
    let ours = rootdir::stat_of(&target, to)?;
    if (stat.uid, stat.gid) != (ours.uid, ours.gid) {
        rootdir::set_owner_of(&target, to, stat.uid, stat.gid)?;
    }
    for attribute in xattr::read_all(Target::Open(source.as_fd()), from, is_image_xattr)? {
        xattr::set(Target::Open(target.as_fd()), to, &attribute.name, &attribute.value)?;
    }
    rootdir::set_mode_of(&target, to, stat.mode)?;
    rootdir::set_times_of(&target, to, stat.mtime)
}

/// Finds out whether overlayfs works below `scratch`, by an overlay that is never attached anywhere: a file
/// is created, another is deleted, and a directory is replaced, since the whiteout and the opaque mark are
/// what file systems and kernels fail at.
pub(super) fn probe(scratch: &Path) -> Result<Overlay, PathError> {
    let result = probe_in(scratch);
    sys::fs::remove_tree(scratch)?;
    result
}

fn probe_in(scratch: &Path) -> Result<Overlay, PathError> {
    let overlay = Overlay { userxattr: !sys::userns::is_initial() };
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| scratch.join(name));
    for dir in [&lower.join("dir"), &upper, &work] {
        sys::fs::create_dir_all(dir, 0o700)?;
    }
    sys::fs::create_new(&lower.join("file"), 0o600)?;
    let root =
        mount_detached(&lower, &upper, &work, overlay.userxattr).at("mount an overlay below", scratch)?;
    change(&root).at("write through an overlay below", scratch)?;
    let whiteout = rustix::fs::lstat(upper.join("file")).at("find the whiteout of", &upper.join("file"))?;
    if FileType::from_raw_mode(whiteout.st_mode) != FileType::CharacterDevice {
        return Err(PathError::new("find a usable whiteout in", upper, std::io::ErrorKind::Unsupported));
    }
    Ok(overlay)
}

/// What a file of a layer holds, read through an overlay on top of it.
pub(super) fn read_through(layer: &Path, file: &str, scratch: &Path) -> Result<Vec<u8>, PathError> {
    let [upper, work] = ["upper", "work"].map(|name| scratch.join(name));
    for dir in [&upper, &work] {
        sys::fs::create_dir_all(dir, 0o700)?;
    }
    let root = mount_detached(layer, &upper, &work, false).at("mount an overlay on", layer)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&root, file, flags, Mode::empty()).at("open a file of", layer)?;
    let mut content = Vec::new();
    File::from(file).read_to_end(&mut content).at("read a file of", layer)?;
    Ok(content)
}

/// An overlay that only the returned handle knows (`fsmount(2)`); closing it unmounts. The directories are named
/// by descriptors, because kernels differ in how they want separators in paths to be escaped.
fn mount_detached(lower: &Path, upper: &Path, work: &Path, userxattr: bool) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut open = Vec::new();
    for (name, path) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        rustix::mount::fsconfig_set_string(context, name, path)?;
        open.push(directory);
    }
    if userxattr {
        rustix::mount::fsconfig_set_flag(context, "userxattr")?;
    }
    rustix::mount::fsconfig_create(context)?;
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn change(root: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(File::from(rustix::fs::openat(root, "new", flags, Mode::RUSR)?));
    rustix::fs::unlinkat(root, "file", AtFlags::empty())?;
    rustix::fs::unlinkat(root, "dir", AtFlags::REMOVEDIR)?;
    rustix::fs::mkdirat(root, "dir", Mode::RWXU)
}
