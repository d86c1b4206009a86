//! The form in which the store keeps the layers of images, changed when somebody asks for it.

use std::collections::BTreeSet;

use base::CancelToken;
use snapshotter::{ConvertTo, Converted, Kept, SnapshotId};

use super::tree::chains;
use crate::Engine;
use crate::error::EngineError;

/// What became of layers that were to have another form.
#[derive(Debug, Default)]
pub struct FormChanges {
    /// How many have it now.
    pub converted: usize,
    /// How many had it already.
    pub already: usize,
    /// Those that stay as they are, each by its snapshot, and why.
    pub kept: Vec<(SnapshotId, Kept)>,
}

impl Engine {
    /// Gives the layers of these images, or all layers, that form. Images, digests and keys stay as they are.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`]; where nothing can be packed, when that is asked for; when the store cannot be written, or the
    /// token is cancelled. Layers that were converted before stay so.
    pub fn convert_layers(
        &self,
        images: &[String],
        to: ConvertTo,
        cancel: &CancelToken,
    ) -> Result<FormChanges, EngineError> {
        let layers = match images {
            [] => self.store.all_layers()?.into_iter().collect(),
            images => self.layers_of_images(images)?,
        };
        let mut changes = FormChanges::default();
        for layer in layers {
            match self.store.convert_layer(layer, to, cancel)? {
                Converted::Done => changes.converted += 1,
                Converted::Already => changes.already += 1,
                Converted::Kept(why) => changes.kept.push((layer, why)),
                Converted::Gone => {}
            }
        }
        Ok(changes)
    }

    /// The layers of images that are in the store, of all their platforms.
    fn layers_of_images(&self, images: &[String]) -> Result<BTreeSet<SnapshotId>, EngineError> {
        let mut layers = BTreeSet::new();
        for name in images {
            let found = self.find(name)?;
            for image in self.platform_images(&found.target, &found.image)? {
                let chains: Vec<_> = chains(&image).collect();
                for chain in chains.iter().rev() {
                    // The highest that is here has all below it.
                    if let Some(snapshot) = self.store.find_chain_id(chain)? {
                        layers.extend(self.store.layers_of(snapshot)?);
                        break;
                    }
                }
            }
        }
        Ok(layers)
    }
}
