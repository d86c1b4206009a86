//! Reading archives: those of other tools, and those that are damaged or forged.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use base::image::{Descriptor, media_type};
use base::{Digest, Platform};
use registry::{Archive, ArchiveError, ArchiveErrorKind, ImageDocuments, LoadedImage};
use serde_json::json;
use tempfile::TempDir;
use testkit::oci::write_multi_platform_archive;
use testkit::{Layer, LayerTar, judges};

use crate::fixture::{assert_says, image, told};

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A directory with an archive in it.
struct Fixture {
    dir: TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        Self { dir, path }
    }

    /// A well-formed archive of `app:v1`.
    fn good() -> Self {
        let fixture = Self::new();
        image("app:v1").write_archive(&fixture.path);
        fixture
    }

    /// A tar of these files.
    fn files(files: &[(&str, &[u8])]) -> Self {
        let fixture = Self::new();
        let mut tar = tar::Builder::new(File::create(&fixture.path).unwrap());
        for (name, content) in files {
            append(&mut tar, name, content);
        }
        tar.finish().unwrap();
        fixture
    }

    fn open(&self) -> Result<Archive, ArchiveError> {
        Archive::open(&self.path, self.dir.path())
    }

    #[track_caller]
    fn error(&self) -> ArchiveError {
        match self.open() {
            Ok(_) => panic!("the archive opens"),
            Err(error) => error,
        }
    }
}

/// Adds a file under any name, however bad it is.
fn append(tar: &mut tar::Builder<File>, name: &str, content: &[u8]) {
    let mut header = entry_header(name, tar::EntryType::Regular, content.len());
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn entry_header(name: &str, kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o644);
    header
}

/// Reads an image of an archive to the last byte.
fn read_all(archive: &Archive, image: &LoadedImage) -> Result<ImageDocuments, std::io::Error> {
    let documents = archive.image(image, &Platform::host()).map_err(std::io::Error::other)?;
    for blob in documents.manifest.value.layers.iter().chain([&documents.config.descriptor]) {
        let mut bytes = Vec::new();
        archive.blob(blob).map_err(std::io::Error::other)?.read_to_end(&mut bytes)?;
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (blob.digest, blob.size));
    }
    Ok(documents)
}

/// Asserts that an archive holds [`image`] under the name `app:v1`, whole.
#[track_caller]
fn assert_is_app(archive: &Archive) {
    let [loaded] = archive.images() else { panic!("{:?}", archive.images()) };
    assert_eq!(loaded.names, ["app:v1".parse().unwrap()]);
    let documents = read_all(archive, loaded).unwrap();
    assert_eq!(documents.config.descriptor.digest, image("app").id());
}

/// A shelf for archives without large files.
struct Nowhere;

