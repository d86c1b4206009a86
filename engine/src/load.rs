//! `lap load`: images from an archive or an OCI layout into the store.

use std::io::Read;

use base::{CancelToken, Platform};
use registry::Archive;
use snapshotter::Lease;

use crate::Engine;
use crate::error::EngineError;
use crate::report::LoadedImage;
use crate::request::LoadSource;

impl Engine {
    /// Loads every image of `source`: the host's platform where an image has several.
    ///
    /// # Errors
    /// When the archive is damaged or hostile, or the store fails. Images before the bad one stay.
    pub fn load(&self, source: LoadSource, cancel: &CancelToken) -> Result<Vec<LoadedImage>, EngineError> {
        let lease = self.store.lease("load")?;
        let archive = match source {
            LoadSource::Path(path) => Archive::open(&path, &self.store.scratch_dir())?,
            LoadSource::Stream(mut stream) => self.spooled(stream.as_mut())?,
        };
        let images = archive.images().to_vec();
        let loaded = images
            .iter()
            .map(|image| self.load_image(&lease, &archive, image, cancel))
            .collect::<Result<_, _>>()?;
        self.store.sync()?;
        Ok(loaded)
    }

    /// An archive that comes as a stream, in a file without a name, because archives are read in any order.
    fn spooled(&self, stream: &mut dyn Read) -> Result<Archive, EngineError> {
        let directory = self.store.scratch_dir();
        let name = "standard input";
        let failed =
            |source| EngineError::Output { what: format!("{name} to {}", directory.display()), source };
        let mut file = tempfile::tempfile_in(&directory).map_err(failed)?;
        std::io::copy(stream, &mut file).map_err(failed)?;
        Ok(Archive::open_file(file, name, &directory)?)
    }

    fn load_image(
        &self,
        lease: &Lease,
        archive: &Archive,
        image: &registry::LoadedImage,
        cancel: &CancelToken,
    ) -> Result<LoadedImage, EngineError> {
        let documents = archive.image(image, &Platform::host())?;
        let (kept, root) = self.keep_documents(lease, documents)?;
        let mut parent = None;
        for (layer, diff_id) in kept.manifest.layers.iter().zip(&kept.config.rootfs.diff_ids) {
            cancel.check()?;
            self.keep(lease, layer, &mut archive.blob(layer)?)?;
            parent = Some(self.store.apply_layer(lease, parent, layer, Some(diff_id), cancel)?);
        }
        let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
        for name in &names {
            self.store.tag(name, &root)?;
        }
        if names.is_empty() {
            self.store.tag_dangling(&root)?;
        }
        Ok(LoadedImage { image_id: kept.id(), names })
    }
}
