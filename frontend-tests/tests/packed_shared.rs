//! Containers of one image share the packed layers that they have mounted: memory holds what was read of them once.

mod common;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use common::files_below;
use common::packed::{filesystems, supervisor};
use testkit::TestEnv;

/// How layers are mounted whose mounts can be copied.
const MOUNT: [&str; 2] = ["--layer-mount", "file"];

/// An environment whose `busybox` is packed, or `None`, with a note, where the kernel cannot mount that.
fn packing() -> Option<TestEnv> {
    testkit::privilege::root()?;
    let env = TestEnv::new();
    let archive = env.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    let loaded = env.lap(MOUNT).args(["--layer-form", "packed", "load", "-i"]).arg(&archive).ok();
    if loaded.stderr_text().contains("layers are unpacked") {
        println!("skipped: {}", loaded.stderr_text());
        return None;
    }
    Some(env)
}

/// Starts a container that reads a file of its image and goes on.
fn start(env: &TestEnv, name: &str) {
    env.lap(MOUNT)
        .args([
            "run",
            "-d",
            "--name",
            name,
            "busybox",
            "sh",
            "-c",
            "cat /bin/busybox > /dev/null; sleep 1000",
        ])
        .ok();
}

fn lists_files(env: &TestEnv, name: &str) {
    assert_eq!(env.lap(["exec", name, "ls", "-d", "/bin/sh"]).ok().stdout_text(), "/bin/sh\n");
}

fn end(env: &TestEnv, name: &str) {
    env.lap(["rm", "-f", name]).ok();
}

/// Who has the layers of the store mounted, as it says.
fn lists(env: &TestEnv) -> Vec<PathBuf> {
    let files = files_below(&env.root().join("snapshots-v1"));
    files.into_iter().filter(|path| path.file_name().is_some_and(|name| name == "users")).collect()
}

#[test]
fn containers_of_one_image_have_one_filesystem_whoever_of_them_ends() {
    let Some(env) = packing() else { return };
    start(&env, "one");
    start(&env, "two");
    let shared = filesystems(&env, "one");
    assert_eq!(filesystems(&env, "two"), shared);
    end(&env, "one");
    lists_files(&env, "two");
    start(&env, "three");
    assert_eq!(filesystems(&env, "three"), shared);
    // Nothing but its descriptors tells that its supervisor is gone.
    let killed = supervisor(&env, "three");
    nix::sys::signal::kill(killed, nix::sys::signal::Signal::SIGKILL).unwrap();
    start(&env, "four");
    assert_eq!(filesystems(&env, "four"), shared);
    for name in ["two", "three", "four"] {
        end(&env, name);
    }
    start(&env, "five");
    lists_files(&env, "five");
    end(&env, "five");
    env.lap(["store", "check"]).ok();
    env.lap(["rmi", "busybox"]).ok();
    assert!(lists(&env).is_empty());
}

#[test]
fn layers_of_other_images_have_their_own() {
    let Some(env) = packing() else { return };
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo other > /other\n");
    env.lap(MOUNT).args(["build", "-t", "dir"]).arg(context.path()).ok();
    env.lap(["save", "-o", "other.tar", "dir"]).ok();
    env.lap(["rmi", "dir"]).ok();
    env.lap(["system", "prune", "-f"]).ok();
    env.lap(MOUNT).args(["--layer-form", "packed", "load", "-i", "other.tar"]).ok();
    start(&env, "one");
    env.lap(MOUNT).args(["run", "-d", "--name", "other", "dir", "sleep", "1000"]).ok();
    let (one, other) = (filesystems(&env, "one"), filesystems(&env, "other"));
    assert!(one.is_subset(&other) && other.len() == 2, "{one:?} {other:?}");
    for name in ["one", "other"] {
        end(&env, name);
    }
}

#[test]
fn what_is_not_the_layer_is_not_taken_for_it() {
    let Some(env) = packing() else { return };
    start(&env, "one");
    let [list] = &lists(&env)[..] else { panic!("one layer") };
    let line = std::fs::read_to_string(list).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    // The process is gone, and its number and that of its descriptor are those of something else.
    let other = File::open(env.work()).unwrap();
    let (pid, descriptor) = (std::process::id().to_string(), other.as_raw_fd().to_string());
    let wrong = [words[0], &pid, &descriptor, words[3], words[4], words[5]].join(" ");
    for content in [wrong.as_bytes(), b"nonsense\n", &[0; 100_000], b""] {
        std::fs::write(list, content).unwrap();
        start(&env, "two");
        lists_files(&env, "two");
        assert_ne!(filesystems(&env, "two"), filesystems(&env, "one"));
        end(&env, "two");
    }
    // A list that cannot be read or written is none.
    std::fs::remove_file(list).unwrap();
    std::fs::create_dir(list).unwrap();
    start(&env, "two");
    lists_files(&env, "two");
    for name in ["one", "two"] {
        end(&env, name);
    }
}
