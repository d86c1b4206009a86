//! Showing and giving back disk space.

mod common;

use std::path::Path;

use common::{build, env, image_id, outcome};
use testkit::{Context, TestEnv};

/// Everything below a directory but the database, in bytes of disk.
fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = std::fs::symlink_metadata(dir).unwrap().blocks() * 512;
    if dir.is_dir() && !dir.is_symlink() {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let is_counted = |path: &std::path::PathBuf| {
            !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("meta-v1."))
        };
        bytes += entries.filter(is_counted).map(|path| disk_usage(&path)).sum::<u64>();
    }
    bytes
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
    let before = disk_usage(&env.root());
    let pruned = env.lap(["builder", "prune", "--force"]).ok();
    pruned.stdout_has(&["Deleted build cache objects:"]);
    let freed = (before - disk_usage(&env.root())) as f64;
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
        (&["system", "prune"], "  - all dangling images\n  - unused build cache", "system prune"),
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
    let left = env.lap(["system", "df", "--format", "{{.Type}} {{.Size}}"]).ok().stdout_text();
    assert_eq!(left, "Images 0B\nContainers 0B\nBuild Cache 0B\nCache Mounts 0B\n");
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
