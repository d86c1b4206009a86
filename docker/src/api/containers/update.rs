//! Changing what a container may use, and when it is started again.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use bollard_stubs::models::ContainerUpdateBody;
use engine::containers::Update;
use engine::request::Limits;
use serde_json::{Value, json};

use super::super::{Api, ApiError, body};
use super::words;

/// Billionths of a processor, and microseconds of a period, that are one processor.
const WHOLE_CPU: i64 = 1_000_000_000;
const PERIOD: u64 = 100_000;

/// The least memory that a process gets along with, as in Docker.
const LEAST_MEMORY: u64 = 6 << 20;

pub(super) async fn update(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let update = changes(&body::json(body).await?)?;
    api.ask(move |engine| engine.update_container(&id, &update)).await?;
    Ok(Json(json!({ "Warnings": null })))
}

/// What a client wants to change; what is 0 or empty stays.
pub(super) fn changes(wanted: &ContainerUpdateBody) -> Result<Update, ApiError> {
    let is_fixed = [
        ("BlkioWeightDevice", wanted.blkio_weight_device.as_ref().is_some_and(|all| !all.is_empty())),
        ("BlkioDeviceReadBps", wanted.blkio_device_read_bps.as_ref().is_some_and(|all| !all.is_empty())),
        ("BlkioDeviceWriteBps", wanted.blkio_device_write_bps.as_ref().is_some_and(|all| !all.is_empty())),
        ("BlkioDeviceReadIOps", wanted.blkio_device_read_iops.as_ref().is_some_and(|all| !all.is_empty())),
        ("BlkioDeviceWriteIOps", wanted.blkio_device_write_iops.as_ref().is_some_and(|all| !all.is_empty())),
        ("Devices", wanted.devices.as_ref().is_some_and(|all| !all.is_empty())),
        ("Ulimits", wanted.ulimits.as_ref().is_some_and(|all| !all.is_empty())),
    ];
    if let Some((name, _)) = is_fixed.into_iter().find(|(_, is_given)| *is_given) {
        let message = format!("{name} cannot be changed of a container that is there; make a new one");
        return Err(ApiError::bad_request(message));
    }
    let size = |name: &str, value: Option<i64>| match value.filter(|value| *value != 0) {
        None => Ok(None),
        Some(value) => u64::try_from(value).map(Some).map_err(|_| {
            ApiError::bad_request(format!("invalid value {value} for {name}: it is less than 0"))
        }),
    };
    let memory = size("Memory", wanted.memory)?;
    if memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        return Err(ApiError::bad_request("minimum memory limit allowed is 6MB"));
    }
    let nano = wanted.nano_cpus.filter(|nano| *nano != 0);
    let period = size("CpuPeriod", wanted.cpu_period)?;
    let quota = wanted.cpu_quota.filter(|quota| *quota != 0);
    if nano.is_some() && (period.is_some() || quota.is_some()) {
        return Err(ApiError::bad_request(
            "conflicting options: Nano CPUs and CPU Period or Quota cannot both be set",
        ));
    }
    if nano.is_some_and(|nano| nano < WHOLE_CPU / 100) {
        return Err(ApiError::bad_request("invalid value for NanoCpus: give at least 0.01 processors"));
    }
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let limits = Limits {
        memory,
        memory_swap: wanted.memory_swap.filter(|swap| *swap != 0),
        memory_reservation: size("MemoryReservation", wanted.memory_reservation)?,
        cpu_shares: size("CpuShares", wanted.cpu_shares)?,
        cpu_quota: nano.map(|nano| nano / (WHOLE_CPU / PERIOD as i64)).or(quota),
        cpu_period: nano.map(|_| PERIOD).or(period),
        realtime_runtime: wanted.cpu_realtime_runtime.filter(|time| *time != 0),
        realtime_period: size("CpuRealtimePeriod", wanted.cpu_realtime_period)?,
        cpuset_cpus: text(&wanted.cpuset_cpus),
        cpuset_mems: text(&wanted.cpuset_mems),
        pids: wanted.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: wanted.blkio_weight.filter(|weight| *weight != 0),
        ..Limits::default()
    };
    let named = |policy: &&bollard_stubs::models::RestartPolicy| {
        !matches!(policy.name, None | Some(bollard_stubs::models::RestartPolicyNameEnum::EMPTY))
    };
    let restart = match wanted.restart_policy.as_ref().filter(named) {
        None => None,
        Some(policy) => {
            let words = words::restart(policy)?.unwrap_or_else(|| "no".to_owned());
            Some(words.parse().map_err(|_| ApiError::bad_request("invalid restart policy"))?)
        }
    };
    Ok(Update { limits, restart })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: Value) -> Result<Update, String> {
        changes(&serde_json::from_value(value).unwrap()).map_err(|error| error.message)
    }

    #[test]
    fn what_is_nothing_stays() {
        assert_eq!(
            parsed(json!({ "Memory": 0, "RestartPolicy": { "Name": "" } })).unwrap(),
            Update::default()
        );
        let limits = parsed(json!({ "NanoCpus": 1_500_000_000_i64 })).unwrap().limits;
        assert_eq!((limits.cpu_quota, limits.cpu_period), (Some(150_000), Some(PERIOD)));
        for bad in [
            json!({ "Memory": 1 }),
            json!({ "Memory": -1 }),
            json!({ "NanoCpus": 1 }),
            json!({ "NanoCpus": 100_000_000, "CpuPeriod": 7 }),
            json!({ "Ulimits": [{ "Name": "core" }] }),
        ] {
            assert!(parsed(bad.clone()).is_err(), "{bad}");
        }
    }
}
