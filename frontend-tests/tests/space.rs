//! Showing and giving back disk space.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::containers::Containers;
use common::{build, env, image_id, outcome};
use testkit::{Context, TestEnv};

/// Everything below a directory, in bytes of disk, as `du` counts it.
fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut seen = std::collections::HashSet::new();
    let mut open = vec![dir.to_owned()];
    let mut bytes = 0;
    while let Some(path) = open.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if !metadata.is_dir() && !seen.insert(metadata.ino()) {
            continue;
        }
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    bytes
}

/// How many bytes of disk files take, and how many directories there are.
fn files_and_directories(dir: &Path) -> (u64, usize) {
    let mut counted = (0, 1);
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && !entry.is_symlink() {
            let below = files_and_directories(&entry);
            counted = (counted.0 + below.0, counted.1 + below.1);
        } else {
            counted.0 += disk_usage(&entry);
        }
    }
    counted
}

/// The same without the database, whose size depends on more than what there is.
fn disk_usage_of_files(root: &Path) -> u64 {
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with("meta-v1."));
    files.map(|entry| disk_usage(&entry.path())).sum()
}

/// What `lap system df` says, in bytes, by type.
fn told(env: &TestEnv) -> BTreeMap<String, u64> {
    let text = env.lap(["system", "df", "--format", "{{.Type}}={{.Bytes}}"]).ok().stdout_text();
    let lines = text.lines().map(|line| line.split_once('=').unwrap());
    lines.map(|(name, bytes)| (name.to_owned(), bytes.parse().unwrap())).collect()
}

/// The parts make up the total, and the total is what is on the disk.
fn assert_exact(env: &TestEnv, when: &str) {
    let mut told = told(env);
    let total = told.remove("Total").unwrap();
    assert_eq!(told.values().sum::<u64>(), total, "{when}: {told:?}");
    assert_eq!(total, disk_usage(&env.root()), "{when}: {told:?}");
}

/// A build of two steps: one that makes much quickly, and one that makes little slowly.
fn two_steps(env: &TestEnv) -> Context {
    let context = env.context();
    context.dockerfile(
        "FROM busybox AS big\nRUN dd if=/dev/zero of=/big bs=1024 count=8192\n\
         FROM busybox AS slow\nRUN i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo x >/small\n\
         FROM busybox\nCOPY --from=big /big /\nCOPY --from=slow /small /\n",
    );
    context
}

fn reclaimed(text: &str) -> &str {
    text.trim_end().rsplit_once("Total reclaimed space: ").unwrap_or_else(|| panic!("{text}")).1
}

/// `123kB` as a number, as exact as it says.
fn bytes(text: &str) -> f64 {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let unit = ["B", "kB", "MB", "GB"].iter().position(|unit| *unit == &text[digits..]).unwrap();
    text[..digits].parse::<f64>().unwrap() * 1000f64.powi(unit as i32)
}

#[test]
fn pruning_the_cache_gives_back_what_it_says() {
    let env = env();
    build(&env, &two_steps(&env), &["-t", "made"]);
    let before = disk_usage_of_files(&env.root());
    let pruned = env.lap(["builder", "prune", "--force"]).ok();
    pruned.stdout_has(&["Deleted build cache objects:"]);
    let freed = (before - disk_usage_of_files(&env.root())) as f64;
    let said = bytes(reclaimed(&pruned.stdout_text()));
    assert!((said - freed).abs() <= freed * 0.006, "said {said}, freed {freed}");
    // What the image needs is still there, and is a cache still.
    let again = build(&env, &two_steps(&env), &["-t", "made"]);
    assert_eq!(outcome(&again, "COPY --from=slow"), "CACHED");
    env.lap(["run", "--rm", "made", "cat", "/small"]).ok().stdout_has(&["x"]);
    env.lap(["builder", "prune", "--all", "--force"]).ok();
    let again = build(&env, &two_steps(&env), &["-t", "made"]);
    assert_eq!(outcome(&again, "COPY --from=slow"), "DONE");
}

