//! Packed layers that stay mounted between the steps of a build, so that what one step has read of them is in memory for the
//! next one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Layer;

/// Packed layers that steps which get this share. They are mounted for as long as it is there.
///
/// By default nothing is kept.
#[derive(Debug, Clone, Default)]
pub struct KeptLayers(Option<Arc<Mutex<ByDirectory>>>);

type ByDirectory = HashMap<PathBuf, Arc<Layer>>;

impl KeptLayers {
    /// Keeps what is mounted from now on.
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// The layer in a directory, if it is still of these files.
    pub(super) fn find(&self, directory: &Path, files: &str) -> Option<Arc<Layer>> {
        let layers = self.lock()?;
        layers.get(directory).filter(|layer| layer.shared.is_of(files)).cloned()
    }

    pub(super) fn keep(&self, layer: &Arc<Layer>) {
        if let Some(mut layers) = self.lock() {
            layers.insert(layer.directory.clone(), Arc::clone(layer));
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, ByDirectory>> {
        self.0.as_ref().map(|layers| layers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is kept is no part of what is asked for.
impl PartialEq for KeptLayers {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for KeptLayers {}

#[cfg(test)]
mod tests {
    use super::super::users::Shared;
    use super::*;

    #[test]
    fn layers_are_kept_while_they_are_of_the_same_files() {
        let directory = Path::new("/layers/1/fs");
        let layer = |files: &str| {
            let root = std::fs::File::open("/").unwrap().into();
            Arc::new(Layer { directory: directory.to_owned(), root, shared: Shared::none(files.to_owned()) })
        };
        let kept = KeptLayers::new();
        assert!(kept.find(directory, "files").is_none());
        let first = layer("files");
        kept.keep(&first);
        // A step has a copy of it.
        let of_step = kept.clone();
        assert!(Arc::ptr_eq(&of_step.find(directory, "files").unwrap(), &first));
        assert!(of_step.find(directory, "others").is_none(), "the layer was made again");
        of_step.keep(&layer("others"));
        assert!(kept.find(directory, "others").is_some());
        drop((kept, of_step));
        assert_eq!(Arc::strong_count(&first), 1);

        let nothing = KeptLayers::default();
        nothing.keep(&first);
        assert!(nothing.find(directory, "files").is_none());
    }
}
