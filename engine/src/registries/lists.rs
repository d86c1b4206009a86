//! Indexes made by hand (`lap manifest create`): of images that registries have, each for its platform.
//!
//! A list is an index in the store under its name, so `lap push` can push it as well; of the images, only the documents are
//! fetched. That it is not a pulled one is told by an annotation with its name.

use std::collections::BTreeMap;

use base::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use base::{CancelToken, Platform, Reference};
use registry::FoundRepository;
use snapshotter::Lease;

use super::ListError;
use crate::Engine;
use crate::assemble::document;
use crate::error::EngineError;
use crate::progress::Progress;
use crate::push::{Packing, PushedImage};
use crate::report::{ImageDetails, ImageSummary};

/// The annotation that names a list. Source: OCI image-spec, "Pre-Defined Annotation Keys".
const NAME: &str = "org.opencontainers.image.ref.name";

/// Larger configs are not read.
const LARGEST_CONFIG: u64 = 8 << 20;

/// What `lap manifest annotate` changes of an image's platform; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct PlatformChange {
    /// The operating system.
    pub os: Option<String>,
    /// The architecture.
    pub architecture: Option<String>,
    /// The variant of the architecture.
    pub variant: Option<String>,
    /// The version of the operating system.
    pub os_version: Option<String>,
    /// What the operating system has to have.
    pub os_features: Vec<String>,
}

/// A manifest or index as a registry, or a list as the store has it.
#[derive(Debug, Clone)]
pub struct ManifestText {
    /// What it is.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a registry has under a name.
#[derive(Debug, Clone)]
pub struct RemoteManifest {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The platforms that it is for.
    pub platforms: Vec<Platform>,
}

impl Engine {
    /// The repositories of `registry` that a word finds.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub fn search(
        &self,
        registry: &str,
        term: &str,
        limit: usize,
        cancel: &CancelToken,
    ) -> Result<Vec<FoundRepository>, EngineError> {
        let network = self.network()?;
        network.wait(cancel, network.client.search(registry, term, limit))
    }

    /// The tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no such repository.
    pub fn remote_tags(&self, repository: &str, cancel: &CancelToken) -> Result<Vec<String>, EngineError> {
        let reference: Reference = repository.parse()?;
        let network = self.network()?;
        network.wait(cancel, network.client.tags(&reference))
    }

    /// What refers to an image: signatures, attestations and the like, of one kind of artifact or of all.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no such image.
    pub fn remote_referrers(
        &self,
        name: &str,
        kind: Option<&str>,
        cancel: &CancelToken,
    ) -> Result<Vec<Descriptor>, EngineError> {
        let mut reference: Reference = name.parse()?;
        let network = self.network()?;
        if reference.digest.is_none() {
            reference = reference.with_digest(network.wait(cancel, network.client.head(&reference))?.digest);
        }
        network.wait(cancel, network.client.referrers(&reference, kind))
    }

    /// Takes a tag away from a registry, or with a digest a manifest and all its tags.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no such thing.
    pub fn delete_remote(&self, name: &str, cancel: &CancelToken) -> Result<(), EngineError> {
        let reference: Reference = name.parse()?;
        let network = self.network()?;
        network.wait(cancel, network.client.delete_manifest(&reference))
    }

    /// An image as its registry has it, without fetching its layers.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no such image or platform.
    pub fn inspect_remote(
        &self,
        name: &str,
        platform: Option<&Platform>,
        cancel: &CancelToken,
    ) -> Result<ImageDetails, EngineError> {
        let reference: Reference = name.parse()?;
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let network = self.network()?;
        let documents = network.wait(cancel, network.client.pull_image(&reference, &platform))?;
        let digest = documents.root().digest;
        let (manifest, config) = (documents.manifest.value, documents.config.value);
        let summary = ImageSummary {
            id: manifest.config.digest,
            names: vec![reference.to_string()],
            digest,
            created: config.created,
            size: manifest.layers.iter().map(|layer| layer.size).sum(),
            labels: config.config.labels.clone(),
            platform: config.platform(),
        };
        Ok(ImageDetails { summary, config })
    }