#[test]
fn what_is_cheap_to_make_again_goes_first() {
    let env = env();
    build(&env, &two_steps(&env), &["--target", "big"]);
    build(&env, &two_steps(&env), &["--target", "slow"]);
    env.lap(["image", "prune", "--all", "--force", "--filter", "label!=keep"]).ok();
    env.lap(["builder", "prune", "--force", "--max-used-space", "6MB"]).ok();
    env.load(&testkit::images::busybox());
    let again = build(&env, &two_steps(&env), &["--target", "slow"]);
    assert_eq!(outcome(&again, "RUN i=0"), "CACHED");
    let again = build(&env, &two_steps(&env), &["--target", "big"]);
    assert_eq!(outcome(&again, "RUN dd"), "DONE");
}

#[test]
fn filters_and_limits_keep_what_they_say() {
    let env = env();
    build(&env, &two_steps(&env), &["--target", "big", "-t", "made"]);
    env.lap(["rmi", "made"]).ok();
    for kept in [
        &["--filter", "until=24h"][..],
        &["--keep-storage", "1GB"],
        &["--max-used-space", "1GB"],
        &["--min-free-space", "1"],
        &["--reserved-space", "1g", "--max-used-space", "1"],
    ] {
        let pruned = env.lap(["builder", "prune", "--all", "-f"]).args(kept).ok();
        assert_eq!(pruned.stdout_text(), "Total reclaimed space: 0B\n", "{kept:?}");
    }
    let pruned = env.lap(["builder", "prune", "-f", "--filter", "until=2200-01-01T00:00:00Z"]).ok();
    assert!(bytes(reclaimed(&pruned.stdout_text())) > 8e6, "{pruned}");
    for bad in [["--filter", "until=soon"], ["--filter", "label=a"], ["--max-used-space", "much"]] {
        env.lap(["builder", "prune", "-f"]).args(bad).fails(2);
    }
}

#[test]
fn nothing_goes_without_a_yes() {
    let env = env();
    build(&env, &two_steps(&env), &["--target", "big"]);
    for (command, asks, says) in [
        (&["builder", "prune"][..], "remove all dangling build cache. Are you", "build cache prune"),
        (&["builder", "prune", "-a"], "remove all build cache. Are you", "build cache prune"),
        (&["image", "prune"], "remove all dangling images.\nAre you", "image prune"),
        (&["image", "prune", "-a"], "at least one container associated to them.\nAre you", "image prune"),
        (&["system", "prune"], "  - all dangling images\n  - unused build cache\n\n", "system prune"),
    ] {
        let refused = env.lap(command).stdin("n\n").fails(1);
        refused.stdout_has(&[asks, "sure you want to continue? [y/N] "]);
        refused.stderr_has(&[says, "has been cancelled"]);
        env.lap(command).stdin("").fails(1);
    }
    assert_eq!(env.lap(["images", "-q"]).ok().stdout_text().lines().count(), 2);
    env.lap(["image", "prune"]).stdin("y\n").ok().stdout_has(&["Deleted Images:", "deleted: sha256:"]);
    assert_eq!(env.lap(["images", "-q"]).ok().stdout_text().lines().count(), 1);
}

