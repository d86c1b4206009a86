//! Mounting, as a new process does it in its own mount namespace.
//!
//! Every mount is made detached, gets its attributes, and is then moved onto a target that is already
//! open: no path is walked twice, so nothing can be exchanged in between. Sources are opened before the
//! pivot, from the host's view; targets inside the new root (see [`super::target`]).
//!
//! Runs in the new process: no allocation, no locks; see [`super::raw`]. Needs Linux 5.12
//! (`mount_setattr(2)`).

use std::ffi::{CStr, CString};

use super::copy_up;
use super::plan::{MountSource, NodeKind, RootSource, ScratchEntry, TargetKind};
use super::raw::{self, Failure, Fd, HERE, invoke};
use super::target::{CONFINED, PLAIN, Root};
use crate::mount::{MountAttributes, OverlayForm, OverlayOptions, Propagation};

// linux/mount.h; the libc crate has none of these.
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const OPEN_TREE_CLONE: i32 = 1;

const NO_ATTRIBUTES: MountAttributes = MountAttributes::NONE;

/// Whether mounts below a mount are meant too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    One,
    All,
}

impl Depth {
    fn flag(self) -> i32 {
        if self == Self::All { libc::AT_RECURSIVE } else { 0 }
    }
}

/// Cuts all mounts off from those they were copied from, but for what they `receive`.
pub(super) fn cut_off(receive: bool) -> Result<(), Failure> {
    let kind = if receive { Propagation::Slave } else { Propagation::Private };
    let flags = libc::MS_REC | kind.flag();
    // SAFETY: the path is a live string; a change of propagation reads no other argument.
    unsafe { invoke!(libc::SYS_mount, c"none", c"/", std::ptr::null::<u8>(), flags, std::ptr::null::<u8>()) }
        .map(drop)
}

/// Changes what becomes of mounts below the one at a target. Once the root is the process's, targets are looked up
/// from the working directory, which is that root then.
pub(super) fn propagate(
    root: &Root,
    target: &CStr,
    kind: Propagation,
    recursive: bool,
) -> Result<(), Failure> {
    let directory = if root.fd < 0 { HERE } else { root.fd };
    let mount = raw::open(directory, target, libc::O_PATH, 0, CONFINED)?;
    let depth = if recursive { Depth::All } else { Depth::One };
    set(mount, Change { propagation: kind.flag(), ..NO_CHANGE }, depth)?;
    raw::close(mount);
    Ok(())
}

/// Changes attributes of the mount at a target and of all below it.
pub(super) fn change(
    root: &Root,
    target: &CStr,
    attributes: MountAttributes,
    clear: MountAttributes,
) -> Result<(), Failure> {
    let mount = raw::open(root.fd, target, libc::O_PATH, 0, CONFINED)?;
    let attr_clr = clear.bits() | attributes.replaced_bits();
    set(mount, Change { attr_set: attributes.bits(), attr_clr, ..NO_CHANGE }, Depth::All)?;
    raw::close(mount);
    Ok(())
}

/// Makes and fills a tmpfs, and returns its root.
///
/// Its entries can be shown elsewhere only while it is attached somewhere. That is over `/`: there nobody
/// meets it, because a walk from the root directory does not look at what is mounted over that directory.
pub(super) fn scratch(entries: &[ScratchEntry]) -> Result<Fd, Failure> {
    let options = [(c"mode", Some(c"0700")), (c"size", Some(c"64m"))];
    let tree = new_filesystem(c"tmpfs", options.into_iter(), NO_ATTRIBUTES)?;
    attach_over(tree, c"/")?;
    for entry in entries {
        fill(tree, entry)?;
    }
    Ok(tree)
}

