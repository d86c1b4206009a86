//! Any bytes as an archive, unpacked in every layering, compressed or not: nothing may panic, and nothing
//! may be written or removed outside the root.
#![no_main]

use std::fs;
use std::path::Path;

use base::CancelToken;
use libfuzzer_sys::fuzz_target;
use snapshotter::apply::{ApplyOptions, Devices, Layering, Limits, Ownership, apply_blob};

const LAYERINGS: [Layering; 3] = [Layering::Overlay { userxattr: true }, Layering::Flat, Layering::Plain];

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, archive)) = bytes.split_first() else { return };
    let sandbox = tempfile::tempdir().expect("a temporary directory");
    let (root, beside) = (sandbox.path().join("root"), sandbox.path().join("beside"));
    fs::create_dir_all(root.join("old/directory")).expect("a directory in the root");
    fs::write(root.join("old/file"), "old").expect("a file in the root");
    fs::create_dir(&beside).expect("a directory beside the root");
    fs::write(beside.join("secret"), "untouched").expect("a file beside the root");

    let mut options = ApplyOptions::new(LAYERINGS[usize::from(choice) % LAYERINGS.len()]);
    options.ownership = Ownership::Ignore;
    options.devices = Devices::Skip;
    options.limits = Limits { max_entries: 1000, max_bytes: 1 << 20 };
    let archive = with_checksums(archive);
    // Whether it succeeds is not the question.
    let _ = apply_blob(archive.as_slice(), None, &root, &options, &CancelToken::new());

    assert_eq!(names(sandbox.path()), ["beside", "root"]);
    assert_eq!(names(&beside), ["secret"]);
    assert_eq!(fs::read(beside.join("secret")).expect("the file beside the root"), b"untouched");
});

/// Corrects the checksums of whatever looks like a header, which random changes would never get right.
fn with_checksums(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    for block in archive.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    archive
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory that can be listed");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string();
    let mut names: Vec<_> = entries.map(|entry| name(entry).expect("a name in UTF-8")).collect();
    names.sort();
    names
}
