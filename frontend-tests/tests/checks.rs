//! Build checks seen by users: in every build, and by themselves with `--check` and `--call`.

mod common;

use common::{build, build_fails, env};

/// One finding of the text, one that needs values, one that needs the ignore file.
const DUBIOUS: &str =
    "FROM busybox AS Base\nENV GREETING=hello\nLABEL a=$GREETNG\nCOPY notes.log /\nCOPY f /\n";

#[test]
fn every_build_tells_its_findings_with_their_place() {
    let env = env();
    let context = env.context();
    context.file("f", "").file(".dockerignore", "x\n");
    context.dockerfile("FROM busybox AS Base\nENV GREETING=hello\nLABEL a=$GREETNG\nCOPY f /\n");
    build(&env, &context, &[]).stderr_has(&[
        "WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
        "Dockerfile:1:17",
        "Usage of undefined variable '$GREETNG' (did you mean $GREETING?)",
        "3 | LABEL a=$GREETNG",
        "Dockerfile:3:9",
    ]);
}

#[test]
fn findings_are_errors_if_the_file_or_the_user_says_so() {
    let env = env();
    let context = env.context();
    context.file("f", "").file("notes.log", "").file(".dockerignore", "*.log\n");
    let error = "lint violation found for rules: StageNameCasing, UndefinedVar, CopyIgnoredFile";
    context.dockerfile(&format!("# check=error=true\n{DUBIOUS}"));
    build_fails(&env, &context, &["-t", "never"]).stderr_has(&[error]);
    env.lap(["image", "inspect", "never"]).fails(1);
    let skip = "BUILDKIT_DOCKERFILE_CHECK=skip=CopyIgnoredFile,StageNameCasing;error=true";
    build_fails(&env, &context, &["--build-arg", skip])
        .stderr_has(&["lint violation found for rules: UndefinedVar\n"]);
    context.dockerfile("# check=error=true\nFROM busybox AS Base\nCOPY f /\n");
    build(&env, &context, &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"]);
    build_fails(&env, &context, &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skp=all"])
        .stderr_has(&["BUILDKIT_DOCKERFILE_CHECK", "skp=all"]);
}
