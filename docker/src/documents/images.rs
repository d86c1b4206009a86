//! Images, as `inspect` shows them and lists do.

use std::path::PathBuf;

use base::{Reference, Timestamp};
use engine::report::{HistoryLine, ImageDetails, ImageSummary};
use serde_json::{Map, Value, json};

/// An image in a list.
pub fn summary(image: &ImageSummary) -> Value {
    summary_with(image, |_| true)
}

/// The same with those of its names that fit.
pub fn summary_with(image: &ImageSummary, fits: impl Fn(&Reference) -> bool) -> Value {
    let names: Vec<Reference> =
        image.names.iter().filter_map(|name| name.parse().ok()).filter(fits).collect();
    json!({
        "Id": image.id,
        "ParentId": "",
        "RepoTags": names.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests(&names, image),
        "Created": image.created.map_or(0, Timestamp::as_second),
        "Size": image.size,
        "SharedSize": -1,
        "Labels": image.labels,
        "Containers": -1,
        "Descriptor": { "digest": image.digest },
    })
}

/// The repositories that an image was in, each with the digest of its manifest.
fn digests(names: &[Reference], image: &ImageSummary) -> Vec<String> {
    let mut digests: Vec<String> =
        names.iter().map(|name| format!("{}@{}", name.familiar_repository(), image.digest)).collect();
    digests.sort();
    digests.dedup();
    digests
}

/// How an image was made, the newest step first.
pub fn history(image: &ImageSummary, lines: &[HistoryLine]) -> Value {
    let names: Vec<String> = image
        .names
        .iter()
        .filter_map(|name| name.parse::<Reference>().ok())
        .map(|name| name.familiar())
        .collect();
    let line = |(index, line): (usize, &HistoryLine)| {
        let is_first = index == 0;
        json!({
            "Id": if is_first { image.id.to_string() } else { "<missing>".to_owned() },
            "Created": line.entry.created.map_or(0, Timestamp::as_second),
            "CreatedBy": line.entry.created_by,
            "Tags": if is_first && !names.is_empty() { json!(names) } else { Value::Null },
            "Size": line.size,
            "Comment": line.entry.comment,
        })
    };
    lines.iter().enumerate().map(line).collect()
}

/// An image as Docker's JSON. `layers` are the directories of its files, the topmost first.
pub fn document(details: &ImageDetails, layers: &[PathBuf]) -> Value {
    let (summary, config) = (&details.summary, &details.config);
    let names: Vec<Reference> = summary.names.iter().filter_map(|name| name.parse().ok()).collect();
    // Its maps have texts as names, so that it can always be written.
    let container = serde_json::to_value(&config.config).unwrap_or_default();
    json!({
        "Id": summary.id,
        "RepoTags": names.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests(&names, summary),
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
