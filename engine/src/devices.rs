//! Which device files a path of the host stands for, so that a container's device list can name them.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use runner::{DeviceKind, DeviceNumber};
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
    let kind = metadata.file_type();
    if kind.is_dir() && deepest > 0 {
        for name in sys::fs::list(path)? {
            let path = path.join(name);
            collect(&path, &sys::fs::metadata(&path)?, deepest - 1, found)?;
        }
    }
    let kind = if kind.is_block_device() {
        DeviceKind::Block
    } else if kind.is_char_device() {
        DeviceKind::Character
    } else {
        return Ok(());
    };
    let (major, minor) = sys::stat::device_numbers(metadata.rdev());
    found.push(DeviceNumber { kind, major, minor });
    Ok(())
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
