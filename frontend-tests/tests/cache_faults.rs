//! Caches that are one document, at servers that fail and lie and with documents that make no sense: the build goes on without them,
//! in bounded time and with one warning.

mod common;

use std::path::Path;

use base::image::media_type::{OCI_INDEX, OCI_MANIFEST};
use base::image::{Descriptor, Index, Manifest};
use common::{build, build_fails, env, steps_run};
use serde_json::{Value, json};
use testkit::registry::Fault;
use testkit::{Context, DockerRegistry, FaultyRegistry, Output, RegistryDoor, TestEnv};

const DOCKERFILE: &str = "FROM busybox\nCOPY one /one\nRUN cat /one > /a\nRUN echo b > /b\n";

/// The steps of [`DOCKERFILE`].
const STEPS: usize = 3;

/// The media type of the document.
const DOCUMENT: &str = "application/vnd.buildkit.cacheconfig.v0";

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.file("one", "1").dockerfile(DOCKERFILE);
    context
}

/// A whole cache, to be put elsewhere.
struct Exported {
    blobs: Vec<Vec<u8>>,
    manifest: Vec<u8>,
    document: Value,
}

impl Exported {
    fn new() -> Self {
        let env = env();
        let layout = env.work().join("layout");
        build(
            &env,
            &context(&env),
            &["--cache-to", &format!("type=local,mode=max,dest={}", layout.display())],
        );
        let read = |name: &str| std::fs::read(layout.join(name)).unwrap();
        let index: Index = serde_json::from_slice(&read("index.json")).unwrap();
        let blob = |blob: &Descriptor| read(&format!("blobs/sha256/{}", blob.digest.hex()));
        let manifest = blob(&index.manifests[0]);
        let parsed: Manifest = serde_json::from_slice(&manifest).unwrap();
        let document = serde_json::from_slice(&blob(&parsed.config)).unwrap();
        let blobs = parsed.layers.iter().chain([&parsed.config]).map(blob).collect();
        Self { blobs, manifest, document }
    }

    /// A registry that has it as `team/app:cache`.
    fn registry(&self) -> FaultyRegistry {
        let registry = FaultyRegistry::start();
        for blob in &self.blobs {
            registry.put_blob("team/app", blob);
        }
        registry.put_manifest("team/app", "cache", OCI_MANIFEST, &self.manifest);
        registry
    }

    /// A registry that has another document instead.
    fn with_document(&self, document: &[u8]) -> FaultyRegistry {
        let registry = self.registry();
        let digest = registry.put_blob("team/app", document);
        let mut manifest: Value = serde_json::from_slice(&self.manifest).unwrap();
        manifest["config"]["digest"] = json!(digest.to_string());
        manifest["config"]["size"] = json!(document.len());
        registry.put_manifest("team/app", "cache", OCI_MANIFEST, manifest.to_string().as_bytes());
        registry
    }
}

/// A new builder with a cache to look at.
fn build_from(from: &str) -> Output {
    let env = env();
    build(&env, &context(&env), &["--cache-from", from])
}

fn from(registry: &FaultyRegistry) -> String {
    format!("type=registry,ref={}", registry.reference("team/app:cache"))
}

/// The same for one that is not waited for long.
fn hurried(registry: &FaultyRegistry) -> String {
    from(registry) + ",timeout=1s"
}

/// Everything was made, and one warning says why.
fn is_unused(output: &Output, what: &str) {
    assert_eq!(steps_run(output).len(), STEPS, "{what}: {output}");
    assert_eq!(output.stderr_text().matches("is not used").count(), 1, "{what}: {output}");
}

#[test]
fn a_registry_that_fails_or_lies_costs_a_warning_and_little_time() {
    let exported = Exported::new();
    let found = build_from(&from(&exported.registry()));
    assert_eq!(steps_run(&found), Vec::<String>::new(), "{found}");
    let (manifest, document) = ("GET /v2/team/app/manifests/", "GET /v2/team/app/blobs/");
    let other = base::Digest::of(b"other");
    let faults = [
        (manifest, Fault::Status(429, Some(3600))),
        (manifest, Fault::Status(500, None)),
        (manifest, Fault::StallBefore),
        (manifest, Fault::StallAfter(10)),
        (manifest, Fault::CloseBefore),
        (manifest, Fault::ClaimLength(5)),
        (manifest, Fault::ClaimDigest(other)),
        (manifest, Fault::ClaimType("text/html")),
        (manifest, Fault::Body(200, OCI_MANIFEST, "[".repeat(1 << 20))),
        (document, Fault::Status(503, None)),
        (document, Fault::StallAfter(10)),
        (document, Fault::ClaimLength(1 << 30)),
        (document, Fault::Damage),
    ];
    // Most of the time is waiting.
    std::thread::scope(|scope| {
        for (part, fault) in &faults {
            let exported = &exported;
            scope.spawn(move || {
                let registry = exported.registry();
                registry.inject(u32::MAX, part, fault.clone());
                is_unused(&build_from(&hurried(&registry)), &format!("{part} {fault:?}"));
            });
        }
    });
    // What passes is not told of.
    let registry = exported.registry();
    for (part, fault) in [
        (manifest, Fault::Status(429, Some(0))),
        (manifest, Fault::CloseBefore),
        (document, Fault::Status(500, None)),
        (document, Fault::CloseAfter(10)),
    ] {
        registry.inject(1, part, fault);
    }
    let found = build_from(&from(&registry));
    assert_eq!(steps_run(&found), Vec::<String>::new(), "{found}");
    assert!(!found.stderr_text().contains("SharedCache"), "{found}");
}

