//! Clients of others, and our own: what they push and pull is what was meant.

use std::path::Path;

use base::Digest;
use testkit::{TestEnv, Tree, judges};

use crate::common::{build, env, image_id};
use crate::server::Server;

/// `ann` with the password `s3cret:word`, as libxcrypt hashes it.
const ACCOUNT: &str = "ann:$2y$05$abcdefghijklmnopqrstuu2JDQLR7mbHhdpill4/jMLDoVbsBhlUi\n";

/// An environment with an image `sample`.
fn sample() -> TestEnv {
    let env = env();
    let context = env.context();
    context.file("f", "content").dockerfile("FROM busybox\nCOPY f /dir/f\nRUN ln /dir/f /dir/g\n");
    build(&env, &context, &["-t", "sample:1"]);
    env
}

#[test]
fn skopeo_copies_inspects_lists_and_deletes() {
    let Some(skopeo) = judges::skopeo() else { return };
    let server = Server::with(sample(), &[]);
    let of = |name: &str| format!("docker://{}/{name}", server.address);
    let dir = tempfile::tempdir().unwrap();
    let layout = format!("oci:{}:x", dir.path().join("layout").display());
    let plain = "--src-tls-verify=false";
    skopeo.ok(["copy", "--insecure-policy", plain, &of("library/sample:1"), &layout]);
    let copy = |from: &str, to: &str, kind: &[&str]| {
        let mut args = vec!["copy", "--insecure-policy", plain, "--dest-tls-verify=false"];
        args.extend(kind);
        args.extend([from, to]);
        skopeo.ok(args);
    };
    copy(&layout, &of("team/app:oci"), &[]);
    copy(&layout, &of("team/app:docker"), &["--format", "v2s2"]);
    // Between repositories, layers are mounted.
    copy(&of("team/app:docker"), &of("other/app:1"), &[]);
    let listed = skopeo.json(["list-tags", "--tls-verify=false", &of("team/app")]);
    assert_eq!(listed["Tags"], serde_json::json!(["docker", "oci"]));
    let seen = skopeo.json(["inspect", "--tls-verify=false", &of("other/app:1")]);
    assert_eq!(seen["RepoTags"], serde_json::json!(["1"]));
    skopeo.ok(["delete", "--tls-verify=false", &of("team/app:oci")]);
    let listed = skopeo.json(["list-tags", "--tls-verify=false", &of("team/app")]);
    assert_eq!(listed["Tags"], serde_json::json!(["docker"]));
    // What was pushed is an image of the store, and runs.
    let name = format!("{}/team/app:docker", server.name);
    server.env.lap(["run", "--rm", &name, "cat", "/dir/g"]).ok().stdout_has(&["content"]);
    let env = server.stop();
    env.lap(["store", "check"]).ok().stdout_has(&["The store is sound"]);
}

#[test]
fn lap_pulls_and_builds_from_it() {
    let server = Server::with(sample(), &[]);
    let name = format!("{}/library/sample:1", server.address);
    let other = TestEnv::new();
    other.lap(["pull", &name]).ok();
    assert_eq!(image_id(&other, &name), image_id(&server.env, "sample:1"));
    let context = other.context();
    context.dockerfile(&format!("FROM {}/sample:1\nRUN cat /dir/g > /seen\n", server.address));
    build(&other, &context, &["-t", "built"]);
    other.lap(["run", "--rm", "built", "cat", "/seen"]).ok().stdout_has(&["content"]);
}

#[test]
fn builders_share_results_through_it() {
    let name = ["--name", "registry.example:5000"];
    let server = Server::with(TestEnv::new(), &name);
    let steps = |server: &Server, env: &TestEnv, flag: &str| {
        let context = env.context();
        context.file("f", "1").dockerfile("FROM busybox\nCOPY f /f\nRUN cat /f /f > /g\n");
        let cache = format!("type=records,ref={}/team/cache", server.address);
        let output = build(env, &context, &[flag, &cache, "-t", "x"]);
        crate::common::steps_run(&output).len()
    };
    let (first, second) = (env(), env());
    assert_eq!(steps(&server, &first, "--cache-to"), 2);
    // Records are no images, and are kept like some.
    let env = server.stop();
    assert_eq!(env.lap(["images", "-q"]).ok().stdout_text(), "");
    env.lap(["image", "prune", "-f"]).ok();
    env.lap(["store", "gc"]).ok();
    let server = Server::with(env, &name);
    assert_eq!(server.get("/v2/_catalog").json()["repositories"], serde_json::json!(["team/cache"]));
    assert_eq!(steps(&server, &second, "--cache-from"), 0);
    assert_eq!(image_id(&second, "x"), image_id(&first, "x"));
    second.lap(["run", "--rm", "x", "cat", "/g"]).ok().stdout_has(&["11"]);
}

