//! Who we are at a registry: `lap login` and `logout`, files with logins, credential helpers, tokens.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::terminal::Terminal;
use serde_json::{Value, json};
use testkit::command::program_file;
use testkit::registry::Login;
use testkit::{DockerRegistry, FaultyRegistry, Image, Layer, LayerTar, Output, RegistryDoor, TestEnv};

/// `ann` with the password `s3cret:word`.
const ACCOUNT: &str = "ann:$2y$05$abcdefghijklmnopqrstuu2JDQLR7mbHhdpill4/jMLDoVbsBhlUi\n";

/// `Basic` of the same.
const ANN: &str = "Basic YW5uOnMzY3JldDp3b3Jk";

const PASSWORD: &str = "s3cret:word";

fn image() -> Image {
    Image::new("app").layer(Layer::tar(LayerTar::new().file("f", 0o644, "content").finish()))
}

/// A registry that asks for a login, with an image `app:1`.
fn registry(login: Login) -> FaultyRegistry {
    let registry = FaultyRegistry::start();
    registry.put_image("app", "1", &image());
    registry.require(login);
    registry
}

fn log_in(env: &TestEnv, registry: &str, password: &str) -> testkit::Lap {
    env.lap(["login", "-u", "ann", "--password-stdin", registry]).stdin(format!("{password}\n"))
}

fn config_file(env: &TestEnv) -> PathBuf {
    env.home().join(".docker/config.json")
}

fn write_config(env: &TestEnv, config: &Value) {
    std::fs::create_dir_all(env.home().join(".docker")).unwrap();
    std::fs::write(config_file(env), config.to_string()).unwrap();
}

fn config(env: &TestEnv) -> Value {
    serde_json::from_slice(&std::fs::read(config_file(env)).unwrap()).unwrap()
}

/// A helper that keeps what it is given in a file of its own, in a directory of programs.
fn helper(env: &TestEnv, name: &str, script: &str) -> String {
    let programs = env.work().join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    let path = programs.join(format!("docker-credential-{name}"));
    program_file(&path, format!("#!/bin/sh\n{script}\n").as_bytes());
    format!("{}:/usr/bin:/bin", programs.display())
}

/// A whole helper, which notes what it was asked.
const KEEPER: &str = r#"
echo "$1" >> "$HOME/asked"
case "$1" in
store) cat > "$HOME/kept" ;;
get) if [ -f "$HOME/kept" ]; then cat "$HOME/kept"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm "$HOME/kept" ;;
esac"#;

fn without_secrets(output: &Output) {
    for secret in [PASSWORD, "YW5uOnMzY3JldDp3b3Jk", "the-identity"] {
        assert!(!output.to_string().contains(secret), "a secret is shown\n{output}");
    }
}

