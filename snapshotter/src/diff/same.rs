//! Whether a name stands for the same file in two trees.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sys::path_error::{PathContext, PathError};
use sys::rootdir::RootDir;
use sys::stat::{Kind, Stat};
use sys::xattr::{self, Target};

use super::DiffError;
use crate::tree::is_image_xattr;

/// How much of two files is compared at a time.
const COMPARED: usize = 64 << 10;

/// One side of a comparison: a directory, and what it has under the name in question.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) dir: &'a RootDir,
    pub(super) stat: &'a Stat,
}

/// When the content of two files is read that agree in everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// Always.
    Compared,
    /// When the times are whole seconds, as tools that set times write them, and so cannot decide.
    ComparedWithoutFractions,
}

/// Whether `name` is the same file on both sides: kind, mode, owner, the attributes that belong to an image, and, but for
/// directories, modification time, number of names, size, link target, device number and content.
pub(super) fn is_same(
    lower: Side<'_>,
    upper: Side<'_>,
    name: &OsStr,
    contents: Contents,
) -> Result<bool, DiffError> {
    let attributes = |stat: &Stat| (stat.kind, stat.mode, stat.uid, stat.gid);
    if attributes(lower.stat) != attributes(upper.stat) || !same_xattrs(lower.dir, upper.dir, name)? {
        return Ok(false);
    }
    let one_inode = (lower.stat.device, lower.stat.inode) == (upper.stat.device, upper.stat.inode);
    match upper.stat.kind {
        Kind::Directory => return Ok(true),
        _ if lower.stat.mtime != upper.stat.mtime || lower.stat.links != upper.stat.links => {
            return Ok(false);
        }
        _ if one_inode => return Ok(true),
        _ => {}
    }
    let reads = contents == Contents::Compared || upper.stat.mtime.nanoseconds == 0;
    match upper.stat.kind {
        Kind::CharDevice | Kind::BlockDevice => Ok(lower.stat.rdev == upper.stat.rdev),
        Kind::Symlink => Ok(lower.dir.read_link(name)? == upper.dir.read_link(name)?),
        Kind::File if lower.stat.size != upper.stat.size => Ok(false),
        Kind::File if reads => same_files(lower.dir, upper.dir, name),
        _ => Ok(true),
    }
}

fn same_xattrs(lower: &RootDir, upper: &RootDir, name: &OsStr) -> Result<bool, DiffError> {
    let read = |directory: &RootDir| {
        xattr::read_all(Target::Name(directory, name), &directory.shown(name), is_image_xattr)
    };
    Ok(read(lower)? == read(upper)?)
}

fn same_files(lower: &RootDir, upper: &RootDir, name: &OsStr) -> Result<bool, DiffError> {
    let (mut lower_file, mut upper_file) = (lower.open_file(name)?, upper.open_file(name)?);
    Ok(same_content((&mut lower_file, &lower.shown(name)), (&mut upper_file, &upper.shown(name)))?)
}

/// Whether two files hold the same from where they are read; each with its path for messages.
pub(crate) fn same_content(one: (&mut File, &Path), other: (&mut File, &Path)) -> Result<bool, PathError> {
    loop {
        let (first, second) = (piece(one.0, one.1)?, piece(other.0, other.1)?);
        if first != second || first.is_empty() {
            return Ok(first == second);
        }
    }
}

fn piece(file: &mut File, shown: &Path) -> Result<Vec<u8>, PathError> {
    let mut bytes = Vec::with_capacity(COMPARED);
    file.take(COMPARED as u64).read_to_end(&mut bytes).at("read", shown)?;
    Ok(bytes)
}
