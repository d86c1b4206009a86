//! What a client of `lap daemon` keeps and is asked for: secrets, ssh agents, logins of registries.

mod common;

use std::path::PathBuf;

use common::daemon::Buildx;
use common::env;
use common::ssh::{Agent, SSH_ADD, key, openssh, put_ssh_add};
use serde_json::json;
use testkit::images::busybox;
use testkit::registry::Login;
use testkit::{
    DockerRegistry, FaultyRegistry, Output, RegistryDoor, Repository, TestEnv, Tree, WebFile, WebServer,
};

/// `ann` with the password `s3cret:word`.
const ACCOUNT: &str = "ann:$2y$05$abcdefghijklmnopqrstuu2JDQLR7mbHhdpill4/jMLDoVbsBhlUi\n";

/// What is sent of that, and what is in files of logins.
const ANN: &str = "Basic YW5uOnMzY3JldDp3b3Jk";

/// Secrets that must not be found anywhere afterwards.
const SECRETS: [&str; 4] = ["s3cret:word", "YW5uOnMzY3JldDp3b3Jk", "hunter2", "correct horse"];

/// Looks for secrets in what was printed and in everything that the daemon has written.
fn without_secrets(env: &TestEnv, outputs: &[&Output]) {
    for secret in SECRETS {
        for output in outputs {
            assert!(!output.to_string().contains(secret), "a secret is shown\n{output}");
        }
        for place in [env.root(), env.run()].into_iter().filter(|place| place.exists()) {
            let grep = std::process::Command::new("grep").args(["-rla", secret]).arg(place).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "{secret} is kept");
        }
    }
}

/// A directory with a client's logins, which is not the daemon's.
fn logins(env: &TestEnv, name: &str, registry: &str) -> PathBuf {
    let directory = env.work().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let config = json!({"auths": {registry: {"auth": &ANN["Basic ".len()..]}}});
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    directory
}

#[test]
fn secrets_are_asked_for_when_steps_need_them() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN --mount=type=secret,id=file,uid=7,mode=0440 stat -c %a:%u /run/secrets/file > /stat; \
         wc -c < /run/secrets/file > /size\n\
         RUN --mount=type=secret,id=variable,env=IT [ ${#IT} = 7 ] && echo yes > /variable\n\
         RUN --mount=type=secret,id=none [ ! -e /run/secrets/none ] && echo none > /none\n",
    );
    let file = env.work().join("secret");
    std::fs::write(&file, "correct horse").unwrap();
    let file = format!("id=file,src={}", file.display());
    let out = env.work().join("out");
    let output = format!("type=local,dest={}", out.display());
    let flags = ["--secret", &file, "--secret", "id=variable,env=TOKEN", "-o", &output];
    let built = buildx.build(context.path(), &flags).env("TOKEN", "hunter2").ok();
    let tree = Tree::of_dir(&out);
    assert_eq!((tree.text("stat"), tree.text("size")), ("440:7\n".to_owned(), "13\n".to_owned()));
    assert_eq!((tree.text("variable"), tree.text("none")), ("yes\n".to_owned(), "none\n".to_owned()));
    without_secrets(&env, &[&built]);

    // A second client has none of the first one's.
    context.dockerfile("FROM busybox\nRUN --mount=type=secret,id=file,required true\n");
    let missing = buildx.build(context.path(), &[]).fails(1);
    missing.stderr_has(&["secret \"file\"", "not found", "--secret id=file"]);
    let other = buildx.build(context.path(), &["--secret", "id=other,env=TOKEN"]).env("TOKEN", "hunter2");
    other.fails(1).stderr_has(&["secret \"file\"", "not found"]);
    let large = env.work().join("large");
    std::fs::write(&large, vec![b'x'; 600 << 10]).unwrap();
    let large = format!("id=file,src={}", large.display());
    buildx.build(context.path(), &["--secret", &large]).fails(1);
    buildx.build(context.path(), &["--secret", &file]).ok();
}

#[test]
fn an_agent_of_the_client_lists_and_signs_for_steps() {
    let Some(()) = openssh() else { return };
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    put_ssh_add(&context);
    let agent = Agent::start(&env, &key(&env));
    context.dockerfile(&format!(
        "FROM busybox\nRUN --mount=type=ssh,uid=9,mode=0666 stat -c %F:%a:%u $SSH_AUTH_SOCK > /stat\n\
         RUN --mount=type=ssh {SSH_ADD} -L > /listed\nRUN --mount=type=ssh {SSH_ADD} -L >> /listed\n\
         RUN --mount=type=ssh {SSH_ADD} -D 2>&1 | tee /deleted\n\
         RUN --mount=type=ssh,id=other [ ! -e /run/buildkit/ssh_agent.0 ] && echo none > /other\n"
    ));
    let out = env.work().join("out");
    let output = format!("type=local,dest={}", out.display());
    let flag = format!("default={}", agent.socket().display());
    buildx.build(context.path(), &["--ssh", &flag, "-o", &output]).ok();
    let tree = Tree::of_dir(&out);
    assert_eq!((tree.text("stat"), tree.text("other")), ("socket:666:9\n".to_owned(), "none\n".to_owned()));
    assert_eq!(tree.text("listed").matches("test key").count(), 2, "{}", tree.text("listed"));
    assert!(tree.text("deleted").contains("Failed"), "{}", tree.text("deleted"));
    agent.add().arg("-L").ok().stdout_has(&["test key"]);

    // The next client does not have it.
    context.dockerfile("FROM busybox\nRUN --mount=type=ssh,required true\n");
    buildx.build(context.path(), &[]).fails(1).stderr_has(&["ssh agent \"default\" not found"]);
    let other = format!("another={}", agent.socket().display());
    buildx
        .build(context.path(), &["--ssh", &other])
        .fails(1)
        .stderr_has(&["ssh agent \"default\" not found"]);
}

