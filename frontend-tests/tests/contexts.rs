//! Named contexts and several platforms, seen from outside.

mod common;

use base::{Digest, Platform};
use common::{build, build_fails, build_tree, env, names_in};
use testkit::{Image, Layer, LayerTar, TestEnv, Tree};

/// An OCI layout with an image that has one file.
fn layout(env: &TestEnv, content: &str) -> String {
    let tar = LayerTar::new().file("from-layout", 0o644, content);
    let image = Image::new("example.com/layout:v1").layer(Layer::tar(tar.finish()));
    let directory = env.work().join("layout");
    image.write_layout(&directory);
    directory.display().to_string()
}

#[test]
fn a_directory_takes_the_place_of_sources_stages_and_images() {
    let env = env();
    let (context, other) = (env.context(), env.context());
    other.file("a", "other").file("hidden", "x").file(".dockerignore", "hidden\n");
    context.file("a", "main");
    context.dockerfile(
        "FROM example.com/nowhere AS base\nFROM busybox\nCOPY --from=more . /copied\n\
         RUN --mount=from=more,target=/m cat /m/a > /mounted\nCOPY --from=base a /from-base\n",
    );
    let more = format!("more={}", other.path().display());
    let base = format!("base={}", other.path().display());
    let tree = build_tree(&env, &context, &["--build-context", &more, "--build-context", &base]);
    assert_eq!(tree.text("copied/a"), "other");
    assert!(tree.get("copied/hidden").is_none());
    assert_eq!((tree.text("mounted"), tree.text("from-base")), ("other".to_owned(), "other".to_owned()));
}

#[test]
fn an_image_takes_the_place_of_another() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM example.com/nowhere:1\nRUN echo ran > /out\n");
    build_fails(&env, &context, &["--network", "none"]);
    let args = ["--build-context", "example.com/nowhere:1=docker-image://busybox"];
    assert_eq!(build_tree(&env, &context, &args).text("out"), "ran\n");
}

#[test]
fn an_oci_layout_is_a_base_by_tag_digest_or_alone() {
    let env = env();
    let context = env.context();
    let directory = layout(&env, "hello");
    context.dockerfile("FROM scratch\nCOPY --from=other /from-layout /\n");
    for suffix in ["", ":v1"] {
        let flag = format!("other=oci-layout://{directory}{suffix}");
        assert_eq!(build_tree(&env, &context, &["--build-context", &flag]).text("from-layout"), "hello");
    }
    let flag = format!("other=oci-layout://{directory}:v2");
    build_fails(&env, &context, &["--build-context", &flag]).stderr_has(&["has no image \"v2\"", "v1"]);
    let flag = format!("other=oci-layout://{directory}@{}", Digest::of(b"other"));
    build_fails(&env, &context, &["--build-context", &flag]).stderr_has(&["has no image"]);
}

#[test]
fn what_one_build_writes_as_a_layout_is_a_context_of_the_next() {
    let env = env();
    let context = env.context();
    context.file("a", "A").dockerfile("FROM scratch\nCOPY a /\nENV FROM=layout\n");
    let directory = env.work().join("written");
    build(&env, &context, &["-o", &format!("type=oci,tar=false,dest={}", directory.display())]);
    assert_eq!(names_in(&directory), ["blobs", "index.json", "oci-layout"]);
    context.dockerfile("FROM base AS result\nCOPY --from=base a /b\n");
    let flag = format!("base=oci-layout://{}", directory.display());
    assert_eq!(build_tree(&env, &context, &["--build-context", &flag]).text("b"), "A");
}

/// The architectures of the images in an OCI archive's index.
fn architectures(env: &TestEnv, archive: &std::path::Path) -> Vec<String> {
    let out = env.work().join("unpacked");
    std::fs::create_dir_all(&out).unwrap();
    let file = std::fs::File::open(archive).unwrap();
    tar::Archive::new(file).unpack(&out).unwrap();
    let blob = |digest: &str| {
        let path = out.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap()
    };
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("index.json")).unwrap()).unwrap();
    let inner = blob(index["manifests"][0]["digest"].as_str().unwrap());
    let manifests = inner["manifests"].as_array().expect("an index of images");
    let architecture = |entry: &serde_json::Value| {
        let manifest = blob(entry["digest"].as_str().unwrap());
        let config = blob(manifest["config"]["digest"].as_str().unwrap());
        assert_eq!(entry["platform"]["architecture"], config["architecture"]);
        config["architecture"].as_str().unwrap().to_owned()
    };
    manifests.iter().map(architecture).collect()
}

