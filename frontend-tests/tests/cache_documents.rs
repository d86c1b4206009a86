//! `--cache-to` and `--cache-from` with caches that are one document, in BuildKit's words and form: in a registry, in an OCI
//! layout and in a bucket of S3.

mod common;

use std::path::Path;

use common::{build, build_fails, env, image_id, steps_run};
use testkit::registry::Fault;
use testkit::{
    Azurite, Context, DockerRegistry, FaultyRegistry, MotoServer, TestEnv, WebFile, WebServer, judges,
};

const DOCKERFILE: &str = "FROM busybox AS one\nCOPY one /one\nRUN cat /one > /a && echo made-one\n\
                          FROM busybox\nCOPY --from=one /a /a\nCOPY two /two\nRUN cat /a /two > /b\nLABEL done=yes\n";

/// The steps of [`DOCKERFILE`].
const STEPS: usize = 5;

const NOTHING: [String; 0] = [];

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.file("one", "1").file("two", "2").dockerfile(DOCKERFILE);
    context
}

/// The same with another last step.
fn changed_at_the_end(env: &TestEnv) -> Context {
    let context = context(env);
    context.file("two", "3");
    context
}

/// The same, but that it needs the first stage's files for a new copy.
fn changed_copy(env: &TestEnv) -> Context {
    let context = context(env);
    context.dockerfile(&DOCKERFILE.replace("/a /a\n", "/a /c\n").replace("cat /a", "cat /c"));
    context
}

/// What a new builder, which has `from` to look at, has to do for a context.
fn steps_with(from: &str, context: impl FnOnce(&TestEnv) -> Context) -> Vec<String> {
    let env = env();
    steps_run(&build(&env, &context(&env), &["--cache-from", from, "-t", "x"]))
}

/// Builds from nothing, and exports to `to`; gives the image's id.
fn export(to: &str) -> String {
    let env = env();
    let made = build(&env, &context(&env), &["--cache-to", to, "-t", "x"]);
    assert_eq!(steps_run(&made).len(), STEPS, "{made}");
    made.stderr_has(&["exporting cache to "]);
    image_id(&env, "x")
}

/// Everything is found by a builder that begins with nothing, and the image is the same.
fn all_is_found(from: &str, id: &str) {
    let env = env();
    let found = build(&env, &context(&env), &["--cache-from", from, "-t", "x"]);
    assert_eq!(steps_run(&found), NOTHING, "{found}");
    found.stderr_has(&["importing cache manifest from "]);
    assert_eq!(image_id(&env, "x"), id);
    assert_eq!(env.lap(["run", "--rm", "x", "cat", "/a", "/b"]).ok().stdout_text(), "112");
}

#[test]
fn a_registry_has_the_steps_of_the_image_or_all() {
    let Some(registry) = DockerRegistry::start() else { return };
    for (mode, needed_again) in [("min", 4), ("max", 2)] {
        let cache = format!("type=registry,ref={}", registry.reference(&format!("team/app:{mode}")));
        let id = export(&format!("{cache},mode={mode}"));
        all_is_found(&cache, &id);
        assert_eq!(steps_with(&cache, changed_at_the_end).len(), 2, "{mode}");
        assert_eq!(steps_with(&cache, changed_copy).len(), needed_again + 1, "{mode}");
    }
    // A name alone is enough.
    assert_eq!(steps_with(&registry.reference("team/app:max"), context), NOTHING);
}

