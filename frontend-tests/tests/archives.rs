//! `lap load` and `lap save`: every form of archive, several images, several platforms, and archives that are
//! damaged or lie.

mod common;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base::Digest;
use base::image::media_type;
use common::{build, env, image_id, names_in};
use frontend_tests::docker::Docker;
use frontend_tests::oci_archive::OciArchive;
use testkit::images::{busybox, busybox_as, busybox_tar};
use testkit::oci::{self, Layer};
use testkit::{Image, LayerTar, TestEnv};

const FOREIGN: &str = "linux/s390x";

/// Two images over one base: `one:1`, which is also `one:2`, and `two:1`.
fn two_images() -> TestEnv {
    let env = env();
    let context = env.context();
    context.file("f", "one").dockerfile("FROM busybox\nCOPY f /f\n");
    build(&env, &context, &["-t", "one:1", "-t", "one:2"]);
    context.file("f", "two");
    build(&env, &context, &["-t", "two:1"]);
    env
}

/// An archive of one image for this machine and for another.
fn two_platforms(env: &TestEnv) -> PathBuf {
    let archive = env.work().join("platforms.tar");
    let foreign = busybox_as("both:1").platform(&FOREIGN.parse().unwrap());
    oci::write_multi_platform_archive(&archive, "both:1", &[foreign, busybox_as("both:1")]);
    archive
}

fn compressed(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(tar).unwrap();
    vec![
        ("plain", tar.to_vec()),
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zstd", zstd::encode_all(tar, 1).unwrap()),
    ]
}

#[test]
fn every_form_of_archive_loads_from_files_and_standard_input() {
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let env = TestEnv::new();
    let (layout, docker) = (env.work().join("layout.tar"), env.work().join("docker.tar"));
    busybox().write_archive(&layout);
    // skopeo writes Docker's older form, without an OCI layout.
    let source = format!("oci-archive:{}", layout.display());
    skopeo.ok(["copy", &source, &format!("docker-archive:{}:busybox:latest", docker.display())]);
    assert!(!OciArchive::read(&docker).names().contains(&"index.json"));
    for archive in [&layout, &docker] {
        for (compression, bytes) in compressed(&std::fs::read(archive).unwrap()) {
            let path = env.work().join(compression);
            std::fs::write(&path, &bytes).unwrap();
            for from_stdin in [false, true] {
                let load = if from_stdin {
                    env.lap(["load"]).stdin(bytes.clone())
                } else {
                    env.lap(["load", "-i"]).arg(&path)
                };
                load.ok().stdout_has(&["Loaded image: busybox:latest\n"]);
                assert_eq!(image_id(&env, "busybox"), busybox().id().to_string(), "{compression}");
                env.lap(["rmi", "busybox"]).ok();
            }
        }
    }
    let directory = env.work().join("layout");
    busybox().write_layout(&directory);
    env.load_archive(&directory);
    env.lap(["run", "--rm", "busybox", "true"]).ok();
}

#[test]
fn several_images_and_names_survive_the_way_through_an_archive() {
    let env = two_images();
    let saved = env.lap(["save", "one:1", "two:1", "one:2", "one:1"]).ok().stdout;
    let archive = OciArchive::of(&saved);
    assert_eq!(archive.images().iter().filter(|image| image.id() == image_id(&env, "one:1")).count(), 2);
    let list = archive.json("manifest.json");
    assert_eq!(list[0]["RepoTags"], serde_json::json!(["one:1", "one:2"]));
    assert_eq!(list[1]["RepoTags"], serde_json::json!(["two:1"]));
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
    let other = TestEnv::new();
    let loaded = other.lap(["load"]).stdin(saved).ok().stdout_text();
    assert_eq!(loaded, "Loaded image: one:1\nLoaded image: one:2\nLoaded image: two:1\n");
    for name in ["one:1", "one:2", "two:1"] {
        assert_eq!(image_id(&other, name), image_id(&env, name));
    }
    other.lap(["run", "--rm", "two:1", "cat", "/f"]).ok().stdout_has(&["two"]);
}

#[test]
fn a_repository_means_all_of_its_tags_and_an_id_means_no_name() {
    let env = two_images();
    let names = |image: &str| {
        let saved = env.lap(["save", image]).ok().stdout;
        OciArchive::of(&saved).json("manifest.json")[0]["RepoTags"].clone()
    };
    assert_eq!(names("one"), serde_json::json!(["one:1", "one:2"]));
    let id = image_id(&env, "one:1");
    assert_eq!(names(&id), serde_json::json!([]));
    assert_eq!(names(&id[7..19]), serde_json::json!([]));
    let other = TestEnv::new();
    let loaded = other.lap(["load"]).stdin(env.lap(["save", &id]).ok().stdout).ok().stdout_text();
    assert_eq!(loaded, format!("Loaded image ID: {id}\n"));
    env.lap(["save", "absent"]).fails(1).stderr_has(&["no such image: absent"]);
    env.lap(["save"]).fails(2);
}

