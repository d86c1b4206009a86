//! Reading the documents of an image: which kind a document is, and the way from an index to the
//! manifest for a platform.
//!
//! Nothing is fetched here. [`Search`] is told what an index holds and says which document to read next;
//! the client and the archives both follow it.

use std::collections::{BTreeSet, VecDeque};

use base::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use base::{Digest, Platform};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The largest manifest or index that is read, in bytes. Source: distribution-spec, "Pushing
/// Manifests": registries should take at least 4 MiB.
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;
/// The largest image config that is read, in bytes.
pub(crate) const CONFIG_LIMIT: u64 = 8 << 20;
/// How many indexes may be nested in each other.
pub(crate) const DEPTH_LIMIT: u32 = 4;
/// How many indexes one search reads.
pub(crate) const INDEX_LIMIT: u32 = 32;

/// A document: its descriptor, its bytes and what they mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Document<T> {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes as they were received; the digest is theirs.
    pub bytes: Vec<u8>,
    /// The bytes, parsed.
    pub value: T,
}

impl<T: DeserializeOwned> Document<T> {
    /// Parses `bytes`, whose digest the caller has checked.
    pub(crate) fn parse(descriptor: Descriptor, bytes: Vec<u8>) -> Result<Self, DocumentError> {
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self { descriptor, bytes, value }),
            Err(source) => Err(DocumentError::Json {
                media_type: descriptor.media_type,
                digest: descriptor.digest,
                source,
            }),
        }
    }
}

/// All documents of one image for one platform.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageDocuments {
    /// The index that the name led to, if it led to one.
    pub index: Option<Document<Index>>,
    /// The manifest.
    pub manifest: Document<Manifest>,
    /// The config.
    pub config: Document<ImageConfig>,
}

impl ImageDocuments {
    /// The descriptor that the name led to: the index's if there is one, else the manifest's.
    pub fn root(&self) -> &Descriptor {
        self.index.as_ref().map_or(&self.manifest.descriptor, |index| &index.descriptor)
    }

    /// Puts the documents together, if they agree on the number of layers.
    pub(crate) fn assemble(
        index: Option<Document<Index>>,
        manifest: Document<Manifest>,
        config: Document<ImageConfig>,
    ) -> Result<Self, DocumentError> {
        check_layers(&manifest, &config)?;
        Ok(Self { index, manifest, config })
    }
}

/// Refuses a manifest and a config that do not agree on the number of layers.
pub(crate) fn check_layers(
    manifest: &Document<Manifest>,
    config: &Document<ImageConfig>,
) -> Result<(), DocumentError> {
    let (layers, diff_ids) = (manifest.value.layers.len(), config.value.rootfs.diff_ids.len());
    if layers == diff_ids {
        return Ok(());
    }
    Err(DocumentError::LayerCount { digest: manifest.descriptor.digest, layers, diff_ids })
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It is not the JSON its media type promises.
    #[error("{digest} is not a valid document of type {media_type}")]
    Json {
        /// What it should be.
        media_type: String,
        /// Its digest.
        digest: Digest,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is neither a manifest nor an index of a known kind.
    #[error(
        "type \"{media_type}\" is not an image manifest or index that is understood (Docker schema 2 and OCI are)"
    )]
    MediaType {
        /// The media type.
        media_type: String,
    },
    /// The media types outside and inside the document differ.
    #[error("the document was announced as {announced} but says of itself that it is {stated}")]
    MediaTypeConflict {
        /// The media type that came with it.
        announced: String,
        /// The media type in it.
        stated: String,
    },
    /// The document could be read both as a manifest and as an index.
    #[error("the document has the fields of both a manifest and an index")]
    Ambiguous,
    /// The manifest is of something that is not a container image.
    #[error("this is not a container image: its config is of type \"{media_type}\"")]
    NotAnImage {
        /// The media type of the config.
        media_type: String,
    },
    /// Manifest and config do not belong together.
    #[error("manifest {digest} has {layers} layers, but its config lists {diff_ids}")]
    LayerCount {
        /// The manifest.
        digest: Digest,
        /// Layers in the manifest.
        layers: usize,
        /// Layers in the config.
        diff_ids: usize,
    },
    /// No entry fits the platform.
    #[error("the image has nothing for platform {wanted}; it has {}", list(.available))]
    NoPlatform {
        /// The platform that was asked for.
        wanted: Box<Platform>,
        /// The platforms that there are.
        available: Vec<Platform>,
    },
    /// Indexes in indexes in indexes.
    #[error("indexes are nested more than {DEPTH_LIMIT} deep, or there are more than {INDEX_LIMIT} of them")]
    TooDeep,
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "no platforms at all".to_owned();
    }
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

