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

/// The file of a device, or of all devices in a directory, as they appear at `target` in a container. Links inside
/// of a directory are left out: what they mean is another path there.
///
/// # Errors
/// There is nothing at the path, it is neither a device nor a directory of devices, or it cannot be read.
pub(crate) fn files(path: &Path, target: &Path) -> Result<Vec<DeviceFile>, EngineError> {
    let metadata = match fs::metadata(path).at("inspect", path) {
        Err(error) if error.is_not_found() => return Err(EngineError::NoHostDevice(path.to_owned())),
        metadata => metadata?,
    };
    let mut found = Vec::new();
    if metadata.is_dir() {
        collect(path, target, (&[], DEEPEST), &mut found)?;
    } else {
        found.extend(file(target, &metadata));
    }
    match found.is_empty() {
        true => Err(EngineError::NoHostDevice(path.to_owned())),
        false => Ok(found),
    }
}

/// Directories of `/dev` whose entries are the container's own, or no devices.
const NOT_SHOWN: [&str; 4] = ["pts", "shm", "mqueue", "fd"];
/// Devices that a container has anyway, or that are its own.
const STANDARD: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"];

/// All device files of the host, as `--privileged` shows them.
pub(crate) fn all() -> Result<Vec<DeviceFile>, PathError> {
    let devices = Path::new("/dev");
    let mut found = Vec::new();
    collect(devices, devices, (&[NOT_SHOWN.as_slice(), &STANDARD].concat(), DEEPEST), &mut found)?;
    Ok(found)
}

/// Adds the devices of a directory and of those in it, so many levels deep; names in it itself may be left out.
fn collect(
    directory: &Path,
    target: &Path,
    (left_out, deepest): (&[&str], usize),
    found: &mut Vec<DeviceFile>,
) -> Result<(), PathError> {
    for name in sys::fs::list(directory)? {
        if left_out.iter().any(|one| name == *one) {
            continue;
        }
        let (path, target) = (directory.join(&name), target.join(&name));
        // Devices come and go while we look.
        let metadata = match sys::fs::metadata(&path) {
            Err(error) if error.is_not_found() => continue,
            metadata => metadata?,
        };
        if metadata.is_dir() && deepest > 0 {
            collect(&path, &target, (&[], deepest - 1), found)?;
        } else {
            found.extend(file(&target, &metadata));
        }
    }
    Ok(())
}

/// The device with these attributes as a file at `target`; `None` if it is something else.
fn file(target: &Path, metadata: &fs::Metadata) -> Option<DeviceFile> {
    let (uid, gid) = (metadata.uid(), metadata.gid());
    let device = number(metadata)?;
    Some(DeviceFile { path: target.to_owned(), device, mode: metadata.mode() & 0o7777, uid, gid })
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
        let found = files(Path::new("/dev/null"), Path::new("/dev/nothing")).unwrap();
        assert_eq!(
            (found.len(), found[0].device, found[0].path.as_path()),
            (1, null, Path::new("/dev/nothing"))
        );
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        fs::create_dir(directory.path().join("inner")).unwrap();
        for none in ["", "file", "inner", "no-such"] {
            let found = files(&directory.path().join(none), Path::new("/dev/x"));
            assert!(matches!(found, Err(EngineError::NoHostDevice(_))), "{none}");
        }
    }
}
