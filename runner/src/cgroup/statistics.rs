//! What a group uses and has used, in the same words for both versions.
//!
//! Source: the kernel's `cgroup-v1/memory.rst`, `cpuacct.rst`, `blkio-controller.rst` and `cgroup-v2.rst`.

mod first;
mod second;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sys::ns::Usage;
use sys::path_error::PathError;

use super::error::CgroupError;
use super::hierarchy::{Controller, Version};
use super::{ControlGroup, read};

/// Limits of memory of this size and above are none: version 1 rounds the largest number down to a page, and pages have
/// at most 64 KiB.
pub(super) const NO_LIMIT: u64 = i64::MAX as u64 - (64 << 10);

/// What a group uses. What no controller counts is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Memory.
    pub memory: Option<MemoryStatistics>,
    /// Processor time.
    pub processor: Option<ProcessorStatistics>,
    /// Processes.
    pub processes: Option<ProcessStatistics>,
    /// What was read of and written to block devices, by major and minor number.
    pub block_devices: Option<BTreeMap<(u32, u32), DeviceStatistics>>,
}

impl Statistics {
    /// What a container used, with `usage` for what is not counted here.
    pub(crate) fn refine(&self, usage: Usage) -> Usage {
        let peak = self.memory.as_ref().and_then(|memory| memory.peak).filter(|peak| *peak > 0);
        let processor = self.processor.as_ref().filter(|processor| processor.user + processor.system > 0);
        let devices = self.block_devices.as_ref().map(BTreeMap::values);
        let sum = |bytes: fn(&DeviceStatistics) -> u64, otherwise: u64| {
            devices.clone().map_or(otherwise, |devices| devices.map(bytes).sum())
        };
        Usage {
            user: processor.map_or(usage.user, |processor| Duration::from_nanos(processor.user)),
            system: processor.map_or(usage.system, |processor| Duration::from_nanos(processor.system)),
            peak_memory: peak.unwrap_or(usage.peak_memory),
            read_bytes: sum(|device| device.read_bytes, usage.read_bytes),
            written_bytes: sum(|device| device.written_bytes, usage.written_bytes),
        }
    }
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStatistics {
    /// In use now, with cached files.
    pub usage: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// The most that was in use at once, where the kernel remembers it.
    pub peak: Option<u64>,
    /// How often the limit was reached.
    pub limit_reached: u64,
    /// How many processes were killed because of it.
    pub kills: u64,
    /// Of files that are cached.
    pub cache: u64,
    /// Of cached files, what was not used for a while and goes first.
    pub inactive_file: u64,
    /// Of processes, that no file backs.
    pub anonymous: u64,
    /// Of the kernel, for the processes, where it is counted apart.
    pub kernel: Option<u64>,
    /// Swap space in use, where it is counted. Version 1 counts it with the memory; this is without.
    pub swap: Option<u64>,
    /// The limit of swap space alone.
    pub swap_limit: Option<u64>,
    /// Everything that the kernel counts, under its own names, which differ between versions.
    pub details: BTreeMap<String, u64>,
}

impl MemoryStatistics {
    /// What the processes need: the usage without cached files that would go first. Docker shows this.
    pub fn working_set(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessorStatistics {
    /// All time.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// On each processor. Empty where the kernel does not tell: in version 2.
    pub each: Vec<u64>,
    /// How many periods of the limit there have been.
    pub periods: u64,
    /// In how many of them the limit was reached.
    pub throttled_periods: u64,
    /// How long processes had to stand still for that.
    pub throttled: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessStatistics {
    /// How many there are.
    pub current: u64,
    /// How many there may be, if there is a limit.
    pub limit: Option<u64>,
}

/// What was done with a block device since the group was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceStatistics {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// How often was read.
    pub reads: u64,
    /// How often was written.
    pub writes: u64,
}

impl ControlGroup {
    /// What the group uses now and has used since it was made.
    pub fn statistics(&self) -> Result<Statistics, CgroupError> {
        let directory = |controller| {
            self.directory(controller).map(|directory| (directory.version, directory.path.as_path()))
        };
        Ok(Statistics {
            memory: directory(Controller::Memory)
                .map(|(version, path)| match version {
                    Version::One => first::memory(path),
                    Version::Two => second::memory(path),
                })
                .transpose()?,
            processor: directory(Controller::CpuAccounting)
                .map(|(version, path)| match version {
                    Version::One => first::processor(path, directory(Controller::Cpu).map(|(_, path)| path)),
                    Version::Two => second::processor(path),
                })
                .transpose()?,
            processes: directory(Controller::Pids).map(|(_, path)| processes(path)).transpose()?,
            block_devices: directory(Controller::Io)
                .map(|(version, path)| match version {
                    Version::One => first::block_devices(path),
                    Version::Two => second::block_devices(path),
                })
                .transpose()?,
        })
    }
}

/// The same files in both versions.
fn processes(directory: &Path) -> Result<ProcessStatistics, PathError> {
    let current = number(directory, "pids.current")?.unwrap_or(0);
    Ok(ProcessStatistics { current, limit: number(directory, "pids.max")? })
}

/// The number in a file. `None` when there is no such file, or the word `max` in it.
fn number(directory: &Path, file: &str) -> Result<Option<u64>, PathError> {
    Ok(text(directory, file)?.and_then(|text| text.trim().parse().ok()))
}

/// The lines `name number` of a file; none when there is no such file.
fn table(directory: &Path, file: &str) -> Result<BTreeMap<String, u64>, PathError> {
    let text = text(directory, file)?.unwrap_or_default();
    let entries = text.lines().filter_map(|line| line.split_once(' '));
    let entries = entries.filter_map(|(name, number)| Some((name.to_owned(), number.trim().parse().ok()?)));
    Ok(entries.collect())
}

/// What is in a file; not every kernel has every file.
fn text(directory: &Path, file: &str) -> Result<Option<String>, PathError> {
    match read(&directory.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_not_found() || is_unsupported(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Files that are there but not in use (`EOPNOTSUPP`), as those of swap space that is not counted.
fn is_unsupported(error: &PathError) -> bool {
    error.source.raw_os_error() == Some(95)
}

/// The major and minor number in `8:0`.
fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::GroupDirectory;

    /// A directory with these files, as a group of a version with all controllers.
    pub(super) fn group(version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, ControlGroup) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let controllers = Controller::ALL.iter().map(|one| one.name(version).to_owned()).collect();
        let path = directory.path().to_owned();
        let group = ControlGroup::open(vec![GroupDirectory { version, path, controllers }]);
        (directory, group)
    }

    #[test]
    fn what_is_not_counted_is_not_told() {
        let group = ControlGroup::open(Vec::new());
        assert_eq!(group.statistics().unwrap(), Statistics::default());
    }

    #[test]
    fn what_the_group_does_not_count_comes_from_the_process() {
        let usage = Usage { user: Duration::from_secs(1), peak_memory: 7, read_bytes: 9, ..Usage::default() };
        assert_eq!(Statistics::default().refine(usage), usage);
        let memory = MemoryStatistics { peak: Some(100), ..MemoryStatistics::default() };
        let device = DeviceStatistics { written_bytes: 4096, ..DeviceStatistics::default() };
        let counted = Statistics {
            memory: Some(memory),
            block_devices: Some(BTreeMap::from([((8, 0), device), ((8, 16), device)])),
            ..Statistics::default()
        };
        let expected = Usage { peak_memory: 100, read_bytes: 0, written_bytes: 8192, ..usage };
        assert_eq!(counted.refine(usage), expected);
    }

    #[test]
    fn processes_are_counted() {
        let (_directory, group) = group(Version::Two, &[("pids.current", "7\n"), ("pids.max", "max\n")]);
        let processes = group.statistics().unwrap().processes;
        assert_eq!(processes, Some(ProcessStatistics { current: 7, limit: None }));
    }
}
