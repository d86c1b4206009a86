//! Cache mounts as things of their own: listed, removed, carried to another machine and back.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use base::CancelToken;
pub use snapshotter::CacheMountInfo;
use snapshotter::apply::ApplyOptions;
use snapshotter::diff::{DiffOptions, LayerSource, write_layer};
use snapshotter::{CacheMount, Layering};

use crate::Engine;
use crate::error::EngineError;
use crate::export::archive;
use crate::request::Destination;

/// What is made a cache mount.
#[derive(Debug, Clone)]
pub struct CacheMountImport {
    /// What its users call it.
    pub id: String,
    /// The tar.
    pub archive: PathBuf,
    /// The owner of the directory itself.
    pub uid: u32,
    /// The group of the directory itself.
    pub gid: u32,
    /// The permission bits of the directory itself.
    pub mode: u32,
}

impl Engine {
    /// All cache mounts, the least recently used first.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMountInfo>, EngineError> {
        Ok(self.store.cache_mounts()?)
    }

    /// Those that `name` means: all with this id, or the one whose own name begins so.
    ///
    /// # Errors
    /// [`EngineError::NoSuchCacheMount`] and [`EngineError::AmbiguousCacheMount`].
    pub fn find_cache_mounts(&self, name: &str) -> Result<Vec<CacheMountInfo>, EngineError> {
        let all = self.store.cache_mounts()?;
        let by_id: Vec<CacheMountInfo> = all.iter().filter(|mount| mount.id == name).cloned().collect();
        if !by_id.is_empty() {
            return Ok(by_id);
        }
        let begins = |mount: &CacheMountInfo| !name.is_empty() && mount.directory.starts_with(name);
        let by_name: Vec<CacheMountInfo> = all.into_iter().filter(begins).collect();
        match by_name.len() {
            0 => Err(EngineError::NoSuchCacheMount(name.to_owned())),
            1 => Ok(by_name),
            _ => Err(EngineError::AmbiguousCacheMount(name.to_owned())),
        }
    }

    /// Removes a cache mount.
    ///
    /// # Errors
    /// [`EngineError::CacheMountInUse`].
    pub fn remove_cache_mount(&self, mount: &CacheMountInfo) -> Result<(), EngineError> {
        match self.store.remove_cache_mount(&mount.directory)? {
            true => Ok(()),
            false => Err(EngineError::CacheMountInUse(mount.id.clone())),
        }
    }

    /// Writes what is in a cache mount as a tar.
    ///
    /// # Errors
    /// [`EngineError::CacheMountInUse`], when a step has it alone.
    pub fn export_cache_mount(
        &self,
        mount: &CacheMountInfo,
        destination: &Destination,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let held = self.held(mount)?;
        let source = LayerSource::TwoTrees { lower: None, upper: held.dir() };
        archive::to(destination, |out| {
            write_layer(source, DiffOptions { clamp_mtime: None }, out, cancel)?;
            Ok(())
        })
    }

    /// Makes a cache mount of what a tar holds, plain or compressed; steps that want its id find it from then on.
    ///
    /// # Errors
    /// [`EngineError::CacheMountExists`]: it would be one of several, and nobody could say which a step gets.
    pub fn import_cache_mount(
        &self,
        request: &CacheMountImport,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let CacheMountImport { id, archive, uid, gid, mode } = request;
        if self.store.cache_mounts()?.iter().any(|mount| mount.id == *id) {
            return Err(EngineError::CacheMountExists(id.clone()));
        }
        let lease = self.store.lease("import a cache mount")?;
        let archive = sys::fs::open(archive)?;
        self.store.add_cache_mount(&lease, id, |directory| {
            let options: ApplyOptions = self.store.apply_options(Layering::Plain);
            snapshotter::archive::extract_archive(archive, directory, &options, cancel)?;
            let root = sys::fs::open(directory)?;
            sys::rootdir::set_owner_of(root.as_fd(), directory, *uid, *gid)?;
            Ok(sys::rootdir::set_mode_of(root.as_fd(), directory, *mode)?)
        })
    }

    fn held(&self, mount: &CacheMountInfo) -> Result<CacheMount, EngineError> {
        let held = self.store.read_cache_mount(&mount.directory)?;
        held.ok_or_else(|| EngineError::CacheMountInUse(mount.id.clone()))
    }
}
