//! A group and the groups inside of it, as directories.

use std::path::Path;
use std::time::Duration;

use sys::fs::PathContext as _;
use sys::path_error::PathError;

use super::read;

/// How long a group that the kernel still uses is tried to be removed: processes that have ended leave it
/// a moment after those who waited for them know.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first pause between two attempts; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(100);

/// The processes in a group and in those inside of it. A group that is gone has none.
pub(super) fn processes(directory: &Path) -> Result<Vec<u32>, PathError> {
    let mut found = Vec::new();
    collect(directory, &mut found)?;
    // Zero is a process that is not in our process id namespace.
    found.retain(|&pid| pid != 0);
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn collect(directory: &Path, found: &mut Vec<u32>) -> Result<(), PathError> {
    match read(&directory.join("cgroup.procs")) {
        Ok(text) => found.extend(text.lines().filter_map(|line| line.trim().parse::<u32>().ok())),
        Err(error) if is_gone(&error) => return Ok(()),
        // In version 2 a group of threads has its processes in the group around it.
        Err(error) if error.source.raw_os_error() == Some(OPERATION_NOT_SUPPORTED) => {}
        Err(error) => return Err(error),
    }
    inner(directory)?.iter().try_for_each(|inner| collect(inner, found))
}

/// `EOPNOTSUPP`.
const OPERATION_NOT_SUPPORTED: i32 = 95;

/// `ENODEV`: a file of a group that has been removed while it was open.
const NO_DEVICE: i32 = 19;

fn is_gone(error: &PathError) -> bool {
    error.is_not_found() || error.source.raw_os_error() == Some(NO_DEVICE)
}

/// Writes to a file of a group, which is about its processes. In a group that is gone there is none to be told.
pub(super) fn tell(file: &Path, value: &str) -> Result<(), PathError> {
    match std::fs::write(file, value).at("write", file) {
        Err(error) if is_gone(&error) => Ok(()),
        told => told,
    }
}

/// The groups inside of a group.
fn inner(directory: &Path) -> Result<Vec<std::path::PathBuf>, PathError> {
    let names = match sys::fs::list(directory) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        names => names?,
    };
    let paths = names.into_iter().map(|name| directory.join(name));
    Ok(paths.filter(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())).collect())
}

/// Removes a group and those inside of it, in which nothing may run any more. Their files go with them.
pub(super) fn remove(directory: &Path) -> Result<(), PathError> {
    let mut waited = Duration::ZERO;
    let mut pause = FIRST_PAUSE;
    loop {
        match remove_once(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && waited < PATIENCE => {
                // Somebody who is alive in it does not leave by our waiting.
                if !processes(directory)?.is_empty() && waited > PATIENCE / 10 {
                    return Err(error);
                }
                sys::clock::pause(pause);
                waited += pause;
                pause *= 2;
            }
            result => return result,
        }
    }
}

/// The same, without waiting.
pub(super) fn remove_once(directory: &Path) -> Result<(), PathError> {
    for inner in inner(directory)? {
        remove_once(&inner)?;
    }
    sys::fs::remove_dir(directory).map(drop)
}
