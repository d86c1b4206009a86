//! Stores on file systems whose files can share blocks: what is copied into a layer shares those of what it is copied from, and
//! everything else is as on any other.

mod common;

use std::path::{Path, PathBuf};

use common::{files_below, image_id, names_in};
use testkit::disk::{Disks, Format};
use testkit::judges::{Judge, program};
use testkit::{Context, TestEnv, mounted};

/// Larger than what is read and written rather than handed to the kernel, and than what btrfs keeps in its trees.
const LARGE: usize = 8 << 20;

const DISK: u64 = 1 << 30;

const DOCKERFILE: &str = "FROM busybox AS one\n\
                          COPY large /large\n\
                          ADD --chown=3:4 large /with/owner\n\
                          FROM busybox\n\
                          COPY --from=one /large /copied\n\
                          COPY many /many\n\
                          RUN md5sum /copied > /sum && ls /many | wc -l >> /sum && rm /many/7\n\
                          CMD cat /sum; ls /many | wc -l; md5sum /copied\n";

/// Runs `work` with an environment whose every directory is on a new file system of that format.
fn on(format: Format, work: impl Fn(&TestEnv, &Judge) + Sync) {
    let (Some(disks), Some(filefrag)) = (Disks::of(format), program("filefrag")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (disk, target) = (dir.path().join("disk"), dir.path().join("mounted"));
    disks.make(&disk, DISK);
    mounted::alone(|| {
        let mounted = disks.mount(&disk, "loop", target.clone());
        let env = TestEnv::below(mounted.path());
        env.load(&testkit::images::busybox());
        work(&env, &filefrag);
    });
    assert!(names_in(&target).is_empty(), "the file system is gone");
}

/// Bytes that no two files share by chance, and that nothing makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.file("large", noise(LARGE)).dockerfile(DOCKERFILE);
    for number in 0..20 {
        context.file(&format!("many/{number}"), format!("content {number}"));
    }
    context
}

fn build(env: &TestEnv, context: &Context, form: &str, args: &[&str]) -> String {
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-t", form];
    env.lap(["--layer-form", form, "build"]).args(epoch).args(args).arg(context.path()).ok();
    image_id(env, form)
}

/// Where on the disk the blocks of a file are, in its order.
fn blocks(filefrag: &Judge, file: &Path) -> Vec<(u64, u64)> {
    let words = [Path::new("-s"), Path::new("-v"), file];
    let text = String::from_utf8(filefrag.ok(words)).unwrap();
    let extent = |line: &str| {
        // `   0:        0..    2047:      24576..     26623:   2048:             last,shared,eof`
        let parts: Vec<&str> = line.split(':').collect();
        parts[0].trim().parse::<u64>().ok()?;
        let (first, last) = parts.get(2)?.split_once("..")?;
        Some((first.trim().parse().unwrap(), last.trim().parse().unwrap()))
    };
    let found: Vec<(u64, u64)> = text.lines().filter_map(extent).collect();
    assert!(!found.is_empty(), "{text}");
    merged(found)
}