impl registry::Shelf for Nowhere {
    fn keep(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<std::fs::File> {
        panic!("the files of these archives are small")
    }
}

#[test]
fn tars_and_directories_are_read() {
    let fixture = Fixture::good();
    let archive = fixture.open().unwrap();
    assert_is_app(&archive);
    assert_eq!(archive.images()[0].descriptor.digest, image("app").digest());
    assert_eq!(archive.images()[0].ref_name.as_deref(), Some("v1"));
    let layout = fixture.dir.path().join("layout");
    image("app:v1").write_layout(&layout);
    assert_is_app(&Archive::open(&layout, fixture.dir.path()).unwrap());
}

#[test]
fn compressed_tars_are_unpacked_aside() {
    let fixture = Fixture::good();
    let plain = std::fs::read(&fixture.path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let forms = [
        gzip.finish().unwrap(),
        bzip2.finish().unwrap(),
        xz.finish().unwrap(),
        zstd::encode_all(plain.as_slice(), 1).unwrap(),
    ];
    for packed in forms {
        std::fs::write(&fixture.path, &packed).unwrap();
        assert_is_app(&fixture.open().unwrap());
        assert_is_app(
            &Archive::open_stream(packed.as_slice(), "stream", fixture.dir.path(), &mut Nowhere).unwrap(),
        );
        for bad in [[packed.as_slice(), b"garbage"].concat(), packed[..packed.len() / 2].to_vec()] {
            std::fs::write(&fixture.path, &bad).unwrap();
            assert_says(fixture.error(), &["image.tar", "damaged or cut short"]);
            assert!(
                Archive::open_stream(bad.as_slice(), "stream", fixture.dir.path(), &mut Nowhere).is_err()
            );
        }
        assert_eq!(std::fs::read_dir(fixture.dir.path()).unwrap().count(), 1, "nothing is left behind");
    }
}

#[test]
fn the_platform_is_selected() {
    let fixture = Fixture::new();
    let platforms = ["linux/arm64", "linux/amd64"].map(|text| text.parse::<Platform>().unwrap());
    let images = platforms.each_ref().map(|platform| image("app:v1").platform(platform));
    write_multi_platform_archive(&fixture.path, "app:v1", &images);
    let archive = fixture.open().unwrap();
    for platform in &platforms {
        let documents = archive.image(&archive.images()[0], platform).unwrap();
        assert_eq!(documents.config.value.platform(), *platform);
        assert_eq!(documents.root().digest, archive.images()[0].descriptor.digest);
    }
    let error = archive.image(&archive.images()[0], &"linux/s390x".parse().unwrap()).unwrap_err();
    assert_says(error, &["linux/s390x", "it has linux/amd64, linux/arm64"]);
}

#[test]
fn archives_of_skopeo_are_read() {
    let Some(skopeo) = judges::skopeo() else { return };
    let fixture = Fixture::good();
    let from = format!("oci-archive:{}", fixture.path.display());
    for kind in ["docker-archive", "oci-archive"] {
        let path = fixture.dir.path().join(kind);
        skopeo.ok(["copy", &from, &format!("{kind}:{}:app:v1", path.display())]);
        let archive = Archive::open(&path, fixture.dir.path()).unwrap();
        assert_is_app(&archive);
    }
}

/// The files of an archive as `docker save` wrote them before version 25.
fn old_archive(layer: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Fixture {
    let diff_id = Digest::of(&tar_layer());
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]}});
    let config = config.to_string();
    let config_file = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let mut list = json!([{"Config": config_file, "RepoTags": ["old:v1", "old:v2"],
        "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    change(&mut list[0]);
    let fixture = Fixture::new();
    let mut tar = tar::Builder::new(File::create(&fixture.path).unwrap());
    append(&mut tar, &config_file, config.as_bytes());
    append(&mut tar, "other.json", config.as_bytes());
    append(&mut tar, "one/layer.tar", layer);
    // Docker wrote a layer that occurs twice as a link to the first.
    let mut link = entry_header("two/layer.tar", tar::EntryType::Symlink, 0);
    link.set_link_name("../one/layer.tar").unwrap();
    link.set_cksum();
    tar.append(&link, std::io::empty()).unwrap();
    append(&mut tar, "manifest.json", list.to_string().as_bytes());
    tar.finish().unwrap();
    fixture
}

fn tar_layer() -> Vec<u8> {
    LayerTar::new().file("file", 0o644, "content").finish()
}

#[test]
fn archives_of_old_docker_get_a_manifest() {
    let archive = old_archive(&tar_layer(), |_| {}).open().unwrap();
    let [loaded] = archive.images() else { panic!("{:?}", archive.images()) };
    let names: Vec<_> = loaded.names.iter().map(base::Reference::familiar).collect();
    assert_eq!(names, ["old:v1", "old:v2"]);
    let documents = read_all(&archive, loaded).unwrap();
    let layers = &documents.manifest.value.layers;
    assert_eq!(layers[0], layers[1]);
    assert_eq!(
        (layers[0].media_type.as_str(), layers[0].digest),
        (media_type::OCI_LAYER, Digest::of(&tar_layer()))
    );
}

#[test]
fn compressed_layers_of_such_archives_are_named_by_what_they_are() {
    let packed = zstd::encode_all(tar_layer().as_slice(), 1).unwrap();
    let archive = old_archive(&packed, |_| {}).open().unwrap();
    let documents = read_all(&archive, &archive.images()[0]).unwrap();
    let layer = &documents.manifest.value.layers[0];
    assert_eq!((layer.media_type.as_str(), layer.digest), (media_type::OCI_LAYER_ZSTD, Digest::of(&packed)));
}

#[test]
fn forged_old_archives_are_refused() {
    let forged = old_archive(b"other bytes", |_| {}).open().unwrap();
    let error = read_all(&forged, &forged.images()[0]).unwrap_err();
    assert_says(error, &["image.tar", &Digest::of(&tar_layer()).to_string(), "damaged or forged"]);
    let error = |change: fn(&mut serde_json::Value)| old_archive(&tar_layer(), change).error();
    let config = format!("{}.json", "0".repeat(64));
    assert_says(error(|entry| entry["Config"] = "missing.json".into()), &["\"missing.json\" is missing"]);
    assert_says(
        error(|entry| entry["Layers"] = json!(["one/layer.tar"])),
        &["lists 1 layers", "which has 2"],
    );
    assert_says(error(|entry| entry["Layers"][1] = "../../etc/passwd".into()), &["leads out of the archive"]);
    assert_says(error(|entry| entry["Layers"][1] = "nothing".into()), &["\"nothing\" is missing"]);
    assert_says(
        told(error(|entry| entry["RepoTags"][0] = "Bad Name".into())),
        &["Bad Name", "unusable image name"],
    );
    assert_says(error(|entry| entry["Config"] = 7.into()), &["manifest.json is not valid"]);
    let bytes = br#"{"rootfs":{"diff_ids":[]}}"#;
    let list = json!([{"Config": config, "Layers": null}]).to_string();
    let fixture = Fixture::files(&[(&config, bytes), ("manifest.json", list.as_bytes())]);
    assert_says(fixture.error(), &[&"0".repeat(64), &Digest::of(bytes).to_string()]);
}

#[test]
fn a_layout_without_names_takes_those_of_docker() {
    let fixture = Fixture::good();
    let mut unnamed = tar::Builder::new(File::create(fixture.dir.path().join("unnamed.tar")).unwrap());
    let mut archive = tar::Archive::new(File::open(&fixture.path).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if name == "index.json" {
            let mut index: serde_json::Value = serde_json::from_slice(&content).unwrap();
            index["manifests"][0]["annotations"] = json!({});
            content = index.to_string().into_bytes();
        }
        // Other tools put "./" before their names.
        append(&mut unnamed, &format!("./{name}"), &content);
    }
    unnamed.finish().unwrap();
    assert_is_app(&Archive::open(&fixture.dir.path().join("unnamed.tar"), fixture.dir.path()).unwrap());
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../index.json", "/etc/passwd", "a/../../b"] {
        assert_says(Fixture::files(&[(name, b"x")]).error(), &[name, "leads out of the archive"]);
    }
    let link = |target: &str| {
        let fixture = Fixture::new();
        let mut tar = tar::Builder::new(File::create(&fixture.path).unwrap());
        let mut header = entry_header("oci-layout", tar::EntryType::Symlink, 0);
        header.set_link_name(target).unwrap();
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
        tar.finish().unwrap();
        fixture.error()
    };
    assert_says(link("/etc/passwd"), &["oci-layout", "leads out of the archive"]);
    assert_says(link("oci-layout"), &["oci-layout", "too many links"]);
}

#[test]
fn files_that_are_no_archives_are_recognised() {
    assert_says(
        Fixture::files(&[("readme", b"hello")]).error(),
        &["neither an OCI image layout", "docker save"],
    );
    let fixture = Fixture::new();
    std::fs::write(&fixture.path, "just some text, longer than a header ".repeat(40)).unwrap();
    assert_says(fixture.error(), &["not a tar, or a damaged one"]);
    std::fs::write(&fixture.path, "").unwrap();
    assert_says(fixture.error(), &["cut short"]);
    let missing = Archive::open(Path::new("/nonexistent/x.tar"), fixture.dir.path()).err().unwrap();
    assert_says(told(missing), &["/nonexistent/x.tar", "cannot open it", "No such file"]);
}

#[test]
fn layouts_that_are_not_valid_say_where() {
    let layout = |files: &[(&str, &[u8])]| Fixture::files(files).error();
    assert_says(layout(&[("oci-layout", b"{")]), &["oci-layout is not valid"]);
    assert_says(
        layout(&[("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#)]),
        &["\"2.0.0\"", "only 1.0.0"],
    );
    let marker = ("oci-layout", LAYOUT.as_bytes());
    assert_says(layout(&[marker]), &["\"index.json\" is missing"]);
    assert_says(layout(&[marker, ("index.json", b"[]")]), &["index.json is not valid"]);
    let huge = vec![b' '; 5 << 20];
    assert_says(layout(&[marker, ("index.json", &huge)]), &["index.json is larger than the limit"]);
}

/// An archive with an index entry of this digest and size over one blob.
fn with_blob(digest: Digest, size: usize, blob: &[u8]) -> Fixture {
    let entry = json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": size});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let path = format!("blobs/sha256/{}", digest.hex());
    Fixture::files(&[("oci-layout", LAYOUT.as_bytes()), ("index.json", index.as_bytes()), (&path, blob)])
}

#[test]
fn blobs_that_are_not_what_they_should_be_are_refused() {
    let error = |digest: Digest, size: usize| {
        let archive = with_blob(digest, size, b"bytes").open().unwrap();
        archive.image(&archive.images()[0], &Platform::host()).unwrap_err()
    };
    let named = Digest::of(b"other");
    assert_says(
        error(named, 5),
        &[&named.to_string(), &Digest::of(b"bytes").to_string(), "damaged or forged"],
    );
    assert_says(error(Digest::of(b"bytes"), 4), &["has 5 bytes where its descriptor says 4"]);
    assert_says(error(Digest::of(b"bytes"), 5 << 20), &["larger than the limit"]);
    assert_says(error(Digest::of(b"bytes"), 5), &["is not a valid document"]);
    let archive = Fixture::good().open().unwrap();
    let missing = Descriptor::new(media_type::OCI_LAYER, Digest::of(b"missing"), 7);
    let error = archive.blob(&missing).err().unwrap();
    assert!(matches!(*error.kind, ArchiveErrorKind::MissingBlob { digest } if digest == missing.digest));
}

#[test]
fn a_layer_that_is_not_its_digest_fails_at_its_end() {
    let fixture = Fixture::new();
    let lying = Layer::tar(tar_layer()).claiming(Digest::of(b"claimed"), tar_layer().len() as u64);
    image("app:v1").layer(lying).write_archive(&fixture.path);
    let archive = fixture.open().unwrap();
    let error = read_all(&archive, &archive.images()[0]).unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ArchiveError>()).unwrap();
    assert!(matches!(*inner.kind, ArchiveErrorKind::DigestMismatch { .. }), "{inner}");
}

#[test]
fn an_archive_cut_short_anywhere_fails_cleanly() {
    let fixture = Fixture::good();
    let whole = std::fs::read(&fixture.path).unwrap();
    // A tar ends with two blocks of zeros, of which one is enough.
    for length in (0..=whole.len() - 1024).step_by(256) {
        std::fs::write(&fixture.path, &whole[..length]).unwrap();
        let outcome = fixture.open().map_err(std::io::Error::other);
        let outcome = outcome.and_then(|archive| {
            let image = archive.images().first().cloned();
            image.map_or(Err(std::io::Error::other("no image")), |image| read_all(&archive, &image))
        });
        assert!(outcome.is_err(), "an archive of {length} bytes of {} is accepted", whole.len());
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    let fixture = Fixture::good();
    let whole = std::fs::read(&fixture.path).unwrap();
    let padded = [whole.as_slice(), &[0; 10240]].concat();
    std::fs::write(&fixture.path, padded).unwrap();
    assert_is_app(&fixture.open().unwrap());
    for more in [b"garbage".as_slice(), &whole] {
        std::fs::write(&fixture.path, [whole.as_slice(), more].concat()).unwrap();
        assert_says(fixture.error(), &[&format!("from byte {}", whole.len()), "goes on after its end"]);
    }
}

#[test]
fn archives_without_an_image_say_so() {
    let layout = |index: &str| {
        Fixture::files(&[("oci-layout", LAYOUT.as_bytes()), ("index.json", index.as_bytes())]).error()
    };
    assert_says(layout(r#"{"schemaVersion":2,"manifests":[]}"#), &["it has no image"]);
    let digest = Digest::of(b"");
    let entry = json!({"mediaType": "application/vnd.example+json", "digest": digest, "size": 0});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    assert_says(layout(&index), &["it has no image"]);
    assert_says(Fixture::files(&[("manifest.json", b"[]")]).error(), &["it has no image"]);
}

#[test]
fn layers_of_an_unknown_type_are_refused() {
    let layer = Layer::tar(tar_layer()).of_type("application/vnd.example.layer");
    let fixture = Fixture::new();
    image("app:v1").layer(layer).write_archive(&fixture.path);
    let archive = fixture.open().unwrap();
    let error = archive.whole(&archive.images()[0]).unwrap_err();
    assert_says(error, &["unknown type \"application/vnd.example.layer\""]);
}

#[test]
fn an_index_may_miss_platforms_but_not_all() {
    let fixture = Fixture::new();
    let platforms = [Platform::host(), "linux/s390x".parse().unwrap()];
    let images = platforms.each_ref().map(|platform| image("app:v1").platform(platform));
    write_multi_platform_archive(&fixture.path, "app:v1", &images);
    let whole = fixture.open().unwrap();
    let tree = whole.whole(&whole.images()[0]).unwrap();
    assert_eq!((tree.indexes.len(), tree.images.len(), tree.others.len()), (1, 2, 0));
    let without = |gone: &[&testkit::Image]| {
        let names: Vec<String> =
            gone.iter().map(|image| format!("blobs/sha256/{}", image.digest().hex())).collect();
        let file = File::open(&fixture.path).unwrap();
        let mut kept = Vec::new();
        for entry in tar::Archive::new(file).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            kept.extend((!names.contains(&name)).then_some((name, content)));
        }
        let kept: Vec<(&str, &[u8])> =
            kept.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let fixture = Fixture::files(&kept);
        let archive = fixture.open().unwrap();
        archive.whole(&archive.images()[0]).map(|tree| tree.images.len())
    };
    assert_eq!(without(&[&images[0]]).unwrap(), 1);
    let error = without(&[&images[0], &images[1]]).unwrap_err();
    assert_says(error, &[&format!("blob {} is missing", images[0].digest())]);
}

#[test]
fn special_files_in_a_layout_are_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    image("app:v1").write_layout(&layout);
    std::fs::remove_file(layout.join("index.json")).unwrap();
    std::fs::create_dir(layout.join("index.json")).unwrap();
    let error = Archive::open(&layout, dir.path()).err().unwrap();
    assert_says(error, &["\"index.json\" is not a plain file"]);
}
