//! Networks and who is in them.

use engine::Engine;
use engine::error::EngineError;
use engine::networks::{LeaseRecord, Network};
use serde_json::{Value, json};

use super::NEVER;

/// A network in Docker's shape.
///
/// # Errors
/// What the network is now cannot be read.
pub fn document(engine: &Engine, network: &Network) -> Result<Value, EngineError> {
    let live = engine.live_network(network)?;
    let defined = network.defined.as_ref();
    let definition = defined.map(|defined| &defined.definition);
    let subnet = definition.and_then(|asked| asked.subnet).or(live.as_ref().map(|live| live.subnet));
    let subnet6 = match definition {
        Some(asked) => asked.subnet6,
        None => live.as_ref().and_then(|live| live.subnet6),
    };
    let mut configs = Vec::new();
    if let Some(subnet) = subnet {
        let gateway = definition.and_then(|asked| asked.gateway).unwrap_or_else(|| subnet.gateway());
        let mut config = json!({ "Subnet": subnet.to_string(), "Gateway": gateway.to_string() });
        if let Some(range) = definition.and_then(|asked| asked.range) {
            config["IPRange"] = range.to_string().into();
        }
        if let Some(defined) = defined.filter(|defined| !defined.auxiliary.is_empty()) {
            config["AuxiliaryAddresses"] = json!(defined.auxiliary);
        }
        configs.push(config);
    }
    configs.extend(
        subnet6
            .map(|subnet| json!({ "Subnet": subnet.to_string(), "Gateway": subnet.gateway().to_string() })),
    );
    let mut containers = serde_json::Map::new();
    for lease in live.iter().flat_map(|live| &live.leases) {
        // One that runs in the foreground may be gone by now.
        let name = engine.container(&lease.container).map(|container| container.name).unwrap_or_default();
        let length = live.as_ref().map_or(0, |live| live.subnet.length());
        containers.insert(lease.container.clone(), endpoint(lease, &name, length));
    }
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created_at.map_or(NEVER.to_owned(), |time| time.to_string()),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": true,
        "EnableIPv6": subnet6.is_some(),
        "IPAM": { "Driver": "default", "Options": {}, "Config": configs },
        "Internal": definition.is_some_and(|asked| asked.internal),
        "Attachable": defined.is_some_and(|defined| defined.attachable),
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": defined.map(|defined| defined.options.clone()).unwrap_or_default(),
        "Labels": network.labels(),
    }))
}

/// What a container has in a network.
fn endpoint(lease: &LeaseRecord, name: &str, length: u8) -> Value {
    json!({
        "Name": name,
        "IPv4Address": format!("{}/{length}", lease.address),
        "IPv6Address": lease.address6.map_or(String::new(), |address| format!("{address}/64")),
    })
}
