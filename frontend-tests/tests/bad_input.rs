//! What is wrong is said once, clearly, with what to do; and the store is as good as before.

mod common;

use common::{build, build_fails, env, image_id, names_in};
use nix::sys::signal::Signal;
use testkit::oci::Layer;
use testkit::{Image, LayerTar, TestEnv};

/// A build that works, to show that the store does.
fn still_works(env: &TestEnv) {
    let context = env.context();
    context.file("f", "x").dockerfile("FROM busybox\nCOPY f /f\nRUN cat /f\n");
    build(env, &context, &["-t", "works"]);
    assert!(names_in(&env.root().join("ingest")).is_empty(), "half-made content is left");
}

#[test]
fn dockerfile_mistakes_point_at_the_place() {
    let env = env();
    let cases: &[(&str, &[&str])] = &[
        ("FROM busybox\nRNU echo\n", &["Dockerfile:2:1", "unknown instruction", "RUN"]),
        ("RUN echo\n", &["Dockerfile:1:1", "FROM"]),
        ("", &["empty"]),
        ("FROM busybox\nSHELL [\"a\", ]\n", &["Dockerfile:2:1", "JSON array"]),
        ("FROM busybox\nCOPY --from=nosuch:5000/x/Y /a /b\n", &["Dockerfile:2"]),
        ("FROM busybox AS a\nCOPY --from=b /x /\nFROM a AS b\n", &["Dockerfile:2:13", "defined after"]),
        ("FROM busybox\nCOPY --frm=x a b\n", &["Dockerfile:2:6", "--from"]),
        (
            "FROM busybox\nRUN --mount=type=cahce,target=/c true\n",
            &["Dockerfile:2:", "mount type", "did you mean cache"],
        ),
        ("FROM busybox\nCOPY <<EOF /x\nnever ends\n", &["EOF"]),
    ];
    for (text, said) in cases {
        let context = env.context();
        context.dockerfile(text);
        build_fails(&env, &context, &[]).stderr_has(said);
    }
    still_works(&env);
}

#[test]
fn a_cycle_through_from_is_named_with_its_place() {
    let env = env();
    let later = "is defined after the stage that";
    let cases: &[(&str, &[&str])] = &[
        ("FROM busybox AS a\nCOPY --from=a /x /\n", &["Dockerfile:2:13", "circular dependency", "--from=a"]),
        ("FROM busybox\nCOPY --from=0 /x /\n", &["Dockerfile:2:13", "circular dependency", "--from=0"]),
        (
            "FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /x /\n",
            &["Dockerfile:2:13", "stage \"b\"", later, "break the cycle"],
        ),
        (
            "FROM busybox AS a\nCOPY --from=c /x /\nFROM a AS b\nFROM busybox AS c\nCOPY --from=b /x /\n",
            &["Dockerfile:2:13", "stage \"c\"", later],
        ),
        (
            "FROM busybox AS a\nRUN --mount=from=b,target=/b true\nFROM a AS b\n",
            &["Dockerfile:2", "stage \"b\"", later],
        ),
        ("FROM busybox\nCOPY --from=1 /x /\nFROM busybox\nCOPY --from=0 /x /\n", &["Dockerfile:2:13", later]),
    ];
    for (text, said) in cases {
        let context = env.context();
        context.dockerfile(text);
        build_fails(&env, &context, &[]).stderr_has(said);
    }
    // Long cycles take no longer than they are.
    let stage =
        |number: usize| format!("FROM scratch AS s{number}\nCOPY --from=s{} /x /\n", (number + 1) % 20_000);
    let context = env.context();
    context.dockerfile(&(0..20_000).map(stage).collect::<String>());
    build_fails(&env, &context, &[]).stderr_has(&["Dockerfile:2:13", "stage \"s1\"", later]);
    still_works(&env);
}

#[test]
fn unknown_target_is_named() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox AS build\n");
    build_fails(&env, &context, &["--target", "biuld"]).stderr_has(&["biuld", "build"]);
}

#[test]
fn missing_sources_are_named_with_their_reason() {
    let env = env();
    let context = env.context();
    context.file("real.txt", "").file("secret.key", "").file(".dockerignore", "*.key\n");
    context.dockerfile("FROM busybox\nCOPY raal.txt /\n");
    build_fails(&env, &context, &[]).stderr_has(&["raal.txt", "not found", "real.txt", "Dockerfile:2"]);
    context.dockerfile("FROM busybox\nCOPY secret.key /\n");
    build_fails(&env, &context, &[]).stderr_has(&["secret.key", "not found", ".dockerignore"]);
    context.dockerfile("FROM busybox\nCOPY --from=busybox /nope /\n");
    build_fails(&env, &context, &[]).stderr_has(&["/nope", "not found"]);
    still_works(&env);
}

#[test]
fn nothing_outside_the_context_can_be_copied() {
    let env = env();
    let outside = env.work().join("outside.txt");
    std::fs::write(&outside, "secret").unwrap();
    let context = env.context();
    context.symlink("link", outside.to_str().unwrap()).symlink("up", "../work/outside.txt").dir("sub");
    for source in ["../work/outside.txt", "sub/../../work/outside.txt", "link", "up"] {
        context.dockerfile(&format!("FROM scratch\nCOPY {source} /x\n"));
        let output = build_fails(&env, &context, &[]);
        output.stderr_has(&["not found"]);
        assert!(!output.stderr_text().contains("secret"));
    }
}

