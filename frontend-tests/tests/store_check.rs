//! `lap store check` on stores that were damaged on purpose.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{build, env, image_id, names_in, outcome};
use testkit::{Context, Output, TestEnv};

fn sample(env: &TestEnv) -> Context {
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo one >/one\nRUN echo two >/two\n");
    context
}

fn check(env: &TestEnv, args: &[&str]) -> Output {
    env.lap(["store", "check"]).args(args).run()
}

fn assert_sound(env: &TestEnv) {
    let output = check(env, &[]);
    assert_eq!((output.code(), output.stdout_text().as_str()), (Some(0), "The store is sound\n"), "{output}");
}

/// The damage must be found as `says`, and repaired.
fn assert_found_and_repaired(env: &TestEnv, says: &str) {
    let found = check(env, &[]);
    assert_eq!(found.code(), Some(1), "{found}");
    found.stdout_has(&[says, "found"]);
    // Looking changes nothing.
    assert_eq!(check(env, &[]).stdout_text(), found.stdout_text());
    let repaired = check(env, &["--repair"]);
    assert_eq!(repaired.code(), Some(0), "{repaired}");
    repaired.stdout_has(&[says, "Repaired"]);
    assert_sound(env);
}

fn snapshots(env: &TestEnv) -> PathBuf {
    env.root().join("snapshots-v1")
}

/// The directory of the snapshot whose layer has this file.
fn snapshot_with(env: &TestEnv, file: &str) -> PathBuf {
    let all = names_in(&snapshots(env)).into_iter().map(|name| snapshots(env).join(name));
    let mut fit: Vec<PathBuf> = all.filter(|path| path.join("fs").join(file).exists()).collect();
    // Full copies have it as well when they stand on it: the oldest is the one that made it.
    fit.sort_by_key(|path| path.file_name().unwrap().to_string_lossy().parse::<u64>().unwrap());
    fit.swap_remove(0)
}

fn blob(env: &TestEnv, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    env.root().join("blobs-v1/sha256").join(&hex[..2]).join(hex)
}

/// Changes one byte and nothing else.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_store_after_builds_and_removals_is_sound() {
    let env = env();
    build(&env, &sample(&env), &["-t", "made"]);
    assert_sound(&env);
    env.lap(["rmi", "made"]).ok();
    env.lap(["system", "prune", "-af"]).ok();
    assert_sound(&env);
    assert!(check(&env, &["--repair"]).stdout_text().starts_with("The store is sound\n"));
}

#[test]
fn a_lost_layer_is_forgotten_and_built_again() {
    let env = env();
    build(&env, &sample(&env), &["-t", "made"]);
    fs::remove_dir_all(snapshot_with(&env, "one")).unwrap();
    assert_found_and_repaired(&env, "its directory is gone");
    let again = build(&env, &sample(&env), &["-t", "made"]);
    assert_eq!((outcome(&again, "echo one"), outcome(&again, "echo two")), ("DONE".into(), "DONE".into()));
    env.lap(["run", "--rm", "made", "cat", "/one", "/two"]).ok().stdout_has(&["one\ntwo"]);
}

#[test]
fn a_changed_config_takes_its_image_with_it() {
    let env = env();
    build(&env, &sample(&env), &["-t", "made"]);
    flip(&blob(&env, &image_id(&env, "made")));
    let found = check(&env, &[]);
    found.stdout_has(&["its content does not match its digest", "image docker.io/library/made:latest"]);
    assert_found_and_repaired(&env, "does not match");
    env.lap(["image", "inspect", "made"]).fails(1);
    env.lap(["image", "inspect", "busybox"]).ok();
    let again = build(&env, &sample(&env), &["-t", "made"]);
    assert_eq!(outcome(&again, "echo two"), "CACHED");
}

#[test]
fn a_cut_document_and_a_missing_one_are_found() {
    for damage in [|path: &Path| fs::write(path, "{").unwrap(), |path: &Path| fs::remove_file(path).unwrap()]
    {
        let env = env();
        build(&env, &sample(&env), &["-t", "made"]);
        let config = blob(&env, &image_id(&env, "made"));
        let bytes = fs::read(&config).unwrap();
        fs::remove_file(&config).unwrap();
        fs::write(&config, bytes).unwrap();
        damage(&config);
        assert_found_and_repaired(&env, "its file is gone or has another length");
        env.lap(["image", "inspect", "made"]).fails(1);
    }
}

#[test]
fn files_that_nothing_names_are_found_and_removed() {
    let env = env();
    let stray = [
        snapshots(&env).join("999999/fs"),
        env.root().join("blobs-v1/sha256/ab").join("ab".repeat(32)),
        env.root().join("cache-mounts-v1/nobody/fs"),
    ];
    for path in &stray {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "stray").unwrap();
    }
    let found = check(&env, &[]);
    assert_eq!(found.code(), Some(0), "they are garbage, not damage: {found}");
    for path in ["snapshots-v1/999999", &"ab".repeat(32), "cache-mounts-v1/nobody"] {
        found.stdout_has(&[path, "nothing in the database names it"]);
    }
    found.stdout_has(&["The store is sound; 3 leftovers of ended processes will be removed"]);
    env.lap(["store", "gc"]).ok();
    assert_sound(&env);
    assert!(stray.iter().all(|path| !path.exists()));
}

#[test]
fn a_lost_cache_mount_is_made_anew() {
    let env = env();
    let context = env.context();
    context
        .dockerfile("FROM busybox\nARG N\nRUN --mount=type=cache,target=/c echo x >>/c/f && wc -l </c/f\n");
    build(&env, &context, &[]);
    fs::remove_dir_all(env.root().join("cache-mounts-v1")).unwrap();
    assert_found_and_repaired(&env, "cache mount");
    build(&env, &context, &["--build-arg", "N=2"]);
    assert_sound(&env);
}

#[test]
fn what_a_killed_build_left_is_no_damage() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo be''gun && exec sleep 600\n");
    let mut building = env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn();
    building.wait_for("begun");
    // Beside a build that works, too.
    assert_sound(&env);
    building.signal(nix::sys::signal::Signal::SIGKILL);
    building.finish();
    let left = check(&env, &[]);
    assert_eq!(left.code(), Some(0), "{left}");
    left.stdout_has(&["The store is sound; ", "leftovers of ended processes"]);
    check(&env, &["--repair"]);
    assert_sound(&env);
}
