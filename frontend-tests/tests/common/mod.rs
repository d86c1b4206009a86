//! What the end-to-end tests share: an environment with a base image, and reading progress.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod containers;
pub(crate) mod daemon;
pub(crate) mod docker;
pub(crate) mod packed;
pub(crate) mod ports;
pub(crate) mod ssh;
pub(crate) mod terminal;

use std::path::{Path, PathBuf};

use testkit::{Context, Output, TestEnv, Tree};

/// An environment whose store has `busybox:latest`.
pub(crate) fn env() -> TestEnv {
    let env = TestEnv::new();
    env.load(&testkit::images::busybox());
    env
}

/// `lap build --progress plain ARGS CONTEXT`, which must succeed.
pub(crate) fn build(env: &TestEnv, context: &Context, args: &[&str]) -> Output {
    env.lap(["build", "--progress", "plain"]).args(args).arg(context.path()).ok()
}

/// The same, which must fail with exit code 1.
pub(crate) fn build_fails(env: &TestEnv, context: &Context, args: &[&str]) -> Output {
    env.lap(["build", "--progress", "plain"]).args(args).arg(context.path()).fails(1)
}

/// Builds, and gives the root filesystem.
pub(crate) fn build_tree(env: &TestEnv, context: &Context, args: &[&str]) -> Tree {
    let out = env.work().join("rootfs");
    if out.exists() {
        std::fs::remove_dir_all(&out).expect("an old result can be removed");
    }
    let output = format!("type=local,dest={}", out.display());
    build(env, context, &[args, &["--output", &output]].concat());
    Tree::of_dir(&out)
}

/// All files below a directory.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// How a step ended, from plain progress: `CACHED`, `DONE`, `ERROR` or `CANCELED`.
pub(crate) fn outcome(output: &Output, step: &str) -> String {
    let text = output.stderr_text();
    let header = text.lines().find(|line| line.starts_with('#') && line.contains(step));
    let number = header.and_then(|line| line.split(' ').next());
    let number = number.unwrap_or_else(|| panic!("no step {step:?} in\n{output}"));
    let ends = ["CACHED", "DONE", "ERROR", "CANCELED"];
    let of_step = text.lines().filter_map(|line| line.strip_prefix(number)?.strip_prefix(' '));
    let end = of_step.filter_map(|line| line.split([' ', ':']).next()).find(|word| ends.contains(word));
    end.unwrap_or_else(|| panic!("step {step:?} has no end in\n{output}")).to_owned()
}

/// The names of the Dockerfile's steps that ran rather than being cached, in the order of progress.
pub(crate) fn steps_run(output: &Output) -> Vec<String> {
    let text = output.stderr_text();
    let is_step = |line: &&str| {
        let name = line.split_once(' ').map_or("", |(_, name)| name);
        line.starts_with('#')
            && name.starts_with('[')
            && !name.starts_with("[internal]")
            && !name.contains("FROM ")
    };
    let mut names: Vec<String> =
        text.lines().filter(is_step).map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names.retain(|name| outcome(output, name) == "DONE");
    names
}

/// The standard output of a shell script in a container with some flags.
pub(crate) fn says(env: &TestEnv, flags: &[&str], script: &str) -> String {
    env.lap(["run", "--rm"]).args(flags).args(["busybox", "sh", "-c", script]).ok().stdout_text()
}

/// The id of an image.
pub(crate) fn image_id(env: &TestEnv, name: &str) -> String {
    env.lap(["image", "inspect", "--format", "{{.Id}}", name]).ok().stdout_text().trim().to_owned()
}

/// The names directly below a directory, sorted.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The next to come; a step that never does must not hold the tests for ever.
pub(crate) fn visitor(listener: &std::net::TcpListener) -> std::net::TcpStream {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let came = poll(&mut waiting, PollTimeout::try_from(60_000).unwrap()).unwrap();
    assert_eq!(came, 1, "no step came within a minute");
    listener.accept().unwrap().0
}