#[test]
fn a_login_is_kept_only_if_the_registry_takes_it() {
    let env = TestEnv::new();
    let accounts = env.work().join("htpasswd");
    std::fs::write(&accounts, ACCOUNT).unwrap();
    let door = RegistryDoor { accounts: Some(accounts), ..RegistryDoor::default() };
    let Some(registry) = DockerRegistry::start_with(&door) else { return };
    env.load(&image());
    let name = registry.reference("app:1");
    env.lap(["tag", "app", &name]).ok();
    env.lap(["push", &name]).fails(1).stderr_has(&["a login is required"]);
    let refused = log_in(&env, registry.address(), "wrong").fails(1);
    refused.stderr_has(&["cannot log in to", "the credentials were refused"]);
    assert!(!config_file(&env).exists());

    write_config(&env, &json!({"psFormat": "x", "auths": {"other.example": {"auth": "YTpi"}}}));
    let done = log_in(&env, registry.address(), PASSWORD).ok();
    done.stdout_has(&["Login Succeeded"]).stderr_has(&["kept unencrypted in"]);
    without_secrets(&done);
    let written = config(&env);
    assert_eq!(written["psFormat"], "x");
    assert_eq!(written["auths"]["other.example"]["auth"], "YTpi");
    assert_eq!(written["auths"][registry.address()]["auth"], &ANN["Basic ".len()..]);
    let mode = std::fs::metadata(config_file(&env)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    env.lap(["push", &name]).ok();

    env.lap(["logout", registry.address()]).ok().stdout_has(&["Removing login credentials for"]);
    env.lap(["logout", registry.address()]).ok().stdout_has(&["Not logged in to"]);
    assert_eq!(config(&env)["auths"], json!({"other.example": {"auth": "YTpi"}}));
    env.lap(["pull", &name]).fails(1).stderr_has(&["a login is required"]);
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let env = TestEnv::new();
    let registry = registry(Login::Basic(ANN));
    for (password, code) in [("wrong", 1), (PASSWORD, 0)] {
        let mut terminal = Terminal::start(&env, &["login", registry.address()]);
        terminal.wait_for("Username: ");
        assert!(terminal.echoes());
        terminal.write("ann\n");
        terminal.wait_for("Password: ");
        terminal.wait_until_hidden();
        terminal.write(&format!("{password}\n"));
        let said = if code == 0 { "Login Succeeded" } else { "the credentials were refused" };
        let shown = terminal.wait_for(said);
        assert!(!shown.contains(password), "{shown}");
        assert_eq!(terminal.finish(), Some(code));
        assert!(terminal.echoes());
    }
    assert_eq!(config(&env)["auths"][registry.address()]["auth"], &ANN["Basic ".len()..]);
    // Who interrupts instead of typing leaves the terminal as it was.
    let mut terminal = Terminal::start(&env, &["login", "-u", "ann", registry.address()]);
    terminal.wait_for("Password: ");
    terminal.wait_until_hidden();
    terminal.write("\u{3}\n");
    assert_ne!(terminal.finish(), Some(0));
    assert!(terminal.echoes());
}

#[test]
fn what_is_no_login_is_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    let registry = registry(Login::Basic(ANN));
    env.lap(["login", registry.address()]).fails(2).stderr_has(&["a user name and a password"]);
    env.lap(["login", "-u", "ann", "--password-stdin", registry.address()]).fails(2);
    env.lap(["login", "-u", "a", "-p", "b", "not a host"])
        .fails(2)
        .stderr_has(&["not the address of a registry"]);
    assert_eq!(registry.seen("").len(), 0);
}

#[test]
fn an_identity_token_is_kept_instead_of_the_password() {
    let env = TestEnv::new();
    let registry = registry(Login::Offline(ANN, "the-identity"));
    without_secrets(&log_in(&env, registry.address(), PASSWORD).ok());
    let auth = &config(&env)["auths"][registry.address()];
    assert_eq!(*auth, json!({"identitytoken": "the-identity"}));
    env.lap(["pull", &registry.reference("app:1")]).ok();
    assert_eq!(registry.seen("POST /token").len(), 1);
    let wrong = log_in(&env, registry.address(), "wrong").fails(1);
    wrong.stderr_has(&["token server", "401"]);
    without_secrets(&wrong);
}

#[test]
fn a_token_server_may_know_forms_only() {
    let env = TestEnv::new();
    let registry = registry(Login::Form("ann", PASSWORD));
    log_in(&env, registry.address(), PASSWORD).ok();
    env.lap(["pull", &registry.reference("app:1")]).ok();
    log_in(&env, registry.address(), "wrong").fails(1);
}

