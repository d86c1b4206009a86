//! A log that many processes write at once, each a record now and then. It is read as any other.
//!
//! A record is one write to a file that is opened to be appended to, so records never mix. Writers share a lock, and who
//! takes the log's file away for a new one has it alone: nobody then has the old file open to write to it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use base::Timestamp;
use base::event::Stream;
use sys::lock::{FileLock, LockMode};
use sys::path_error::{PathContext as _, PathError};

use super::record::{LineEnd, encode};
use super::writer::open;
use super::{current, older};

/// Bytes after which a new file is begun. As many again may be in the one before.
pub const LARGEST: u64 = 4 << 20;

/// The longest text of a record in bytes.
pub const LONGEST: usize = 64 << 10;

/// Adds a record to the log in `directory`, which is made if it is missing. Nobody is waited for, and nothing is
/// guaranteed to reach the disk.
///
/// # Errors
/// The file cannot be written. A part of the record may be there, which readers leave out.
pub fn append(directory: &Path, text: &str, time: Timestamp) -> Result<(), PathError> {
    append_up_to(directory, text, time, LARGEST)
}

fn append_up_to(directory: &Path, text: &str, time: Timestamp, largest: u64) -> Result<(), PathError> {
    let lock = directory.join("lock");
    let locked = FileLock::try_acquire(&lock, LockMode::Shared);
    let locked = match locked {
        Err(error) if error.is_not_found() => {
            sys::fs::create_dir_all(directory, 0o700)?;
            FileLock::try_acquire(&lock, LockMode::Shared)?
        }
        locked => locked?,
    };
    let path = current(directory);
    // It begins with the end of a line, so that it is whole also after a part of another one.
    let mut record = vec![b'\n'];
    encode(&mut record, text.as_bytes(), &LineEnd::new(Stream::Stdout, time, &Default::default()));
    let mut file = open(&path)?;
    file.write_all(&record).at("write", &path)?;
    let size = file.metadata().at("inspect", &path)?.len();
    drop((file, locked));
    if size > largest {
        rotate(directory, &lock, largest)?;
    }
    Ok(())
}

/// Begins a new file, if the one that is there is still too large. Somebody who writes now does it instead.
fn rotate(directory: &Path, lock: &Path, largest: u64) -> Result<(), PathError> {
    let Some(_alone) = FileLock::try_acquire(lock, LockMode::Exclusive)? else { return Ok(()) };
    let path = current(directory);
    if sys::fs::metadata(&path)?.len() > largest {
        sys::fs::rename(&path, &older(directory, 1))?;
        // Who follows the log looks for it.
        File::options().append(true).create(true).open(&path).at("open", &path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{LogReader, Selection};
    use super::*;

    fn read(reader: &mut LogReader) -> Vec<String> {
        std::iter::from_fn(|| reader.read().unwrap()).map(|record| record.text).collect()
    }

    #[test]
    fn what_many_write_is_read_whole_and_takes_a_bounded_amount_of_disk() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("log");
        let time = Timestamp::UNIX_EPOCH;
        append_up_to(&directory, "first", time, 1 << 20).unwrap();
        let mut reader = LogReader::open(&directory, Selection::default()).unwrap();
        assert_eq!(read(&mut reader), ["first"]);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let directory = &directory;
                scope.spawn(move || {
                    for number in 0..500 {
                        append_up_to(directory, &format!("{writer}-{number}"), time, 1 << 20).unwrap();
                    }
                });
            }
        });
        let mut all = read(&mut reader);
        all.sort();
        let mut expected: Vec<String> =
            (0..2000).map(|number| format!("{}-{}", number / 500, number % 500)).collect();
        expected.sort();
        assert_eq!(all, expected);
        // Part of a record is what a full disk leaves.
        open(&current(&directory)).unwrap().write_all(b"{\"log\":\"torn").unwrap();
        append_up_to(&directory, "whole", time, 1 << 20).unwrap();
        assert_eq!(read(&mut reader), ["whole"]);
        for number in 0..200 {
            append_up_to(&directory, &number.to_string(), time, 500).unwrap();
            assert_eq!(read(&mut reader), [number.to_string()]);
        }
        let sizes: u64 = [current(&directory), older(&directory, 1)]
            .iter()
            .map(|path| std::fs::metadata(path).unwrap().len())
            .sum();
        assert!(sizes < 1300, "{sizes}");
        assert!(!older(&directory, 2).exists());
    }
}