#[test]
fn docker_pulls_what_lap_built_and_pushes_what_lap_runs() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let docker = match frontend_tests::docker::Docker::start(Path::new("/")) {
        Ok(docker) => docker,
        Err(reason) => return testkit::privilege::skip(&reason),
    };
    let server = Server::with(sample(), &[]);
    let name = format!("{}/library/sample:1", server.address);
    docker.command().args(["pull", &name]).ok();
    let container = docker.command().args(["create", &name]).ok().stdout_text();
    let copied = docker.command().args(["cp", &format!("{}:/dir", container.trim()), "-"]).ok().stdout;
    assert_eq!(Tree::of_tar(copied.as_slice()).text("dir/g"), "content");
    let pushed = format!("{}/from/docker:2", server.address);
    docker.command().args(["tag", &name, &pushed]).ok();
    docker.command().args(["push", &pushed]).ok();
    let ours = format!("{}/from/docker:2", server.name);
    server.env.lap(["run", "--rm", &ours, "cat", "/dir/g"]).ok().stdout_has(&["content"]);
    // A second push of the same has nothing to send.
    docker.command().args(["push", &pushed]).ok().stdout_has(&["Layer already exists"]);
    let env = server.stop();
    env.lap(["store", "check"]).ok().stdout_has(&["The store is sound"]);
}

#[test]
fn an_ordinary_user_serves_as_well() {
    let Some(user) = testkit::OrdinaryUser::new(testkit::Ranges::Usual) else { return };
    user.load(&testkit::images::busybox());
    let mut running = user.lap(["registry", "serve", "--addr", "127.0.0.1:0"]).spawn();
    let line = running.wait_for_line("Listening on http://");
    let address = line["Listening on http://".len()..].split(' ').next().expect("an address");
    let name = format!("{address}/busybox:latest");
    let other = TestEnv::new();
    other.lap(["pull", &name]).ok();
    assert_eq!(image_id(&other, &name), testkit::images::busybox().id().to_string());
    running.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(running.finish().code(), Some(0));
}

#[test]
fn only_whom_the_file_names_is_let_in() {
    let env = sample();
    let file = env.work().join("htpasswd");
    std::fs::write(&file, ACCOUNT).unwrap();
    let server = Server::with(env, &["--auth", file.to_str().unwrap()]);
    let answer = server.get("/v2/").is(401);
    assert_eq!(answer.code(), "UNAUTHORIZED");
    assert!(answer.header("www-authenticate").unwrap().starts_with("Basic realm="), "{answer:?}");
    let basic =
        |encoded: &str| server.send("GET", "/v2/", &[("Authorization", &format!("Basic {encoded}"))], b"");
    basic("YW5uOnMzY3JldDp3b3Jk").is(200);
    for wrong in ["YW5uOndyb25n", "YW5u", "%%%", "ZXZlOnMzY3JldDp3b3Jk"] {
        basic(wrong).is(401);
    }
    server.send("GET", "/v2/", &[("Authorization", "Bearer x")], b"").is(401);
    if let Some(skopeo) = judges::skopeo() {
        let image = format!("docker://{}/library/sample:1", server.address);
        skopeo.json(["inspect", "--tls-verify=false", "--creds", "ann:s3cret:word", &image]);
    }
    let other = TestEnv::new();
    let name = format!("{}/sample:1", server.address);
    let refused = other.lap(["pull", &name]).fails(1);
    refused.stderr_has(&[&server.address]);
    std::fs::create_dir(other.home().join(".docker")).unwrap();
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"YW5uOnMzY3JldDp3b3Jk"}}}}}}"#, server.address);
    std::fs::write(other.home().join(".docker/config.json"), config).unwrap();
    other.lap(["pull", &name]).ok();
    // Who is taken out of the file is out.
    std::fs::write(&file, "# nobody\n").unwrap();
    basic("YW5uOnMzY3JldDp3b3Jk").is(401);
}

