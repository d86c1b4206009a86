//! What buildx asks of outputs: notes on documents, layouts as files, names and places of what is told beside files.

mod common;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::{Context, TestEnv, Tree};

use common::daemon::Buildx;
use common::env;

const BOTH: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];

/// A context whose image has a file named after its platform.
fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY f /$TARGETARCH\n").file("f", "content");
    context
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .unwrap()
}

/// A layout in a directory.
struct Layout(PathBuf);

impl Layout {
    fn entry(&self) -> Value {
        read(&self.0.join("index.json"))["manifests"][0].clone()
    }

    /// The document that an entry leads to.
    fn document(&self, entry: &Value) -> Value {
        let digest = entry["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        read(&self.0.join("blobs/sha256").join(digest))
    }
}

#[test]
fn documents_carry_what_is_noted_on_them() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    let path = |name: &str| env.work().join(name);
    let layout = |name: &str| format!("type=oci,tar=false,dest={}", path(name).display());
    let notes = [
        "--annotation",
        "a=manifest",
        "--annotation",
        "manifest[linux/arm64]:a=arm",
        "--annotation",
        "index:b=c=d",
        "--annotation",
        "manifest-descriptor:b=c=d",
        "--annotation",
        "index-descriptor:e=f",
    ];
    buildx.build(context.path(), &[&notes[..], &BOTH, &["-o", &layout("noted")]].concat()).ok();
    common::build(&env, &context, &[&notes[..], &BOTH, &["-o", &layout("own")]].concat());
    for name in ["noted", "own"] {
        let layout = Layout(path(name));
        assert_eq!(layout.entry()["annotations"]["e"], "f", "{name}");
        let index = layout.document(&layout.entry());
        assert_eq!(index["annotations"], json!({ "b": "c=d" }), "{name}");
        let entries = index["manifests"].as_array().unwrap();
        let noted: Vec<Value> = entries
            .iter()
            .map(|entry| {
                assert_eq!(entry["annotations"], json!({ "b": "c=d" }), "{name}");
                layout.document(entry)["annotations"].clone()
            })
            .collect();
        assert_eq!(noted, [json!({ "a": "manifest" }), json!({ "a": "arm" })], "{name}");
    }
    assert_eq!(Layout(path("noted")).entry()["digest"], Layout(path("own")).entry()["digest"]);

