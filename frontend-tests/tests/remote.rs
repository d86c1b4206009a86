//! Content from elsewhere, end to end: contexts and Dockerfiles from web servers and git repositories.

mod common;

use std::io::Write as _;

use common::env;
use testkit::{LayerTar, Repository, TestEnv, WebFile, WebServer};

/// Builds from a context that is not a directory, and reads the root filesystem of the result.
fn build_from(env: &TestEnv, arguments: &[&str]) -> testkit::Tree {
    let out = tempfile::tempdir_in(env.work()).unwrap();
    let target = format!("type=local,dest={}", out.path().display());
    env.lap(["build", "-o", &target]).args(arguments).ok();
    testkit::Tree::of_dir(out.path())
}

/// A tar as every compression has it.
fn compressed(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    bzip2.write_all(tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(tar).unwrap();
    vec![
        ("gz", gzip.finish().unwrap()),
        ("bz2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zst", zstd::encode_all(tar, 1).unwrap()),
    ]
}

#[test]
fn a_git_context_is_a_branch_a_tag_a_commit_or_a_directory() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("Dockerfile", "FROM scratch\nCOPY . /\n").file("name", "first").commit();
    let first = repository.head();
    repository.git(&["tag", "-a", "-m", "one", "v1"]);
    repository.file("name", "second").file("sub/Dockerfile", "FROM scratch\nCOPY . /sub/\n").commit();
    repository.git(&["branch", "other", "v1"]);
    let url = repository.serve(&server);

    let name = |suffix: &str| build_from(&env, &[&format!("{url}{suffix}")]).text("name");
    assert_eq!(name(""), "second");
    assert_eq!(name("#v1"), "first");
    assert_eq!(name("#other"), "first");
    assert_eq!(name(&format!("#{first}")), "first");
    assert_eq!(name("?tag=v1"), "first");
    let sub = build_from(&env, &[&format!("{url}#main:sub")]);
    assert_eq!(sub.paths().collect::<Vec<_>>(), ["sub", "sub/Dockerfile"]);
    let by_flag = build_from(&env, &["-f", "sub/Dockerfile", &url]);
    assert_eq!(by_flag.text("sub/name"), "second");
}

#[test]
fn the_files_of_a_git_context_are_roots_and_have_plain_modes() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("Dockerfile", "FROM scratch\nCOPY . /\n").file("dir/run", "").mode("dir/run", 0o755);
    repository.file(".dockerignore", "*\n").commit();
    let tree = build_from(&env, &[&repository.serve(&server)]);
    let seen = |path: &str| tree.get(path).map(|entry| (entry.mode, entry.owner));
    assert_eq!(seen("Dockerfile"), Some((0o644, (0, 0))));
    assert_eq!(seen("dir"), Some((0o755, (0, 0))));
    assert_eq!(seen("dir/run"), Some((0o755, (0, 0))));
    assert_eq!(seen(".git"), None);
}

#[test]
fn the_git_directory_of_a_context_is_kept_on_demand() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("Dockerfile", "FROM scratch\nCOPY . /\n").commit();
    let url = repository.serve(&server);
    let kept = build_from(&env, &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &url]);
    assert!(kept.get(".git/HEAD").is_some());
    assert!(build_from(&env, &[&format!("{url}?keep-git-dir=true")]).get(".git/HEAD").is_some());
}

#[test]
fn a_ref_that_does_not_exist_is_told_with_those_that_do() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("Dockerfile", "FROM scratch\n").file("docker/x", "").commit();
    repository.git(&["tag", "release-1"]);
    let url = repository.serve(&server);
    let fails = |suffix: &str| env.lap(["build"]).arg(format!("{url}{suffix}")).fails(1);
    fails("#mian").stderr_has(&["has no branch or tag \"mian\"", "did you mean \"main\"?"]);
    fails("#nothing-like-it").stderr_has(&["there are: main, release-1"]);
    fails("#0123456").stderr_has(&["a commit is named by its complete id"]);
    fails("#main:dokcer").stderr_has(&["has no directory \"dokcer\"", "did you mean \"docker\"?"]);
    fails("?branch=main&checksum=0123456").stderr_has(&["but the checksum demands 0123456"]);
    env.lap(["build"]).arg(format!("{url}?branch=main#other")).fails(2).stderr_has(&["asks for the ref"]);
    let missing = server.url("/git/none.git");
    env.lap(["build"]).arg(missing).fails(1).stderr_has(&["git says:", "not found"]);
}

#[test]
fn a_repository_does_not_reach_the_files_of_the_host() {
    let (env, server) = (env(), WebServer::start());
    let secret = env.work().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let repository = Repository::create(&env, "app");
    std::os::unix::fs::symlink(&secret, repository.path().join("link")).unwrap();
    repository.file("Dockerfile", "FROM scratch\nCOPY . /\n").commit();
    let url = repository.serve(&server);
    let by_link = env.lap(["build"]).arg(format!("{url}#main:link")).fails(1);
    by_link.stderr_has(&["has no directory \"link\""]);

    let other = Repository::create(&env, "other");
    other.file("a", "").commit();
    let path = other.path().display().to_string();
    for source in [path.clone(), format!("file://{path}"), "ext::sh -c touch% /tmp/pwned".to_owned()] {
        let modules = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {source}\n");
        repository.file(".gitmodules", modules);
        repository.git(&["add", ".gitmodules"]);
        let entry = format!("160000,{},lib", other.head());
        repository.git(&["update-index", "--add", "--cacheinfo", &entry]);
        repository.git(&["commit", "-q", "-m", "a submodule"]);
        let failed = env.lap(["build"]).arg(&url).fails(1);
        failed.stderr_has(&["cannot fetch the submodules", "not allowed", "over http, https, ssh or git"]);
    }
}

