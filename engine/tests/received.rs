//! Files that a client sends: what is asked for again, and what is refused.

#[allow(dead_code, reason = "nothing is built here")]
mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use engine::Engine;
use engine::received::{ReceivedFiles, SentEntry, SentKind};

fn entry(path: &str, kind: SentKind) -> SentEntry {
    let mode = if kind == SentKind::Directory { 0o755 } else { 0o644 };
    SentEntry { path: path.to_owned(), kind, mode, size: 0, modified: 1_000_000_007, xattrs: BTreeMap::new() }
}

/// Sends a file with this text; answers whether its content was asked for.
fn send(files: &mut ReceivedFiles, path: &str, text: &str) -> bool {
    let entry = SentEntry { size: text.len() as u64, ..entry(path, SentKind::File) };
    let is_asked_for = files.entry(&entry).unwrap();
    if is_asked_for {
        let mut file = files.create(&entry).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        files.complete(&entry, &file).unwrap();
    }
    is_asked_for
}

fn engine(dir: &Path) -> Option<Engine> {
    Some(Engine::open(support::options(dir)?).unwrap())
}

#[test]
fn only_what_has_changed_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let Some(engine) = engine(dir.path()) else { return };
    let first = {
        let mut files = engine.receive_files(&["client", "context"]).unwrap();
        files.entry(&entry("d", SentKind::Directory)).unwrap();
        assert!(send(&mut files, "d/kept", "kept"));
        assert!(send(&mut files, "d/changed", "old"));
        assert!(send(&mut files, "gone", "gone"));
        files.entry(&entry("link", SentKind::Symlink("d/kept".to_owned()))).unwrap();
        files.entry(&entry("hard", SentKind::HardLink("gone".to_owned()))).unwrap();
        files.entry(&entry("device", SentKind::Other)).unwrap();
        files.finish().unwrap();
        assert_eq!(std::fs::read(files.path().join("hard")).unwrap(), b"gone");
        assert!(!files.path().join("device").exists());
        files.path().to_owned()
    };
    let mut files = engine.receive_files(&["client", "context"]).unwrap();
    assert_eq!(files.path(), first);
    let directory = SentEntry { mode: 0o555, ..entry("d", SentKind::Directory) };
    files.entry(&directory).unwrap();
    assert!(!send(&mut files, "d/kept", "kept"));
    assert!(send(&mut files, "d/changed", "newer"));
    files.entry(&entry("link", SentKind::Symlink("d/changed".to_owned()))).unwrap();
    files.finish().unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(&first).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["d", "link"]);
    assert_eq!(std::fs::read(first.join("link")).unwrap(), b"newer");
    let metadata = std::fs::metadata(first.join("d")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o555);
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1, 7));
    let other = engine.receive_files(&["client", "dockerfile"]).unwrap();
    assert_ne!(other.path(), first);
}

#[test]
fn nothing_gets_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let Some(engine) = engine(dir.path()) else { return };
    let mut files = engine.receive_files(&["hostile"]).unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap().to_owned();
    files.entry(&entry("link", SentKind::Symlink(target))).unwrap();
    files.entry(&entry("d", SentKind::Directory)).unwrap();
    let long = "a/".repeat(3000) + "a";
    for path in
        ["../f", "/etc/f", "d/../../f", "d//f", "./f", "", "link/f", "missing/f", "nul\0", &long, "d/.", "d"]
    {
        let refused = files.entry(&entry(path, SentKind::File)).unwrap_err().to_string();
        assert!(refused.contains("refused"), "{path}: {refused}");
    }
    for target in ["d", "missing", "../f", "hard"] {
        let kind = SentKind::HardLink(target.to_owned());
        files.entry(&entry(&format!("hard-{}", target.len()), kind)).unwrap_err();
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    // Fewer bytes came than were announced.
    let short = SentEntry { size: 10, ..entry("short", SentKind::File) };
    assert!(files.entry(&short).unwrap());
    let file = files.create(&short).unwrap();
    assert!(files.complete(&short, &file).unwrap_err().to_string().contains("meanwhile"));
}

#[test]
fn attributes_are_part_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let Some(engine) = engine(dir.path()) else { return };
    let with = |value: &str| SentEntry {
        xattrs: BTreeMap::from([
            ("user.a".to_owned(), value.as_bytes().to_vec()),
            ("security.selinux".to_owned(), b"theirs".to_vec()),
        ]),
        ..entry("f", SentKind::File)
    };
    let mut asked = Vec::new();
    for entry in [with("1"), with("1"), with("2"), entry("f", SentKind::File), entry("f", SentKind::File)] {
        let mut files = engine.receive_files(&["attributes"]).unwrap();
        asked.push(files.entry(&entry).unwrap());
        if asked.ends_with(&[true]) {
            let file = files.create(&entry).unwrap();
            files.complete(&entry, &file).unwrap();
        }
        files.finish().unwrap();
    }
    assert_eq!(asked, [true, false, true, true, false]);
}
