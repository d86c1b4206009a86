//! Images.

use std::path::PathBuf;

use base::Reference;
use engine::report::ImageDetails;
use serde_json::{Map, Value, json};

/// An image as Docker's JSON. `layers` are the directories of its files, the topmost first.
pub fn document(details: &ImageDetails, layers: &[PathBuf]) -> Value {
    let (summary, config) = (&details.summary, &details.config);
    let names: Vec<Reference> = summary.names.iter().filter_map(|name| name.parse().ok()).collect();
    // Its maps have texts as names, so that it can always be written.
    let container = serde_json::to_value(&config.config).unwrap_or_default();
    json!({
        "Id": summary.id,
        "RepoTags": names.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": names.iter().map(|name| format!("{}@{}", name.familiar_repository(), summary.digest)).collect::<Vec<_>>(),
        "Parent": "",
        "Comment": config.history.last().map(|entry| entry.comment.as_str()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author,
        "Config": container,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": summary.size,
        "GraphDriver": graph_driver(layers, config.rootfs.diff_ids.len()),
        "RootFS": {"Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": null},
        "Descriptor": {"digest": summary.digest},
    })
}

/// Where the files of an image lie, by Docker's names. One that is not unpacked has none.
fn graph_driver(layers: &[PathBuf], layer_count: usize) -> Value {
    let mut data = Map::new();
    if let Some((upper, lower)) = layers.split_first() {
        data.insert("UpperDir".to_owned(), upper.display().to_string().into());
        if !lower.is_empty() {
            let lower: Vec<String> = lower.iter().map(|path| path.display().to_string()).collect();
            data.insert("LowerDir".to_owned(), lower.join(":").into());
        }
    }
    // Without an overlay a directory holds all of them, copied.
    let is_copied = layers.len() == 1 && layer_count > 1;
    json!({ "Name": if is_copied { "vfs" } else { "overlay2" }, "Data": if data.is_empty() { Value::Null } else { data.into() } })
}
