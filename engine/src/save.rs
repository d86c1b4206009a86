//! `lap save`: images of the store into one archive that Docker, Podman and OCI tools read.

use base::CancelToken;
use base::image::media_type;
use registry::{ArchiveFormat, ExportedImage};

use crate::Engine;
use crate::error::EngineError;
use crate::export::archive;
use crate::request::Destination;

impl Engine {
    /// Writes the images called `names` to `destination`, as they are in the store.
    ///
    /// # Errors
    /// When an image does not exist or the archive cannot be written; a file is then left as it was.
    pub fn save(
        &self,
        names: &[String],
        destination: &Destination,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let lease = self.store.lease("save")?;
        let mut images: Vec<ExportedImage> = Vec::new();
        for name in names {
            let found = self.find_and_hold(&lease, name)?;
            let image = self.materialise(&lease, &found.image, cancel)?;
            let names = if found.by_name { vec![name.parse()?] } else { Vec::new() };
            match images.iter_mut().find(|known| known.root.digest == image.descriptor.digest) {
                Some(known) => known.names.extend(names),
                None => images.push(ExportedImage {
                    names,
                    root: image.descriptor.clone(),
                    manifests: vec![(image.descriptor, image.manifest)],
                }),
            }
        }
        debug_assert!(images.iter().all(|image| !media_type::is_index(&image.root.media_type)));
        archive::write(self, ArchiveFormat::Docker, &images, None, destination)
    }
}