#[test]
fn https_with_a_certificate_of_a_test_authority() {
    let (Some(openssl), Some(skopeo)) = (judges::program("openssl"), judges::skopeo()) else { return };
    let env = sample();
    let work = env.work();
    let certs = work.join("certs");
    std::fs::create_dir(&certs).unwrap();
    // skopeo takes everything in its directory for something to use.
    let path = |name: &str| match name {
        "ca.crt" => certs.join(name).display().to_string(),
        _ => work.join(name).display().to_string(),
    };
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let run = |args: &[&str]| openssl.ok(args.iter().copied());
    let ca = ["-subj", "/CN=test authority", "-keyout", &path("ca.key"), "-out", &path("ca.crt")];
    run(&[&new[..], &ca].concat());
    let signed = [
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-CA",
        &path("ca.crt"),
        "-CAkey",
        &path("ca.key"),
        "-keyout",
        &path("server.key"),
        "-out",
        &path("server.pem"),
    ];
    run(&[&new[..], &signed].concat());
    let flags = ["--tls-cert", &path("server.pem"), "--tls-key", &path("server.key")];
    let server = Server::with(env, &flags);
    let image = format!("docker://{}/library/sample:1", server.address);
    skopeo.json(["inspect", "--cert-dir", certs.to_str().unwrap(), &image]);
    let layout = format!("oci:{}:x", server.env.work().join("layout").display());
    skopeo.ok(["copy", "--insecure-policy", "--src-cert-dir", certs.to_str().unwrap(), &image, &layout]);
    let to = format!("docker://{}/pushed:1", server.address);
    skopeo.ok(["copy", "--insecure-policy", "--dest-cert-dir", certs.to_str().unwrap(), &layout, &to]);
    // Plain HTTP is not answered.
    assert!(crate::http::send_raw(&server.address, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").is_none());
    let env = server.stop();
    env.lap([
        "registry",
        "serve",
        "--addr",
        "127.0.0.1:0",
        "--tls-cert",
        &path("ca.key"),
        "--tls-key",
        &path("ca.key"),
    ])
    .fails(1)
    .stderr_has(&["ca.key holds no certificate"]);
    env.lap(["registry", "serve", "--tls-cert", &path("ca.crt")]).fails(2).stderr_has(&["--tls-key"]);
}

#[test]
fn what_cannot_be_served_is_said_with_the_reason() {
    let server = Server::new();
    let env = TestEnv::new();
    env.lap(["registry", "serve", "--addr", &server.address])
        .fails(1)
        .stderr_has(&["cannot listen at", "in use"]);
    env.lap(["registry", "serve", "--auth", "/none"]).fails(1).stderr_has(&["password file /none"]);
    env.lap(["registry", "serve", "--name", "docker.io"])
        .fails(1)
        .stderr_has(&["docker.io", "cannot be a registry's name"]);
    env.lap(["registry", "serve", "--addr", "nonsense"]).fails(2);
}

/// A manifest that refers to another one, as a signature does.
fn referrer(subject: &serde_json::Value, kind: &str) -> Vec<u8> {
    let empty = serde_json::json!({"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"});
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind, "config": empty, "layers": [empty], "subject": subject});
    manifest.to_string().into_bytes()
}

#[test]
fn our_client_lists_tags_and_referrers_and_takes_names_away() {
    let server = Server::with(sample(), &[]);
    let repository = format!("{}/library/sample", server.address);
    for tag in ["2", "3"] {
        server.env.lap(["tag", "sample:1", &format!("{}/library/sample:{tag}", server.name)]).ok();
    }
    let other = env();
    let tags = || other.lap(["registry", "tags", &repository]).ok().stdout_text();
    assert_eq!(tags(), "1\n2\n3\n");
    // All tags at once.
    let pulled = other.lap(["pull", "--all-tags", &repository]).ok();
    assert_eq!(pulled.stdout_text().matches("Status: ").count(), 3, "{pulled}");
    for tag in ["1", "2", "3"] {
        assert_eq!(image_id(&other, &format!("{repository}:{tag}")), image_id(&server.env, "sample:1"));
    }
    other.lap(["pull", "-a", &format!("{repository}:1")]).fails(2).stderr_has(&["tag can't be used with"]);
    // What refers to an image, by kind.
    let answer = server.get("/v2/library/sample/manifests/1");
    let digest = Digest::of(&answer.body);
    let subject = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest.to_string(), "size": answer.body.len()});
    server.push_blob("library/sample", b"{}");
    for kind in ["application/x-signature", "application/x-notes"] {
        let manifest = referrer(&subject, kind);
        let name = Digest::of(&manifest).to_string();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        assert_eq!(server.put_manifest("library/sample", &name, kind, &manifest).status, 201);
    }
    let referrers = |flags: &[&str]| {
        let listed = other.lap(["registry", "referrers", "--format", "{{.ArtifactType}}"]).args(flags);
        let text = listed.arg(format!("{repository}:1")).ok().stdout_text();
        let mut kinds: Vec<String> = text.lines().map(str::to_owned).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(referrers(&[]), ["application/x-notes", "application/x-signature"]);
    assert_eq!(referrers(&["--artifact-type", "application/x-notes"]), ["application/x-notes"]);
    assert_eq!(referrers(&["--artifact-type", "application/x-none"]), [""; 0]);
    // A tag goes alone; a manifest with all its tags.
    other.lap(["registry", "rm", &repository]).fails(2).stderr_has(&["neither tag nor digest"]);
    other.lap(["registry", "rm", &format!("{repository}:2")]).ok();
    assert_eq!(tags(), "1\n3\n");
    let gone = other.lap(["registry", "rm", &format!("{repository}:2")]).fails(1);
    gone.stderr_has(&["delete", "manifest 2"]);
    other.lap(["registry", "rm", &format!("{repository}@{digest}")]).ok();
    // What the store has of Docker Hub is served, but is not the server's to remove.
    assert_eq!(tags(), "1\n");
    other.lap(["pull", &format!("{repository}:3")]).fails(1).stderr_has(&["manifest 3"]);
    server.stop();
}