    /// The manifest or index that a name stands for: a list that was made here, else what the registry has.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no such thing.
    pub fn manifest_text(&self, name: &str, cancel: &CancelToken) -> Result<ManifestText, EngineError> {
        let reference: Reference = name.parse()?;
        if let Some((descriptor, _)) = self.list(&reference)?
            && let Some(bytes) = self.store.read_blob(&descriptor.digest, snapshotter::MAX_DOCUMENT)?
        {
            return Ok(ManifestText { descriptor, bytes });
        }
        let network = self.network()?;
        let resolved = network.wait(cancel, network.client.resolve(&reference))?;
        Ok(ManifestText { descriptor: resolved.descriptor(), bytes: resolved.bytes })
    }

    /// What a registry has under a name, and for which platforms.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no such thing.
    pub fn remote_manifest(&self, name: &str, cancel: &CancelToken) -> Result<RemoteManifest, EngineError> {
        let reference: Reference = name.parse()?;
        let lease = self.store.lease("manifest")?;
        let network = self.network()?;
        let descriptor = network.wait(cancel, network.client.resolve(&reference))?.descriptor();
        let entries = self.entries(&lease, &reference, cancel)?;
        Ok(RemoteManifest {
            descriptor,
            platforms: entries.into_iter().filter_map(|entry| entry.platform).collect(),
        })
    }

    /// Makes a list of images that their registries have. With `amend`, adds to the one that there is.
    ///
    /// # Errors
    /// When an image cannot be read, or the list exists and is not to be amended.
    pub fn create_list(
        &self,
        name: &str,
        images: &[String],
        amend: bool,
        cancel: &CancelToken,
    ) -> Result<Reference, EngineError> {
        let reference: Reference = name.parse()?;
        let lease = self.store.lease("manifest")?;
        let mut index = match self.list(&reference)? {
            Some(_) if !amend => return Err(ListError::Exists(reference.familiar()).into()),
            Some((_, index)) => index,
            None => Index {
                schema_version: 2,
                media_type: media_type::OCI_INDEX.to_owned(),
                manifests: Vec::new(),
                annotations: BTreeMap::from([(NAME.to_owned(), reference.to_string())]),
            },
        };
        for image in images {
            for entry in self.entries(&lease, &image.parse()?, cancel)? {
                index.manifests.retain(|known| known.digest != entry.digest);
                index.manifests.push(entry);
            }
        }
        self.keep_list(&lease, &reference, &index)?;
        Ok(reference)
    }

    /// Changes what a list says of an image's platform.
    ///
    /// # Errors
    /// When there is no such list, or the image is not in it.
    pub fn annotate_list(
        &self,
        name: &str,
        image: &str,
        change: &PlatformChange,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let reference: Reference = name.parse()?;
        let lease = self.store.lease("manifest")?;
        let (_, mut index) = self.list(&reference)?.ok_or_else(|| no_list(&reference))?;
        let wanted = self.entries(&lease, &image.parse()?, cancel)?;
        let entry = index
            .manifests
            .iter_mut()
            .find(|entry| wanted.iter().any(|wanted| wanted.digest == entry.digest));
        let missing = || ListError::Without { list: reference.familiar(), image: image.to_owned() };
        let platform = entry.ok_or_else(missing)?.platform.get_or_insert_with(Platform::host);
        change.apply(platform);
        self.keep_list(&lease, &reference, &index)
    }

    /// Pushes a list, with the images that its repository does not have, which are mounted from theirs.
    ///
    /// # Errors
    /// When there is no such list, the registry refuses, or a layer is in neither.
    pub fn push_list(
        &self,
        name: &str,
        purge: bool,
        progress: std::sync::Arc<dyn base::event::EventSink>,
        cancel: &CancelToken,
    ) -> Result<PushedImage, EngineError> {
        let reference: Reference = name.parse()?;
        let lease = self.store.lease("manifest")?;
        let (descriptor, _) = self.list(&reference)?.ok_or_else(|| no_list(&reference))?;
        let progress = Progress::new(progress, self.clock.clone());
        let shipment = self.shipment(&lease, &descriptor, Packing::AsItIs, cancel)?;
        let pushed = self.push_shipment(&lease, &reference, &shipment, None, &progress, cancel)?;
        if purge {
            self.remove_list(name)?;
        }
        Ok(pushed)
    }

