//! Copying the content of one open file to another without changing its shape.
//!
//! [`copy_content`] shares blocks where the file system can (`FICLONE`), else lets the kernel copy
//! (`copy_file_range(2)`), else reads and writes; holes stay holes. [`clone_content`] is the first step
//! alone. [`data_ranges`] tells where a file has data, for a caller that needs to see the bytes.
//! Owner, mode, times and attributes are the caller's business.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{self as rfs, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::path_error::{PathContext as _, PathError};

/// The most bytes that pass through user space at once.
const BUFFER: usize = 1 << 20;

/// Two open files and the paths to name in errors.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// Read from here.
    pub source: &'a File,
    /// The path of `source`, for messages.
    pub source_path: &'a Path,
    /// Written to; empty at the beginning.
    pub target: &'a File,
    /// The path of `target`, for messages.
    pub target_path: &'a Path,
}

/// Makes the target share the source's blocks. `false` when the file systems cannot do that.
pub fn clone_content(pair: Pair<'_>) -> Result<bool, PathError> {
    match rfs::ioctl_ficlone(pair.target, pair.source) {
        Ok(()) => Ok(true),
        Err(error) if clone_is_unsupported(error) => Ok(false),
        Err(error) => Err(PathError::new("clone into", pair.target_path, error)),
    }
}

/// Whether files of the file system of a directory can share their blocks: tried with two that have no name.
///
/// # Errors
/// No file can be made there.
pub fn shares_content(directory: &Path) -> Result<bool, PathError> {
    let unnamed = || {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rfs::open(directory, flags, Mode::RUSR | Mode::WUSR).at("make a file in", directory)?;
        Ok::<_, PathError>(File::from(file))
    };
    let (source, target) = (unnamed()?, unnamed()?);
    clone_content(Pair { source: &source, source_path: directory, target: &target, target_path: directory })
}

/// The ways in which kernels say that two files cannot share blocks.
fn clone_is_unsupported(error: Errno) -> bool {
    matches!(
        error,
        Errno::OPNOTSUPP
            | Errno::NOTTY
            | Errno::XDEV
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::PERM
            | Errno::TXTBSY
    )
}

/// Copies the first `size` bytes by the cheapest means there is. Where the source has become shorter
/// than `size`, the target gets a hole: whether the source changed meanwhile is the caller's to check.
pub fn copy_content(pair: Pair<'_>, size: u64) -> Result<(), PathError> {
    if clone_content(pair)? {
        return Ok(());
    }
    let mut end = 0;
    for range in data_ranges(pair.source, pair.source_path, size)? {
        end = range.end;
        copy_range(pair, range)?;
    }
    // A last hole, and data that was cut away while it was copied.
    if end < size || pair.target.metadata().at("read the status of", pair.target_path)?.len() < size {
        set_length(pair.target, pair.target_path, size)?;
    }
    Ok(())
}

/// Sets the length of a file; what is added is a hole.
pub fn set_length(file: &File, path: &Path, size: u64) -> Result<(), PathError> {
    file.set_len(size).map_err(|error| PathError::new("set the length of", path, error))
}

/// Where the first `size` bytes of a file are data; between the ranges are holes. A file system that
/// does not know holes answers one range. Moves the file's position.
pub fn data_ranges(file: &File, path: &Path, size: u64) -> Result<Vec<Range<u64>>, PathError> {
    let failed = |error: Errno| PathError::new("look for holes in", path, error);
    let mut ranges = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match rfs::seek(file, SeekFrom::Data(position)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                ranges.push(position..size);
                break;
            }
            Err(error) => return Err(failed(error)),
        };
        let end = match rfs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            // The file was cut short after its data was found.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(failed(error)),
        };
        if start < end {
            ranges.push(start..end);
        }
        position = end.max(position + 1);
    }
    Ok(ranges)
}

fn copy_range(pair: Pair<'_>, range: Range<u64>) -> Result<(), PathError> {
    let (mut from, mut to) = (range.start, range.start);
    while from < range.end {
        let wanted = usize::try_from(range.end - from).unwrap_or(usize::MAX).min(1 << 30);
        match rfs::copy_file_range(pair.source, Some(&mut from), pair.target, Some(&mut to), wanted) {
            Ok(0) => break,
            Ok(_) => {}
            // Between file systems, and on special ones, the kernel leaves the work to us.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return read_and_write(pair, from..range.end);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(PathError::new("copy data to", pair.target_path, error)),
        }
    }
    Ok(())
}

fn read_and_write(pair: Pair<'_>, range: Range<u64>) -> Result<(), PathError> {
    let mut buffer = vec![0; BUFFER];
    let mut position = range.start;
    while position < range.end {
        let wanted = usize::try_from(range.end - position).unwrap_or(usize::MAX).min(BUFFER);
        let length = pair
            .source
            .read_at(&mut buffer[..wanted], position)
            .map_err(|error| PathError::new("read", pair.source_path, error))?;
        if length == 0 {
            break;
        }
        pair.target
            .write_all_at(&buffer[..length], position)
            .map_err(|error| PathError::new("write", pair.target_path, error))?;
        position += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(build: impl FnOnce(&File), size: u64) -> (Vec<u8>, u64) {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (source_path, target_path) = (dir.path().join("a"), dir.path().join("b"));
        build(&File::create(&source_path).unwrap());
        let source = File::open(&source_path).unwrap();
        let target = File::create(&target_path).unwrap();
        let pair =
            Pair { source: &source, source_path: &source_path, target: &target, target_path: &target_path };
        copy_content(pair, size).unwrap();
        (std::fs::read(&target_path).unwrap(), target.metadata().unwrap().blocks() * 512)
    }

    #[test]
    fn bytes_arrive() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (bytes, _) = copied(|file| file.write_all_at(&content, 0).unwrap(), content.len() as u64);
        assert!(bytes == content);
        assert_eq!(copied(|_| {}, 0).0, b"");
    }

    #[test]
    fn holes_stay_holes() {
        let size = 64 << 20;
        let (bytes, on_disk) = copied(
            |file| {
                file.set_len(size).unwrap();
                file.write_all_at(b"middle", 32 << 20).unwrap();
            },
            size,
        );
        assert_eq!(bytes.len() as u64, size);
        assert_eq!(&bytes[32 << 20..(32 << 20) + 6], b"middle");
        assert!(on_disk < 1 << 20, "{on_disk} bytes on disk");
    }

    #[test]
    fn a_source_that_shrank_ends_in_a_hole() {
        let (bytes, _) = copied(|file| file.write_all_at(b"short", 0).unwrap(), 4096);
        assert!(bytes.starts_with(b"short") && bytes[5..].iter().all(|byte| *byte == 0));
    }
}
