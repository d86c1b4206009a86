//! ADD from web servers and git repositories, end to end.

mod common;

use common::{build, build_fails, build_tree, env, outcome};
use testkit::{Context, LayerTar, Repository, TestEnv, WebFile, WebServer};

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
