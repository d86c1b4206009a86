//! Contexts with what nobody expects there, and contexts that change while they are used: each has a clear result.

mod common;

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{build, build_fails, build_tree, env, steps_run};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use testkit::tree::Kind;
use testkit::{Context, OrdinaryUser, Output, Ranges, TestEnv};

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o644)).unwrap();
}

#[test]
fn sockets_are_left_out_and_pipes_and_devices_are_copied_as_such() {
    let env = env();
    let context = env.context();
    context.dir("d").file("d/f", "x").dockerfile("FROM scratch\nCOPY d /d\nCOPY d/pipe /pipe\n");
    let at = |name: &str| context.path().join("d").join(name);
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fifo(&at("pipe"));
    let has_device =
        mknod(&at("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o644), makedev(1, 3)).is_ok();
    let tree = build_tree(&env, &context, &[]);
    assert!(tree.get("d/socket").is_none() && tree.text("d/f") == "x");
    assert_eq!(
        (&tree.get("d/pipe").unwrap().kind, &tree.get("pipe").unwrap().kind),
        (&Kind::Fifo, &Kind::Fifo)
    );
    if has_device {
        assert_eq!(tree.get("d/null").unwrap().kind, Kind::CharDevice(1, 3));
    } else {
        eprintln!("no device: only root may make one");
    }
    assert!(steps_run(&build(&env, &context, &[])).is_empty(), "nothing of it changes a key");
    std::fs::remove_file(at("pipe")).unwrap();
    context.file("d/pipe", "");
    assert_eq!(steps_run(&build(&env, &context, &[])).len(), 2, "a file is no pipe");
}

#[test]
fn a_dockerfile_that_is_no_file_is_an_error_and_nobody_waits_for_it() {
    let env = env();
    for name in ["Dockerfile", ".dockerignore"] {
        let context = env.context();
        if name != "Dockerfile" {
            context.dockerfile("FROM busybox\n");
        }
        fifo(&context.path().join(name));
        build_fails(&env, &context, &[]).stderr_has(&[name, "is not a regular file"]);
        std::fs::remove_file(context.path().join(name)).unwrap();
        let _socket = UnixListener::bind(context.path().join(name)).unwrap();
        build_fails(&env, &context, &[]).stderr_has(&[name, "is not a regular file"]);
    }
    let context = env.context();
    context.dir("Dockerfile");
    build_fails(&env, &context, &[]).stderr_has(&["Dockerfile", "is not a regular file"]);
}

#[test]
fn what_an_ordinary_user_cannot_read_is_named_unless_it_is_ignored() {
    let Some(user) = OrdinaryUser::new(Ranges::None) else { return };
    let context = Context::create(&user.work());
    context.file("readable", "x").file("secret", "y").dir("closed").file("closed/f", "z");
    context.dockerfile("FROM scratch\nCOPY . /all/\n");
    context.mode("closed", 0o700);
    // Both are root's, whom this user is not.
    let build = || user.lap(["build", "--progress", "plain"]).arg(context.path());
    build().fails(1).stderr_has(&["closed", "ermission denied", "Dockerfile:2"]);
    context.mode("closed", 0o755).mode("secret", 0o600);
    build().fails(1).stderr_has(&["secret", "ermission denied", "Dockerfile:2"]);
    context.file(".dockerignore", "secret\n");
    build().ok();
    context.mode("closed", 0o700).file(".dockerignore", "secret\nclosed\n");
    build().ok();
    context.dockerfile("FROM scratch\nCOPY readable /\n").remove(".dockerignore");
    build().ok();
    context.mode("Dockerfile", 0o600);
    build().fails(1).stderr_has(&["Dockerfile", "ermission denied"]);
    user.lap(["store", "check"]).ok();
}

/// Builds what `steps` say, and changes the context when their keys are made and none of them has run.
fn build_and_change(env: &TestEnv, context: &Context, steps: &str, change: impl FnOnce()) -> Output {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The steps are on top of one that waits for us.
    context.dockerfile(&format!("FROM busybox\nRUN nc 127.0.0.1 {port} || true\n{steps}"));
    let building = env.lap(["build", "--progress", "plain", "-t", "changed"]).arg(context.path()).spawn();
    let mut step = common::visitor(&listener);
    change();
    step.write_all(b"go on\n").unwrap();
    drop((step, listener));
    building.finish()
}

#[test]
fn files_that_change_between_key_and_copy_are_named() {
    // Of one copy, what its key was made of is what it copies; of two, one of them looks again.
    for steps in ["COPY d /d\n", "COPY d /d\nCOPY alone /alone\nRUN cat /d/content /alone\n"] {
        let env = env();
        let context = env.context();
        context.file("d/content", "one").file("d/gone", "").file("d/mode", "").file("alone", "one");
        let output = build_and_change(&env, &context, steps, || {
            context.file("d/content", "two").file("d/new", "").remove("d/gone").mode("d/mode", 0o755);
            context.file("alone", "two");
        });
        assert_eq!(output.code(), Some(0), "{output}");
        let text = output.stderr_text();
        let warned: Vec<&str> = text.lines().filter(|line| line.contains("looking again")).collect();
        assert!(!warned.is_empty(), "{text}");
        for said in ["COPY d /d", "d/content changed", "d/gone removed", "and 1 more file;"] {
            assert!(warned.iter().any(|line| line.contains(said)), "{said} in {warned:?}");
        }
        // What was copied is what the result is saved for.
        let contents = env.lap(["run", "--rm", "changed", "cat", "/d/content"]).ok();
        assert_eq!(contents.stdout_text(), "two");
        env.lap(["run", "--rm", "changed", "ls", "/d"]).ok().stdout_has(&["content\nmode\nnew\n"]);
        if steps.contains("alone") {
            assert_eq!(env.lap(["run", "--rm", "changed", "cat", "/alone"]).ok().stdout_text(), "two");
        }
    }
}

#[test]
fn files_that_vanish_between_key_and_copy_are_missed_or_not_there() {
    let env = env();
    let context = env.context();
    context.file("d/stays", "").file("d/goes", "").file("named", "");
    let output = build_and_change(&env, &context, "COPY d /d\n", || {
        context.remove("d/goes");
    });
    assert_eq!(output.code(), Some(0), "{output}");
    output.stderr_has(&["d/goes removed", "looking again"]);
    assert_eq!(env.lap(["run", "--rm", "changed", "ls", "/d"]).ok().stdout_text(), "stays\n");

    let output = build_and_change(&env, &context, "COPY named /named\n", || {
        context.remove("named");
    });
    assert_eq!(output.code(), Some(1), "{output}");
    output.stderr_has(&["\"named\": not found in the build context", "Dockerfile:3"]);
    env.lap(["store", "check"]).ok();
}

#[test]
fn a_file_from_the_future_is_read_again_in_every_build() {
    let env = env();
    let context = env.context();
    let future = SystemTime::now() + Duration::from_secs(10 * 365 * 86_400);
    let write = |content: &str| {
        context.file("f", content);
        let file = std::fs::File::options().write(true).open(context.path().join("f")).unwrap();
        file.set_modified(future).unwrap();
    };
    context.dockerfile("FROM busybox\nCOPY f /f\n");
    write("one");
    assert_eq!(build_tree(&env, &context, &[]).text("f"), "one");
    assert!(steps_run(&build(&env, &context, &[])).is_empty());
    // The same size and the same time: only who reads it knows.
    write("two");
    assert_eq!(build_tree(&env, &context, &[]).text("f"), "two");
    let copied = std::fs::metadata(env.work().join("rootfs/f")).unwrap();
    let kept = u64::try_from(copied.mtime()).unwrap();
    assert!(kept >= SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), "{kept}");
    assert_eq!(copied.permissions().mode() & 0o777, 0o644);
}
