//! The marks that overlayfs leaves in a layer: whiteouts, opaque directories, and its own attributes.
//!
//! Source: the kernel's `Documentation/filesystems/overlayfs.rst`, sections "whiteouts and opaque
//! directories" and "Sharing and copying layers" (whiteouts as attributes). The marks of both attribute
//! namespaces are understood, `trusted.` of privileged mounts and `user.` of mounts with `userxattr`.

use std::ffi::{CStr, OsStr};
use std::path::Path;

use sys::path_error::PathError;
use sys::rootdir::RootDir;
use sys::stat::{Kind, Stat};
use sys::xattr::{self, Target};

/// Marks a directory as opaque, in privileged mounts.
pub(crate) const OPAQUE_TRUSTED: &CStr = c"trusted.overlay.opaque";
/// Marks a directory as opaque, in mounts with `userxattr`.
pub(crate) const OPAQUE_USER: &CStr = c"user.overlay.opaque";
const WHITEOUT_NAMES: [&CStr; 2] = [c"trusted.overlay.whiteout", c"user.overlay.whiteout"];

/// What the `opaque` attribute says about a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opacity {
    /// Nothing: it merges with the directories below.
    Merges,
    /// `y`: it hides the directories below.
    Opaque,
    /// `x`: it merges, and empty files in it may be whiteouts.
    HasXattrWhiteouts,
}

/// Reads the mark of a directory. `shown` is its path for messages.
pub(super) fn opacity(dir: Target<'_>, shown: &Path) -> Result<Opacity, PathError> {
    for attribute in [OPAQUE_TRUSTED, OPAQUE_USER] {
        match xattr::get(dir, shown, attribute)?.as_deref() {
            Some(b"y") => return Ok(Opacity::Opaque),
            Some(b"x") => return Ok(Opacity::HasXattrWhiteouts),
            _ => {}
        }
    }
    Ok(Opacity::Merges)
}

/// Whether an entry of a layer hides the name below it. `xattr_whiteouts`: its directory says that empty
/// files in it may be whiteouts.
pub(super) fn is_whiteout(
    holder: &RootDir,
    name: &OsStr,
    stat: &Stat,
    xattr_whiteouts: bool,
) -> Result<bool, PathError> {
    if stat.is_whiteout() {
        return Ok(true);
    }
    if !xattr_whiteouts || stat.kind != Kind::File || stat.size != 0 {
        return Ok(false);
    }
    for attribute in WHITEOUT_NAMES {
        if xattr::get(Target::Name(holder, name), &holder.shown(name), attribute)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an extended attribute is part of a file's content, which is what keys hash and copies keep.
///
/// Not part of it: overlayfs's own marks, which belong to a layer; the labels of security modules
/// (`security.*` but for file capabilities), which belong to a host; and `system.*` (access control
/// lists), which name users of a host.
pub fn is_content_xattr(name: &[u8]) -> bool {
    const FOREIGN: [&[u8]; 4] = [b"trusted.overlay.", b"user.overlay.", b"security.", b"system."];
    name == b"security.capability" || !FOREIGN.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether an extended attribute belongs to an image: what layers carry, what is the same in a copy of a tree,
/// and what a directory keeps when a layer takes it over from those below.
///
/// Unlike [`is_content_xattr`] with POSIX access control lists, and without what nobody but the kernel knows.
pub(crate) fn is_image_xattr(name: &[u8]) -> bool {
    if name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.overlay.") {
        return false;
    }
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

/// Whether an extended attribute is part of what a layer directory says: content, access control lists (a step
/// may have set them, and what comes after it must not be taken from before), and the marks that change what
/// the layers below show.
pub(crate) fn is_layer_xattr(name: &[u8]) -> bool {
    let marks = [OPAQUE_TRUSTED, OPAQUE_USER, WHITEOUT_NAMES[0], WHITEOUT_NAMES[1]];
    is_content_xattr(name) || is_image_xattr(name) || marks.iter().any(|mark| mark.to_bytes() == name)
}
