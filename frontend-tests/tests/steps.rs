//! How steps are run: going on after failures, limits of time, trying again, and what each has used.

mod common;

use base::Timestamp;
use common::{build, build_fails, env, outcome, steps_run};
use serde_json::Value;
use testkit::TestEnv;

/// The steps of the last build, by `lap history inspect`.
fn steps(env: &TestEnv) -> Vec<Value> {
    let text = env.lap(["history", "inspect", "--format", "{{json .Steps}}"]).ok().stdout_text();
    serde_json::from_str(&text).unwrap()
}

fn usage(env: &TestEnv, step: &str) -> Value {
    let found = steps(env).into_iter().find(|found| found["Name"].as_str().unwrap().contains(step));
    found.unwrap_or_else(|| panic!("no step {step}"))["Usage"].clone()
}

const FORK: &str = "FROM busybox AS base\n\
    FROM base AS bad\nRUN echo broken; exit 3\n\
    FROM base AS good\nRUN echo fine > /good\nRUN echo more > /more\n\
    FROM base AS worse\nRUN echo worse; exit 4\n\
    FROM base\nCOPY --from=good /good /\nCOPY --from=bad /bad /\nCOPY --from=worse /worse /\n";

#[test]
fn keep_going_does_all_that_does_not_depend_on_what_failed_and_tells_every_failure() {
    let env = env();
    let context = env.context();
    context.dockerfile(FORK);
    let output = build_fails(&env, &context, &["--keep-going", "-t", "never"]);
    let text = output.stderr_text();
    assert_eq!(outcome(&output, "RUN echo more > /more"), "DONE");
    assert_eq!(
        (outcome(&output, "RUN echo broken"), outcome(&output, "RUN echo worse")),
        ("ERROR".into(), "ERROR".into())
    );
    assert!(text.contains("ERROR: failed to solve: 2 steps failed"), "{text}");
    for (step, last_line, line) in [("bad 1/1", "broken", "exit 3"), ("worse 1/1", "worse", "exit 4")] {
        let told = text.split("------\n > ").find(|part| part.starts_with(&format!("[{step}]")));
        let rest = text.split_once("------\n > ").unwrap().1;
        assert!(told.is_some_and(|told| told.contains(last_line)), "{step} in {text}");
        assert!(
            rest.contains(&format!("ERROR: [{step}]")) && rest.contains(&format!("{line}\" did not")),
            "{text}"
        );
    }
    env.lap(["image", "inspect", "never"]).fails(1);
    env.lap(["store", "check"]).ok();

    // What was made is not made again.
    context.dockerfile(&FORK.replace("; exit 3", " > /bad").replace("; exit 4", " > /worse"));
    let repaired = build(&env, &context, &["-t", "whole"]);
    let ran = steps_run(&repaired);
    assert!(!ran.iter().any(|step| step.contains("[good")), "{ran:?}");
}

/// Stages that have nothing to do with each other.
fn stages(commands: &[&str]) -> String {
    let mut text = "FROM busybox AS base\n".to_owned();
    for (number, command) in commands.iter().enumerate() {
        text +=
            &format!("FROM base AS s{number}\nRUN --mount=type=cache,target=/c {command} > /out{number}\n");
    }
    text += "FROM scratch\n";
    (0..commands.len()).for_each(|number| text += &format!("COPY --from=s{number} /out{number} /\n"));
    text
}

