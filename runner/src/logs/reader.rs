//! Reading a container's log, also while it is written: files that give way to new ones are read to their
//! ends, in order, and nothing is read twice.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use sys::path_error::{PathContext as _, PathError};

use super::pack::{Input, Mark};
use super::record::{Record, decode};
use super::{current, older, packed};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// How often reading begins again because files were renamed meanwhile.
const TRIES: usize = 100;

/// How many numbers in a row may be missing while files are renamed.
const GAP: u32 = 2;

/// How often a file is looked for before it counts as removed.
const SURE: usize = 3;

/// Which records are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Selection {
    /// Only this many of those that are there now; `None` is all.
    pub tail: Option<u64>,
    /// Only those from then on.
    pub since: Option<Timestamp>,
    /// Only those up to then.
    pub until: Option<Timestamp>,
}

/// Reads the records of a log in order.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    selection: Selection,
    /// `None` before there is a file.
    source: Option<Source>,
    /// Whether a record was later than wanted.
    past: bool,
}

/// The file that is being read.
#[derive(Debug)]
struct Source {
    input: Input,
    /// Of the file itself.
    inode: u64,
    /// What was read and is not taken yet.
    buffer: Vec<u8>,
    taken: usize,
}

impl LogReader {
    /// Begins with the first record that is wanted. A container that has written nothing has no log yet.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn open(directory: &Path, selection: Selection) -> Result<Self, PathError> {
        let mut reader = Self { directory: directory.to_owned(), selection, source: None, past: false };
        let files = reader.files()?;
        reader.source = match selection.tail {
            None => files.into_iter().next_back().map(Source::new),
            Some(count) => tail(files, count).at("read", directory)?,
        };
        Ok(reader)
    }

    /// The next record that is wanted; `None` when there is none now.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(&mut self) -> Result<Option<Record>, PathError> {
        while !self.past {
            let Some(record) = self.next_of_all()? else { return Ok(None) };
            if self.selection.until.is_some_and(|until| record.time > until) {
                self.past = true;
            } else if self.selection.since.is_none_or(|since| record.time >= since) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Whether no record that may still come is wanted.
    pub fn is_done(&self) -> bool {
        self.past
    }

    fn next_of_all(&mut self) -> Result<Option<Record>, PathError> {
        loop {
            let Some(source) = &mut self.source else {
                match self.files()?.into_iter().next_back() {
                    Some(file) => self.source = Some(Source::new(file)),
                    None => return Ok(None),
                }
                continue;
            };
            match source.line().at("read", &self.directory)? {
                Some(line) => {
                    if let Some(record) = decode(line) {
                        return Ok(Some(record));
                    }
                }
                None => match self.successor()? {
                    None => return Ok(None),
                    // Nothing is written to the old one any more, but something may have been just before.
                    Some(next) if self.is_read_up()? => self.source = Some(Source::new(next)),
                    Some(_) => {}
                },
            }
        }
    }

    /// Whether the file that is being read has no more lines.
    fn is_read_up(&mut self) -> Result<bool, PathError> {
        let Some(source) = &mut self.source else { return Ok(true) };
        Ok(!source.fill().at("read", &self.directory)?)
    }

    /// The file after the one that is being read, once there is one.
    fn successor(&self) -> Result<Option<Found>, PathError> {
        let Some(source) = &self.source else { return Ok(None) };
        for _ in 0..TRIES {
            let Some(number) = self.number_of(source)? else {
                return Ok(self.files()?.into_iter().next_back());
            };
            if number == 0 {
                return Ok(None);
            }
            let next = self.file(number - 1)?;
            // Renamed meanwhile? Then what was opened may not be the next one.
            if self.number_of(source)? == Some(number) {
                return Ok(next);
            }
        }
        Ok(None)
    }

    /// The number that a file has now. Files get larger numbers only, the oldest first; so going up meets
    /// each of them, if one number that is missing for a moment does not end the search.
    fn number_of(&self, source: &Source) -> Result<Option<u32>, PathError> {
        let mark = source.input.mark();
        for _ in 0..SURE {
            let mut missing = 0;
            for number in 0.. {
                match self.identities(number)? {
                    Some((own, before)) if own == source.inode || before.is_some() && before == mark => {
                        return Ok(Some(number));
                    }
                    Some(_) => missing = 0,
                    None => missing += 1,
                }
                if missing > GAP {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Which file has a number now, and which it was made of if it is compressed.
    fn identities(&self, number: u32) -> Result<Option<(u64, Option<Mark>)>, PathError> {
        match sys::fs::metadata(&self.path(number)) {
            Ok(metadata) => Ok(Some((metadata.ino(), None))),
            Err(error) if error.is_not_found() => {
                Ok(self.file(number)?.map(|found| (found.inode, found.before)))
            }
            Err(error) => Err(error),
        }
    }

    /// The file that has a number now.
    fn file(&self, number: u32) -> Result<Option<Found>, PathError> {
        if let Some((file, inode)) = open(&self.path(number))? {
            return Ok(Some(Found { input: Input::Plain(file), inode, before: None }));
        }
        if number == 0 {
            return Ok(None);
        }
        let Some((file, inode)) = open(&packed(&self.directory, number))? else { return Ok(None) };
        let (input, before) = Input::packed(file);
        Ok(Some(Found { input, inode, before }))
    }

    /// All files, the newest first.
    fn files(&self) -> Result<Vec<Found>, PathError> {
        let mut files: Vec<Found> = Vec::new();
        for _ in 0..TRIES {
            files.clear();
            let mut missing = 0;
            for number in 0.. {
                match self.file(number)? {
                    // One that got a larger number meanwhile is met twice.
                    Some(found) if files.iter().any(|known| known.is(&found)) => missing = 0,
                    Some(file) => {
                        files.push(file);
                        missing = 0;
                    }
                    None => missing += 1,
                }
                if missing > GAP {
                    break;
                }
            }
            let newest = self.file(0)?.map(|found| found.inode);
            if newest == files.first().map(|found| found.inode) {
                break;
            }
        }
        Ok(files)
    }

    fn path(&self, number: u32) -> PathBuf {
        if number == 0 { current(&self.directory) } else { older(&self.directory, number) }
    }
}

/// A file of a log.
struct Found {
    input: Input,
    inode: u64,
    /// The file that it was made of, if it is compressed.
    before: Option<Mark>,
}

impl Found {
    /// Whether the other one is this file, compressed or not.
    fn is(&self, other: &Self) -> bool {
        self.inode == other.inode || other.before.is_some() && other.before == self.input.mark()
    }
}

fn open(path: &Path) -> Result<Option<(File, u64)>, PathError> {
    match sys::fs::open(path) {
        Ok(file) => {
            let inode = file.metadata().at("inspect", path)?.ino();
            Ok(Some((file, inode)))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The place from which `count` records are left, in the file that has it.
fn tail(files: Vec<Found>, count: u64) -> io::Result<Option<Source>> {
    let mut wanted = count;
    let mut last = None;
    for mut file in files {
        let found = match &mut file.input {
            Input::Plain(plain) => {
                let (start, found) = tail_of(plain, wanted)?;
                plain.seek(SeekFrom::Start(start))?;
                found
            }
            Input::Packed(decoder) => {
                let lines = lines_of(decoder)?;
                decoder.get_mut().seek(SeekFrom::Start(0))?;
                let again = decoder.get_ref().try_clone()?;
                file.input = Input::packed(again).0;
                skip(&mut file.input, lines.saturating_sub(wanted))?;
                lines.min(wanted)
            }
        };
        last = Some(Source::new(file));
        wanted -= found;
        if wanted == 0 {
            break;
        }
    }
    Ok(last)
}

/// Where the last `wanted` lines of a file begin, and how many there are.
fn tail_of(file: &File, wanted: u64) -> io::Result<(u64, u64)> {
    let mut end = file.metadata()?.len();
    let mut found = 0;
    let mut chunk = vec![0; CHUNK];
    // The end of a line is the start of the next one, if there is one.
    while end > 0 && found <= wanted {
        let length = end.min(CHUNK as u64);
        let piece = &mut chunk[..length as usize];
        file.read_exact_at(piece, end - length)?;
        for (at, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            found += 1;
            if found > wanted {
                return Ok((end - length + at as u64 + 1, wanted));
            }
        }
        end -= length;
    }
    Ok((0, found.min(wanted)))
}

/// How many lines there are.
fn lines_of(input: &mut impl io::Read) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut lines = 0;
    loop {
        match input.read(&mut chunk)? {
            0 => return Ok(lines),
            length => lines += memchr::memchr_iter(b'\n', &chunk[..length]).count() as u64,
        }
    }
}

/// Reads so many lines away.
fn skip(input: &mut Input, lines: u64) -> io::Result<()> {
    let mut byte = [0];
    let mut skipped = 0;
    // A byte at a time, since what is read is gone.
    while skipped < lines && input.read(&mut byte)? == 1 {
        skipped += u64::from(byte == *b"\n");
    }
    Ok(())
}

impl Source {
    fn new(found: Found) -> Self {
        let Found { input, inode, .. } = found;
        Self { input, inode, buffer: Vec::new(), taken: 0 }
    }

    /// The next line without its end; `None` when there is no whole one now.
    fn line(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let rest = &self.buffer[self.taken..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let start = self.taken;
                self.taken += length + 1;
                return Ok(Some(&self.buffer[start..start + length]));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads a piece. `false` at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let before = self.buffer.len();
        self.buffer.resize(before + CHUNK, 0);
        let read = self.input.read(&mut self.buffer[before..]);
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }
}

/// Tells when something changes in the directory of a container.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl AsFd for Watch {
    /// Readable when something has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// The directory cannot be watched.
    pub fn new(directory: &Path) -> Result<Self, PathError> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).at("watch", directory)?;
        let changes = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::MOVE_SELF;
        inotify::add_watch(&watch, directory, changes).at("watch", directory)?;
        Ok(Self(watch))
    }

    /// Waits until something has changed since the last call, or for as long as `timeout`.
    ///
    /// # Errors
    /// Waiting failed.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = [0u8; 4096];
        while matches!(rustix::io::read(&self.0, &mut events), Ok(1..)) {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LogDriver, LogOptions, LogWriter};
    use base::event::Stream;
    use proptest::prelude::*;

    fn options(max_size: Option<u64>, max_files: u32) -> LogOptions {
        LogOptions { driver: LogDriver::JsonFile, max_size, max_files, ..LogOptions::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn rest(reader: &mut LogReader) -> String {
        std::iter::from_fn(|| reader.read().unwrap()).map(|record| record.text).collect()
    }

    #[test]
    fn lines_come_back_by_number_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), &options(None, 1)).unwrap().unwrap();
        for second in 0..9 {
            writer.write(Stream::Stdout, format!("{second}\n").as_bytes(), at(second)).unwrap();
        }
        let read = |selection| rest(&mut LogReader::open(dir.path(), selection).unwrap());
        let all = Selection::default();
        assert_eq!(read(all), "0\n1\n2\n3\n4\n5\n6\n7\n8\n");
        assert_eq!(read(Selection { tail: Some(2), ..all }), "7\n8\n");
        assert_eq!(read(Selection { tail: Some(0), ..all }), "");
        assert_eq!(read(Selection { tail: Some(99), ..all }), read(all));
        assert_eq!(read(Selection { since: Some(at(7)), ..all }), "7\n8\n");
        assert_eq!(read(Selection { until: Some(at(1)), ..all }), "0\n1\n");
        assert_eq!(read(Selection { tail: Some(5), since: Some(at(3)), until: Some(at(5)) }), "4\n5\n");
    }

    #[test]
    fn the_tail_may_lie_in_an_older_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), &options(Some(200), 3)).unwrap().unwrap();
        for number in 0..9 {
            writer.write(Stream::Stdout, format!("{number}\n").as_bytes(), at(0)).unwrap();
        }
        assert!(older(dir.path(), 2).exists() && !older(dir.path(), 3).exists());
        let read = |tail| {
            rest(&mut LogReader::open(dir.path(), Selection { tail, ..Selection::default() }).unwrap())
        };
        assert_eq!(read(Some(4)), "5\n6\n7\n8\n");
        assert!(read(None).ends_with("6\n7\n8\n"));
    }

    #[test]
    fn the_tail_may_lie_in_a_compressed_file() {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { compress: true, ..options(Some(200), 3) };
        let mut writer = LogWriter::open(dir.path(), &options).unwrap().unwrap();
        for number in 0..9 {
            writer.write(Stream::Stdout, format!("{number}\n").as_bytes(), at(0)).unwrap();
        }
        drop(writer);
        assert!(packed(dir.path(), 1).exists() && packed(dir.path(), 2).exists());
        assert!(!older(dir.path(), 1).exists() && !packed(dir.path(), 3).exists());
        let read = |tail| {
            rest(&mut LogReader::open(dir.path(), Selection { tail, ..Selection::default() }).unwrap())
        };
        let all = read(None);
        assert!(all.ends_with("5\n6\n7\n8\n"), "{all}");
        for count in 0..=all.len() / 2 {
            assert_eq!(read(Some(count as u64)), all[all.len() - 2 * count..]);
        }
        std::fs::write(packed(dir.path(), 1), "no gzip").unwrap();
        assert!(LogReader::open(dir.path(), Selection { tail: Some(9), ..Selection::default() }).is_err());
    }

    #[test]
    fn a_container_without_a_log_can_be_followed() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = LogReader::open(dir.path(), Selection::default()).unwrap();
        assert_eq!(rest(&mut reader), "");
        let mut writer = LogWriter::open(dir.path(), &options(None, 1)).unwrap().unwrap();
        writer.write(Stream::Stderr, b"a\nb", at(0)).unwrap();
        assert_eq!(rest(&mut reader), "a\n");
        writer.finish(at(1)).unwrap();
        assert_eq!(rest(&mut reader), "b");
    }

    /// A follower that reads now and then gets every record once, in order, as long as no file is removed
    /// before it is read.
    fn follow(lines: &[(bool, u16, bool)], max_size: u64, compress: bool) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { compress, ..options(Some(max_size), 1000) };
        let mut writer = LogWriter::open(dir.path(), &options).unwrap().unwrap();
        let mut reader = LogReader::open(dir.path(), Selection::default()).unwrap();
        let (mut written, mut read) = (String::new(), String::new());
        for (number, (stderr, length, look)) in lines.iter().enumerate() {
            let line = format!("{number} {}\n", "x".repeat(usize::from(*length)));
            let stream = if *stderr { Stream::Stderr } else { Stream::Stdout };
            writer.write(stream, line.as_bytes(), at(number as i64)).unwrap();
            written.push_str(&line);
            if *look {
                read.push_str(&rest(&mut reader));
                assert_eq!(read, written);
            }
        }
        read.push_str(&rest(&mut reader));
        (written, read)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn following_loses_and_repeats_nothing(
            lines in proptest::collection::vec((any::<bool>(), 0u16..300, any::<bool>()), 0..60),
            max_size in 60u64..2000,
            compress in any::<bool>(),
        ) {
            let (written, read) = follow(&lines, max_size, compress);
            prop_assert_eq!(read, written);
        }
    }

    #[test]
    fn a_follower_runs_beside_the_writer() {
        follow_beside(&options(Some(4000), 10_000));
        follow_beside(&LogOptions { compress: true, ..options(Some(20_000), 10_000) });
    }

    fn follow_beside(options: &LogOptions) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), options).unwrap().unwrap();
        let mut reader = LogReader::open(dir.path(), Selection::default()).unwrap();
        let watch = Watch::new(dir.path()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..5000 {
                    writer.write(Stream::Stdout, format!("{number}\n").as_bytes(), at(0)).unwrap();
                }
            });
            let mut expected = 0;
            while expected < 5000 {
                match reader.read().unwrap() {
                    Some(record) => {
                        assert_eq!(record.text, format!("{expected}\n"));
                        expected += 1;
                    }
                    None => watch.wait(Duration::from_secs(5)).unwrap(),
                }
            }
        });
    }
}