#[test]
fn everything_that_nobody_needs_goes_at_once() {
    let env = Containers::new();
    env.lap(["network", "create", "unused"]).ok();
    env.lap(["network", "create", "used"]).ok();
    env.lap(["volume", "create", "kept"]).ok();
    env.detached(&["--name", "running", "--network", "used", "-v", "/data", "busybox", "sleep", "1000"]);
    let stopped = env.lap(["create", "-v", "/data", "--label", "old", "busybox", "true"]).ok().stdout_text();
    let anonymous = ["volume", "ls", "-q", "--filter", "dangling=true"];
    let asked = env.lap(["system", "prune", "--volumes"]).stdin("n\n").fails(1);
    asked.stdout_has(&[
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  \
         - all anonymous volumes not used by at least one container\n  - all dangling images\n  - unused build cache\n\n",
        "Are you sure you want to continue? [y/N] ",
    ]);
    let both = ["system", "prune", "-f", "--volumes", "--filter", "until=1h"];
    env.lap(both).fails(1).stderr_has(&["the \"until\" filter is not supported with \"--volumes\""]);
    env.lap(["system", "prune", "-f", "--filter", "colour=red"]).fails(2);
    // What is too new, or has not the label, stays.
    env.lap(["system", "prune", "-f", "--filter", "until=1h"]).ok();
    let kept = env.lap(["system", "prune", "-f", "--filter", "label=nothing"]).ok();
    assert_eq!(kept.stdout_text(), "Total reclaimed space: 0B\n");
    let pruned = env.lap(["system", "prune", "-f"]).ok();
    pruned.stdout_has(&[
        &format!("Deleted Containers:\n{stopped}\nDeleted Networks:\nunused\n\n"),
        "Total reclaimed space: ",
    ]);
    assert!(!pruned.stdout_text().contains("Deleted Volumes"), "{pruned}");
    let volumes = env.lap(anonymous).ok().stdout_text();
    assert_eq!(volumes.lines().count(), 2, "{volumes}");
    let name = volumes.lines().find(|name| *name != "kept").unwrap().to_owned();
    let pruned = env.lap(["system", "prune", "-f", "--volumes"]).ok();
    pruned.stdout_has(&[&format!("Deleted Volumes:\n{name}\n\n")]);
    assert_eq!(env.lap(anonymous).ok().stdout_text(), "kept\n");
    assert_eq!(env.inspect("running", ".State.Status"), "running");
    let details = env.lap(["system", "df", "-v"]).ok();
    details.stdout_has(&[
        "Containers space usage:\n\nCONTAINER ID",
        "Local Volumes space usage:\n\nVOLUME NAME",
        "kept",
    ]);
    // With the last container its image goes, and its network.
    env.lap(["kill", "running"]).ok();
    env.lap(["wait", "running"]).ok();
    let pruned = env.lap(["system", "prune", "-af"]).ok();
    pruned.stdout_has(&["Deleted Networks:\nused\n", "untagged: busybox:latest"]);
}

#[test]
fn images_are_pruned_by_name_label_and_age() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo a >/a\nLABEL keep=yes\n");
    build(&env, &context, &["-t", "labelled"]);
    env.lap(["image", "prune", "-af", "--filter", "label=nothing"]).ok();
    env.lap(["image", "prune", "-f"]).ok();
    let names = |env: &TestEnv| env.lap(["images", "--format", "{{.Repository}}"]).ok().stdout_text();
    assert_eq!(names(&env).lines().count(), 2);
    let pruned = env.lap(["image", "prune", "-af", "--filter", "label!=keep=yes"]).ok();
    pruned.stdout_has(&["untagged: busybox:latest"]);
    assert_eq!(names(&env).trim(), "labelled");
    env.lap(["image", "prune", "-af", "--filter", "label=keep", "--filter", "until=24h"]).ok();
    assert_eq!(names(&env).trim(), "labelled");
    let id = image_id(&env, "labelled");
    let pruned = env.lap(["system", "prune", "-af"]).ok();
    pruned.stdout_has(&["untagged: labelled:latest", &format!("deleted: {id}"), "build cache objects:"]);
    assert_eq!(names(&env), "");
    let left = told(&env);
    assert_eq!(left["Total"], left["Metadata"], "{left:?}");
}

#[test]
fn an_image_in_use_is_not_pruned() {
    let env = env();
    let mut running = env.lap(["run", "--rm", "busybox", "sh", "-c", "echo up; exec sleep 600"]).spawn();
    running.wait_for("up");
    let pruned = env.lap(["image", "prune", "-af"]).ok();
    assert_eq!(pruned.stdout_text(), "Total reclaimed space: 0B\n");
    env.lap(["system", "df", "-v"]).ok().stdout_has(&["busybox", "true"]);
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.finish();
    env.lap(["image", "prune", "-af"]).ok().stdout_has(&["untagged: busybox:latest"]);
}