#[test]
fn all_forms_are_written_and_read_and_other_tools_list_and_copy_them() {
    let (Some(registry), Some(skopeo)) = (DockerRegistry::start(), judges::skopeo()) else { return };
    let oci = "application/vnd.oci.image.";
    for (form, media_type, layer) in [
        ("image-manifest=true", format!("{oci}manifest.v1+json"), format!("{oci}layer.v1.tar+gzip")),
        (
            "image-manifest=false,compression=zstd",
            format!("{oci}index.v1+json"),
            format!("{oci}layer.v1.tar+zstd"),
        ),
        (
            "oci-mediatypes=false,force-compression=true",
            "application/vnd.docker.distribution.manifest.list.v2+json".to_owned(),
            "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned(),
        ),
        (
            "compression=uncompressed,force-compression=true",
            format!("{oci}manifest.v1+json"),
            format!("{oci}layer.v1.tar"),
        ),
    ] {
        let reference = registry.reference("team/app:cache");
        let id = export(&format!("type=registry,ref={reference},mode=max,{form}"));
        all_is_found(&reference, &id);
        let name = format!("docker://{reference}");
        let raw = skopeo.json(["inspect", "--raw", "--tls-verify=false", &name]);
        assert_eq!(raw["mediaType"], *media_type, "{form}");
        let text = raw.to_string();
        assert!(text.contains("application/vnd.buildkit.cacheconfig.v0"), "{form}: {text}");
        assert!(text.contains(&format!("\"{layer}\"")), "{form}: {text}");
        if media_type.contains("manifest.v1") {
            let copy = registry.reference("elsewhere/app:cache");
            let to = format!("docker://{copy}");
            let plain = ["--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
            skopeo.ok([&["copy"][..], &plain, &[&name, &to]].concat());
            all_is_found(&copy, &id);
        }
    }
}

#[test]
fn a_directory_has_documents_by_tag_and_digest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not/there/yet");
    let at = |kind: &str, more: &str| format!("type=local,{kind}={}{more}", path.display());
    let id = export(&at("dest", ",mode=max"));
    all_is_found(&at("src", ""), &id);
    let other = env();
    build(&other, &changed_at_the_end(&other), &["--cache-to", &at("dest", ",tag=other,mode=max")]);
    assert_eq!(steps_with(&at("src", ",tag=other"), changed_at_the_end), NOTHING);
    assert_eq!(steps_with(&at("src", ""), changed_at_the_end).len(), 2);
    let index = std::fs::read(path.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let digests: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["digest"].as_str().unwrap())
        .collect();
    assert_eq!(digests.len(), 2);
    let first = at("src", &format!(",digest={}", digests[0]));
    // Its name means another one by now, but what it was is still there.
    build(&other, &changed_at_the_end(&other), &["--cache-to", &at("dest", ",mode=max")]);
    assert_eq!(steps_with(&first, context), NOTHING);
}

#[test]
fn a_bucket_has_documents_by_name() {
    let Some(server) = MotoServer::start() else { return };
    let at = |more: &str| {
        let url = server.url();
        format!(
            "type=s3,bucket=cache,endpoint_url={url},use_path_style=true,prefix=team/,access_key_id=id,\
             secret_access_key=secret{more}"
        )
    };
    // A commit and the branch that it is on have the same document.
    let id = export(&at(",name=0a1b;main,mode=max,upload_parallelism=2"));
    all_is_found(&at(",name=0a1b"), &id);
    all_is_found(&at(",name=main"), &id);
    let (_, objects) = server.request("GET", "/cache?list-type=2");
    for name in ["team/manifests/0a1b<", "team/manifests/main<", "team/blobs/sha256:"] {
        assert!(objects.contains(name), "{name} in {objects}");
    }
    let (status, document) = server.request("GET", "/cache/team/manifests/main");
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert!(status == 200 && document["layers"].is_array() && document["records"].is_array(), "{document}");
    let other = env();
    let to = at(",name=other,manifests_prefix=m/,mode=max");
    build(&other, &changed_at_the_end(&other), &["--cache-to", &to]);
    // Names that are not there yet are passed over.
    assert_eq!(steps_with(&at(",name=new;other,manifests_prefix=m/"), changed_at_the_end), NOTHING);
    assert_eq!(steps_with(&at(",name=other"), changed_at_the_end).len(), STEPS);
    // What has gone or is no document costs a warning.
    server.request("DELETE", "/cache/team/manifests/0a1b");
    server.put("/cache/team/manifests/main", b"{\"layers\": 7}");
    for (name, words) in [("0a1b", "there is no cache yet"), ("main", "is damaged")] {
        let env = env();
        let output = build(&env, &context(&env), &["--cache-from", &at(&format!(",name={name}"))]);
        assert_eq!(steps_run(&output).len(), STEPS);
        assert_eq!(output.stderr_text().matches("is not used").count(), 1, "{output}");
        output.stderr_has(&[words]);
    }
    // A bucket that is not there fails the build that was to write to it, and no other.
    let nowhere = at("").replace("bucket=cache", "bucket=nowhere");
    let failing = env();
    let failed = build_fails(&failing, &context(&failing), &["--cache-to", &nowhere]);
    failed.stderr_has(&["cannot export the cache to s3://nowhere/team/", "NoSuchBucket"]);
    build(&failing, &context(&failing), &["--cache-to", &(nowhere + ",ignore-error=true")]);
}