/// Extents that follow on each other are one: they are cut wherever it suits the file system.
fn merged(extents: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in extents {
        match joined.last_mut() {
            Some(before) if before.1 + 1 == first => before.1 = last,
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// The files of the store's layers at this path.
fn in_layers(env: &TestEnv, path: &str) -> Vec<PathBuf> {
    let layers = env.root().join("snapshots-v1");
    let files = names_in(&layers).into_iter().map(|layer| layers.join(layer).join("fs").join(path));
    files.filter(|file| file.is_file()).collect()
}

fn copies_share_blocks(env: &TestEnv, filefrag: &Judge) {
    let context = context(env);
    build(env, &context, "dir", &[]);
    let source = blocks(filefrag, &context.path().join("large"));
    for copy in ["large", "with/owner", "copied"] {
        let found = in_layers(env, copy);
        assert_eq!(found.len(), 1, "{copy}");
        assert_eq!(blocks(filefrag, &found[0]), source, "{copy} is where the context's file is");
    }
    // What is written to a copy is its own.
    let written = "FROM dir\nRUN printf changed | dd of=/copied conv=notrunc 2>&1 && head -c 7 /copied\n";
    context.file("Dockerfile.written", written);
    let file = context.path().join("Dockerfile.written");
    env.lap(["--layer-form", "dir", "build", "-f"]).arg(file).arg(context.path()).ok();
    assert_eq!(std::fs::read(context.path().join("large")).unwrap(), noise(LARGE));
    // The other way too.
    let out = env.work().join("out");
    build(env, &context, "dir", &["-o", &format!("type=local,dest={}", out.display())]);
    assert_eq!(
        blocks(filefrag, &out.join("copied")),
        source,
        "what is handed out is where the layer's file is"
    );
}

fn full_copies_share_blocks(env: &TestEnv, filefrag: &Judge) {
    let root = env.work().join("native");
    let lap = |args: &[&str]| env.lap(["--root"]).arg(&root).args(["--storage-driver", "native"]).args(args);
    let archive = env.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    lap(&["load", "-i"]).arg(&archive).ok();
    let context = context(env);
    lap(&["build", "-t", "built"]).arg(context.path()).ok();
    let source = blocks(filefrag, &context.path().join("large"));
    let is_copied = |path: &PathBuf| path.file_name().is_some_and(|name| name == "copied");
    let copies: Vec<PathBuf> =
        files_below(&root.join("snapshots-v1")).into_iter().filter(is_copied).collect();
    assert!(copies.len() >= 2, "each layer holds all of those below: {copies:?}");
    for copy in copies {
        assert_eq!(blocks(filefrag, &copy), source, "{}", copy.display());
    }
}

fn images_are_those_of_other_file_systems(env: &TestEnv, _: &Judge) {
    let plain = common::env();
    let there = build(&plain, &context(&plain), "dir", &[]);
    let says = |env: &TestEnv, image: &str| env.lap(["run", "--rm", image]).ok().stdout_text();
    let said = says(&plain, "dir");
    let context = context(env);
    for form in ["dir", "packed", "auto"] {
        assert_eq!(build(env, &context, form, &["--no-cache"]), there, "{form}");
        assert_eq!(says(env, form), said, "{form}");
        let out = env.work().join(format!("{form}.tar"));
        env.lap(["save", "-o"]).arg(&out).arg(form).ok();
    }
    env.lap(["store", "check"]).ok();
    let removed = env.lap(["system", "prune", "-af"]).ok();
    assert!(removed.stdout_text().contains("reclaimed"), "{removed}");
    assert!(names_in(&env.root().join("snapshots-v1")).is_empty());
    for form in ["dir", "packed"] {
        env.lap(["load", "-i"]).arg(env.work().join(format!("{form}.tar"))).ok();
        assert_eq!(image_id(env, form), there, "{form}");
        assert_eq!(says(env, form), said, "{form}");
    }
}

#[test]
fn copies_share_blocks_on_xfs() {
    on(Format::Xfs, copies_share_blocks);
}

#[test]
fn copies_share_blocks_on_btrfs() {
    on(Format::Btrfs, copies_share_blocks);
}

#[test]
fn full_copies_share_blocks_on_xfs() {
    on(Format::Xfs, full_copies_share_blocks);
}

#[test]
fn full_copies_share_blocks_on_btrfs() {
    on(Format::Btrfs, full_copies_share_blocks);
}

#[test]
fn images_made_on_xfs_are_those_of_other_file_systems() {
    on(Format::Xfs, images_are_those_of_other_file_systems);
}

#[test]
fn images_made_on_btrfs_are_those_of_other_file_systems() {
    on(Format::Btrfs, images_are_those_of_other_file_systems);
}