#[test]
fn details_tell_shared_from_unique_and_show_cache_mounts() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN --mount=type=cache,target=/cache dd if=/dev/zero of=/cache/f bs=1024 count=2000\n",
    );
    build(&env, &context, &["-t", "made"]);
    let text = env.lap(["system", "df", "-v"]).ok().stdout_text();
    for header in ["Images space usage:", "SHARED SIZE", "Build cache usage:", "CACHE ID", "LAST USED"] {
        assert!(text.contains(header), "{text}");
    }
    let mount =
        text.lines().find(|line| line.contains("exec.cachemount")).unwrap_or_else(|| panic!("{text}"));
    assert!(mount.contains("2.05MB") || mount.contains("2.06MB"), "{text}");
    assert!(text.lines().any(|line| line.contains("regular") && line.ends_with("true")), "{text}");
    // Shared by both, so counted with neither alone.
    let unique = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        bytes(cells[6])
    };
    assert!(unique("busybox") < 100e3 && unique("made") < 100e3, "{text}");
    env.lap(["builder", "prune", "-f"]).ok();
    assert!(!env.lap(["system", "df", "-v"]).ok().stdout_text().contains("exec.cachemount"));
}

#[test]
fn every_byte_is_accounted_for() {
    let env = env();
    assert_exact(&env, "loaded");
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nCOPY file /file\n\
         RUN --mount=type=cache,target=/cache dd if=/dev/zero of=/cache/f bs=1024 count=300 && ln /file /link\n",
    );
    context.file("file", vec![b'x'; 70_000]);
    build(&env, &context, &["-t", "made"]);
    assert_exact(&env, "built");
    env.lap(["save", "made", "-o", "made.tar"]).ok();
    build(&env, &two_steps(&env), &["--target", "big"]);
    assert_exact(&env, "built and saved");
    let mut running = env.lap(["run", "--rm", "made", "sh", "-c", "echo up; exec sleep 600"]).spawn();
    running.wait_for("up");
    assert_exact(&env, "beside a container");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.finish();
    context.dockerfile(
        "FROM busybox\nRUN dd if=/dev/zero of=/f bs=1024 count=99 && echo be''gun && exec sleep 600\n",
    );
    let mut building = env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn();
    building.wait_for("begun");
    building.signal(nix::sys::signal::Signal::SIGKILL);
    building.finish();
    let stray = env.root().join("snapshots-v1/999999/fs");
    std::fs::create_dir_all(&stray).unwrap();
    std::fs::write(stray.join("stray"), [0; 9000]).unwrap();
    assert_exact(&env, "killed");
    assert!(told(&env)["Temporary"] > 100_000);
    env.lap(["image", "prune", "-f"]).ok();
    assert_exact(&env, "collected");
    env.lap(["builder", "prune", "-f", "--filter", "type=exec.cachemount"]).ok();
    assert_exact(&env, "pruned");
}

#[test]
fn an_emptied_store_is_as_small_as_a_new_one() {
    let empty = TestEnv::new();
    empty.lap(["images"]).ok();
    // It has never chosen a driver, made a cache mount or seen a context.
    empty.load(&testkit::images::busybox());
    let context = empty.context();
    context.dockerfile("FROM busybox\nCOPY Dockerfile /\nRUN --mount=type=cache,target=/c true\n");
    build(&empty, &context, &[]);
    empty.lap(["history", "rm", "--all"]).ok();
    empty.lap(["system", "prune", "-af"]).ok();

    let env = env();
    for n in 0..4 {
        build(&env, &two_steps(&env), &["-t", &format!("made{n}")]);
    }
    let context = env.context();
    let copies: String = (0..100).map(|n| format!("COPY file /file{n}\n")).collect();
    context.file("file", "content");
    context.dockerfile(&format!("FROM busybox\n{copies}RUN --mount=type=cache,target=/c echo >/c/f\n"));
    build(&env, &context, &["-t", "long"]);
    assert!(disk_usage(&env.root()) > 8 << 20);
    env.lap(["history", "rm", "--all"]).ok();
    env.lap(["system", "prune", "-af"]).ok();
    assert_exact(&env, "emptied");
    // What has happened stays known, up to a few megabytes.
    for env in [&env, &empty] {
        std::fs::remove_dir_all(env.root().join("events-v1")).unwrap();
    }
    // Directories are compared by number: ext4 does not make one smaller that had many names.
    assert_eq!(files_and_directories(&env.root()), files_and_directories(&empty.root()));
}
