//! Caches that builders share, asked for with Docker's buildx.

mod common;

use testkit::docker_registry::{DockerRegistry, RegistryDoor};
use testkit::{Context, TestEnv};

use common::daemon::Buildx;
use common::{env, outcome};

const HIDDEN: &str = "RUN echo hidden";
const SHOWN: &str = "RUN echo shown";

/// A stage that is no layer of the image, and one that is.
fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.dockerfile(
        "FROM busybox AS hidden\nRUN echo hidden > /h\nFROM busybox\nCOPY --from=hidden /h /h\nRUN echo shown > /s\n",
    );
    context
}

/// Forgets everything that was built.
fn forget(buildx: &Buildx<'_>) {
    buildx.run(["prune", "-af"]).ok();
}

#[test]
fn registries_hold_caches() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let Some(registry) = testkit::docker_registry::DockerRegistry::start() else { return };
    let context = context(&env);
    let name = registry.reference("cache:max");
    let to = format!("type=registry,ref={name},mode=max");
    let first = buildx.build(context.path(), &["--cache-to", &to]).ok();
    assert_eq!((outcome(&first, HIDDEN).as_str(), outcome(&first, SHOWN).as_str()), ("DONE", "DONE"));

    forget(&buildx);
    let without = buildx.build(context.path(), &[]).ok();
    assert_eq!(outcome(&without, HIDDEN), "DONE");

    forget(&buildx);
    let with = buildx.build(context.path(), &["--cache-from", &name]).ok();
    assert_eq!(outcome(&with, SHOWN), "CACHED");

    // Another step of the image: what is no layer of it comes from there too.
    forget(&buildx);
    context.dockerfile(
        "FROM busybox AS hidden\nRUN echo hidden > /h\nFROM busybox\nCOPY --from=hidden /h /h\nRUN cat /h\n",
    );
    let from = format!("type=registry,ref={name}");
    let missing = registry.reference("cache:missing");
    let other = buildx.build(context.path(), &["--cache-from", &missing, "--cache-from", &from]).ok();
    assert_eq!((outcome(&other, HIDDEN).as_str(), outcome(&other, "RUN cat").as_str()), ("CACHED", "DONE"));
}

#[test]
fn containers_of_azure_hold_caches() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let Some(azure) = testkit::Azurite::start() else { return };
    let context = context(&env);
    let (url, account, key) = (azure.account_url(), testkit::Azurite::ACCOUNT, testkit::Azurite::KEY);
    let place = format!("type=azblob,account_url={url},account_name={account},secret_access_key={key}");
    buildx.build(context.path(), &["--cache-to", &format!("{place},mode=max")]).ok();
    forget(&buildx);
    let with = buildx.build(context.path(), &["--cache-from", &place]).ok();
    assert_eq!(outcome(&with, SHOWN), "CACHED");
}

#[test]
fn directories_of_the_client_hold_caches() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    let directory = env.work().join("cache");
    let to = format!("type=local,dest={},mode=max", directory.display());
    let from = format!("type=local,src={}", directory.display());
    buildx.build(context.path(), &["--cache-to", &to]).ok();
    let index = || std::fs::read_to_string(directory.join("index.json")).unwrap();
    let first = index();
    assert!(first.contains("\"org.opencontainers.image.ref.name\":\"latest\""), "{first}");

    forget(&buildx);
    let with = buildx.build(context.path(), &["--cache-from", &from, "--cache-to", &to]).ok();
    assert_eq!(outcome(&with, SHOWN), "CACHED");
    // Its layers are fetched when something needs them.
    forget(&buildx);
    context.dockerfile(
        "FROM busybox AS hidden\nRUN echo hidden > /h\nFROM busybox\nCOPY --from=hidden /h /h\nRUN cat /h\n",
    );
    let other = buildx.build(context.path(), &["--cache-from", &from]).ok();
    assert_eq!((outcome(&other, HIDDEN).as_str(), outcome(&other, "RUN cat").as_str()), ("CACHED", "DONE"));

    // Further documents have names of their own; what is not there, or damaged, is done without.
    let tagged = format!("{to},tag=other");
    buildx.build(context.path(), &["--cache-to", &tagged]).ok();
    assert!(index().contains("\"other\"") && index().contains("\"latest\""), "{}", index());
    forget(&buildx);
    let other = buildx.build(context.path(), &["--cache-from", &format!("{from},tag=other")]).ok();
    assert_eq!(outcome(&other, "RUN cat"), "CACHED");
    for blob in std::fs::read_dir(directory.join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "something else").unwrap();
    }
    forget(&buildx);
    let damaged = buildx.build(context.path(), &["--cache-from", &from]).ok();
    assert_eq!(outcome(&damaged, HIDDEN), "DONE");
    buildx.build(context.path(), &["--cache-from", "type=local,src=/nowhere/at/all"]).ok();
}

