//! Dockerfiles that are too long, too deep or no text: a clear error or a quick answer, never a crash.

mod common;

use std::fmt::Write as _;
use std::time::Duration;

use common::env;
use testkit::{Context, Output, TestEnv};

/// `lap build`, which may take its time: these are the longest builds of all tests.
fn building(env: &TestEnv, context: &Context, args: &[&str]) -> testkit::Lap {
    let command = env.lap(["build", "--progress", "plain"]).args(args).arg(context.path());
    command.deadline(Duration::from_secs(900))
}

fn build(env: &TestEnv, context: &Context, args: &[&str]) -> Output {
    building(env, context, args).ok()
}

fn build_fails(env: &TestEnv, context: &Context, args: &[&str]) -> Output {
    building(env, context, args).fails(1)
}

/// `lap build --check`, which must end by itself with code 0 or 1.
fn check(env: &TestEnv, context: &Context) -> Output {
    let output = env.lap(["build", "--progress", "quiet", "--check"]).arg(context.path());
    let output = output.deadline(Duration::from_secs(900)).run();
    assert!(matches!(output.code(), Some(0 | 1)), "{:?}", output.code());
    output
}

#[test]
fn ten_megabytes_are_read() {
    let env = env();
    let context = env.context();
    let mut text = String::from("FROM busybox\n");
    while text.len() < 10 << 20 {
        let _ = writeln!(text, "RUN echo {} && \\\n    true", "x".repeat(900));
    }
    context.dockerfile(&text);
    assert_eq!(check(&env, &context).stdout_text(), "Check complete, no warnings found.\n");
    let line = format!("{}\\\n", "y".repeat(1000));
    context.dockerfile(&format!("FROM busybox\nRUN {}z\n", line.repeat(10_000)));
    assert_eq!(check(&env, &context).code(), Some(0));
}

#[test]
fn a_hundred_thousand_instructions_become_an_image() {
    let env = env();
    let context = env.context();
    let labels: String = (0..100_000).map(|number| format!("LABEL l{}={number}\n", number % 10)).collect();
    context.dockerfile(&format!("FROM busybox\n{labels}"));
    build(&env, &context, &["-t", "many"]);
    let history = env.lap(["history", "-q", "many"]).ok().stdout_text();
    assert!(history.lines().count() > 100_000, "{}", history.lines().count());
}

/// A Dockerfile in which each of so many stages copies a file from the one above it.
fn chain(stages: usize) -> String {
    let stage =
        |number: usize| format!("FROM scratch AS s{number}\nCOPY --from=s{0} /f{0} /f{number}\n", number - 1);
    format!("FROM scratch AS s0\nCOPY f /f0\n{}", (1..stages).map(stage).collect::<String>())
}

/// How many steps ran in the last build, and how many there are.
fn steps(env: &TestEnv) -> (usize, usize) {
    let steps = env.lap(["history", "inspect", "--format", "{{json .Steps}}"]).ok().stdout_text();
    let steps: Vec<serde_json::Value> = serde_json::from_str(&steps).unwrap();
    (steps.iter().filter(|step| step["Outcome"] == "done").count(), steps.len())
}

#[test]
fn a_chain_of_ten_thousand_steps_is_built_once() {
    let env = env();
    let context = env.context();
    context.file("f", "x").dockerfile(&chain(10_000));
    build(&env, &context, &[]);
    assert_eq!(steps(&env), (10_000, 10_000));
    build(&env, &context, &[]);
    assert_eq!(steps(&env), (0, 10_000));
    context.dockerfile(&format!(
        "{}RUN echo last\n",
        chain(10_000).replace("FROM scratch AS s9999", "FROM busybox")
    ));
    build(&env, &context, &[]);
    let (ran, all) = steps(&env);
    assert!(all >= 10_000 && ran <= 3, "{ran} of {all}");
}

#[test]
fn the_reasons_of_a_long_chain_have_one_root() {
    let env = env();
    let context = env.context();
    context.file("f", "x").dockerfile(&chain(1000));
    build(&env, &context, &[]);
    context.file("f", "y");
    let told = build(&env, &context, &[]).stderr_text();
    assert_eq!(steps(&env), (1000, 1000));
    assert_eq!(told.matches(" not cached: f changed").count(), 1000);
    env.lap(["why", "s998 "]).ok().stdout_has(&["f changed"]);
}

#[test]
fn a_hundred_thousand_vertices_end_in_one_clear_error() {
    let env = env();
    let context = env.context();
    // All of them need the first, which cannot be had.
    let all: String = (0..100_000).map(|number| format!("RUN echo {number}\n")).collect();
    context.dockerfile(&format!("FROM busybox\nCOPY missing /\n{all}"));
    let output = build_fails(&env, &context, &[]);
    output.stderr_has(&["\"missing\": not found in the build context", "Dockerfile:2"]);
    assert!(output.stderr_text().len() < 100_000, "nothing is told of what has not begun");
    assert_eq!(steps(&env), (0, 100_002));
}

#[test]
fn deep_nesting_is_refused() {
    let env = env();
    let context = env.context();
    let nested = format!("{}x{}", "${a:-".repeat(10_000), "}".repeat(10_000));
    context.dockerfile(&format!("FROM busybox\nLABEL a={nested}\n"));
    build_fails(&env, &context, &[]).stderr_has(&["Dockerfile:2:9", "nested more than 100 deep"]);
    context.dockerfile(&format!("FROM busybox\nCMD {}\n", "[".repeat(60_000)));
    check(&env, &context);
}

#[test]
fn what_is_no_text_is_refused() {
    let env = env();
    let context = env.context();
    let cases: [(Vec<u8>, &[&str]); 3] = [
        (b"FROM busybox\nRUN echo \xff\n".to_vec(), &["Dockerfile:2:10", "not UTF-8"]),
        (b"FROM busybox\nRUN echo a\0b\n".to_vec(), &["Dockerfile:2:11", "NUL byte"]),
        (
            format!("FROM busybox\nRUN echo {}\n", "x".repeat(66_000)).into_bytes(),
            &["Dockerfile:2:1", "66009 bytes"],
        ),
    ];
    for (text, said) in cases {
        context.file("Dockerfile", text);
        build_fails(&env, &context, &[]).stderr_has(said);
    }
    let noise: Vec<u8> =
        (0..1_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    context.file("Dockerfile", noise);
    let output = build_fails(&env, &context, &[]);
    output.stderr_has(&["more errors"]);
    assert!(output.stderr_text().len() < 100_000, "{} bytes of errors", output.stderr_text().len());
}

#[test]
fn more_text_than_any_dockerfile_has_is_refused_wherever_it_comes_from() {
    let env = env();
    let context = env.context();
    let text = format!("FROM scratch\n{}", "#".repeat(64 << 20));
    context.dockerfile(&text);
    build_fails(&env, &context, &[]).stderr_has(&["Dockerfile", "67108864"]);
    let said = ["standard input", "67108864"];
    env.lap(["build", "-"]).stdin(text.clone()).fails(1).stderr_has(&said);
    env.lap(["build", "-f", "-"]).arg(context.path()).stdin(text).fails(1).stderr_has(&said);
}