#[test]
fn an_archive_is_complete_or_not_there() {
    let env = two_images();
    let path = env.work().join("saved.tar");
    std::fs::write(&path, "what was there before").unwrap();
    env.lap(["save", "-o"]).arg(&path).args(["one:1", "absent"]).fails(1);
    assert_eq!(std::fs::read(&path).unwrap(), b"what was there before");
    env.lap(["save", "-o"]).arg(&path).arg("one:1").ok();
    let first = std::fs::read(&path).unwrap();
    assert_eq!(env.lap(["save", "one:1"]).ok().stdout, first, "two archives of one image differ");
    env.lap(["save", "-o", "absent/saved.tar", "one:1"]).fails(1).stderr_has(&["absent/saved.tar"]);
    // A terminal is no place for an archive.
    let lap = format!("{} --root {} save one:1", testkit::binary::lap().display(), env.root().display());
    let Some(script) = testkit::judges::program("script") else { return };
    let typescript = env.work().join("typescript");
    let run = testkit::Lap::new(script.path()).args(["--quiet", "--return", "--command", &lap]);
    run.arg(&typescript).env("PATH", "/usr/bin:/bin").fails(1).stdout_has(&["terminal", "-o"]);
}

#[test]
fn images_of_several_platforms_survive() {
    let env = TestEnv::new();
    let archive = two_platforms(&env);
    env.load_archive(&archive).stdout_has(&["Loaded image: both:1"]);
    env.lap(["run", "--rm", "both:1", "true"]).ok();
    let hosts = base::Platform::host().to_string();
    env.lap(["run", "--rm", "--platform", &hosts, "both:1", "true"]).ok();
    let other = ["run", "--rm", "--platform", "linux/riscv64", "--pull", "never", "both:1", "true"];
    env.lap(other).fails(125).stderr_has(&["nothing for platform linux/riscv64"]);
    let save = |flags: &[&str]| {
        let saved = env.lap(["save"]).args(flags).arg("both:1").ok().stdout;
        let archive = OciArchive::of(&saved);
        let platforms: Vec<String> = archive
            .images()
            .iter()
            .map(|image| image.config["architecture"].as_str().unwrap().to_owned())
            .collect();
        (archive, platforms, saved)
    };
    let (whole, platforms, saved) = save(&[]);
    let host = base::Platform::host().architecture;
    assert_eq!(platforms, ["s390x", host.as_str()]);
    let listed = whole.json("manifest.json")[0]["Config"].as_str().unwrap().to_owned();
    assert_eq!(
        listed,
        format!("blobs/sha256/{}", busybox().id().hex()),
        "Docker's list names this machine's"
    );
    assert_eq!(save(&["--platform", FOREIGN]).1, ["s390x"]);
    assert_eq!(save(&["--format", "oci-archive"]).1.len(), 2);
    assert!(!save(&["--format", "oci-archive"]).0.names().contains(&"manifest.json"));
    let missing = env.lap(["save", "--platform", "linux/riscv64", "both:1"]).fails(1);
    missing.stderr_has(&["linux/riscv64; it has", FOREIGN]);

    let other = TestEnv::new();
    other.lap(["load", "--platform", FOREIGN]).stdin(saved.clone()).ok();
    let architecture = |image: &str| {
        let output = other.lap(["image", "inspect", "--format", "{{.Architecture}}", image]).ok();
        output.stdout_text().trim().to_owned()
    };
    assert_eq!(architecture("both:1"), "s390x");
    other.lap(["load"]).stdin(saved).ok();
    assert_eq!(architecture("both:1"), host);
    other.lap(["load", "--platform", "linux/riscv64", "-i"]).arg(&archive).fails(1).stderr_has(&["it has"]);
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let path = env.work().join("all.tar");
    env.lap(["save", "-o"]).arg(&path).arg("both:1").ok();
    let copied = format!("dir:{}", env.work().join("copied").display());
    skopeo.ok(["copy", "--all", &format!("oci-archive:{}", path.display()), &copied]);
}

