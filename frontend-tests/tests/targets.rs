//! Several targets of one build: one graph, each with its own names and outputs.

mod common;

use common::{build, build_fails, env, image_id, outcome, steps_run};
use serde_json::Value;
use testkit::{Context, TestEnv, Tree};

const STEPS: &str = "FROM busybox AS shared\nRUN date +%N > /when; cat /proc/sys/kernel/random/uuid > /uuid\n\
    FROM shared AS web\nRUN echo web > /web\nFROM shared AS worker\nRUN echo worker > /worker\n\
    FROM shared AS other\nRUN exit 3\n";

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.dockerfile(STEPS);
    context
}

#[test]
fn two_targets_share_their_steps_and_have_names_of_their_own() {
    let env = env();
    let context = context(&env);
    let tags = ["-t", "web=app/web:1", "-t", "WORKER=app/worker:1", "-t", "web=app/web:latest"];
    let output = build(&env, &context, &[&["--target", "web", "--target", "worker"], &tags[..]].concat());
    let mut ran = steps_run(&output);
    ran.sort();
    assert_eq!(ran.len(), 3, "the shared step runs once, and that of no target never: {ran:?}");
    let (web, worker) = (image_id(&env, "app/web:1"), image_id(&env, "app/worker:1"));
    assert_eq!(image_id(&env, "app/web"), web);
    assert_ne!(web, worker);
    let file = |image: &str, path: &str| env.lap(["run", "--rm", image, "cat", path]).ok().stdout_text();
    assert_eq!(
        (file("app/web", "/web"), file("app/worker:1", "/worker")),
        ("web\n".into(), "worker\n".into())
    );
    assert_eq!(file("app/web", "/uuid"), file("app/worker:1", "/uuid"), "it is the same result");

    // Each alone is the same image, and nothing has to run for it.
    let alone = build(&env, &context, &["--target", "worker", "-t", "alone"]);
    assert_eq!((steps_run(&alone).len(), image_id(&env, "alone")), (0, worker));
}

#[test]
fn files_about_the_result_name_the_targets() {
    let env = env();
    let context = context(&env);
    let (ids, metadata) = (env.work().join("ids"), env.work().join("metadata"));
    let files = ["--iidfile", ids.to_str().unwrap(), "--metadata-file", metadata.to_str().unwrap()];
    let read = |path| std::fs::read_to_string(path).unwrap();
    build(&env, &context, &[&["--target", "web,worker", "-t", "worker=w:1"], &files[..]].concat());
    let worker = image_id(&env, "w:1");
    assert_eq!(read(&ids).lines().nth(1), Some(worker.as_str()));
    let of_both: Value = serde_json::from_str(&read(&metadata)).unwrap();
    assert_eq!(of_both["worker"]["containerimage.config.digest"], worker.as_str());
    assert_eq!(of_both["worker"]["image.name"], "docker.io/library/w:1");
    assert_eq!(of_both["web"]["image.name"], Value::Null);
    let quiet = env.lap(["build", "-q", "--target", "web,worker"]).arg(context.path()).ok();
    assert_eq!(quiet.stdout_text(), read(&ids));

    build(&env, &context, &[&["--target", "worker"], &files[..]].concat());
    assert_eq!(read(&ids), worker, "of one target, the id and nothing else");
    let of_one: Value = serde_json::from_str(&read(&metadata)).unwrap();
    assert_eq!(of_one["containerimage.config.digest"], worker.as_str());
}

#[test]
fn outputs_are_for_one_target_each() {
    let env = env();
    let context = context(&env);
    let (web, worker) = (env.work().join("web"), env.work().join("worker.tar"));
    let outputs = [
        format!("target=web,type=local,dest={}", web.display()),
        format!("type=oci,target=worker,dest={}", worker.display()),
    ];
    build(&env, &context, &["--target", "web,worker", "-o", &outputs[0], "-o", &outputs[1]]);
    let tree = Tree::of_dir(&web);
    assert!(tree.paths().any(|path| path == "web") && !tree.paths().any(|path| path == "worker"));
    assert!(worker.metadata().unwrap().len() > 0);
}

#[test]
fn a_target_that_fails_leaves_no_names() {
    let env = env();
    let context = context(&env);
    let args = ["--target", "web,other", "-t", "web=w:1", "--keep-going"];
    let output = build_fails(&env, &context, &args);
    assert_eq!(outcome(&output, "RUN echo web"), "DONE");
    env.lap(["image", "inspect", "w:1"]).fails(1);
}

#[test]
fn what_does_not_say_whose_it_is_is_refused() {
    let env = env();
    let context = context(&env);
    let refused = |args: &[&str]| {
        env.lap(["build", "--target", "web,worker"]).args(args).arg(context.path()).fails(2).stderr_text()
    };
    assert!(refused(&["-t", "name"]).contains("--tag name does not say whose it is"));
    assert!(refused(&["-o", "out"]).contains("--output out does not say whose it is"));
    assert!(refused(&["-t", "db=name"]).contains("which is not built"));
    assert!(refused(&["--call", "outline"]).contains("one target"));
    // With one target nothing has changed; a stage that is named twice is one target.
    build(&env, &context, &["--target", "web", "--target", "WEB", "-t", "name", "-t", "web=other-name"]);
    assert_eq!(image_id(&env, "name"), image_id(&env, "other-name"));
    let unknown = build_fails(&env, &context, &["--target", "web,nope"]).stderr_text();
    assert!(unknown.contains("nope"), "{unknown}");
}
