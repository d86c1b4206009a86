//! `--cache-to` and `--cache-from` with `type=gha`, beside a service that speaks both versions of its protocol.

mod common;

use common::{build, build_fails, env, image_id, steps_run};
use testkit::registry::Fault;
use testkit::{ActionsService, Context, TestEnv};

const NOTHING: [String; 0] = [];

fn context(env: &TestEnv, two: &str) -> Context {
    let context = env.context();
    context.file("one", "1").file("two", two).dockerfile(
        "FROM busybox\nCOPY one /one\nRUN cat /one > /a\nCOPY two /two\nRUN cat /one /two > /b\n",
    );
    context
}

/// What is typed for a service with a token.
fn cache(service: &ActionsService, version: &str, token: &str) -> String {
    let url = service.url();
    format!("type=gha,version={version},url={url},url_v2={url},token={token}")
}

/// Builds from nothing, and exports everything.
fn export(to: &str, two: &str) -> String {
    let env = env();
    build(&env, &context(&env, two), &["--cache-to", &format!("{to},mode=max"), "-t", "x"]);
    image_id(&env, "x")
}

/// What a builder that begins with nothing has to do.
fn steps_with(from: &str, two: &str) -> Vec<String> {
    let env = env();
    steps_run(&build(&env, &context(&env, two), &["--cache-from", from]))
}

#[test]
fn both_versions_of_the_protocol_are_spoken() {
    for version in ["1", "2"] {
        let service = ActionsService::start();
        let token = service.token(&["refs/heads/main"], Some("refs/heads/main"));
        let place = cache(&service, version, &token);
        let id = export(&place, "2");
        assert!(service.keys().iter().any(|key| key.starts_with("buildkit-blob-1-sha256:")));
        let second = env();
        let found = build(&second, &context(&second, "2"), &["--cache-from", &place, "-t", "x"]);
        assert_eq!(steps_run(&found), NOTHING, "version {version}: {found}");
        assert_eq!(image_id(&second, "x"), id);
        assert_eq!(second.lap(["run", "--rm", "x", "cat", "/a", "/b"]).ok().stdout_text(), "112");
        // The newest document counts, and blobs are sent once.
        export(&place, "3");
        assert_eq!(steps_with(&place, "3"), NOTHING);
        let blobs: Vec<String> = service.keys().into_iter().filter(|key| key.contains("blob")).collect();
        let different: std::collections::BTreeSet<&String> = blobs.iter().collect();
        assert_eq!(blobs.len(), different.len());
        // Another scope is another cache.
        assert_eq!(steps_with(&format!("{place},scope=other"), "3").len(), 4);
    }
}

#[test]
fn a_job_finds_its_service_in_the_environment() {
    let service = ActionsService::start();
    let token = service.token(&["refs/heads/main"], Some("refs/heads/main"));
    let (first, second) = (env(), env());
    let run = |env: &TestEnv, flag: &str| {
        let context = context(env, "2");
        let lap = env.lap(["build", "--progress", "plain", flag, "type=gha"]).arg(context.path());
        let lap = lap.env("ACTIONS_RESULTS_URL", service.url()).env("ACTIONS_RUNTIME_TOKEN", &token);
        steps_run(&lap.env("ACTIONS_CACHE_SERVICE_V2", "true").ok())
    };
    assert_eq!(run(&first, "--cache-to").len(), 4);
    assert_eq!(run(&second, "--cache-from").len(), 0);
    let context = context(&second, "2");
    let nowhere = second.lap(["build", "--cache-from", "type=gha"]).arg(context.path()).fails(2);
    nowhere.stderr_has(&["is this a job of GitHub Actions?"]);
}

#[test]
fn a_branch_reads_what_it_came_from_and_writes_its_own() {
    let service = ActionsService::start();
    let main = cache(&service, "2", &service.token(&["main"], Some("main")));
    let branch = cache(&service, "2", &service.token(&["branch", "main"], Some("branch")));
    let fork = cache(&service, "2", &service.token(&["main"], None));
    export(&main, "2");
    assert_eq!(steps_with(&branch, "2"), NOTHING);
    export(&branch, "3");
    assert_eq!(steps_with(&branch, "3"), NOTHING);
    assert_eq!(steps_with(&main, "3").len(), 2);
    // One that may not write says so, and fails only if that matters.
    let env = env();
    let failed = build_fails(&env, &context(&env, "4"), &["--cache-to", &fork]);
    failed.stderr_has(&["cannot export the cache to", "may not write"]);
    let ignored = format!("{fork},ignore-error=true");
    let output = build(&env, &context(&env, "4"), &["--cache-to", &ignored]);
    output.stderr_has(&["the cache was not exported to", "may not write"]);
}

#[test]
fn what_the_service_has_forgotten_or_withholds_is_made_anew() {
    let service = ActionsService::start();
    let token = service.token(&["main"], Some("main"));
    let place = cache(&service, "2", &token);
    assert_eq!(steps_with(&place, "2").len(), 4);
    export(&place, "2");
    service.forget("buildkit-blob");
    let alone = env();
    let output = build(&alone, &context(&alone, "2"), &["--cache-from", &place, "-t", "x"]);
    output.stderr_has(&["a result in a shared cache is not whole", "does not have it any more"]);
    assert_eq!(alone.lap(["run", "--rm", "x", "cat", "/a", "/b"]).ok().stdout_text(), "112");
    let withheld = cache(&service, "1", "wrong");
    let env = env();
    let output = build(&env, &context(&env, "2"), &["--cache-from", &withheld]);
    output.stderr_has(&["the shared cache", "is not used"]);
    assert_eq!(output.stderr_text().matches("is not used").count(), 1);
    assert!(!output.stderr_text().contains("sig=secret"));
    service.inject(u32::MAX, "GetCacheEntryDownloadURL", Fault::StallBefore);
    let impatient = format!("{place},timeout=1s");
    let output = build(&env, &context(&env, "5"), &["--cache-from", &impatient]);
    output.stderr_has(&["is not used", "did not answer within 1 s"]);
}