#[test]
fn a_build_for_several_platforms_is_saved_whole() {
    let env = TestEnv::new();
    env.load_archive(&two_platforms(&env));
    let context = env.context();
    context.file("f", "x").dockerfile("FROM both:1\nCOPY f /f\n");
    let platforms = format!("{},{FOREIGN}", base::Platform::host());
    build(&env, &context, &["--platform", &platforms, "-t", "built"]);
    let saved = env.lap(["save", "built"]).ok().stdout;
    assert_eq!(OciArchive::of(&saved).images().len(), 2);
    let other = TestEnv::new();
    other.lap(["load"]).stdin(saved).ok();
    other.lap(["run", "--rm", "built", "cat", "/f"]).ok().stdout_has(&["x"]);
}

#[test]
fn other_programs_load_what_was_saved() {
    let env = two_images();
    let path = env.work().join("saved.tar");
    env.lap(["save", "-o"]).arg(&path).args(["one:1", "two:1"]).ok();
    let id = image_id(&env, "one:1");
    if let Some(skopeo) = testkit::judges::skopeo() {
        let alone = env.work().join("alone.tar");
        env.lap(["save", "--format", "oci-archive", "-o"]).arg(&alone).arg("one:1").ok();
        for image in
            [format!("docker-archive:{}:one:1", path.display()), format!("oci-archive:{}", alone.display())]
        {
            let config = skopeo.ok(["inspect", "--config", "--raw", &image]);
            assert_eq!(Digest::of(&config).to_string(), id, "{image}");
        }
    }
    if let Some(podman) = testkit::judges::program("podman") {
        let inside = |name: &str| env.work().join(name).display().to_string();
        let (root, run) = (inside("podman"), inside("podman-run"));
        let own = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
        podman.ok(own.iter().copied().chain(["load", "--quiet", "--input", path.to_str().unwrap()]));
        let seen = podman.json(own.iter().copied().chain(["image", "inspect", "one:1"]));
        assert_eq!(format!("sha256:{}", seen[0]["Id"].as_str().unwrap()), id);
    }
}

#[test]
fn docker_loads_what_was_saved() {
    let docker = match Docker::start(Path::new("/")) {
        Ok(docker) => docker,
        Err(reason) => return println!("skipped: no Docker daemon: {reason}"),
    };
    let env = two_images();
    let path = env.work().join("saved.tar");
    env.lap(["save", "-o"]).arg(&path).args(["one:1", "two:1"]).ok();
    docker.command().args(["load", "--input"]).arg(&path).ok().stdout_has(&["one:1", "two:1"]);
    let seen = docker.command().args(["image", "inspect", "--format", "{{.Id}}", "one:1"]).ok();
    assert_eq!(seen.stdout_text().trim(), image_id(&env, "one:1"));
    let back = env.work().join("back.tar");
    docker.command().args(["save", "-o"]).arg(&back).args(["one:1", "two:1"]).ok();
    let other = TestEnv::new();
    other.load_archive(&back).stdout_has(&["Loaded image: one:1", "Loaded image: two:1"]);
    assert_eq!(image_id(&other, "two:1"), image_id(&env, "two:1"));
}

/// Loads an archive, which must fail and leave nothing behind.
fn refused(archive: &[u8], says: &[&str]) {
    let env = TestEnv::new();
    env.lap(["load"]).stdin(archive).fails(1).stderr_has(says);
    let path = env.work().join("archive");
    std::fs::write(&path, archive).unwrap();
    env.lap(["load", "-i"]).arg(&path).fails(1).stderr_has(says);
    assert_eq!(env.lap(["images", "-q"]).ok().stdout_text(), "");
    env.lap(["store", "check"]).ok();
    env.lap(["system", "prune", "--all", "--force"]).ok();
    let blobs = env.root().join("blobs-v1/sha256");
    let left: Vec<_> = names_in(&blobs).iter().flat_map(|name| names_in(&blobs.join(name))).collect();
    assert_eq!(left, [""; 0]);
    for directory in ["ingest", "snapshots-v1", "trash"] {
        assert_eq!(names_in(&env.root().join(directory)), [""; 0], "{directory}");
    }
}

fn archive_of(image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_archive_to(&mut bytes).unwrap();
    bytes
}