/// The fields by which a document tells what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    media_type: String,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// The media type of a manifest or index: the one that was announced, checked against what the
/// document says of itself. A document that could be taken for either kind is refused, so that nobody
/// can show different things under one digest.
pub(crate) fn manifest_type(announced: Option<&str>, bytes: &[u8]) -> Result<String, DocumentError> {
    let announced = announced.filter(|text| !is_generic(text));
    let digest = || Digest::of(bytes);
    let json = |source| DocumentError::Json {
        media_type: announced.unwrap_or("manifest or index").to_owned(),
        digest: digest(),
        source,
    };
    let probe: Probe = serde_json::from_slice(bytes).map_err(json)?;
    let is_manifest = probe.config.is_some() || probe.layers.is_some();
    if is_manifest && probe.manifests.is_some() {
        return Err(DocumentError::Ambiguous);
    }
    let media_type = match (announced, probe.media_type.as_str()) {
        (Some(announced), "") => announced.to_owned(),
        (Some(announced), stated) if announced == stated => stated.to_owned(),
        (Some(announced), stated) => {
            return Err(DocumentError::MediaTypeConflict {
                announced: announced.to_owned(),
                stated: stated.to_owned(),
            });
        }
        (None, "") if probe.manifests.is_some() => media_type::OCI_INDEX.to_owned(),
        (None, "") if is_manifest => media_type::OCI_MANIFEST.to_owned(),
        (None, stated) => stated.to_owned(),
    };
    if media_type::is_index(&media_type) && !is_manifest
        || media_type::is_manifest(&media_type) && probe.manifests.is_none()
    {
        return Ok(media_type);
    }
    Err(DocumentError::MediaType { media_type })
}

/// Media types that say nothing: what servers send when nobody told them.
fn is_generic(media_type: &str) -> bool {
    matches!(media_type, "" | "application/json" | "application/octet-stream" | "text/plain")
}

/// Whether a config's media type is that of a container image.
pub(crate) fn check_config_type(descriptor: &Descriptor) -> Result<(), DocumentError> {
    match descriptor.media_type.as_str() {
        media_type::OCI_CONFIG | media_type::DOCKER_CONFIG => Ok(()),
        other => Err(DocumentError::NotAnImage { media_type: other.to_owned() }),
    }
}

/// The way from an index to the manifest for a platform, through nested indexes.
#[derive(Debug)]
pub(crate) struct Search {
    wanted: Platform,
    candidates: VecDeque<(Descriptor, u32)>,
    available: BTreeSet<Platform>,
    read: u32,
}

impl Search {
    /// A search for `wanted`.
    pub(crate) fn new(wanted: &Platform) -> Self {
        Self { wanted: wanted.clone(), candidates: VecDeque::new(), available: BTreeSet::new(), read: 0 }
    }

