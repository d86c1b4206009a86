//! A build that only pushes, and finds everything in a shared cache: what travels to the registry, and what does not come here.

mod common;

use std::path::Path;

use common::{build, files_below, image_id, names_in, steps_run};
use serde_json::Value;
use testkit::{Context, DockerRegistry, FaultyRegistry, TestEnv};

/// How large the file is that a step writes, in bytes. It cannot be compressed.
const BIG: usize = 300_000;

/// More than a config and less than the layers, in bytes.
const SMALL: usize = 20_000;

/// Registries with a base image in one of them, which is named in the Dockerfile.
struct World {
    registry: FaultyRegistry,
    dockerfile: String,
}

impl World {
    fn new() -> Self {
        let registry = FaultyRegistry::start();
        registry.put_image("base", "1", &testkit::images::busybox());
        let dockerfile = format!(
            "FROM {}\nCOPY big /big\nRUN cat /big > /copy && echo made > /made\nENV DONE=yes\n",
            registry.reference("base:1")
        );
        Self { registry, dockerfile }
    }

    fn context(&self, env: &TestEnv) -> Context {
        let noise =
            (0..BIG as u32 / 4).flat_map(|i| i.wrapping_mul(2_654_435_761).rotate_left(i % 31).to_le_bytes());
        let context = env.context();
        context.file("big", noise.collect::<Vec<u8>>()).dockerfile(&self.dockerfile);
        context
    }

    /// Builds from nothing and fills a cache; gives the image's id.
    fn fill(&self, cache_to: &str) -> String {
        let env = TestEnv::new();
        build(&env, &self.context(&env), &["--cache-to", cache_to, "-t", "x"]);
        image_id(&env, "x")
    }

    /// A new builder pushes what it finds in a cache: everything.
    fn push(&self, env: &TestEnv, cache_from: &str, flags: &[&str], name: &str) {
        let args = [&["--cache-from", cache_from, "--push", "-t", name], flags].concat();
        let found = build(env, &self.context(env), &args);
        assert_eq!(steps_run(&found), Vec::<String>::new(), "{found}");
    }

    /// The image of a name that was pushed here.
    fn manifest(&self, repository: &str, tag: &str) -> Value {
        manifest(&self.registry, repository, tag)
    }
}

fn manifest(registry: &FaultyRegistry, repository: &str, tag: &str) -> Value {
    let digest = registry.tagged(repository, tag).expect("the name was pushed");
    serde_json::from_slice(&registry.stored(repository, &digest).unwrap()).unwrap()
}

fn layers(manifest: &Value) -> Vec<&str> {
    manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap()).collect()
}

/// The layers that were downloaded in some requests.
fn downloaded<'a>(requests: &[String], manifest: &'a Value) -> Vec<&'a str> {
    let is_wanted = |digest: &&str| {
        requests.iter().any(|line| line.starts_with("GET ") && line.contains(&format!("/blobs/{digest}")))
    };
    layers(manifest).into_iter().filter(is_wanted).collect()
}

/// The requests that a registry saw after the first `count`.
fn requests_after(registry: &FaultyRegistry, count: usize) -> Vec<String> {
    registry.seen("").split_off(count).into_iter().map(|seen| seen.line).collect()
}

/// How many bytes were sent to a registry.
fn sent(registry: &FaultyRegistry) -> usize {
    registry.seen("/blobs/uploads/").iter().map(|seen| seen.body_length).sum()
}

/// Nothing was unpacked, and `lap` finds nothing wrong.
fn nothing_is_unpacked(env: &TestEnv) {
    assert_eq!(names_in(&env.root().join("snapshots-v1")), Vec::<String>::new());
    env.lap(["store", "check"]).ok();
}

/// The layers are taken from the cache's repository, and nothing comes or goes but documents.
fn only_documents_travel(cache: &str, mode: &str) {
    let world = World::new();
    let cache = cache.replace("REGISTRY", world.registry.address());
    let id = world.fill(&format!("{cache}{mode}"));
    let (env, before, seen) = (TestEnv::new(), sent(&world.registry), world.registry.seen("").len());
    world.push(&env, &cache, &[], &world.registry.reference("app:1"));
    let pushed = world.manifest("app", "1");
    assert_eq!(pushed["config"]["digest"], id, "the image is the one that was built");
    assert_eq!(layers(&pushed).len(), 3);
    let since = requests_after(&world.registry, seen);
    assert_eq!(downloaded(&since, &pushed).len(), 0, "{since:?}");
    assert_eq!(since.iter().filter(|line| line.contains("mount=")).count(), 3, "{since:?}");
    assert!(sent(&world.registry) - before < SMALL, "{since:?}");
    nothing_is_unpacked(&env);
    // Once more, and nothing is sent at all.
    let (before, seen) = (sent(&world.registry), world.registry.seen("").len());
    world.push(&env, &cache, &[], &world.registry.reference("app:1"));
    assert_eq!(sent(&world.registry), before);
    let since = requests_after(&world.registry, seen);
    assert!(!since.iter().any(|line| line.contains("/v2/app/blobs/")), "{since:?}");
    // Whoever needs the files gets them.
    let name = world.registry.reference("app:1");
    env.lap(["run", "--rm", &name, "cat", "/made"]).ok().stdout_has(&["made"]);
}

#[test]
fn only_documents_travel_beside_records() {
    only_documents_travel("type=records,ref=REGISTRY/team/cache", "");
}

