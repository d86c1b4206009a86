//! Reads an image from the archive that a subject saved: its config, and the root filesystem as a tree.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use testkit::{Tree, images};

/// An image.
pub struct SavedImage {
    /// The whole config document.
    pub config: Value,
    /// What is in the root filesystem.
    pub tree: Tree,
    /// Bytes of each layer's tar as the archive has them, the base first.
    pub layers: Vec<Vec<u8>>,
}

impl SavedImage {
    /// Reads an archive of one image. Panics if it is none.
    pub fn read(archive: &Path) -> Self {
        let bytes = std::fs::read(archive).unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
        let manifest: Value = json(&member(&bytes, "manifest.json"));
        let entry = &manifest[0];
        let config = json(&member(&bytes, entry["Config"].as_str().expect("an archive names its config")));
        let names = entry["Layers"].as_array().expect("an archive lists its layers");
        let layers: Vec<Vec<u8>> =
            names.iter().map(|name| decompress(member(&bytes, name.as_str().expect("a name")))).collect();
        let tree =
            layers.iter().fold(Tree::new(), |tree, layer| tree.with_layer(Tree::of_tar(layer.as_slice())));
        Self { config, tree, layers }
    }

    /// The paths that `busybox` does not have.
    pub fn added_paths(&self) -> Vec<&str> {
        let base = Tree::of_tar(images::busybox_tar());
        self.tree.paths().filter(|path| base.get(path).is_none()).collect()
    }

    /// The entries of the history that the build wrote, `empty: ` before those without a layer.
    pub fn history(&self) -> Vec<String> {
        let entries = self.config["history"].as_array().cloned().unwrap_or_default();
        let ours = entries.iter().filter(|entry| entry["comment"] == "buildkit.dockerfile.v0");
        let text = |entry: &Value| {
            let empty = if entry["empty_layer"] == true { "empty: " } else { "" };
            format!("{empty}{}", entry["created_by"].as_str().unwrap_or_default())
        };
        ours.map(text).collect()
    }
}

fn member(archive: &[u8], name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries().expect("a tar").map(|entry| entry.expect("a tar entry"));
    let found = entries.find(|entry| entry.path_bytes().as_ref() == name.as_bytes());
    let mut found = found.unwrap_or_else(|| panic!("the archive has no {name}"));
    let mut content = Vec::new();
    found.read_to_end(&mut content).expect("the content of a tar entry");
    content
}

fn decompress(layer: Vec<u8>) -> Vec<u8> {
    if !layer.starts_with(&[0x1f, 0x8b]) {
        return layer;
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(layer.as_slice()).read_to_end(&mut plain).expect("a layer in gzip");
    plain
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("a JSON document")
}