fn fill(tree: Fd, entry: &ScratchEntry) -> Result<(), Failure> {
    match entry {
        ScratchEntry::File { name, content, mode, uid, gid } => {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
            let fd = raw::open(tree, name, flags, *mode, 0)?;
            raw::write_all(fd, content)?;
            // SAFETY: no pointers.
            unsafe { invoke!(libc::SYS_fchown, fd, *uid, *gid) }?;
            raw::close(fd);
            Ok(())
        }
        ScratchEntry::Directory { name, mode } => {
            // SAFETY: the name is a live string.
            unsafe { invoke!(libc::SYS_mkdirat, tree, name.as_c_str(), *mode) }.map(drop)
        }
        ScratchEntry::Bound { name, source } => {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
            let target = raw::open(tree, name, flags, 0o600, 0)?;
            let bound = clone_tree(HERE, source, Depth::One)?;
            attach(bound, target)?;
            raw::close(bound);
            raw::close(target);
            Ok(())
        }
        ScratchEntry::Layer { name, mount } => {
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            let layer = raw::open(HERE, mount, flags, 0, 0)?;
            // SAFETY: the name is a live string.
            unsafe { invoke!(libc::SYS_mkdirat, tree, name.as_c_str(), 0o700) }?;
            let target = raw::open(tree, name, flags, 0, 0)?;
            attach(layer, target)?;
            raw::close(layer);
            raw::close(target);
            Ok(())
        }
        ScratchEntry::Node { name, kind, mode, uid, gid, major, minor } => {
            let kind = match kind {
                NodeKind::Character => libc::S_IFCHR,
                NodeKind::Block => libc::S_IFBLK,
                NodeKind::Fifo => libc::S_IFIFO,
            };
            let device = libc::makedev(*major, *minor);
            // SAFETY: the name is a live string.
            unsafe {
                invoke!(libc::SYS_mknodat, tree, name.as_c_str(), mode | kind, device)?;
                invoke!(libc::SYS_fchownat, tree, name.as_c_str(), *uid, *gid, libc::AT_SYMLINK_NOFOLLOW)
            }
            .map(drop)
        }
        ScratchEntry::Device { name, mode, major, minor } => {
            let device = libc::makedev(*major, *minor);
            // SAFETY: the name is a live string.
            unsafe { invoke!(libc::SYS_mknodat, tree, name.as_c_str(), mode | libc::S_IFCHR, device) }
                .map(drop)
        }
    }
}

/// Mounts the root filesystem over `at` and returns its root.
pub(super) fn root(at: &CStr, source: &RootSource, attributes: MountAttributes) -> Result<Fd, Failure> {
    match source {
        RootSource::Bind(path) => {
            let tree = clone_tree(HERE, path, Depth::One)?;
            attach_over(tree, at)?;
            raw::close(tree);
        }
        RootSource::Overlay(overlay) => mount_overlay(at, overlay)?,
    }
    let root = raw::open(HERE, at, libc::O_PATH | libc::O_DIRECTORY, 0, 0)?;
    set_attributes(root, attributes, Depth::One)?;
    Ok(root)
}

fn mount_overlay(at: &CStr, overlay: &OverlayOptions) -> Result<(), Failure> {
    change_directory(&overlay.base)?;
    match &overlay.form {
        OverlayForm::Text(options) => {
            // SAFETY: all four strings are live.
            unsafe { invoke!(libc::SYS_mount, c"overlay", at, c"overlay", 0u64, options.as_c_str()) }?;
        }
        OverlayForm::Parameters(parameters) => {
            let tree = new_filesystem(c"overlay", borrowed(parameters), NO_ATTRIBUTES)?;
            attach_over(tree, at)?;
            raw::close(tree);
        }
    }
    change_directory(c"/")
}