#[test]
fn only_documents_travel_beside_a_document() {
    only_documents_travel("type=registry,ref=REGISTRY/team/cache:main", ",mode=max");
}

#[test]
fn layers_that_the_repository_has_are_not_even_mounted() {
    let world = World::new();
    let cache = format!("type=records,ref={}", world.registry.reference("app"));
    world.fill(&cache);
    let (env, seen) = (TestEnv::new(), world.registry.seen("").len());
    world.push(&env, &cache, &[], &world.registry.reference("app:1"));
    let since = requests_after(&world.registry, seen);
    assert_eq!(downloaded(&since, &world.manifest("app", "1")).len(), 0, "{since:?}");
    assert!(!since.iter().any(|line| line.contains("mount=")), "{since:?}");
    nothing_is_unpacked(&env);
}

#[test]
fn another_registry_gets_the_layers_and_they_are_not_unpacked() {
    let (world, target) = (World::new(), FaultyRegistry::start());
    let cache = format!("type=records,ref={}", world.registry.reference("team/cache"));
    let id = world.fill(&cache);
    let (env, seen) = (TestEnv::new(), world.registry.seen("").len());
    world.push(&env, &cache, &[], &target.reference("app:1"));
    let pushed = manifest(&target, "app", "1");
    assert_eq!(pushed["config"]["digest"], id);
    assert_eq!(downloaded(&requests_after(&world.registry, seen), &pushed).len(), 3);
    let size: u64 =
        pushed["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
    let sent = sent(&target) as u64;
    assert!((size..size + SMALL as u64).contains(&sent), "{sent} bytes were sent of {size}");
    nothing_is_unpacked(&env);
}

#[test]
fn a_directory_is_pushed_from_to_a_real_registry() {
    let Some(target) = DockerRegistry::start() else { return };
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    let path = directory.path().display();
    let id = world.fill(&format!("type=records,dest={path}"));
    let (env, from) = (TestEnv::new(), format!("type=records,src={path}"));
    let name = target.reference("app:1");
    world.push(&env, &from, &["-o", "type=image,oci-mediatypes=false"], &name);
    nothing_is_unpacked(&env);
    let other = TestEnv::new();
    other.lap(["run", "--rm", &name, "cat", "/made"]).ok().stdout_has(&["made"]);
    assert_ne!(image_id(&other, &name), "");
    assert_eq!(image_id(&other, &name), id);
}

/// Removes the blobs of the two steps from a directory. The base image's, which is larger, can be had elsewhere.
fn lose_blobs(directory: &Path) {
    for file in files_below(&directory.join("blobs")) {
        if (BIG as u64..2 * BIG as u64).contains(&file.metadata().unwrap().len()) {
            std::fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn a_layer_that_is_gone_is_made_again() {
    let (world, directory) = (World::new(), tempfile::tempdir().unwrap());
    let path = directory.path().display();
    let id = world.fill(&format!("type=records,dest={path}"));
    lose_blobs(directory.path());
    let (env, from) = (TestEnv::new(), format!("type=records,src={path}"));
    let name = world.registry.reference("app:1");
    let made = build(&env, &world.context(&env), &["--cache-from", &from, "--push", "-t", &name]);
    made.stderr_has(&["does not have it any more"]);
    let layers = layers(&world.manifest("app", "1")).len();
    assert_eq!(layers, 3);
    assert_ne!(world.manifest("app", "1")["config"]["digest"], id, "its layers have other times");
    env.lap(["run", "--rm", &name, "cat", "/made"]).ok().stdout_has(&["made"]);
}

#[test]
fn layers_in_another_compression_are_made_here() {
    let world = World::new();
    let cache = format!("type=records,ref={}", world.registry.reference("team/cache"));
    let id = world.fill(&cache);
    let env = TestEnv::new();
    let output = "type=image,compression=gzip,force-compression=true";
    world.push(&env, &cache, &["-o", output], &world.registry.reference("app:1"));
    let pushed = world.manifest("app", "1");
    assert_eq!(pushed["config"]["digest"], id);
    let kinds: Vec<&str> = pushed["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["mediaType"].as_str().unwrap())
        .collect();
    assert!(kinds.iter().all(|kind| kind.ends_with("+gzip")), "{kinds:?}");
}

#[test]
fn a_document_that_is_written_anew_loses_nothing() {
    let world = World::new();
    let of =
        |tag: &str| format!("type=registry,ref={}", world.registry.reference(&format!("team/cache:{tag}")));
    let id = world.fill(&format!("{},mode=max", of("main")));
    let name = world.registry.reference("app:1");
    for (mode, found) in [("max", "copied"), ("min", "smaller")] {
        let env = TestEnv::new();
        let to = format!("{},mode={mode}", of(found));
        world.push(&env, &of("main"), &["--cache-to", &to], &name);
        nothing_is_unpacked(&env);
        let reader = TestEnv::new();
        world.push(&reader, &of(found), &[], &name);
        assert_eq!(world.manifest("app", "1")["config"]["digest"], id, "{mode}");
    }
    // What is in the image itself stays in there as well.
    let env = TestEnv::new();
    world.push(&env, &of("main"), &["--cache-to", "type=inline"], &name);
    world.push(
        &TestEnv::new(),
        &format!("type=registry,ref={name}"),
        &[],
        &world.registry.reference("app:2"),
    );
}