#[test]
fn a_named_context_is_a_repository_or_an_archive_of_the_web() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("name", "from git").file(".dockerignore", "*\n").commit();
    let git = format!("code={}", repository.serve(&server));
    let tar = LayerTar::new().file("name", 0o644, "from the web").finish();
    let web = format!("data={}", server.put("/data.tar", WebFile::new(tar)));
    let context = env.context();
    context.dockerfile("FROM scratch\nCOPY --from=code name /code\nCOPY --from=data name /data\n");
    let path = context.path().display().to_string();
    let tree = build_from(&env, &["--build-context", &git, "--build-context", &web, &path]);
    assert_eq!((tree.text("code").as_str(), tree.text("data").as_str()), ("from git", "from the web"));
}

#[test]
fn a_url_with_an_archive_is_a_context() {
    let (env, server) = (env(), WebServer::start());
    let tar = LayerTar::new().file("Dockerfile", 0o644, "FROM scratch\nCOPY a /\n").file("a", 0o644, "x");
    let tar = tar.finish();
    let url = server.put("/context", WebFile::new(&tar).etag("1"));
    assert_eq!(build_from(&env, &[&url]).text("a"), "x");
    for (name, packed) in compressed(&tar) {
        let url = server.put(&format!("/context.{name}"), WebFile::new(&packed));
        assert_eq!(build_from(&env, &[&url]).text("a"), "x", "{name}");
    }
    // Asked again, the server says that nothing has changed.
    assert_eq!(build_from(&env, &[&url]).text("a"), "x");
    assert_eq!(server.seen("/context")[5].if_none_match.as_deref(), Some("\"1\""));
}

#[test]
fn a_url_with_anything_else_is_a_dockerfile() {
    let (env, server) = (env(), WebServer::start());
    let url = server.put("/Dockerfile", WebFile::new("FROM scratch\nWORKDIR /from-the-web\n"));
    assert!(build_from(&env, &[&url]).get("from-the-web").is_some());
    let broken = server.put("/page", WebFile::new("<html>\n"));
    env.lap(["build"]).arg(broken).fails(1).stderr_has(&["/page:1"]);
    env.lap(["build"]).arg(server.url("/gone")).fails(1).stderr_has(&["/gone", "404", "check the URL"]);
}

#[test]
fn a_file_that_was_collected_is_fetched_again() {
    let (env, server) = (env(), WebServer::start());
    let url = server.put("/Dockerfile", WebFile::new("FROM scratch\nWORKDIR /x\n").etag("1"));
    env.lap(["build", "-t", "short-lived", &url]).ok();
    // What no image and no cached step needs goes with it: the Dockerfile as it was downloaded.
    env.lap(["rmi", "short-lived"]).ok();
    assert!(build_from(&env, &[&url]).get("x").is_some());
    let conditional: Vec<bool> =
        server.seen("/Dockerfile").iter().map(|seen| seen.if_none_match.is_some()).collect();
    assert_eq!(conditional, [false, true, false]);
}

#[test]
fn a_dockerfile_from_the_web_builds_a_local_context() {
    let (env, server) = (env(), WebServer::start());
    let context = env.context();
    context.file("a", "x");
    let url = server.put("/Dockerfile", WebFile::new("FROM scratch\nCOPY a /\n"));
    let path = context.path().display().to_string();
    assert_eq!(build_from(&env, &["-f", &url, &path]).text("a"), "x");
}

#[test]
fn an_archive_on_standard_input_may_be_compressed() {
    let env = env();
    let tar = LayerTar::new().file("Dockerfile", 0o644, "FROM scratch\nCOPY a /\n").file("a", 0o644, "x");
    let tar = tar.finish();
    for (name, packed) in compressed(&tar) {
        let output = env.lap(["build", "-o", "type=tar,dest=-", "-"]).stdin(packed).ok();
        assert_eq!(testkit::Tree::of_tar(output.stdout.as_slice()).text("a"), "x", "{name}");
    }
}

#[test]
fn the_time_of_the_context_can_be_the_time_of_the_image() {
    let (env, server) = (env(), WebServer::start());
    let repository = Repository::create(&env, "app");
    repository.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n").commit();
    let url = repository.serve(&server);
    let built = |url: &str| {
        env.lap(["build", "-t", "dated", "--build-arg", "SOURCE_DATE_EPOCH=context", url]).ok();
        let text = env.lap(["image", "inspect", "dated"]).ok().stdout_text();
        let values: serde_json::Value = serde_json::from_str(&text).unwrap();
        values[0]["Created"].as_str().unwrap().to_owned()
    };
    assert_eq!(built(&url), "2001-02-03T04:05:06Z");
    let file =
        WebFile::new("FROM scratch\nWORKDIR /x\n").header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT");
    assert_eq!(built(&server.put("/Dockerfile", file)), "2015-10-21T07:28:00Z");
    let context = env.context();
    context.dockerfile("FROM scratch\n");
    let arguments = ["build", "--build-arg", "SOURCE_DATE_EPOCH=context"];
    env.lap(arguments).arg(context.path()).fails(1).stderr_has(&["SOURCE_DATE_EPOCH=context needs"]);
}
