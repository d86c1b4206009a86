//! `lap images --tree`: images with their platforms and layers, and what they share.

use base::Reference;
use engine::images::{ImageTree, LayerUse, PlatformTree};

use super::shown_id;
use crate::{table, units};

/// The whole table. Sizes of a platform are those of its layers; what other images have as well is told beside.
pub(super) fn text(trees: &[ImageTree], whole: bool) -> String {
    let rows: Vec<Vec<String>> = trees.iter().flat_map(|tree| rows(tree, whole)).collect();
    table::render(&["IMAGE", "ID", "DISK USAGE", "SHARED", "USED BY"], &rows)
}

fn rows(tree: &ImageTree, whole: bool) -> Vec<Vec<String>> {
    let names = tree.summary.names.iter().filter_map(|name| name.parse::<Reference>().ok());
    let names: Vec<String> = names.map(|name| name.familiar()).collect();
    let name = if names.is_empty() { "<untagged>".to_owned() } else { names.join(", ") };
    let bytes = tree.platforms.iter().map(PlatformTree::bytes).sum();
    let shared = tree.platforms.iter().map(PlatformTree::shared_bytes).sum();
    let id = shown_id(&tree.summary.id, whole);
    let mut rows = vec![vec![name, id, units::bytes(bytes), units::bytes(shared), String::new()]];
    for (index, platform) in tree.platforms.iter().enumerate() {
        let last = index + 1 == tree.platforms.len();
        rows.extend(platform_rows(platform, last, whole));
    }
    rows
}

fn platform_rows(platform: &PlatformTree, last: bool, whole: bool) -> Vec<Vec<String>> {
    let (branch, below) = if last { ("└─", "  ") } else { ("├─", "│ ") };
    let mut rows = vec![vec![
        format!("{branch} {}", platform.platform),
        shown_id(&platform.manifest, whole),
        units::bytes(platform.bytes()),
        units::bytes(platform.shared_bytes()),
        String::new(),
    ]];
    for (index, LayerUse { diff_id, bytes, images }) in platform.layers.iter().enumerate() {
        let twig = if index + 1 == platform.layers.len() { "└─" } else { "├─" };
        let shared = if *images > 1 { *bytes } else { 0 };
        let users = if *images == 1 { "1 image".to_owned() } else { format!("{images} images") };
        rows.push(vec![
            format!("{below} {twig} layer {}", index + 1),
            shown_id(diff_id, whole),
            units::bytes(*bytes),
            units::bytes(shared),
            users,
        ]);
    }
    rows
}