#[test]
fn a_helper_keeps_logins() {
    let env = TestEnv::new();
    let registry = registry(Login::Token(ANN));
    let path = helper(&env, "keeper", KEEPER);
    write_config(&env, &json!({"credsStore": "keeper"}));
    let done = log_in(&env, registry.address(), PASSWORD).env("PATH", &path).ok();
    assert!(!done.stderr_text().contains("unencrypted"), "{done}");
    assert_eq!(config(&env), json!({"credsStore": "keeper"}));
    let kept: Value = serde_json::from_slice(&std::fs::read(env.home().join("kept")).unwrap()).unwrap();
    assert_eq!(kept, json!({"ServerURL": registry.address(), "Username": "ann", "Secret": PASSWORD}));
    let name = registry.reference("app:1");
    env.lap(["pull", &name]).env("PATH", &path).ok();
    env.lap(["logout", registry.address()]).env("PATH", &path).ok().stdout_has(&["Removing"]);
    assert!(!env.home().join("kept").exists());
    let asked = std::fs::read_to_string(env.home().join("asked")).unwrap();
    // A pull asks once, however many requests it makes.
    assert_eq!(asked.lines().collect::<Vec<_>>(), ["store", "get", "get", "erase"]);
    env.lap(["pull", &name]).env("PATH", &path).fails(1).stderr_has(&["401"]);
}

#[test]
fn a_helper_that_fails_is_named_when_a_login_is_needed() {
    let env = TestEnv::new();
    let (open, closed) = (registry(Login::AnonymousToken), registry(Login::Basic(ANN)));
    for (name, script, said) in [
        ("missing", None, "docker-credential-missing is configured, but not installed"),
        (
            "broken",
            Some("echo 'the key ring is locked'; exit 3"),
            "docker-credential-broken failed: the key ring is locked",
        ),
        (
            "garbage",
            Some("head -c 100000 /dev/zero"),
            "docker-credential-garbage did not answer with a credential",
        ),
        ("../evil", None, "\"../evil\" is not the name of a credential helper"),
    ] {
        let path = match script {
            Some(script) => helper(&env, name, script),
            None => "/usr/bin:/bin".to_owned(),
        };
        write_config(&env, &json!({"credHelpers": {open.address(): name, closed.address(): name}}));
        env.lap(["pull", &open.reference("app:1")]).env("PATH", &path).ok();
        let refused = env.lap(["pull", &closed.reference("app:1")]).env("PATH", &path).fails(1);
        refused.stderr_has(&["a login is required", said]);
        env.lap(["doctor", closed.address()]).env("PATH", &path).fails(1).stdout_has(&["BROKEN", said]);
    }
}