#[test]
fn a_container_of_azure_has_documents_by_name() {
    let Some(server) = Azurite::start() else { return };
    let with_key = |key: &str, more: &str| {
        let (url, account) = (server.account_url(), Azurite::ACCOUNT);
        format!(
            "type=azblob,account_url={url},account_name={account},prefix=team/,secret_access_key={key}{more}"
        )
    };
    let at = |more: &str| with_key(Azurite::KEY, more);
    // The container is made by the first who writes.
    let id = export(&at(",container=cache,name=0a1b;main,mode=max"));
    all_is_found(&at(",container=cache,name=0a1b"), &id);
    all_is_found(&at(",container=cache,name=main"), &id);
    let other = env();
    let to = at(",container=cache,name=other,manifests_prefix=m/,blobs_prefix=b/,mode=max");
    build(&other, &changed_at_the_end(&other), &["--cache-to", &to]);
    let from = at(",container=cache,name=new;other,manifests_prefix=m/,blobs_prefix=b/");
    assert_eq!(steps_with(&from, changed_at_the_end), NOTHING);
    // What is not there costs a warning, and so does a wrong key; who was to write there fails.
    let wrong = with_key("AAAA", ",container=cache");
    for (place, words) in [
        (at(",container=none"), "there is no cache yet"),
        (at(",container=cache,name=none"), "there is no cache yet"),
        (wrong.clone(), "403"),
    ] {
        let env = env();
        let output = build(&env, &context(&env), &["--cache-from", &place]);
        assert_eq!(steps_run(&output).len(), STEPS);
        assert_eq!(output.stderr_text().matches("is not used").count(), 1, "{output}");
        output.stderr_has(&[words]);
        assert!(!output.stderr_text().contains(Azurite::KEY), "{output}");
    }
    let failing = env();
    let failed = build_fails(&failing, &context(&failing), &["--cache-to", &wrong]);
    failed.stderr_has(&["cannot export the cache to http://127.0.0.1:", "403"]);
    build(&failing, &context(&failing), &["--cache-to", &(wrong + ",ignore-error=true")]);
}

#[test]
fn a_large_layer_goes_to_azure_in_blocks() {
    let Some(server) = Azurite::start() else { return };
    let place = format!(
        "type=azblob,account_url={},account_name={},secret_access_key={}",
        server.account_url(),
        Azurite::ACCOUNT,
        Azurite::KEY
    );
    let builder = env();
    let context = builder.context();
    context.dockerfile("FROM busybox\nRUN head -c 70000000 /dev/urandom > /large; sha256sum /large > /sum\n");
    build(&builder, &context, &["--cache-to", &format!("{place},mode=max"), "-t", "x"]);
    let other = env();
    let found = other.lap(["build", "--progress", "plain", "-t", "x", "--cache-from", &place]);
    assert_eq!(steps_run(&found.arg(context.path()).ok()), NOTHING);
    other.lap(["run", "--rm", "x", "sha256sum", "-c", "/sum"]).ok();
}

