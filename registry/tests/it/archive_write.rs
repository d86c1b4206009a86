//! Writing archives, with `skopeo` and `podman` as judges.

use std::collections::HashMap;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use base::{Digest, Platform};
use registry::{Archive, ArchiveError, ArchiveFormat, ExportedImage, WriteOptions, write_archive};
use testkit::oci::write_multi_platform_archive;
use testkit::{Image, Layer, LayerTar, judges};

use crate::fixture::{assert_says, image, told};

/// Images to be written and their blobs.
#[derive(Default)]
struct Store {
    images: Vec<ExportedImage>,
    blobs: HashMap<Digest, Vec<u8>>,
}

impl Store {
    fn with(images: &[(Image, &[&str])]) -> Self {
        let mut store = Self::default();
        for (image, names) in images {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("image.tar");
            image.write_archive(&path);
            store.add(&path, names);
        }
        store
    }

    /// Takes the first image of an archive.
    fn add(&mut self, path: &Path, names: &[&str]) {
        let archive = Archive::open(path, path.parent().unwrap()).unwrap();
        let root = archive.images()[0].descriptor.clone();
        let documents = archive.image(&archive.images()[0], &Platform::host()).unwrap();
        let manifest = &documents.manifest;
        let blobs = [&root, &manifest.descriptor, &manifest.value.config];
        for blob in blobs.into_iter().chain(&manifest.value.layers) {
            let mut bytes = Vec::new();
            archive.blob(blob).unwrap().read_to_end(&mut bytes).unwrap();
            self.blobs.insert(blob.digest, bytes);
        }
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        let manifests = vec![(manifest.descriptor.clone(), manifest.value.clone())];
        self.images.push(ExportedImage { names, root, indexes: Vec::new(), manifests });
    }

    /// Takes all platforms of the first image of an archive.
    fn add_whole(&mut self, path: &Path, names: &[&str]) {
        self.add(path, names);
        let archive = Archive::open(path, path.parent().unwrap()).unwrap();
        let tree = archive.whole(&archive.images()[0]).unwrap();
        let manifests = tree.images.into_iter().map(|(manifest, config)| {
            self.blobs.insert(manifest.descriptor.digest, manifest.bytes);
            self.blobs.insert(config.descriptor.digest, config.bytes);
            (manifest.descriptor, manifest.value)
        });
        let manifests = manifests.collect();
        self.images.last_mut().unwrap().manifests = manifests;
    }

    fn write_to(&self, out: &mut dyn Write, options: &WriteOptions) -> Result<(), ArchiveError> {
        write_archive(out, &self.images, options, &mut |digest| {
            let bytes = self.blobs.get(digest).ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read>)
        })
    }

    fn write(&self, options: &WriteOptions) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes, options).map(|()| bytes)
    }
}

fn options(format: ArchiveFormat) -> WriteOptions {
    WriteOptions { format, mtime: 0, created: None, name: "out.tar".to_owned() }
}

const FORMATS: [ArchiveFormat; 2] = [ArchiveFormat::Oci, ArchiveFormat::Docker];

/// An image with a layer of each compression.
fn mixed() -> Image {
    let layer = LayerTar::new().file("three", 0o600, "three").finish();
    image("app:v1").layer(Layer::gzip(&layer))
}

#[test]
fn the_same_images_give_the_same_bytes() {
    let store = Store::with(&[(mixed(), &["app:v1"])]);
    for format in FORMATS {
        let options = WriteOptions { mtime: 1_700_000_000, created: None, ..options(format) };
        let bytes = store.write(&options).unwrap();
        assert_eq!(bytes, store.write(&options).unwrap());
        let mut tar = tar::Archive::new(bytes.as_slice());
        let mut names = Vec::new();
        for entry in tar.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
                (1_700_000_000, 0, 0)
            );
            names.push(entry.path().unwrap().display().to_string());
        }
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
        assert_eq!(names.contains(&"manifest.json".to_owned()), format == ArchiveFormat::Docker);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let store = Store::with(&[(mixed(), &["app:v1", "quay.io/me/app:v2"]), (image("other"), &[])]);
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        std::fs::write(&path, store.write(&options(format)).unwrap()).unwrap();
        let archive = Archive::open(&path, dir.path()).unwrap();
        let [app, other] = archive.images() else { panic!("{:?}", archive.images()) };
        assert_eq!(app.names, store.images[0].names);
        assert_eq!(
            (app.descriptor.digest, other.descriptor.digest),
            (mixed().digest(), image("other").digest())
        );
        assert_eq!(other.names, []);
        assert_eq!(archive.image(app, &Platform::host()).unwrap().config.descriptor.digest, mixed().id());
    }
}

