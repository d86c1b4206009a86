//! What buildx asks of `lap daemon` about a Dockerfile, and how it draws what is wrong with one.

mod common;

use common::daemon::Buildx;
use common::env;
use serde_json::Value;

const DOCKERFILE: &str = "# syntax=docker/dockerfile:1\n\
     # who is greeted\n\
     ARG WHO=world\n\
     # base has the tools\n\
     FROM busybox AS base\n\
     ARG WHO\n\
     RUN --mount=type=secret,id=token,required true\n\
     # main is the result\n\
     from base AS main\n\
     RUN --mount=type=cache,target=/c echo $WHO\n";

#[test]
fn questions_are_answered_without_a_build() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile(DOCKERFILE).file("large", "x".repeat(1 << 20));
    let ask =
        |question: &str| buildx.build(context.path(), &["--print", question]).env("BUILDX_EXPERIMENTAL", "1");
    let outline = ask("outline").ok();
    outline.stdout_has(&["TARGET:", "main", "BUILD ARG", "WHO", "world", "SECRET", "token", "true"]);
    assert!(!outline.stderr_text().contains("RUN "), "{outline}");
    assert!(!outline.stderr_text().contains("1.05MB"), "the context was sent\n{outline}");
    let json: Value = serde_json::from_str(&ask("outline,format=json").ok().stdout_text()).unwrap();
    assert_eq!((&json["args"][0]["name"], &json["args"][0]["value"]), (&"WHO".into(), &"world".into()));
    assert_eq!(json["secrets"][0]["required"], true);
    let targets = ask("targets").ok();
    targets.stdout_has(&["TARGET", "base", "has the tools", "main (default)"]);
    let json: Value = serde_json::from_str(&ask("targets,format=json").ok().stdout_text()).unwrap();
    assert_eq!(json["targets"].as_array().unwrap().len(), 2);
    // As `lap build` answers them.
    let ours = env.lap(["build", "--call", "targets,format=json"]).arg(context.path()).ok();
    assert_eq!(serde_json::from_str::<Value>(&ours.stdout_text()).unwrap(), json);
    ask("lint").ok().stdout_has(&["WARNING: ConsistentInstructionCasing", ">>> from base AS main"]);
    ask("subrequests.describe").ok().stdout_has(&["outline", "targets", "lint"]);
    ask("nonsense").fails(1).stderr_has(&["unsupported request", "nonsense"]);
    context.dockerfile("FROM busybox\nRUNN x\n");
    ask("outline").fails(1).stderr_has(&["unknown instruction \"RUNN\""]);
    // The daemon goes on.
    context.dockerfile(DOCKERFILE);
    buildx.build(context.path(), &["--target", "main"]).fails(1).stderr_has(&["secret \"token\""]);
}

#[test]
fn errors_are_drawn_where_they_are() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    let fails = |dockerfile: &str, words: &[&str]| {
        context.dockerfile(dockerfile);
        let output = buildx.build(context.path(), &[]).fails(1);
        output.stderr_has(words);
        output
    };
    let failed = fails(
        "FROM busybox\nRUN true\nRUN exit 7\nRUN echo after\n",
        &["Dockerfile:3\n--------------------", "   3 | >>> RUN exit 7", "exit code: 7"],
    );
    // Once is enough.
    assert_eq!(failed.stderr_text().matches("| >>> RUN exit 7").count(), 1, "{failed}");
    assert!(!failed.stderr_text().contains("^^^"), "{failed}");
    fails(
        "FROM busybox\nRUNN x\n",
        &["   2 | >>> RUNN x", "did you mean RUN?", "unknown instruction \"RUNN\""],
    );
    fails("FROM busybox\nCOPY a \\\n  b /\n", &["   2 | >>> COPY a \\", "   3 | >>>   b /", "not found"]);
    fails(
        "FROM bussybox:none AS a\n",
        &["   1 | >>> FROM bussybox:none AS a", "failed to resolve source metadata"],
    );
    // A text that does not fit into a header is drawn by us.
    let long = format!("FROM busybox\nRUN exit 9\n{}", "# a comment that goes on and on\n".repeat(2000));
    fails(&long, &["Dockerfile:2:1", "RUN exit 9", "exit code: 9"]);
}
