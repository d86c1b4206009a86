//! Everything that shows of a tree on the disk, to compare two of them, for the tests of this crate.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sys::rootdir::RootDir;
use sys::stat::Kind;
use sys::xattr::{self, Target};

/// What a file is, for comparing: kind and what it holds, then mode, owner, group, time, links and attributes.
pub(crate) type Seen = (String, u32, (u32, u32), (i64, u32), u64, Vec<(Vec<u8>, Vec<u8>)>);

/// Everything below a path, as it shows itself.
pub(crate) fn show(path: &Path) -> BTreeMap<PathBuf, Seen> {
    let root = RootDir::open(path).unwrap();
    let mut seen = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    seen.insert(PathBuf::new(), look(&root, Path::new(".")));
    while let Some(path) = open.pop() {
        let dir = root.open_real_dir(&path).unwrap().unwrap();
        for (name, kind) in dir.names().unwrap() {
            let path = path.join(&name);
            let one = look(&dir, Path::new(&name));
            assert_eq!(kind.map(|kind| kind == Kind::Directory), Some(one.0 == "directory"), "{path:?}");
            if one.0 == "directory" {
                open.push(path.clone());
            }
            seen.insert(path, one);
        }
    }
    seen
}

fn look(dir: &RootDir, name: &Path) -> Seen {
    let stat = dir.stat(if name == Path::new(".") { Path::new("") } else { name }).unwrap().unwrap();
    let device = format!("{}:{}", rustix::fs::major(stat.rdev), rustix::fs::minor(stat.rdev));
    let shows = match stat.kind {
        Kind::Directory => "directory".to_owned(),
        Kind::File => {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut dir.open_file(name).unwrap(), &mut content).unwrap();
            assert_eq!(content.len() as u64, stat.size, "{name:?}");
            format!("file {}", base::Digest::of(&content))
        }
        Kind::Symlink => format!("link {}", base::Digest::of(dir.read_link(name).unwrap().as_bytes())),
        Kind::CharDevice => format!("char {device}"),
        Kind::BlockDevice => format!("block {device}"),
        Kind::Fifo => "fifo".to_owned(),
        Kind::Socket => "socket".to_owned(),
    };
    let xattrs = xattr::read_all(Target::Name(dir, name.as_os_str()), name, |_| true).unwrap();
    let xattrs = xattrs.into_iter().map(|x| (x.name.into_bytes(), x.value)).collect();
    // A whiteout has no time that means something.
    let is_whiteout = shows == "char 0:0";
    let mtime = if is_whiteout { (0, 0) } else { (stat.mtime.seconds, stat.mtime.nanoseconds) };
    (shows, stat.mode, (stat.uid, stat.gid), mtime, stat.links, xattrs)
}

/// Says the first difference.
pub(crate) fn compare<T: PartialEq + std::fmt::Debug>(
    found: &BTreeMap<PathBuf, T>,
    expected: &BTreeMap<PathBuf, T>,
) {
    for (path, one) in expected {
        assert_eq!(found.get(path), Some(one), "{path:?}");
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
}
