//! Tests of directory handles, most of all that no path leaves them.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;

use super::*;

struct Fixture {
    _dir: tempfile::TempDir,
    root: RootDir,
    base: PathBuf,
}

/// A root with `inside/file`, and a secret beside the root.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().to_owned();
    std::fs::create_dir_all(base.join("root/inside")).unwrap();
    std::fs::write(base.join("root/inside/file"), "in").unwrap();
    std::fs::create_dir(base.join("secret")).unwrap();
    std::fs::write(base.join("secret/file"), "out").unwrap();
    let root = RootDir::open(base.join("root")).unwrap();
    Fixture { _dir: dir, root, base }
}

fn text(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn links_resolve_inside_the_root() {
    let f = fixture();
    symlink("/inside", f.base.join("root/absolute")).unwrap();
    symlink("../../../inside", f.base.join("root/climbing")).unwrap();
    for path in ["absolute/file", "climbing/file", "../../inside/file", "/inside/file"] {
        assert_eq!(text(f.root.open_file(path).unwrap()), "in", "{path}");
    }
}

#[test]
fn no_operation_leaves_the_root() {
    let f = fixture();
    symlink("../secret", f.base.join("root/up")).unwrap();
    symlink(f.base.join("secret"), f.base.join("root/out")).unwrap();
    for way in ["up", "out", "../secret", "inside/../../secret"] {
        let file = format!("{way}/file");
        assert!(f.root.open_file(&file).is_err(), "{way}");
        assert_eq!(f.root.stat(&file).unwrap(), None, "{way}");
        assert!(f.root.create_file(format!("{way}/new"), 0o644).is_err(), "{way}");
        assert!(f.root.create_dir(format!("{way}/new"), 0o755).is_err(), "{way}");
        assert!(f.root.remove_file(&file).is_err(), "{way}");
        assert!(f.root.set_mode(&file, 0o777).is_err(), "{way}");
        assert!(f.root.rename("inside/file", &f.root, format!("{way}/new")).is_err(), "{way}");
    }
    assert_eq!(std::fs::read_dir(f.base.join("secret")).unwrap().count(), 1);
}

#[test]
fn the_last_component_is_never_followed() {
    let f = fixture();
    symlink("/inside/file", f.base.join("root/link")).unwrap();
    assert!(f.root.open_file("link").is_err());
    assert_eq!(f.root.stat("link").unwrap().unwrap().kind, Kind::Symlink);
    assert!(f.root.create_file("link", 0o644).is_err());
    assert!(f.root.set_mode("link", 0o600).is_err());
    f.root.set_times("link", FileTime { seconds: 5, nanoseconds: 6 }).unwrap();
    assert_eq!(f.root.stat("link").unwrap().unwrap().mtime, FileTime { seconds: 5, nanoseconds: 6 });
    assert_ne!(f.root.stat("inside/file").unwrap().unwrap().mtime.seconds, 5);
    assert!(f.root.open_real_dir("link").unwrap().is_none());
}

#[test]
fn places_that_name_no_entry_are_refused() {
    let f = fixture();
    for path in ["", ".", "..", "/", "inside/.."] {
        assert_eq!(f.root.remove_file(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path:?}");
    }
}

#[test]
fn created_files_have_what_was_asked_for() {
    let f = fixture();
    let mut file = f.root.create_file("inside/new", 0o640).unwrap();
    file.write_all(b"1234").unwrap();
    f.root.set_mode("inside/new", 0o4755).unwrap();
    f.root.create_hard_link("again", &f.root, "inside/new").unwrap();
    f.root.create_node("pipe", Kind::Fifo, 0o600, 0).unwrap();
    f.root.create_symlink("link", OsStr::new("/x")).unwrap();
    let stat = f.root.stat("again").unwrap().unwrap();
    assert_eq!((stat.kind, stat.mode, stat.size, stat.links), (Kind::File, 0o4755, 4, 2));
    assert_eq!(stat.inode, f.root.stat("inside/new").unwrap().unwrap().inode);
    assert_eq!(f.root.stat("pipe").unwrap().unwrap().kind, Kind::Fifo);
    assert_eq!(f.root.read_link("link").unwrap(), "/x");
    let mut names: Vec<_> = f.root.names().unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["again", "inside", "link", "pipe"]);
    assert_eq!(f.root.names().unwrap().len(), 4, "a second listing starts again");
}

#[test]
fn removing_all_goes_deep_and_does_not_follow() {
    let f = fixture();
    let mut deep = PathBuf::from("inside");
    for _ in 0..200 {
        deep.push("d");
    }
    std::fs::create_dir_all(f.base.join("root").join(&deep)).unwrap();
    symlink("../../secret", f.base.join("root/inside/link")).unwrap();
    f.root.remove_all("inside").unwrap();
    f.root.remove_all("inside").unwrap();
    assert_eq!(f.root.stat("inside").unwrap(), None);
    assert!(f.base.join("secret/file").exists());
}

#[test]
fn attributes_are_read_from_handles_and_names() {
    use crate::xattr::{self, Target};
    let f = fixture();
    let file = f.root.open_file_for_writing("inside/file").unwrap();
    let shown = Path::new("file");
    xattr::set(Target::Open(file.as_fd()), shown, c"user.b", b"2").unwrap();
    xattr::set(Target::Open(file.as_fd()), shown, c"user.a", &[b'x'; 1000]).unwrap();
    let dir = f.root.open_dir("inside").unwrap();
    let by_name = Target::Name(&dir, OsStr::new("file"));
    let all = xattr::read_all(by_name, shown, |name| name.starts_with(b"user.")).unwrap();
    let names: Vec<_> = all.iter().map(|x| (x.name.to_str().unwrap(), x.value.len())).collect();
    assert_eq!(names, [("user.a", 1000), ("user.b", 1)]);
    xattr::remove(by_name, shown, c"user.a").unwrap();
    xattr::remove(by_name, shown, c"user.a").unwrap();
    assert_eq!(xattr::get(by_name, shown, c"user.a").unwrap(), None);
    assert_eq!(xattr::get(by_name, shown, c"user.b").unwrap(), Some(b"2".to_vec()));
}

#[test]
fn the_umask_is_a_mask() {
    assert!(umask() <= 0o777);
}
