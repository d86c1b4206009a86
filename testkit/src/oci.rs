//! Images made in code, written as OCI layouts, or as archives that OCI and Docker tools both load.
//!
//! An archive holds an OCI layout and Docker's `manifest.json` over the same blobs, which is what `docker save`
//! writes since version 25. Source: OCI image-spec `image-layout.md`, Docker's image spec v1.2.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use base::digest::Digester;
use base::image::{Descriptor, History, ImageConfig, Index, Manifest, media_type};
use base::{Digest, Platform, Reference};
use flate2::Compression;
use flate2::write::GzEncoder;

/// A layer: a tar, in memory or in a file.
#[derive(Clone)]
pub struct Layer {
    source: Source,
    descriptor: Descriptor,
    diff_id: Digest,
}

#[derive(Clone)]
enum Source {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Layer {
    /// An uncompressed layer.
    pub fn tar(tar: Vec<u8>) -> Self {
        let diff_id = Digest::of(&tar);
        let descriptor = Descriptor::new(media_type::OCI_LAYER, diff_id, tar.len() as u64);
        Self { source: Source::Bytes(tar), descriptor, diff_id }
    }

    /// A layer compressed with gzip.
    pub fn gzip(tar: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(tar).expect("a vector takes all bytes");
        Self::gzip_as(tar, encoder.finish().expect("a vector takes all bytes"))
    }

    /// A layer that somebody else compressed with gzip to these bytes.
    pub fn gzip_as(tar: &[u8], bytes: Vec<u8>) -> Self {
        let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::of(&bytes), bytes.len() as u64);
        Self { source: Source::Bytes(bytes), descriptor, diff_id: Digest::of(tar) }
    }

    /// An uncompressed layer whose tar is a file. The file is read now for its digest and again when written.
    pub fn file(path: &Path) -> io::Result<Self> {
        let mut digester = Digester::new();
        let size = io::copy(&mut File::open(path)?, &mut digester)?;
        let diff_id = digester.finish();
        let descriptor = Descriptor::new(media_type::OCI_LAYER, diff_id, size);
        Ok(Self { source: Source::File(path.to_owned()), descriptor, diff_id })
    }

    /// Replaces what the manifest says about the layer, for images that lie.
    pub fn claiming(mut self, digest: Digest, size: u64) -> Self {
        self.descriptor.digest = digest;
        self.descriptor.size = size;
        self
    }

    /// Replaces the media type.
    pub fn of_type(mut self, media_type: &str) -> Self {
        media_type.clone_into(&mut self.descriptor.media_type);
        self
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match &self.source {
            Source::Bytes(bytes) => Box::new(bytes.as_slice()),
            Source::File(path) => Box::new(File::open(path)?),
        })
    }
}

/// An image of one platform.
#[derive(Clone)]
pub struct Image {
    reference: Reference,
    config: ImageConfig,
    layers: Vec<Layer>,
}

impl Image {
    /// An image without layers for the host's platform. Panics if `name` is not a reference.
    pub fn new(name: &str) -> Self {
        let reference = name.parse().unwrap_or_else(|error| panic!("{error}"));
        Self { reference, config: ImageConfig::scratch(&Platform::host()), layers: Vec::new() }
    }

