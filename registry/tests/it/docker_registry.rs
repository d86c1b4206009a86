//! The client against Debian's `docker-registry`, with `skopeo` as an independent second client.

use std::io::Read as _;

use base::image::{Descriptor, media_type};
use base::{Digest, Platform, Reference};
use registry::{Archive, BlobPush, BlobSource};
use testkit::{CuttingProxy, DockerRegistry, judges};

use crate::fixture::{assert_says, client, image, noise};

/// A registry with an image that skopeo put there, and the name of the image.
fn registry_with_image() -> Option<(DockerRegistry, judges::Judge, Reference)> {
    let (registry, skopeo) = (DockerRegistry::start()?, judges::skopeo()?);
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("image.tar");
    image("app:v1").write_archive(&archive);
    let name = registry.reference("team/app:v1");
    let from = format!("oci-archive:{}", archive.display());
    skopeo.ok(["copy", "--preserve-digests", "--dest-tls-verify=false", &from, &format!("docker://{name}")]);
    let name = name.parse().unwrap();
    Some((registry, skopeo, name))
}

#[tokio::test]
async fn what_skopeo_pushed_is_pulled() {
    let Some((registry, _skopeo, name)) = registry_with_image() else { return };
    let documents = client().pull_image(&name, &Platform::host()).await.unwrap();
    assert_eq!(documents.root().digest, image("app").digest());
    assert_eq!(client().head(&name).await.unwrap().digest, image("app").digest());
    for layer in &documents.manifest.value.layers {
        let stream = client().blob(&name, layer, None).await.unwrap();
        assert_eq!(stream.read_to_end().await.unwrap().len() as u64, layer.size);
    }
    let missing = registry.reference("team/app:v2").parse().unwrap();
    let error = client().resolve(&missing).await.unwrap_err();
    assert_says(&error, &["manifest v2", "team/app", "MANIFEST_UNKNOWN"]);
}

#[tokio::test]
async fn a_blob_that_was_damaged_in_the_registry_is_refused() {
    let Some((registry, _skopeo, name)) = registry_with_image() else { return };
    let documents = client().pull_image(&name, &Platform::host()).await.unwrap();
    let layer = &documents.manifest.value.layers[0];
    let file = registry.blob_file(&layer.digest);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = client().blob(&name, layer, None).await.unwrap().read_to_end().await.unwrap_err();
    assert_says(&error, &[&format!("cannot read blob {}", layer.digest), "has digest sha256:"]);
}

#[tokio::test]
async fn what_we_push_skopeo_reads() {
    let (Some(registry), Some(skopeo)) = (DockerRegistry::start(), judges::skopeo()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    image("app:v1").write_archive(&path);
    let archive = Archive::open(&path, dir.path()).unwrap();
    let documents = archive.image(&archive.images()[0], &Platform::host()).unwrap();
    let push = async |name: &Reference, mount_from| {
        let manifest = &documents.manifest;
        let mut pushes = Vec::new();
        for blob in manifest.value.layers.iter().chain([&manifest.value.config]) {
            let mut bytes = Vec::new();
            archive.blob(blob).unwrap().read_to_end(&mut bytes).unwrap();
            let source = BlobSource::Bytes(bytes.into());
            pushes.push(client().push_blob(name, blob, &source, mount_from, None).await.unwrap());
        }
        let bytes = manifest.bytes.clone().into();
        client().push_manifest(name, &manifest.descriptor.media_type, bytes).await.unwrap();
        pushes
    };
    let (first, second) = (registry.reference("one:v1"), registry.reference("two:v1"));
    assert_eq!(push(&first.parse().unwrap(), None).await, [BlobPush::Uploaded; 3]);
    assert_eq!(push(&first.parse().unwrap(), None).await, [BlobPush::Existed; 3]);
    assert_eq!(push(&second.parse().unwrap(), Some("one")).await, [BlobPush::Mounted; 3]);
    for name in [first, second] {
        let seen = skopeo.json(["inspect", "--tls-verify=false", &format!("docker://{name}")]);
        assert_eq!(seen["Digest"], image("app").digest().to_string());
    }
}

#[tokio::test]
async fn an_upload_that_breaks_arrives_all_the_same() {
    let Some(registry) = DockerRegistry::start() else { return };
    let proxy = CuttingProxy::start(registry.address(), 1, 5_000_000);
    let bytes = noise(10_000_000);
    let layer = Descriptor::new(media_type::OCI_LAYER, Digest::of(&bytes), bytes.len() as u64);
    let name = proxy.reference("team/app:v1").parse().unwrap();
    let source = BlobSource::Bytes(bytes.clone().into());
    let pushed = client().push_blob(&name, &layer, &source, None, None).await.unwrap();
    assert_eq!((pushed, proxy.cuts_left()), (BlobPush::Uploaded, 0));
    let direct = registry.reference("team/app:v1").parse().unwrap();
    let stored = client().blob(&direct, &layer, None).await.unwrap().read_to_end().await.unwrap();
    assert_eq!(Digest::of(&stored), layer.digest);
}
