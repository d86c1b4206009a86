//! Directories of the merged view in the layer: raising those that exist only below, and starting new ones.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sys::rootdir::{self, RootDir};
use sys::xattr::{self, Target};

use super::{Attributes, LayerWriter, Result, WriteError, clear};
use crate::tree::{Entry, Follow, OPAQUE_TRUSTED, OPAQUE_USER};

/// The mode of a directory that is not finished: its attributes come when all is in it.
const UNFINISHED: u32 = 0o700;

impl LayerWriter {
    /// The real directory, in the layer, of an existing directory of the merged view. Where it exists only
    /// below, it and those above it are created with the attributes that they have there.
    pub(crate) fn raise_dir(&self, dir: &Entry) -> Result<RootDir> {
        if let Some(real) = self.layer.open_real_dir(dir.path())? {
            return Ok(real);
        }
        let mut real = self.layer.open_dir("")?;
        let mut path = PathBuf::new();
        for name in dir.path() {
            path.push(name);
            real = match real.open_real_dir(name)? {
                Some(next) => next,
                None => self.raise_one(&real, name, &path)?,
            };
        }
        Ok(real)
    }

    /// Creates one directory of the merged view in the layer. Nothing visible changes, so the time of the
    /// directory that holds it stays.
    fn raise_one(&self, holder: &RootDir, name: &OsStr, path: &Path) -> Result<RootDir> {
        let found = self.merged.lookup(path, Follow::NoLast)?;
        let entry = found.ok_or_else(|| WriteError::Missing(path.to_owned()))?;
        let attributes = Attributes::of(entry.stat(), self.merged.xattrs(&entry)?);
        let before = rootdir::stat_of(holder, holder.path())?;
        holder.create_dir(name, UNFINISHED)?;
        let real = holder.open_dir(name)?;
        self.finish_dir(&real, &attributes)?;
        rootdir::set_times_of(holder, holder.path(), before.mtime)?;
        Ok(real)
    }

    /// Creates a directory where the merged view has nothing. It is private to us until it is finished.
    pub(crate) fn start_dir(&self, holder: &RootDir, name: &OsStr) -> Result<()> {
        match holder.create_dir(name, UNFINISHED) {
            Ok(()) => Ok(()),
            // A whiteout, which covers something below that must stay covered.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                clear(holder, name)?;
                holder.create_dir(name, UNFINISHED)?;
                let mark = if self.options.userxattr { OPAQUE_USER } else { OPAQUE_TRUSTED };
                Ok(xattr::set(Target::Name(holder, name), &holder.shown(name), mark, b"y")?)
            }
            Err(error) => Err(error.into()),
        }
    }
}