#[test]
fn secrets_of_the_client_open_servers() {
    let env = env();
    let server = WebServer::start();
    let Some(buildx) = Buildx::new(&env) else { return };
    let repository = Repository::create(&env, "app");
    repository.file("name", "private").commit();
    let git = repository.serve(&server);
    // "x-access-token:hunter2" in base64, as git sends a token.
    server.require_for_repositories("Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==");
    let url = server.put("/file", WebFile::new("private").secret("Bearer hunter2"));
    let host = server.address();
    let context = env.context();
    context.dockerfile(&format!("FROM scratch\nADD {url} /file\nADD {git} /git\n"));
    let web = format!("id=HTTP_AUTH_TOKEN_{host},env=TOKEN");
    buildx.build(context.path(), &[]).fails(1).stderr_has(&["/file", "401"]);
    let without = buildx.build(context.path(), &["--secret", &web]).env("TOKEN", "hunter2").fails(1);
    without.stderr_has(&["GIT_AUTH_TOKEN"]);
    let out = env.work().join("out");
    let output = format!("type=local,dest={}", out.display());
    let flags = ["--secret", &web, "--secret", "id=GIT_AUTH_TOKEN,env=TOKEN", "-o", &output];
    let built = buildx.build(context.path(), &flags).env("TOKEN", "hunter2").ok();
    let tree = Tree::of_dir(&out);
    assert_eq!((tree.text("file"), tree.text("git/name")), ("private".to_owned(), "private".to_owned()));
    without_secrets(&env, &[&without, &built]);
}

#[test]
fn logins_of_the_client_are_used_for_its_own_build() {
    let env = env();
    let accounts = env.work().join("htpasswd");
    std::fs::write(&accounts, ACCOUNT).unwrap();
    let door = RegistryDoor { accounts: Some(accounts), ..RegistryDoor::default() };
    let Some(registry) = DockerRegistry::start_with(&door) else { return };
    let Some(buildx) = Buildx::new(&env) else { return };
    let with = logins(&env, "client", registry.address());
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo made > /made\n");
    let name = registry.reference("app:1");
    let push = ["--push", "-t", &name];
    let refused = buildx.build(context.path(), &push).fails(1);
    refused.stderr_has(&["a login is required"]);
    let pushed = buildx.build(context.path(), &push).env("DOCKER_CONFIG", &with).ok();

    let derived = env.context();
    derived.dockerfile(&format!("FROM {name}\nRUN cat /made\n"));
    let pull = ["--pull", "--no-cache"];
    let pulled = buildx.build(derived.path(), &pull).env("DOCKER_CONFIG", &with).ok();
    pulled.stderr_has(&["made"]);
    // Who comes next is somebody else.
    let again = buildx.build(context.path(), &push).fails(1);
    again.stderr_has(&["a login is required"]);
    // So is the daemon's user, whose own logins are for nobody who comes.
    std::fs::create_dir_all(env.home().join(".docker")).unwrap();
    std::fs::copy(with.join("config.json"), env.home().join(".docker/config.json")).unwrap();
    let nobody = env.work().join("nobody");
    buildx.build(context.path(), &push).env("DOCKER_CONFIG", &nobody).fails(1);
    env.lap(["pull", &name]).ok();
    without_secrets(&env, &[&refused, &pushed, &pulled, &again]);
}

#[test]
fn tokens_are_fetched_by_the_client() {
    let env = TestEnv::new();
    let Some(buildx) = Buildx::new(&env) else { return };
    let registry = FaultyRegistry::start();
    registry.put_image("base", "1", &busybox());
    registry.require(Login::Token(ANN));
    let with = logins(&env, "client", registry.address());
    let context = env.context();
    context.dockerfile(&format!("FROM {}\nRUN echo here\n", registry.reference("base:1")));
    buildx.build(context.path(), &[]).fails(1).stderr_has(&["401"]);
    let built = buildx.build(context.path(), &[]).env("DOCKER_CONFIG", &with).ok();
    let asked = registry.seen("/token");
    let is_client = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("user-agent") && value.contains("containerd")
    };
    let of_client = asked.iter().filter(|seen| seen.headers.iter().any(is_client));
    assert!(of_client.count() > 0, "{asked:?}");
    without_secrets(&env, &[&built]);
}
