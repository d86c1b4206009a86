//! What is told of an image besides the image: statements of in-toto, in a manifest of their own beside the image's in an index,
//! or in files beside what a directory or an archive has.
//!
//! Source: BuildKit, `docs/attestations/attestation-storage.md`; in-toto, "Statement v0.1".

mod packages;
mod provenance;
mod sbom;
mod scanned;
mod scanner;

use std::collections::BTreeMap;
use std::sync::Arc;

use base::image::{Descriptor, Manifest, media_type};
use base::{Digest, Platform, Reference};
use frontend::LoweredImage;
use serde_json::{Value, json};

use crate::assemble::{Assembly, BuiltImage, document};
use crate::error::EngineError;
use crate::ops::StepResult;
use crate::request::{Output, ProvenanceMode, ProvenanceOptions};
use crate::session::Provenance;

pub(crate) use self::scanned::Scanned;

/// What a statement is, in a manifest.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// What the entry of statements in an index names the image by that they are about.
pub(crate) const SUBJECT: &str = "vnd.docker.reference.digest";

/// What manifests of statements are that are no images of nothing.
const ARTIFACT: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// The config of what is no image.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// What manifests of statements are on: nothing.
const NOWHERE: &str = "unknown";

/// Something that is told of an image, which is not named yet.
#[derive(Debug, Clone)]
pub(crate) struct Predicate {
    /// What kind it is, as a URL.
    kind: &'static str,
    /// The name of its file.
    file: String,
    /// Whether nothing is done for its sake alone.
    inline_only: bool,
    content: Arc<Value>,
    /// What it is about, if it says so itself.
    subjects: Option<Value>,
}

/// What is told of the images of one target, one after the other.
pub(crate) type Predicates = Vec<Vec<Predicate>>;

/// Gathers what is asked for. Root filesystems that are looked into are brought here.
pub(crate) fn gather(assembly: &Assembly<'_>) -> Result<Predicates, EngineError> {
    let asked = &assembly.request.attestations;
    let one = |(index, (lowered, root)): (usize, (&_, &Option<StepResult>))| {
        let mut all = Vec::new();
        let extras = assembly.prepared.scanned.of(assembly.first + index);
        match &asked.scanner {
            Some(scanner) if asked.sbom => {
                all.extend(scanner::predicates(assembly, lowered, *root, scanner, &extras)?);
            }
            _ if asked.sbom => all.extend(sbom::predicates(assembly, lowered, *root, &extras)?),
            _ => {}
        }
        if let Some(options) = &asked.provenance {
            all.push(provenance::predicate(assembly, lowered, options));
        }
        Ok(all)
    };
    assembly.lowered.iter().zip(assembly.roots).enumerate().map(one).collect()
}

/// Where the images came from, in full and whatever was asked for: for the record of the build.
pub(crate) fn of_record(assembly: &Assembly<'_>) -> Vec<Provenance> {
    let options = assembly.request.attestations.provenance.clone().unwrap_or_default();
    let options = ProvenanceOptions { mode: ProvenanceMode::Max, ..options };
    let one = |lowered: &LoweredImage| {
        let Predicate { kind, content, .. } = provenance::predicate(assembly, lowered, &options);
        Provenance { platform: lowered.platform.clone(), kind, document: format!("{content:#}").into_bytes() }
    };
    assembly.lowered.iter().map(one).collect()
}

/// Those that go along to an output: all of them if there is an index anyway, or for the sake of one.
pub(crate) fn of_output<'a>(
    all: &'a [Vec<Predicate>],
    output: &Output,
    is_index: bool,
) -> Option<&'a [Vec<Predicate>]> {
    let has_any = |only_wanted: bool| all.iter().flatten().any(|one| !(only_wanted && one.inline_only));
    let goes_along = match output {
        // What Docker loads is one image.
        Output::Docker(..) | Output::Tar(..) | Output::Local(..) | Output::CacheOnly => false,
        Output::Store(_) | Output::Registry(_) => has_any(false),
        Output::Oci(..) | Output::OciLayout(..) => has_any(!is_index),
    };
    goes_along.then_some(all)
}

/// Writes the manifests of what is told of these images. Gives each with what leads to it in an index.
pub(crate) fn manifests(
    assembly: &Assembly<'_>,
    images: &[BuiltImage],
    predicates: &[Vec<Predicate>],
    as_artifacts: bool,
) -> Result<Vec<(Descriptor, Manifest)>, EngineError> {
    let told = images.iter().zip(predicates).filter(|(_, predicates)| !predicates.is_empty());
    told.map(|(image, predicates)| manifest(assembly, image, predicates, as_artifacts)).collect()
}

