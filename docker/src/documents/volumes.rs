//! Volumes and how much they hold.

use engine::volumes::{DRIVER, Volume, VolumeUsage};
use serde_json::{Value, json};

use super::map_or_null;

/// A volume in Docker's shape.
pub fn document(volume: &Volume) -> Value {
    json!({
        "CreatedAt": volume.created_at.to_string(),
        "Driver": DRIVER,
        "Labels": map_or_null(&volume.labels),
        "Mountpoint": volume.mountpoint.display().to_string(),
        "Name": volume.name,
        "Options": map_or_null(&volume.options),
        "Scope": "local",
    })
}

/// The same, with how much it holds and how many containers show it.
pub fn document_of_usage(usage: &VolumeUsage) -> Value {
    let mut value = document(&usage.volume);
    value["UsageData"] = json!({ "RefCount": usage.users.len(), "Size": usage.bytes });
    value
}
