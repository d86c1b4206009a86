//! `lap history`: every build is remembered with its complete log, whatever became of it.

mod common;

use common::{build, build_fails, env};
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::TestEnv;

fn builds(env: &TestEnv, format: &str) -> Vec<String> {
    env.lap(["history", "ls", "--format", format]).ok().stdout_text().lines().map(str::to_owned).collect()
}

#[test]
fn builds_are_listed_the_newest_first_with_how_they_ended() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo one\n");
    build(&env, &context, &[]);
    context.dockerfile("FROM busybox\nRUN exit 3\n");
    build_fails(&env, &context, &[]);
    context.dockerfile("NO\n");
    build_fails(&env, &context, &[]);
    assert_eq!(builds(&env, "{{.Status}}"), ["Error", "Error", "Completed"]);
    let table = env.lap(["history", "ls"]).ok().stdout_text();
    assert!(table.starts_with("BUILD ID") && table.contains("Completed"), "{table}");
    let failed = env.lap(["history", "inspect", &builds(&env, "{{.ID}}")[1]]).ok().stdout_text();
    assert!(failed.contains("exit code: 3") && failed.contains("failed"), "{failed}");
}

#[test]
fn the_log_is_printed_again_as_it_was() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo to-stdout; echo to-stderr >&2; printf '\\377\\n'\n");
    let output = build(&env, &context, &[]);
    let logs = env.lap(["history", "logs"]).ok().stdout_text();
    // What follows the log is the line with the times.
    assert!(output.stderr_text().starts_with(logs.trim_end()), "{output}\n--- logs\n{logs}");
    let cached = build(&env, &context, &[]);
    assert!(cached.stderr_text().starts_with(env.lap(["history", "logs"]).ok().stdout_text().trim_end()));
    let raw = env.lap(["history", "logs", "--progress", "rawjson", &builds(&env, "{{.ID}}")[1]]).ok();
    let documents: Vec<Value> =
        raw.stdout_text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(documents.iter().any(|document| document.get("logs").is_some()));
}

#[test]
fn a_build_without_a_record_is_in_no_history() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo one\n");
    build(&env, &context, &[]);
    context.dockerfile("FROM busybox\nRUN echo two\n");
    let metadata = context.path().join("metadata.json");
    let silent = build(&env, &context, &["--no-record", "--metadata-file", metadata.to_str().unwrap()]);
    assert!(!silent.stderr_text().contains("not cached"), "nothing is explained: {silent}");
    let metadata: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata.get("buildx.build.ref"), None);
    context.dockerfile("FROM busybox\nRUN exit 3\n");
    build_fails(&env, &context, &["--no-record"]);
    assert_eq!(builds(&env, "{{.Status}}"), ["Completed"]);
    let nothing = env.lap(["debug"]).fails(1);
    assert!(nothing.stderr_text().contains("no failed step"), "{nothing}");
    env.lap(["build", "--no-record", "--on-error", "shell", "."]).fails(2);
}

#[test]
fn the_log_has_what_was_clipped_on_the_screen() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN i=0; while [ $i -lt 3000 ]; do echo line-$i; i=$((i+1)); done\n");
    let shown = env
        .lap(["build", "--progress", "plain"])
        .env("BUILDKIT_STEP_LOG_MAX_SIZE", "1000")
        .arg(context.path())
        .ok();
    assert!(!shown.stderr_text().contains("line-2999"), "{shown}");
    let logs = env.lap(["history", "logs"]).ok().stdout_text();
    for line in ["line-0", "line-1500", "line-2999"] {
        assert!(logs.lines().any(|text| text.ends_with(line)), "{line}");
    }
}

#[test]
fn a_killed_build_is_remembered_with_the_log_so_far() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo first-step\nRUN echo second-''step; sleep 1000\n");
    let mut running = env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn();
    running.wait_for("second-step");
    assert_eq!(builds(&env, "{{.Status}}"), ["Running"]);
    let id = builds(&env, "{{.ID}}").remove(0);
    let refused = env.lap(["history", "rm", &id]).fails(1);
    assert!(refused.stderr_text().contains("is running"), "{refused}");
    running.signal(Signal::SIGKILL);
    running.finish();
    assert_eq!(builds(&env, "{{.Status}}"), ["Interrupted"]);
    let logs = env.lap(["history", "logs"]).ok().stdout_text();
    assert!(logs.contains("first-step"), "{logs}");
    assert!(env.lap(["why"]).ok().stdout_text().contains("has not ended"));
    env.lap(["history", "rm", &id]).ok();
    assert!(builds(&env, "{{.ID}}").is_empty());
}

#[test]
fn a_cancelled_build_is_remembered_as_one() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo wait''ing; sleep 1000\n");
    let mut running = env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn();
    running.wait_for("waiting");
    running.signal(Signal::SIGINT);
    running.finish();
    assert_eq!(builds(&env, "{{.Status}}"), ["Canceled"]);
}

#[test]
fn a_trace_shows_each_step_with_its_time() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox AS a\nRUN sleep 5\nFROM busybox AS b\nRUN true\nFROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n");
    let output = build(&env, &context, &[]);
    let line = output.stderr_text().lines().last().unwrap_or_default().to_owned();
    assert!(line.contains("[a 2/2] RUN sleep 5"), "the critical path is told: {line}");
    let path = env.work().join("trace.json");
    env.lap(["history", "inspect", "--trace"]).arg(&path).ok();
    let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let step = events.iter().find(|event| event["name"] == "[a 2/2] RUN sleep 5").unwrap();
    assert!(step["dur"].as_u64().unwrap() >= 5_000_000, "{step}");
    assert_eq!(step["ph"], "X");
    let again = build(&env, &context, &[]);
    let last = again.stderr_text().lines().last().unwrap_or_default().to_owned();
    assert!(last.contains("the cache saved "), "{last}");
}

#[test]
fn a_password_in_a_build_argument_is_not_remembered() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\n");
    build(&env, &context, &["--build-arg", "HTTP_PROXY=http://me:hunter2hunter2@proxy.invalid:3128"]);
    let inspected = env.lap(["history", "inspect", "--format", "json"]).ok().stdout_text();
    assert!(inspected.contains("proxy.invalid:3128") && !inspected.contains("hunter2"), "{inspected}");
    let kept = std::process::Command::new("grep").args(["-rl", "hunter2"]).arg(env.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "", "no file of the store holds it");
}

#[test]
fn unknown_and_ambiguous_builds_are_errors_and_images_keep_their_history() {
    let env = env();
    assert!(env.lap(["history", "logs"]).fails(1).stderr_text().contains("no build is remembered"));
    let unknown = env.lap(["history", "inspect", "abc"]).fails(1);
    assert!(unknown.stderr_text().contains("no build \"abc\" is remembered"), "{unknown}");
    let image = env.lap(["history", "busybox"]).ok().stdout_text();
    assert!(image.starts_with("IMAGE"), "{image}");
    env.lap(["history"]).fails(2);
}