/// Mounts something at a target inside the root.
pub(super) fn mount(
    root: &Root,
    (scratch, prepared): (Fd, Fd),
    (target, kind): (&CStr, TargetKind),
    source: &MountSource,
    attributes: MountAttributes,
) -> Result<(), Failure> {
    let tree = match source {
        MountSource::Filesystem { kind, options } => new_filesystem(kind, borrowed(options), attributes)?,
        // Attributes follow when it is filled.
        MountSource::Filled { options } => new_filesystem(c"tmpfs", borrowed(options), NO_ATTRIBUTES)?,
        MountSource::Host { path, recursive } => {
            let depth = if *recursive { Depth::All } else { Depth::One };
            let tree = clone_tree(HERE, path, depth)?;
            set_attributes(tree, attributes, depth)?;
            tree
        }
        MountSource::Prepared => prepared,
        MountSource::Scratch(name) => {
            let tree = clone_tree(scratch, name, Depth::One)?;
            set_attributes(tree, attributes, Depth::One)?;
            tree
        }
        MountSource::Part { source, at, path } => {
            let tree = part(source, at, path)?;
            set_attributes(tree, attributes, Depth::One)?;
            tree
        }
    };
    let target = match kind {
        TargetKind::LikeSource => open_outside_proc(root, target, is_directory(tree)?)?,
        TargetKind::KernelFile => raw::open(root.fd, target, libc::O_PATH | libc::O_NOFOLLOW, 0, PLAIN)?,
        TargetKind::RealDirectory => open_real_directory(root, target)?,
    };
    if let MountSource::Filled { .. } = source {
        let top = raw::open(tree, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0, 0)?;
        copy_up::copy_directory(target, top, 0)?;
        raw::close(top);
        set_attributes(tree, attributes, Depth::One)?;
    }
    attach(tree, target)?;
    raw::close(tree);
    raw::close(target);
    Ok(())
}

/// A detached mount of a part of a filesystem.
///
/// An overlay is attached over `at` only until the part is open: another one may be made of the same
/// directories.
fn part(source: &RootSource, at: &CStr, path: &CStr) -> Result<Fd, Failure> {
    let whole_flags = libc::O_PATH | libc::O_DIRECTORY;
    let (whole, attached) = match source {
        RootSource::Bind(directory) => (raw::open(HERE, directory, whole_flags, 0, 0)?, false),
        RootSource::Overlay(overlay) => {
            mount_overlay(at, overlay)?;
            (raw::open(HERE, at, whole_flags, 0, 0)?, true)
        }
    };
    let found = raw::open(whole, path, libc::O_PATH, 0, CONFINED)?;
    let tree = clone_tree(found, c"", Depth::One)?;
    raw::close(found);
    raw::close(whole);
    if attached {
        // SAFETY: the path is a live string.
        unsafe { invoke!(libc::SYS_umount2, at, libc::MNT_DETACH) }?;
    }
    Ok(tree)
}

/// Opens or makes a target that is nothing of `/proc`, whatever its name says.
fn open_outside_proc(root: &Root, target: &CStr, directory: bool) -> Result<Fd, Failure> {
    let target = root.open_or_create(target, directory)?;
    match raw::filesystem_of(target)? {
        libc::PROC_SUPER_MAGIC => Err(Failure { call: libc::SYS_move_mount as i32, errno: libc::EPERM }),
        _ => Ok(target),
    }
}

fn open_real_directory(root: &Root, target: &CStr) -> Result<Fd, Failure> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match raw::open(root.fd, target, flags, 0, PLAIN) {
        Err(Failure { errno: libc::ENOENT, .. }) => {}
        other => return other,
    }
    raw::close(root.open_or_create(target, true)?);
    raw::open(root.fd, target, flags, 0, PLAIN)
}

/// Shows the terminal behind `device` as the target.
pub(super) fn mount_device(root: &Root, device: Fd, target: &CStr) -> Result<(), Failure> {
    let tree = clone_tree(device, c"", Depth::One)?;
    let target = root.open_or_create(target, false)?;
    attach(tree, target)?;
    raw::close(tree);
    raw::close(target);
    Ok(())
}

