//! Reads a [`Tree`] from a directory or a tar.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tar::EntryType;

use crate::tree::{Entry, Kind, Tree, path_text};

type Xattrs = BTreeMap<String, Vec<u8>>;

impl Tree {
    /// Everything below a directory; symlinks are not followed. Panics if something cannot be read.
    pub fn of_dir(root: &Path) -> Self {
        let mut tree = Self::new();
        let mut first_names: BTreeMap<(u64, u64), String> = BTreeMap::new();
        let mut pending = vec![root.to_owned()];
        while let Some(dir) = pending.pop() {
            let entries =
                std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
            for entry in entries {
                let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
                let path = entry.path();
                let metadata = entry.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                if metadata.is_dir() {
                    pending.push(path.clone());
                }
                let name = path.strip_prefix(root).expect("an entry lies below the root");
                let name = path_text(name.as_os_str().as_bytes());
                let file = (metadata.dev(), metadata.ino());
                match first_names.get(&file).filter(|_| metadata.nlink() > 1 && !metadata.is_dir()) {
                    Some(first) => tree.link(&name, &first.clone()),
                    None => {
                        tree.insert(&name, read_entry(&path, &metadata));
                        first_names.insert(file, name);
                    }
                }
            }
        }
        tree
    }

    /// The entries of an uncompressed tar, not of what it makes on a disk: a later entry of the same name
    /// replaces an earlier one, and whiteouts are files. Panics if it cannot be read.
    pub fn of_tar(tar: impl Read) -> Self {
        let mut tree = Self::new();
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("a tar entry");
            let name = clean(&path_text(&entry.path_bytes()));
            if name.is_empty() {
                continue;
            }
            let link = entry.link_name_bytes().map(|link| path_text(&link));
            if entry.header().entry_type() == EntryType::Link {
                tree.link(&name, &clean(&link.expect("a hard link has a target")));
            } else {
                let entry = tar_entry(&mut entry, link);
                tree.insert(&name, entry);
            }
        }
        tree
    }
}

/// A tar name without the leading `./` or `/` and the trailing `/` that some programs write.
fn clean(name: &str) -> String {
    let name = name.strip_prefix("./").unwrap_or(name).trim_matches('/');
    if name == "." { String::new() } else { name.to_owned() }
}

fn read_entry(path: &Path, metadata: &std::fs::Metadata) -> Entry {
    let kind = metadata.file_type();
    let device = || {
        let id = metadata.rdev();
        (rustix::fs::major(id), rustix::fs::minor(id))
    };
    let kind = if kind.is_dir() {
        Kind::Dir
    } else if kind.is_symlink() {
        Kind::Symlink(path_text(std::fs::read_link(path).expect("a symlink").as_os_str().as_bytes()))
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else if kind.is_char_device() {
        Kind::CharDevice(device().0, device().1)
    } else if kind.is_block_device() {
        Kind::BlockDevice(device().0, device().1)
    } else {
        Kind::File(std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    Entry::new(kind, metadata.mode(), (metadata.uid(), metadata.gid()), read_xattrs(path))
}

/// All extended attributes that the caller may see; none where the file system has none. Labels of the host's
/// security module are left out.
fn read_xattrs(path: &Path) -> Xattrs {
    let mut names = vec![0; 64 * 1024];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names) else { return Xattrs::new() };
    let mut xattrs = Xattrs::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).expect("the kernel ends each name with a zero byte");
        if name.to_bytes().starts_with(b"security.") && name != c"security.capability" {
            continue;
        }
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, name, &mut value)
            .unwrap_or_else(|error| panic!("{}: {}: {error}", path.display(), name.to_string_lossy()));
        value.truncate(length);
        xattrs.insert(name.to_string_lossy().into_owned(), value);
    }
    xattrs
}

fn tar_entry<R: Read>(entry: &mut tar::Entry<'_, R>, link: Option<String>) -> Entry {
    let xattrs = tar_xattrs(entry);
    let header = entry.header();
    let number =
        |value: std::io::Result<u64>| u32::try_from(value.expect("a number")).expect("a 32-bit number");
    let device = || {
        let part = |value: std::io::Result<Option<u32>>| value.expect("a number").unwrap_or_default();
        (part(header.device_major()), part(header.device_minor()))
    };
    let (mode, owner) = (header.mode().expect("a mode"), (number(header.uid()), number(header.gid())));
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Dir,
        EntryType::Symlink => Kind::Symlink(link.expect("a symlink has a target")),
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => Kind::CharDevice(device().0, device().1),
        EntryType::Block => Kind::BlockDevice(device().0, device().1),
        EntryType::Regular | EntryType::GNUSparse | EntryType::Continuous => {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("the content of a tar entry");
            Kind::File(content)
        }
        other => panic!("an entry of type {other:?} in a tar"),
    };
    Entry::new(kind, mode, owner, xattrs)
}

fn tar_xattrs<R: Read>(entry: &mut tar::Entry<'_, R>) -> Xattrs {
    let Some(records) = entry.pax_extensions().expect("PAX records") else { return Xattrs::new() };
    let records = records.map(|record| record.expect("a PAX record"));
    let xattr = |record: tar::PaxExtension<'_>| {
        let name = record.key().ok()?.strip_prefix("SCHILY.xattr.")?;
        Some((name.to_owned(), record.value_bytes().to_vec()))
    };
    records.filter_map(xattr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer_tar::LayerTar;

    #[test]
    fn a_tar_reads_as_what_was_written() {
        let long = "x".repeat(120);
        let tar = LayerTar::new()
            .dir("./a/", 0o750)
            .owner(1, 2)
            .xattr("user.k", b"v")
            .file("a/f", 0o4711, "content")
            .owner(0, 0)
            .hard_link("a/g", "a/f")
            .symlink("s", "../../x")
            .file(&long, 0o644, "")
            .file(".hidden", 0o644, "")
            .char_device("null", 0o666, 1, 3)
            .fifo("p", 0o600)
            .finish();
        let expected = Tree::new()
            .dir("a", 0o750)
            .file("a/f", 0o4711, "content")
            .owner("a/f", 1, 2)
            .xattr("a/f", "user.k", b"v")
            .hard_link("a/g", "a/f")
            .symlink("s", "../../x")
            .file(&long, 0o644, "")
            .file(".hidden", 0o644, "")
            .with("null", Kind::CharDevice(1, 3), 0o666)
            .with("p", Kind::Fifo, 0o600);
        expected.assert_is(&Tree::of_tar(tar.as_slice()));
    }

    #[test]
    fn a_directory_reads_with_its_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("z"), "x").unwrap();
        std::fs::hard_link(dir.path().join("z"), dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("l")).unwrap();
        let tree = Tree::of_dir(dir.path());
        assert_eq!(tree.paths().collect::<Vec<_>>(), ["a", "l", "z"]);
        assert_eq!(tree.get("a"), tree.get("z"));
        assert_eq!(tree.get("l").unwrap().kind, Kind::Symlink("nowhere".to_owned()));
    }
}