#[test]
fn the_keys_of_a_bucket_come_from_a_profile_or_a_service() {
    let Some(server) = MotoServer::start() else { return };
    let place = format!("type=s3,bucket=cache,endpoint_url={},use_path_style=true", server.url());
    export(&format!("{place},mode=max,access_key_id=id,secret_access_key=secret"));
    let lender = WebServer::start();
    let keys =
        r#"{"AccessKeyId":"id","SecretAccessKey":"secret","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#;
    let keys_of_container = lender.put("/keys", WebFile::new(keys).secret("who"));
    lender.put("/latest/api/token", WebFile::new("the-token"));
    let roles = "/latest/meta-data/iam/security-credentials/";
    lender.put(roles, WebFile::new("role"));
    lender.put(&format!("{roles}role"), WebFile::new(keys));
    let machine = lender.url("");
    let found_with = |variables: &[(&str, &str)]| {
        let env = env();
        std::fs::create_dir(env.home().join(".aws")).unwrap();
        let profile = "[ci]\naws_access_key_id = id\naws_secret_access_key = secret\n";
        std::fs::write(env.home().join(".aws/credentials"), profile).unwrap();
        std::fs::write(env.home().join(".aws/config"), "[profile sso]\nsso_session = x\n").unwrap();
        let lap = env.lap(["build", "--progress", "plain", "--cache-from", &place]);
        let lap = variables.iter().fold(lap, |lap, (name, value)| lap.env(name, value));
        lap.arg(context(&env).path()).ok()
    };
    for variables in [
        &[("AWS_PROFILE", "ci")][..],
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &keys_of_container),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "who"),
        ],
        &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &machine)],
    ] {
        let found = found_with(variables);
        assert_eq!(steps_run(&found), NOTHING, "{variables:?}: {found}");
    }
    let asked = lender.seen("GET /latest/");
    let token = ("x-aws-ec2-metadata-token".to_owned(), "the-token".to_owned());
    assert!(asked.len() == 2 && asked.iter().all(|seen| seen.headers.contains(&token)), "{asked:?}");
    lender.inject(u32::MAX, "/keys", Fault::StallBefore);
    for (variables, words) in [
        (&[][..], "403"),
        (&[("AWS_PROFILE", "none")], "there is no profile \"none\" in"),
        (&[("AWS_PROFILE", "sso")], "has no access key, but sso_session"),
        (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &keys_of_container)], "cannot ask"),
        (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://keys.example/")], "keys.example"),
    ] {
        let output = found_with(variables);
        assert_eq!(steps_run(&output).len(), STEPS, "{variables:?}: {output}");
        output.stderr_has(&["is not used", words]);
    }
}

#[test]
fn a_cache_that_is_written_again_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = |kind: &str, name: &str| format!("type=local,{kind}={}", directory.path().join(name).display());
    export(&(at("dest", "one") + ",mode=max"));
    // By one who found everything there, by way of another place, and by one who has everything.
    let second = env();
    let (from, to) = (at("src", "one"), at("dest", "two") + ",mode=max");
    let found = build(&second, &context(&second), &["--cache-from", &from, "--cache-to", &to]);
    assert_eq!(steps_run(&found), NOTHING);
    let to = at("dest", "three") + ",mode=max";
    assert_eq!(steps_run(&build(&second, &context(&second), &["--cache-to", &to])), NOTHING);
    std::fs::remove_dir_all(directory.path().join("one")).unwrap();
    for name in ["two", "three"] {
        let from = at("src", name);
        assert_eq!(steps_with(&from, context), NOTHING, "{name}");
        assert_eq!(steps_with(&from, changed_at_the_end).len(), 2, "{name}");
    }
    assert_eq!(steps_with(&at("src", "two"), changed_copy).len(), 3);
}

