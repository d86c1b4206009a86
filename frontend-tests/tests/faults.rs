//! What the machine may refuse in the middle of a build: open files, writing, space, names, and the disk itself.
//! A build fails with one error that says what happened and where, and the store works as soon as the machine does.

mod common;

use std::path::{Path, PathBuf};

use common::{build_tree, env, image_id};
use nix::mount::{MntFlags, MsFlags};
use testkit::{Context, Lap, Output, TestEnv};

/// A context whose build uses everything: a copy, a command, a merge and a cache mount.
fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.file("f", "content").dockerfile(
        "FROM busybox\nARG N\nCOPY f /f\nRUN --mount=type=cache,target=/c echo $N > /n\nCOPY --link f /g\n",
    );
    context
}

/// `lap build` of `context` with `N`, started by a shell that first does `before`; `$ROOT` is the store.
fn build_after(env: &TestEnv, before: &str, context: &Context, number: usize) -> Output {
    let script = format!("{before}\nexec \"$@\"");
    Lap::new(Path::new("/bin/sh"))
        .args(["-c", &script, "sh"])
        .arg(testkit::binary::lap())
        .arg("--root")
        .arg(env.root())
        .args(["build", "--progress", "plain", "-t", "made", "--build-arg", &format!("N={number}")])
        .arg(context.path())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", env.home())
        .env("ROOT", env.root())
        .env("LAPSTRAKE_GC", "off")
        .run()
}

/// Asserts that a build ended with one error which has all of `texts`.
fn expect_error(output: &Output, texts: &[&str]) {
    assert_eq!(output.code(), Some(1), "{output}");
    output.stderr_has(texts);
    let text = output.stderr_text();
    assert_eq!(text.matches("\nERROR: ").count() + usize::from(text.starts_with("ERROR: ")), 1, "{output}");
}

fn still_works(env: &TestEnv, context: &Context) {
    let tree = build_tree(env, context, &["--build-arg", "N=after"]);
    assert_eq!((tree.text("g"), tree.text("n")), ("content".to_owned(), "after\n".to_owned()));
    assert!(image_id(env, "busybox").starts_with("sha256:"));
}

#[test]
fn too_few_open_files_are_one_clear_error_at_any_limit() {
    let env = env();
    let context = context(&env);
    let mut failures = 0;
    // Fewer than that, and the program itself cannot be loaded.
    for limit in 8.. {
        let output = build_after(&env, &format!("ulimit -n {limit}"), &context, limit);
        if output.code() == Some(0) {
            break;
        }
        expect_error(&output, &["Too many open files", "cannot "]);
        failures += 1;
        assert!(limit < 500, "{output}");
    }
    assert!(failures > 3, "a build with 8 open files has worked");
    still_works(&env, &context);
}

#[test]
fn a_read_only_disk_is_one_clear_error() {
    if testkit::privilege::root().is_none() || testkit::judges::program("unshare").is_none() {
        return;
    }
    let env = env();
    let context = context(&env);
    let before = "if [ -z \"$ALONE\" ]; then export ALONE=1; exec unshare --mount /bin/sh -c 'mount --bind \"$ROOT\" \"$ROOT\" && mount -o remount,bind,ro \"$ROOT\" && exec \"$@\"' sh \"$@\"; fi";
    let output = build_after(&env, before, &context, 1);
    expect_error(&output, &["read-only", env.root().to_str().unwrap()]);
    still_works(&env, &context);
}

/// A disk of its own for a store, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// A `tmpfs` in the place of the store of `env`.
    fn tmpfs(env: &TestEnv, options: &str) -> Self {
        std::fs::create_dir(env.root()).unwrap();
        let kind = Some("tmpfs");
        nix::mount::mount(kind, &env.root(), kind, MsFlags::empty(), Some(options)).unwrap();
        Self(env.root())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, MntFlags::MNT_DETACH).expect("what was mounted can be unmounted");
    }
}

