//! ADD from web servers and git repositories, end to end.

mod common;

use common::{build, build_fails, build_tree, env, outcome};
use testkit::registry::Fault;
use testkit::{Context, FaultyRegistry, LayerTar, Repository, TestEnv, WebFile, WebServer};

/// A context with a Dockerfile of `FROM scratch` and these lines.
fn context(env: &TestEnv, lines: &str) -> Context {
    let context = env.context();
    context.dockerfile(&format!("FROM scratch\n{lines}\n"));
    context
}

#[test]
fn a_file_of_the_web_is_private_and_has_the_time_of_its_server() {
    let (env, server) = (env(), WebServer::start());
    let file = WebFile::new("content").header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT");
    let url = server.put("/dir/file.txt", file);
    let context =
        context(&env, &format!("ADD {url} /plain\nADD {url} /dir/\nADD --chmod=755 --chown=7:8 {url} /own"));
    let tree = build_tree(&env, &context, &[]);
    let seen = |path: &str| tree.get(path).map(|entry| (entry.mode, entry.owner)).unwrap();
    assert_eq!((tree.text("plain").as_str(), seen("plain")), ("content", (0o600, (0, 0))));
    assert_eq!((tree.text("dir/file.txt").as_str(), seen("own")), ("content", (0o755, (7, 8))));
    let written = std::fs::metadata(env.work().join("rootfs/plain")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&written), 1_445_412_480);
}

#[test]
fn the_server_names_the_file_and_cannot_name_a_place() {
    let (env, server) = (env(), WebServer::start());
    let named = |path: &str, name: &str| {
        let disposition = format!("attachment; filename=\"{name}\"");
        server.put(path, WebFile::new("x").header("Content-Disposition", &disposition))
    };
    let urls = [
        named("/one", "given.txt"),
        named("/two", "../../etc/up"),
        named("/three", ""),
        named("/four", "with [brackets]*.txt"),
        server.put("/", WebFile::new("x")),
    ];
    let tree = build_tree(&env, &context(&env, &format!("ADD {} /d/", urls.join(" "))), &[]);
    let expected = ["d", "d/__unnamed__", "d/given.txt", "d/three", "d/up", "d/with [brackets]*.txt"];
    assert_eq!(tree.paths().collect::<Vec<_>>(), expected);
}

#[test]
fn an_archive_of_the_web_is_unpacked_only_on_demand() {
    let (env, server) = (env(), WebServer::start());
    let url = server.put("/a.tar", WebFile::new(LayerTar::new().file("inside", 0o640, "x").finish()));
    let lines =
        format!("ADD {url} /kept/\nADD --unpack=true {url} /unpacked/\nADD --unpack=false {url} /as-is/");
    let tree = build_tree(&env, &context(&env, &lines), &[]);
    let files: Vec<&str> = tree.paths().filter(|path| path.contains('/')).collect();
    assert_eq!(files, ["as-is/a.tar", "kept/a.tar", "unpacked/inside"]);
    assert_eq!(tree.get("unpacked/inside").unwrap().mode, 0o640);
}

#[test]
fn every_build_asks_whether_the_file_has_changed() {
    let (env, server) = (env(), WebServer::start());
    let url = server.put("/file", WebFile::new("one").etag("1"));
    let context = context(&env, &format!("ADD {url} /file"));
    assert_eq!(outcome(&build(&env, &context, &[]), "ADD"), "DONE");
    assert_eq!(outcome(&build(&env, &context, &[]), "ADD"), "CACHED");
    assert_eq!(server.seen("/file")[1].if_none_match.as_deref(), Some("\"1\""));
    // Another answer with the same content is the same file.
    server.put("/file", WebFile::new("one").etag("2"));
    assert_eq!(outcome(&build(&env, &context, &[]), "ADD"), "CACHED");
    server.put("/file", WebFile::new("two").etag("3"));
    assert_eq!(outcome(&build(&env, &context, &[]), "ADD"), "DONE");
    assert_eq!(build_tree(&env, &context, &[]).text("file"), "two");
    drop(server);
    let failed = build_fails(&env, &context, &[]);
    failed.stderr_has(&["cannot download http://127.0.0.1", "connection refused", "ADD http"]);
}