#[test]
fn documents_that_make_no_sense_are_no_cache() {
    let exported = Exported::new();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut document = exported.document.clone();
        change(&mut document);
        document.to_string().into_bytes()
    };
    let records = |document: &mut Value, change: &dyn Fn(&mut Value)| {
        document["records"].as_array_mut().unwrap().iter_mut().for_each(change);
    };
    for (what, told, document) in [
        ("nothing", true, Vec::new()),
        ("deep", true, "[".repeat(1 << 20).into_bytes()),
        ("another kind", true, b"{\"layers\": {}, \"records\": 1}".to_vec()),
        (
            "negative",
            true,
            changed(&|document| records(document, &|record| record["layers"][0]["layer"] = json!(-1))),
        ),
        (
            "of another builder",
            true,
            changed(&|document| records(document, &|record| record["lapstrake"] = json!(null))),
        ),
        (
            "newer",
            true,
            changed(&|document| records(document, &|record| record["lapstrake"]["version"] = json!(99))),
        ),
        (
            "out of range",
            false,
            changed(&|document| {
                records(document, &|record| record["layers"][0]["layer"] = json!(1_u64 << 40))
            }),
        ),
        (
            "a circle",
            false,
            changed(&|document| {
                document["layers"]
                    .as_array_mut()
                    .unwrap()
                    .iter_mut()
                    .for_each(|layer| layer["parent"] = json!(0));
            }),
        ),
    ] {
        let output = build_from(&from(&exported.with_document(&document)));
        assert_eq!(steps_run(&output).len(), STEPS, "{what}: {output}");
        assert_eq!(
            output.stderr_text().matches("is not used").count(),
            usize::from(told),
            "{what}: {output}"
        );
    }
    // A manifest that says that its document is huge, and an index that leads nowhere.
    let registry = exported.registry();
    let mut manifest: Value = serde_json::from_slice(&exported.manifest).unwrap();
    manifest["config"]["size"] = json!(1_u64 << 40);
    registry.put_manifest("team/app", "cache", OCI_MANIFEST, manifest.to_string().as_bytes());
    is_unused(&build_from(&from(&registry)), "huge");
    let entry = json!({"mediaType": DOCUMENT, "digest": base::Digest::of(b"gone").to_string(), "size": 4});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": vec![entry; 1000]});
    registry.put_manifest("team/app", "cache", OCI_INDEX, index.to_string().as_bytes());
    is_unused(&build_from(&from(&registry)), "an index");
}

#[test]
fn blobs_that_do_not_come_are_made_anew() {
    let exported = Exported::new();
    // The document is whole, and its layers are not.
    let (small, layers) = exported.blobs.split_last().unwrap();
    let registry = FaultyRegistry::start();
    registry.put_blob("team/app", small);
    registry.put_manifest("team/app", "cache", OCI_MANIFEST, &exported.manifest);
    let is_made = |what: &str| {
        let env = env();
        let output = build(&env, &context(&env), &["--cache-from", &from(&registry), "-t", "x"]);
        let cat = env.lap(["run", "--rm", "x", "cat", "/a", "/b"]).ok().stdout_text();
        assert_eq!(cat, "1b\n", "{what}: {output}");
        output.stderr_has(&["a result in a shared cache is not whole"]);
    };
    is_made("missing");
    for layer in layers {
        registry.put_blob("team/app", layer);
    }
    for fault in [Fault::Damage, Fault::ClaimLength(3), Fault::Body(200, "text/html", "<html>".to_owned())] {
        for layer in layers {
            let digest = base::Digest::of(layer);
            registry.inject(u32::MAX, &format!("GET /v2/team/app/blobs/{digest}"), fault.clone());
        }
        is_made(&format!("{fault:?}"));
        registry.heal();
    }
}

/// Bytes that no compression makes fewer.
fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// A docker-registry whose disk is nearly full, and what is to be done with it.
fn on_a_small_disk(work: impl FnOnce(&DockerRegistry, &Path) + Send) {
    if testkit::privilege::root().is_none() {
        return;
    }
    testkit::mounted::alone(|| {
        let data = tempfile::tempdir().unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("small"), data.path(), Some("tmpfs"), flags, Some("size=2m")).unwrap();
        let door = RegistryDoor { data: Some(data.path().to_owned()), ..RegistryDoor::default() };
        if let Some(registry) = DockerRegistry::start_with(&door) {
            work(&registry, data.path());
        }
        nix::mount::umount2(data.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    });
}

#[test]
fn a_full_disk_at_the_server_is_told_and_leaves_nothing_half_done() {
    on_a_small_disk(|registry, data| {
        let ballast = data.join("ballast");
        std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
        let env = env();
        let context = context(&env);
        context.file("one", noise(4 << 20)).dockerfile("FROM scratch\nCOPY one /one\n");
        let to = format!("type=registry,mode=max,ref={}", registry.reference("team/app:cache"));
        let failed = build_fails(&env, &context, &["--cache-to", &to, "-t", "x"]);
        failed.stderr_has(&["cannot export the cache to", "ignore-error=true"]);
        let ignored = format!("{to},ignore-error=true");
        let output = build(&env, &context, &["--cache-to", &ignored, "-t", "x"]);
        assert_eq!(output.stderr_text().matches("the cache was not exported to").count(), 1, "{output}");
        let name = registry.reference("team/app:1");
        env.lap(["tag", "x", &name]).ok();
        let failed = env.lap(["push", &name]).fails(1);
        failed.stderr_has(&["cannot push"]);
        // With room again the same goes well.
        std::fs::remove_file(&ballast).unwrap();
        context.file("one", "small");
        build(&env, &context, &["--cache-to", &to, "-t", &name]);
        env.lap(["push", &name]).ok();
    });
}
