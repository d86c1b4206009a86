//! Images and archives that are made to harm: they are refused by a limit that can be moved, and the store is as
//! good as before.

mod common;

use std::io::{self, Write};

use base::image::media_type;
use common::{build, build_fails, env, names_in};
use flate2::Compression;
use flate2::write::GzEncoder;
use testkit::oci::Layer;
use testkit::registry::FaultyRegistry;
use testkit::{Image, LayerTar, TestEnv};

/// What the bombs unpack to: far more than the limit that the tests set, and little enough to be harmless if
/// the limit did not work.
const BOMB: u64 = 64 << 20;
const LIMIT: &str = "4MB";

/// A tar of one file full of zeros, compressed as far as gzip can.
fn bomb() -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(BOMB);
    header.set_cksum();
    out.write_all(header.as_bytes()).unwrap();
    io::copy(&mut io::Read::take(io::repeat(0), BOMB + 1024), &mut out).unwrap();
    let bytes = out.finish().unwrap();
    assert!((bytes.len() as u64) < BOMB / 500, "{} bytes", bytes.len());
    bytes
}

/// Nothing of what was refused is left, and builds go on.
fn still_works(env: &TestEnv) {
    assert!(names_in(&env.root().join("ingest")).is_empty(), "half-made content is left");
    let context = env.context();
    context.file("f", "x").dockerfile("FROM busybox\nCOPY f /f\nRUN cat /f\n");
    build(env, &context, &["-t", "works"]);
    env.lap(["store", "check"]).ok();
}

#[test]
fn a_layer_that_unpacks_to_too_much_is_refused_and_the_limit_can_be_moved() {
    let env = env();
    let archive = env.work().join("bomb.tar");
    let zeros = vec![0; BOMB as usize];
    let tar = LayerTar::new().file("zeros", 0o644, zeros).finish();
    Image::new("bomb:1").layer(Layer::gzip(&tar)).write_archive(&archive);
    let load = |limit: &str| env.lap(["--max-layer-size", limit, "load", "-i"]).arg(&archive);
    load(LIMIT).fails(1).stderr_has(&["more than 4194304 bytes", "--max-layer-size"]);
    env.lap(["image", "inspect", "bomb:1"]).fails(1);
    still_works(&env);
    load("128MB").ok();
    env.lap(["image", "inspect", "bomb:1"]).ok();
}

#[test]
fn so_are_archives_that_a_build_unpacks() {
    let env = env();
    let context = env.context();
    context.file("bomb.tar.gz", bomb()).dockerfile("FROM scratch\nADD bomb.tar.gz /\n");
    let said = ["more than 4194304 bytes", "--max-layer-size", "Dockerfile:2"];
    build_fails(&env, &context, &["--max-layer-size", LIMIT]).stderr_has(&said);

    let limited = env.lap(["build", "-"]).env("LAPSTRAKE_MAX_LAYER_SIZE", LIMIT).stdin(bomb());
    limited.fails(1).stderr_has(&said[..2]);
    still_works(&env);
}

#[test]
fn a_file_that_is_mostly_a_hole_counts_as_what_it_pretends_to_be() {
    let env = env();
    let context = env.context();
    let source = context.path().join("huge");
    std::fs::File::create(&source).unwrap().set_len(1 << 40).unwrap();
    let archive = context.path().join("sparse.tar");
    let tar = std::process::Command::new("tar")
        .args(["--sparse", "-C", context.path().to_str().unwrap(), "-cf", archive.to_str().unwrap(), "huge"])
        .status();
    assert!(tar.unwrap().success());
    std::fs::remove_file(&source).unwrap();
    assert!(archive.metadata().unwrap().len() < 100_000);
    context.dockerfile("FROM scratch\nADD sparse.tar /\n");
    build_fails(&env, &context, &["--max-layer-size", "1GB"]).stderr_has(&["more than 1073741824 bytes"]);
    still_works(&env);
}

#[test]
fn too_many_entries_are_refused() {
    let env = env();
    let tar = (0..100).fold(LayerTar::new(), |tar, number| tar.file(&format!("f{number}"), 0o644, ""));
    let archive = env.work().join("many.tar");
    Image::new("many:1").layer(Layer::tar(tar.finish())).write_archive(&archive);
    let load = |limit: &str| env.lap(["--max-layer-entries", limit, "load", "-i"]).arg(&archive);
    load("99").fails(1).stderr_has(&["more than 99 entries", "--max-layer-entries"]);
    load("100").ok();
    still_works(&env);
}

#[test]
fn limits_that_are_no_numbers_are_refused() {
    let env = env();
    env.lap(["--max-layer-size", "much", "images"]).fails(2).stderr_has(&["much", "10GB"]);
    env.lap(["--max-layer-entries=-1", "images"]).fails(2).stderr_has(&["--max-layer-entries"]);
}

#[test]
fn a_manifest_of_a_hundred_megabytes_is_not_read() {
    let env = env();
    let registry = FaultyRegistry::start();
    let mut manifest =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","x":""#.to_vec();
    manifest.resize(100 << 20, b'a');
    manifest.extend_from_slice(b"\"}");
    registry.put_manifest("huge", "1", media_type::OCI_MANIFEST, &manifest);
    let name = registry.reference("huge:1");
    env.lap(["pull", &name]).fails(1).stderr_has(&["manifest 1", "larger than the limit"]);
    still_works(&env);
}

#[test]
fn layers_that_are_not_what_their_manifest_says_are_refused() {
    let env = env();
    let registry = FaultyRegistry::start();
    let tar = LayerTar::new().file("f", 0o644, "x").finish();
    let digest = base::Digest::of(&tar);
    let lies = [
        ("longer", Layer::tar(tar.clone()).claiming(digest, tar.len() as u64 + 1)),
        ("shorter", Layer::tar(tar.clone()).claiming(digest, 512)),
        ("damaged", Layer::gzip(&tar[..tar.len() - 1024 - 100])),
    ];
    for (tag, layer) in lies {
        registry.put_image("lies", tag, &Image::new("lies").layer(layer));
        let name = registry.reference(&format!("lies:{tag}"));
        env.lap(["pull", &name]).fails(1).stderr_has(&["sha256:"]);
        env.lap(["image", "inspect", &name]).fails(1);
    }
    still_works(&env);
}