#[test]
fn several_are_written_and_read_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let at = |kind: &str, name: &str| format!("type=local,{kind}={}", directory.path().join(name).display());
    let records = directory.path().join("records");
    let records = |kind: &str| format!("type=records,{kind}={}", records.display());
    let first = env();
    let to = [at("dest", "min"), at("dest", "max") + ",mode=max", records("dest")];
    build(&first, &context(&first), &["--cache-to", &to[0], "--cache-to", &to[1], "--cache-to", &to[2]]);
    for from in [at("src", "min"), at("src", "max"), records("src")] {
        assert_eq!(steps_with(&from, context), NOTHING, "{from}");
    }
    // The first has no such stage, the second is asked then.
    let second = env();
    let from = ["--cache-from", &at("src", "min"), "--cache-from", &at("src", "max")].map(str::to_owned);
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    assert_eq!(steps_run(&build(&second, &changed_copy(&second), &from)).len(), 3);
    let twice = ["--cache-to", to[0].as_str(), "--cache-to", to[0].as_str()];
    let refused = second.lap(["build"]).args(twice).arg(context(&second).path()).fails(2);
    refused.stderr_has(&["two caches that are written have the same place"]);
}

/// The files of a layout that are manifests or cache documents.
fn documents(layout: &Path) -> Vec<std::path::PathBuf> {
    let blobs = std::fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let is_document = |path: &std::path::PathBuf| std::fs::read(path).unwrap().starts_with(b"{");
    blobs.map(|entry| entry.unwrap().path()).filter(is_document).collect()
}

#[test]
fn what_is_no_cache_of_ours_costs_one_warning() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache");
    let from = format!("type=local,src={}", path.display());
    let warns = |words: &str| {
        let env = env();
        let output = build(&env, &context(&env), &["--cache-from", &from]);
        assert_eq!(steps_run(&output).len(), STEPS);
        output.stderr_has(&["the shared cache", "is not used", words]);
        assert_eq!(output.stderr_text().matches("is not used").count(), 1, "{output}");
    };
    warns("there is no cache yet");
    for (damage, words) in [("gone", "is missing or damaged"), ("cut", "is missing or damaged")] {
        export(&format!("type=local,dest={}", path.display()));
        for document in documents(&path) {
            let content = std::fs::read(&document).unwrap();
            match damage {
                "gone" => std::fs::remove_file(&document).unwrap(),
                _ => std::fs::write(&document, &content[..content.len() / 2]).unwrap(),
            }
        }
        warns(words);
        std::fs::remove_dir_all(&path).unwrap();
    }
    std::fs::create_dir(&path).unwrap();
    for garbage in ["", "no json", "[]", &"[".repeat(100_000)] {
        std::fs::write(path.join("index.json"), garbage).unwrap();
        warns("is damaged");
    }
}

/// Puts the image `x` of an environment into a registry.
fn push(env: &TestEnv, reference: &str) {
    let skopeo = judges::skopeo().expect("who has a registry has skopeo");
    let archive = env.work().join("x.tar");
    env.lap(["save", "--format", "oci-archive", "-o"]).arg(&archive).arg("x").ok();
    let (from, to) = (format!("oci-archive:{}", archive.display()), format!("docker://{reference}"));
    skopeo.ok(["copy", "--insecure-policy", "--dest-tls-verify=false", &from, &to]);
}

#[test]
fn an_image_has_its_own_steps_in_its_config() {
    let Some(registry) = DockerRegistry::start() else { return };
    let mut ids = Vec::new();
    for (name, flags) in
        [("type", ["--cache-to", "type=inline"]), ("argument", ["--build-arg", "BUILDKIT_INLINE_CACHE=1"])]
    {
        let (first, second) = (env(), env());
        let args = [&flags[..], &["-t", "x"]].concat();
        build(&first, &context(&first), &args);
        let reference = registry.reference(&format!("team/app:{name}"));
        push(&first, &reference);
        let from = format!("type=registry,ref={reference}");
        assert_eq!(steps_with(&from, changed_at_the_end).len(), 2);
        assert_eq!(steps_with(&from, changed_copy).len(), 5);
        let found = build(&second, &context(&second), &[&args[..], &["--cache-from", &from]].concat());
        assert_eq!(steps_run(&found), NOTHING);
        assert_eq!(image_id(&second, "x"), image_id(&first, "x"));
        let files = second.lap(["run", "--rm", "x", "cat", "/a", "/b"]).ok();
        assert_eq!(files.stdout_text(), "112");
        ids.push(image_id(&first, "x"));
        // An image that is built on it has none of it, unless that is asked for.
        let above = second.context();
        above.dockerfile("FROM x\nRUN true\n");
        build(&second, &above, &["-t", "x"]);
        push(&second, &reference);
        let none = env();
        let none = build(&none, &context(&none), &["--cache-from", &from]);
        none.stderr_has(&["what is there has no cache metadata"]);
    }
}