#[test]
fn jobs_say_how_many_steps_run_at_once() {
    let env = env();
    let context = env.context();
    // Each waits for the other.
    let together = ["touch /c/a; until [ -e /c/b ]; do :; done", "touch /c/b; until [ -e /c/a ]; do :; done"];
    context.dockerfile(&stages(&together));
    build(&env, &context, &["--jobs", "2", "--timeout", "60s"]);

    context.dockerfile(&stages(&["echo one", "echo two", "echo three", "echo four"]));
    let output = build(&env, &context, &["--jobs", "1", "--progress", "rawjson"]);
    let mut times: Vec<(Timestamp, Timestamp)> = Vec::new();
    for line in output.stderr_text().lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        for vertex in document["vertexes"].as_array().into_iter().flatten() {
            let time = |name: &str| vertex[name].as_str()?.parse::<Timestamp>().ok();
            if let (true, Some(started), Some(completed)) =
                (vertex["name"].as_str().unwrap().contains("RUN"), time("started"), time("completed"))
            {
                times.push((started, completed));
            }
        }
    }
    times.sort();
    times.dedup();
    assert_eq!(times.len(), 4, "{output}");
    assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{times:?}");
    env.lap(["build", "--jobs", "0", "."]).fails(2);
}

#[test]
fn without_it_the_first_failure_ends_the_build() {
    let env = env();
    let context = env.context();
    // The one that fails waits until the other runs.
    context.dockerfile(
        "FROM busybox AS bad\nRUN --mount=type=cache,target=/c until [ -e /c/up ]; do sleep 0.05; done; exit 3\n\
         FROM busybox\nRUN --mount=type=cache,target=/c touch /c/up; sleep 600\nCOPY --from=bad /a /\n",
    );
    let output = build_fails(&env, &context, &[]);
    assert_eq!(outcome(&output, "touch /c/up; sleep 600"), "CANCELED");
    assert!(output.stderr_text().contains("exit code: 3"), "{output}");
}

#[test]
fn keep_going_with_one_failure_looks_as_ever() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN exit 3\nRUN echo after\n");
    let (fast, all) = (build_fails(&env, &context, &[]), build_fails(&env, &context, &["--keep-going"]));
    // The hint names the build, and these are two.
    let end = |output: &testkit::Output| {
        let text = output.stderr_text().split_once("------\n").unwrap().1.to_owned();
        text.lines().filter(|line| !line.contains("hint: lap debug")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(end(&fast), end(&all));
}

#[test]
fn a_step_that_takes_too_long_is_killed_with_all_that_it_started() {
    let env = env();
    let context = env.context();
    // The inner shell ignores polite signals, is in a session of its own, and has the outputs open.
    context.dockerfile(
        "FROM busybox\nRUN echo begun; setsid sh -c 'trap \"\" TERM HUP; exec sleep 98765' & sleep 98765\n",
    );
    let output = build_fails(&env, &context, &["--timeout", "500ms"]);
    let text = output.stderr_text();
    assert!(text.contains("did not end within 500ms and was killed"), "{text}");
    assert!(text.contains("hint: give it more time with --timeout") && text.contains("begun"), "{text}");
    assert!(!testkit_processes().contains("sleep\098765"), "a process is left");
    assert_eq!(usage(&env, "RUN echo begun")["attempts"], 1);
    env.lap(["store", "check"]).ok();
}

/// The command lines of all processes.
fn testkit_processes() -> String {
    let processes = std::fs::read_dir("/proc").unwrap();
    let line = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let lines = processes.filter_map(|entry| line(entry.ok()?));
    lines.map(|line| String::from_utf8_lossy(&line).into_owned() + "\n").collect()
}

#[test]
fn a_step_may_take_long_as_long_as_it_writes() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN for i in $(seq 12); do echo $i; sleep 1; done\n");
    build(&env, &context, &["--idle-timeout", "10s"]);
    // It has closed its outputs, and nothing more can come.
    context.dockerfile("FROM busybox\nRUN exec >/dev/null 2>&1; sleep 98764\n");
    let output = build_fails(&env, &context, &["--idle-timeout", "500ms", "--timeout", "10m"]);
    assert!(output.stderr_text().contains("wrote nothing for 500ms and was killed"), "{output}");
}

