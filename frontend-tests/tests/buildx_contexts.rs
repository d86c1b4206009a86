//! Contexts that buildx brings along beside directories: archives that are piped in, and images of OCI layouts.

mod common;

use testkit::Tree;

use common::daemon::Buildx;
use common::env;

#[test]
fn what_is_piped_in_is_built() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context
        .dockerfile("FROM busybox\nCOPY . /all\n")
        .file("f", "content")
        .file("other/Dockerfile.alt", "FROM busybox\nCOPY f /alt\n");
    let archive = |compressed: bool| {
        let flags = if compressed { "-czf" } else { "-cf" };
        let packed = env.work().join("packed");
        testkit::Lap::new("/usr/bin/tar".as_ref())
            .arg(flags)
            .arg(&packed)
            .arg("-C")
            .arg(context.path())
            .arg(".")
            .ok();
        std::fs::read(packed).unwrap()
    };
    let out = format!("type=local,dest={}", env.work().join("out").display());
    let pipe = |flags: &[&str], bytes: Vec<u8>| {
        let _ = std::fs::remove_dir_all(env.work().join("out"));
        let args = [&["build", "--progress", "plain", "-o", &out], flags, &["-"]].concat();
        buildx.run(args).stdin(bytes)
    };
    for compressed in [false, true] {
        pipe(&[], archive(compressed)).ok();
        let tree = Tree::of_dir(&env.work().join("out/all"));
        assert_eq!(tree.text("f"), "content");
    }
    pipe(&["-f", "other/Dockerfile.alt"], archive(false)).ok();
    assert_eq!(Tree::of_dir(&env.work().join("out")).text("alt"), "content");
    // A Dockerfile alone.
    pipe(&[], b"FROM busybox\nRUN echo alone > /alone\n".to_vec()).ok();
    assert_eq!(Tree::of_dir(&env.work().join("out")).text("alone"), "alone\n");
    // Nonsense, and an archive without what is needed.
    pipe(&[], b"\x1f\x8bnonsense".to_vec()).fails(1);
    pipe(&["-f", "absent"], archive(false)).fails(1).stderr_has(&["absent"]);
    pipe(&[], archive(false)).ok();
}

#[test]
fn images_of_layouts_are_contexts() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let base = env.context();
    base.dockerfile("FROM busybox\nARG TARGETARCH\nENV OF=layout\nCOPY f /$TARGETARCH\n")
        .file("f", "content");
    let layout = env.work().join("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    let host = base::Platform::host().to_string();
    buildx.build(base.path(), &["-o", &output, "-t", "example.com/base:1"]).ok();

    let context = env.context();
    context.dockerfile("FROM base AS own\nRUN echo $OF > /of\nFROM scratch\nCOPY --from=own /of /of\nCOPY --from=base / /base\n");
    let out = format!("type=local,dest={}", env.work().join("out").display());
    let named = |tag: &str| format!("base=oci-layout://{}{tag}", layout.display());
    buildx.build(context.path(), &["-o", &out, "--build-context", &named(":1")]).ok();
    let tree = Tree::of_dir(&env.work().join("out"));
    let architecture = host.split('/').nth(1).unwrap();
    assert_eq!(
        (tree.text("of"), tree.text(&format!("base/{architecture}"))),
        ("layout\n".to_owned(), "content".to_owned())
    );
    // By its digest; and what is damaged is refused.
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    buildx.build(context.path(), &["-o", &out, "--build-context", &named(&format!("@{digest}"))]).ok();
    let manifest = layout.join("blobs/sha256").join(&digest["sha256:".len()..]);
    let text: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    let layers = text["layers"].as_array().unwrap();
    let layer = layers.last().unwrap()["digest"].as_str().unwrap().to_owned();
    env.lap(["builder", "prune", "-af"]).ok();
    let blob = layout.join("blobs/sha256").join(&layer["sha256:".len()..]);
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, "something else").unwrap();
    let damaged = buildx.build(context.path(), &["-o", &out, "--build-context", &named(":1")]).fails(1);
    damaged.stderr_has(&[&layer[..20]]);
    std::fs::remove_file(&blob).unwrap();
    buildx.build(context.path(), &["-o", &out, "--build-context", &named(":1")]).fails(1);
}
