//! Reading names: what comes back, and what is said when it does not.

use base::image::{Descriptor, media_type};
use base::{Digest, Faulty as _, Platform};
use registry::{ConnectFailure, DocumentError, Error, ErrorKind};
use serde_json::json;
use testkit::FaultyRegistry;
use testkit::oci::write_multi_platform_archive;
use testkit::registry::Fault;

use crate::fixture::{assert_says, client, image, impatient, put_index, reference, registry_with_image};

/// The error of resolving `app:latest` while `fault` lasts.
async fn resolve_error(fault: Fault) -> Error {
    let (registry, name) = registry_with_image();
    registry.inject(u32::MAX, "/v2/", fault);
    client().resolve(&name).await.unwrap_err()
}

#[tokio::test]
async fn tags_and_digests_lead_to_the_same_manifest() {
    let (_registry, name) = registry_with_image();
    let by_tag = client().resolve(&name).await.unwrap();
    assert_eq!(
        (by_tag.digest, by_tag.media_type.as_str()),
        (image("app").digest(), media_type::OCI_MANIFEST)
    );
    assert_eq!(Digest::of(&by_tag.bytes), by_tag.digest);
    let by_digest = client().resolve(&name.with_digest(by_tag.digest)).await.unwrap();
    assert_eq!(by_digest, by_tag);
    assert_eq!(client().head(&name).await.unwrap(), by_tag.descriptor());
}

#[tokio::test]
async fn head_reads_the_document_when_the_registry_names_no_digest() {
    let (registry, name) = registry_with_image();
    registry.inject(1, "HEAD", Fault::DropHeader("Docker-Content-Digest"));
    assert_eq!(client().head(&name).await.unwrap().digest, image("app").digest());
    assert_eq!(registry.seen("GET /v2/app/manifests").len(), 1);
}

#[tokio::test]
async fn an_image_comes_with_its_config() {
    let (_registry, name) = registry_with_image();
    let documents = client().pull_image(&name, &Platform::host()).await.unwrap();
    assert_eq!(documents.index, None);
    assert_eq!(documents.root().digest, image("app").digest());
    assert_eq!(documents.config.descriptor.digest, image("app").id());
    assert_eq!(documents.config.value.rootfs.diff_ids.len(), documents.manifest.value.layers.len());
}

/// A registry with an image for two platforms as `app:latest`.
fn multi_platform() -> (FaultyRegistry, [Platform; 2]) {
    let platforms = ["linux/amd64", "linux/arm64"].map(|text| text.parse::<Platform>().unwrap());
    let images = platforms.each_ref().map(|platform| image("app").platform(platform));
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive.tar");
    write_multi_platform_archive(&archive, "app", &images);
    let registry = FaultyRegistry::start();
    registry.put_archive("app", "latest", &std::fs::read(&archive).unwrap());
    (registry, platforms)
}

#[tokio::test]
async fn an_index_leads_to_the_manifest_of_the_platform() {
    let (registry, platforms) = multi_platform();
    let name = reference(&registry, "app");
    for platform in platforms {
        let documents = client().pull_image(&name, &platform).await.unwrap();
        assert_eq!(documents.config.value.platform(), platform);
        assert_eq!(documents.root().media_type, media_type::OCI_INDEX);
    }
}

#[tokio::test]
async fn a_platform_that_is_not_there_is_answered_with_those_that_are() {
    let (registry, _) = multi_platform();
    let name = reference(&registry, "app");
    let error = client().pull_image(&name, &"linux/s390x".parse().unwrap()).await.unwrap_err();
    assert_says(&error, &[&registry.reference("app"), "linux/s390x", "it has linux/amd64, linux/arm64"]);
    assert_eq!(error.fault(), base::Fault::Input);
}

#[tokio::test]
async fn names_that_do_not_exist_are_named() {
    let (registry, _) = registry_with_image();
    let error = client().resolve(&reference(&registry, "app:nope")).await.unwrap_err();
    assert!(error.is_not_found());
    assert_says(
        &error,
        &["manifest nope", "MANIFEST_UNKNOWN (manifest unknown)", "check the name and the tag"],
    );
    assert_eq!((error.registry(), error.repository()), (registry.address(), "app"));
    let error = client().resolve(&reference(&registry, "nothing")).await.unwrap_err();
    assert_says(&error, &[&registry.reference("nothing"), "NAME_UNKNOWN"]);
}

#[tokio::test]
async fn nobody_listening_is_said_at_once() {
    let address = FaultyRegistry::refused_address();
    let error = client().resolve(&format!("{address}/app").parse().unwrap()).await.unwrap_err();
    assert_says(&error, &[&format!("{address}: connection refused (is a registry listening there?)")]);
    assert!(matches!(error.kind(), ErrorKind::Connect { failure: ConnectFailure::Refused, .. }));
    assert_eq!(error.fault(), base::Fault::Environment);
}