#[test]
fn limits_hold_for_the_steps_that_fit_the_pattern() {
    let env = env();
    let context = env.context();
    let sleep = |seconds: &str| {
        context.dockerfile(&format!(
            "FROM busybox AS slow\nRUN sleep {seconds}\nFROM busybox\nRUN sleep 0.1\nCOPY --from=slow /etc /etc2\n"
        ));
    };
    sleep("600");
    let output = build_fails(&env, &context, &["--timeout", "1h", "--timeout", "slow=200ms"]);
    assert_eq!(outcome(&output, "RUN sleep 600"), "ERROR");
    sleep("1");
    build(
        &env,
        &context,
        &["--timeout", "200ms", "--timeout", "RUN sleep ?=1h", "--timeout", "RUN sleep 0.1=1h"],
    );
    let wrong = env.lap(["build", "--timeout", "slow", "."]).fails(2);
    assert!(wrong.stderr_text().contains("write a time such as 30s"), "{wrong}");
}

#[test]
fn a_failed_step_is_tried_again_from_the_same_files() {
    let env = env();
    let context = env.context();
    // The cache mount remembers the attempts; what the failed ones wrote to the root is gone.
    context.dockerfile(
        "FROM busybox\nRUN --mount=type=cache,target=/tries [ ! -e /left ] || exit 9; touch /left; \
         echo x >> /tries/n; [ $(wc -l < /tries/n) -ge 3 ]\n",
    );
    let output = build_fails(&env, &context, &["--retry", "1"]);
    let text = output.stderr_text();
    assert!(text.contains("attempt 1 of 2 failed: process"), "{text}");
    assert!(text.contains("exit code: 1; trying again") && !text.contains("attempt 2"), "{text}");
    assert_eq!(usage(&env, "RUN")["attempts"], 2);

    // One attempt more is the third.
    build(&env, &context, &["--retry", "other=5"]);
    assert_eq!(usage(&env, "RUN")["attempts"], 1);
    context.dockerfile("FROM busybox\nRUN sleep 98763\n");
    let output = build_fails(&env, &context, &["--retry", "RUN sleep*=2", "--timeout", "200ms"]);
    let text = output.stderr_text();
    assert!(text.contains("attempt 2 of 3 failed") && text.contains("did not end within 200ms"), "{text}");
}

#[test]
fn what_a_step_used_is_recorded() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/dev/null bs=40M count=1\n\
         RUN true\n",
    );
    build(&env, &context, &[]);
    let busy = usage(&env, "RUN i=0");
    assert!(busy["cpu_user_ms"].as_u64().unwrap() + busy["cpu_system_ms"].as_u64().unwrap() >= 50, "{busy}");
    assert!((40_000_000..400_000_000).contains(&busy["peak_memory"].as_u64().unwrap()), "{busy}");
    assert!(busy["written_bytes"].is_u64() && busy["read_bytes"].is_u64());
    let table = env.lap(["history", "inspect"]).ok().stdout_text();
    assert!(table.contains("MEMORY") && table.contains("READ / WRITTEN"), "{table}");
    build(&env, &context, &[]);
    assert_eq!(usage(&env, "RUN i=0"), Value::Null, "a cached step has used nothing");
}

#[test]
fn a_step_with_a_control_group_is_measured_as_a_whole() {
    let env = env();
    let limits = env.lap(["info", "--format", "{{json .Limits}}"]).run();
    if !limits.stdout_text().contains("memory") {
        eprintln!("skipped: no control group can limit memory here");
        return;
    }
    let context = env.context();
    // Two processes have 30 MB each until the last byte is read of what they write, which no process alone has.
    let half = |pipe: &str| format!("dd if=/dev/zero of={pipe} bs=30M count=1 &");
    let script = format!(
        "mkfifo /a /b; {} {} exec 3</a 4</b; head -c 1 <&3; head -c 1 <&4; cat <&3 >/dev/null; cat <&4 >/dev/null; wait",
        half("/a"),
        half("/b")
    );
    context.dockerfile(&format!("FROM busybox\nRUN {script}\n"));
    build(&env, &context, &["--resource", "memory=512m"]);
    let used = usage(&env, "RUN mkfifo");
    assert!((58_000_000..512_000_000).contains(&used["peak_memory"].as_u64().unwrap()), "{used}");
}
