//! `lap load`: images from an archive or an OCI layout into the store.

use std::fs::File;
use std::io::{self, Read};

use base::image::{Descriptor, ImageConfig, Manifest};
use base::{CancelToken, Digest, Platform};
use registry::{Archive, Document, ImageTree, Shelf};
use snapshotter::{Lease, Store, StoreError};

use crate::Engine;
use crate::error::EngineError;
use crate::platforms;
use crate::report::LoadedImage;
use crate::request::LoadSource;

/// What errors call an archive that comes as a stream.
const STREAM: &str = "standard input";

/// A manifest with its config.
type ImageOfTree = (Document<Manifest>, Document<ImageConfig>);

impl Engine {
    /// Loads every image of `source`, each for all platforms that the archive has, or only for `platforms`. The
    /// image for this machine is unpacked; of others, the blobs are kept.
    ///
    /// # Errors
    /// When the archive is damaged or hostile, has nothing for one of `platforms`, or the store fails. None of
    /// its images is in the store then.
    pub fn load(
        &self,
        source: LoadSource,
        platforms: &[Platform],
        cancel: &CancelToken,
    ) -> Result<Vec<LoadedImage>, EngineError> {
        let lease = self.store.lease("load")?;
        let archive = self.open_archive(source, &lease)?;
        let mut loaded = Vec::with_capacity(archive.images().len());
        for image in archive.images() {
            let tree = archive.whole(image)?;
            let id = self.load_image(&lease, &archive, tree, platforms, cancel)?;
            let image_id = id.unwrap_or(image.descriptor.digest);
            let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
            loaded.push((image.descriptor.clone(), LoadedImage { image_id, names }));
        }
        for (root, image) in &loaded {
            self.name_loaded(root, &image.names)?;
        }
        self.store.sync()?;
        for (_, image) in &loaded {
            self.tell_of_image("load", &image.image_id, image.names.first().map_or("", String::as_str));
        }
        Ok(loaded.into_iter().map(|(_, image)| image).collect())
    }

    /// Opens an archive; what has to be unpacked is unpacked into the store's scratch directory. What is large in one that comes as a
    /// stream becomes a blob at once, since that is what it most likely is.
    pub(crate) fn open_archive(&self, source: LoadSource, lease: &Lease) -> Result<Archive, EngineError> {
        let scratch = self.store.scratch_dir();
        Ok(match source {
            LoadSource::Path(path) => Archive::open(&path, &scratch)?,
            LoadSource::Stream(stream) => {
                let mut blobs = Blobs { store: &self.store, lease };
                Archive::open_stream(stream, STREAM, &scratch, &mut blobs)?
            }
        })
    }

    fn name_loaded(&self, root: &Descriptor, names: &[String]) -> Result<(), EngineError> {
        for name in names {
            self.store.tag(name, root)?;
        }
        if names.is_empty() {
            self.store.tag_dangling(root)?;
        }
        Ok(())
    }

    /// Keeps an image with all that belongs to it. Gives its id: that of the image for this machine, if it is of
    /// several.
    fn load_image(
        &self,
        lease: &Lease,
        archive: &Archive,
        tree: ImageTree,
        platforms: &[Platform],
        cancel: &CancelToken,
    ) -> Result<Option<Digest>, EngineError> {
        let ImageTree { indexes, images, others } = tree;
        let platform = |(_, config): &ImageOfTree| config.value.platform();
        let images = platforms::choose(images, platforms, platform)?;
        for index in &indexes {
            self.keep(lease, &index.descriptor, &mut index.bytes.as_slice())?;
        }
        for other in others.iter().filter(|_| platforms.is_empty()) {
            self.keep(lease, &other.descriptor, &mut other.bytes.as_slice())?;
            self.keep_all(
                lease,
                archive,
                [&other.value.config].into_iter().chain(&other.value.layers),
                cancel,
            )?;
        }
        for (manifest, config) in &images {
            self.keep(lease, &manifest.descriptor, &mut manifest.bytes.as_slice())?;
            self.keep(lease, &config.descriptor, &mut config.bytes.as_slice())?;
            self.keep_all(lease, archive, &manifest.value.layers, cancel)?;
        }
        let ours = platforms::best(&images, &Platform::host(), platform);
        // An image without an index is what was asked for, whatever it is for.
        let ours = ours.or(images.first().filter(|_| indexes.is_empty()));
        if let Some((manifest, config)) = ours {
            self.unpack_loaded(lease, &manifest.value, &config.value, cancel)?;
        }
        Ok(ours.or(images.first()).map(|(_, config)| config.descriptor.digest))
    }

    fn keep_all<'a>(
        &self,
        lease: &Lease,
        archive: &Archive,
        blobs: impl IntoIterator<Item = &'a Descriptor>,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        for blob in blobs {
            cancel.check()?;
            // The store hashes what it takes in, which is the check of the archive as well.
            match self.keep(lease, blob, &mut archive.unchecked_blob(blob)?) {
                Err(EngineError::Store(StoreError::BlobMismatch { expected, actual, .. })) => {
                    return Err(archive.forged(expected, actual).into());
                }
                kept => kept?,
            }
        }
        Ok(())
    }

    fn unpack_loaded(
        &self,
        lease: &Lease,
        manifest: &Manifest,
        config: &ImageConfig,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let mut parent = None;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            cancel.check()?;
            parent = Some(self.store.apply_layer(lease, parent, layer, Some(diff_id), cancel)?);
        }
        Ok(())
    }
}

/// The store, for large files of archives.
struct Blobs<'a> {
    store: &'a Store,
    lease: &'a Lease,
}

impl Shelf for Blobs<'_> {
    fn keep(&mut self, content: &mut dyn Read) -> io::Result<File> {
        let mut kept = || -> Result<File, StoreError> {
            let mut writer = self.store.ingest(self.lease)?;
            writer.copy_from(content)?;
            let blob = writer.finish(None)?;
            self.store.open_blob(&blob.digest)
        };
        kept().map_err(|error| match error {
            StoreError::Content { source } => source,
            StoreError::File(error) => io::Error::new(error.kind(), error),
            error => io::Error::other(error),
        })
    }
}
