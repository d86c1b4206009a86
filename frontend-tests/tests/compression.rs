//! Layers in other compressions: what `--output` writes, and that nothing is compressed twice.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use common::{build, env, image_id};
use frontend_tests::oci_archive::{ArchivedImage, OciArchive};
use testkit::{Context, TestEnv, Tree};

const DOCKERFILE: &str = "FROM busybox\nCOPY f /f\nRUN echo made > /made\n";

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.file("f", "a line that is repeated\n".repeat(2000)).dockerfile(DOCKERFILE);
    context
}

/// Builds into an OCI archive with these options, and gives its only image.
fn exported(env: &TestEnv, context: &Context, options: &str) -> ArchivedImage {
    let archive = env.work().join("exported.tar");
    build(env, context, &["-t", "app", "-o", &format!("type=oci,dest={}{options}", archive.display())]);
    OciArchive::read(&archive).images().remove(0)
}

/// Every blob of the store, and when it was written.
fn blobs(env: &TestEnv) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    let mut open = vec![env.root().join("blobs-v1")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                found.insert(entry.path(), metadata.modified().unwrap());
            }
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn new_layers_are_compressed_as_asked_and_the_image_stays_the_same() {
    let env = env();
    let context = context(&env);
    build(&env, &context, &["-t", "app"]);
    let id = image_id(&env, "app");
    // The base came uncompressed, and stays so unless somebody insists.
    for (options, types) in [
        ("", ["tar", "tar+gzip", "tar+gzip"]),
        (",compression=gzip,compression-level=9", ["tar", "tar+gzip", "tar+gzip"]),
        (",compression=zstd", ["tar", "tar+zstd", "tar+zstd"]),
        (",compression=uncompressed", ["tar", "tar", "tar"]),
        (",compression=zstd,force-compression=true", ["tar+zstd", "tar+zstd", "tar+zstd"]),
        (",force-compression=true", ["tar+gzip", "tar+gzip", "tar+gzip"]),
    ] {
        let image = exported(&env, &context, options);
        assert_eq!(image.layer_types(), types, "{options}");
        assert_eq!(image.id(), id, "{options}");
        let tree = image.layers.iter().fold(Tree::new(), |tree, layer| tree.with_layer(tree_of(layer)));
        assert_eq!(tree.text("made"), "made\n", "{options}");
    }
    let stored = exported(&env, &context, ",compression-level=0").layers.pop().unwrap();
    let small = exported(&env, &context, ",compression-level=9").layers.pop().unwrap();
    assert!(stored.len() > small.len(), "level 0 gives {} bytes, level 9 {}", stored.len(), small.len());
}

fn tree_of(layer: &[u8]) -> Tree {
    let mut plain = Vec::new();
    match layer {
        [0x1f, 0x8b, ..] => {
            std::io::copy(&mut flate2::read::MultiGzDecoder::new(layer), &mut plain).unwrap();
        }
        [0x28, 0xb5, ..] => plain = zstd::decode_all(layer).unwrap(),
        _ => plain = layer.to_vec(),
    }
    Tree::of_tar(plain.as_slice())
}

#[test]
fn no_layer_is_compressed_twice() {
    let env = env();
    let context = context(&env);
    let all = [",compression=zstd,force-compression=true", ",force-compression=true", ""];
    let first: Vec<String> = all.iter().map(|options| exported(&env, &context, options).digest).collect();
    let written = blobs(&env);
    let second: Vec<String> = all.iter().map(|options| exported(&env, &context, options).digest).collect();
    assert_eq!(first, second);
    assert_eq!(blobs(&env), written, "a blob was written again, or another one");
}

#[test]
fn an_image_in_the_store_keeps_the_compression_it_was_built_with() {
    let env = env();
    let context = context(&env);
    build(&env, &context, &["-t", "app", "-o", "type=image,compression=zstd,force-compression=true"]);
    let saved = env.lap(["save", "app"]).ok();
    let image = OciArchive::of(&saved.stdout).images().remove(0);
    assert_eq!(image.layer_types(), ["tar+zstd"; 3]);
    let other = TestEnv::new();
    other.lap(["load"]).stdin(saved.stdout).ok();
    other.lap(["run", "--rm", "app", "cat", "/made"]).ok().stdout_has(&["made"]);
    assert_eq!(image_id(&other, "app"), image_id(&env, "app"));
}

#[test]
fn others_read_what_was_written() {
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let env = env();
    let context = context(&env);
    for compression in ["uncompressed", "gzip", "zstd"] {
        let archive = env.work().join(format!("{compression}.tar"));
        let options = format!("compression={compression},force-compression=true");
        build(
            &env,
            &context,
            &["-t", "app", "-o", &format!("type=oci,dest={},{options}", archive.display())],
        );
        let copied = env.work().join(compression);
        // Copying into a directory decompresses nothing, but checks every digest and the config's diffIDs.
        skopeo.ok([
            "copy",
            "--dest-decompress",
            &format!("oci-archive:{}", archive.display()),
            &format!("dir:{}", copied.display()),
        ]);
        let diff_ids = OciArchive::read(&archive).images()[0].config["rootfs"]["diff_ids"].clone();
        let manifest: serde_json::Value =
            serde_json::from_slice(&std::fs::read(copied.join("manifest.json")).unwrap()).unwrap();
        let unpacked: Vec<_> =
            manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect();
        assert_eq!(serde_json::Value::from(unpacked), diff_ids, "{compression}");
    }
}

#[test]
fn times_are_clamped_unless_told_otherwise() {
    let env = env().source_date_epoch(1_000_000_000);
    let context = context(&env);
    let newest = |options: &str| {
        let image = exported(&env, &context, options);
        assert_eq!(image.config["created"], "2001-09-09T01:46:40Z");
        let layer = &image.layers[2];
        let mut plain = flate2::read::MultiGzDecoder::new(layer.as_slice());
        let mut archive = tar::Archive::new(&mut plain);
        let times = archive.entries().unwrap().map(|entry| entry.unwrap().header().mtime().unwrap());
        times.max().unwrap()
    };
    assert_eq!(newest(""), 1_000_000_000);
    assert_eq!(newest(",rewrite-timestamp=true"), 1_000_000_000);
    assert!(newest(",rewrite-timestamp=false") > 1_500_000_000);
}

#[test]
fn what_cannot_be_written_is_refused_before_the_build() {
    let env = env();
    let context = context(&env);
    let refused = |output: &str, code: i32, named: &[&str]| {
        let output = env.lap(["build", "-o", output]).arg(context.path()).fails(code);
        output.stderr_has(named);
        assert!(!output.stderr_text().contains("RUN"), "it was built first:\n{output}");
    };
    refused("type=docker,dest=x.tar,compression=zstd", 1, &["docker archive", "zstd", "type=oci"]);
    refused("type=oci,dest=x.tar,compression=brotli", 2, &["brotli", "uncompressed, gzip and zstd"]);
    refused("type=oci,dest=x.tar,compression=gzip,compression-level=11", 2, &["from 0 to 9", "\"11\""]);
    refused("type=oci,dest=x.tar,compression=zstd,compression-level=23", 2, &["from 0 to 22", "\"23\""]);
    assert!(!env.work().join("x.tar").exists());
}