#[test]
fn a_known_checksum_needs_no_network_and_a_wrong_one_is_refused() {
    let (env, server) = (env(), WebServer::start());
    let url = server.put("/file", WebFile::new("content"));
    let digest = base::Digest::of(b"content");
    let right = context(&env, &format!("ADD --checksum={digest} {url} /file"));
    build(&env, &right, &[]);
    let other = base::Digest::of(b"other");
    let wrong = context(&env, &format!("ADD --checksum={other} {url} /file"));
    let (digest_text, other_text) = (digest.to_string(), other.to_string());
    build_fails(&env, &wrong, &[]).stderr_has(&[&digest_text, &other_text, "Dockerfile:2"]);
    drop(server);
    assert_eq!(outcome(&build(&env, &right, &[]), "ADD"), "CACHED");
    assert_eq!(build_tree(&env, &right, &["--no-cache"]).text("file"), "content");
}

#[test]
fn a_repository_is_added_by_branch_tag_commit_and_directory() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("name", "first").file("dir/inner", "x").commit();
    let first = repository.head();
    repository.git(&["tag", "v1"]);
    repository.file("name", "second").commit();
    let url = repository.serve(&server);
    let lines = [
        format!("ADD {url} /head"),
        format!("ADD {url}#v1 /tag"),
        format!("ADD {url}?branch=main /branch/"),
        format!("ADD --checksum={} {url}#v1 /commit", &first[..10]),
        format!("ADD {url}#{first}:dir /dir"),
        format!("ADD --keep-git-dir=true {url} /kept"),
    ];
    let context = context(&env, &lines.join("\n"));
    let tree = build_tree(&env, &context, &[]);
    let names = ["head", "tag", "branch", "commit"].map(|path| tree.text(&format!("{path}/name")));
    assert_eq!(names, ["second", "first", "second", "first"]);
    assert_eq!(tree.text("dir/inner"), "x");
    assert!(tree.get("head/.git").is_none() && tree.get("kept/.git/HEAD").is_some());
    assert_eq!(outcome(&build(&env, &context, &[]), "[6/6]"), "CACHED");
    repository.file("name", "third").commit();
    let again = build(&env, &context, &[]);
    assert_eq!(outcome(&again, "[1/6]"), "DONE");
    assert_eq!(build_tree(&env, &context, &[]).text("head/name"), "third");
}

#[test]
fn submodules_come_along_unless_they_are_left_out() {
    let (env, server) = (env(), WebServer::start());
    let library = Repository::create(&env, "library");
    library.file("code", "x").commit();
    let library_url = library.serve(&server);
    let repository = Repository::create(&env, "app");
    repository.git(&["submodule", "--quiet", "add", &library_url, "lib"]);
    repository.commit();
    let url = repository.serve(&server);
    let context = context(&env, &format!("ADD {url} /with/\nADD {url}?submodules=false /without/"));
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.text("with/lib/code"), "x");
    assert!(tree.get("with/lib/.git").is_none() && tree.get("without/lib/code").is_none());
}

#[test]
fn secrets_open_servers_and_are_found_nowhere_afterwards() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("name", "private").commit();
    let git = repository.serve(&server);
    // "x-access-token:hunter2" in base64, as git sends a token.
    server.require_for_repositories("Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==");
    let url = server.put("/file", WebFile::new("private").secret("Bearer hunter2"));
    let host = server.address();
    let context = context(&env, &format!("ADD {url} /file\nADD {git} /git"));

    build_fails(&env, &context, &[]).stderr_has(&["/file", "401", "HTTP_AUTH_TOKEN_"]);
    let web = format!("id=HTTP_AUTH_TOKEN_{host},env=TOKEN");
    let with = |secrets: &[&str]| {
        let flags: Vec<&str> = secrets.iter().flat_map(|secret| ["--secret", secret]).collect();
        let command = env.lap(["build", "--progress", "plain", "-t", "secret"]).args(flags);
        command.arg(context.path()).env("TOKEN", "hunter2").run()
    };
    let failed = with(&[&web]);
    assert_eq!(failed.code(), Some(1));
    failed.stderr_has(&["cannot list the branches and tags", "GIT_AUTH_TOKEN"]);
    let built = with(&[&web, "id=GIT_AUTH_TOKEN,env=TOKEN"]);
    assert_eq!(built.code(), Some(0), "{built}");
    for secret in ["hunter2", "aHVudGVyMg"] {
        assert!(!built.stderr_text().contains(secret) && !failed.stderr_text().contains(secret));
        let found =
            std::process::Command::new("grep").args(["-rla", secret]).arg(env.root()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{secret} is in the store");
    }
}

