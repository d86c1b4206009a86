//! File trees as values: declared in a test, read from a directory or a tar, compared entry by entry.
//!
//! Paths are text; bytes that are no UTF-8 stand in them as `\xff`. Compared are kind, permission bits, owner, content, link text, device numbers, extended attributes and which
//! names are hard links of one another. Times are not.

use std::collections::BTreeMap;
use std::fmt;

/// What is at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The kind, with what belongs to it.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky; 0777 for symlinks.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Every name of this file, sorted, if it has more than one.
    names: Vec<String>,
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file and its content.
    File(Vec<u8>),
    /// A directory.
    Dir,
    /// A symlink and its text.
    Symlink(String),
    /// A FIFO.
    Fifo,
    /// A character device, major and minor number.
    CharDevice(u32, u32),
    /// A block device, major and minor number.
    BlockDevice(u32, u32),
    /// A socket.
    Socket,
}

/// A tree: entries by path, relative to its root, which has no entry itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory owned by root.
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.with(path, Kind::Dir, mode)
    }

    /// A regular file owned by root.
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.with(path, Kind::File(content.as_ref().to_vec()), mode)
    }

    /// A symlink owned by root.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.with(path, Kind::Symlink(target.to_owned()), 0o777)
    }

    /// Another entry owned by root.
    pub fn with(mut self, path: &str, kind: Kind, mode: u32) -> Self {
        self.unlink(path);
        self.insert(path, Entry { kind, mode, owner: (0, 0), xattrs: BTreeMap::new(), names: Vec::new() });
        self
    }

    /// Another name for the file at `existing`.
    pub fn hard_link(mut self, path: &str, existing: &str) -> Self {
        self.link(path, existing);
        self
    }

    /// Changes the owner of the entry at `path`.
    pub fn owner(mut self, path: &str, uid: u32, gid: u32) -> Self {
        self.entry_mut(path).owner = (uid, gid);
        self
    }

    /// Gives the entry at `path` an extended attribute.
    pub fn xattr(mut self, path: &str, name: &str, value: &[u8]) -> Self {
        self.entry_mut(path).xattrs.insert(name.to_owned(), value.to_vec());
        self
    }

    /// The tree as if root owned everything, for comparing what a user made.
    pub fn without_owners(mut self) -> Self {
        self.entries.values_mut().for_each(|entry| entry.owner = (0, 0));
        self
    }

    /// The tree without what is at or below `path`.
    pub fn without(mut self, path: &str) -> Self {
        self.remove_where(|name| name == path || is_below(name, path));
        self
    }

    /// The tree after an image's layer was put on top: whiteouts take away what was there before, the rest is
    /// added or replaced. Source: OCI image-spec `layer.md`.
    pub fn with_layer(mut self, layer: Tree) -> Self {
        let full =
            |dir: &str, name: &str| if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
        let mut added = Vec::new();
        for (path, entry) in layer.entries {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
            match name.strip_prefix(".wh.") {
                Some(".wh..opq") => self.remove_where(|known| is_below(known, dir)),
                Some(gone) => self = self.without(&full(dir, gone)),
                None => added.push((path, entry)),
            }
        }
        for (path, entry) in added {
            let was_dir = self.unlink(&path).is_some_and(|old| old.kind == Kind::Dir);
            if was_dir && entry.kind != Kind::Dir {
                self.remove_where(|known| is_below(known, &path));
            }
            self.entries.insert(path, entry);
        }
        self
    }

    /// What is at `path`.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The content of the file at `path` as text. Panics if there is no such file.
    pub fn text(&self, path: &str) -> String {
        match self.get(path).map(|entry| &entry.kind) {
            Some(Kind::File(content)) => String::from_utf8_lossy(content).into_owned(),
            other => panic!("{path} is not a file: {other:?}\n{self}"),
        }
    }

    /// All paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Panics with each difference if `actual` is not this tree.
    pub fn assert_is(&self, actual: &Tree) {
        self.assert_shows(actual, "");
    }

    /// The same, and says of what kind `actual` is.
    pub fn assert_shows(&self, actual: &Tree, what: &str) {
        let differences = self.differences(actual);
        let separator = if what.is_empty() { "" } else { ", " };
        assert!(
            differences.is_empty(),
            "the trees differ{separator}{what} (- expected, + actual):\n{}",
            differences.join("\n")
        );
    }

    /// One line for each side of each path that differs.
    fn differences(&self, actual: &Tree) -> Vec<String> {
        let mut paths: Vec<&str> = self.paths().chain(actual.paths()).collect();
        paths.sort_unstable();
        paths.dedup();
        let differing = paths.into_iter().filter(|path| self.get(path) != actual.get(path));
        let line = |sign, path, entry: Option<&Entry>| entry.map(|entry| format!("{sign} {path}: {entry}"));
        differing
            .flat_map(|path| [line('-', path, self.get(path)), line('+', path, actual.get(path))])
            .flatten()
            .collect()
    }

    pub(crate) fn insert(&mut self, path: &str, entry: Entry) {
        self.entries.insert(path.to_owned(), entry);
    }

    /// Makes `path` another name for `existing` and tells every name of that file.
    pub(crate) fn link(&mut self, path: &str, existing: &str) {
        let mut entry = self.entry_mut(existing).clone();
        if entry.names.is_empty() {
            entry.names.push(existing.to_owned());
        }
        entry.names.push(path.to_owned());
        entry.names.sort_unstable();
        for name in entry.names.clone() {
            self.entries.insert(name, entry.clone());
        }
    }

    /// Takes one name away. A file that had it keeps its other names.
    fn unlink(&mut self, path: &str) -> Option<Entry> {
        let old = self.entries.remove(path)?;
        for other in old.names.iter().filter(|name| *name != path) {
            if let Some(entry) = self.entries.get_mut(other) {
                entry.names.retain(|name| name != path);
                if entry.names.len() == 1 {
                    entry.names.clear();
                }
            }
        }
        Some(old)
    }

    fn remove_where(&mut self, gone: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.entries.keys().filter(|name| gone(name)).cloned().collect();
        gone.iter().for_each(|name| drop(self.unlink(name)));
    }

    fn entry_mut(&mut self, path: &str) -> &mut Entry {
        self.entries.get_mut(path).unwrap_or_else(|| panic!("the tree has no {path}"))
    }
}

