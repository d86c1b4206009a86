//! The shapes in which Docker shows things: what `docker inspect` prints, and the API answers.

pub mod containers;
pub mod events;
pub mod images;
pub mod networks;
pub mod system;
pub mod volumes;

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The time of what has not happened, as Go has it.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// A map that Go never made is null.
fn map_or_null(map: &BTreeMap<String, String>) -> Value {
    if map.is_empty() { Value::Null } else { json!(map) }
}
