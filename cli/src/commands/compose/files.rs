//! The files of a project, from the disk.

use std::io::Read as _;
use std::path::Path;

use compose::Files;

/// No Compose file is larger.
const LARGEST: u64 = 16 << 20;

/// The machine's files, and standard input as `-`.
pub(super) struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> std::io::Result<Option<String>> {
        if path.as_os_str() == "-" {
            return text(std::io::stdin().lock()).map(Some);
        }
        match std::fs::File::open(path) {
            Ok(file) => text(file).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path.is_file()
    }
}

fn text(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(LARGEST + 1).read_to_string(&mut text)?;
    match text.len() as u64 > LARGEST {
        true => Err(std::io::Error::other(format!("it is larger than {LARGEST} bytes"))),
        false => Ok(text),
    }
}