    /// Notes what an index at `depth` holds: its best match comes next, its nested indexes without a
    /// platform come last.
    pub(crate) fn visit(&mut self, index: &Index, depth: u32) {
        let known = index.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        self.available.extend(known.filter(|platform| platform.os != "unknown").cloned());
        if let Some(best) = index.select(&self.wanted) {
            self.candidates.push_front((best.clone(), depth + 1));
        }
        let nested =
            |entry: &&Descriptor| entry.platform.is_none() && media_type::is_index(&entry.media_type);
        self.candidates.extend(index.manifests.iter().filter(nested).map(|entry| (entry.clone(), depth + 1)));
    }

    /// The document to read next and its depth. A manifest is the answer; an index is to be visited.
    pub(crate) fn next(&mut self) -> Result<(Descriptor, u32), DocumentError> {
        let Some((descriptor, depth)) = self.candidates.pop_front() else {
            let available = self.available.iter().cloned().collect();
            return Err(DocumentError::NoPlatform { wanted: Box::new(self.wanted.clone()), available });
        };
        self.read += 1;
        if depth > DEPTH_LIMIT || self.read > INDEX_LIMIT {
            return Err(DocumentError::TooDeep);
        }
        Ok((descriptor, depth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn index(manifests: Vec<Descriptor>) -> Index {
        Index { schema_version: 2, media_type: String::new(), manifests, annotations: BTreeMap::new() }
    }

    fn entry(media_type: &str, name: &str, platform: Option<&str>) -> Descriptor {
        let mut descriptor = Descriptor::new(media_type, Digest::of(name.as_bytes()), 1);
        descriptor.platform = platform.map(|text| text.parse().unwrap());
        descriptor
    }

    #[test]
    fn types_are_checked_against_the_content() {
        let kind =
            |announced, text: &str| manifest_type(announced, text.as_bytes()).map_err(|e| e.to_string());
        let manifest = r#"{"config":{},"layers":[]}"#;
        assert_eq!(kind(None, manifest).as_deref(), Ok(media_type::OCI_MANIFEST));
        assert_eq!(kind(Some("text/plain"), r#"{"manifests":[]}"#).as_deref(), Ok(media_type::OCI_INDEX));
        assert_eq!(
            kind(Some(media_type::DOCKER_MANIFEST), manifest).as_deref(),
            Ok(media_type::DOCKER_MANIFEST)
        );
        assert!(
            kind(Some(media_type::OCI_INDEX), manifest)
                .unwrap_err()
                .contains("not an image manifest or index")
        );
        assert!(kind(None, r#"{"layers":[],"manifests":[]}"#).unwrap_err().contains("both"));
        assert!(kind(None, r#"{"schemaVersion":1}"#).is_err());
        let stated = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
        assert!(kind(Some(media_type::OCI_MANIFEST), &stated).unwrap_err().contains("says of itself"));
    }

    #[test]
    fn nested_indexes_are_searched_and_bounded() {
        let mut search = Search::new(&"linux/amd64".parse().unwrap());
        search.visit(&index(vec![entry(media_type::OCI_INDEX, "nested", None)]), 0);
        let (nested, depth) = search.next().unwrap();
        assert_eq!((nested.digest, depth), (Digest::of(b"nested"), 1));
        search.visit(&index(vec![entry(media_type::OCI_MANIFEST, "hit", Some("linux/amd64"))]), depth);
        assert_eq!(search.next().unwrap().0.digest, Digest::of(b"hit"));
        search.visit(&index(vec![entry(media_type::OCI_INDEX, "deep", None)]), DEPTH_LIMIT);
        assert!(matches!(search.next(), Err(DocumentError::TooDeep)));
    }

    #[test]
    fn a_miss_lists_what_there_is() {
        let mut search = Search::new(&"linux/s390x".parse().unwrap());
        let of = |name| entry(media_type::OCI_MANIFEST, name, Some(name));
        search.visit(&index(vec![of("linux/arm64"), of("linux/amd64")]), 0);
        let message = search.next().unwrap_err().to_string();
        assert_eq!(
            message,
            "the image has nothing for platform linux/s390x; it has linux/amd64, linux/arm64"
        );
    }
}
