//! `lap push` and `lap build --push`: what arrives, what need not travel, and what is said of it.

mod common;

use common::{build, build_fails, env, image_id};
use serde_json::Value;
use testkit::judges::{self, Judge};
use testkit::registry::{Fault, Login};
use testkit::{Context, DockerRegistry, FaultyRegistry, Image, Layer, LayerTar, TestEnv};

const DOCKERFILE: &str = "FROM busybox\nCOPY f /f\nRUN echo made > /made\n";

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.file("f", "a line that is repeated\n".repeat(2000)).dockerfile(DOCKERFILE);
    context
}

/// The manifest or index that a registry has under a name.
fn raw(skopeo: &Judge, name: &str) -> Value {
    skopeo.json(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
}

fn config(skopeo: &Judge, name: &str) -> Value {
    skopeo.json(["inspect", "--config", "--tls-verify=false", &format!("docker://{name}")])
}

fn layer_types(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().expect("a manifest has layers");
    layers.iter().map(|layer| layer["mediaType"].as_str().unwrap_or_default()).collect()
}

/// The requests that a registry saw while `work` ran, as `METHOD kind`.
fn requests(registry: &FaultyRegistry, work: impl FnOnce()) -> Vec<String> {
    let before = registry.seen("").len();
    work();
    let kind = |line: &str| {
        let method = line.split(' ').next().unwrap_or_default().to_owned();
        let kinds = ["/blobs/uploads/", "/blobs/", "/manifests/sha256:", "/manifests/", "/token"];
        let kind = kinds.into_iter().find(|kind| line.contains(kind)).unwrap_or(line);
        format!("{method} {}", kind.trim_matches('/'))
    };
    registry.seen("")[before..].iter().map(|seen| kind(&seen.line)).collect()
}

#[test]
fn an_image_arrives_compressed_and_is_the_same_image() {
    let (Some(registry), Some(skopeo)) = (DockerRegistry::start(), judges::skopeo()) else { return };
    let env = env();
    let name = registry.reference("team/app:1");
    build(&env, &context(&env), &["-t", &name]);
    let id = image_id(&env, &name);
    let pushed = env.lap(["push", &name]).ok();
    let digest = skopeo.json(["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    let digest = digest["Digest"].as_str().unwrap().to_owned();
    let repository = name.trim_end_matches(":1");
    pushed.stdout_has(&[
        &format!("The push refers to repository [{repository}]"),
        ": Pushed",
        &format!("1: digest: {digest} size: "),
    ]);
    let manifest = raw(&skopeo, &name);
    assert_eq!(manifest["config"]["digest"], id);
    let types = layer_types(&manifest);
    assert!(types[1..].iter().all(|kind| kind.ends_with("tar+gzip")), "{types:?}");
    assert_eq!(types.len(), 3);
    // The name here stands for what is there; the image is the one that it was, and has only this name.
    env.lap(["images", "--digests", "--no-trunc"]).ok().stdout_has(&[&digest, &id]);
    assert_eq!(image_id(&env, &name), id);
    env.lap(["rmi", &name]).ok();
    assert!(!env.lap(["images", "--no-trunc"]).ok().stdout_text().contains(&id));
    env.lap(["run", "--rm", "--pull", "always", &name, "cat", "/made"]).ok().stdout_has(&["made"]);
    assert_eq!(env.lap(["push", "-q", &name]).ok().stdout_text().trim(), name);
}

#[test]
fn what_is_there_does_not_travel() {
    let env = env();
    let registry = FaultyRegistry::start();
    let name = registry.reference("app:1");
    build(&env, &context(&env), &["-t", &name]);
    let first = requests(&registry, || drop(env.lap(["push", &name]).ok()));
    assert_eq!(first.iter().filter(|request| *request == "HEAD blobs").count(), 4, "{first:?}");
    assert_eq!(first.iter().filter(|request| *request == "PUT manifests").count(), 1, "{first:?}");
    // Nothing new: one request in all.
    let push = || {
        let output = env.lap(["push", &name]).ok().stdout_text();
        assert!(!output.contains("Pushed"), "{output}");
    };
    assert_eq!(requests(&registry, push), ["HEAD manifests"]);
    // A new name: only the manifest.
    let other = registry.reference("app:2");
    env.lap(["tag", &name, &other]).ok();
    let renamed = requests(&registry, || drop(env.lap(["push", &other]).ok()));
    assert_eq!(renamed, ["HEAD manifests", "HEAD manifests/sha256:", "PUT manifests"]);
    // A new top layer: one request for each layer that is there.
    let context = context(&env);
    context.dockerfile(&format!("{DOCKERFILE}RUN echo more > /more\n"));
    build(&env, &context, &["-t", &name]);
    let output = env.lap(["push", &name]).ok().stdout_text();
    assert_eq!(output.matches("Layer already exists").count(), 3, "{output}");
    assert_eq!(output.matches(": Pushed").count(), 2, "{output}");
}

#[test]
fn layers_of_other_repositories_are_mounted() {
    let (Some(registry), Some(skopeo)) = (DockerRegistry::start(), judges::skopeo()) else { return };
    let env = TestEnv::new();
    env.load(&testkit::images::busybox());
    let base = registry.reference("base/image:1");
    env.lap(["tag", "busybox", &base]).ok();
    env.lap(["push", &base]).ok();
    let context = context(&env);
    context.dockerfile(&format!("FROM {base}\nCOPY f /f\n"));
    let name = registry.reference("app:1");
    build(&env, &context, &["-t", &name]);
    env.lap(["push", &name]).ok().stdout_has(&[": Mounted from base/image", ": Pushed"]);
    assert_eq!(layer_types(&raw(&skopeo, &name)).len(), 2);
}

#[test]
fn all_tags_of_a_repository_are_pushed() {
    let env = env();
    let registry = FaultyRegistry::start();
    for tag in ["one", "two"] {
        env.lap(["tag", "busybox", &registry.reference(&format!("app:{tag}"))]).ok();
    }
    env.lap(["tag", "busybox", &registry.reference("other:three")]).ok();
    let repository = registry.reference("app");
    env.lap(["push", "-a", &repository]).ok().stdout_has(&["one: digest: ", "two: digest: "]);
    assert_eq!(registry.tagged("app", "one"), registry.tagged("app", "two"));
    assert!(registry.tagged("app", "one").is_some());
    assert_eq!(registry.tagged("other", "three"), None);
    env.lap(["push", "-a", &registry.reference("app:one")]).fails(2).stderr_has(&["tag can't be used"]);
    env.lap(["push", "-a", &registry.reference("none")]).fails(1).stderr_has(&["no such image"]);
}

#[test]
fn an_index_is_pushed_with_all_its_platforms() {
    let (Some(registry), Some(skopeo)) = (DockerRegistry::start(), judges::skopeo()) else { return };
    let env = TestEnv::new();
    let context = env.context();
    context
        .file("f", "content")
        .dockerfile("FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /f\n");
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let name = registry.reference("multi:built");
    build(&env, &context, &[&platforms[..], &["--push", "-t", &name]].concat());
    let index = raw(&skopeo, &name);
    let architectures: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    // From the store, where nothing is compressed yet.
    let name = registry.reference("again:1");
    build(&env, &context, &[&platforms[..], &["-t", &name]].concat());
    env.lap(["push", &name]).ok();
    assert_eq!(raw(&skopeo, &name)["manifests"], index["manifests"]);
    // One platform of it.
    let name = registry.reference("one:1");
    build(&env, &context, &[&platforms[..], &["-t", &name]].concat());
    env.lap(["push", "--platform", "linux/arm64", &name]).ok();
    assert_eq!(config(&skopeo, &name)["architecture"], "arm64");
    assert_eq!(raw(&skopeo, &name)["manifests"], Value::Null);
    env.lap(["push", "--platform", "linux/riscv64", &name]).fails(1).stderr_has(&["linux/riscv64"]);
}

#[test]
fn an_index_of_which_the_store_has_one_platform_is_pushed_as_that() {
    let (Some(from), Some(to), Some(skopeo)) =
        (DockerRegistry::start(), DockerRegistry::start(), judges::skopeo())
    else {
        return;
    };
    let maker = TestEnv::new();
    let context = maker.context();
    context.dockerfile("FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY Dockerfile /\n");
    let name = from.reference("multi:1");
    build(&maker, &context, &["--platform", "linux/amd64,linux/arm64", "--push", "-t", &name]);
    let env = TestEnv::new();
    env.lap(["pull", "--platform", "linux/arm64", &name]).ok();
    let target = to.reference("multi:1");
    env.lap(["tag", &name, &target]).ok();
    env.lap(["push", &target]).ok().stderr_has(&["does not have linux/amd64"]);
    assert_eq!(config(&skopeo, &target)["architecture"], "arm64");
    // Where the registry has all of it, the name still stands for all of it.
    env.lap(["tag", &name, &from.reference("multi:2")]).ok();
}

#[test]
fn builds_push_as_their_output_says() {
    let (Some(registry), Some(skopeo)) = (DockerRegistry::start(), judges::skopeo()) else { return };
    let env = env();
    let context = context(&env);
    let (one, two) = (registry.reference("one:1"), registry.reference("two:2"));
    build(&env, &context, &["-o", &format!("type=image,\"name={one},{two}\",push=true")]);
    assert_eq!(raw(&skopeo, &one), raw(&skopeo, &two));
    env.lap(["run", "--rm", &two, "cat", "/made"]).ok().stdout_has(&["made"]);

    build(&env, &context, &["-t", &one, "-o", "type=registry,oci-mediatypes=false,compression=gzip"]);
    let manifest = raw(&skopeo, &one);
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert!(layer_types(&manifest).iter().all(|kind| kind.starts_with("application/vnd.docker.")));
    env.lap(["run", "--rm", &one, "cat", "/made"]).ok().stdout_has(&["made"]);

    build(
        &env,
        &context,
        &["-t", &one, "--push", "-o", "type=image,compression=zstd,force-compression=true"],
    );
    assert!(layer_types(&raw(&skopeo, &one)).iter().all(|kind| kind.ends_with("+zstd")));

    let metadata = env.work().join("metadata.json");
    let repository = registry.reference("digests");
    let output = format!("type=image,name={repository},push-by-digest=true,push=true");
    build(&env, &context, &["-o", &output, "--metadata-file", metadata.to_str().unwrap()]);
    let metadata: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    assert_eq!(layer_types(&raw(&skopeo, &format!("{repository}@{digest}"))).len(), 3);
    build_fails(&env, &context, &["--push"]).stderr_has(&["an image that is pushed needs a name", "-t"]);
}

#[test]
fn a_push_that_cannot_be_done_says_why() {
    let env = env();
    let registry = FaultyRegistry::start();
    env.lap(["push", &registry.reference("none:1")]).fails(1).stderr_has(&["no such image"]);
    let refused = format!("{}/app:1", FaultyRegistry::refused_address());
    env.lap(["tag", "busybox", &refused]).ok();
    env.lap(["push", &refused]).fails(1).stderr_has(&["connection refused"]);
    let name = registry.reference("app:1");
    env.lap(["tag", "busybox", &name]).ok();
    registry.require(Login::Basic("Basic bWU6c2VjcmV0"));
    env.lap(["push", &name]).fails(1).stderr_has(&["a login is required"]);
    registry.require(Login::None);
    registry.inject(u32::MAX, "PUT /v2/app/manifests", Fault::Status(403, None));
    env.lap(["push", &name]).fails(1).stderr_has(&["cannot push manifest 1", "access denied"]);
    registry.heal();
    registry.inject(1, "PUT", Fault::Status(503, None));
    registry.inject(1, "POST", Fault::CloseBefore);
    env.lap(["push", &name]).ok();
    env.lap(["store", "check"]).ok();
}

#[test]
fn a_token_that_expires_during_a_push_is_replaced() {
    let env = TestEnv::new();
    let noise =
        |seed: u32| (0..50_000u32).flat_map(move |i| (i ^ seed).wrapping_mul(2_654_435_761).to_le_bytes());
    let mut image = Image::new("app");
    for seed in 0..6 {
        let bytes: Vec<u8> = noise(seed).collect();
        image = image.layer(Layer::tar(LayerTar::new().file(&format!("noise{seed}"), 0o644, bytes).finish()));
    }
    env.load(&image);
    let registry = FaultyRegistry::start();
    registry.require(Login::AnonymousToken);
    registry.expire_tokens_after(8);
    let name = registry.reference("app:1");
    env.lap(["tag", "app", &name]).ok();
    env.lap(["push", &name]).ok();
    assert!(registry.seen("/token").len() > 2, "{:?}", registry.seen("/token"));
    assert_eq!(registry.tagged("app", "1"), Some(image.digest()));
}
