//! `lap rmi` with Docker's refusals, `lap image prune`, and the filters of `lap images`.

mod common;

use common::{build, env, image_id};
use nix::sys::signal::Signal;
use testkit::{Running, TestEnv};

/// A container of `image` that runs until it is ended.
fn running(env: &TestEnv, image: &str) -> Running {
    let run = env.lap(["run", "--rm", image, "sh", "-c", "echo ready; exec sleep 1000"]);
    let mut container = run.spawn();
    container.wait_for("ready");
    container
}

fn built(env: &TestEnv, name: &str, label: &str) {
    let context = env.context();
    context.dockerfile(&format!("FROM busybox\nLABEL for={label}\nRUN echo {label} > /f\n"));
    build(env, &context, &["-t", name]);
}

fn names(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let list = env.lap(["images", "--format", "{{.Repository}}:{{.Tag}}"]).args(args).ok().stdout_text();
    let mut names: Vec<String> = list.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn an_image_in_use_stays_until_its_container_ends() {
    let env = env();
    built(&env, "used", "a");
    let id = image_id(&env, "used");
    let container = running(&env, "used");
    let short = env.lap(["ps", "-q"]).ok().stdout_text();
    let short = short.trim();
    let by_name = env.lap(["rmi", "used"]).fails(1);
    by_name.stderr_has(&["unable to remove repository reference \"used:latest\" (must force)", &id[7..19]]);
    by_name.stderr_has(&[&format!("container {short}"), "lap rm"]);
    for force in [&["rmi"][..], &["rmi", "--force"]] {
        let by_id = env.lap(force).arg(&id).fails(1);
        by_id.stderr_has(&["(cannot be forced) - image is being used by running container", short]);
    }
    assert_eq!(names(&env, &["used"]), ["used:latest"]);
    env.lap(["image", "prune", "--all", "--force"]).ok();
    assert_eq!(names(&env, &["used"]), ["used:latest"], "prune took an image that is in use");
    // Another name may go at any time, and the last one by force.
    env.lap(["tag", "used", "also"]).ok();
    assert_eq!(env.lap(["rmi", "also"]).ok().stdout_text(), "Untagged: also:latest\n");
    assert_eq!(env.lap(["rmi", "--force", "used"]).ok().stdout_text(), "Untagged: used:latest\n");
    assert_eq!(names(&env, &["--filter", "dangling=true"]), ["<none>:<none>"]);
    container.signal(Signal::SIGKILL);
    container.finish();
    let removed = env.lap(["rmi", &id]).ok().stdout_text();
    assert_eq!(removed, format!("Deleted: {id}\n"));
    env.lap(["store", "check"]).ok();
}

#[test]
fn an_image_with_several_names_goes_by_id_only_by_force() {
    let env = env();
    built(&env, "one", "a");
    env.lap(["tag", "one", "me/two:2"]).ok();
    let id = image_id(&env, "one");
    let refused = env.lap(["rmi", &id[7..19]]).fails(1);
    refused.stderr_has(&[
        "conflict: unable to delete",
        "(must be forced)",
        "multiple repositories",
        "me/two:2",
    ]);
    let removed = env.lap(["rmi", "-f", &id[7..19]]).ok().stdout_text();
    assert_eq!(removed, format!("Untagged: one:latest\nUntagged: me/two:2\nDeleted: {id}\n"));
}

#[test]
fn removing_goes_on_after_what_cannot_be_removed() {
    let env = env();
    built(&env, "one", "a");
    let output = env.lap(["rmi", "absent", "one"]).fails(1);
    output.stderr_has(&["no such image: absent"]).stdout_has(&["Untagged: one:latest", "Deleted: sha256:"]);
    env.lap(["image", "remove", "--no-prune", "busybox"]).ok();
    assert_eq!(names(&env, &[]), [""; 0]);
}

#[test]
fn filters_choose_what_is_listed_and_pruned() {
    let env = env();
    built(&env, "keep", "keep");
    built(&env, "drop", "drop");
    built(&env, "drop", "other");
    assert_eq!(names(&env, &["--filter", "dangling=true"]), ["<none>:<none>"]);
    assert_eq!(names(&env, &["-f", "label=for=keep"]), ["keep:latest"]);
    assert_eq!(names(&env, &["-f", "reference=?eep"]), ["keep:latest"]);
    assert_eq!(names(&env, &["-f", "dangling=false", "-f", "label!=for"]), ["busybox:latest"]);
    env.lap(["images", "-f", "colour=red"]).fails(2).stderr_has(&["colour=red", "dangling"]);

    let pruned = env.lap(["image", "prune", "-f", "--filter", "label=for=keep"]).ok().stdout_text();
    assert_eq!(pruned, "Total reclaimed space: 0B\n", "only what has no name goes without --all");
    let pruned = env.lap(["image", "prune", "-f", "--filter", "until=24h"]).ok().stdout_text();
    assert_eq!(pruned, "Total reclaimed space: 0B\n");
    env.lap(["image", "prune", "-f"]).ok().stdout_has(&["Deleted Images:", "deleted: sha256:"]);
    assert_eq!(names(&env, &[]), ["busybox:latest", "drop:latest", "keep:latest"]);
    let pruned = env.lap(["image", "prune", "-af", "--filter", "label!=for=keep"]).ok();
    pruned.stdout_has(&["untagged: drop:latest", "untagged: busybox:latest"]);
    assert_eq!(names(&env, &[]), ["keep:latest"]);
    env.lap(["run", "--rm", "keep", "cat", "/f"]).ok().stdout_has(&["keep"]);
}

#[test]
fn one_platform_of_several_goes_alone() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n");
    let both = ["-t", "two", "--provenance=true", "--platform", "linux/amd64,linux/arm64"];
    build(&env, &context, &both);
    let platforms = || {
        let tree = env.lap(["images", "--tree", "two"]).ok().stdout_text();
        ["amd64", "arm64"].into_iter().filter(|name| tree.contains(name)).collect::<Vec<_>>()
    };
    assert_eq!(platforms(), ["amd64", "arm64"]);
    env.lap(["tag", "two", "also"]).ok();
    let absent = env.lap(["rmi", "--platform", "linux/s390x", "two"]).fails(1);
    absent.stderr_has(&["linux/s390x", "linux/arm64"]);
    let removed = env.lap(["rmi", "--platform", "linux/arm64", "two"]).ok().stdout_text();
    assert!(removed.starts_with("Deleted: sha256:") && removed.lines().count() == 1, "{removed}");
    assert_eq!(platforms(), ["amd64"]);
    env.lap(["history", "--platform", "linux/arm64", "also"]).fails(1).stderr_has(&["linux/arm64"]);
    env.lap(["history", "--platform", "linux/amd64", "also"]).ok();
    env.lap(["rmi", "--platform", "linux/arm64", "two"]).fails(1);
    env.lap(["store", "check"]).ok();
    // The last platform is the image.
    let removed = env.lap(["rmi", "--platform", "linux/amd64", "two"]).ok().stdout_text();
    assert_eq!(removed, "Untagged: two:latest\n");
    assert_eq!(names(&env, &[]), ["also:latest", "busybox:latest"]);
}

#[test]
fn a_platform_that_a_container_uses_stays() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nARG TARGETARCH\nLABEL for=$TARGETARCH\n");
    let host = env.lap(["image", "inspect", "-f", "{{.Architecture}}", "busybox"]).ok().stdout_text();
    let (host, other) = match host.trim() {
        "amd64" => ("linux/amd64", "linux/arm64"),
        _ => ("linux/arm64", "linux/amd64"),
    };
    let _ = other;
    build(&env, &context, &["-t", "one"]);
    env.lap(["create", "--name", "c", "one"]).ok();
    let refused = env.lap(["rmi", "--platform", host, "one"]).fails(1);
    refused.stderr_has(&["conflict: unable to remove repository reference \"one:latest\" (must force)"]);
    env.lap(["rm", "c"]).ok();
    env.lap(["rmi", "--platform", host, "one"])
        .ok()
        .stdout_has(&["Untagged: one:latest", "Deleted: sha256:"]);
}
