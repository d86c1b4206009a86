//! `type=records` where requests are costly: quick steps travel several at a time.

mod common;

use std::path::{Path, PathBuf};

use base::Digest;
use common::{build, env, files_below, steps_run};
use testkit::{Context, DockerRegistry, MotoServer, Output, TestEnv};

/// How many steps the build has.
const STEPS: usize = 30;

/// A context with steps that are over at once, each over the one before. Those from `changed` on are others than usual.
fn context(env: &TestEnv, changed: usize) -> Context {
    let run = |step: usize| {
        let what = if step < changed { "usual" } else { "changed" };
        format!("RUN echo {what} {step} >> /steps\n")
    };
    let context = env.context();
    context.dockerfile(&format!("FROM busybox\n{}", (0..STEPS).map(run).collect::<String>()));
    context
}

/// A bucket, and what is typed for it.
fn bucket(server: &MotoServer) -> String {
    format!(
        "type=records,s3=cache,endpoint_url={},use_path_style=true,prefix=team/,access_key_id=id,secret_access_key=secret",
        server.url()
    )
}

fn repository(registry: &DockerRegistry) -> String {
    format!("type=records,ref={}", registry.reference("team/cache"))
}

/// The names of the objects of the bucket below a prefix.
fn objects(server: &MotoServer, prefix: &str) -> Vec<String> {
    let (_, listing) = server.request("GET", &format!("/cache?list-type=2&prefix=team/{prefix}"));
    let names = listing.split("<Key>").skip(1);
    names.filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
}

fn steps(env: &TestEnv) -> String {
    env.lap(["run", "--rm", "x", "cat", "/steps"]).ok().stdout_text()
}

/// Builders of two branches write, and those that begin with nothing run no step of either. Answers what the two wrote of their work.
fn branches_lose_nothing(cache: &str) -> [Output; 2] {
    let write = ["--cache-to", cache, "-t", "x"];
    let read = ["--cache-from", cache, "-t", "x"];
    let both = ["--cache-from", cache, "--cache-to", cache, "-t", "x"];
    let first = env();
    let made = build(&first, &context(&first, STEPS), &write);
    assert_eq!(steps_run(&made).len(), STEPS);

    let second = env();
    let found = build(&second, &context(&second, STEPS), &read);
    assert_eq!(steps_run(&found), Vec::<String>::new(), "written by {made}\nread by {found}");
    assert_eq!(steps(&second), steps(&first));
    // What was brought is there under the keys of all steps, also without the cache.
    let alone = build(&second, &context(&second, STEPS - 1), &["-t", "y"]);
    assert_eq!(steps_run(&alone).len(), 1, "{alone}");

    // Another branch begins in the middle of a segment.
    let branch = env();
    let further = build(&branch, &context(&branch, 17), &both);
    assert_eq!(steps_run(&further).len(), STEPS - 17, "{further}");
    for changed in [17, STEPS] {
        let other = env();
        let found = build(&other, &context(&other, changed), &read);
        assert_eq!(steps_run(&found), Vec::<String>::new(), "{changed}: {found}");
        assert_eq!(steps(&other), steps(if changed == STEPS { &first } else { &branch }));
    }
    [made, further]
}

#[test]
fn branches_lose_nothing_in_a_repository() {
    let Some(registry) = DockerRegistry::start() else { return };
    branches_lose_nothing(&repository(&registry));
}

#[test]
fn branches_lose_nothing_in_a_bucket() {
    let Some(server) = MotoServer::start() else { return };
    let cache = bucket(&server);
    let builds = branches_lose_nothing(&cache);
    let (records, blobs) = (objects(&server, "records/").len(), objects(&server, "blobs/").len());
    // Each build writes a segment every quarter of a second, with a name at each end; a step that was slow has names of its own.
    let segments: usize = builds.iter().map(|build| segments_of(build) + 2).sum();
    let slow: usize = builds.iter().map(slow_steps).sum();
    let (keys, layers) = (2 * (STEPS + STEPS - 17), STEPS + STEPS - 17);
    assert!(records <= 2 * (segments + slow), "{records} records of {keys} keys, {segments} {slow}");
    assert!(blobs <= segments, "{blobs} blobs of {layers} layers, {segments}");
}

fn segments_of(build: &Output) -> usize {
    usize::try_from(build.elapsed.as_millis() / 250).unwrap()
}

/// How many steps took so long that others wait for them by name.
fn slow_steps(build: &Output) -> usize {
    let text = build.stderr_text();
    let seconds =
        text.lines().filter_map(|line| line.split_once(" DONE ")?.1.strip_suffix('s')?.parse::<f64>().ok());
    seconds.filter(|seconds| *seconds > 0.1).count()
}

/// Has one builder write, `damage` done to each pack, and another builder heal them.
fn are_healed(damage: impl Fn(&Path)) {
    let Some(registry) = DockerRegistry::start() else { return };
    let cache = repository(&registry);
    let (first, second, third) = (env(), env(), env());
    build(&first, &context(&first, STEPS), &["--cache-to", &cache, "-t", "x"]);

    let some = registry.blob_file(&Digest::of(b""));
    let blobs = files_below(some.ancestors().nth(3).unwrap());
    // Manifests and the config that all have are JSON.
    let is_layer = |path: &&PathBuf| std::fs::read(path).unwrap().first() != Some(&b'{');
    let layers: Vec<_> = blobs.iter().filter(is_layer).collect();
    assert!(!layers.is_empty());
    layers.into_iter().for_each(|layer| damage(layer));

    let both = ["--cache-from", &cache, "--cache-to", &cache, "-t", "x"];
    let alone = build(&second, &context(&second, STEPS), &both);
    alone.stderr_has(&["a result in a shared cache is not whole"]);
    assert_eq!(steps(&second), steps(&first));
    let found = build(&third, &context(&third, STEPS), &["--cache-from", &cache, "-t", "x"]);
    assert_eq!(steps_run(&found), Vec::<String>::new(), "{found}");
    assert_eq!(steps(&third), steps(&first));
}

#[test]
fn packs_that_are_gone_are_misses_and_are_healed() {
    are_healed(|pack| std::fs::remove_file(pack).unwrap());
}

#[test]
fn packs_that_are_damaged_are_misses_and_are_healed() {
    are_healed(|pack| std::fs::write(pack, "damaged").unwrap());
}

#[test]
fn each_record_of_a_segment_is_signed() {
    let Some(registry) = DockerRegistry::start() else { return };
    let cache = repository(&registry);
    let dir = tempfile::tempdir().unwrap();
    let (key, policy) = (dir.path().join("main"), dir.path().join("policy.toml"));
    env().lap(["key", "generate"]).arg(&key).ok();
    std::fs::write(&policy, "[[rule]]\nsigners = [\"main.pub\"]\n").unwrap();
    let (key, policy) = (key.display().to_string(), policy.display().to_string());
    let both = ["--cache-from", &cache, "--cache-to", &cache, "--cache-policy", &policy, "-t", "x"];
    let build_new = |flags: &[&str]| {
        let env = env();
        build(&env, &context(&env, STEPS), flags)
    };

    // What somebody else has written first stops nobody from signing, or from finding what is signed.
    build_new(&["--cache-to", &cache]);
    let refused = build_new(&[&both[..], &["--cache-key", &key]].concat());
    assert_eq!(steps_run(&refused).len(), STEPS, "{refused}");
    let trusting = build_new(&["--cache-from", &cache, "--cache-policy", &policy]);
    assert_eq!(steps_run(&trusting), Vec::<String>::new(), "{trusting}");
}