/// Builds in a store on a disk with `options`, of which `fill` wants too much, and again without that.
fn overfill(options: &str, before: &str, fill: impl FnOnce(&Context)) {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = TestEnv::new();
    let disk = Disk::tmpfs(&env, options);
    env.load(&testkit::images::busybox());
    let context = context(&env);
    fill(&context);
    let output = build_after(&env, before, &context, 1);
    expect_error(&output, &["disk is full", env.root().to_str().unwrap()]);
    context.dockerfile("FROM busybox\nCOPY f /g\nARG N\nRUN echo $N > /n\n");
    still_works(&env, &context);
    drop(disk);
}

#[test]
fn a_copy_that_does_not_fit_is_one_clear_error() {
    overfill("size=32m", "", |context| {
        context.file("big", vec![1; 60_000_000]).dockerfile("FROM busybox\nCOPY big /big\n");
    });
}

#[test]
fn more_files_than_the_disk_has_names_for_are_one_clear_error() {
    // A packed layer needs names for two files.
    overfill("size=64m,nr_inodes=1500", "export LAPSTRAKE_LAYER_FORM=dir", |context| {
        for number in 0..2000 {
            context.file(&format!("many/{number}"), "");
        }
        context.dockerfile("FROM busybox\nCOPY many /many\n");
    });
}

#[test]
fn an_image_that_does_not_fit_is_one_clear_error() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = TestEnv::new();
    let disk = Disk::tmpfs(&env, "size=8m");
    let layer = testkit::LayerTar::new().file("big", 0o644, vec![3; 20_000_000]).finish();
    // Its blob does not fit in one case, its files in the other.
    for layer in [testkit::Layer::tar(layer.clone()), testkit::Layer::gzip(&layer)] {
        let archive = env.work().join("big.tar");
        testkit::Image::new("big").layer(layer).write_archive(&archive);
        let loaded = env.lap(["load", "-i"]).arg(&archive).run();
        let output =
            if loaded.code() == Some(0) { env.lap(["run", "--rm", "big", "/big"]).run() } else { loaded };
        assert_ne!(output.code(), Some(0), "{output}");
        output.stderr_has(&["disk is full", env.root().to_str().unwrap()]);
        env.lap(["rmi", "big"]).run();
    }
    env.load(&testkit::images::busybox());
    env.lap(["run", "--rm", "busybox", "true"]).ok();
    drop(disk);
}

/// A layer of a hundred files of 100 KB, which hold little; of `changed` of them something else.
fn layer_of_files(changed: usize) -> testkit::Layer {
    let content = |number: usize| {
        let text = if number < changed { "changed" } else { "file" };
        format!("{text} {number} ").repeat(20_000).into_bytes()[..100_000].to_vec()
    };
    let file =
        |tar: testkit::LayerTar, number: usize| tar.file(&format!("f{number}"), 0o644, content(number));
    testkit::Layer::gzip(&(0..100).fold(testkit::LayerTar::new(), file).finish())
}

#[test]
fn a_layer_is_kept_as_it_came_where_there_is_no_room_to_share() {
    if testkit::privilege::root().is_none() {
        return;
    }
    // Two layers of 10 MB fit, and not the 4 MB that would be left of the second one beside them.
    for (room, shares) in [("size=23m", false), ("size=64m", true)] {
        let env = TestEnv::new();
        let disk = Disk::tmpfs(&env, room);
        for (name, changed) in [("one", 0), ("two", 40)] {
            let archive = env.work().join(name);
            testkit::Image::new(name).layer(layer_of_files(changed)).write_archive(&archive);
            env.lap(["--layer-form", "packed", "load", "-i"]).arg(&archive).ok();
        }
        let layers = env.root().join("snapshots-v1");
        let has = |file: &str| {
            let layers = std::fs::read_dir(&layers).unwrap().map(|layer| layer.unwrap().path());
            layers.filter(|layer| layer.join(file).exists()).count()
        };
        if has("index") == 0 {
            println!("skipped: this kernel mounts no packed layers");
            return;
        }
        assert_eq!((has("index"), has("pieces")), (2, usize::from(shares)), "{room}");
        assert_eq!(std::fs::read_dir(env.root().join("ingest")).unwrap().count(), 0, "{room}");
        env.lap(["store", "check"]).ok();
        drop(disk);
    }
}