#[test]
fn skopeo_reads_both_forms() {
    let Some(skopeo) = judges::skopeo() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.tar");
    let store = Store::with(&[(mixed(), &["app:v1"])]);
    std::fs::write(&path, store.write(&options(ArchiveFormat::Docker)).unwrap()).unwrap();
    for transport in ["oci-archive", "docker-archive"] {
        let source = format!("{transport}:{}", path.display());
        let config = skopeo.ok(["inspect", "--config", "--raw", &source]);
        assert_eq!(Digest::of(&config), mixed().id(), "{transport}");
        // A copy reads every layer and checks it.
        skopeo.ok(["copy", &source, &format!("dir:{}", dir.path().join(transport).display())]);
    }
    let seen = skopeo.json(["inspect", &format!("docker-archive:{}:app:v1", path.display())]);
    assert_eq!(seen["Layers"].as_array().map(Vec::len), Some(3));
    std::fs::write(&path, store.write(&options(ArchiveFormat::Oci)).unwrap()).unwrap();
    let seen = skopeo.json(["inspect", &format!("oci-archive:{}:v1", path.display())]);
    assert_eq!(seen["Digest"], mixed().digest().to_string());
}

#[test]
fn skopeo_finds_each_of_several_images() {
    let Some(skopeo) = judges::skopeo() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.tar");
    let store = Store::with(&[(mixed(), &["app:v1", "app:latest"]), (image("other"), &["other:v1"])]);
    std::fs::write(&path, store.write(&options(ArchiveFormat::Docker)).unwrap()).unwrap();
    for (name, id) in
        [("app:v1", mixed().id()), ("app:latest", mixed().id()), ("other:v1", image("other").id())]
    {
        let config =
            skopeo.ok(["inspect", "--config", "--raw", &format!("docker-archive:{}:{name}", path.display())]);
        assert_eq!(Digest::of(&config), id, "{name}");
    }
}

#[test]
fn podman_loads_both_forms() {
    let Some(podman) = judges::program("podman") else { return };
    let store = Store::with(&[(mixed(), &["app:v1"])]);
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let inside = |name: &str| dir.path().join(name).display().to_string();
        let (path, root, run) = (inside("out.tar"), inside("root"), inside("run"));
        std::fs::write(&path, store.write(&options(format)).unwrap()).unwrap();
        let own = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
        podman.ok(own.iter().copied().chain(["load", "--quiet", "--input", &path]));
        let images = podman.json(own.iter().copied().chain(["images", "--format", "json"]));
        assert_eq!(images[0]["Id"], mixed().id().hex(), "{format:?}: {images}");
        assert_says(&images[0]["Names"], &["v1"]);
    }
}

#[test]
fn blobs_that_are_wrong_or_missing_stop_it() {
    let digest = mixed().id();
    let with = |change: fn(&mut Vec<u8>)| {
        let mut store = Store::with(&[(mixed(), &["app:v1"])]);
        change(store.blobs.get_mut(&digest).unwrap());
        store.write(&options(ArchiveFormat::Oci)).unwrap_err()
    };
    assert_says(with(|bytes| bytes[0] ^= 1), &["out.tar", &digest.to_string(), "damaged or forged"]);
    assert_says(with(|bytes| bytes.push(0)), &[&digest.to_string(), "bytes where its descriptor says"]);
    assert_says(
        with(|bytes| bytes.truncate(bytes.len() - 1)),
        &[&digest.to_string(), "bytes where its descriptor says"],
    );
    let mut store = Store::with(&[(mixed(), &["app:v1"])]);
    store.blobs.remove(&digest);
    let error = store.write(&options(ArchiveFormat::Oci)).unwrap_err();
    assert_says(told(error), &[&format!("cannot read blob {digest} to write it"), "entity not found"]);
}

#[test]
fn a_full_disk_is_the_disks_fault() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let store = Store::with(&[(mixed(), &["app:v1"])]);
    let error = store.write_to(&mut Full, &options(ArchiveFormat::Oci)).unwrap_err();
    assert_says(&error, &["out.tar", "cannot write it"]);
    assert_eq!(base::Faulty::fault(&error), base::Fault::Environment);
}

#[test]
fn docker_s_list_names_the_first_platform_and_the_index_has_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.tar");
    let platforms = [Platform::host(), "linux/s390x".parse().unwrap()];
    let images = platforms.each_ref().map(|platform| image("app:v1").platform(platform));
    write_multi_platform_archive(&path, "app:v1", &images);
    let mut store = Store::default();
    store.add_whole(&path, &["app:v1"]);
    let out = dir.path().join("out.tar");
    std::fs::write(&out, store.write(&options(ArchiveFormat::Docker)).unwrap()).unwrap();
    let archive = Archive::open(&out, dir.path()).unwrap();
    let tree = archive.whole(&archive.images()[0]).unwrap();
    let ids: Vec<Digest> = tree.images.iter().map(|(_, config)| config.descriptor.digest).collect();
    assert_eq!(ids, images.each_ref().map(Image::id));
    let Some(skopeo) = judges::skopeo() else { return };
    let config = skopeo.ok(["inspect", "--config", "--raw", &format!("docker-archive:{}", out.display())]);
    assert_eq!(Digest::of(&config), images[0].id());
    let all = format!("dir:{}", dir.path().join("all").display());
    skopeo.ok(["copy", "--all", &format!("oci-archive:{}", out.display()), &all]);
}
