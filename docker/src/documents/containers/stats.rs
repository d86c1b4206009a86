//! What a container uses.

use engine::containers::usage::{CardFigures, Counted, DeviceStatistics, Usage};
use serde_json::{Map, Value, json};

use super::super::NEVER;

/// What a container uses now, beside what it used before.
pub fn document(usage: &Usage, before: Option<&Usage>) -> Value {
    let Usage { id, name, time, counted } = usage;
    let earlier = before.and_then(|before| before.counted.as_ref());
    let read = if counted.is_some() { time.to_string() } else { NEVER.to_owned() };
    let preread =
        before.filter(|_| earlier.is_some()).map_or(NEVER.to_owned(), |before| before.time.to_string());
    let mut value = json!({
        "id": id,
        "name": format!("/{name}"),
        "os_type": "linux",
        "read": read,
        "preread": preread,
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": processor(counted.as_ref()),
        "precpu_stats": processor(earlier),
        "memory_stats": counted.as_ref().map_or(json!({}), memory),
        "pids_stats": counted.as_ref().map_or(json!({}), processes),
        "blkio_stats": block_devices(counted.as_ref()),
    });
    let cards = counted.as_ref().map_or(&[][..], |counted| &counted.cards);
    if !cards.is_empty() {
        value["networks"] = Value::Object(cards.iter().map(card).collect::<Map<_, _>>());
    }
    value
}

fn processor(counted: Option<&Counted>) -> Value {
    let zero = json!({ "periods": 0, "throttled_periods": 0, "throttled_time": 0 });
    let Some(counted) = counted else {
        let usage = json!({ "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 });
        return json!({ "cpu_usage": usage, "throttling_data": zero });
    };
    let time = counted.statistics.processor.clone().unwrap_or_default();
    let mut usage = json!({
        "total_usage": time.total,
        "usage_in_kernelmode": time.system,
        "usage_in_usermode": time.user,
    });
    if !time.each.is_empty() {
        usage["percpu_usage"] = time.each.into();
    }
    json!({
        "cpu_usage": usage,
        "system_cpu_usage": u64::try_from(counted.machine_time.as_nanos()).unwrap_or(u64::MAX),
        "online_cpus": counted.processors,
        "throttling_data": {
            "periods": time.periods,
            "throttled_periods": time.throttled_periods,
            "throttled_time": time.throttled,
        },
    })
}

fn memory(counted: &Counted) -> Value {
    let memory = counted.statistics.memory.clone().unwrap_or_default();
    let limit = memory.limit.unwrap_or(counted.machine_memory).min(counted.machine_memory);
    let mut value = json!({ "usage": memory.usage, "limit": limit, "stats": memory.details });
    if let Some(peak) = memory.peak {
        value["max_usage"] = peak.into();
    }
    if memory.limit_reached > 0 {
        value["failcnt"] = memory.limit_reached.into();
    }
    value
}

fn processes(counted: &Counted) -> Value {
    let processes = counted.statistics.processes.unwrap_or_default();
    let mut value = json!({ "current": processes.current });
    if let Some(limit) = processes.limit {
        value["limit"] = limit.into();
    }
    value
}

fn block_devices(counted: Option<&Counted>) -> Value {
    let devices = counted.and_then(|counted| counted.statistics.block_devices.as_ref());
    let rows = |figures: fn(&DeviceStatistics) -> [u64; 2]| match devices {
        Some(devices) if !devices.is_empty() => {
            let mut rows = Vec::new();
            for ((major, minor), device) in devices {
                for (operation, value) in ["read", "write"].into_iter().zip(figures(device)) {
                    rows.push(json!({ "major": major, "minor": minor, "op": operation, "value": value }));
                }
            }
            rows.into()
        }
        _ => Value::Null,
    };
    json!({
        "io_service_bytes_recursive": rows(|device| [device.read_bytes, device.written_bytes]),
        "io_serviced_recursive": rows(|device| [device.reads, device.writes]),
        "io_queue_recursive": null,
        "io_service_time_recursive": null,
        "io_wait_time_recursive": null,
        "io_merged_recursive": null,
        "io_time_recursive": null,
        "sectors_recursive": null,
    })
}

fn card(card: &CardFigures) -> (String, Value) {
    let [rx_bytes, rx_packets, rx_errors, rx_dropped] = card.received;
    let [tx_bytes, tx_packets, tx_errors, tx_dropped] = card.sent;
    let value = json!({
        "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
        "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
    });
    (card.name.clone(), value)
}