/// Makes a symbolic link unless something is there.
pub(super) fn symlink(root: &Root, content: &CStr, target: &CStr) -> Result<(), Failure> {
    let (parent, name) = root.open_parent(target)?;
    // SAFETY: both strings are live.
    let made = unsafe { invoke!(libc::SYS_symlinkat, content, parent, name) };
    raw::close(parent);
    match made {
        Ok(_) | Err(Failure { errno: libc::EEXIST, .. }) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Makes a symbolic link, or an empty file that everybody may read and execute, if that is possible.
pub(super) fn mark(root: &Root, target: &CStr, link: Option<&CStr>) {
    let Ok((parent, name)) = root.open_parent(target) else { return };
    let mode = libc::S_IFREG | 0o755;
    let _ = match link {
        // SAFETY: both strings are live.
        Some(content) => unsafe { invoke!(libc::SYS_symlinkat, content, parent, name) },
        // SAFETY: the string is live.
        None => unsafe { invoke!(libc::SYS_mknodat, parent, name, mode, 0) },
    };
    raw::close(parent);
}

/// Hides a target behind a scratch entry, if the target exists.
pub(super) fn mask(
    root: &Root,
    scratch: Fd,
    target: &CStr,
    file: &CStr,
    directory: &CStr,
) -> Result<(), Failure> {
    let Some(target) = open_existing(root, target)? else { return Ok(()) };
    let (entry, attributes) = match is_directory(target)? {
        true => (directory, MountAttributes::READ_ONLY),
        false => (file, NO_ATTRIBUTES),
    };
    let tree = clone_tree(scratch, entry, Depth::One)?;
    set_attributes(tree, attributes, Depth::One)?;
    attach(tree, target)?;
    raw::close(tree);
    raw::close(target);
    Ok(())
}

/// Makes a target and all mounts below it read-only, if the target exists.
pub(super) fn make_read_only(root: &Root, target: &CStr) -> Result<(), Failure> {
    let Some(target) = open_existing(root, target)? else { return Ok(()) };
    let tree = clone_tree(target, c"", Depth::All)?;
    set_attributes(tree, MountAttributes::READ_ONLY, Depth::All)?;
    attach(tree, target)?;
    raw::close(tree);
    raw::close(target);
    Ok(())
}

/// Makes the root mount read-only.
pub(super) fn make_root_read_only(root: &Root) -> Result<(), Failure> {
    set_attributes(root.fd, MountAttributes::READ_ONLY, Depth::One)
}

/// Detaches the scratch filesystem, which is mounted over the host's root directory.
pub(super) fn detach_scratch() -> Result<(), Failure> {
    change_directory(c"/")?;
    // SAFETY: the path is a live string. A final "." means what is mounted on top.
    unsafe { invoke!(libc::SYS_umount2, c".", libc::MNT_DETACH) }.map(drop)
}

/// Makes `root` the root directory of this mount namespace and detaches the old one. The two are stacked
/// on one place, so no directory for the old root is needed.
pub(super) fn pivot(root: &Root) -> Result<(), Failure> {
    // SAFETY: all paths are live strings.
    unsafe {
        invoke!(libc::SYS_fchdir, root.fd)?;
        invoke!(libc::SYS_pivot_root, c".", c".")?;
        invoke!(libc::SYS_umount2, c".", libc::MNT_DETACH)?;
    }
    change_directory(c"/")
}

/// Makes a directory of the host the root directory and the working directory.
pub(super) fn change_root(root: &CStr) -> Result<(), Failure> {
    change_directory(root)?;
    // SAFETY: the path is a live string.
    unsafe { invoke!(libc::SYS_chroot, c".") }?;
    change_directory(c"/")
}

pub(super) fn change_directory(path: &CStr) -> Result<(), Failure> {
    // SAFETY: the path is a live string.
    unsafe { invoke!(libc::SYS_chdir, path) }.map(drop)
}

/// Opens a target that has to be reached without symbolic links; `None` when there is none.
fn open_existing(root: &Root, target: &CStr) -> Result<Option<Fd>, Failure> {
    match raw::open(root.fd, target, libc::O_PATH | libc::O_NOFOLLOW, 0, PLAIN) {
        Ok(fd) => Ok(Some(fd)),
        Err(Failure { errno: libc::ENOENT | libc::ENOTDIR, .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn is_directory(fd: Fd) -> Result<bool, Failure> {
    Ok(raw::mode_of(fd)? & libc::S_IFMT == libc::S_IFDIR)
}

fn borrowed(options: &[(CString, Option<CString>)]) -> impl Iterator<Item = (&CStr, Option<&CStr>)> {
    options.iter().map(|(name, value)| (name.as_c_str(), value.as_deref()))
}

/// A detached mount of a new filesystem instance.
fn new_filesystem<'a>(
    kind: &CStr,
    options: impl Iterator<Item = (&'a CStr, Option<&'a CStr>)>,
    attributes: MountAttributes,
) -> Result<Fd, Failure> {
    // SAFETY: all strings are live, and each command gets the arguments that fsconfig(2) gives it.
    unsafe {
        let context = invoke!(libc::SYS_fsopen, kind, FSOPEN_CLOEXEC)? as Fd;
        // The source is only a name, but mount tables look odd without one.
        configure(context, FSCONFIG_SET_STRING, c"source", Some(kind))?;
        for (name, value) in options {
            let command = if value.is_some() { FSCONFIG_SET_STRING } else { FSCONFIG_SET_FLAG };
            configure(context, command, name, value)?;
        }
        invoke!(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0usize, 0usize, 0)?;
        let tree = invoke!(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes.bits())? as Fd;
        raw::close(context);
        Ok(tree)
    }
}

fn configure(context: Fd, command: u32, name: &CStr, value: Option<&CStr>) -> Result<(), Failure> {
    let value = value.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the name is a live string, and so is the value unless the command takes none.
    unsafe { invoke!(libc::SYS_fsconfig, context, command, name, value, 0) }.map(drop)
}

/// A detached copy of the mount at a path; an empty path is the descriptor itself.
fn clone_tree(directory: Fd, path: &CStr, depth: Depth) -> Result<Fd, Failure> {
    let empty = if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | depth.flag() | empty;
    // SAFETY: the path is a live string.
    unsafe { invoke!(libc::SYS_open_tree, directory, path, flags) }.map(|fd| fd as Fd)
}

type Change = libc::mount_attr;

const NO_CHANGE: Change = Change { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 };

fn set_attributes(tree: Fd, attributes: MountAttributes, depth: Depth) -> Result<(), Failure> {
    if attributes == NO_ATTRIBUTES {
        return Ok(());
    }
    let (attr_set, attr_clr) = (attributes.bits(), attributes.replaced_bits());
    set(tree, Change { attr_set, attr_clr, ..NO_CHANGE }, depth)
}

/// Takes something of the host and leaves it in place of the descriptor `slot`. If that is a user namespace, owners
/// are shown as it maps them.
pub(super) fn prepare(
    path: &CStr,
    recursive: bool,
    attributes: MountAttributes,
    (slot, is_namespace): (Fd, bool),
) -> Result<(), Failure> {
    let depth = if recursive { Depth::All } else { Depth::One };
    let tree = clone_tree(HERE, path, depth)?;
    set_attributes(tree, attributes, depth)?;
    if is_namespace {
        // It is not cut off from the host yet, as all mounts of the new namespace will be.
        let propagation = Propagation::Private.flag();
        let change =
            Change { attr_set: libc::MOUNT_ATTR_IDMAP, userns_fd: slot as u64, propagation, ..NO_CHANGE };
        set(tree, change, depth)?;
    }
    raw::duplicate(tree, slot, libc::O_CLOEXEC)?;
    raw::close(tree);
    Ok(())
}

/// `mount_setattr(2)`.
fn set(tree: Fd, change: Change, depth: Depth) -> Result<(), Failure> {
    let size = size_of::<Change>();
    let flags = libc::AT_EMPTY_PATH | depth.flag();
    // SAFETY: the path is a live string and the structure is live and of the given size.
    unsafe { invoke!(libc::SYS_mount_setattr, tree, c"", flags, &raw const change, size) }.map(drop)
}

/// Moves a detached mount onto an open target.
fn attach(tree: Fd, target: Fd) -> Result<(), Failure> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are live strings.
    unsafe { invoke!(libc::SYS_move_mount, tree, c"", target, c"", flags) }.map(drop)
}

/// Moves a detached mount over a directory of the host's view.
fn attach_over(tree: Fd, at: &CStr) -> Result<(), Failure> {
    // SAFETY: both paths are live strings.
    unsafe { invoke!(libc::SYS_move_mount, tree, c"", HERE, at, MOVE_MOUNT_F_EMPTY_PATH) }.map(drop)
}