#[tokio::test]
async fn a_host_without_an_address_is_named() {
    let error = client().resolve(&"registry.invalid/app".parse().unwrap()).await.unwrap_err();
    assert_says(&error, &["registry.invalid", "does not resolve"]);
}

#[tokio::test]
async fn web_pages_are_recognised() {
    let page =
        |status| Fault::Body(status, "text/html; charset=utf-8", "<html>\u{1b}[2J<title>Login".to_owned());
    for status in [200, 404] {
        let error = resolve_error(page(status)).await;
        assert_says(&error, &["text/html instead of a registry's answer", "<html> [2J<title>Login"]);
        assert!(matches!(error.kind(), ErrorKind::NotARegistry { .. }));
    }
}

#[tokio::test]
async fn a_damaged_manifest_is_refused() {
    let (registry, name) = registry_with_image();
    registry.inject(u32::MAX, "manifests", Fault::Damage);
    let by_tag = client().resolve(&name).await.unwrap_err();
    assert_says(&by_tag, &["announces digest sha256:", "but the content has digest sha256:"]);
    let digest = image("app").digest();
    let by_digest = client().resolve(&name.with_digest(digest)).await.unwrap_err();
    assert_says(&by_digest, &[&format!("instead of {digest}")]);
}

#[tokio::test]
async fn an_announced_digest_that_is_wrong_is_refused() {
    let error = resolve_error(Fault::ClaimDigest(Digest::of(b"other"))).await;
    assert!(
        matches!(error.kind(), ErrorKind::AnnouncedDigest { actual, .. } if *actual == image("app").digest())
    );
}

#[tokio::test]
async fn failures_that_pass_are_waited_out() {
    let (registry, name) = registry_with_image();
    registry.inject(1, "manifests", Fault::Status(429, Some(0)));
    registry.inject(1, "manifests", Fault::Status(503, None));
    client().resolve(&name).await.unwrap();
    assert_eq!(registry.seen("manifests").len(), 3);
    registry.inject(1, "manifests", Fault::Status(500, None));
    registry.inject(1, "manifests", Fault::CloseBefore);
    client().resolve(&name).await.unwrap();
    assert_eq!(registry.seen("manifests").len(), 6);
}

#[tokio::test]
async fn failures_that_last_end_after_a_few_tries() {
    let error = resolve_error(Fault::Status(503, None)).await;
    assert_says(&error, &["answered 503", "UNAVAILABLE (injected fault)", "tried 3 times"]);
    let error = resolve_error(Fault::Status(429, None)).await;
    assert_says(&error, &["too many requests", "tried 3 times"]);
    let error = resolve_error(Fault::CloseBefore).await;
    assert_says(&error, &["closed the connection before it answered", "tried 3 times"]);
}