#[test]
fn a_failing_command_shows_step_line_and_last_output() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\n\nRUN echo before; \\\n    echo the reason >&2; exit 7\nRUN never\n");
    let output = build_fails(&env, &context, &["-t", "never"]);
    output.stderr_has(&["exit code: 7", "[2/3] RUN echo before", "the reason", "Dockerfile:3", "exit 7"]);
    env.lap(["image", "inspect", "never"]).fails(1);
    still_works(&env);
}

#[test]
fn registries_that_fail_are_named() {
    let env = env();
    let context = env.context();
    let refused = testkit::registry::FaultyRegistry::refused_address();
    context.dockerfile(&format!("FROM {refused}/x:1\nRUN true\n"));
    build_fails(&env, &context, &[]).stderr_has(&[&refused, "Dockerfile:1"]);
    env.lap(["pull", &format!("{refused}/x:1")]).fails(1).stderr_has(&[&refused]);
    let registry = testkit::registry::FaultyRegistry::start();
    env.lap(["pull", &registry.reference("no/such:1")]).fails(1).stderr_has(&["no/such"]);
    still_works(&env);
}

#[test]
fn a_blob_that_is_not_its_digest_is_refused() {
    let env = env();
    let tar = LayerTar::new().file("f", 0o644, "x").finish();
    let lying = Layer::tar(tar.clone()).claiming(base::Digest::of(b"other"), tar.len() as u64);
    let archive = env.work().join("lying.tar");
    Image::new("lying:1").layer(lying).write_archive(&archive);
    env.lap(["load", "-i"]).arg(&archive).fails(1).stderr_has(&["sha256:"]);
    env.lap(["image", "inspect", "lying:1"]).fails(1);
    still_works(&env);
}

#[test]
fn a_truncated_archive_is_refused() {
    let env = env();
    let archive = env.work().join("cut.tar");
    testkit::images::busybox_as("cut:1").write_archive(&archive);
    let whole = std::fs::read(&archive).unwrap();
    for part in [2, 3, 10] {
        std::fs::write(&archive, &whole[..whole.len() - whole.len() / part]).unwrap();
        env.lap(["load", "-i"]).arg(&archive).fails(1).stderr_has(&["cut.tar"]);
    }
    env.lap(["load", "-i"]).arg(env.work().join("absent.tar")).fails(1).stderr_has(&["absent.tar"]);
    env.lap(["image", "inspect", "cut:1"]).fails(1);
    still_works(&env);
}

#[test]
fn layers_cannot_leave_their_root() {
    let env = env();
    let outside = env.work().join("escaped");
    let up = "../".repeat(20);
    let target = outside.to_str().unwrap();
    let tars = [
        LayerTar::new().file(&format!("{up}{}", &target[1..]), 0o644, "x").finish(),
        LayerTar::new().file(target, 0o644, "x").finish(),
        LayerTar::new()
            .symlink("door", env.work().to_str().unwrap())
            .file("door/escaped", 0o644, "x")
            .finish(),
    ];
    for (index, tar) in tars.into_iter().enumerate() {
        let archive = env.work().join("hostile.tar");
        Image::new(&format!("hostile:{index}")).layer(Layer::tar(tar)).write_archive(&archive);
        // Either the entry is refused by name, or it lands inside the root; never outside.
        let output = env.lap(["load", "-i"]).arg(&archive).run();
        assert!(!outside.exists(), "entry {index} left the root\n{output}");
        assert!(matches!(output.code(), Some(0 | 1)), "{output}");
        if index == 0 {
            assert_eq!(output.code(), Some(1), "{output}");
            output.stderr_has(&[".."]);
        }
    }
    still_works(&env);
}

#[test]
fn interrupting_a_step_ends_it_and_leaves_nothing() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo started; sleep 1000\n");
    let mut running = env.lap(["build", "--progress", "plain", "-t", "x"]).arg(context.path()).spawn();
    running.wait_for("started\n");
    running.signal(Signal::SIGINT);
    let output = running.finish();
    assert_eq!(output.code(), Some(130), "{output}");
    env.lap(["image", "inspect", "x"]).fails(1);
    still_works(&env);
}

#[test]
fn killing_a_build_leaves_a_store_that_works() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo first > /f\nRUN echo started; sleep 1000\n");
    let mut running = env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn();
    running.wait_for("started\n");
    running.signal(Signal::SIGKILL);
    running.finish();
    let before = image_id(&env, "busybox");
    still_works(&env);
    assert_eq!(image_id(&env, "busybox"), before);
}

#[test]
fn a_full_disk_is_named_and_survived() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = env();
    let small = env.work().join("small");
    std::fs::create_dir(&small).unwrap();
    let mount = SmallDisk::mount(&small);
    let archive = env.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    let lap = |args: &[&str]| env.lap(["--root"]).arg(small.join("store")).args(args);
    lap(&["load", "-i", archive.to_str().unwrap()]).ok();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN head -c 100000000 /dev/zero > /big\n");
    let path = context.path().to_str().unwrap().to_owned();
    lap(&["build", "--progress", "plain", &path]).fails(1).stderr_has(&["is full", small.to_str().unwrap()]);
    context.file("big", vec![1; 60_000_000]).dockerfile("FROM busybox\nCOPY big /big\n");
    lap(&["build", "--progress", "plain", &path]).fails(1).stderr_has(&["big"]);
    context.remove("big").dockerfile("FROM busybox\nRUN echo fits > /small\n");
    lap(&["build", "--progress", "plain", &path]).ok();
    drop(mount);
}

/// A tmpfs of 32 MiB, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: &std::path::Path) -> Self {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("small"), path, Some("tmpfs"), flags, Some("size=32m"))
            .expect("root may mount");
        Self(path.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
