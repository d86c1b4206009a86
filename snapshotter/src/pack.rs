//! Writes files of a tree as a tar stream, for people: `lap cp` and `lap export`. Unlike the archive of a layer
//! ([`crate::diff`]) it may begin anywhere in the tree, has whatever names there are, and is read from a tree that others
//! may change meanwhile: what goes away before it is read is left out.
//!
//! A directory is read when its turn comes, so memory is bounded by the largest directories on one path.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use base::cancel::Cancelled;
use base::{CancelToken, Fault, Faulty};
use sys::rootdir::stat_of;
use sys::stat::Kind;

use crate::tar_entry::{self, Mtime, Xattr};
use crate::tar_write::{TarWriteError, Writer};
use crate::tree::{Entry, Tree, TreeError};

/// Bits of a mode that give whoever starts a program other rights.
const RIGHTS: u32 = 0o6000;

/// What to leave out.
#[derive(Clone, Copy)]
pub struct PackOptions<'a> {
    /// Bits and attributes by which programs give other rights, devices, and all extended attributes.
    pub plain: bool,
    /// Whether what is mounted on the directory at this path is looked into.
    pub enter: &'a (dyn Fn(&Path) -> bool + Sync),
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed {
    /// Files of any kind.
    pub entries: u64,
    /// Devices that were left out.
    pub skipped_devices: u64,
    /// Sockets, which no archive can hold.
    pub skipped_sockets: u64,
}

/// Why files were not written. The output then holds an unusable part of them.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The archive could not be written, or a file became shorter while it was read.
    #[error(transparent)]
    Write(#[from] TarWriteError),
    /// The caller asked to stop.
    #[error("writing the archive was cancelled")]
    Cancelled,
}

impl From<Cancelled> for PackError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Faulty for PackError {
    fn fault(&self) -> Fault {
        match self {
            Self::Tree(error) => error.fault(),
            Self::Write(error) => error.fault(),
            Self::Cancelled => Fault::Cancelled,
        }
    }
}

impl PackError {
    /// Whether nobody reads the archive any more.
    pub fn is_unread(&self) -> bool {
        let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        matches!(self, Self::Write(TarWriteError::Write { source, .. } | TarWriteError::End { source }) if broken(source))
    }
}

/// Writes `top` and all below it. It gets the name `name`, and with an empty one only what is in it is written.
pub fn pack(
    tree: &Tree,
    top: &Entry,
    name: &Path,
    options: PackOptions<'_>,
    out: impl Write,
    cancel: &CancelToken,
) -> Result<Packed, PackError> {
    let mut packer = Packer {
        tree,
        options,
        archive: Writer::new(out),
        first_names: HashMap::new(),
        packed: Packed::default(),
    };
    if !name.as_os_str().is_empty() {
        packer.add(top, name)?;
    }
    let mut levels = Vec::new();
    if top.is_dir() {
        levels.push((name.to_owned(), top.stat().device, tree.read_dir(top)?.into_iter()));
    }
    while let Some((directory, device, entries)) = levels.last_mut() {
        cancel.check()?;
        let Some(entry) = entries.next() else {
            levels.pop();
            continue;
        };
        let (name, device) = (directory.join(entry.name()), *device);
        let below = packer.add_below(&entry, &name, device);
        match below {
            Ok(Some(children)) => levels.push((name, entry.stat().device, children.into_iter())),
            Ok(None) => {}
            Err(PackError::Tree(error)) if error.vanished().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    packer.archive.finish()?.flush().map_err(|source| TarWriteError::End { source })?;
    Ok(packer.packed)
}

struct Packer<'a, W> {
    tree: &'a Tree,
    options: PackOptions<'a>,
    archive: Writer<W>,
    /// For files with several names, the name that was written first.
    first_names: HashMap<(u64, u64), PathBuf>,
    packed: Packed,
}

impl<W: Write> Packer<'_, W> {
    /// Writes an entry; answers what is in it, if it is a directory that is looked into.
    fn add_below(
        &mut self,
        entry: &Entry,
        name: &Path,
        around: u64,
    ) -> Result<Option<Vec<Entry>>, PackError> {
        if !entry.is_dir() {
            self.add(entry, name)?;
            return Ok(None);
        }
        let is_mounted = entry.stat().device != around;
        let enter = !is_mounted || (self.options.enter)(entry.path());
        // A directory that has gone is not written either.
        let children = if enter { Some(self.tree.read_dir(entry)?) } else { None };
        self.add(entry, name)?;
        Ok(children)
    }

    fn add(&mut self, entry: &Entry, name: &Path) -> Result<(), PackError> {
        let kind = match entry.kind() {
            Kind::File => tar_entry::Kind::File,
            Kind::Directory => tar_entry::Kind::Directory,
            Kind::Symlink => tar_entry::Kind::Symlink,
            Kind::Fifo => tar_entry::Kind::Fifo,
            Kind::CharDevice | Kind::BlockDevice if self.options.plain => {
                self.packed.skipped_devices += 1;
                return Ok(());
            }
            Kind::CharDevice => tar_entry::Kind::CharDevice,
            Kind::BlockDevice => tar_entry::Kind::BlockDevice,
            Kind::Socket => {
                self.packed.skipped_sockets += 1;
                return Ok(());
            }
        };
        let stat = entry.stat();
        let mut written = tar_entry::Entry::new(kind, name.as_os_str().as_bytes());
        written.mode = if self.options.plain && !entry.is_dir() { stat.mode & !RIGHTS } else { stat.mode };
        (written.uid, written.gid) = (stat.uid, stat.gid);
        written.mtime = Mtime { seconds: stat.mtime.seconds, nanos: stat.mtime.nanoseconds };
        if matches!(kind, tar_entry::Kind::CharDevice | tar_entry::Kind::BlockDevice) {
            written.device = (rustix::fs::major(stat.rdev), rustix::fs::minor(stat.rdev));
        }
        if !self.options.plain {
            let convert =
                |xattr: sys::xattr::Xattr| Xattr { name: xattr.name.into_bytes(), value: xattr.value };
            written.xattrs = self.tree.xattrs(entry)?.into_iter().map(convert).collect();
        }
        let inode = (stat.device, stat.inode);
        if !entry.is_dir() && stat.links > 1 {
            if let Some(first) = self.first_names.get(&inode) {
                written.kind = tar_entry::Kind::HardLink;
                written.link = first.as_os_str().as_bytes().to_vec();
                written.xattrs.clear();
                return self.append(&written, &mut io::empty());
            }
            self.first_names.insert(inode, name.to_owned());
        }
        match kind {
            tar_entry::Kind::File => {
                let mut file = self.tree.open(entry)?;
                let shown = self.tree.shown(entry);
                let now = stat_of(&file, &shown).map_err(TreeError::from)?;
                if now.kind != Kind::File {
                    return Err(TreeError::NotAFile(entry.path().to_owned()).into());
                }
                written.size = now.size;
                self.append(&written, &mut file)
            }
            tar_entry::Kind::Symlink => {
                written.link = self.tree.read_link(entry)?.into_vec();
                self.append(&written, &mut io::empty())
            }
            _ => self.append(&written, &mut io::empty()),
        }
    }

    fn append(&mut self, entry: &tar_entry::Entry, data: &mut dyn io::Read) -> Result<(), PackError> {
        self.packed.entries += 1;
        Ok(self.archive.append(entry, data)?)
    }
}
