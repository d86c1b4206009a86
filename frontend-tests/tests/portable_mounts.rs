//! `--cache-mounts`: what `RUN --mount=type=cache` leaves on one builder is there on another.

mod common;

use std::path::Path;

use common::{build, env, files_below};
use testkit::{DockerRegistry, Output, TestEnv};

/// Shows what is in the cache mount, and adds a line. `N` makes it a step of its own.
const DOCKERFILE: &str = "FROM busybox\nARG N\n\
    RUN --mount=type=cache,target=/c,uid=7,mode=0750 echo was: $(stat -c %u:%a /c) $(cat /c/log) && echo $N >> /c/log\n";

/// Leaves 24 MiB that do not repeat, and adds a small file in front of them.
const LARGE: &str = "FROM busybox\nARG N\n\
    RUN --mount=type=cache,target=/c test -f /c/large || { i=0; while [ $i -lt 700000 ]; do echo $i-$((i*7919%99991)); i=$((i+1)); done | gzip -1 > /c/l; \
    cat /c/l /c/l /c/l > /c/large; rm /c/l; }; echo $N > /c/a\n";

struct Team {
    place: String,
    directory: String,
}

impl Team {
    fn in_directory(path: &Path) -> Self {
        let path = path.display();
        Self { place: format!("type=records,src={path}"), directory: format!("type=records,dest={path}") }
    }

    /// Builds with cache mounts in `scopes`.
    fn build(&self, env: &TestEnv, dockerfile: &str, number: &str, scopes: &str) -> Output {
        let context = env.context();
        context.dockerfile(dockerfile);
        let (mounts, number) = (format!("--cache-mounts={scopes}"), format!("N={number}"));
        let flags = ["--cache-from", &self.place, "--cache-to", &self.directory, &mounts];
        build(env, &context, &[&flags[..], &["--build-arg", &number]].concat())
    }
}

/// One builder leaves something, the next one goes on with it, and keeps its own from then on.
fn travels(team: &Team) {
    let (first, second) = (env(), env());
    team.build(&first, DOCKERFILE, "one", "main").stderr_has(&["was: 7:750\n", "exporting cache mounts"]);
    let found = team.build(&second, DOCKERFILE, "two", "main");
    found.stderr_has(&["was: 7:750 one\n", "importing cache mount /c (main) from"]);
    team.build(&first, DOCKERFILE, "three", "main").stderr_has(&["was: 7:750 one\n"]);
    team.build(&second, DOCKERFILE, "four", "main").stderr_has(&["was: 7:750 one two\n"]);
    // The newest one stays.
    team.build(&env(), DOCKERFILE, "five", "main").stderr_has(&["was: 7:750 one two four\n"]);
}

#[test]
fn cache_mounts_travel_through_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    travels(&Team::in_directory(&directory.path().join("not/there/yet")));
}

#[test]
fn cache_mounts_travel_through_a_repository() {
    let Some(registry) = DockerRegistry::start() else { return };
    let place = format!("type=records,ref={}", registry.reference("team/cache"));
    travels(&Team { place: place.clone(), directory: place });
}

#[test]
fn a_branch_begins_with_what_main_has_and_leaves_it_alone() {
    let directory = tempfile::tempdir().unwrap();
    let team = Team::in_directory(directory.path());
    team.build(&env(), DOCKERFILE, "one", "main");
    team.build(&env(), DOCKERFILE, "two", "branch,main").stderr_has(&["was: 7:750 one\n"]);
    team.build(&env(), DOCKERFILE, "three", "branch,main").stderr_has(&["was: 7:750 one two\n"]);
    team.build(&env(), DOCKERFILE, "four", "other,main").stderr_has(&["was: 7:750 one\n"]);
    team.build(&env(), DOCKERFILE, "five", "elsewhere").stderr_has(&["was: 7:750\n"]);
}

#[test]
fn only_what_has_changed_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let team = Team::in_directory(directory.path());
    let first = env();
    team.build(&first, LARGE, "one", "main");
    let size = || -> u64 {
        files_below(&directory.path().join("blobs")).iter().map(|file| file.metadata().unwrap().len()).sum()
    };
    let before = size();
    assert!(before > 5 << 20, "{before} bytes are not enough to say anything");
    team.build(&env(), LARGE, "two", "main");
    let added = size() - before;
    assert!(added < before / 3, "{added} bytes were added to {before}");
}

#[test]
fn a_damaged_cache_mount_is_an_empty_one_and_is_healed() {
    for damage in ["gone", "damaged"] {
        let directory = tempfile::tempdir().unwrap();
        let team = Team::in_directory(directory.path());
        team.build(&env(), DOCKERFILE, "one", "main");
        for blob in files_below(&directory.path().join("blobs")) {
            if damage == "gone" { std::fs::remove_file(blob) } else { std::fs::write(blob, "damaged") }
                .unwrap();
        }
        let alone = team.build(&env(), DOCKERFILE, "two", "main");
        alone.stderr_has(&["was: 7:750\n"]);
        team.build(&env(), DOCKERFILE, "three", "main").stderr_has(&["was: 7:750 two\n"]);
    }
}

#[test]
fn nobody_but_those_who_are_trusted_fills_a_cache_mount() {
    let directory = tempfile::tempdir().unwrap();
    let team = Team::in_directory(directory.path());
    let work = env();
    work.lap(["key", "generate"]).arg(work.work().join("main")).ok();
    let policy = work.work().join("policy.toml");
    std::fs::write(&policy, "[[rule]]\nsigners = [\"main.pub\"]\n").unwrap();
    let key = work.work().join("main");
    let reads = |number: &str| {
        let reader = env();
        let context = reader.context();
        context.dockerfile(DOCKERFILE);
        let number = format!("N={number}");
        let flags = ["--cache-from", &team.place, "--cache-mounts", "--build-arg", &number, "--cache-policy"];
        build(&reader, &context, &[&flags[..], &[&policy.display().to_string()]].concat())
    };
    let signed = |number: &str| {
        let context = work.context();
        context.dockerfile(DOCKERFILE);
        let (number, key) = (format!("N={number}"), key.display().to_string());
        let flags =
            ["--cache-to", &team.directory, "--cache-mounts", "--build-arg", &number, "--cache-key", &key];
        build(&work, &context, &flags);
    };
    signed("one");
    reads("two").stderr_has(&["was: 7:750 one\n"]);
    team.build(&env(), DOCKERFILE, "poison", "main");
    reads("three").stderr_has(&["was: 7:750\n", "is not trusted: it is not signed"]);
    signed("four");
    reads("five").stderr_has(&["was: 7:750 one four\n"]);
}

#[test]
fn without_the_flag_nothing_travels() {
    let directory = tempfile::tempdir().unwrap();
    let team = Team::in_directory(directory.path());
    let (first, second) = (env(), env());
    team.build(&first, DOCKERFILE, "one", "main");
    let context = second.context();
    context.dockerfile(DOCKERFILE);
    let plain = build(&second, &context, &["--cache-from", &team.place, "--build-arg", "N=two"]);
    plain.stderr_has(&["was: 7:750\n"]);
    let lonely = second.lap(["build", "--cache-mounts", "."]).fails(2);
    lonely.stderr_has(&["--cache-mounts needs --cache-from or --cache-to"]);
}
