//! `lap why`: each reason for which a step can run again is named, beside the step while it runs and afterwards.

mod common;

use common::{build, env};
use serde_json::Value;
use testkit::{Context, Output, TestEnv};

const STEPS: &str = "FROM busybox AS build\nARG VERSION=1\nCOPY package.json src /app/\nRUN cat /app/* > /out; echo $VERSION\n\
                     FROM busybox\nCOPY --from=build /out /out\n";

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.file("package.json", "{}").file("src/a", "a").file("src/b", "b").dockerfile(STEPS);
    context
}

/// The reason that progress gave for a step.
fn reason(output: &Output, step: &str) -> String {
    let text = output.stderr_text();
    let header = text.lines().find(|line| line.starts_with('#') && line.contains(step));
    let number =
        header.and_then(|line| line.split(' ').next()).unwrap_or_else(|| panic!("no {step}\n{output}"));
    let told = text.lines().find_map(|line| line.strip_prefix(number)?.strip_prefix(" not cached: "));
    told.unwrap_or_else(|| panic!("no reason for {step}\n{output}")).to_owned()
}

fn why(env: &TestEnv, args: &[&str]) -> String {
    env.lap(["why"]).args(args).ok().stdout_text()
}

#[test]
fn the_first_build_needs_no_reasons() {
    let env = env();
    let output = build(&env, &context(&env), &[]);
    assert!(!output.stderr_text().contains("not cached"), "{output}");
    assert!(why(&env, &["RUN"]).contains("never built here"));
}

#[test]
fn changed_files_are_named_with_what_about_them() {
    let env = env();
    let context = context(&env);
    build(&env, &context, &[]);
    context.file("src/a", "other").mode("src/b", 0o755).file("src/new", "").remove("package.json");
    context.file("package.json", "{ }");
    let again = build(&env, &context, &[]);
    let expected = "package.json changed, src/a changed, src/b mode 0644 -> 0755 and 1 more file";
    assert_eq!(reason(&again, "COPY package.json src"), expected);
    assert_eq!(reason(&again, "RUN cat"), expected, "the root of the chain");
    let told = why(&env, &["RUN cat"]);
    assert!(told.contains("the result of [build 2/3] COPY package.json src /app/ is another"), "{told}");
    assert!(told.contains(expected), "{told}");

    context.remove("src/new").file("src/a", "a").mode("src/b", 0o644).file("package.json", "{}");
    let back = build(&env, &context, &[]);
    assert!(!back.stderr_text().contains("not cached"), "what was there once is found\n{back}");
    assert!(why(&env, &[]).contains("every step was cached"));
}

#[test]
fn what_is_copied_from_another_stage_is_named_by_its_paths() {
    let env = env();
    let context = context(&env);
    build(&env, &context, &[]);
    context.file("src/a", "other");
    build(&env, &context, &[]);
    let told = why(&env, &["COPY --from"]);
    assert!(
        told.contains("[build 3/3] RUN cat /app/* > /out; echo 1 has other files: out changed"),
        "{told}"
    );
}

#[test]
fn each_part_of_an_instruction_has_its_name() {
    let env = env();
    let context = context(&env);
    let cases: [(&str, &str, &[&str], &str); 7] = [
        ("RUN echo a", "RUN echo b", &[], "command changed from \"echo a\" to \"echo b\""),
        ("ENV A=1\nRUN echo 2", "ENV A=2\nRUN echo 2", &[], "env A changed from \"1\" to \"2\""),
        (
            "ARG V=1\nRUN echo 3",
            "ARG V=1\nRUN echo 3",
            &["--build-arg", "V=2"],
            "build argument V changed from \"1\" to \"2\"",
        ),
        ("RUN echo 4", "WORKDIR /\nUSER 1\nRUN echo 4", &[], "user changed from \"\" to \"1\""),
        (
            "RUN echo 5",
            "RUN --mount=type=tmpfs,target=/t echo 5",
            &[],
            "mount /t is new: \"type=tmpfs,size=None\"",
        ),
        ("RUN --network=none echo 6", "RUN echo 6", &[], "network is gone: \"none\""),
        ("COPY src /x", "COPY --chown=1 src /x", &[], "--chown is new: \"1\""),
    ];
    for (before, now, args, expected) in cases {
        env.lap(["history", "rm", "--all"]).ok();
        context.dockerfile(&format!("FROM busybox\n{before}\n"));
        build(&env, &context, &[]);
        context.dockerfile(&format!("FROM busybox\n{now}\n"));
        let last = now.lines().last().unwrap_or_default();
        let again = build(&env, &context, args);
        assert_eq!(reason(&again, last.split(' ').next().unwrap_or(last)), expected, "{now}");
    }
}