    /// Removes a list from the store.
    ///
    /// # Errors
    /// When there is no such list.
    pub fn remove_list(&self, name: &str) -> Result<(), EngineError> {
        let reference: Reference = name.parse()?;
        self.list(&reference)?.ok_or_else(|| no_list(&reference))?;
        self.store.untag(&reference.to_string())?;
        Ok(())
    }

    /// The list with this name.
    fn list(&self, name: &Reference) -> Result<Option<(Descriptor, Index)>, EngineError> {
        let Some(record) = self.store.resolve(&name.to_string())? else { return Ok(None) };
        if !media_type::is_index(&record.descriptor.media_type) {
            return Ok(None);
        }
        let index: Option<Index> = self.document("index", &record.descriptor.digest)?;
        let is_list = |index: &Index| index.annotations.get(NAME).is_some_and(|of| *of == name.to_string());
        Ok(index.filter(is_list).map(|index| (record.descriptor, index)))
    }

    fn keep_list(&self, lease: &Lease, name: &Reference, index: &Index) -> Result<(), EngineError> {
        let before = self.store.resolve(&name.to_string())?;
        let descriptor = document(self, lease, media_type::OCI_INDEX, index)?;
        self.store.tag(&name.to_string(), &descriptor)?;
        if let Some(before) = before.filter(|before| before.descriptor.digest != descriptor.digest) {
            // It is the same list, changed.
            self.store.untag_dangling(&before.descriptor)?;
        }
        Ok(self.store.sync()?)
    }

    /// What a list says of an image that a registry has; of an index, of each image in it. Their documents are kept.
    fn entries(
        &self,
        lease: &Lease,
        name: &Reference,
        cancel: &CancelToken,
    ) -> Result<Vec<Descriptor>, EngineError> {
        let network = self.network()?;
        let client = &network.client;
        let resolved = network.wait(cancel, client.resolve(name))?;
        let root = resolved.descriptor();
        self.keep(lease, &root, &mut resolved.bytes.as_slice())?;
        if media_type::is_index(&root.media_type) {
            let index: Index = self.document("index", &root.digest)?.unwrap_or_else(|| Index {
                schema_version: 2,
                media_type: root.media_type.clone(),
                manifests: Vec::new(),
                annotations: BTreeMap::new(),
            });
            for entry in &index.manifests {
                let one = network.wait(cancel, client.resolve(&name.with_digest(entry.digest)))?;
                self.keep(lease, &one.descriptor(), &mut one.bytes.as_slice())?;
                self.keep_config(lease, name, entry, cancel)?;
            }
            self.store.tag(&name.to_string(), &root)?;
            return Ok(index.manifests);
        }
        let platform = self.keep_config(lease, name, &root, cancel)?;
        self.store.tag(&name.to_string(), &root)?;
        Ok(vec![Descriptor { platform, ..root }])
    }

    /// Fetches the config of an image, and says which platform it is for.
    fn keep_config(
        &self,
        lease: &Lease,
        name: &Reference,
        target: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Option<Platform>, EngineError> {
        let Some(manifest) = self.document::<Manifest>("manifest", &target.digest)? else { return Ok(None) };
        let is_image =
            matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG);
        if !is_image || manifest.config.size > LARGEST_CONFIG {
            return Ok(None);
        }
        let network = self.network()?;
        let config = async { network.client.blob(name, &manifest.config, None).await?.read_to_end().await };
        let bytes = network.wait(cancel, config)?;
        self.keep(lease, &manifest.config, &mut bytes.as_slice())?;
        let config: Option<ImageConfig> = self.document("image config", &manifest.config.digest)?;
        Ok(config.map(|config| config.platform()))
    }
}

impl PlatformChange {
    fn apply(&self, platform: &mut Platform) {
        if let Some(os) = &self.os {
            platform.os.clone_from(os);
        }
        if let Some(architecture) = &self.architecture {
            platform.architecture.clone_from(architecture);
        }
        if let Some(variant) = &self.variant {
            platform.variant.clone_from(variant);
        }
        if let Some(version) = &self.os_version {
            platform.os_version.clone_from(version);
        }
        if !self.os_features.is_empty() {
            platform.os_features.clone_from(&self.os_features);
        }
    }
}

fn no_list(name: &Reference) -> ListError {
    ListError::Unknown(name.familiar())
}