    /// Adds a layer on top, with an entry in the history: some tools refuse images that have fewer entries
    /// than layers.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.config.history.push(History { created_by: "testkit".to_owned(), ..History::default() });
        self.config.rootfs.diff_ids.push(layer.diff_id);
        self.layers.push(layer);
        self
    }

    /// Changes the platform that the image says it is for.
    pub fn platform(mut self, platform: &Platform) -> Self {
        self.config.os.clone_from(&platform.os);
        self.config.architecture.clone_from(&platform.architecture);
        self.config.variant.clone_from(&platform.variant);
        self
    }

    /// Changes the config.
    pub fn configure(mut self, change: impl FnOnce(&mut ImageConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// The image's full name.
    pub fn name(&self) -> String {
        self.reference.to_string()
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest())
    }

    /// The digest of the config, which Docker calls the image's id.
    pub fn id(&self) -> Digest {
        Digest::of(&self.config())
    }

    /// The digest of a layer's blob; the base is layer 0.
    pub fn layer_digest(&self, layer: usize) -> Digest {
        self.layers[layer].descriptor.digest
    }

    /// Writes an OCI layout directory, which must not exist yet.
    pub fn write_layout(&self, dir: &Path) {
        let write = || -> io::Result<()> {
            for (path, blob) in self.files() {
                let path = dir.join(path);
                std::fs::create_dir_all(path.parent().expect("a file in a layout has a parent"))?;
                io::copy(&mut blob.open()?, &mut File::create_new(path)?)?;
            }
            Ok(())
        };
        write().unwrap_or_else(|error| panic!("write the layout {}: {error}", dir.display()));
    }

    /// Writes an archive.
    pub fn write_archive(&self, path: &Path) {
        let write = || self.write_archive_to(File::create(path)?);
        write().unwrap_or_else(|error| panic!("write the archive {}: {error}", path.display()));
    }

    /// Writes an archive to a stream.
    pub fn write_archive_to(&self, output: impl Write) -> io::Result<()> {
        write_tar(&self.files(), output)
    }

    fn config(&self) -> Vec<u8> {
        to_json(&self.config)
    }

    fn manifest(&self) -> Vec<u8> {
        let config = self.config();
        to_json(&Manifest {
            artifact_type: None,
            subject: None,
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config: Descriptor::new(media_type::OCI_CONFIG, Digest::of(&config), config.len() as u64),
            layers: self.layers.iter().map(|layer| layer.descriptor.clone()).collect(),
            annotations: BTreeMap::new(),
        })
    }

    /// The manifest's entry in an index of platforms.
    fn descriptor(&self) -> Descriptor {
        let manifest = self.manifest();
        let mut descriptor =
            Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&manifest), manifest.len() as u64);
        descriptor.platform = Some(self.config.platform());
        descriptor
    }

    /// The paths and contents of the image's blobs.
    fn blobs(&self) -> BTreeMap<String, Blob<'_>> {
        let config = self.config();
        let manifest = self.manifest();
        let layers =
            self.layers.iter().map(|layer| (blob_path(&layer.descriptor.digest), Blob::Layer(layer)));
        let documents = [config, manifest].map(|bytes| (blob_path(&Digest::of(&bytes)), Blob::Bytes(bytes)));
        layers.chain(documents).collect()
    }

    /// The paths and contents of the layout's files, Docker's `manifest.json` included.
    fn files(&self) -> BTreeMap<String, Blob<'_>> {
        let mut files = self.blobs();
        add_index(&mut files, &self.reference, self.descriptor());
        let docker = serde_json::json!([{
            "Config": blob_path(&self.id()),
            "RepoTags": [self.reference.familiar()],
            "Layers": self.layers.iter().map(|layer| blob_path(&layer.descriptor.digest)).collect::<Vec<_>>(),
        }]);
        files.insert("manifest.json".to_owned(), Blob::Bytes(to_json(&docker)));
        files
    }
}

/// Writes an archive of one name with several platforms, one image for each.
pub fn write_multi_platform_archive(path: &Path, name: &str, images: &[Image]) {
    let reference = name.parse().unwrap_or_else(|error| panic!("{error}"));
    let index = to_json(&Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests: images.iter().map(Image::descriptor).collect(),
        annotations: BTreeMap::new(),
    });
    let descriptor = Descriptor::new(media_type::OCI_INDEX, Digest::of(&index), index.len() as u64);
    let mut files: BTreeMap<String, Blob<'_>> = images.iter().flat_map(Image::blobs).collect();
    files.insert(blob_path(&descriptor.digest), Blob::Bytes(index));
    add_index(&mut files, &reference, descriptor);
    let write = || write_tar(&files, File::create(path)?);
    write().unwrap_or_else(|error| panic!("write the archive {}: {error}", path.display()));
}

