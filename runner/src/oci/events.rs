//! What a container uses, in the form that `runc events` gave it and its callers read, and its processes.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;
use serde_json::{Value, json};

use super::error::OciError;
use super::{Known, Runtime};
use crate::cgroup::statistics::{DeviceStatistics, Statistics};

/// One line of `events`.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The container.
    pub id: String,
    /// Figures of the `stats` kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl Runtime {
    /// What a container uses now.
    pub fn statistics(&self, id: &str) -> Result<Event, OciError> {
        let Known { record, .. } = self.look_up(id)?;
        let data = in_json(&record.group().statistics()?);
        Ok(Event { kind: "stats", id: record.id, data: Some(data) })
    }

    /// How often the kernel has killed a process of a container for lack of memory.
    pub fn memory_kills(&self, id: &str) -> Result<u64, OciError> {
        Ok(self.look_up(id)?.record.group().memory_kills()?)
    }
}

fn in_json(statistics: &Statistics) -> Value {
    let processor = statistics.processor.clone().unwrap_or_default();
    let memory = statistics.memory.clone().unwrap_or_default();
    let processes = statistics.processes.unwrap_or_default();
    let swap = memory.swap.unwrap_or(0);
    json!({
        "cpu": {
            "usage": {
                "total": processor.total,
                "percpu": processor.each,
                "kernel": processor.system,
                "user": processor.user,
            },
            "throttling": {
                "periods": processor.periods,
                "throttledPeriods": processor.throttled_periods,
                "throttledTime": processor.throttled,
            },
        },
        "memory": {
            "cache": memory.cache,
            "usage": {
                "limit": memory.limit,
                "usage": memory.usage,
                "max": memory.peak,
                "failcnt": memory.limit_reached,
            },
            "swap": { "limit": memory.swap_limit, "usage": swap, "failcnt": 0 },
            "kernel": { "usage": memory.kernel, "failcnt": 0 },
            "raw": memory.details,
        },
        "pids": { "current": processes.current, "limit": processes.limit.unwrap_or(0) },
        "blkio": block_devices(statistics.block_devices.as_ref()),
    })
}

fn block_devices(devices: Option<&BTreeMap<(u32, u32), DeviceStatistics>>) -> Value {
    let list = |figures: fn(&DeviceStatistics) -> [u64; 2]| -> Vec<Value> {
        let rows = devices.into_iter().flatten().flat_map(|((major, minor), statistics)| {
            let row = move |(op, value)| json!({ "major": major, "minor": minor, "op": op, "value": value });
            ["Read", "Write"].into_iter().zip(figures(statistics)).map(row)
        });
        rows.collect()
    };
    json!({
        "ioServiceBytesRecursive": list(|device| [device.read_bytes, device.written_bytes]),
        "ioServicedRecursive": list(|device| [device.reads, device.writes]),
    })
}

/// A table of processes, the most of `ps -ef` that the kernel tells without a library of names: user id, numbers
/// of the process and its parent, and its command line.
pub fn process_table(pids: &[u32]) -> String {
    let mut table = String::from("UID        PID       PPID      CMD\n");
    for pid in pids {
        // One that has ended meanwhile is left out.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()).unwrap_or("?").to_owned()
        };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
        let command = if command.is_empty() { format!("[{}]", field("Name:")) } else { command };
        table.push_str(&format!("{:<10} {pid:<9} {:<9} {command}\n", field("Uid:"), field("PPid:")));
    }
    table
}
