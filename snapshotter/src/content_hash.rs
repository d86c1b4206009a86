//! The blake3 hash of a file's content, with the certainty that it is of one state of the file.
//!
//! A file is read and its status compared before and after. When they differ, something wrote to it, and
//! it is read again, a bounded number of times. The caller says what to do with the bytes as they pass, so
//! that a copy and a hash share one read.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sys::path_error::PathError;
use sys::rootdir::{RootDir, stat_of};
use sys::stat::Stat;

use crate::tree::{Entry, TreeError};

/// How often a file that changes is read before giving up.
pub(crate) const ATTEMPTS: usize = 4;

/// Files up to this size are read with one call.
pub(crate) const SMALL: u64 = 128 * 1024;

/// How much of a larger file is read at once. Enough for blake3 to use several threads.
const PIECE: usize = 1 << 20;

/// A hash of content.
pub(crate) type Hash = [u8; 32];

/// Memory for reading, used again from file to file.
#[derive(Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    fn of(&mut self, size: usize) -> &mut [u8] {
        if self.0.len() < size {
            self.0.resize(size, 0);
        }
        &mut self.0[..size]
    }
}

/// Reads a file of about `size` bytes to its end and hands the pieces to `consume`.
pub(crate) fn read_pieces<E: From<PathError>>(
    file: &mut File,
    shown: &dyn Fn() -> std::path::PathBuf,
    size: u64,
    buffer: &mut Buffer,
    mut consume: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    // One byte more than expected, so that a short read shows the end without another call.
    let length = if size <= SMALL { size as usize + 1 } else { PIECE };
    let space = buffer.of(length);
    let mut total = 0;
    loop {
        let count = match file.read(space) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(PathError::new("read", shown(), error).into()),
        };
        consume(&space[..count])?;
        total += count as u64;
        // A regular file gives less than asked for only at its end.
        if count == 0 || (count < length && total >= size) {
            return Ok(());
        }
    }
}

/// Adds bytes to a hash, with several threads where it pays.
pub(crate) fn update(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    if bytes.len() > SMALL as usize {
        hasher.update_rayon(bytes);
    } else {
        hasher.update(bytes);
    }
}

/// The hash of a file, the status it had all the time it was read, and the open file.
pub(crate) fn hash_file(
    holder: &RootDir,
    entry: &Entry,
    buffer: &mut Buffer,
) -> Result<(Stat, Hash, File), TreeError> {
    hash_observed(holder, entry, buffer, || ())
}

/// [`hash_file`], which calls `observe` whenever it has read a piece.
fn hash_observed(
    holder: &RootDir,
    entry: &Entry,
    buffer: &mut Buffer,
    mut observe: impl FnMut(),
) -> Result<(Stat, Hash, File), TreeError> {
    let mut before = *entry.stat();
    for _ in 0..ATTEMPTS {
        let mut file = holder.open_file(entry.name())?;
        let shown = || holder.shown(Path::new(entry.name()));
        let mut hasher = blake3::Hasher::new();
        read_pieces::<PathError>(&mut file, &shown, before.size, buffer, |bytes| {
            update(&mut hasher, bytes);
            observe();
            Ok(())
        })?;
        let after = stat_now(&file, holder, entry)?;
        if before.is_unchanged(&after) {
            return Ok((after, hasher.finalize().into(), file));
        }
        before = after;
    }
    Err(TreeError::Unstable(entry.path().to_owned()))
}

/// The status of an open file of a directory.
pub(crate) fn stat_now(file: &File, holder: &RootDir, entry: &Entry) -> Result<Stat, TreeError> {
    match stat_of(file, Path::new("")) {
        Ok(stat) => Ok(stat),
        Err(error) => Err(PathError { path: holder.shown(Path::new(entry.name())), ..error }.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::tree::Follow;
    use crate::tree_fixture::tree_of;

    /// Hashes a file that holds "first" and gets `more` appended after each of the first `times` pieces.
    fn hash_while_growing(times: usize) -> Result<(Stat, Hash, File), TreeError> {
        let (dir, tree) = tree_of("f file first");
        let entry = tree.lookup("file", Follow::Last)?.unwrap();
        let mut appending = File::options().append(true).open(dir.path().join("file")).unwrap();
        let mut left = times;
        let holder = RootDir::open(dir.path())?;
        hash_observed(&holder, &entry, &mut Buffer::default(), || {
            if left > 0 {
                left -= 1;
                appending.write_all(b" more").unwrap();
            }
        })
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        for (times, content) in [(0, "first"), (1, "first more"), (2, "first more more")] {
            let (stat, hash, _) = hash_while_growing(times).unwrap();
            assert_eq!(hash, *blake3::hash(content.as_bytes()).as_bytes(), "{times}");
            assert_eq!(stat.size, content.len() as u64);
        }
    }

    #[test]
    fn a_file_that_never_rests_is_named() {
        let error = hash_while_growing(1000).unwrap_err();
        assert!(matches!(&error, TreeError::Unstable(path) if path == Path::new("file")), "{error}");
    }

    #[test]
    fn a_file_that_vanished_is_named() {
        let (dir, tree) = tree_of("f file x");
        let entry = tree.lookup("file", Follow::Last).unwrap().unwrap();
        std::fs::remove_file(dir.path().join("file")).unwrap();
        let holder = RootDir::open(dir.path()).unwrap();
        let error = hash_file(&holder, &entry, &mut Buffer::default()).unwrap_err();
        assert!(error.to_string().ends_with("/file"), "{error}");
    }

    #[test]
    fn every_size_is_read_whole() {
        for size in [0, 1, SMALL - 1, SMALL, SMALL + 1, PIECE as u64, PIECE as u64 + 1, 3 * PIECE as u64] {
            let content: Vec<u8> = (0..size).map(|byte| (byte % 253) as u8).collect();
            let (dir, tree) = tree_of("");
            std::fs::write(dir.path().join("file"), &content).unwrap();
            let entry = tree.lookup("file", Follow::Last).unwrap().unwrap();
            let holder = RootDir::open(dir.path()).unwrap();
            let (_, hash, _) = hash_file(&holder, &entry, &mut Buffer::default()).unwrap();
            assert_eq!(hash, *blake3::hash(&content).as_bytes(), "{size}");
        }
    }
}