/// The content of one file of a layout.
enum Blob<'i> {
    Bytes(Vec<u8>),
    Layer(&'i Layer),
}

impl Blob<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(bytes.as_slice())),
            Self::Layer(layer) => layer.open(),
        }
    }

    fn size(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(bytes) | Self::Layer(Layer { source: Source::Bytes(bytes), .. }) => {
                Ok(bytes.len() as u64)
            }
            Self::Layer(Layer { source: Source::File(path), .. }) => Ok(path.metadata()?.len()),
        }
    }
}

/// Adds the two files that make a directory of blobs a layout.
fn add_index(files: &mut BTreeMap<String, Blob<'_>>, reference: &Reference, mut entry: Descriptor) {
    // The full name is containerd's annotation, the tag alone the specification's.
    entry.annotations.insert("io.containerd.image.name".to_owned(), reference.to_string());
    if let Some(tag) = &reference.tag {
        entry.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag.clone());
    }
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests: vec![entry],
        annotations: BTreeMap::new(),
    };
    files.insert("index.json".to_owned(), Blob::Bytes(to_json(&index)));
    files.insert("oci-layout".to_owned(), Blob::Bytes(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
}

fn write_tar(files: &BTreeMap<String, Blob<'_>>, output: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(BufWriter::new(output));
    for (path, blob) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(blob.size()?);
        header.set_mode(0o644);
        header.set_mtime(0);
        builder.append_data(&mut header, path, blob.open()?)?;
    }
    builder.into_inner()?.flush()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("image documents are valid JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer_tar::LayerTar;

    fn image() -> Image {
        let tar = LayerTar::new().file("a", 0o644, "x").finish();
        Image::new("example.com/a/b:c").layer(Layer::tar(tar.clone())).layer(Layer::gzip(&tar))
    }

    #[test]
    fn a_layout_holds_every_blob_under_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("layout");
        image().write_layout(&layout);
        let blobs = layout.join("blobs/sha256");
        let mut count = 0;
        for entry in std::fs::read_dir(blobs).unwrap() {
            let path = entry.unwrap().path();
            assert!(path.ends_with(Digest::of(&std::fs::read(&path).unwrap()).hex()), "{}", path.display());
            count += 1;
        }
        assert_eq!(count, 4, "two layers, the config and the manifest");
        let index: Index =
            serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
        assert_eq!(index.manifests[0].digest, image().digest());
        assert_eq!(index.manifests[0].annotations["io.containerd.image.name"], "example.com/a/b:c");
    }

    #[test]
    fn an_archive_is_the_same_whenever_it_is_written() {
        let mut archives = [Vec::new(), Vec::new()];
        for archive in &mut archives {
            image().write_archive_to(archive).unwrap();
        }
        assert!(!archives[0].is_empty() && archives[0] == archives[1]);
    }

    #[test]
    fn several_platforms_share_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("multi.tar");
        let images =
            ["linux/amd64", "linux/arm64"].map(|platform| image().platform(&platform.parse().unwrap()));
        write_multi_platform_archive(&path, "multi:1", &images);
        let paths: Vec<PathBuf> = tar::Archive::new(File::open(&path).unwrap())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        // Two shared layers, two configs, two manifests, the inner index; then index.json and oci-layout.
        assert_eq!(paths.len(), 9, "{paths:?}");
    }

    #[test]
    fn a_layer_from_a_file_is_the_layer_from_its_bytes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"not really a tar").unwrap();
        let (by_file, by_bytes) =
            (Layer::file(file.path()).unwrap(), Layer::tar(b"not really a tar".to_vec()));
        assert_eq!(by_file.descriptor, by_bytes.descriptor);
        assert_eq!(by_file.diff_id, by_bytes.diff_id);
    }
}
