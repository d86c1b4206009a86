//! Statistics of version 1.

use std::collections::BTreeMap;
use std::path::Path;

use sys::path_error::PathError;

use super::{DeviceStatistics, MemoryStatistics, NO_LIMIT, ProcessorStatistics, device, number, table, text};

pub(super) fn memory(directory: &Path) -> Result<MemoryStatistics, PathError> {
    let file = |name| number(directory, name);
    let details = table(directory, "memory.stat")?;
    // The groups inside of it count as well.
    let total = |name: &str| {
        let all = details.get(&format!("total_{name}")).or_else(|| details.get(name));
        all.copied().unwrap_or(0)
    };
    let limited = |limit: Option<u64>| limit.filter(|&limit| limit < NO_LIMIT);
    let usage = file("memory.usage_in_bytes")?.unwrap_or(0);
    let limit = limited(file("memory.limit_in_bytes")?);
    let both_limit = limited(file("memory.memsw.limit_in_bytes")?);
    let kills = table(directory, "memory.oom_control")?.get("oom_kill").copied().unwrap_or(0);
    Ok(MemoryStatistics {
        usage,
        limit,
        peak: file("memory.max_usage_in_bytes")?,
        limit_reached: file("memory.failcnt")?.unwrap_or(0),
        kills,
        cache: total("cache"),
        inactive_file: total("inactive_file"),
        anonymous: total("rss"),
        kernel: file("memory.kmem.usage_in_bytes")?,
        swap: file("memory.memsw.usage_in_bytes")?.map(|both| both.saturating_sub(usage)),
        swap_limit: both_limit.map(|both| both.saturating_sub(limit.unwrap_or(0))),
        details,
    })
}

/// `limits` is the group of the controller that limits; the one that counts is another one.
pub(super) fn processor(count: &Path, limits: Option<&Path>) -> Result<ProcessorStatistics, PathError> {
    let throttling = limits.map(|limits| table(limits, "cpu.stat")).transpose()?.unwrap_or_default();
    let throttling = |name: &str| throttling.get(name).copied().unwrap_or(0);
    let each = text(count, "cpuacct.usage_percpu")?.unwrap_or_default();
    Ok(ProcessorStatistics {
        total: number(count, "cpuacct.usage")?.unwrap_or(0),
        user: number(count, "cpuacct.usage_user")?.unwrap_or(0),
        system: number(count, "cpuacct.usage_sys")?.unwrap_or(0),
        each: each.split_whitespace().filter_map(|time| time.parse().ok()).collect(),
        periods: throttling("nr_periods"),
        throttled_periods: throttling("nr_throttled"),
        throttled: throttling("throttled_time"),
    })
}

pub(super) fn block_devices(directory: &Path) -> Result<BTreeMap<(u32, u32), DeviceStatistics>, PathError> {
    let mut devices: BTreeMap<_, DeviceStatistics> = BTreeMap::new();
    let mut each = |file: &str, add: fn(&mut DeviceStatistics, &str, u64)| -> Result<(), PathError> {
        for line in text(directory, file)?.unwrap_or_default().lines() {
            if let [numbers, operation, count] = line.split(' ').collect::<Vec<_>>().as_slice()
                && let (Some(numbers), Ok(count)) = (device(numbers), count.parse())
            {
                add(devices.entry(numbers).or_default(), operation, count);
            }
        }
        Ok(())
    };
    each("blkio.throttle.io_service_bytes_recursive", |device, operation, bytes| match operation {
        "Read" => device.read_bytes = bytes,
        "Write" => device.written_bytes = bytes,
        _ => {}
    })?;
    each("blkio.throttle.io_serviced_recursive", |device, operation, count| match operation {
        "Read" => device.reads = count,
        "Write" => device.writes = count,
        _ => {}
    })?;
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::super::tests::group;
    use super::*;
    use crate::cgroup::hierarchy::Version;

    #[test]
    fn memory_is_that_of_all_inner_groups() {
        let files = [
            ("memory.usage_in_bytes", "1000\n"),
            ("memory.limit_in_bytes", "2000\n"),
            ("memory.memsw.usage_in_bytes", "1300\n"),
            ("memory.memsw.limit_in_bytes", "9223372036854771712\n"),
            ("memory.failcnt", "3\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("memory.stat", "cache 1\nrss 2\ntotal_cache 400\ntotal_rss 300\ntotal_inactive_file 150\n"),
        ];
        let (_directory, group) = group(Version::One, &files);
        let memory = group.statistics().unwrap().memory.unwrap();
        assert_eq!(
            (memory.usage, memory.limit, memory.limit_reached, memory.kills),
            (1000, Some(2000), 3, 2)
        );
        assert_eq!((memory.cache, memory.anonymous, memory.working_set()), (400, 300, 850));
        assert_eq!((memory.swap, memory.swap_limit, memory.peak), (Some(300), None, None));
        assert_eq!(memory.details["rss"], 2);
    }

    #[test]
    fn processor_time_and_its_limit_are_in_two_places() {
        let files = [
            ("cpuacct.usage", "70\n"),
            ("cpuacct.usage_user", "40\n"),
            ("cpuacct.usage_sys", "30\n"),
            ("cpuacct.usage_percpu", "50 20 \n"),
            ("cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 77\n"),
        ];
        let (_directory, group) = group(Version::One, &files);
        let expected = ProcessorStatistics {
            total: 70,
            user: 40,
            system: 30,
            each: vec![50, 20],
            periods: 9,
            throttled_periods: 4,
            throttled: 77,
        };
        assert_eq!(group.statistics().unwrap().processor, Some(expected));
    }

    #[test]
    fn devices_are_read_from_two_files() {
        let files = [
            (
                "blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 4096\n8:0 Write 8\n8:0 Sync 9\nTotal 4104\n",
            ),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 2\n8:0 Write 1\n"),
        ];
        let (_directory, group) = group(Version::One, &files);
        let device = DeviceStatistics { read_bytes: 4096, written_bytes: 8, reads: 2, writes: 1 };
        assert_eq!(group.statistics().unwrap().block_devices, Some(BTreeMap::from([((8, 0), device)])));
    }
}