#[test]
fn images_hold_their_own_cache() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let Some(registry) = testkit::docker_registry::DockerRegistry::start() else { return };
    let context = context(&env);
    let name = registry.reference("app:inline");
    buildx.build(context.path(), &["--cache-to", "type=inline", "--push", "-t", &name]).ok();
    env.lap(["rmi", &name]).ok();
    forget(&buildx);
    let again = buildx.build(context.path(), &["--cache-from", &name]).ok();
    assert_eq!(outcome(&again, SHOWN), "CACHED");
}

#[test]
fn what_is_no_cache_is_refused() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    let refused = |flags: &[&str], words: &[&str]| {
        buildx.build(context.path(), flags).fails(1).stderr_has(words);
    };
    refused(&["--cache-to", "type=azblob,name=x"], &["azblob"]);
    refused(&["--cache-to", "type=records,dest=/srv"], &["it has neither ref nor s3"]);
    refused(
        &["--cache-to", "type=registry,ref=x.example/a", "--cache-to", "type=registry,ref=x.example/a"],
        &["have the same place"],
    );
    // One that cannot be written fails the build, unless that does not matter.
    let nowhere = "type=registry,ref=localhost:1/a";
    refused(&["--cache-to", nowhere], &["localhost:1"]);
    buildx.build(context.path(), &["--cache-to", &format!("{nowhere},ignore-error=true")]).ok();
    buildx.build(context.path(), &["--cache-from", "localhost:1/a"]).ok();
}

/// A registry whose certificate nobody has signed is used where that is said, and nowhere else.
#[test]
fn insecure_registries_are_those_that_are_named_as_such() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let Some(certificate) = testkit::certificates::self_signed(&env.work(), "registry") else { return };
    let door = RegistryDoor {
        certificate: Some((certificate.file.clone(), certificate.key.clone())),
        ..RegistryDoor::default()
    };
    let Some(registry) = DockerRegistry::start_with(&door) else { return };
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo made > /made\n");
    let (image, cache) = (registry.reference("app:1"), registry.reference("cache:1"));
    let output = |more: &str| format!("type=image,name={image},push=true{more}");
    let to = |more: &str| format!("type=registry,ref={cache}{more}");
    let trusted = ",registry.insecure=true";
    buildx.build(context.path(), &["-o", &output("")]).fails(1);
    let both = ["-o", &output(trusted), "--cache-to", &to(&format!("{trusted},mode=max"))];
    buildx.build(context.path(), &both).ok();
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    skopeo.json(["inspect", "--raw", "--tls-verify=false", &format!("docker://{image}")]);
    // Another builder reads the cache, when it may.
    let other = common::env();
    let from = |more: &str| format!("type=registry,ref={cache}{more}");
    let build = |more: &str| common::build(&other, &context, &["--cache-from", &from(more)]);
    assert_eq!(common::outcome(&build(""), "RUN echo made"), "DONE");
    other.lap(["builder", "prune", "-af"]).ok();
    assert_eq!(common::outcome(&build(trusted), "RUN echo made"), "CACHED");
    // The command line pushes in the same words.
    let name = registry.reference("app:2");
    let output = format!("type=registry,name={name}");
    common::build_fails(&other, &context, &["-o", &output]);
    common::build(&other, &context, &["-o", &format!("{output}{trusted}")]);
    let refused = other.lap(["build", "-o", "type=local,dest=x,registry.insecure=true"]).arg(context.path());
    refused.fails(2).stderr_has(&["type=local is in no registry"]);
    let azure = other.lap(["build", "--cache-from", "type=azblob,name=x"]).arg(context.path());
    azure.fails(2).stderr_has(&["it has no account_url"]);
}
