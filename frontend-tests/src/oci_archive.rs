//! Looks into an archive with an OCI layout: its index, manifests and configs as JSON, its layers as bytes.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use base::Digest;
use serde_json::Value;

/// The files of an archive.
pub struct OciArchive {
    files: BTreeMap<String, Vec<u8>>,
}

/// A manifest of an archive, with what it leads to.
pub struct ArchivedImage {
    /// The digest of the manifest.
    pub digest: String,
    /// The manifest.
    pub manifest: Value,
    /// The config.
    pub config: Value,
    /// The blobs of the layers, the base first, as they are.
    pub layers: Vec<Vec<u8>>,
}

impl OciArchive {
    /// Reads an archive file. Panics if it is not a tar.
    pub fn read(path: &Path) -> Self {
        Self::of(&std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Reads the bytes of an archive. Panics if they are not a tar.
    pub fn of(bytes: &[u8]) -> Self {
        let mut archive = tar::Archive::new(bytes);
        let mut files = BTreeMap::new();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("a tar entry");
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("the content of a tar entry");
            files.insert(name, content);
        }
        Self { files }
    }

    /// The names of all entries, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }

    /// The file `name` as JSON. Panics if it is not there, or none.
    pub fn json(&self, name: &str) -> Value {
        let bytes = self.files.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.names()));
        serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The blob with this digest. Panics if it is not there, or has other content.
    pub fn blob(&self, digest: &str) -> &[u8] {
        let name = format!("blobs/{}", digest.replace(':', "/"));
        let bytes = self.files.get(&name).unwrap_or_else(|| panic!("no {name} in {:?}", self.names()));
        assert_eq!(Digest::of(bytes).to_string(), digest, "the content of {name}");
        bytes
    }

    /// All manifests, those of indexes as well.
    pub fn images(&self) -> Vec<ArchivedImage> {
        let mut open = entries(&self.json("index.json"));
        open.reverse();
        let mut images = Vec::new();
        while let Some(entry) = open.pop() {
            let digest = text(&entry["digest"]);
            let document: Value = serde_json::from_slice(self.blob(&digest)).expect("a JSON document");
            if document["manifests"].is_array() {
                open.extend(entries(&document).into_iter().rev());
            } else {
                images.push(self.image(digest, document));
            }
        }
        images
    }

    fn image(&self, digest: String, manifest: Value) -> ArchivedImage {
        let config = serde_json::from_slice(self.blob(&text(&manifest["config"]["digest"])));
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        let layers = layers.iter().map(|layer| self.blob(&text(&layer["digest"])).to_vec()).collect();
        ArchivedImage { digest, manifest, config: config.expect("a config is JSON"), layers }
    }
}

impl ArchivedImage {
    /// The digest of the config.
    pub fn id(&self) -> String {
        text(&self.manifest["config"]["digest"])
    }

    /// The media types of the layers without what all of them begin with: `tar`, `tar+gzip`, `tar+zstd`.
    pub fn layer_types(&self) -> Vec<String> {
        let layers = self.manifest["layers"].as_array().cloned().unwrap_or_default();
        let of_layer = |layer: &Value| {
            let name = text(&layer["mediaType"]);
            name.trim_start_matches("application/vnd.oci.image.layer.v1.").to_owned()
        };
        layers.iter().map(of_layer).collect()
    }
}

fn entries(index: &Value) -> Vec<Value> {
    index["manifests"].as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}