    // Without notes there is no trace of them; and attributes of outputs are notes, too.
    buildx.build(context.path(), &["-o", &layout("plain")]).ok();
    let plain = Layout(path("plain"));
    let manifest = plain.document(&plain.entry());
    assert!(manifest.get("annotations").is_none(), "{manifest}");
    let attributes = format!("{},annotation-manifest.org.x=1,annotation.y=2", layout("attributes"));
    for run in [
        buildx.build(context.path(), &["-o", &attributes]),
        env.lap(["build", "-o", &attributes]).arg(context.path()),
    ] {
        let _ = std::fs::remove_dir_all(path("attributes"));
        run.ok();
        let layout = Layout(path("attributes"));
        assert_eq!(layout.document(&layout.entry())["annotations"], json!({ "org.x": "1", "y": "2" }));
    }
    // In the store, too; the image with notes is another one that runs all the same.
    env.lap(["build", "-t", "noted", "--annotation", "a=1"]).arg(context.path()).ok();
    let saved = path("saved.tar");
    env.lap(["save", "--format", "oci-archive", "-o"]).arg(&saved).arg("noted").ok();
    let tar = Tree::of_tar(std::fs::File::open(&saved).unwrap());
    let is_noted = |path: &str| {
        path.starts_with("blobs/sha256/") && tar.text(path).contains(r#""annotations":{"a":"1"}"#)
    };
    assert!(tar.paths().any(is_noted), "{:?}", tar.paths().collect::<Vec<_>>());

    for (note, words) in [
        ("index:a=1", "index annotations not supported for single platform export"),
        ("manifest[linux/s390x]:a=1", "invalid annotation: no platform linux/s390x found in source"),
    ] {
        buildx
            .build(context.path(), &["--annotation", note, "-o", &layout("bad")])
            .fails(1)
            .stderr_has(&[words]);
        env.lap(["build", "--annotation", note]).arg(context.path()).fails(1).stderr_has(&[words]);
    }
    for (note, words) in [
        ("layer:a=1", "\"layer\" is not one of manifest, index"),
        ("a", "expected NAME=VALUE"),
        ("index[linux/arm64]:a=1", "an index has no platform"),
    ] {
        env.lap(["build", "--annotation", note]).arg(context.path()).fails(2).stderr_has(&[words]);
    }
    let of_files = env.lap(["build", "--annotation", "a=1", "-o", "out"]).arg(context.path()).fails(2);
    of_files.stderr_has(&["--annotation is about images"]);
}

#[test]
fn layouts_are_written_as_files() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile("FROM busybox\nCOPY f /f\n").file("f", "content");
    // buildx itself refuses type=docker as files.
    for (kind, of_buildx) in [("oci", true), ("oci", false), ("docker", false)] {
        let directory = env.work().join(format!("{kind}-{of_buildx}"));
        let output = format!("type={kind},tar=false,dest={}", directory.display());
        let metadata = env.work().join("metadata.json");
        let flags = ["-o", &output, "-t", "example.com/a:1", "--metadata-file", metadata.to_str().unwrap()];
        // The second time, the client has everything.
        for _ in 0..2 {
            match of_buildx {
                true => buildx.build(context.path(), &flags).ok(),
                false => env.lap(["build"]).args(flags).arg(context.path()).ok(),
            };
        }
        let layout = Layout(directory.clone());
        let index = read(&directory.join("index.json"));
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
        assert_eq!(layout.entry()["digest"], read(&metadata)["containerimage.digest"]);
        env.lap(["load", "-i"]).arg(&directory).ok();
        let image = layout.entry()["digest"].as_str().unwrap().to_owned();
        env.lap(["run", "--rm", &image, "cat", "/f"]).ok().stdout_has(&["content"]);
        env.lap(["rmi", "-f", &image]).ok();
    }
    // A result of several platforms is an index.
    let output = format!("type=oci,tar=false,dest={}", env.work().join("both").display());
    let own = self::context(&env);
    buildx.build(own.path(), &[&BOTH[..], &["-o", &output]].concat()).ok();
    let layout = Layout(env.work().join("both"));
    assert_eq!(layout.document(&layout.entry())["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn files_lie_where_they_are_asked_to() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    let path = |name: &str| env.work().join(name);
    let at = |kind: &str, name: &str, more: &str| format!("type={kind},dest={}{more}", path(name).display());
    let told = ["--provenance", "mode=min", "--sbom=true"];
    let run = |flags: &[&str]| buildx.build(context.path(), &[flags, &told].concat());
    let own = |flags: &[&str]| env.lap(["build"]).args(flags).args(told).arg(context.path());

    for (number, run) in [&run as &dyn Fn(&[&str]) -> testkit::Lap, &own].into_iter().enumerate() {
        let name = |what: &str| format!("{what}{number}");
        let out = at("local", &name("split"), "");
        run(&[&BOTH[..], &["-o", &out]].concat()).ok();
        assert!(path(&name("split")).join("linux_arm64/arm64").exists());
        assert!(path(&name("split")).join("linux_amd64/sbom.spdx.json").exists());

        let out = at("local", &name("one"), ",platform-split=false,attestation-prefix=told.");
        run(&[&BOTH[..], &["-o", &out]].concat()).ok();
        let tree = Tree::of_dir(&path(&name("one")));
        let mut paths: Vec<&str> = tree.paths().collect();
        paths.sort_unstable();
        let expected = [
            "amd64",
            "arm64",
            "told.provenance.linux_amd64.json",
            "told.provenance.linux_arm64.json",
            "told.sbom.spdx.linux_amd64.json",
            "told.sbom.spdx.linux_arm64.json",
        ];
        assert_eq!(paths, expected);

        let out = at("tar", &name("tar"), ",platform-split=true,attestation-prefix=x-");
        run(&["-o", &out]).ok();
        let tar = Tree::of_tar(std::fs::File::open(path(&name("tar"))).unwrap());
        let host = base::Platform::host().to_string().replace('/', "_");
        assert!(tar.text(&format!("{host}/x-provenance.json")).contains("predicateType"));
        assert!(tar.text(&format!("{host}/x-sbom.spdx.json")).contains("SPDX-2.3"));
    }
    // Two platforms cannot have one file in one place.
    context.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY f /$TARGETARCH/\nCOPY f /d/same\n");
    let words = "cannot overwrite d/same from linux/amd64 with linux/arm64 when split option is disabled";
    let out = at("local", "clash", ",platform-split=false");
    run(&[&BOTH[..], &["-o", &out]].concat()).fails(1).stderr_has(&[words]);
    own(&[&BOTH[..], &["-o", &out]].concat()).fails(1).stderr_has(&[words]);
    let out = at("local", "bad", ",attestation-prefix=../x");
    run(&["-o", &out]).fails(1).stderr_has(&["invalid attestation-prefix"]);
}

#[test]
fn what_is_told_can_be_an_artifact_with_a_subject() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    let told = ["--provenance", "mode=min", "--sbom=true"];
    let output = format!("type=oci,tar=false,dest={},oci-artifact=true", env.work().join("out").display());
    for run in [
        buildx.build(context.path(), &[&told[..], &["-o", &output]].concat()),
        env.lap(["build", "-o", &output]).args(told).arg(context.path()),
    ] {
        let _ = std::fs::remove_dir_all(env.work().join("out"));
        run.ok();
        let layout = Layout(env.work().join("out"));
        let index = layout.document(&layout.entry());
        let (image, entry) = (&index["manifests"][0], &index["manifests"][1]);
        let manifest = layout.document(entry);
        assert_eq!(manifest["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
        assert_eq!(manifest["subject"]["digest"], image["digest"]);
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
        assert_eq!(layout.document(&manifest["config"]), json!({}));
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
        env.lap(["load", "-i"]).arg(env.work().join("out")).ok();
    }
    let wrong = format!("{output},oci-mediatypes=false");
    let refused = "oci-artifact=true needs oci-mediatypes=true";
    buildx.build(context.path(), &["-o", &wrong]).fails(1).stderr_has(&[refused]);
    env.lap(["build", "-o", &wrong]).arg(context.path()).fails(2).stderr_has(&[refused]);
}

#[test]
fn an_output_can_have_a_time_and_a_name_of_its_own() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    let layout = |name: &str| format!("type=oci,tar=false,dest={}", env.work().join(name).display());
    let metadata = env.work().join("metadata.json");
    let flags = |output: &str| -> Vec<String> {
        ["-o", output, "--metadata-file", metadata.to_str().unwrap()].map(str::to_owned).to_vec()
    };
    let build = |output: &str| {
        let flags = flags(output);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        buildx.build(context.path(), &flags)
    };
    build(&format!("{},source-date-epoch=1000000000,dangling-name-prefix=nobody", layout("dated"))).ok();
    let layout_there = Layout(env.work().join("dated"));
    let manifest = layout_there.document(&layout_there.entry());
    assert_eq!(layout_there.document(&manifest["config"])["created"], "2001-09-09T01:46:40Z");
    let told = read(&metadata);
    let digest = told["containerimage.digest"].as_str().unwrap();
    assert_eq!(told["image.name"], format!("nobody@{digest}"));
    let wrong = format!("{},source-date-epoch=today", layout("wrong"));
    build(&wrong).fails(1).stderr_has(&["invalid source-date-epoch"]);
}
