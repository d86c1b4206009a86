//! Writes the tar of a layer entry by entry, names and all as given.
//!
//! Nothing is checked or cleaned: a test that needs an entry called `../../etc/passwd` gets one. Times are zero
//! and owners are root unless said otherwise, so the same calls give the same bytes.

use tar::{Builder, EntryType, Header};

/// A tar that grows by one entry per call.
pub struct LayerTar {
    builder: Builder<Vec<u8>>,
    owner: (u64, u64),
}

impl Default for LayerTar {
    fn default() -> Self {
        Self::new()
    }
}

impl LayerTar {
    /// An empty tar.
    pub fn new() -> Self {
        Self { builder: Builder::new(Vec::new()), owner: (0, 0) }
    }

    /// Sets the user and group of the entries that follow.
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// A directory.
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, mode, "", &[])
    }

    /// A regular file.
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, path, mode, "", content.as_ref())
    }

    /// A symlink with the text `target`.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, 0o777, target, &[])
    }

    /// Another name for the entry at `existing`.
    pub fn hard_link(self, path: &str, existing: &str) -> Self {
        self.entry(EntryType::Link, path, 0o644, existing, &[])
    }

    /// A FIFO.
    pub fn fifo(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Fifo, path, mode, "", &[])
    }

    /// A character device.
    pub fn char_device(mut self, path: &str, mode: u32, major: u32, minor: u32) -> Self {
        let mut header = self.header(EntryType::Char, mode, 0);
        header.set_device_major(major).expect("a GNU header has device numbers");
        header.set_device_minor(minor).expect("a GNU header has device numbers");
        self.append(header, path, "", &[]);
        self
    }

    /// The mark that a lower layer's entry at `path` is gone. Source: OCI image-spec `layer.md`, "Whiteouts".
    pub fn whiteout(self, path: &str) -> Self {
        let (parent, name) = path.rsplit_once('/').map_or(("", path), |(parent, name)| (parent, name));
        let separator = if parent.is_empty() { "" } else { "/" };
        self.file(&format!("{parent}{separator}.wh.{name}"), 0o644, "")
    }

    /// The mark that nothing of a lower layer's directory at `path` shows through.
    pub fn opaque(self, path: &str) -> Self {
        self.file(&format!("{path}/.wh..wh..opq"), 0o644, "")
    }

    /// An extended attribute of the entry that follows, as a PAX record.
    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        let key = format!("SCHILY.xattr.{name}");
        self.builder.append_pax_extensions([(key.as_str(), value)]).expect("a vector takes all bytes");
        self
    }

    /// The bytes, with the two zero blocks that end an archive.
    pub fn finish(self) -> Vec<u8> {
        self.builder.into_inner().expect("a vector takes all bytes")
    }

    fn entry(mut self, kind: EntryType, path: &str, mode: u32, link: &str, content: &[u8]) -> Self {
        let header = self.header(kind, mode, content.len());
        self.append(header, path, link, content);
        self
    }

    fn header(&self, kind: EntryType, mode: u32, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(0);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header
    }

    /// Puts the names into the header as they are; those that do not fit go into GNU's long-name entries.
    fn append(&mut self, mut header: Header, path: &str, link: &str, content: &[u8]) {
        for (kind, name) in [(EntryType::GNULongName, path), (EntryType::GNULongLink, link)] {
            if name.len() > 100 {
                self.append_long_name(kind, name);
            }
        }
        let names = header.as_old_mut();
        copy_name(&mut names.name, path);
        copy_name(&mut names.linkname, link);
        header.set_cksum();
        self.builder.append(&header, content).expect("a vector takes all bytes");
    }

    fn append_long_name(&mut self, kind: EntryType, name: &str) {
        let mut header = self.header(kind, 0o644, name.len() + 1);
        copy_name(&mut header.as_old_mut().name, "././@LongLink");
        header.set_cksum();
        let data = [name.as_bytes(), &[0]].concat();
        self.builder.append(&header, data.as_slice()).expect("a vector takes all bytes");
    }
}

/// Fills a header's name field with as much of `name` as it holds.
fn copy_name(field: &mut [u8; 100], name: &str) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name.as_bytes()[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tar: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap();
        entries.map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap()).collect()
    }

    #[test]
    fn names_are_written_as_given() {
        let long = format!("d/{}", "x".repeat(150));
        let tar = LayerTar::new().file("../evil", 0o644, "x").file("/abs", 0o644, "").file(&long, 0o600, "y");
        assert_eq!(names(&tar.finish()), ["../evil", "/abs", long.as_str()]);
    }

    #[test]
    fn whiteouts_have_their_marks() {
        let tar = LayerTar::new().whiteout("a/b").whiteout("c").opaque("d").finish();
        assert_eq!(names(&tar), ["a/.wh.b", ".wh.c", "d/.wh..wh..opq"]);
    }

    #[test]
    fn the_same_calls_give_the_same_bytes() {
        let make = || LayerTar::new().dir("a", 0o755).xattr("user.x", b"1").file("a/b", 0o644, "c").finish();
        assert_eq!(make(), make());
    }
}
