//! Statistics of version 2.

use std::collections::BTreeMap;
use std::path::Path;

use sys::path_error::PathError;

use super::{DeviceStatistics, MemoryStatistics, ProcessorStatistics, device, number, table, text};

pub(super) fn memory(directory: &Path) -> Result<MemoryStatistics, PathError> {
    let file = |name| number(directory, name);
    let details = table(directory, "memory.stat")?;
    let events = table(directory, "memory.events")?;
    let of = |table: &BTreeMap<String, u64>, name: &str| table.get(name).copied();
    Ok(MemoryStatistics {
        usage: file("memory.current")?.unwrap_or(0),
        limit: file("memory.max")?,
        peak: file("memory.peak")?,
        limit_reached: of(&events, "max").unwrap_or(0),
        kills: of(&events, "oom_kill").unwrap_or(0),
        cache: of(&details, "file").unwrap_or(0),
        inactive_file: of(&details, "inactive_file").unwrap_or(0),
        anonymous: of(&details, "anon").unwrap_or(0),
        kernel: of(&details, "kernel"),
        swap: file("memory.swap.current")?,
        swap_limit: file("memory.swap.max")?,
        details,
    })
}

pub(super) fn processor(directory: &Path) -> Result<ProcessorStatistics, PathError> {
    let counted = table(directory, "cpu.stat")?;
    let count = |name: &str| counted.get(name).copied().unwrap_or(0);
    let nanoseconds = |name: &str| count(name).saturating_mul(1000);
    Ok(ProcessorStatistics {
        total: nanoseconds("usage_usec"),
        user: nanoseconds("user_usec"),
        system: nanoseconds("system_usec"),
        each: Vec::new(),
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled: nanoseconds("throttled_usec"),
    })
}

pub(super) fn block_devices(directory: &Path) -> Result<BTreeMap<(u32, u32), DeviceStatistics>, PathError> {
    let text = text(directory, "io.stat")?.unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.filter_map(|(numbers, counted)| Some((device(numbers)?, device_line(counted)))).collect())
}

/// The words `name=count` of a line.
fn device_line(counted: &str) -> DeviceStatistics {
    let mut device = DeviceStatistics::default();
    for (name, count) in counted.split(' ').filter_map(|word| word.split_once('=')) {
        let count = count.parse().unwrap_or(0);
        match name {
            "rbytes" => device.read_bytes = count,
            "wbytes" => device.written_bytes = count,
            "rios" => device.reads = count,
            "wios" => device.writes = count,
            _ => {}
        }
    }
    device
}

#[cfg(test)]
mod tests {
    use super::super::tests::group;
    use super::*;
    use crate::cgroup::hierarchy::Version;

    #[test]
    fn memory_processor_and_devices_are_read() {
        let files = [
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.peak", "1500\n"),
            ("memory.events", "low 0\nhigh 0\nmax 5\noom 1\noom_kill 1\n"),
            ("memory.stat", "anon 300\nfile 400\nkernel 20\ninactive_file 150\n"),
            ("memory.swap.current", "7\n"),
            (
                "cpu.stat",
                "usage_usec 70\nuser_usec 40\nsystem_usec 30\nnr_periods 9\nnr_throttled 4\nthrottled_usec 2\n",
            ),
            ("io.stat", "8:0 rbytes=4096 wbytes=8 rios=2 wios=1 dbytes=0 dios=0\n7:1 \n"),
        ];
        let (_directory, group) = group(Version::Two, &files);
        let statistics = group.statistics().unwrap();
        let memory = statistics.memory.unwrap();
        assert_eq!((memory.usage, memory.limit, memory.limit_reached, memory.kills), (1000, None, 5, 1));
        assert_eq!(
            (memory.cache, memory.anonymous, memory.kernel, memory.swap),
            (400, 300, Some(20), Some(7))
        );
        let processor = statistics.processor.unwrap();
        assert_eq!((processor.total, processor.user, processor.throttled), (70_000, 40_000, 2000));
        let disk = DeviceStatistics { read_bytes: 4096, written_bytes: 8, reads: 2, writes: 1 };
        let expected = BTreeMap::from([((8, 0), disk), ((7, 1), DeviceStatistics::default())]);
        assert_eq!(statistics.block_devices, Some(expected));
    }
}
