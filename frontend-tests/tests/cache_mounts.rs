//! `lap cache-mount`: the directories of `RUN --mount=type=cache` are listed, removed, and carried elsewhere.

mod common;

use common::{build, env};
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::TestEnv;

const FILL: &str = "FROM busybox\nRUN --mount=type=cache,id=deps,target=/c mkdir -p /c/sub && echo kept > /c/sub/file && ln -s file /c/sub/link && chmod 600 /c/sub/file\n";

fn mounts(env: &TestEnv) -> Vec<Value> {
    let lines = env.lap(["cache-mount", "ls", "--format", "json"]).ok().stdout_text();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn filled() -> TestEnv {
    let env = env();
    let context = env.context();
    context.dockerfile(FILL);
    build(&env, &context, &[]);
    env
}

#[test]
fn cache_mounts_are_listed_with_their_size_and_use() {
    let env = filled();
    let listed = mounts(&env);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["ID"], "deps");
    assert_eq!(listed[0]["InUse"], false);
    assert!(listed[0]["Bytes"].as_u64().unwrap() > 0);
    let table = env.lap(["cache-mount", "ls"]).ok().stdout_text();
    assert!(table.starts_with("ID        NAME") && table.contains("deps"), "{table}");
    let inspected = env.lap(["cache-mount", "inspect", "deps"]).ok().stdout_text();
    let documents: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(documents[0]["Name"], listed[0]["Name"]);
}

#[test]
fn what_is_exported_is_found_by_steps_of_another_store() {
    let env = filled();
    let archive = env.work().join("deps.tar");
    env.lap(["cache-mount", "export", "deps", "-o"]).arg(&archive).ok();

    let other = common::env();
    other.lap(["cache-mount", "import", "--id", "deps"]).arg(&archive).ok().stdout_has(&["deps"]);
    let context = other.context();
    context.dockerfile("FROM busybox\nRUN --mount=type=cache,id=deps,target=/c cat /c/sub/link && stat -c %a /c /c/sub/file > /modes\n");
    let tree = common::build_tree(&other, &context, &[]);
    assert_eq!(tree.text("modes"), "755\n600\n");
    assert_eq!(mounts(&other).len(), 1, "the step used the imported one");

    let again = other.lap(["cache-mount", "import", "--id", "deps"]).arg(&archive).fails(1);
    again.stderr_has(&["there is a cache mount deps already"]);
}

#[test]
fn a_removed_cache_mount_is_empty_for_the_next_step() {
    let env = filled();
    env.lap(["cache-mount", "rm", "deps"]).ok().stdout_has(&["deps"]);
    assert!(mounts(&env).is_empty());
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN --mount=type=cache,id=deps,target=/c ls -A /c > /seen\n");
    assert_eq!(common::build_tree(&env, &context, &[]).text("seen"), "");
    env.lap(["cache-mount", "rm", "none"])
        .fails(1)
        .stderr_has(&["no such cache mount: none", "lap cache-mount ls"]);
}

#[test]
fn what_a_step_uses_is_not_removed() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN --mount=type=cache,id=deps,target=/c echo in-''use; sleep 1000\n");
    let mut running = env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn();
    running.wait_for("in-use");
    assert_eq!(mounts(&env)[0]["InUse"], true);
    env.lap(["cache-mount", "rm", "deps"]).fails(1).stderr_has(&["a step is using the cache mount deps"]);
    env.lap(["cache-mount", "rm", "--all"]).ok();
    assert_eq!(mounts(&env).len(), 1);
    running.signal(Signal::SIGINT);
    running.finish();
    env.lap(["cache-mount", "rm", "--all"]).ok();
    assert!(mounts(&env).is_empty());
}

#[test]
fn an_archive_that_leaves_its_directory_is_refused_and_leaves_nothing() {
    let env = env();
    let archive = env.work().join("evil.tar");
    let mut builder = Vec::new();
    // A file that would be beside the directory.
    let mut header = [0u8; 512];
    header[..7].copy_from_slice(b"../evil");
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(b"00000000000");
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    builder.extend_from_slice(&header);
    builder.extend_from_slice(&[0; 1024]);
    std::fs::write(&archive, builder).unwrap();
    let imported = env.lap(["cache-mount", "import", "--id", "evil"]).arg(&archive).run();
    let below: Vec<_> = walk(&env.root()).into_iter().filter(|path| path.ends_with("evil")).collect();
    match imported.code() {
        // Cleaned to a name inside, as Docker does with archives.
        Some(0) => assert!(below.iter().all(|path| path.contains("cache-mounts-v1")), "{below:?}"),
        _ => assert!(below.is_empty() && mounts(&env).is_empty(), "{below:?}"),
    }
    assert!(!env.root().parent().unwrap().join("evil").exists());

    std::fs::write(&archive, "no archive").unwrap();
    env.lap(["cache-mount", "import", "--id", "bad"]).arg(&archive).fails(1);
    assert!(mounts(&env).iter().all(|mount| mount["ID"] != "bad"));
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        }
    }
    found
}
