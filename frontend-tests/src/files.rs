//! Files as a case describes them: a text, or a table for what a text cannot say.
//!
//! Git keeps neither modes nor owners, empty directories, FIFOs or times, so a case's context is described rather than
//! committed file by file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

/// Files by their path.
pub type Files = BTreeMap<String, FileSpec>;

/// One file.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum FileSpec {
    /// A regular file of mode 0644 with this text; a directory of mode 0755 if the path ends with `/`.
    Text(String),
    /// Anything else.
    Entry(Box<Entry>),
}

/// A file in full. At most one of `link`, `hard_link`, `fifo`, `socket`, `device` and `archive` is given; without one
/// it is a directory if its path ends with `/`, else a regular file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Entry {
    text: String,
    /// How often the text is repeated.
    repeat: Option<usize>,
    /// How many letters follow the text.
    fill: usize,
    /// The content in hexadecimal digits.
    hex: Option<String>,
    /// Octal permission bits.
    mode: Option<String>,
    /// User and group.
    owner: Option<(u32, u32)>,
    /// Seconds since 1970.
    mtime: Option<u64>,
    xattrs: BTreeMap<String, String>,
    link: Option<String>,
    hard_link: Option<String>,
    fifo: bool,
    socket: bool,
    /// Major and minor number of a character device.
    device: Option<(u32, u32)>,
    /// A tar of these files.
    archive: Option<Files>,
    compress: Option<Compression>,
    /// Headers that a web server sends along; `Authorization` is one that it asks for.
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compression {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl FileSpec {
    fn entry(&self) -> Entry {
        match self {
            Self::Text(text) => Entry { text: text.clone(), ..Entry::default() },
            Self::Entry(entry) => (**entry).clone(),
        }
    }

    /// The bytes of a regular file.
    pub fn content(&self) -> Vec<u8> {
        self.entry().content()
    }

    /// What a web server sends along.
    pub fn headers(&self) -> BTreeMap<String, String> {
        self.entry().headers
    }
}

/// Writes `files` below `dir`. Directories that are not described get mode 0755.
pub fn write(dir: &Path, files: &Files) {
    let entries: Vec<(&str, Entry)> =
        files.iter().map(|(path, spec)| (path.as_str(), spec.entry())).collect();
    // Second names come last, and times when nothing touches a directory any more.
    let (linked, plain): (Vec<_>, Vec<_>) = entries.iter().partition(|(_, entry)| entry.hard_link.is_some());
    for (path, entry) in plain.iter().chain(&linked) {
        make_parents(dir, Path::new(path));
        entry.make(&dir.join(path), path.ends_with('/'), dir);
    }
    for (path, entry) in entries.iter().rev() {
        entry.set_attributes(&dir.join(path), path.ends_with('/'));
    }
}

/// A tar of what is below `dir`, owners and times included.
pub fn tar_of(dir: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", dir).unwrap_or_else(|error| panic!("tar {}: {error}", dir.display()));
    builder.into_inner().expect("a tar in memory can be finished")
}

/// Compresses with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    Compression::Gzip.apply(bytes)
}

impl Entry {
    fn content(&self) -> Vec<u8> {
        let plain = match (&self.archive, &self.hex) {
            (Some(files), _) => {
                let dir = tempfile::tempdir().expect("a temporary directory");
                set_mode(dir.path(), 0o755);
                write(dir.path(), files);
                tar_of(dir.path())
            }
            (None, Some(hex)) => (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal digits"))
                .collect(),
            (None, None) => {
                (self.text.repeat(self.repeat.unwrap_or(1)) + &"x".repeat(self.fill)).into_bytes()
            }
        };
        self.compress.map_or(plain.clone(), |compression| compression.apply(&plain))
    }

    fn make(&self, path: &Path, is_dir: bool, root: &Path) {
        let made = if let Some(target) = &self.link {
            let _ = std::fs::remove_file(path);
            symlink(target, path)
        } else if let Some(existing) = &self.hard_link {
            std::fs::hard_link(root.join(existing), path)
        } else if self.fifo || self.device.is_some() {
            self.make_node(path);
            Ok(())
        } else if self.socket {
            std::os::unix::net::UnixListener::bind(path).map(drop)
        } else if is_dir {
            std::fs::create_dir_all(path)
        } else {
            std::fs::write(path, self.content())
        };
        made.unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
    }

    fn make_node(&self, path: &Path) {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let (kind, device) = match self.device {
            Some((major, minor)) => (SFlag::S_IFCHR, makedev(major.into(), minor.into())),
            None => (SFlag::S_IFIFO, 0),
        };
        mknod(path, kind, Mode::from_bits_truncate(0o644), device)
            .unwrap_or_else(|error| panic!("mknod {}: {error}", path.display()));
    }

    fn set_attributes(&self, path: &Path, is_dir: bool) {
        if self.link.is_some() || self.hard_link.is_some() {
            return;
        }
        if let Some((uid, gid)) = self.owner {
            chown(path, Some(uid), Some(gid))
                .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
        }
        let default = if is_dir { 0o755 } else { 0o644 };
        set_mode(path, self.mode.as_deref().map_or(default, octal));
        for (name, value) in &self.xattrs {
            rustix::fs::lsetxattr(path, name, value.as_bytes(), rustix::fs::XattrFlags::empty())
                .unwrap_or_else(|error| panic!("set {name} of {}: {error}", path.display()));
        }
        if let Some(seconds) = self.mtime {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let file = std::fs::File::open(path).and_then(|file| file.set_modified(time));
            file.unwrap_or_else(|error| panic!("set the time of {}: {error}", path.display()));
        }
    }
}

impl Compression {
    fn apply(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Zstd => zstd::encode_all(bytes, 1),
        }
        .expect("compressing into memory succeeds")
    }
}

/// Permission bits from octal digits.
pub fn octal(text: &str) -> u32 {
    u32::from_str_radix(text, 8).unwrap_or_else(|_| panic!("{text:?} are not octal permission bits"))
}

fn make_parents(root: &Path, path: &Path) {
    let parents: Vec<&Path> =
        path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
    for parent in parents.iter().rev().map(|parent| root.join(parent)).filter(|parent| !parent.exists()) {
        std::fs::create_dir(&parent).unwrap_or_else(|error| panic!("create {}: {error}", parent.display()));
        set_mode(&parent, 0o755);
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .unwrap_or_else(|error| panic!("set the mode of {}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Tree;

    #[test]
    fn what_is_described_is_written() {
        let files: Files = toml::from_str(
            "\"d/\" = { mode = \"0700\" }\n\"d/f\" = \"x\"\nhard = { hard_link = \"d/f\" }\nl = { link = \"gone\" }\np = { fifo = true }\n\
             big = { text = \"ab\", repeat = 2, mode = \"4755\" }\nt = { archive = { f = \"in\" }, compress = \"xz\" }\n",
        )
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files);
        let tree = Tree::of_dir(dir.path()).without_owners();
        assert_eq!(tree.get("d").unwrap().mode, 0o700);
        assert_eq!(tree.get("d/f"), tree.get("hard"));
        assert_eq!((tree.text("big"), tree.get("big").unwrap().mode), ("abab".to_owned(), 0o4755));
        let unpacked = liblzma::read::XzDecoder::new(std::fs::File::open(dir.path().join("t")).unwrap());
        assert_eq!(Tree::of_tar(unpacked).text("f"), "in");
    }
}
