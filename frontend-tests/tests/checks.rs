//! Build checks seen by users: in every build, and by themselves with `--check` and `--call`.

mod common;

use common::{build, build_fails, env};
use serde_json::{Value, json};
use testkit::{Context, Output, TestEnv};

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

/// `lap build --progress quiet ARGS CONTEXT`
fn call(env: &TestEnv, context: &Context, args: &[&str]) -> Output {
    env.lap(["build", "--progress", "quiet"]).args(args).arg(context.path()).run()
}

/// The same with an answer in JSON, and its exit code.
fn answer(env: &TestEnv, context: &Context, args: &[&str]) -> (Value, i32) {
    let output = call(env, context, args);
    let document = serde_json::from_str(&output.stdout_text()).unwrap_or_else(|_| panic!("{output}"));
    (document, output.code().unwrap())
}

#[test]
fn check_tells_findings_and_builds_nothing() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\n");
    let output = call(&env, &context, &["--check"]);
    assert_eq!(
        (output.stdout_text().as_str(), output.code()),
        ("Check complete, no warnings found.\n", Some(0))
    );
    context.dockerfile("FROM busybox AS Base\nRUN exit 7\n\nMAINTAINER me\n");
    let output = call(&env, &context, &["--check", "-t", "never"]);
    let expected = "\
Check complete, 2 warnings have been found!

WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'Base' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM busybox AS Base
   2 |     RUN exit 7
   3 |     
--------------------
help: write base

WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/
Maintainer instruction is deprecated in favor of using label
Dockerfile:4
--------------------
   2 |     RUN exit 7
   3 |     
   4 | >>> MAINTAINER me
--------------------
help: write LABEL org.opencontainers.image.authors=\"me\"
";
    assert_eq!((output.stdout_text().as_str(), output.code()), (expected, Some(1)));
    env.lap(["image", "inspect", "never"]).fails(1);
    assert_eq!(call(&env, &context, &["--call=check,ignorestatus"]).code(), Some(0));
}

#[test]
fn check_in_json_has_the_members_of_buildkit() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox AS Base\nLABEL a=b \\\n  c=$nope\n");
    let (found, code) = answer(&env, &context, &["--call=lint,format=json"]);
    assert_eq!(code, 1);
    let expected = json!({
        "ruleName": "StageNameCasing",
        "description": "Stage names should be lowercase",
        "url": "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
        "detail": "Stage name 'Base' should be lowercase",
        "level": 1,
        "location": {"ranges": [{"start": {"line": 1, "character": 16}, "end": {"line": 1, "character": 20}}]},
    });
    assert_eq!(found["warnings"][0], expected);
    assert_eq!(found["warnings"][1]["location"]["ranges"][0]["start"], json!({"line": 3, "character": 4}));
    assert_eq!(found["sources"][0]["filename"], "Dockerfile");
    assert_eq!(found["buildError"], Value::Null);
}

#[test]
fn an_error_is_told_beside_the_findings() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox AS Base\nCOPY --from=$x a b\nEXPOSE never\n");
    let (found, code) = answer(&env, &context, &["--call=check,format=json"]);
    assert_eq!(code, 1);
    assert_eq!(found["warnings"][0]["ruleName"], "StageNameCasing");
    assert_eq!(found["buildError"]["location"]["ranges"][0]["start"]["line"], 2, "{found}");
    context.dockerfile("FROM busybox AS Base\nRNU x\n");
    let output = call(&env, &context, &["--check"]);
    assert_eq!(output.code(), Some(1));
    output.stderr_has(&["unknown instruction", "did you mean RUN?"]);
    assert!(output.stdout_text().contains("StageNameCasing"), "{output}");
}

#[test]
fn unused_stages_are_checked_unless_a_target_is_named() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox AS unused\nLABEL a=$nope\nFROM busybox AS used\n");
    assert_eq!(call(&env, &context, &["--check"]).code(), Some(1));
    assert_eq!(call(&env, &context, &["--check", "--target=used"]).code(), Some(0));
}

#[test]
fn outline_lists_what_the_target_takes() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "# TAG of the base image\nARG TAG=latest\nARG UNUSED\n\n# app is the program\nFROM busybox:$TAG AS app\n\
         # LEVEL of warnings\nARG LEVEL=1 MODE\nRUN --mount=type=secret,id=token,required --mount=type=ssh \\\n  \
         --mount=type=cache,target=/cache/$LEVEL true\nFROM scratch AS other\nARG NEVER\n",
    );
    let args = ["--target=app", "--build-arg=LEVEL=2"];
    let (outline, code) = answer(&env, &context, &[&args[..], &["--call=outline,format=json"]].concat());
    assert_eq!(code, 0);
    assert_eq!((&outline["name"], &outline["description"]), (&json!("app"), &json!("is the program")));
    let seen: Vec<_> =
        outline["args"].as_array().unwrap().iter().map(|arg| (&arg["name"], &arg["value"])).collect();
    assert_eq!(
        seen,
        [(&json!("TAG"), &json!("latest")), (&json!("LEVEL"), &json!("2")), (&json!("MODE"), &Value::Null)]
    );
    assert_eq!(outline["args"][1]["description"], "of warnings");
    assert_eq!(
        (&outline["secrets"][0]["name"], &outline["secrets"][0]["required"]),
        (&json!("token"), &json!(true))
    );
    assert_eq!(
        (&outline["ssh"][0]["name"], &outline["cache"][0]["ID"]),
        (&json!("default"), &json!("/cache/2"))
    );
    let text = call(&env, &context, &[&args[..], &["--call=outline"]].concat()).stdout_text();
    let expected = "\
TARGET:      app
DESCRIPTION: is the program

BUILD ARG   VALUE    DESCRIPTION
TAG         latest   of the base image
LEVEL       2        of warnings
MODE                 

SECRET   REQUIRED
token    true

SSH       REQUIRED
default   

CACHE
/cache/2
";
    assert_eq!(text, expected);
}

#[test]
fn targets_are_listed_with_their_default() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "# build compiles\nFROM --platform=$BUILDPLATFORM busybox AS build\nFROM scratch\nFROM build\n",
    );
    let text = call(&env, &context, &["--call=targets"]).stdout_text();
    assert_eq!(text, "TARGET      DESCRIPTION\nbuild       compiles\n(default)   \n");
    let (list, _) = answer(&env, &context, &["--call=targets,format=json"]);
    let build = json!({
        "name": "build", "description": "compiles", "base": "busybox", "platform": "$BUILDPLATFORM",
        "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2, "character": 47}}]},
    });
    assert_eq!(list["targets"][0], build);
    assert_eq!(
        (&list["targets"][1]["default"], &list["targets"][1]["base"]),
        (&json!(true), &json!("build"))
    );
}

#[test]
fn what_is_asked_for_is_spelt_right() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\n");
    for (typed, said) in [("chek", "did you mean check?"), ("check,format=jason", "did you mean json?")] {
        let output = call(&env, &context, &[&format!("--call={typed}")]);
        assert_eq!(output.code(), Some(2));
        output.stderr_has(&[said]);
    }
}