/// Bytes of a path as text; those that are no UTF-8 become `\xff`.
pub fn path_text(bytes: &[u8]) -> String {
    let escape = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    bytes.utf8_chunks().map(|chunk| chunk.valid().to_owned() + &escape(chunk.invalid())).collect()
}

/// Whether `path` lies below `dir`, and is not `dir` itself.
fn is_below(path: &str, dir: &str) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

impl Entry {
    pub(crate) fn new(kind: Kind, mode: u32, owner: (u32, u32), xattrs: BTreeMap<String, Vec<u8>>) -> Self {
        let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode & 0o7777 };
        Self { kind, mode, owner, xattrs, names: Vec::new() }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o} {}:{} {}", self.mode, self.owner.0, self.owner.1, self.kind)?;
        for (name, value) in &self.xattrs {
            write!(f, ", {name}={:?}", String::from_utf8_lossy(value))?;
        }
        if !self.names.is_empty() {
            write!(f, ", names {:?}", self.names)?;
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(content) => {
                let start = String::from_utf8_lossy(&content[..content.len().min(60)]);
                write!(f, "file of {} bytes {start:?}", content.len())
            }
            Self::Dir => f.write_str("directory"),
            Self::Symlink(target) => write!(f, "symlink to {target:?}"),
            Self::Fifo => f.write_str("fifo"),
            Self::CharDevice(major, minor) => write!(f, "character device {major}:{minor}"),
            Self::BlockDevice(major, minor) => write!(f, "block device {major}:{minor}"),
            Self::Socket => f.write_str("socket"),
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|(path, entry)| writeln!(f, "{path}: {entry}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_path_and_both_sides() {
        let expected = Tree::new().file("a", 0o644, "x").dir("b", 0o755);
        let actual = Tree::new().file("a", 0o600, "x").dir("c", 0o755);
        let lines = expected.differences(&actual);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].starts_with("- a: 0644 0:0 file of 1 bytes"));
        assert!(lines[1].starts_with("+ a: 0600"));
        assert!(lines[2].starts_with("- b") && lines[3].starts_with("+ c"));
        assert!(expected.differences(&expected.clone()).is_empty());
    }

    #[test]
    fn layers_add_replace_and_take_away() {
        let base =
            Tree::new().dir("d", 0o755).file("d/a", 0o644, "").file("d/b", 0o644, "").file("e", 0o644, "");
        let layer = Tree::new().dir("d", 0o700).file("d/.wh.a", 0o644, "").file("e", 0o600, "new");
        let merged = base.clone().with_layer(layer);
        assert_eq!(merged, Tree::new().dir("d", 0o700).file("d/b", 0o644, "").file("e", 0o600, "new"));
        let opaque = Tree::new().file("d/.wh..wh..opq", 0o644, "").file("d/c", 0o644, "");
        assert_eq!(base.with_layer(opaque).paths().collect::<Vec<_>>(), ["d", "d/c", "e"]);
    }

    #[test]
    fn a_file_that_loses_a_name_keeps_the_others() {
        let base = Tree::new().file("a", 0o644, "x").hard_link("b", "a").hard_link("c", "a");
        let merged = base.with_layer(Tree::new().file(".wh.b", 0o644, "").file("c", 0o644, "new"));
        assert_eq!(merged, Tree::new().file("a", 0o644, "x").file("c", 0o644, "new"));
        let beside = Tree::new().dir("d", 0o755).file("d/old", 0o644, "");
        let layer = Tree::new().file("d/ first", 0o644, "").file("d/.wh..wh..opq", 0o644, "");
        assert_eq!(beside.with_layer(layer).paths().collect::<Vec<_>>(), ["d", "d/ first"]);
    }

    #[test]
    fn copies_are_not_hard_links() {
        let linked = Tree::new().file("a", 0o644, "x").hard_link("b", "a");
        let copied = Tree::new().file("a", 0o644, "x").file("b", 0o644, "x");
        assert_eq!(linked.differences(&copied).len(), 4);
        let other_way = Tree::new().file("b", 0o644, "x").hard_link("a", "b");
        assert_eq!(linked, other_way);
    }
}
