//! Device files of the host: which ones a path stands for, so that a container's device list can name them, and all
//! of them for privileged containers.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use runner::{DeviceFile, DeviceKind, DeviceNumber};
use sys::fs::PathContext as _;
use sys::path_error::PathError;

use crate::error::EngineError;

/// How deep directories of devices are; those of `/dev/bus/usb` are one deep.
const DEEPEST: usize = 8;

/// The numbers of a device, or of all devices in a directory. Links inside of a directory are left out: what
/// they mean is another path in the container.
///
/// # Errors
/// There is nothing at the path, or it cannot be read.
pub(crate) fn numbers(path: &Path) -> Result<Vec<DeviceNumber>, EngineError> {
    let metadata = match fs::metadata(path).at("inspect", path) {
        Err(error) if error.is_not_found() => return Err(EngineError::NoHostDevice(path.to_owned())),
        metadata => metadata?,
    };
    let mut found = Vec::new();
    collect(path, &metadata, DEEPEST, &mut found)?;
    Ok(found)
}

fn collect(
    path: &Path,
    metadata: &fs::Metadata,
    deepest: usize,
    found: &mut Vec<DeviceNumber>,
) -> Result<(), PathError> {
    if metadata.is_dir() && deepest > 0 {
        for name in sys::fs::list(path)? {
            let path = path.join(name);
            collect(&path, &sys::fs::metadata(&path)?, deepest - 1, found)?;
        }
    }
    found.extend(number(metadata));
    Ok(())
}

/// Directories of `/dev` whose entries are the container's own, or no devices.
const NOT_SHOWN: [&str; 4] = ["pts", "shm", "mqueue", "fd"];
/// Devices that a container has anyway, or that are its own.
const STANDARD: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"];

/// All device files of the host, as `--privileged` shows them.
pub(crate) fn all() -> Result<Vec<DeviceFile>, PathError> {
    let mut found = Vec::new();
    collect_files(Path::new("/dev"), DEEPEST, &mut found)?;
    Ok(found)
}

fn collect_files(directory: &Path, deepest: usize, found: &mut Vec<DeviceFile>) -> Result<(), PathError> {
    let left_out: &[&str] =
        if deepest == DEEPEST { &[NOT_SHOWN.as_slice(), &STANDARD].concat() } else { &[] };
    for name in sys::fs::list(directory)? {
        if left_out.iter().any(|one| name == *one) {
            continue;
        }
        let path = directory.join(name);
        // Devices come and go while we look.
        let metadata = match sys::fs::metadata(&path) {
            Err(error) if error.is_not_found() => continue,
            metadata => metadata?,
        };
        if metadata.is_dir() && deepest > 0 {
            collect_files(&path, deepest - 1, found)?;
        } else if let Some(device) = number(&metadata) {
            let (uid, gid) = (metadata.uid(), metadata.gid());
            found.push(DeviceFile { path, device, mode: metadata.mode() & 0o7777, uid, gid });
        }
    }
    Ok(())
}

fn number(metadata: &fs::Metadata) -> Option<DeviceNumber> {
    let file = metadata.file_type();
    let kind = match (file.is_block_device(), file.is_char_device()) {
        (true, _) => DeviceKind::Block,
        (_, true) => DeviceKind::Character,
        _ => return None,
    };
    let (major, minor) = sys::stat::device_numbers(metadata.rdev());
    Some(DeviceNumber { kind, major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_files_and_directories_are_told_apart() {
        let null = DeviceNumber { kind: DeviceKind::Character, major: 1, minor: 3 };
        assert_eq!(numbers(Path::new("/dev/null")).unwrap(), [null]);
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        fs::create_dir(directory.path().join("inner")).unwrap();
        assert_eq!(numbers(directory.path()).unwrap(), []);
        let missing = numbers(&directory.path().join("no-such"));
        assert!(matches!(missing, Err(EngineError::NoHostDevice(_))));
    }
}
