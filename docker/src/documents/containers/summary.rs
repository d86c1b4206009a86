//! What a list shows of each container.

use engine::Engine;
use engine::containers::Container;
use engine::error::EngineError;
use serde_json::{Value, json};

use super::{mounts, network, ports, status};

/// A container in a list. With `size`, also how large it is.
///
/// # Errors
/// What it has of its networks cannot be read.
pub fn document(engine: &Engine, container: &Container, size: bool) -> Result<Value, EngineError> {
    let asked = &container.document;
    let networks = network(engine, container)?["Networks"].take();
    let mut value = json!({
        "Id": container.id,
        "Names": [format!("/{}", container.name)],
        "Image": asked.image,
        "ImageID": container.image_id.to_string(),
        "Command": asked.command.join(" "),
        "Created": container.created_at.as_second(),
        "Ports": ports(container),
        "Labels": asked.labels,
        "State": container.state.status.name(),
        "Status": status(container),
        "HostConfig": { "NetworkMode": asked.network },
        "NetworkSettings": { "Networks": networks },
        "Mounts": mounts(container),
    });
    if !asked.annotations.is_empty() {
        value["HostConfig"]["Annotations"] = json!(asked.annotations);
    }
    if size {
        let sizes = engine.container_size(container)?;
        value["SizeRw"] = sizes.changes.into();
        value["SizeRootFs"] = sizes.whole.into();
    }
    Ok(value)
}

/// The ports that it is said to listen on, and where the host offers them.
fn ports(container: &Container) -> Vec<Value> {
    let mut all = Vec::new();
    for (port, hosts) in ports::by_port(container) {
        let transport = port.transport.to_string();
        if hosts.is_empty() {
            all.push(json!({ "PrivatePort": port.number, "Type": transport }));
        }
        for host in hosts {
            all.push(json!({
                "IP": host.ip().to_string(),
                "PrivatePort": port.number,
                "PublicPort": host.port(),
                "Type": transport,
            }));
        }
    }
    all
}