#[test]
fn several_platforms_make_an_index_and_directories() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM --platform=$BUILDPLATFORM busybox AS tool\nARG TARGETPLATFORM\nRUN echo for $TARGETPLATFORM > /out\n\
         FROM scratch\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nCOPY --from=tool /out /\n",
    );
    let archive = env.work().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    build(&env, &context, &[&platforms[..], &["-o", &output]].concat());
    assert_eq!(architectures(&env, &archive), ["amd64", "arm64"]);
    let out = env.work().join("rootfs");
    build(&env, &context, &[&platforms[..], &["-o", out.to_str().unwrap()]].concat());
    assert_eq!(names_in(&out), ["linux_amd64", "linux_arm64"]);
    assert_eq!(Tree::of_dir(&out).text("linux_arm64/out"), "for linux/arm64\n");
    let docker = format!("type=docker,dest={}", env.work().join("d.tar").display());
    build_fails(&env, &context, &[&platforms[..], &["-o", &docker]].concat())
        .stderr_has(&["several platforms"]);
}

#[test]
fn an_index_is_tagged_and_its_own_platform_runs() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM --platform=$BUILDPLATFORM busybox AS here\nFROM scratch\nCOPY --from=here / /\nCMD [\"echo\", \"ran\"]\n");
    let other = if Platform::host().architecture == "arm64" { "linux/amd64" } else { "linux/arm64" };
    let platforms = format!("{},{other}", Platform::host());
    build(&env, &context, &["--platform", &platforms, "-t", "both"]);
    env.lap(["run", "--rm", "both"]).ok().stdout_has(&["ran"]);
}

#[test]
fn a_step_for_a_machine_that_nothing_here_can_be_says_so() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM scratch\nCOPY a /\nRUN [\"/a\"]\n");
    context.file("a", "x");
    if std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        eprintln!("skipped: an emulator for s390x is registered here");
        return;
    }
    build_fails(&env, &context, &["--platform", "linux/s390x"]).stderr_has(&[
        "linux/s390x",
        "no emulator is registered",
        "qemu-user-static",
        "Dockerfile:3",
    ]);
}

#[test]
fn a_step_for_another_machine_runs_where_an_emulator_is_registered() {
    let registered = std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists();
    #[expect(
        clippy::disallowed_methods,
        reason = "names a program of another architecture, which no package here has"
    )]
    let Some(busybox) = std::env::var_os("LAP_TEST_ARM64_BUSYBOX").filter(|_| registered) else {
        eprintln!(
            "skipped: needs Debian's qemu-user-static and LAP_TEST_ARM64_BUSYBOX, a static arm64 busybox"
        );
        return;
    };
    let env = env();
    let context = env.context();
    context.file("busybox", std::fs::read(busybox).unwrap()).mode("busybox", 0o755);
    context.dockerfile(
        "FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"sh\", \"-c\", \"/busybox uname -m > /out\"]\n",
    );
    assert_eq!(build_tree(&env, &context, &["--platform", "linux/arm64"]).text("out"), "aarch64\n");
}

#[test]
fn bad_contexts_and_platforms_are_usage_errors() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM scratch\n");
    for (flag, value, fragment) in [
        ("--build-context", "nameless", "invalid build context"),
        ("--build-context", "a=/does/not/exist", "/does/not/exist"),
        ("--platform", "not/a/platform/at/all", "platform"),
        ("--allow", "everything", "unknown entitlement"),
        ("--secret", "id=a,env=SURELY_NOT_SET", "not set"),
        ("--ulimit", "nofile", "invalid limit"),
        ("--add-host", "x", "invalid host"),
    ] {
        let output = env.lap(["build", flag, value]).arg(context.path()).run();
        assert_ne!(output.code(), Some(0), "{flag} {value}");
        output.stderr_has(&[fragment]);
    }
}
