//! Files that a client of another process or machine sends: brought up to date in a copy that the store keeps for the next
//! build of the same directory.
//!
//! What comes is hostile. Every path is looked at before it is used, and nothing is made below a name that was not sent as a
//! directory, so no link that was sent before leads anywhere. Devices are not made.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use base::KeyHasher;
use snapshotter::tree::Follow;
use snapshotter::{ReceivedDir, Tree};
use sys::rootdir::{RootDir, set_mode_of, set_times_of};
use sys::stat::{FileTime, Kind, Stat};
use sys::xattr::{self, Target};

use crate::Engine;
use crate::context::LARGEST_TEXT;
use crate::error::EngineError;

/// No client sends a longer path, in bytes; the kernel takes none.
const LONGEST_PATH: usize = 4095;

/// What a name that is sent stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentKind {
    /// A file, whose content comes if it is asked for.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(String),
    /// Another name of a file that was sent before.
    HardLink(String),
    /// A named pipe.
    Fifo,
    /// Something else, which is left out.
    Other,
}

/// One name that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentEntry {
    /// Its path, relative to the directory, with `/` between names.
    pub path: String,
    /// What it is.
    pub kind: SentKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Bytes of a file.
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub modified: i64,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl SentEntry {
    fn time(&self) -> FileTime {
        let second = 1_000_000_000;
        let nanoseconds = u32::try_from(self.modified.rem_euclid(second)).unwrap_or(0);
        FileTime { seconds: self.modified.div_euclid(second), nanoseconds }
    }
}

/// A copy that is being brought up to date, and is ours until it is dropped.
#[derive(Debug)]
pub struct ReceivedFiles {
    root: RootDir,
    dir: ReceivedDir,
    /// What was named: directories with how they are to be in the end.
    named: HashMap<PathBuf, Option<(u32, FileTime)>>,
    bytes: u64,
    /// Whether files of the copy may have attributes.
    had_attributes: bool,
    has_attributes: bool,
}

impl Engine {
    /// The copy of a client's directory, which `parts` name: the same parts, the same directory.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn receive_files(&self, parts: &[&str]) -> Result<ReceivedFiles, EngineError> {
        let mut key = KeyHasher::new("lapstrake/received/v1");
        for part in parts {
            key.bytes(part.as_bytes());
        }
        let dir = self.store.received_dir(&key.finish())?;
        let root = RootDir::open(dir.path())?;
        let had_attributes = dir.has_attributes();
        // Whatever happens from now on, the next one has to look.
        dir.note(0, true)?;
        Ok(ReceivedFiles {
            root,
            dir,
            named: HashMap::new(),
            bytes: 0,
            had_attributes,
            has_attributes: false,
        })
    }
}

impl ReceivedFiles {
    /// Where the files are.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A text among the files, if there is one of this path. No link leads out of them.
    ///
    /// # Errors
    /// It cannot be read, or is larger than any text should be.
    pub fn read_text(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let tree = Tree::directory(self.path(), None)?;
        let Some(entry) = tree.lookup(path, Follow::Last)? else { return Ok(None) };
        Ok(Some(tree.read(&entry, LARGEST_TEXT)?))
    }

    /// Takes a name. `true` when the content of a file has to come, since it is not what it was.
    ///
    /// # Errors
    /// The path is none, or is not below a directory that was sent before; or the copy cannot be written.
    pub fn entry(&mut self, entry: &SentEntry) -> Result<bool, EngineError> {
        let path = self.checked(&entry.path)?;
        let found = self.root.stat(&path)?;
        self.has_attributes |= entry.xattrs.keys().any(|name| is_kept(name));
        self.bytes += 4096 + entry.size.next_multiple_of(4096);
        let directory = (entry.kind == SentKind::Directory).then(|| (entry.mode, entry.time()));
        let is_new = self.named.insert(path.clone(), directory).is_none();
        if !is_new {
            return Err(refused(&entry.path, "it was sent twice"));
        }
        match &entry.kind {
            SentKind::Directory => self.directory(&path, found)?,
            SentKind::File => return self.file(&path, entry, found),
            SentKind::Symlink(target) => self.symlink(&path, target, entry, found)?,
            SentKind::HardLink(target) => self.hard_link(&path, target, entry, found)?,
            SentKind::Fifo => self.fifo(&path, entry, found)?,
            SentKind::Other => {
                self.named.remove(&path);
            }
        }
        Ok(false)
    }

