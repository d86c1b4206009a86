//! Events, with the fields of older clients.

use engine::events_log::Event;
use serde_json::{Value, json};

/// An event in Docker's shape, with the fields of older clients.
pub fn document(event: &Event) -> Value {
    let mut value = json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time.as_second(),
        "timeNano": i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX),
    });
    if matches!(event.kind.as_str(), "container" | "image") {
        value["status"] = event.action.clone().into();
        value["id"] = event.id.clone().into();
    }
    if event.kind == "container" {
        value["from"] = event.attributes.get("image").cloned().unwrap_or_default().into();
    }
    value
}
