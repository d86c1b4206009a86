//! Reading manifests that are pushed: what they are, what they refer to, and what they say of others.
//!
//! Whether what they refer to is there, the store finds out.
//!
//! Source: OCI image-spec v1.1, `manifest.md` and `image-index.md`; distribution-spec, "Pushing Manifests with Subject".

use std::collections::BTreeMap;

use axum::http::StatusCode;
use base::Digest;
use base::image::{Descriptor, media_type};
use serde::Deserialize;

use super::refusal::Refusal;
use super::store::{PushedManifest, Referral};
use crate::documents::manifest_type;
use crate::http_error::ErrorCode;

/// The fields of manifests and indexes that matter to a registry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: u32,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Reads a manifest or index that came as `announced`. `expected` is the digest that it was pushed under.
pub(super) fn check(
    announced: Option<&str>,
    bytes: Vec<u8>,
    expected: Option<Digest>,
) -> Result<PushedManifest, Refusal> {
    let digest = Digest::of(&bytes);
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        let message = format!("the manifest has the digest {digest} instead of {expected}");
        return Err(Refusal::bad(ErrorCode::DigestInvalid, message));
    }
    let invalid =
        |error: &dyn std::error::Error| Refusal::bad(ErrorCode::ManifestInvalid, base::fault::chain(error));
    let announced = announced.map(|text| text.split(';').next().unwrap_or_default().trim());
    let media_type = manifest_type(announced, &bytes).map_err(|error| invalid(&error))?;
    let fields: Fields = serde_json::from_slice(&bytes).map_err(|error| invalid(&error))?;
    if fields.schema_version != 2 {
        return Err(Refusal::bad(ErrorCode::ManifestInvalid, "schemaVersion is not 2"));
    }
    let is_index = media_type::is_index(&media_type);
    if !is_index && fields.config.is_none() {
        return Err(Refusal::bad(ErrorCode::ManifestInvalid, "the manifest has no config"));
    }
    let referral = fields.referral(&media_type, digest, bytes.len() as u64);
    let is_document = |entry: &Descriptor| {
        media_type::is_manifest(&entry.media_type) || media_type::is_index(&entry.media_type)
    };
    let (manifests, other): (Vec<_>, Vec<_>) = fields.manifests.into_iter().partition(is_document);
    let blobs = fields.config.into_iter().chain(fields.layers).chain(other);
    let blobs = blobs.filter(|blob| !may_be_elsewhere(blob)).collect();
    Ok(PushedManifest { media_type, digest, bytes, blobs, manifests, referral })
}

/// The media type that a manifest or index says it has, or that follows from its fields. `None` for anything else.
pub fn media_type_of(bytes: &[u8]) -> Option<String> {
    manifest_type(None, bytes).ok()
}

/// The refusal of a document that is too long.
pub(super) fn too_large(limit: u64) -> Refusal {
    let message = format!("a manifest of more than {limit} bytes is not accepted");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::ManifestInvalid, message)
}

/// Layers that may not be passed on are had from somewhere else.
fn may_be_elsewhere(blob: &Descriptor) -> bool {
    blob.media_type.starts_with(media_type::OCI_LAYER_NONDISTRIBUTABLE)
        || blob.media_type.starts_with(media_type::DOCKER_FOREIGN_LAYER)
}

impl Fields {
    /// What this manifest says of another. It is listed as the artifact that it is: what it calls itself, or what its config
    /// is.
    fn referral(&self, media_type: &str, digest: Digest, size: u64) -> Option<Referral> {
        let subject = self.subject.as_ref()?.digest;
        let own = self.artifact_type.clone().filter(|own| !own.is_empty());
        let of_config = || self.config.as_ref().map(|config| config.media_type.clone());
        let mut descriptor = Descriptor::new(media_type, digest, size);
        descriptor.artifact_type = own.or_else(of_config);
        descriptor.annotations = self.annotations.clone().unwrap_or_default();
        Some(Referral { subject, descriptor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(media_type: &str, name: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":1}}"#, Digest::of(name.as_bytes()))
    }

    fn manifest(rest: &str) -> Vec<u8> {
        let (config, layer) = (entry("application/x", "config"), entry(media_type::OCI_LAYER, "layer"));
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]{rest}}}"#).into_bytes()
    }

    #[test]
    fn what_a_manifest_refers_to_is_listed() {
        let pushed = check(Some(media_type::OCI_MANIFEST), manifest(""), None).unwrap();
        let blobs: Vec<Digest> = pushed.blobs.iter().map(|blob| blob.digest).collect();
        assert_eq!(blobs, [Digest::of(b"config"), Digest::of(b"layer")]);
        assert!(pushed.manifests.is_empty() && pushed.referral.is_none());
        let foreign = entry(media_type::DOCKER_FOREIGN_LAYER, "far");
        let text = format!(r#"{{"schemaVersion":2,"config":{},"layers":[{foreign}]}}"#, entry("x", "config"));
        assert_eq!(check(Some(media_type::DOCKER_MANIFEST), text.into_bytes(), None).unwrap().blobs.len(), 1);
    }

    #[test]
    fn entries_of_an_index_are_manifests_or_blobs() {
        let (child, other) = (entry(media_type::OCI_MANIFEST, "child"), entry("application/x", "other"));
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{child},{other}]}}"#);
        let pushed =
            check(Some("application/vnd.oci.image.index.v1+json; q=1"), text.into_bytes(), None).unwrap();
        assert_eq!(pushed.manifests[0].digest, Digest::of(b"child"));
        assert_eq!(pushed.blobs[0].digest, Digest::of(b"other"));
    }

    #[test]
    fn a_referrer_is_listed_as_what_it_is() {
        let subject = format!(r#","subject":{}"#, entry(media_type::OCI_MANIFEST, "subject"));
        let of = |rest: &str| {
            let pushed = check(Some(media_type::OCI_MANIFEST), manifest(&format!("{subject}{rest}")), None);
            pushed.unwrap().referral.unwrap()
        };
        assert_eq!(of("").subject, Digest::of(b"subject"));
        assert_eq!(of("").descriptor.artifact_type.as_deref(), Some("application/x"));
        let named = of(r#","artifactType":"a/b","annotations":{"k":"v"}"#).descriptor;
        assert_eq!((named.artifact_type.as_deref(), named.annotations["k"].as_str()), (Some("a/b"), "v"));
    }

    #[test]
    fn hostile_documents_are_refused() {
        let oci = Some(media_type::OCI_MANIFEST);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for bytes in [
            b"".to_vec(),
            b"<html>".to_vec(),
            deep.into_bytes(),
            br#"{"schemaVersion":1,"config":null,"layers":[]}"#.to_vec(),
            br#"{"schemaVersion":2,"layers":[]}"#.to_vec(),
            br#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:../../etc","size":1},"layers":[]}"#.to_vec(),
            br#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"md5:12","size":-1},"layers":[]}"#.to_vec(),
        ] {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            assert!(check(oci, bytes, None).is_err(), "{text}");
        }
        assert!(check(Some("text/html"), manifest(""), None).is_err());
        assert!(check(oci, manifest(""), Some(Digest::of(b"other"))).is_err());
    }
}
