//! Failed steps together with what else can happen to a step: attempts, limits of time, other failures, and other programs.

mod common;

use std::path::Path;

use common::{build, build_fails, env, outcome, steps_run};
use frontend_tests::docker::Docker;
use testkit::TestEnv;

/// What a shell line says where the newest failed step failed.
fn says(env: &TestEnv, line: &str) -> String {
    env.lap(["debug", "--", "sh", "-c", line]).ok().stdout_text()
}

fn nothing_is_kept(env: &TestEnv) {
    env.lap(["debug", "diff"]).fails(1).stderr_has(&["no failed step is kept"]);
}

/// A step that counts its attempts in a cache mount and fails before `succeeds_at`.
fn attempts(succeeds_at: u32) -> String {
    format!(
        "FROM busybox\nRUN echo before > /before\nRUN --mount=type=cache,target=/tries echo x >> /tries/n; \
         wc -l < /tries/n > /attempt; [ $(cat /attempt) -ge {succeeds_at} ]\nRUN cat /attempt > /copy\n"
    )
}

#[test]
fn of_several_attempts_the_last_is_kept() {
    let env = env();
    let context = env.context();
    context.dockerfile(&attempts(100));
    build_fails(&env, &context, &["--retry", "2"]);
    assert_eq!(says(&env, "cat /attempt /before"), "3\nbefore\n");
    assert_eq!(env.lap(["debug", "diff"]).ok().stdout_text().lines().last(), Some("A /attempt"));
}

#[test]
fn a_step_that_succeeds_in_the_end_leaves_nothing_to_look_at() {
    let env = env();
    let context = env.context();
    context.dockerfile(&attempts(3));
    let tree = common::build_tree(&env, &context, &["--retry", "RUN --mount*=5"]);
    assert_eq!(tree.text("copy"), "3\n");
    nothing_is_kept(&env);
    assert_eq!(steps_run(&build(&env, &context, &[])), Vec::<String>::new());
}

#[test]
fn a_step_that_took_too_long_is_kept_and_goes_on_after_an_edit() {
    let env = env();
    let context = env.context();
    let with = |last: &str| {
        context.dockerfile(&format!("FROM busybox\nRUN echo one > /one\nRUN echo half > /half; {last}\n"));
    };
    with("echo first");
    build(&env, &context, &[]);
    // Only the last step is made with a limit, which is long enough for what comes before the wait.
    with("exec sleep 98761");
    for (flag, told) in [("--timeout", "did not end within"), ("--idle-timeout", "wrote nothing for")] {
        let output = build_fails(&env, &context, &[flag, "5s"]);
        output.stderr_has(&[told, "hint: lap debug"]);
        assert_eq!(says(&env, "cat /one /half"), "one\nhalf\n");
        env.lap(["history", "rm", "--all"]).ok();
    }
    with("true");
    let repaired = build(&env, &context, &["--timeout", "1h"]);
    assert_eq!(steps_run(&repaired), ["[3/3] RUN echo half > /half; true"]);
}

#[test]
fn of_all_failures_of_a_build_one_is_kept_and_all_can_be_mended() {
    let env = env();
    let context = env.context();
    let with = |one: &str, two: &str| {
        context.dockerfile(&format!(
            "FROM busybox AS one\nRUN echo half > /half; echo 1 > /one; {one}\nFROM busybox AS two\n\
             RUN echo half > /half; echo 2 > /two; {two}\nFROM busybox AS three\nRUN echo 3 > /three\n\
             FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\nCOPY --from=three /three /\n"
        ));
    };
    with("exit 1", "exit 2");
    let output = build_fails(&env, &context, &["--keep-going", "--retry", "1"]);
    assert_eq!(outcome(&output, "[three 2/2]"), "DONE");
    assert_eq!(output.stderr_text().matches("hint: lap debug").count(), 1, "{output}");
    assert_eq!(says(&env, "cat /half"), "half\n");
    with("true", "exit 2");
    let output = build_fails(&env, &context, &["--keep-going"]);
    assert_eq!(steps_run(&output).iter().filter(|step| step.contains("RUN")).count(), 1, "{output}");
    assert_eq!(says(&env, "cat /two"), "2\n");
    with("true", "true");
    let output = build(&env, &context, &[]);
    let ran: Vec<String> = steps_run(&output).into_iter().filter(|step| step.contains("RUN")).collect();
    assert_eq!(ran, ["[two 2/2] RUN echo half > /half; echo 2 > /two; true"]);
}

#[test]
fn what_is_kept_counts_as_used_space_until_it_goes() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\nRUN head -c 30000000 /dev/zero > /big; exit 1\n");
    let used = || -> u64 {
        let text = env.lap(["system", "df", "--format", "{{.Type}} {{.Bytes}}"]).ok().stdout_text();
        let total = text.lines().find_map(|line| line.strip_prefix("Build Cache "));
        total.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    };
    let before = used();
    build_fails(&env, &context, &[]);
    assert!(used() >= before + 30_000_000, "{} and then {}", before, used());
    env.lap(["store", "check"]).ok();
    env.lap(["history", "rm", "--all"]).ok();
    assert!(used() < before + 1_000_000, "{} and then {}", before, used());
    nothing_is_kept(&env);
}

#[test]
fn docker_loads_and_runs_an_exported_failure() {
    if testkit::judges::program("dockerd").is_none() {
        return;
    }
    let env = env();
    let context = env.context();
    context.file("seen", "from the context\n").dockerfile(
        "FROM busybox\nENV COLOUR=blue\nRUN mkdir /work && touch /work/gone\nWORKDIR /work\nUSER 7:8\nUSER 0\n\
         RUN --mount=target=/context rm gone; echo half > made; ln made again; chown 5:6 made; exit 3\n",
    );
    build_fails(&env, &context, &[]);
    let archive = env.work().join("failed.tar");
    env.lap(["debug", "export", "-o"]).arg(&archive).ok();
    let docker = Docker::start(Path::new("/")).unwrap_or_else(|reason| panic!("{reason}"));
    let loaded = docker.command().args(["load", "--input"]).arg(&archive).ok().stdout_text();
    let name = loaded.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(name.starts_with("failed-step:"), "{loaded}");
    let line = "pwd; echo $COLOUR; ls; stat -c '%u:%g %h' made; cat again /context/seen";
    let said = docker.command().args(["run", "--rm", "--network", "none", &name, "sh", "-c", line]).ok();
    assert_eq!(said.stdout_text(), "/work\nblue\nagain\nmade\n5:6 2\nhalf\nfrom the context\n");
}