fn manifest(
    assembly: &Assembly<'_>,
    image: &BuiltImage,
    predicates: &[Predicate],
    as_artifact: bool,
) -> Result<(Descriptor, Manifest), EngineError> {
    let (engine, lease) = (assembly.engine, assembly.lease);
    let subjects = subjects(&assembly.request.tags, image);
    let mut layers = Vec::new();
    for predicate in predicates {
        let statement = statement(predicate, predicate.subjects.as_ref().unwrap_or(&subjects));
        let mut layer = document(engine, lease, STATEMENT, &statement)?;
        layer.annotations.insert("in-toto.io/predicate-type".to_owned(), predicate.kind.to_owned());
        layers.push(layer);
    }
    let image_config = json!({
        "architecture": NOWHERE,
        "os": NOWHERE,
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| layer.digest).collect::<Vec<_>>() },
    });
    let config = match as_artifact {
        true => document(engine, lease, EMPTY, &json!({}))?,
        false => document(engine, lease, media_type::OCI_CONFIG, &image_config)?,
    };
    let subject = Descriptor { annotations: BTreeMap::new(), ..image.descriptor.clone() };
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        artifact_type: as_artifact.then(|| ARTIFACT.to_owned()),
        subject: as_artifact.then_some(subject),
        config,
        layers,
        annotations: BTreeMap::new(),
    };
    let mut descriptor = document(engine, lease, media_type::OCI_MANIFEST, &manifest)?;
    descriptor.artifact_type = as_artifact.then(|| ARTIFACT.to_owned());
    descriptor.platform = Some(Platform::new(NOWHERE, NOWHERE, ""));
    descriptor.annotations = BTreeMap::from([
        (SUBJECT.to_owned(), image.descriptor.digest.to_string()),
        ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
    ]);
    Ok((descriptor, manifest))
}

/// The files beside the directory of an image: names and what is in them.
pub(crate) fn files(predicates: &[Predicate]) -> Vec<(String, Vec<u8>)> {
    let none = Value::Array(Vec::new());
    let wanted = predicates.iter().filter(|predicate| !predicate.inline_only);
    wanted
        .map(|predicate| {
            let text = format!("{:#}\n", statement(predicate, predicate.subjects.as_ref().unwrap_or(&none)));
            (predicate.file.clone(), text.into_bytes())
        })
        .collect()
}

fn statement(predicate: &Predicate, subjects: &Value) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": predicate.kind,
        "subject": subjects,
        "predicate": *predicate.content,
    })
}

/// What statements are about: the image under each of its names.
fn subjects(names: &[Reference], image: &BuiltImage) -> Value {
    let digest = digest_set(&image.descriptor.digest);
    let subject = |name: String| json!({ "name": name, "digest": digest });
    let mut all: Vec<Value> = names.iter().map(|name| subject(package_url(name, &image.platform))).collect();
    if all.is_empty() {
        all.push(subject("_".to_owned()));
    }
    Value::Array(all)
}

fn digest_set(digest: &Digest) -> Value {
    json!({ "sha256": digest.hex() })
}

/// An image as a package: `pkg:docker/alpine@3.20?platform=linux%2Famd64`.
fn package_url(name: &Reference, platform: &Platform) -> String {
    let version = name.tag.as_ref().map(|tag| format!("@{}", escaped(tag, false))).unwrap_or_default();
    let digest = name.digest.filter(|_| name.tag.is_none());
    let digest = digest.map(|digest| format!("digest={}&", escaped(&digest.to_string(), false)));
    let platform = escaped(&platform.to_string(), false);
    format!(
        "pkg:docker/{}{version}?{}platform={platform}",
        escaped(&name.familiar_repository(), true),
        digest.unwrap_or_default()
    )
}

/// A text as a part of a package URL.
fn escaped(text: &str, keep_slashes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_plain =
            byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slashes && byte == b'/');
        if is_plain {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_packages() {
        let url = |name: &str| package_url(&name.parse().unwrap(), &Platform::new("linux", "amd64", ""));
        assert_eq!(url("busybox"), "pkg:docker/busybox@latest?platform=linux%2Famd64");
        assert_eq!(url("localhost:5000/a/b:1"), "pkg:docker/localhost%3A5000/a/b@1?platform=linux%2Famd64");
        let digest = Digest::of(b"x");
        let pinned = url(&format!("busybox@{digest}"));
        assert!(pinned.starts_with("pkg:docker/busybox?digest=sha256%3A"), "{pinned}");
    }
}