    /// The new file of an entry whose content comes.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self, entry: &SentEntry) -> Result<File, EngineError> {
        Ok(self.root.create_file(Path::new(&entry.path), 0o600)?)
    }

    /// Gives a file whose content has come its mode, attributes and time.
    ///
    /// # Errors
    /// They cannot be set, or what came is not as long as was said: the file was changed while it was sent.
    pub fn complete(&self, entry: &SentEntry, file: &File) -> Result<(), EngineError> {
        let shown = self.root.shown(&entry.path);
        let length = sys::rootdir::stat_of(file.as_fd(), &shown)?.size;
        if length != entry.size {
            let why =
                format!("{length} bytes came and {} were announced; it was changed meanwhile", entry.size);
            return Err(refused(&entry.path, &why));
        }
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
            let name = std::ffi::CString::new(name.as_bytes())
                .map_err(|_| refused(&entry.path, "an attribute's name has a zero byte"))?;
            xattr::set(Target::Open(file.as_fd()), &shown, &name, value)?;
        }
        set_mode_of(file, &shown, entry.mode)?;
        Ok(set_times_of(file, &shown, entry.time())?)
    }

    /// Removes what was not named, and gives directories their modes and times. From now on the copy is as what was sent.
    ///
    /// # Errors
    /// The copy cannot be written.
    pub fn finish(&mut self) -> Result<(), EngineError> {
        self.remove_unnamed(Path::new(""))?;
        let mut directories: Vec<_> =
            self.named.iter().filter_map(|(path, is)| Some((path, (*is)?))).collect();
        directories.sort_unstable_by(|a, b| b.0.cmp(a.0));
        for (path, (mode, time)) in directories {
            let found = self.root.stat(path)?;
            if found.is_none_or(|found| found.mode != mode) {
                self.root.set_mode(path, mode)?;
            }
            if found.is_none_or(|found| found.mtime != time) {
                self.root.set_times(path, time)?;
            }
        }
        Ok(self.dir.note(self.bytes, self.has_attributes)?)
    }

    fn remove_unnamed(&self, path: &Path) -> Result<(), EngineError> {
        let Some(dir) = self.root.open_real_dir(path)? else { return Ok(()) };
        for (name, _) in dir.names()? {
            let path = path.join(&name);
            match self.named.get(&path) {
                None => dir.remove_all(&name)?,
                Some(Some(_)) => self.remove_unnamed(&path)?,
                Some(None) => {}
            }
        }
        Ok(())
    }

    /// The path, if it is one below a directory that was sent.
    fn checked(&self, text: &str) -> Result<PathBuf, EngineError> {
        let is_name = |part: &str| !part.is_empty() && part != "." && part != "..";
        if text.len() > LONGEST_PATH || text.contains('\0') || !text.split('/').all(is_name) {
            return Err(refused(text, "it is not a path below the directory"));
        }
        let path = PathBuf::from(text);
        let parent = path.parent().unwrap_or(Path::new(""));
        if !parent.as_os_str().is_empty() && !matches!(self.named.get(parent), Some(Some(_))) {
            return Err(refused(text, "the directory that it is in was not sent before it"));
        }
        Ok(path)
    }

    fn directory(&self, path: &Path, found: Option<Stat>) -> Result<(), EngineError> {
        if found.is_none_or(|found| !found.is_dir()) {
            self.root.remove_all(path)?;
            self.root.create_dir(path, 0o700)?;
        } else if found.is_some_and(|found| found.mode & 0o700 != 0o700) {
            self.root.set_mode(path, 0o700)?;
        }
        Ok(())
    }

    fn file(&self, path: &Path, entry: &SentEntry, found: Option<Stat>) -> Result<bool, EngineError> {
        let is_same = |found: &Stat| {
            found.kind == Kind::File
                && (found.size, found.mode, found.mtime) == (entry.size, entry.mode, entry.time())
                && found.links == 1
        };
        if found.as_ref().is_some_and(is_same) && self.has_attributes(path, entry)? {
            return Ok(false);
        }
        // Always a new file: who remembers the old one by its number sees that it is another.
        self.root.remove_all(path)?;
        Ok(true)
    }

    fn has_attributes(&self, path: &Path, entry: &SentEntry) -> Result<bool, EngineError> {
        if !self.had_attributes {
            return Ok(!entry.xattrs.keys().any(|name| is_kept(name)));
        }
        let file = match self.root.open_file(path) {
            Ok(file) => file,
            Err(_) => return Ok(false),
        };
        let shown = self.root.shown(path);
        let names = xattr::list(Target::Open(file.as_fd()), &shown)?;
        let mut found = BTreeMap::new();
        for name in names {
            let text = name.to_string_lossy().into_owned();
            if is_kept(&text) {
                found
                    .insert(text, xattr::get(Target::Open(file.as_fd()), &shown, &name)?.unwrap_or_default());
            }
        }
        let wanted = entry.xattrs.iter().filter(|(name, _)| is_kept(name));
        Ok(found.iter().eq(wanted))
    }

    fn symlink(
        &self,
        path: &Path,
        target: &str,
        entry: &SentEntry,
        found: Option<Stat>,
    ) -> Result<(), EngineError> {
        let is_same = found.is_some_and(|found| found.kind == Kind::Symlink && found.mtime == entry.time())
            && self.root.read_link(path)? == OsStr::new(target);
        if !is_same {
            self.root.remove_all(path)?;
            self.root.create_symlink(path, OsStr::new(target))?;
            self.root.set_times(path, entry.time())?;
        }
        Ok(())
    }

    fn hard_link(
        &self,
        path: &Path,
        target: &str,
        entry: &SentEntry,
        found: Option<Stat>,
    ) -> Result<(), EngineError> {
        let first = PathBuf::from(target);
        if !matches!(self.named.get(&first), Some(None)) || first == path {
            return Err(refused(
                &entry.path,
                &format!("it is a link to {target:?}, which was not sent before"),
            ));
        }
        let linked = self.root.stat(&first)?;
        if let (Some(found), Some(linked)) = (&found, &linked)
            && found.inode == linked.inode
        {
            return Ok(());
        }
        self.root.remove_all(path)?;
        Ok(self.root.create_hard_link(path, &self.root, &first)?)
    }

    fn fifo(&self, path: &Path, entry: &SentEntry, found: Option<Stat>) -> Result<(), EngineError> {
        if found.is_none_or(|found| found.kind != Kind::Fifo || found.mode != entry.mode) {
            self.root.remove_all(path)?;
            self.root.create_node(path, Kind::Fifo, entry.mode & 0o777, 0)?;
        }
        self.root.set_times(path, entry.time()).map_err(Into::into)
    }
}

/// Attributes that are part of what an image has; others are the client's machine's.
fn is_kept(name: &str) -> bool {
    name.starts_with("user.") || name == "security.capability"
}

fn refused(path: &str, why: &str) -> EngineError {
    EngineError::Sent { path: path.to_owned(), why: why.to_owned() }
}
