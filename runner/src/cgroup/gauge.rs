//! Reading a few figures of a group again and again, as cheaply as they are to be had: the files stay open, and only
//! those lines are looked at that matter.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use super::GroupDirectory;
use super::hierarchy::{Controller, Version};
use super::statistics::NO_LIMIT;

/// Bytes of a file at most; those of version 1 about block devices are the longest.
const LONGEST: usize = 64 << 10;

/// What a group uses. What nobody counts is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Processor time since it was made.
    pub processor_time: Option<Duration>,
    /// Bytes of memory, without cached files that would go first.
    pub memory: Option<u64>,
    /// The most of it that there may be.
    pub memory_limit: Option<u64>,
    /// Bytes read of block devices, and bytes written to them.
    pub block_devices: Option<(u64, u64)>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// The open files of a group.
#[derive(Debug, Default)]
pub struct Gauge {
    memory: Option<MemoryFiles>,
    /// Processor time, and whether it is told by version 2.
    processor: Option<(File, Version)>,
    block_devices: Option<(File, Version)>,
    processes: Option<File>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct MemoryFiles {
    usage: File,
    limit: File,
    details: File,
    inactive: &'static str,
}

impl Gauge {
    /// Opens the files of a group; those that are not there count nothing.
    pub fn open(group: &[GroupDirectory]) -> Self {
        let file = |controller, [first, second]: [&str; 2]| {
            let directory = group.iter().find(|directory| directory.has(controller))?;
            let name = if directory.version == Version::One { first } else { second };
            Some((File::open(directory.path.join(name)).ok()?, directory.version))
        };
        let memory = |names| file(Controller::Memory, names);
        let memory = memory(["memory.usage_in_bytes", "memory.current"]).and_then(|(usage, version)| {
            Some(MemoryFiles {
                usage,
                limit: memory(["memory.limit_in_bytes", "memory.max"])?.0,
                details: memory(["memory.stat"; 2])?.0,
                inactive: if version == Version::One { "total_inactive_file " } else { "inactive_file " },
            })
        });
        Self {
            memory,
            processor: file(Controller::CpuAccounting, ["cpuacct.usage", "cpu.stat"]),
            block_devices: file(Controller::Io, ["blkio.throttle.io_service_bytes_recursive", "io.stat"]),
            processes: file(Controller::Pids, ["pids.current"; 2]).map(|(file, _)| file),
            buffer: vec![0; LONGEST],
        }
    }

    /// What the group uses now. Of one that is gone nothing is known.
    pub fn read(&mut self) -> Figures {
        let Self { memory, processor, block_devices, processes, buffer } = self;
        let mut figures = Figures::default();
        if let Some(files) = memory {
            let inactive = text(&files.details, buffer).and_then(|text| named(text, files.inactive));
            figures.memory =
                number(&files.usage, buffer).map(|usage| usage.saturating_sub(inactive.unwrap_or_default()));
            figures.memory_limit = number(&files.limit, buffer).filter(|limit| *limit < NO_LIMIT);
        }
        figures.processor_time = processor.as_ref().and_then(|(file, version)| match version {
            Version::One => number(file, buffer).map(Duration::from_nanos),
            Version::Two => {
                let text = text(file, buffer)?;
                named(text, "usage_usec ").map(Duration::from_micros)
            }
        });
        figures.block_devices = block_devices.as_ref().and_then(|(file, version)| {
            let text = text(file, buffer)?;
            Some(match version {
                Version::One => (sum(text, " Read "), sum(text, " Write ")),
                Version::Two => (sum(text, " rbytes="), sum(text, " wbytes=")),
            })
        });
        figures.processes = processes.as_ref().and_then(|file| number(file, buffer));
        figures
    }
}

/// What is in a file; nothing of a group that is gone.
fn text<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    std::str::from_utf8(&buffer[..length]).ok()
}

fn number(file: &File, buffer: &mut [u8]) -> Option<u64> {
    text(file, buffer)?.trim().parse().ok()
}

/// The number in the line that begins so.
fn named(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// The sum of the numbers that stand after a word, in all lines.
fn sum(text: &str, word: &str) -> u64 {
    let after = text.lines().filter_map(|line| line.split_once(word)).map(|(_, after)| after);
    after.filter_map(|after| after.split(' ').next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(version: Version, files: &[(&str, &str)]) -> Figures {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let controllers = Controller::ALL.iter().map(|one| one.name(version).to_owned()).collect();
        let group = [GroupDirectory { version, path: directory.path().to_owned(), controllers }];
        let mut gauge = Gauge::open(&group);
        assert_eq!(gauge.read(), gauge.read());
        gauge.read()
    }

    #[test]
    fn both_versions_tell_the_same() {
        let first = figures(
            Version::One,
            &[
                ("memory.usage_in_bytes", "1000\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.stat", "inactive_file 1\ntotal_inactive_file 300\n"),
                ("cpuacct.usage", "7000\n"),
                (
                    "blkio.throttle.io_service_bytes_recursive",
                    "8:0 Read 5\n8:0 Write 6\n8:1 Read 2\nTotal 13\n",
                ),
                ("pids.current", "4\n"),
            ],
        );
        let second = figures(
            Version::Two,
            &[
                ("memory.current", "1000\n"),
                ("memory.max", "max\n"),
                ("memory.stat", "anon 1\ninactive_file 300\n"),
                ("cpu.stat", "usage_usec 7\nuser_usec 3\n"),
                ("io.stat", "8:0 rbytes=5 wbytes=6 rios=1\n8:1 rbytes=2 wbytes=0\n"),
                ("pids.current", "4\n"),
            ],
        );
        let expected = Figures {
            processor_time: Some(Duration::from_micros(7)),
            memory: Some(700),
            memory_limit: None,
            block_devices: Some((7, 6)),
            processes: Some(4),
        };
        assert_eq!((first, second), (expected, expected));
        assert_eq!(figures(Version::Two, &[]), Figures::default());
    }
}
