//! `--cache-wait`: builders that need the same step at once, of which one makes it.

mod common;

use common::{build, env, steps_run};
use nix::sys::signal::Signal;
use testkit::{Context, MotoServer, TestEnv};

const BUILDERS: usize = 4;

/// A build of seven steps.
fn context(env: &TestEnv) -> Context {
    let steps: String = (0..6).map(|step| format!("RUN echo {step} > /{step}\n")).collect();
    let context = env.context();
    context.file("file", "content").dockerfile(&format!("FROM busybox\nCOPY file /\n{steps}"));
    context
}

/// How many steps builders that begin at once run between them, whoever is first.
fn steps_between_them(from: &str, to: &str) -> usize {
    let builders: Vec<TestEnv> = (0..BUILDERS).map(|_| env()).collect();
    let flags = ["--cache-from", from, "--cache-to", to, "--cache-wait=60s"];
    let run = std::thread::scope(|scope| {
        let builds = builders.iter().map(|env| scope.spawn(|| build(env, &context(env), &flags)));
        let builds: Vec<_> = builds.collect();
        builds.into_iter().map(|build| steps_run(&build.join().unwrap())).collect::<Vec<_>>()
    });
    run.iter().map(Vec::len).sum()
}

#[test]
fn in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache");
    let run = steps_between_them(
        &format!("type=records,src={}", path.display()),
        &format!("type=records,dest={}", path.display()),
    );
    assert_eq!(run, 7, "each step is made once");
    let claims = std::fs::read_dir(path.join("claims/v1")).unwrap();
    assert_eq!(claims.count(), 0, "what is made is claimed no longer");
}

#[test]
fn in_a_bucket() {
    let Some(server) = MotoServer::start() else { return };
    let url = server.url();
    let place = format!(
        "type=records,s3=cache,endpoint_url={url},use_path_style=true,access_key_id=id,secret_access_key=secret"
    );
    let run = steps_between_them(&place, &place);
    // Of two that ask at the same moment, this server may give both what only one can have.
    assert!((7..2 * 7).contains(&run), "{run} steps of {BUILDERS} builders");
    let (_, listing) = server.request("GET", "/cache?list-type=2&prefix=claims");
    assert!(!listing.contains("claims/v1"), "{listing}");
}

#[test]
fn a_builder_that_dies_stops_others_for_a_while_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache").display().to_string();
    let (from, to) = (format!("type=records,src={path}"), format!("type=records,dest={path}"));
    let secret = directory.path().join("secret");
    let (first, second) = (env(), env());
    // What a secret says is in no key: the step of both is the same, and blocks only the first of them.
    let step = "FROM busybox\nRUN --mount=type=secret,id=s if grep -q block /run/secrets/s; then echo be$((1))gun; sleep 600; fi\n";
    let arguments = |says: &str, wait: &'static str| {
        std::fs::write(&secret, says).unwrap();
        let secret = format!("id=s,src={}", secret.display());
        ["--cache-from", &from, "--cache-to", &to, wait, "--secret", &secret].map(str::to_owned)
    };
    let context = |env: &TestEnv| {
        let context = env.context();
        context.dockerfile(step);
        context
    };
    let blocked = context(&first);
    let mut dies = first
        .lap(["build", "--progress", "plain"])
        .args(arguments("block", "--cache-wait"))
        .arg(blocked.path())
        .spawn();
    // The name of the step has it otherwise.
    dies.wait_for("be1gun");
    let arguments = arguments("", "--cache-wait=2s");
    dies.signal(Signal::SIGKILL);
    dies.finish();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = build(&second, &context(&second), &arguments);
    assert_eq!(steps_run(&output).len(), 1);
    output.stderr_has(&["which another builder makes"]);
}

#[test]
fn without_the_flag_nobody_waits_and_nothing_is_claimed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let env = env();
    let (from, to) = (format!("type=records,src={path}"), format!("type=records,dest={path}"));
    build(&env, &context(&env), &["--cache-from", &from, "--cache-to", &to]);
    assert!(!directory.path().join("claims").exists());
    env.lap(["build", "--cache-wait=never", "."]).fails(2).stderr_has(&["write a time such as"]);
}