#[test]
fn a_password_in_a_url_opens_a_repository_and_is_not_shown() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("name", "private").commit();
    let url = repository.serve(&server).replace("http://", "http://user:hunter2@");
    // "user:hunter2" in base64.
    server.require_for_repositories("Basic dXNlcjpodW50ZXIy");
    let tree = build_tree(&env, &context(&env, &format!("ADD --keep-git-dir {url} /git")), &[]);
    assert_eq!(tree.text("git/name"), "private");
    assert!(!tree.text("git/.git/config").contains("hunter2"));
    let wrong = url.replace("hunter2", "hunter3");
    let failed = env.lap(["build", "--progress", "plain"]).arg(&wrong).fails(1);
    assert!(!failed.stderr_text().contains("hunter3"), "{failed}");
}

/// The lines that tell of attempts.
fn attempts(output: &testkit::Output) -> usize {
    let is_told = |line: &&str| line.starts_with('#') && line.ends_with("; trying again");
    output.stderr_text().lines().filter(is_told).count()
}

#[test]
fn a_file_is_fetched_again_as_often_as_the_user_wants() {
    let (env, server) = (env(), WebServer::start());
    let url = server.put("/file", WebFile::new("content"));
    let context = context(&env, &format!("ADD {url} /file"));
    // No client takes this for something that goes away by itself.
    server.inject(2, "/file", Fault::Status(403, None));
    let output = build(&env, &context, &["--retry", "ADD http://*/file=2"]);
    assert_eq!((attempts(&output), server.seen("/file").len()), (2, 3), "{output}");
    output.stderr_has(&["attempt 1 of 3 failed: cannot download", "attempt 2 of 3 failed", "403"]);

    // Others are as they were, and there is an end.
    server.inject(9, "/file", Fault::Status(403, None));
    assert_eq!(attempts(&build_fails(&env, &context, &["--retry", "ADD */other=5"])), 0);
    let output = build_fails(&env, &context, &["--retry", "1"]);
    assert_eq!(attempts(&output), 1, "{output}");
    output.stderr_has(&["attempt 1 of 2 failed", "cannot download", "Dockerfile:2"]);
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let (env, server) = (env(), WebServer::start());
    let url = server.put("/file", WebFile::new("content".repeat(1000)));
    let context = context(&env, &format!("ADD {url} /file"));
    server.inject(1, "/file", Fault::StallBefore);
    let output = build_fails(&env, &context, &["--timeout", "ADD *=300ms"]);
    output
        .stderr_has(&["did not end within 300ms and was given up", "hint: give it more time with --timeout"]);
    server.heal();
    server.inject(1, "/file", Fault::StallAfter(500));
    let output = build_fails(&env, &context, &["--idle-timeout", "300ms"]);
    output.stderr_has(&["received nothing for 300ms and was given up", "--idle-timeout"]);
    // The next attempt has its time anew. A machine that stalls takes a further one.
    server.heal();
    server.inject(1, "/file", Fault::StallAfter(500));
    let output = build(&env, &context, &["--idle-timeout", "300ms", "--timeout", "1m", "--retry", "3"]);
    assert!((1..=3).contains(&attempts(&output)), "{output}");
    assert_eq!(build_tree(&env, &context, &[]).text("file").len(), 7000);
    env.lap(["store", "check"]).ok();
}

#[test]
fn repositories_and_images_are_waited_for_no_longer_than_the_user_wants() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("name", "content").commit();
    let added = context(&env, &format!("ADD {} /app", repository.serve(&server)));
    server.inject(1, "info/refs", Fault::Status(403, None));
    let output = build(&env, &added, &["--retry", "1"]);
    assert_eq!(attempts(&output), 1, "{output}");
    repository.file("name", "other").commit();
    server.inject(1, "info/refs", Fault::StallBefore);
    build_fails(&env, &added, &["--timeout", "ADD *app*=500ms"]).stderr_has(&["did not end within 500ms"]);

    let registry = FaultyRegistry::start();
    registry.put_image("base", "1", &testkit::images::busybox());
    let pulled = env.context();
    pulled.dockerfile(&format!("FROM {}\nRUN true\n", registry.reference("base:1")));
    registry.inject(1, "/manifests/", Fault::StallBefore);
    build_fails(&env, &pulled, &["--timeout", "FROM *=500ms"]).stderr_has(&["did not end within 500ms"]);
    registry.heal();
    registry.inject(1, "/manifests/", Fault::Status(404, None));
    registry.inject(1, "/blobs/", Fault::Status(404, None));
    let output = build(&env, &pulled, &["--retry", "*=2"]);
    assert_eq!(attempts(&output), 2, "{output}");
}