#[test]
fn a_secret_is_named_and_its_value_is_nowhere() {
    let env = env();
    let context = context(&env);
    context.dockerfile("FROM busybox\nRUN true\n").file("token", "hunter2hunter2");
    build(&env, &context, &[]);
    context.dockerfile("FROM busybox\nRUN --mount=type=secret,id=token true\n");
    let secret = format!("id=token,src={}", context.path().join("token").display());
    let again = build(&env, &context, &["--secret", &secret]);
    assert!(reason(&again, "RUN").starts_with("mount /run/secrets/token is new"), "{again}");
    let kept = std::process::Command::new("grep").args(["-rl", "hunter2"]).arg(env.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "", "no file of the store holds the secret");
}

#[test]
fn the_cache_that_was_not_asked_is_a_reason() {
    let env = env();
    let context = context(&env);
    build(&env, &context, &[]);
    let again = build(&env, &context, &["--no-cache"]);
    assert_eq!(reason(&again, "COPY package.json"), "the cache was not to be used");
    let filtered = build(&env, &context, &["--no-cache-filter", "build"]);
    assert_eq!(reason(&filtered, "RUN cat"), "the cache was not to be used");
}

#[test]
fn a_result_that_was_removed_is_a_reason_with_its_time() {
    let env = env();
    let context = context(&env);
    build(&env, &context, &[]);
    env.lap(["builder", "prune", "-af"]).ok();
    let again = build(&env, &context, &[]);
    let told = reason(&again, "COPY package.json");
    assert!(told.starts_with("its result was removed at 20"), "{told}");
}

#[test]
fn a_tag_that_moved_is_told_with_both_digests() {
    let env = TestEnv::new();
    env.load(&testkit::images::busybox());
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\n");
    build(&env, &context, &[]);
    let other = env.context();
    other.dockerfile("FROM busybox\nRUN touch /moved\n");
    build(&env, &other, &["-t", "busybox"]);
    let again = build(&env, &context, &[]);
    let told = reason(&again, "RUN true");
    assert!(told.starts_with("[1/2] FROM docker.io/library/busybox"), "{told}");
    assert_eq!(told.matches("@sha256:").count(), 3, "{told}");
}

#[test]
fn an_inserted_step_is_new_and_what_follows_points_at_it() {
    let env = env();
    let context = context(&env);
    context.dockerfile("FROM busybox\nRUN echo a\nRUN echo c\n");
    build(&env, &context, &[]);
    context.dockerfile("FROM busybox\nRUN echo a\nRUN touch /b\nRUN echo c\n");
    let again = build(&env, &context, &[]);
    assert_eq!(reason(&again, "RUN touch /b"), "never built here");
    assert_eq!(reason(&again, "RUN echo c"), "[3/4] RUN touch /b: never built here");
}

#[test]
fn a_step_that_failed_runs_again_for_that() {
    let env = env();
    let context = context(&env);
    context.dockerfile("FROM busybox\nRUN false\nRUN echo after\n");
    common::build_fails(&env, &context, &[]);
    let output = common::build_fails(&env, &context, &[]);
    assert_eq!(reason(&output, "RUN false"), "it had no result the last time");
    assert!(why(&env, &["echo after"]).contains("was not reached"));
}

#[test]
fn the_same_is_told_to_programs() {
    let env = env();
    let context = context(&env);
    build(&env, &context, &[]);
    context.file("src/a", "other");
    let output = env.lap(["build", "--progress", "rawjson"]).arg(context.path()).ok();
    let reasons: Vec<Value> = output
        .stderr_text()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("reasons").cloned())
        .collect();
    assert_eq!(reasons.len(), 3, "{output}");
    assert_eq!(reasons[0][0]["reason"], "src/a changed");

    let told: Value = serde_json::from_str(&why(&env, &["--format", "json", "2/3"])).unwrap();
    assert_eq!(told["Steps"][0]["Outcome"], "done");
    assert_eq!(told["Steps"][0]["Details"][0]["changes"][0]["path"], "src/a");
    assert_eq!(told["Steps"][0]["Details"][0]["changes"][0]["what"], "content");
}

#[test]
fn an_older_build_can_be_asked_for_and_an_unknown_one_is_an_error() {
    let env = env();
    let context = context(&env);
    build(&env, &context, &[]);
    context.file("src/a", "other");
    build(&env, &context, &[]);
    let ids = env.lap(["history", "ls", "--format", "{{.ID}}"]).ok().stdout_text();
    let [newest, oldest] = ids.lines().collect::<Vec<_>>()[..] else { panic!("{ids}") };
    assert!(why(&env, &["--build", newest, "RUN cat"]).contains("src/a changed"));
    assert!(why(&env, &["--build", &oldest[..8], "RUN cat"]).contains("never built here"));
    let unknown = env.lap(["why", "--build", "zzzz"]).fails(1);
    assert!(unknown.stderr_text().contains("no build \"zzzz\" is remembered"), "{unknown}");
    let no_step = env.lap(["why", "RUN nothing"]).run();
    assert!(no_step.stderr_text().contains("has no step \"RUN nothing\""), "{no_step}");
}