#[test]
fn a_registry_that_cannot_take_the_cache_fails_the_build_unless_that_is_ignored() {
    let registry = FaultyRegistry::start();
    registry.inject(u32::MAX, "PUT /v2/team/app/manifests/", Fault::Status(403, None));
    let to = format!("type=registry,ref={}", registry.reference("team/app:cache"));
    let (first, second) = (env(), env());
    let failed = build_fails(&first, &context(&first), &["--cache-to", &to, "-t", "x"]);
    failed.stderr_has(&["cannot export the cache to", "ignore-error=true"]);
    // The image is there all the same.
    assert_eq!(first.lap(["run", "--rm", "x", "cat", "/a", "/b"]).ok().stdout_text(), "112");
    let ignored = format!("{to},ignore-error=true");
    let output = build(&second, &context(&second), &["--cache-to", &ignored]);
    output.stderr_has(&["the cache was not exported to"]);
    // A build that fails exports nothing.
    registry.heal();
    let third = env();
    let broken = context(&third);
    broken.dockerfile(&format!("{DOCKERFILE}RUN false\n"));
    build_fails(&third, &broken, &["--cache-to", &format!("{to},mode=max")]);
    assert_eq!(registry.tagged("team/app", "cache"), None);
}

#[test]
fn a_registry_that_fails_while_the_cache_is_read_costs_time_only() {
    let registry = FaultyRegistry::start();
    let reference = registry.reference("team/app:cache");
    let id = export(&format!("type=registry,ref={reference},mode=max"));
    // Once or twice is tried again.
    registry.inject(1, "GET /v2/team/app/manifests/", Fault::Status(429, Some(0)));
    registry.inject(1, "GET /v2/team/app/blobs/", Fault::CloseAfter(10));
    all_is_found(&reference, &id);
    for (part, fault) in [
        ("manifests/cache", Fault::Status(403, None)),
        ("manifests/cache", Fault::Body(200, "text/html", "<html>log in</html>".to_owned())),
        ("manifests/cache", Fault::Damage),
        ("GET /v2/team/app/blobs/", Fault::Status(404, None)),
        ("GET /v2/team/app/blobs/", Fault::Damage),
    ] {
        registry.inject(u32::MAX, part, fault);
        let env = env();
        let output = build(&env, &context(&env), &["--cache-from", &reference, "-t", "x"]);
        assert_eq!(steps_run(&output).len(), STEPS, "{part}: {output}");
        output.stderr_has(&["SharedCache"]);
        registry.heal();
    }
}

#[test]
fn two_writers_of_one_name_leave_one_whole_cache() {
    let Some(registry) = DockerRegistry::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let reference = registry.reference("team/app:cache");
    for (to, from) in [
        (format!("type=local,dest={path},mode=max"), format!("type=local,src={path}")),
        (format!("type=registry,ref={reference},mode=max"), reference.clone()),
    ] {
        let (first, second) = (env(), env());
        std::thread::scope(|scope| {
            scope.spawn(|| build(&first, &context(&first), &["--cache-to", &to]));
            build(&second, &changed_at_the_end(&second), &["--cache-to", &to]);
        });
        let steps = [steps_with(&from, context).len(), steps_with(&from, changed_at_the_end).len()];
        assert!(steps == [0, 2] || steps == [2, 0], "{to}: {steps:?}");
    }
}
