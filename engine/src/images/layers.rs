//! Where the files of an image lie.

use std::path::PathBuf;

use crate::Engine;
use crate::error::EngineError;

impl Engine {
    /// The directories of an image's layers, the topmost first; none where it is not unpacked. In the place of that of a
    /// packed layer are its files.
    ///
    /// # Errors
    /// When there is no such image, or an id fits several.
    pub fn image_layers(&self, name: &str) -> Result<Vec<PathBuf>, EngineError> {
        let found = self.find(name)?;
        let chain = base::image::chain_id(&found.image.config.rootfs.diff_ids);
        let snapshot = chain.map(|chain| self.store.find_chain_id(&chain)).transpose()?.flatten();
        Ok(snapshot.map(|snapshot| self.store.layer_dirs(snapshot)).transpose()?.unwrap_or_default())
    }
}