#[tokio::test]
async fn silence_is_not_waited_for_forever() {
    let (registry, name) = registry_with_image();
    registry.inject(u32::MAX, "manifests", Fault::StallBefore);
    let error = impatient().resolve(&name).await.unwrap_err();
    assert_says(&error, &[&format!("{} sent nothing for 2 s", registry.address()), "tried 3 times"]);
    testkit::wait::until("the third request has arrived", || registry.seen("manifests").len() == 3);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_reported_instead() {
    let (registry, name) = registry_with_image();
    registry.inject(u32::MAX, "manifests", Fault::Status(429, Some(3600)));
    let error = client().resolve(&name).await.unwrap_err();
    assert_says(&error, &["too many requests", "it asks to wait 3600 s"]);
    assert_eq!(registry.seen("manifests").len(), 1);
}

#[tokio::test]
async fn other_refusals_are_not_repeated() {
    let (registry, name) = registry_with_image();
    registry.inject(1, "manifests", Fault::Status(403, None));
    let error = client().resolve(&name).await.unwrap_err();
    assert_says(&error, &["access denied: UNAVAILABLE", "may lack the right"]);
    registry.inject(1, "manifests", Fault::Status(418, None));
    assert_says(client().resolve(&name).await.unwrap_err(), &["answered 418"]);
    assert_eq!(registry.seen("manifests").len(), 2);
}

#[tokio::test]
async fn documents_of_other_kinds_are_refused_by_kind() {
    let error = resolve_error(Fault::ClaimType(media_type::OCI_INDEX)).await;
    assert!(matches!(error.kind(), ErrorKind::Document(DocumentError::MediaTypeConflict { .. })), "{error}");
    let schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let error = resolve_error(Fault::Body(200, schema_1, r#"{"schemaVersion":1}"#.to_owned())).await;
    assert_says(&error, &[schema_1, "not an image manifest or index that is understood"]);
    let error = resolve_error(Fault::Body(200, media_type::OCI_MANIFEST, "{".to_owned())).await;
    assert_says(&error, &["is not a valid document"]);
}

#[tokio::test]
async fn a_manifest_that_is_too_large_is_not_read() {
    let error = resolve_error(Fault::Body(200, media_type::OCI_MANIFEST, " ".repeat(5 << 20))).await;
    assert_says(&error, &["larger than the limit of 4194304 bytes"]);
}

#[tokio::test]
async fn nested_indexes_are_followed_and_endless_ones_are_not() {
    let (registry, name) = registry_with_image();
    let size = client().resolve(&name).await.unwrap().size;
    let leaf = json!({"mediaType": media_type::OCI_MANIFEST, "digest": image("app").digest(), "size": size});
    let mut entry = leaf;
    for depth in 1..=6 {
        let tag = format!("depth-{depth}");
        let (digest, size) = put_index(&registry, &tag, &[entry]);
        entry = json!({"mediaType": media_type::OCI_INDEX, "digest": digest, "size": size});
        let pulled =
            client().pull_image(&reference(&registry, &format!("app:{tag}")), &Platform::host()).await;
        match pulled {
            Ok(documents) => assert!(depth <= 4 && documents.root().digest == digest, "depth {depth}"),
            Err(error) => {
                assert!(depth > 4 && error.to_string().contains("nested more than 4 deep"), "{error}")
            }
        }
    }
}

#[tokio::test]
async fn an_index_that_lies_about_its_entries_is_refused() {
    let (registry, _) = registry_with_image();
    let entry =
        |kind: &str, size: u64| json!({"mediaType": kind, "digest": image("app").digest(), "size": size});
    put_index(&registry, "size", &[entry(media_type::OCI_MANIFEST, 7)]);
    let error = client().pull_image(&reference(&registry, "app:size"), &Platform::host()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SizeMismatch { expected: 7, .. }), "{error}");
    let size = client().resolve(&reference(&registry, "app")).await.unwrap().size;
    put_index(&registry, "kind", &[entry(media_type::DOCKER_MANIFEST, size)]);
    let error = client().pull_image(&reference(&registry, "app:kind"), &Platform::host()).await.unwrap_err();
    assert_says(&error, &["announced as application/vnd.docker.distribution.manifest.v2+json"]);
}

/// Stores a manifest with this config type and layers over an empty config.
fn put_manifest(registry: &FaultyRegistry, config_type: &str, layers: serde_json::Value) {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let digest = registry.put_blob("app", config);
    let config = json!({"mediaType": config_type, "digest": digest, "size": config.len()});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
    registry.put_manifest("app", "odd", media_type::OCI_MANIFEST, manifest.as_bytes());
}

#[tokio::test]
async fn what_is_not_a_container_image_is_refused() {
    let registry = FaultyRegistry::start();
    let name = reference(&registry, "app:odd");
    put_manifest(&registry, "application/vnd.cncf.helm.config.v1+json", json!([]));
    let error = client().pull_image(&name, &Platform::host()).await.unwrap_err();
    assert_says(&error, &["not a container image", "helm"]);
    let layer = json!({"mediaType": media_type::OCI_LAYER, "digest": Digest::of(b""), "size": 0});
    put_manifest(&registry, media_type::OCI_CONFIG, json!([layer]));
    let error = client().pull_image(&name, &Platform::host()).await.unwrap_err();
    assert_says(&error, &["has 1 layers, but its config lists 0"]);
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_refused() {
    let (registry, name) = registry_with_image();
    registry.inject(6, "manifests", Fault::RedirectTo(format!("http://{}", registry.address())));
    assert_says(client().resolve(&name).await.unwrap_err(), &["too many redirects"]);
    registry.inject(1, "manifests", Fault::RedirectTo("ftp://elsewhere".to_owned()));
    assert_says(client().resolve(&name).await.unwrap_err(), &["ftp://elsewhere", "neither http nor https"]);
}

#[tokio::test]
async fn images_are_pulled_by_several_tasks_at_once() {
    let (_registry, name) = registry_with_image();
    let client = client();
    let documents = client.pull_image(&name, &Platform::host()).await.unwrap();
    let fetch = |layer: &Descriptor| {
        let (client, name, layer) = (client.clone(), name.clone(), layer.clone());
        tokio::spawn(async move { client.blob(&name, &layer, None).await?.read_to_end().await })
    };
    let tasks: Vec<_> = documents.manifest.value.layers.iter().map(fetch).collect();
    for (task, layer) in tasks.into_iter().zip(&documents.manifest.value.layers) {
        assert_eq!(Digest::of(&task.await.unwrap().unwrap()), layer.digest);
    }
    let resolve = tokio::spawn(async move { client.pull_image(&name, &Platform::host()).await });
    assert_eq!(resolve.await.unwrap().unwrap(), documents);
}
