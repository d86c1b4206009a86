//! Source policies: what a build may use, and what stands in for some of it, for `lap build` and for clients of the daemon.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use std::path::PathBuf;

use common::daemon::{Buildx, Daemon};
use common::env;
use grpc::control::sourcepolicy::{MatchType, Policy, PolicyAction, Rule, Selector, Update};
use grpc::frontend::ResolveImageConfigRequest;
use grpc::{Client, Offer, control, dockerfile, pb, unique};
use testkit::{Image, Layer, LayerTar, TestEnv};

const VARIABLE: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";

/// A file with these rules.
fn policy(env: &TestEnv, rules: &str) -> PathBuf {
    let path = env.work().join(unique("policy"));
    std::fs::write(&path, format!("{{\"rules\": [{rules}]}}")).unwrap();
    path
}

const DENY_BUSYBOX: &str = r#"{"action": "DENY", "selector": {"identifier": "docker-image://*busybox*"}}"#;
const OTHER: &str = r#"{"action": "CONVERT", "selector": {"identifier": "docker-image://docker.io/library/busybox:latest"},
    "updates": {"identifier": "docker-image://docker.io/library/other:latest"}}"#;

fn add_other(env: &TestEnv) {
    let layer = LayerTar::new().file("other", 0o644, "stands in\n").finish();
    env.load(&Image::new("other").layer(Layer::tar(layer)));
}

#[test]
fn a_file_says_what_a_build_may_use() {
    let env = env();
    add_other(&env);
    let context = env.context();
    context.file("f", "x").dockerfile("FROM busybox\nCOPY f /f\n");
    let build = |rules: &str| {
        let out = env.work().join(unique("out"));
        let output = format!("type=local,dest={}", out.display());
        let build = env.lap(["build", "--output", &output]).arg(context.path());
        (build.env(VARIABLE, policy(&env, rules)).run(), out)
    };
    let (denied, _) = build(DENY_BUSYBOX);
    assert_ne!(denied.code(), Some(0));
    denied.stderr_has(&["docker-image://docker.io/library/busybox:latest", "denied by policy"]);
    let (converted, out) = build(OTHER);
    assert_eq!(converted.code(), Some(0), "{converted}");
    assert_eq!(std::fs::read_to_string(out.join("other")).unwrap(), "stands in\n");
    let (context_denied, _) = build(r#"{"action": "DENY", "selector": {"identifier": "local://*"}}"#);
    context_denied.stderr_has(&["local://context", "denied by policy"]);
    let allow = r#"{"action": "DENY", "selector": {"identifier": "*"}}, {"action": "ALLOW", "selector": {"identifier": "*"}}"#;
    assert_eq!(build(allow).0.code(), Some(0));
    build("3").0.stderr_has(&[VARIABLE, "this is no source policy"]);
}

#[test]
fn buildx_hands_its_policy_on() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\n");
    let build = |rules: &str| buildx.build(context.path(), &[]).env(VARIABLE, policy(&env, rules)).run();
    let denied = build(DENY_BUSYBOX);
    assert_ne!(denied.code(), Some(0));
    denied.stderr_has(&["denied by policy"]);
    assert_eq!(
        build(r#"{"action": "DENY", "selector": {"identifier": "docker-image://*/none:*"}}"#).code(),
        Some(0)
    );
}

#[test]
fn clients_that_steer_are_held_to_it() {
    let env = env();
    add_other(&env);
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = env.context();
    context.dockerfile("FROM busybox\n");
    let session = client.session(&Offer::new().context(context.path()));
    let selector = |identifier: &str| {
        Some(Selector {
            identifier: identifier.to_owned(),
            match_type: MatchType::Regex.into(),
            ..Default::default()
        })
    };
    let convert = Rule {
        action: PolicyAction::Convert.into(),
        selector: selector("^docker-image://docker.io/library/busybox:(.*)$"),
        updates: Some(Update {
            identifier: "docker-image://docker.io/library/other:${1}".to_owned(),
            ..Default::default()
        }),
    };
    let deny =
        Rule { action: PolicyAction::Deny.into(), selector: selector("^local://secret"), updates: None };
    let id = unique("policy");
    let request = control::SolveRequest {
        frontend: String::new(),
        source_policy: Some(Policy { version: 1, rules: vec![convert, deny] }),
        ..dockerfile(&session, &id)
    };
    let build = client.begin(request.clone());
    let mut gateway = client.gateway(&id);
    let resolve = ResolveImageConfigRequest { r#ref: "busybox".to_owned(), ..Default::default() };
    let resolved = client.wait(gateway.resolve_image_config(resolve)).unwrap();
    assert!(resolved.r#ref.contains("library/other"), "{resolved:?}");
    let mut llb = grpc::llb::Llb::default();
    let secret = llb.source("local://secret", &[]);
    let solve =
        grpc::frontend::SolveRequest { definition: Some(llb.definition(&secret)), ..Default::default() };
    let denied = client.wait(gateway.solve(solve)).unwrap_err();
    assert!(denied.message().contains("denied by policy"), "{}", denied.message());
    client.wait(gateway.r#return(grpc::frontend::ReturnRequest::default())).unwrap();
    client.outcome(build).unwrap();
    let nonsense = Rule { action: 77, selector: selector("("), updates: None };
    let bad = control::SolveRequest {
        r#ref: unique("policy"),
        frontend: "dockerfile.v0".to_owned(),
        source_policy: Some(Policy { version: 1, rules: vec![nonsense] }),
        definition: None::<pb::Definition>,
        ..request
    };
    assert!(client.solve(bad).unwrap_err().message().contains("unknown action"));
}