#[test]
fn a_helper_that_does_not_answer_is_ended_and_named() {
    let env = TestEnv::new();
    let (open, closed) = (registry(Login::AnonymousToken), registry(Login::Basic(ANN)));
    let path = helper(&env, "slow", "echo $$ >> \"$HOME/running\"; exec sleep 3600");
    write_config(&env, &json!({"credsStore": "slow"}));
    let impatient = |arguments: &[&str]| {
        env.lap(arguments).env("PATH", &path).env("LAPSTRAKE_CREDENTIAL_HELPER_TIMEOUT", "5s")
    };
    let said = "docker-credential-slow did not answer within 5 s";
    impatient(&["pull", &open.reference("app:1")]).ok();
    impatient(&["pull", &closed.reference("app:1")]).fails(1).stderr_has(&["a login is required", said]);
    let login = ["login", "-u", "ann", "-p", PASSWORD, closed.address()];
    impatient(&login).fails(1).stderr_has(&[said]);
    for process in std::fs::read_to_string(env.home().join("running")).unwrap().lines() {
        // Killed is not gone at once.
        let is_there = || {
            let command = std::fs::read_to_string(format!("/proc/{process}/cmdline"));
            command.is_ok_and(|command| command.contains("sleep"))
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while is_there() {
            assert!(Instant::now() < deadline, "{process} is left");
            std::thread::yield_now();
        }
    }
}

#[test]
fn podmans_files_are_read_too_and_may_name_repositories() {
    let registry = registry(Login::Basic(ANN));
    let auths = |key: &str| json!({"auths": {key: {"auth": &ANN["Basic ".len()..]}}}).to_string();
    let name = registry.reference("app:1");

    let env = TestEnv::new();
    let runtime = env.work().join("runtime");
    std::fs::create_dir_all(runtime.join("containers")).unwrap();
    std::fs::write(runtime.join("containers/auth.json"), auths(registry.address())).unwrap();
    env.lap(["pull", &name]).env("XDG_RUNTIME_DIR", &runtime).ok();

    let env = TestEnv::new();
    std::fs::create_dir_all(env.home().join(".config/containers")).unwrap();
    let file = env.home().join(".config/containers/auth.json");
    std::fs::write(&file, auths(&format!("{}/other", registry.address()))).unwrap();
    env.lap(["pull", &name]).fails(1).stderr_has(&["a login is required"]);
    std::fs::write(&file, auths(&format!("{}/app", registry.address()))).unwrap();
    env.lap(["pull", &name]).ok();

    let env = TestEnv::new();
    let named = env.work().join("auth.json");
    let log_in = log_in(&env, registry.address(), PASSWORD).env("REGISTRY_AUTH_FILE", &named).ok();
    without_secrets(&log_in);
    assert!(named.exists() && !config_file(&env).exists());
    env.lap(["pull", &name]).env("REGISTRY_AUTH_FILE", &named).ok();
}

#[test]
fn a_registry_token_goes_to_the_registry_as_it_is() {
    let env = TestEnv::new();
    let registry = registry(Login::Basic("Bearer the-token"));
    write_config(&env, &json!({"auths": {registry.address(): {"registrytoken": "the-token"}}}));
    env.lap(["pull", &registry.reference("app:1")]).ok();
}

#[test]
fn a_file_that_makes_no_sense_is_named() {
    let env = TestEnv::new();
    let registry = registry(Login::None);
    std::fs::create_dir_all(env.home().join(".docker")).unwrap();
    std::fs::write(config_file(&env), "{\n  \"auths\": 5\n}").unwrap();
    let refused = env.lap(["pull", &registry.reference("app:1")]).fails(1);
    refused.stderr_has(&["config.json is not a Docker configuration", "line 2"]);
    log_in(&env, registry.address(), PASSWORD).fails(1);
    assert_eq!(std::fs::read_to_string(config_file(&env)).unwrap(), "{\n  \"auths\": 5\n}");
}

#[test]
fn logins_stay_with_the_registry_that_they_are_for() {
    let env = TestEnv::new();
    let elsewhere = FaultyRegistry::start();
    elsewhere.put_image("app", "1", &image());
    let registry = registry(Login::Basic(ANN));
    write_config(&env, &json!({"auths": {registry.address(): {"auth": &ANN["Basic ".len()..]}}}));
    let target = format!("http://{}", elsewhere.address());
    registry.inject(u32::MAX, "/blobs/", testkit::registry::Fault::RedirectTo(target));
    env.lap(["pull", &registry.reference("app:1")]).ok();
    let seen = elsewhere.seen("/blobs/");
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
}

#[test]
fn the_doctor_tells_route_login_and_answers() {
    let env = TestEnv::new();
    let registry = registry(Login::Token(ANN));
    env.lap(["doctor", registry.address()]).fails(1).stdout_has(&["login to", ": none", "BROKEN", "401"]);
    log_in(&env, registry.address(), PASSWORD).ok();
    let seen = env.lap(["doctor", registry.address()]).ok();
    let url = format!("http://{}/v2", registry.address());
    seen.stdout_has(&[
        &format!("{url}: for resolve, pull, push (as every registry)"),
        "no TLS",
        "ann, from ",
        ".docker/config.json",
        &format!("GET {url}/: 401, wants a token of http://"),
        "with a login: 200",
    ]);
    without_secrets(&seen);
    env.lap(["doctor", &FaultyRegistry::refused_address()]).fails(1).stdout_has(&["connection refused"]);
}
