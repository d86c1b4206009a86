//! Removing what nobody needs: images without a name or without a user, and the build cache.

use std::collections::BTreeMap;

use base::Timestamp;
use snapshotter::{Collection, Policy};

use crate::Engine;
use crate::error::EngineError;
use crate::events_log::EventLog;
use crate::images::familiar;
use crate::report::{ImageUsage, Removal};

/// Which images go.
#[derive(Debug, Clone, Default)]
pub struct ImagePrune {
    /// All that no container uses, not only those without a name.
    pub all: bool,
    /// Only images made before this.
    pub until: Option<Timestamp>,
    /// Only images with this label, or with a label of this value.
    pub labels: Vec<LabelFilter>,
}

/// A condition on the labels of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label.
    pub name: String,
    /// Its value; `None` for any.
    pub value: Option<String>,
    /// Whether the image must have it, or must not.
    pub present: bool,
}

impl LabelFilter {
    /// Whether an image with `labels` meets it.
    pub fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.name).is_some_and(|have| self.value.as_ref().is_none_or(|v| v == have));
        found == self.present
    }
}

/// What pruning removes.
#[derive(Debug)]
#[must_use = "the files are still there"]
pub struct Pruned {
    /// Names and images.
    pub images: Vec<Removal>,
    /// Objects of the build cache, by id.
    pub cache: Vec<String>,
    collection: Collection,
    log: EventLog,
    /// What the disk space is told of as: `image` or `builder`.
    kind: &'static str,
}

impl Pruned {
    /// Removes the files. Gives the bytes of disk that this freed.
    ///
    /// # Errors
    /// When a file cannot be removed; the next collection tries again.
    pub fn remove_files(self) -> Result<u64, EngineError> {
        let bytes = self.collection.remove_files()?.bytes;
        self.log.add_prune(self.kind, bytes);
        Ok(bytes)
    }
}

impl Engine {
    /// Removes images that nobody needs, and parts of the build cache. An image that a container uses stays,
    /// and so does what the build cache may still use of those that go. Nothing can find what was removed
    /// from then on; its files are still there, for the caller to remove when the outcome was told.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn prune(&self, images: Option<&ImagePrune>, cache: Policy) -> Result<Pruned, EngineError> {
        let mut removals = Vec::new();
        // Looking at them removes those whose command was killed before it could.
        self.containers()?;
        if let Some(which) = images {
            for image in self.usage_details()?.images {
                if Self::is_prunable(&image, which) {
                    removals.extend(self.drop_image(&image)?);
                }
            }
            removals.extend(self.drop_artifacts(which)?);
        }
        if cache == Policy::DROP_CACHE {
            self.forget_downloads()?;
        }
        let collection = self.store.collect(&[cache])?;
        Ok(Pruned {
            images: removals,
            cache: collection.freed().objects.clone(),
            collection,
            log: self.event_log(),
            kind: if images.is_some() { "image" } else { "builder" },
        })
    }

    fn is_prunable(image: &ImageUsage, which: &ImagePrune) -> bool {
        let summary = &image.summary;
        if image.in_use || !(which.all || summary.names.is_empty()) {
            return false;
        }
        // An image that does not say when it was made is older than any.
        if which.until.is_some_and(|until| summary.created.is_some_and(|created| created >= until)) {
            return false;
        }
        which.labels.iter().all(|label| label.fits(&summary.labels))
    }

    /// The same for what is no image, such as a signature that was pushed here. It has no labels, and is as old as its name.
    fn drop_artifacts(&self, which: &ImagePrune) -> Result<Vec<Removal>, EngineError> {
        let mut removals = Vec::new();
        for record in self.store.images()? {
            let fits = (which.all || record.dangling)
                && which.labels.is_empty()
                && which.until.is_none_or(|until| record.created_at < until);
            if fits && self.sound_image(&record.descriptor)?.is_none() {
                self.store.untag(&record.name)?;
                removals.push(Removal::Untagged(familiar(&record.name)));
            }
        }
        Ok(removals)
    }

    fn drop_image(&self, image: &ImageUsage) -> Result<Vec<Removal>, EngineError> {
        let mut removals = Vec::new();
        for name in &image.summary.names {
            if self.store.untag(name)? {
                removals.push(Removal::Untagged(familiar(name)));
            }
        }
        for record in self.store.images()?.iter().filter(|record| record.dangling) {
            if record.descriptor.digest == image.summary.digest || record.config == Some(image.summary.id) {
                self.store.untag(&record.name)?;
            }
        }
        removals.push(Removal::Deleted(image.summary.id));
        self.tell_of_removals(&image.summary.id, &removals);
        Ok(removals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_wanted_or_not() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let fits = |name: &str, value: Option<&str>, present| {
            LabelFilter { name: name.to_owned(), value: value.map(str::to_owned), present }.fits(&labels)
        };
        assert!(fits("a", None, true) && fits("a", Some("1"), true) && fits("b", None, false));
        assert!(!fits("a", Some("2"), true) && !fits("a", None, false) && !fits("b", None, true));
        assert!(fits("a", Some("2"), false));
    }
}