/// The same archive with other files; an empty content leaves a file out.
fn changed(archive: &[u8], change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut header = entry.header().clone();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::copy(&mut entry, &mut content).unwrap();
        let content = change(&name, content);
        if !content.is_empty() {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, &name, content.as_slice()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

#[test]
fn archives_that_are_damaged_are_refused() {
    let good = archive_of(&busybox());
    refused(&good[..good.len() / 2], &["cut short"]);
    refused(&[good.as_slice(), b"garbage"].concat(), &["goes on after its end", &good.len().to_string()]);
    refused(&zstd::encode_all(good.as_slice(), 1).unwrap()[..100_000], &["damaged or cut short"]);
    refused(b"", &["cut short"]);
    refused(&[7; 4096], &["not a tar"]);
    let layer = format!("blobs/sha256/{}", Digest::of(busybox_tar()).hex());
    let without = changed(&good, |name, content| if name == layer { Vec::new() } else { content });
    refused(&without, &["missing", &layer["blobs/sha256/".len()..]]);
    let flipped = changed(&good, |name, mut content| {
        if name == layer {
            content[5000] ^= 1;
        }
        content
    });
    refused(&flipped, &["damaged or forged", &layer["blobs/sha256/".len()..]]);
}

#[test]
fn archives_that_lie_are_refused() {
    let tar = LayerTar::new().file("f", 0o644, "x").finish();
    let digest = Digest::of(&tar);
    let longer = Layer::tar(tar.clone()).claiming(digest, tar.len() as u64 + 1);
    refused(&archive_of(&busybox().layer(longer)), &["bytes where its descriptor says"]);
    let unknown = Layer::tar(tar.clone()).of_type("application/vnd.example.layer");
    refused(&archive_of(&busybox().layer(unknown)), &["unknown type", "vnd.example.layer"]);
    let diff_id = |config: &mut base::image::ImageConfig| config.rootfs.diff_ids[1] = Digest::of(b"lie");
    let wrong = busybox().layer(Layer::gzip(&tar)).configure(diff_id);
    refused(&archive_of(&wrong), &["cannot unpack layer", &Digest::of(b"lie").to_string()]);
    let fewer = busybox().configure(|config| config.rootfs.diff_ids.clear());
    refused(&archive_of(&fewer), &["has 1 layers, but its config lists 0"]);
    refused(
        &changed(&archive_of(&busybox()), |name, content| match name {
            "index.json" => {
                let huge = vec![b' '; 100 << 20];
                [content, huge].concat()
            }
            _ => content,
        }),
        &["index.json is larger than the limit"],
    );
}

#[test]
fn one_bad_image_spoils_the_archive() {
    let tar = LayerTar::new().file("f", 0o644, "x").finish();
    let wrong = Image::new("bad:1")
        .layer(Layer::gzip(&tar))
        .configure(|config| config.rootfs.diff_ids[0] = Digest::of(b"lie"));
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    busybox().write_layout(&layout);
    let other = dir.path().join("other");
    wrong.write_layout(&other);
    // Both images in one layout: the blobs of both, and an index with the entries of both.
    for name in names_in(&other.join("blobs/sha256")) {
        std::fs::copy(other.join("blobs/sha256").join(&name), layout.join("blobs/sha256").join(&name))
            .unwrap();
    }
    let index = |layout: &Path| -> serde_json::Value {
        serde_json::from_reader(File::open(layout.join("index.json")).unwrap()).unwrap()
    };
    let mut both = index(&layout);
    assert_eq!(both["manifests"][0]["mediaType"], media_type::OCI_MANIFEST);
    both["manifests"].as_array_mut().unwrap().push(index(&other)["manifests"][0].clone());
    std::fs::write(layout.join("index.json"), both.to_string()).unwrap();
    let env = TestEnv::new();
    env.lap(["load", "-i"]).arg(&layout).fails(1).stderr_has(&["cannot unpack layer"]);
    assert_eq!(
        env.lap(["images", "-q"]).ok().stdout_text(),
        "",
        "the good image was loaded before the bad one"
    );
}

#[test]
fn an_archive_takes_the_place_of_a_file_and_of_nothing_else() {
    use std::os::unix::fs::FileTypeExt as _;

    let env = env();
    let save = |path: &Path| env.lap(["save", "-o"]).arg(path).arg("busybox");
    let (file, link) = (env.work().join("file"), env.work().join("link"));
    std::fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    save(&link).ok();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    let archive = std::fs::read(&file).unwrap();
    assert_ne!(archive, b"old");

    let fifo = env.work().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::read(fifo).unwrap()
    });
    save(&fifo).ok();
    assert!(reader.join().unwrap() == archive, "what comes through a pipe is the same");

    save(env.work().as_path()).fails(1).stderr_has(&["directory"]);
    if testkit::privilege::root().is_some() {
        let null = env.work().join("null");
        let number = nix::sys::stat::makedev(1, 3);
        let kind = nix::sys::stat::SFlag::S_IFCHR;
        nix::sys::stat::mknod(&null, kind, nix::sys::stat::Mode::S_IRWXU, number).unwrap();
        save(&null).ok();
        assert!(null.symlink_metadata().unwrap().file_type().is_char_device());
    }
}
